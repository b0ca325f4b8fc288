"""Learning curves from the metrics of training runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.figures import marks
from reprkit.analysis.reporting.headlines import task_order
from reprkit.analysis.reporting.metric_names import in_sentence, in_unit
from reprkit.analysis.reporting.training_log import PENALTY
from reprkit.errors import InputError
from reprkit.tasks import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_DETAILED = 6
ROWS = (
    ("loss", "train", "Training loss"), ("loss", "val", "Validation loss"), ("score", "val", "Validation score"),
    (PENALTY, "train", "DGR penalty"),
)  # fmt: skip
"""Quantity, split and name of each row of panels."""


def curves_figure(
    curves: pd.DataFrame, *, tasks: Mapping[str, Task] | None = None, metrics: Mapping[str, str] | None = None
) -> Figure:
    """A column a task; down: training loss, validation loss, validation score (the headline metric), DGR penalty.

    Lines are means over seeds, bands reach from the least to the greatest seed. With more than 6 encoders there are no
    bands, and an addition shows in the line style; of more than 12, the 12 of `style.pictured`, and the note says so.

    Args:
        curves: frame made by `training_log.read_curves`.
        tasks: task records, for the order of columns and units.
        metrics: metric of each task's score; a task that is not there has a score without a name.

    Raises:
        InputError: the frame is empty.
    """
    known = style.encoder_order(curves.loc[curves["task"] != "", "encoder"])
    if not known:
        raise InputError("learning curves: no metrics were recorded; train first")
    tasks, metrics = tasks or {}, metrics or {}
    chosen = style.pictured(known)
    curves = curves[curves["encoder"].isin(chosen)]
    plain = len(chosen) > MOST_DETAILED
    names = task_order(curves.loc[curves["task"] != "", "task"], list(tasks))
    rows = [(q, s, text) for q, s, text in ROWS if ((curves["quantity"] == q) & (curves["split"] == s)).any()]
    look = style.encoder_styles(chosen)
    with style.context():
        figure = style.new_figure(max(2.5 * len(names) + 0.8, 5.2), 1.8 * len(rows) + 0.9)
        layout = figure.subplots(len(rows), len(names), squeeze=False, sharex=True)
        for line, (quantity, split, text) in zip(layout, rows, strict=True):
            own = curves[(curves["quantity"] == quantity) & (curves["split"] == split)]
            shown = [""] if quantity == PENALTY else names
            for axes, task in zip(line, shown, strict=False):
                _lines(axes, own[own["task"] == task], look, plain=plain)
                if quantity == "score" and task in metrics:
                    unit = (
                        f" ({tasks[task].unit})"
                        if task in tasks and tasks[task].unit and in_unit(metrics[task])
                        else ""
                    )
                    axes.set_ylabel(f"Validation {in_sentence(metrics[task])}{unit}", fontsize=7.5)
            if not line[0].get_ylabel():
                line[0].set_ylabel(text)
            for spare in line[len(shown) :]:
                spare.remove()
        for axes, task in zip(layout[0], names, strict=True):
            axes.set_title(task)
        for column in range(len(names)):
            last = [axes for axes in layout[:, column] if axes.figure is not None][-1]
            last.tick_params(labelbottom=True)
            last.set_xlabel("Epoch")
        marks.encoder_legend(figure, [axes for axes in layout.ravel() if axes.figure is not None])
        text = ""
        if curves["seed"].nunique() > 1:
            bands = "each seed is in the CSV file" if plain else "bands: from the least to the greatest seed"
            text = f"Lines: means over seeds; {bands}."
        marks.note(figure, (text + marks.chosen_note(chosen, known)).strip())
    return figure


def _lines(axes: Axes, frame: pd.DataFrame, look: Mapping[str, dict[str, str]], *, plain: bool) -> None:
    for encoder, own in ((name, frame[frame["encoder"] == name]) for name in look):
        if not len(own):
            continue
        table = own.pivot_table(index="epoch", columns="seed", values="value", aggfunc="mean").sort_index()
        colour, mean = look[encoder]["color"], table.mean(axis=1)
        if table.shape[1] > 1 and not plain:
            axes.fill_between(
                table.index, table.min(axis=1), table.max(axis=1), color=colour, alpha=0.15, linewidth=0,
                label=f"_seeds {encoder}",
            )  # fmt: skip
        one_point: dict[str, Any] = {"marker": look[encoder]["marker"], "markersize": 4} if len(mean) == 1 else {}
        dash = style.dashes(encoder) if plain else "-"
        axes.plot(mean.index, mean, color=colour, linewidth=1.4, linestyle=dash, label=encoder, **one_point)
    axes.grid(visible=True)
    axes.locator_params(axis="x", integer=True)
