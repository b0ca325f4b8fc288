"""Tables of text as Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Collection, Sequence

MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1) -> str:
    """A Markdown table: the first `words` columns left, the others right."""
    lines = [list(heads), [*["---"] * words, *["---:"] * (len(heads) - words)], *rows]
    return "".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |\n" for line in lines)


def latex_table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    note: str = "",
    *,
    spaced: Collection[int] = (),
    words: int = 1,
) -> str:
    """A LaTeX tabular (booktabs): the first `words` columns left, the others right.

    Args:
        heads, rows: cells as plain text.
        note: written below as comments.
        spaced: rows that a little space is set before.
        words: columns of words.
    """
    lines = [
        r"\begin{tabular}{" + "l" * words + "r" * (len(heads) - words) + "}",
        r"\toprule",
        _line(heads),
        r"\midrule",
    ]
    for number, row in enumerate(rows):
        lines += [r"\addlinespace"] * (number in spaced) + [_line(row)]
    comments = [f"% {line}" for line in note.splitlines()]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *comments, ""])


def tex_escape(text: str) -> str:
    """Text in which LaTeX's special characters stand for themselves, and the signs of our tables are known to it."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {c: "\\" + c for c in "&%$#_{}"}
    special |= {"±": r"$\pm$", MINUS: "$-$", DASH: "--", "Δ": r"$\Delta$", "λ": r"$\lambda$", "²": "$^2$"}
    special |= {"°": r"$^\circ$", "↑": r"$\uparrow$", "↓": r"$\downarrow$"}
    return "".join(special.get(character, character) for character in text)


def signed(value: float, digits: int) -> str:
    """A number with its sign, and none before zero."""
    text = f"{value:+.{digits}f}".replace("-", MINUS)
    return text if float(f"{value:.{digits}f}") else text[1:]


def plain(value: float, digits: int) -> str:
    """A number with a minus sign where it is negative, and none before zero."""
    text = f"{value:.{digits}f}".replace("-", MINUS)
    return text if float(f"{value:.{digits}f}") else text.lstrip(MINUS)


def _line(cells: Sequence[str]) -> str:
    return " & ".join(map(tex_escape, cells)) + r" \\"
