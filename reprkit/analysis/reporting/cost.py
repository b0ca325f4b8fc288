"""What each method costs: passes through encoder and heads, time and memory, from the `cost.json` of trained runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.reporting.joined import load_folders
from reprkit.analysis.reporting.method_table import write_table
from reprkit.analysis.reporting.results import Results, read_json
from reprkit.analysis.reporting.typeset import DASH, latex_table, markdown_table
from reprkit.errors import InputError

PASSES = ("encoder_forwards", "encoder_backwards", "head_forwards", "head_backwards")
COUNTS = (*PASSES, "passes_ratio")
SUMMED = (*PASSES, "seconds_per_step", "parameters_shared")
"""Quantities that single-task encoders add up: all of them are needed to serve all tasks."""

MEASURED = (*SUMMED, "peak_memory_mb")
SETTINGS = ("device", "processes", "threads", "memory")
"""What times and memory depend on beside the method."""

COST_COLUMNS = [
    "encoder", "n_seeds", "summed_over", *PASSES, "passes", "passes_ratio", "seconds_per_step", "seconds_ratio",
    "parameters_shared", "peak_memory_mb",
]  # fmt: skip


def read_costs(results: Results) -> pd.DataFrame:
    """The `cost.json` of every run.

    Returns:
        A row a run: encoder, seed, task (empty unless trained for one alone), the numbers of `MEASURED` and the words
        of `SETTINGS`; NaN where a run has no such file, or the file no such number.

    Raises:
        InputError: a file is not valid JSON.
    """
    rows = []
    for run in results.runs:
        record = read_json(run.path / "cost.json")
        row: dict[str, Any] = {"encoder": run.encoder, "seed": run.seed, "task": run.task}
        row |= {name: _number(record.get(name)) for name in MEASURED}
        rows.append(row | {name: str(record[name]) if name in record else None for name in SETTINGS})
    return pd.DataFrame(rows, columns=["encoder", "seed", "task", *MEASURED, *SETTINGS])


def cost_table(results: Results, *, baseline: str = "vanilla") -> pd.DataFrame:
    """Cost of every encoder, mean over seeds.

    Where each task has an encoder of its own (single), passes, seconds and parameters are sums over these encoders,
    and memory is the largest, since they are trained one after another.

    Returns:
        A row an encoder, in the paper's order: encoder; n_seeds (seeds that are known); summed_over (encoders added
        up); passes through encoder and heads a step; passes = (F + 2 B) / 3, where F and B are the encoder's forwards
        and backwards, and a backward costs two forwards, so that plain training has 1; passes_ratio and
        seconds_ratio, to `baseline`; seconds_per_step; parameters_shared; peak_memory_mb. NaN where it is not known.

    Raises:
        InputError: a cost.json is not valid JSON.
    """
    costs = read_costs(results)
    if not len(costs):
        return pd.DataFrame(columns=COST_COLUMNS)
    groups = costs.groupby(["encoder", "seed"], sort=False)
    whole = groups[list(MEASURED)].count().eq(groups.size(), axis=0)  # a sum of some tasks would mislead
    seeds = groups[list(SUMMED)].sum().join(groups["peak_memory_mb"].max()).where(whole)
    seeds["summed_over"] = groups.size()
    table = seeds.groupby("encoder", sort=False).mean()
    table["n_seeds"] = seeds["seconds_per_step"].groupby("encoder", sort=False).count()
    table["passes"] = (table["encoder_forwards"] + 2 * table["encoder_backwards"]) / 3
    for ratio, column in (("passes_ratio", "passes"), ("seconds_ratio", "seconds_per_step")):
        table[ratio] = table[column] / table[column].get(baseline, np.nan)
    table["summed_over"] = table["summed_over"].round().astype(int)
    return table.loc[style.encoder_order(table.index)].reset_index()[COST_COLUMNS]


def cost_cells(table: pd.DataFrame) -> tuple[list[str], list[list[tuple[str, float]]]]:
    """Headings after the method's, and for each row of `cost_table` the text and the value of every cell."""
    shown = [
        ("encoder_forwards", "Encoder forwards", 2), ("encoder_backwards", "Encoder backwards", 2),
        ("head_forwards", "Head forwards", 2), ("head_backwards", "Head backwards", 2),
        ("passes_ratio", "Passes / Vanilla", 2), ("seconds_per_step", "ms / step", 2),
        ("seconds_ratio", "Time / Vanilla", 2), ("peak_memory_mb", "Peak memory (MB)", 0),
    ]  # fmt: skip
    rows = []
    for record in table.to_dict("records"):
        row = []
        for column, _, digits in shown:
            value = float(record[column]) * (1000 if column == "seconds_per_step" else 1)
            row.append((_text(value, 0 if column in COUNTS and value % 1 == 0 else digits), value))
        rows.append(row)
    return [title for _, title, _ in shown], rows


