"""Accuracy of simple predictors on frozen embeddings: the paper's Figure 3(a), with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.figures import marks
from reprkit.analysis.reporting.headlines import FLOORS, HEAD, PROBE_NAMES, headline, task_order
from reprkit.analysis.reporting.metric_names import in_sentence, metric_name
from reprkit.analysis.reporting.seeds import over_seeds
from reprkit.analysis.reporting.typeset import plain
from reprkit.errors import InputError
from reprkit.tasks import Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def probe_figure(probes: pd.DataFrame, *, metric: str | None = None, tasks: Mapping[str, Task] | None = None) -> Figure:
    """A panel a task: groups are probes, marks are encoders with 95% whiskers, the dashed line ignores the embedding.

    Several seeds: marks are means over seeds, whiskers Student's interval over seeds, dots the seeds. One seed:
    whiskers are that row's bootstrap interval over test samples. More than 8 encoders have a row each instead, in a
    panel for every task (down) and probe (across).

    Args:
        probes: rows of probes.csv.
        metric: metric to show; None takes accuracy, or r2 for regression.
        tasks: task records, for the order of panels.

    Raises:
        InputError: there is no row of that metric.
    """
    shown = headline(probes) if metric is None else probes[probes["metric"] == metric]
    ladder = shown[~shown["probe"].isin((*FLOORS, HEAD))]
    if not len(ladder):
        raise InputError(f"probe figure: no row has metric '{metric or 'accuracy'}'; probe the embeddings first")
    names = task_order(ladder["task"], list(tasks or ()))
    found = [str(name) for name in dict.fromkeys(ladder["probe"])]
    groups = [p for p in PROBE_NAMES if p in found] + [p for p in found if p not in PROBE_NAMES]
    encoders = style.encoder_order(ladder["encoder"])
    floors = {
        task: float(shown.loc[(shown["task"] == task) & shown["probe"].isin(FLOORS), "value"].mean()) for task in names
    }
    draw = _beside if len(encoders) <= marks.MOST_BESIDE else _in_rows
    with style.context():
        return draw(ladder, names, groups, encoders, floors)


def _beside(
    ladder: pd.DataFrame, names: list[str], groups: list[str], encoders: list[str], floors: Mapping[str, float]
) -> Figure:
    summary = over_seeds(ladder, by=["encoder", "task", "probe"])
    width = max(0.085 * len(encoders) * len(groups) + 0.7, style.TEXT_WIDTH / 3)  # marks must not overlap
    columns = max(1, min(len(names), 3, int((style.TEXT_WIDTH + 1) / width)))
    rows = -(-len(names) // columns)
    figure = style.new_figure(max(max(width, style.TEXT_WIDTH / 3) * columns + 0.6, 4.2), 2.5 * rows + 0.9)
    panels = marks.grid(figure, len(names), columns=columns)
    dashed = False
    for axes, task in zip(panels, names, strict=True):
        own, raw = summary[summary["task"] == task], ladder[ladder["task"] == task]
        marks.draw_groups(axes, own, raw, encoders=encoders, group="probe", groups=groups)
        axes.set_xticklabels(
            [PROBE_NAMES.get(name, name) for name in groups], rotation=30, ha="right", rotation_mode="anchor"
        )
        axes.set_title(task)
        kind = str(raw["metric"].iloc[0])
        axes.set_ylabel(metric_name(kind))
        floor = floors[task]
        in_view = marks.fit_y(axes, own[["value", "low", "high"]], raw["value"], bounds=_bounds(kind), keep=floor)
        dashed |= in_view
        if in_view:
            axes.axhline(floor, color=style.GREY, linestyle=(0, (4, 3)), linewidth=0.9, zorder=1, label="_floor")
        elif np.isfinite(floor):
            axes.text(
                0.03, 0.02, f"ignoring the embedding: {plain(floor, 2)} ↓", transform=axes.transAxes, fontsize=6.5,
                color=style.GREY, va="bottom",
            )  # fmt: skip
    marks.encoder_legend(figure, panels)
    floor_note = " Dashed: a predictor that ignores the embedding." if dashed else ""
    marks.note(figure, marks.interval_note(summary) + floor_note)
    return figure


def _in_rows(
    ladder: pd.DataFrame, names: list[str], groups: list[str], encoders: list[str], floors: Mapping[str, float]
) -> Figure:
    summary = over_seeds(ladder, by=["encoder", "task", "probe"])
    figure = style.new_figure(1.45 * len(groups) + 1.5, (marks.ROW * len(encoders) + 0.55) * len(names) + 0.5)
    layout = figure.subplots(len(names), len(groups), squeeze=False, sharey=True)
    for row, task in zip(layout, names, strict=True):
        kind = str(ladder.loc[ladder["task"] == task, "metric"].iloc[0])
        floor = f" ({plain(floors[task], 2)} without the embedding)" if np.isfinite(floors[task]) else ""
        row[0].set_ylabel(f"{task}: {in_sentence(kind)}{floor}", fontweight="bold")
        for axes, probe in zip(row, groups, strict=True):
            own, raw = (f[(f["task"] == task) & (f["probe"] == probe)] for f in (summary, ladder))
            marks.draw_rows(axes, own, raw, encoders=encoders)
            marks.fit_rows(axes, own, raw, encoders=encoders, bounds=_bounds(kind))
            axes.set_title(PROBE_NAMES.get(probe, probe))
    marks.note(figure, marks.rows_note(encoders, marks.interval_note(summary)))
    return figure


def _bounds(metric: str) -> tuple[float, float]:
    if metric in ("r2", "quadratic_kappa"):
        return -np.inf, 1.0
    shares = "accuracy" in metric or metric in ("macro_f1", "within_one", "ece")
    return (0.0, 1.0) if shares else (0.0, np.inf)
