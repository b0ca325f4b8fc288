"""The paper's Table 1 from a folder of results: accuracy a task, with intervals, and the multi-task gain."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.delta import delta_frame
from reprkit.analysis.results import Results, load_results
from reprkit.analysis.seeds import OVER_SEEDS, over_seeds
from reprkit.analysis.stats import wilson
from reprkit.errors import InputError
from reprkit.files import write_text

DELTA = "Δ"
MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"


@dataclass(frozen=True)
class Cell:
    """A number with its 95% interval, as tables print it."""

    value: float
    low: float = float("nan")
    high: float = float("nan")
    n_seeds: int = 1
    interval: str = ""

    @property
    def half(self) -> float:
        """Half the width of the interval; NaN if there is none."""
        return (self.high - self.low) / 2


def head_scores(results: Results) -> pd.DataFrame:
    """Test scores of the models' own heads, a row an encoder and task, in the columns of `over_seeds`.

    Several seeds: Student's interval over them. One seed: Wilson's interval of an accuracy over test samples.
    """
    scores = results.scores
    accuracy = (scores["metric"] == "accuracy") & scores["value"].notna() & scores["n"].notna()
    bounds = [
        wilson(round(float(value) * int(n)), int(n)) if known else (np.nan, np.nan)
        for value, n, known in zip(scores["value"], scores["n"], accuracy, strict=True)
    ]
    scores = scores.assign(low=[low for low, _ in bounds], high=[high for _, high in bounds])
    return over_seeds(scores, by=["encoder", "task", "metric"])


def table1(results: Results, *, baseline: str = "single") -> dict[str, dict[str, Cell]]:
    """Rows of Table 1: encoder -> task -> score, and encoder -> "Δ" -> multi-task gain against `baseline`, in percent.

    Each seed's gain is against the baseline's mean over its seeds, as in the paper; its interval is Student's over
    seeds and does not cover the chance in the baseline itself. Without the baseline, or with a task missing, there is
    no Δ.

    Raises:
        InputError: there are no own-head test scores.
    """
    if not len(results.scores):
        raise InputError(f"{results.folder}: no test_scores.json in any run; evaluate the runs first")
    summary = head_scores(results)
    rows: dict[str, dict[str, Cell]] = {name: {} for name in style.encoder_order(summary["encoder"])}
    for record in summary.to_dict("records"):
        rows[str(record["encoder"])][str(record["task"])] = _cell(record)
    scores = results.scores[results.scores["value"].notna()]
    tasks = set(scores.loc[scores["encoder"] == baseline, "task"])
    runs = [group for _, group in scores.groupby(["encoder", "seed"], sort=False)]
    others = [group for group in runs if group["encoder"].iloc[0] != baseline and set(group["task"]) == tasks]
    if others:
        gains = delta_frame(pd.concat([*others, scores[scores["encoder"] == baseline]]), baseline=baseline)
        for record in over_seeds(gains.assign(task=DELTA), by=["encoder", "task"], value="delta").to_dict("records"):
            rows[str(record["encoder"])][DELTA] = _cell(record)
    return rows


def table1_columns(results: Results, rows: dict[str, dict[str, Cell]]) -> list[str]:
    """Tasks in their own order, then Δ if any encoder has one."""
    found = {column for row in rows.values() for column in row}
    return [name for name in [*results.tasks, DELTA] if name in found]


def write_table1(folder: str | Path, out: str | Path, *, baseline: str = "single") -> list[Path]:
    """Write Table 1 of a results folder as `table1.csv` (full numbers), `table1.md` and `table1.tex`.

    Returns:
        The paths written.

    Raises:
        InputError: no results there, or no encoder called `baseline`.
    """
    results = load_results(folder)
    if baseline != "single" and baseline not in results.encoders:
        raise InputError(f"--baseline: {folder} has no encoder '{baseline}'; choose from {', '.join(results.encoders)}")
    rows = table1(results, baseline=baseline)
    columns = table1_columns(results, rows)
    out = Path(out)
    long = [
        {"encoder": name, "column": column, "value": c.value, "low": c.low, "high": c.high, "n_seeds": c.n_seeds,
         "interval": c.interval}
        for name, row in rows.items() for column, c in row.items()
    ]  # fmt: skip
    style.write_csv(pd.DataFrame(long), out / "table1.csv")
    write_text(out / "table1.md", markdown(rows, columns, results))
    write_text(out / "table1.tex", latex(rows, columns, results))
    return [out / f"table1.{ending}" for ending in ("csv", "md", "tex")]


def markdown(rows: dict[str, dict[str, Cell]], columns: list[str], results: Results) -> str:
    """Table 1 as a Markdown table with a note on its intervals."""
    lines = ["| Method | " + " | ".join(_heading(c, results) for c in columns) + " |", "|---|" + "---:|" * len(columns)]
    for name, row in rows.items():
        cells = [_text(row[c], percent=_percent(c, results)) if c in row else DASH for c in columns]
        lines.append(f"| {name.replace('|', chr(92) + '|')} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", note(rows), ""])


def latex(rows: dict[str, dict[str, Cell]], columns: list[str], results: Results) -> str:
    """Table 1 as a LaTeX tabular (booktabs)."""
    heads = [r"$\Delta$ (\%)" if c == DELTA else tex_escape(_heading(c, results)) for c in columns]
    lines = [
        r"\begin{tabular}{l" + "r" * len(columns) + "}",
        r"\toprule",
        " & ".join(["Method", *heads]) + r" \\",
        r"\midrule",
    ]
    for name, row in rows.items():
        cells = [
            _text(row[c], percent=_percent(c, results)).replace(" ± ", r" $\pm$ ").replace(MINUS, "$-$")
            if c in row
            else "--"
            for c in columns
        ]
        lines.append(" & ".join([tex_escape(name), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", "% " + note(rows), ""])


def note(rows: dict[str, dict[str, Cell]], interval: str = "± is half of") -> str:
    """What the numbers after ± (or after whatever `interval` says) are."""
    cells = [cell for row in rows.values() for cell in row.values()]
    seeds = sorted({cell.n_seeds for cell in cells})
    if any(cell.interval == OVER_SEEDS for cell in cells):
        count = f"{seeds[-1]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        return f"Mean over {count} training seeds; {interval} Student's 95% interval over seeds."
    return f"One training seed; {interval} Wilson's 95% interval over test samples. Nothing is said about other seeds."


def tex_escape(text: str) -> str:
    """Text in which LaTeX's special characters stand for themselves."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {c: "\\" + c for c in "&%$#_{}"}
    return "".join(special.get(character, character) for character in text)


def _cell(record: Mapping[Hashable, Any]) -> Cell:
    value, low, high = (float(record[name]) for name in ("value", "low", "high"))
    return Cell(value, low, high, int(record["n_seeds"]), str(record["interval"]))


def _percent(column: str, results: Results) -> bool:
    """True if a column's scores are accuracies, printed in percent."""
    metrics = set(results.scores.loc[results.scores["task"] == column, "metric"])
    return metrics == {"accuracy"}


def _heading(column: str, results: Results) -> str:
    if column == DELTA:
        return "Δ (%)"
    return f"{column} (%)" if _percent(column, results) else f"{column} (R²)"


def _text(cell: Cell, *, percent: bool) -> str:
    factor, digits = (100, 1) if percent else (1, 2)
    value = f"{cell.value * factor:.{digits}f}".replace("-", MINUS)
    return value if not np.isfinite(cell.half) else f"{value} ± {cell.half * factor:.{digits}f}"
