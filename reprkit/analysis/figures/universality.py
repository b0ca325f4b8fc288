"""Universality with intervals, beside the scale and the dimension that it must be read with."""

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
WITH_INTERVAL = ("U_rel", "U_rel_tau", "U")


def universality_figure(
    universality: pd.DataFrame, *, head: str | None = None, tasks: Mapping[str, Task] | None = None
) -> Figure:
    """Six panels: U_rel, U_rel_tau and U per task and encoder with 95% whiskers; below, RMS, effective rank and L*.

    A value that does not exist is not drawn: its status is printed in its place. U says nothing alone (a constant
    embedding maximises it), hence the lower row.

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
    groups = marks.task_order(frame["task"], list(tasks or ()))
    panels = [(column, title) for column, title in PANELS if column in frame]
    with style.context():
        figure = style.new_figure(style.TEXT_WIDTH + 1.2, 5.6)
        made = marks.grid(figure, len(panels), columns=3)
        summaries = []
        for axes, (column, title) in zip(made, panels, strict=True):
            summaries.append(_draw(axes, frame, column, groups))
            axes.set_title(title, fontsize=8, fontweight="normal")
            axes.set_xticklabels(groups, rotation=20 if max(map(len, groups)) > 8 else 0)
        marks.encoder_legend(figure, made)
        heads = {"linear": "linear", "mlp": "two-layer"}
        text = marks.interval_note(summaries[0], one_seed="95% bootstrap over heads and test samples")
        marks.note(figure, f"Fresh random {heads.get(str(head), head)} heads. {text}")
    return figure


def _draw(axes: Axes, frame: pd.DataFrame, column: str, groups: list[str]) -> pd.DataFrame:
    """One panel; returns what it shows."""
    summary = over_seeds(
        frame, by=["encoder", "task"], value=column, low=f"{column}_low", high=f"{column}_high"
    )  # L*, RMS and rank have no such columns, hence no whisker with one seed
    encoders = style.encoder_order(frame["encoder"])
    marks.draw_groups(axes, summary, frame, encoders=encoders, group="task", groups=groups, value=column)
    if column == "rms" and (frame[column] > 0).all() and frame[column].max() > 4 * frame[column].min():
        marks.plain_log(axes)
    else:
        marks.fit_y(axes, summary[["value", "low", "high"]], frame[column])
        if column in ("U_rel", "U_rel_tau"):
            axes.axhline(0, color=style.GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1, label="_zero")
    if column in WITH_INTERVAL:
        look, place = style.encoder_styles(encoders), marks.offsets(encoders)
        absent = summary[~np.isfinite(summary["value"].astype(float))]
        for encoder, task in zip(absent["encoder"], absent["task"], strict=True):
            own = frame[(frame["encoder"] == encoder) & (frame["task"] == task)]
            status = (
                " / ".join(dict.fromkeys(str(s) for s in own["status"] if not str(s).startswith("ok"))) or "no value"
            )
            where = groups.index(task) + place[encoder]
            marks.note_status(axes, where, status, look[encoder]["color"])
    return summary
