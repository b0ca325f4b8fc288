"""The ladder of controls: what a constant, shuffled labels, raw pixels and an untrained encoder reach."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.figures import marks
from reprkit.analysis.reporting.headlines import task_order
from reprkit.analysis.reporting.metric_names import in_sentence
from reprkit.analysis.reporting.seeds import over_seeds
from reprkit.errors import InputError
from reprkit.tasks import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PROBE = "linear"
COLUMNS = (("U_rel", "U_rel"), ("U_rel_tau", "U_rel_τ"), ("U", "U = 1/gap (the paper's)"))


def controls_figure(
    probes: pd.DataFrame,
    universality: pd.DataFrame,
    control_probes: pd.DataFrame,
    control_universality: pd.DataFrame,
    *,
    tasks: Mapping[str, Task] | None = None,
) -> Figure:
    """A row of panels a task: the linear probe, U_rel, U_rel_tau and U of every control and every encoder.

    Args:
        probes, universality: rows of probes.csv and universality.csv.
        control_probes, control_universality: the same of the controls.
        tasks: task records, for the order of rows.

    Raises:
        InputError: there are no controls.
    """
    if not len(control_universality):
        raise InputError("controls figure: no controls; measure them first")
    head = str(control_universality["head"].iloc[0])
    scores = pd.concat([control_probes, probes], ignore_index=True)
    scores = scores[(scores["probe"] == PROBE) & scores["metric"].isin(["accuracy", "r2"])]
    measured = pd.concat([control_universality, universality], ignore_index=True)
    measured = measured[measured["head"] == head]
    controls = list(dict.fromkeys(control_universality["encoder"].astype(str)))
    encoders = [*controls, *style.encoder_order(universality["encoder"])]
    names = task_order(measured["task"], list(tasks or ()))
    summaries = {"value": over_seeds(scores, by=["encoder", "task", "metric"])}
    for column, _ in COLUMNS:
        summaries[column] = over_seeds(
            measured, by=["encoder", "task"], value=column, low=f"{column}_low", high=f"{column}_high"
        )
    with style.context():
        height = (max(marks.ROW, 0.17) * len(encoders) + 0.55) * len(names) + 0.6
        figure = style.new_figure(style.TEXT_WIDTH + 1.4, height)
        layout = figure.subplots(len(names), 1 + len(COLUMNS), squeeze=False, sharey=True)
        for line, task in zip(layout, names, strict=True):
            line[0].set_ylabel(task, fontweight="bold")
            rows = scores[scores["task"] == task]
            metric = str(rows["metric"].iloc[0]) if len(rows) else "accuracy"
            panels = [("value", f"Linear probe: {in_sentence(metric)}", rows)]
            panels += [(column, title, measured[measured["task"] == task]) for column, title in COLUMNS]
            for axes, (column, title, raw) in zip(line, panels, strict=True):
                own = summaries[column][summaries[column]["task"] == task]
                _panel(axes, own, raw, encoders, column, title)
                axes.axhline(len(controls) - 0.5, color=style.GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
        text = marks.interval_note(summaries["value"], one_seed="95% bootstrap over test samples")
        marks.note(
            figure,
            f"{text}\nAbove the dashed line: controls. What they reach, training did not bring; U alone prefers a"
            " constant. A word in a panel's place says why a value does not exist.",
        )
    return figure


def _panel(axes: Axes, summary: pd.DataFrame, rows: pd.DataFrame, encoders: list[str], column: str, title: str) -> None:
    marks.draw_rows(axes, summary, rows, encoders=encoders, value=column)
    axes.set_title(title)
    positive = rows.loc[np.isfinite(rows[column].astype(float)), column]
    if column == "U" and len(positive) and (positive > 0).all() and positive.max() > 4 * positive.min():
        marks.plain_log(axes, "x")
    else:
        marks.fit_rows(axes, summary, rows, encoders=encoders, value=column)
    for encoder in encoders:
        own = rows[rows["encoder"] == encoder]
        if len(own) and not np.isfinite(own[column].astype(float)).any() and "head" in rows:
            status = str(own["status"].iloc[0]).split(";")[0].replace("_", " ")
            axes.text(
                0.03, encoders.index(encoder), status, transform=axes.get_yaxis_transform(), va="center", fontsize=6,
                color=style.GREY, zorder=5,
            )  # fmt: skip
