"""Accuracy of simple predictors on frozen embeddings: the paper's Figure 3(a), with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.figures import marks
from reprkit.analysis.seeds import over_seeds
from reprkit.errors import InputError
from reprkit.tasks import Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROBE_NAMES = {
    "ncm": "Class mean",
    "knn": "kNN",
    "linear": "Linear",
    "svm_linear": "Linear SVM",
    "svm_rbf": "RBF SVM",
    "tree": "Tree",
    "mlp": "MLP",
}
FLOORS = ("prior", "majority", "mean")
"""Names under which a probe that ignores the embedding may be listed."""

METRIC_NAMES = {"accuracy": "Accuracy", "balanced_accuracy": "Balanced accuracy", "r2": "R²", "mae": "MAE"}


def headline(probes: pd.DataFrame) -> pd.DataFrame:
    """The rows of each task's headline metric: accuracy, or R2 where a task has no accuracy."""
    has_accuracy = set(probes.loc[probes["metric"] == "accuracy", "task"])
    wanted = np.where(probes["task"].isin(has_accuracy), "accuracy", "r2")
    return probes[probes["metric"] == wanted]


def probe_figure(probes: pd.DataFrame, *, metric: str | None = None, tasks: Mapping[str, Task] | None = None) -> Figure:
    """A panel a task: groups are probes, marks are encoders with 95% whiskers, the dashed line ignores the embedding.

    Several seeds: marks are means over seeds, whiskers Student's interval over seeds, dots the seeds. One seed:
    whiskers are that row's bootstrap interval over test samples.

    Args:
        probes: rows of probes.csv.
        metric: metric to show; None takes accuracy, or r2 for regression.
        tasks: task records, for the order of panels.

    Raises:
        InputError: there is no row of that metric.
    """
    shown = headline(probes) if metric is None else probes[probes["metric"] == metric]
    ladder = shown[~shown["probe"].isin(FLOORS)]
    if not len(ladder):
        raise InputError(f"probe figure: no row has metric '{metric or 'accuracy'}'; probe the embeddings first")
    names = marks.task_order(ladder["task"], list(tasks or ()))
    found = [str(name) for name in dict.fromkeys(ladder["probe"])]
    groups = [p for p in PROBE_NAMES if p in found] + [p for p in found if p not in PROBE_NAMES]
    summary = over_seeds(ladder, by=["encoder", "task", "probe"])
    encoders = style.encoder_order(ladder["encoder"])
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    with style.context():
        figure = style.new_figure(max(style.TEXT_WIDTH * columns / 3 + 0.6, 4.2), 2.5 * rows + 0.9)
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
            axes.set_ylabel(METRIC_NAMES.get(kind, kind))
            floor = shown.loc[(shown["task"] == task) & shown["probe"].isin(FLOORS), "value"].mean()
            bounds = (0.0, 1.0) if "accuracy" in kind else (-np.inf, 1.0) if kind == "r2" else (0.0, np.inf)
            in_view = marks.fit_y(axes, own[["value", "low", "high"]], raw["value"], bounds=bounds, keep=floor)
            dashed |= in_view
            if in_view:
                axes.axhline(floor, color=style.GREY, linestyle=(0, (4, 3)), linewidth=0.9, zorder=1, label="_floor")
            elif np.isfinite(floor):
                axes.text(
                    0.03, 0.02, f"ignoring the embedding: {floor:.2f} ↓", transform=axes.transAxes, fontsize=6.5,
                    color=style.GREY, va="bottom",
                )  # fmt: skip
        marks.encoder_legend(figure, panels)
        floor_note = " Dashed: a predictor that ignores the embedding." if dashed else ""
        marks.note(figure, marks.interval_note(summary) + floor_note)
    return figure
