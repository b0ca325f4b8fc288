"""Tables of text as Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Collection, Sequence

MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: first column left, the others right."""
    lines = [list(heads), ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |\n" for line in lines)


def latex_table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], note: str = "", *, spaced: Collection[int] = ()
) -> str:
    """A LaTeX tabular (booktabs): first column left, the others right.

    Args:
        heads, rows: cells as plain text.
        note: written below as comments.
        spaced: rows that a little space is set before.
    """
    lines = [r"\begin{tabular}{l" + "r" * (len(heads) - 1) + "}", r"\toprule", _line(heads), r"\midrule"]
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


def _line(cells: Sequence[str]) -> str:
    return " & ".join(map(tex_escape, cells)) + r" \\"
