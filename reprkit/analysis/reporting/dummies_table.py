"""The paper's Table 4(a): the multi-task gain of DGR by the number of dummies and of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from reprkit.analysis.reporting.gains import score_gains
from reprkit.analysis.reporting.method_table import DELTA, Cell, cell_of, cell_text, note, write_table
from reprkit.analysis.reporting.metric_names import in_percent, metric_name
from reprkit.analysis.reporting.results import Results, load_results, read_yaml
from reprkit.analysis.reporting.seeds import over_seeds
from reprkit.analysis.reporting.typeset import DASH, latex_table, markdown_table
from reprkit.errors import InputError

COLUMNS = [
    "data", "tasks", "together", "num_dummies", "metric", "value", "low", "high", "n_seeds", "interval",
]  # fmt: skip
PAIRS = (("single", "single+dgr"), ("vanilla", "vanilla+dgr"))
"""Plain encoders and those with DGR: one encoder a task, and one for all tasks."""


@dataclass(frozen=True)
class Row:
    """A line of the table: one data set, learnt one task at a time or together.

    Attributes:
        data: name of the data set.
        tasks: what is learnt.
        together: whether one encoder learns all tasks.
        metric: `delta`, or the headline metric of the only task.
        plain: without DGR.
        dgr: number of dummies -> with DGR.
    """

    data: str
    tasks: tuple[str, ...]
    together: bool
    metric: str
    plain: Cell | None
    dgr: dict[int, Cell]


def dummies_rows(folders: Sequence[str | Path]) -> list[Row]:
    """The rows that some folders of `reprkit run` allow, by data set and tasks.

    Each folder has DGR with one number of dummies (`dgr.num_dummies`). Encoders without DGR do not depend on it: of
    those trained in several folders the first folder's are taken. A data set of one task has a second row, with its
    score.

    Raises:
        InputError: no results or recipe in a folder, two folders with the same number of dummies, or nothing with DGR.
    """
    groups: dict[tuple[Any, ...], list[Results]] = {}
    for folder in folders:
        results = load_results(folder)
        if "data" not in results.recipe or not len(results.scores):
            raise InputError(
                f"{folder}: holds no recipe.yaml or no test scores; give a folder that `reprkit run` finished"
            )
        model, names = results.recipe.get("model") or {}, set(results.scores["task"])
        tasks = tuple(name for name in results.tasks if name in names)
        data = str((results.recipe["data"] or {}).get("name", ""))
        groups.setdefault((data, tasks, model.get("encoder"), model.get("structure")), []).append(results)
    rows = [row for (data, tasks, *_), own in sorted(groups.items(), key=str) for row in _rows(data, tasks, own)]
    if not rows:
        raise InputError(f"{', '.join(map(str, folders))}: hold neither single+dgr nor vanilla+dgr beside single")
    return rows


def _rows(data: str, tasks: tuple[str, ...], folders: Sequence[Results]) -> list[Row]:
    plain = pd.concat([results.scores for results in folders], ignore_index=True)
    plain = plain[plain["encoder"].isin(["single", "vanilla"])].drop_duplicates(["encoder", "seed", "task"])
    made = []
    for base, method in PAIRS:
        by_count: dict[int, tuple[Path, pd.DataFrame]] = {}
        for results in folders:
            own = results.scores[results.scores["encoder"] == method]
            if not len(own):
                continue
            count = _num_dummies(results, method)
            if count in by_count:
                raise InputError(f"{results.folder}: has {method} with {count} dummies, as {by_count[count][0]} has")
            by_count[count] = results.folder, own
        if not by_count:
            continue
        gains = {count: _gain(pd.concat([plain, own]), method) for count, (_, own) in sorted(by_count.items())}
        known = {count: cell for count, cell in gains.items() if cell is not None}
        if known:
            without = Cell(0.0) if base == "single" else _gain(plain, base)
            made.append(Row(data, tasks, base != "single", "delta", without, known))
        if len(tasks) == 1:
            metric = str(plain["metric"].iloc[0])
            scores = {count: _score(own, method) for count, (_, own) in sorted(by_count.items())}
            found = {count: cell for count, cell in scores.items() if cell is not None}
            made.append(Row(data, tasks, base != "single", metric, _score(plain, base), found))
    return made


def _num_dummies(results: Results, method: str) -> int:
    """As the recipe of the trained encoder says: a grid may have chosen it."""
    run = next(run for run in results.runs if run.encoder == method)
    recipe = read_yaml(run.path / "recipe.yaml") or results.recipe
    return int((recipe.get("dgr") or {}).get("num_dummies", 3))


def _gain(scores: pd.DataFrame, method: str) -> Cell | None:
    gains = score_gains(scores[scores["encoder"].isin(["single", method])])
    return _only(over_seeds(gains, by=["encoder"], value="delta"))


def _score(scores: pd.DataFrame, method: str) -> Cell | None:
    return _only(over_seeds(scores[scores["encoder"] == method], by=["encoder"]))


def _only(summary: pd.DataFrame) -> Cell | None:
    return cell_of(summary.to_dict("records")[0]) if len(summary) else None


def write_dummies_table(folders: Sequence[str | Path], out: str | Path, name: str) -> list[Path]:
    """Write the gain by number of dummies as `<name>.csv` (full numbers), `.md` and `.tex`.

    Args:
        folders: folders of `reprkit run`, one a number of dummies and set of tasks.
        out: folder to write to.
        name: stem of the files.

    Returns:
        The paths written.

    Raises:
        InputError: see `dummies_rows`.
    """
    rows = dummies_rows(folders)
    counts = sorted({count for row in rows for count in row.dgr})
    dummies = [f"+ DGR, {count} dumm{'y' if count == 1 else 'ies'}" for count in counts]
    heads = ["Data", "Tasks", "Learnt", "Metric", "Without DGR", *dummies]
    cells, records = [], []
    for row in rows:
        metric = "" if row.metric == "delta" else row.metric
        title = f"{metric_name(metric)}{' (%)' if in_percent(metric) else ''}" if metric else f"{DELTA} (%)"
        known = {0: row.plain, **row.dgr}
        shown = [cell_text(cell, metric) if (cell := known.get(count)) else DASH for count in (0, *counts)]
        cells.append([row.data, ", ".join(row.tasks), "together" if row.together else "alone", title, *shown])
        for count, cell in known.items():
            if cell is not None:
                key = (row.data, " ".join(row.tasks), row.together, count, row.metric)
                records.append((*key, cell.value, cell.low, cell.high, cell.n_seeds, cell.interval))
    own = {str(i): {str(count): cell for count, cell in row.dgr.items()} for i, row in enumerate(rows)}
    text = f"{note(own)} Δ: mean over tasks of the relative gain over Single (equation 6). Alone: one encoder a task."
    texts = f"{markdown_table(heads, cells, words=4)}\n{text}\n", latex_table(heads, cells, text, words=4)
    return write_table(Path(out) / name, pd.DataFrame(records, columns=COLUMNS), *texts)
