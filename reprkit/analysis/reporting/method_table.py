"""The paper's Table 1 from a folder of results: a score a task, with intervals, and the multi-task gain."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.reporting.gains import addition_gains, gain_sentence, seed_gains
from reprkit.analysis.reporting.joined import load_folders
from reprkit.analysis.reporting.metric_names import heading, printed_with
from reprkit.analysis.reporting.results import Results
from reprkit.analysis.reporting.seeds import OVER_SEEDS, over_seeds
from reprkit.analysis.reporting.typeset import DASH, MINUS, latex_table, markdown_table, signed
from reprkit.analysis.stats import wilson
from reprkit.errors import InputError
from reprkit.files import write_text

DELTA = "Δ"


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
        rows[str(record["encoder"])][str(record["task"])] = cell_of(record)
    gains = seed_gains(results, baseline=baseline).rename(columns={"delta": "value"})
    for record in over_seeds(gains.assign(task=DELTA), by=["encoder", "task"]).to_dict("records"):
        rows[str(record["encoder"])][DELTA] = cell_of(record)
    return rows


def table1_columns(results: Results, rows: dict[str, dict[str, Cell]]) -> list[str]:
    """Tasks in their own order, then Δ if any encoder has one."""
    found = {column for row in rows.values() for column in row}
    return [name for name in [*results.tasks, DELTA] if name in found]


def write_table1(
    folders: str | Path | Sequence[str | Path], out: str | Path, *, baseline: str = "single"
) -> list[Path]:
    """Write Table 1 of one or more folders as `table1.csv` (full numbers), `table1.md` and `table1.tex`.

    Where a method was trained with and without DGR, the paired change of Δ is written beside it as `dgr_gain`, in the
    same three forms.

    Returns:
        The paths written.

    Raises:
        InputError: see `load_folders`; or no encoder is called `baseline`.
    """
    results = load_folders(folders)
    if baseline != "single" and baseline not in results.encoders:
        raise InputError(
            f"--baseline: {results.folder} has no encoder '{baseline}'; choose from {', '.join(results.encoders)}"
        )
    return save_table1(results, out, baseline=baseline)


def save_table1(results: Results, out: str | Path, *, baseline: str = "single") -> list[Path]:
    """What `write_table1` writes, of results that are read."""
    rows = table1(results, baseline=baseline)
    columns = table1_columns(results, rows)
    out = Path(out)
    long = [
        {"encoder": name, "column": column, "value": c.value, "low": c.low, "high": c.high, "n_seeds": c.n_seeds,
         "interval": c.interval}
        for name, row in rows.items() for column, c in row.items()
    ]  # fmt: skip
    texts = markdown(rows, columns, results), latex(rows, columns, results)
    written = write_table(out / "table1", pd.DataFrame(long), *texts)
    gains = addition_gains(seed_gains(results, baseline=baseline))
    own = dgr_rows(gains)
    if len(own):
        heads, cells, text = dgr_table(gains)
        texts = f"{markdown_table(heads, cells)}\n{text}\n", latex_table(heads, cells, text)
        written += write_table(out / "dgr_gain", own, *texts)
    return written


def dgr_rows(gains: pd.DataFrame) -> pd.DataFrame:
    """The rows of `addition_gains` that compare a method + DGR with the method alone, whose gain is added: `alone`."""
    alone = gains[gains["addition"] == ""].set_index("method")["delta"]
    own = gains[(gains["addition"] == "dgr") & (gains["common_seeds"] > 0)]
    return own.assign(alone=own["method"].map(alone))


def dgr_table(gains: pd.DataFrame) -> tuple[list[str], list[list[str]], str]:
    """What DGR changes in Δ, a row a method: headings, cells as text, and a note.

    Args:
        gains: result of `addition_gains`.
    """
    heads = ["Method", "Δ alone (%)", "Δ + DGR (%)", "Change (points)", "95% interval", "Seeds", "Reading"]
    cells = []
    for row in dgr_rows(gains).to_dict("records"):
        known = np.isfinite(row["difference_low"])
        interval = f"{signed(row['difference_low'], 2)} to {signed(row['difference_high'], 2)}" if known else DASH
        numbers = [f"{value:.2f}".replace("-", MINUS) for value in (row["alone"], row["delta"])]
        change = signed(row["difference"], 2)
        seeds, says = str(row["common_seeds"]), row["reading"] or DASH
        cells.append([style.display(row["method"]), *numbers, change, interval, seeds, says])
    return heads, cells, gain_sentence(gains)


def write_table(stem: Path, frame: pd.DataFrame, markdown_text: str, latex_text: str) -> list[Path]:
    """Write one table as .csv, .md and .tex; returns the paths."""
    csv, md, tex = (stem.with_name(f"{stem.name}.{ending}") for ending in ("csv", "md", "tex"))
    style.write_csv(frame, csv)
    write_text(md, markdown_text)
    write_text(tex, latex_text)
    return [csv, md, tex]


def markdown(rows: dict[str, dict[str, Cell]], columns: list[str], results: Results) -> str:
    """Table 1 as a Markdown table with a note on its intervals."""
    return f"{markdown_table(*_text_table(rows, columns, results))}\n{note(rows)}\n"


def latex(rows: dict[str, dict[str, Cell]], columns: list[str], results: Results) -> str:
    """Table 1 as a LaTeX tabular (booktabs), with a little space between methods."""
    names = list(rows)
    bases = [style.split_label(name)[0] for name in names]
    families = [i for i in range(1, len(names)) if bases[i] != bases[i - 1]] if len(set(bases)) < len(bases) else []
    return latex_table(*_text_table(rows, columns, results), note(rows), spaced=families)


def _text_table(
    rows: dict[str, dict[str, Cell]], columns: list[str], results: Results
) -> tuple[list[str], list[list[str]]]:
    metrics = {c: _metric(c, results) for c in columns}
    cells = [
        [style.display(name), *(cell_text(row[c], metrics[c]) if c in row else DASH for c in columns)]
        for name, row in rows.items()
    ]
    units = {name: task.unit for name, task in results.tasks.items()}
    return ["Method", *(heading(c, m, units.get(c, "")) if m else f"{c} (%)" for c, m in metrics.items())], cells


def note(rows: dict[str, dict[str, Cell]], interval: str = "± is half of") -> str:
    """What the numbers after ± (or after whatever `interval` says) are."""
    cells = [cell for row in rows.values() for cell in row.values()]
    seeds = sorted({cell.n_seeds for cell in cells})
    if any(cell.interval == OVER_SEEDS for cell in cells):
        count = f"{seeds[-1]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        return f"Mean over {count} training seeds; {interval} Student's 95% interval over seeds."
    if not any(cell.interval for cell in cells):
        return "One training seed, without intervals: nothing is said about other seeds."
    return f"One training seed; {interval} Wilson's 95% interval over test samples. Nothing is said about other seeds."


def cell_of(record: Mapping[Hashable, Any]) -> Cell:
    """A row of `over_seeds` as a cell."""
    value, low, high = (float(record[name]) for name in ("value", "low", "high"))
    return Cell(value, low, high, int(record["n_seeds"]), str(record["interval"]))


def _metric(column: str, results: Results) -> str:
    """The headline metric of a task; empty for Δ."""
    metrics = results.scores.loc[results.scores["task"] == column, "metric"]
    return "" if column == DELTA else str(metrics.iloc[0])


def cell_text(cell: Cell, metric: str) -> str:
    """The value, and half its interval where there is one; an empty `metric` stands for Δ."""
    factor, digits = printed_with(metric) if metric else (1, 2)
    value = f"{cell.value * factor:.{digits}f}".replace("-", MINUS)
    return value if not np.isfinite(cell.half) else f"{value} ± {cell.half * factor:.{digits}f}"
