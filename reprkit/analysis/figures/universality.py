"""Universality with intervals, beside the scale and the dimension that it must be read with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.figures import marks
from reprkit.analysis.reporting.headlines import task_order
from reprkit.analysis.reporting.seeds import over_seeds
from reprkit.errors import InputError
from reprkit.tasks import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = (
    ("U_rel", "U_rel: share of usable information\nan arbitrary head already has"),
    ("U_rel_tau", "U_rel_τ: the same with the best\ntemperature (scale-free)"),
    ("U", "U = 1/gap on raw z\n(as in the paper; moves with scale)"),
    ("rms", "RMS of z:\nits scale"),
    ("effective_rank", "Effective rank of z:\nits dimension"),
    ("L_star", "L*: held-out loss of the best\nhead (nats)"),
)
SHORT = {"U_rel": "U_rel", "U_rel_tau": "U_rel_τ", "U": "U = 1/gap", "rms": "RMS", "effective_rank": "Effective rank",
         "L_star": "L* (nats)"}  # fmt: skip
"""Titles of narrow panels."""

MOST_MARKS = 24
"""So many encoders times tasks fit side by side in a panel."""

WITH_INTERVAL = ("U_rel", "U_rel_tau", "U")
ONE_SEED = "95% bootstrap over heads and test samples"


def universality_figure(
    universality: pd.DataFrame, *, head: str | None = None, tasks: Mapping[str, Task] | None = None
) -> Figure:
    """Six panels: U_rel, U_rel_tau and U per task and encoder with 95% whiskers; below, RMS, effective rank and L*.

    A value that does not exist is not drawn: its status is printed in its place. U says nothing alone (a constant
    embedding maximises it), hence the lower row. More than 8 encoders, or too many tasks beside them, have a row each
    instead, in a panel for every task (down) and quantity (across).

    Args:
        universality: rows of universality.csv.
        head: architecture of the predictors to show; None takes the first in the frame.
        tasks: task records, for the order of groups.

    Raises:
        InputError: no row has that head.
    """
    head = head or (str(universality["head"].iloc[0]) if len(universality) and "head" in universality else None)
    frame = universality[universality["head"] == head] if "head" in universality else universality
    if not len(frame):
        raise InputError(f"universality figure: no row has head '{head}'; measure universality first")
    groups = task_order(frame["task"], list(tasks or ()))
    panels = [(column, title) for column, title in PANELS if column in frame]
    heads = {"linear": "linear", "mlp": "two-layer"}
    start = f"Fresh random {heads.get(str(head), head)} heads."
    encoders = style.encoder_order(frame["encoder"])
    with style.context():
        if len(encoders) > marks.MOST_BESIDE or len(encoders) * len(groups) > MOST_MARKS:
            return _in_rows(frame, groups, [column for column, _ in panels], encoders, start)
        figure = style.new_figure(style.TEXT_WIDTH + 1.2, 5.6)
        made = marks.grid(figure, len(panels), columns=3)
        summaries = []
        for axes, (column, title) in zip(made, panels, strict=True):
            summaries.append(_draw(axes, frame, column, groups))
            axes.set_title(title, fontsize=8, fontweight="normal")
            if max(map(len, groups)) > 8:
                axes.set_xticklabels(groups, rotation=25, ha="right", rotation_mode="anchor")
            else:
                axes.set_xticklabels(groups)
        marks.encoder_legend(figure, made)
        marks.note(figure, f"{start} {marks.interval_note(summaries[0], one_seed=ONE_SEED)}")
    return figure


def _in_rows(frame: pd.DataFrame, groups: list[str], columns: list[str], encoders: list[str], start: str) -> Figure:
    figure = style.new_figure(1.35 * len(columns) + 1.5, (marks.ROW * len(encoders) + 0.55) * len(groups) + 0.6)
    layout = figure.subplots(len(groups), len(columns), squeeze=False, sharey=True)
    summaries = {column: _summary(frame, column) for column in columns}
    for row, task in zip(layout, groups, strict=True):
        row[0].set_ylabel(task, fontweight="bold")
        for axes, column in zip(row, columns, strict=True):
            own, raw = (f[f["task"] == task] for f in (summaries[column], frame))
            marks.draw_rows(axes, own, raw, encoders=encoders, value=column)
            axes.set_title(SHORT[column])
            if column == "rms" and _spreads(raw[column]):
                marks.plain_log(axes, "x")
            else:
                marks.fit_rows(axes, own, raw, encoders=encoders, value=column)
            if column in WITH_INTERVAL:
                for encoder, status in _absent(own, raw):
                    axes.text(
                        0.03, encoders.index(encoder), status, transform=axes.get_yaxis_transform(), va="center",
                        fontsize=6, color=style.GREY, zorder=5,
                    )  # fmt: skip
    text = marks.interval_note(summaries[columns[0]], one_seed=ONE_SEED)
    marks.note(figure, marks.rows_note(encoders, f"{start} {text}"))
    return figure


def _summary(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """A row an encoder and task; L*, RMS and rank have no interval of their own, hence no whisker with one seed."""
    return over_seeds(frame, by=["encoder", "task"], value=column, low=f"{column}_low", high=f"{column}_high")


def _spreads(values: pd.Series) -> bool:
    """True if positive values differ so much that a logarithmic axis shows them better."""
    return bool((values > 0).all() and values.max() > 4 * values.min())


def _absent(summary: pd.DataFrame, frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Encoders of one task without a value, each with the status that says why."""
    told = []
    for encoder in summary.loc[~np.isfinite(summary["value"].astype(float)), "encoder"]:
        status = frame.loc[frame["encoder"] == encoder, "status"].astype(str)
        told.append((encoder, " / ".join(s for s in dict.fromkeys(status) if not s.startswith("ok")) or "no value"))
    return [(encoder, status.replace("_", " ")) for encoder, status in told]


def _draw(axes: Axes, frame: pd.DataFrame, column: str, groups: list[str]) -> pd.DataFrame:
    """One panel; returns what it shows."""
    summary = _summary(frame, column)
    encoders = style.encoder_order(frame["encoder"])
    marks.draw_groups(axes, summary, frame, encoders=encoders, group="task", groups=groups, value=column)
    if column == "rms" and _spreads(frame[column]):
        marks.plain_log(axes)
    else:
        marks.fit_y(axes, summary[["value", "low", "high"]], frame[column])
        if column in ("U_rel", "U_rel_tau"):
            axes.axhline(0, color=style.GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1, label="_zero")
    if column in WITH_INTERVAL:
        look, place = style.encoder_styles(encoders), marks.offsets(encoders)
        for task in groups:
            for encoder, status in _absent(summary[summary["task"] == task], frame[frame["task"] == task]):
                marks.note_status(axes, groups.index(task) + place[encoder], status, look[encoder]["color"])
    return summary