def cost_note(table: pd.DataFrame, costs: pd.DataFrame) -> str:
    """What the columns of a cost table mean, and what its numbers do not tell.

    Args:
        table: result of `cost_table`.
        costs: result of `read_costs`.
    """
    if not table["n_seeds"].any():
        return "No run holds cost.json: these were trained before costs were recorded."
    least, most = int(table["n_seeds"][table["n_seeds"] > 0].min()), int(table["n_seeds"].max())
    seeds = f"{most} seed{'s' * (most > 1)}" if least == most else f"{least} to {most} seeds"
    text = [f"Per training step, mean over {seeds}. Passes: (F + 2 B) / 3 of the encoder's F forwards and B backwards."]
    summed = table[table["summed_over"] > 1]
    if len(summed):
        names = ", ".join(style.display(name) for name in summed["encoder"])
        text.append(
            f"{names}: sums over the encoders of all tasks ({int(summed['summed_over'].max())}), memory of the largest."
        )
    text.append("Times are of separate runs, not interleaved on an idle machine: indicative only.")
    for name, what in (("device", "devices"), ("processes", "numbers of processes"), ("threads", "numbers of threads")):
        found = sorted(costs[name].dropna().unique())
        if len(found) > 1:
            text.append(f"Runs had different {what} ({', '.join(found)}): their times must not be compared.")
    kinds = {"resident": "of the whole process (resident)", "cuda": "allocated on the GPU"}
    memory = [kinds.get(kind, kind) for kind in sorted(costs["memory"].dropna().unique())]
    if memory:
        text.append(f"Peak memory: {' or '.join(memory)}.")
    if not table["n_seeds"].all():
        text.append(f"{DASH}: not recorded.")
    return " ".join(text)


def write_cost_table(folders: str | Path | Sequence[str | Path], out: str | Path) -> list[Path]:
    """Write the cost of every method of one or more folders as `cost_table.csv` (full numbers), `.md` and `.tex`.

    Returns:
        The paths written.

    Raises:
        InputError: no runs there, or a cost.json is not valid JSON.
    """
    results = load_folders(folders)
    if not len(cost_table(results)):
        raise InputError(f"{results.folder}: holds no run; give the folder that `reprkit run` wrote")
    return save_cost_table(results, out)


def save_cost_table(results: Results, out: str | Path) -> list[Path]:
    """What `write_cost_table` writes, of results that are read."""
    table = cost_table(results)
    text = cost_note(table, read_costs(results))
    heads, rows = cost_cells(table)
    cells = [
        [style.display(name), *(text for text, _ in row)] for name, row in zip(table["encoder"], rows, strict=True)
    ]
    texts = (
        f"{markdown_table(['Method', *heads], cells)}\n{text}\n",
        latex_table(["Method", *heads], cells, text),
    )
    return write_table(Path(out) / "cost_table", table, *texts)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")


def _text(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else DASH
