"""Learning curves over the number of labelled samples a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.few_shot import ALL
from reprkit.analysis.few_shot_summary import learning_curves
from reprkit.analysis.figures import marks
from reprkit.analysis.reporting.headlines import PROBE_NAMES, task_order
from reprkit.analysis.reporting.metric_names import metric_name
from reprkit.analysis.reporting.seeds import OVER_SEEDS, over_seeds
from reprkit.errors import InputError
from reprkit.tasks import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_BANDED = 6
"""So many encoders have bands; more would hide each other."""


def few_shot_figure(
    frame: pd.DataFrame,
    *,
    probes: Sequence[str] | None = None,
    metric: str = "accuracy",
    tasks: Mapping[str, Task] | None = None,
) -> Figure:
    """A column a task, a row a predictor: test score over shots a class (log2), and with all train samples at the end.

    One seed: lines are means over draws, bands Student's interval over draws, whiskers at the end bootstrap intervals
    over test samples. Several seeds: means over seeds, with Student's interval over seeds. Of more than 6 encoders the
    bands are left out; of more than 12, the 12 of `style.pictured` are shown, and the note says so.

    Args:
        frame: rows of `few_shot`, of all encoders.
        probes: predictors to show; None takes all.
        metric: metric to show.
        tasks: task records, for the order of columns.

    Raises:
        InputError: there is no curve of that metric.
    """
    known_rows = frame[(frame["metric"] == metric) & frame["value"].notna()]
    if probes is not None:
        known_rows = known_rows[known_rows["probe"].isin(probes)]
    if not (known_rows["shots"] != ALL).any():
        raise InputError(f"few-shot figure: no curve has metric '{metric}'; measure the embeddings first")
    known = style.encoder_order(known_rows["encoder"])
    encoders = style.pictured(known)
    curves = learning_curves(known_rows[known_rows["encoder"].isin(encoders)])
    names = task_order(curves["task"], list(tasks or ()))
    rows = [name for name in dict.fromkeys(curves["probe"]) if probes is None or name in probes]
    by = ["encoder", "task", "probe", "shots"]
    ends = np.where(curves["shots"] == ALL, "samples", "draws")
    for side in ("low", "high"):
        curves[side] = np.where(ends == "samples", curves[f"samples_{side}"], curves[f"draws_{side}"])
    summary = over_seeds(curves, by=by)
    sizes = sorted(set(summary["shots"]) - {ALL})
    with style.context():
        figure = style.new_figure(max(2.5 * len(names) + 0.8, 4.2), 2.2 * len(rows) + 0.9)
        layout = figure.subplots(len(rows), len(names), squeeze=False, sharex=True, sharey="col")
        for line, probe in zip(layout, rows, strict=True):
            for axes, task in zip(line, names, strict=True):
                own = summary[(summary["task"] == task) & (summary["probe"] == probe)]
                _draw(axes, own, encoders, sizes, banded=len(encoders) <= MOST_BANDED)
            name = metric_name(metric)
            line[0].set_ylabel(f"{PROBE_NAMES.get(probe, probe)}: {name.lower()}")
        for column, task in zip(layout.T, names, strict=True):
            column[0].set_title(task)
            values = summary.loc[summary["task"] == task, ["value", "low", "high"]]
            for axes in column:
                marks.fit_y(axes, values, bounds=(0.0, 1.0))
        for axes in layout[-1]:
            _shots_axis(axes, sizes)
        marks.encoder_legend(figure, list(layout.ravel()))
        note = _note(summary, banded=len(encoders) <= MOST_BANDED) + marks.chosen_note(encoders, known)
        marks.note(figure, note)
    return figure


def _draw(axes: Axes, summary: pd.DataFrame, encoders: Sequence[str], sizes: Sequence[int], *, banded: bool) -> None:
    look = style.encoder_styles(encoders)
    end = _end(sizes)
    places = {name: end * 2 ** (1.4 * shift) for name, shift in marks.offsets(encoders).items()}
    for encoder in encoders:
        own = summary[summary["encoder"] == encoder].sort_values("shots")
        curve, reference = own[own["shots"] != ALL], own[own["shots"] == ALL]
        colour: dict[str, Any] = {"color": look[encoder]["color"]}
        if banded:
            axes.fill_between(
                curve["shots"], curve["low"].astype(float), curve["high"].astype(float), alpha=0.15, linewidth=0,
                zorder=1, label=f"_band {encoder}", **colour,
            )  # fmt: skip
        axes.plot(
            curve["shots"], curve["value"], linewidth=1.3, markersize=3.5, linestyle=style.dashes(encoder),
            label=encoder, zorder=3, **look[encoder],
        )  # fmt: skip
        whisker = np.abs(reference[["low", "high"]].to_numpy(float) - reference[["value"]].to_numpy(float)).T
        axes.errorbar(
            [places[encoder]] * len(reference), reference["value"], yerr=np.nan_to_num(whisker), linestyle="none",
            markersize=3.5, elinewidth=1.0, capsize=0, label=f"_all {encoder}", zorder=3, **look[encoder],
        )  # fmt: skip
    axes.axvline(end / 2 ** (1 + 0.5), color="#CCCCCC", linewidth=0.8, zorder=0, label="_end")
    axes.grid(visible=True, axis="y")
    axes.ticklabel_format(axis="y", useOffset=False)


def _end(sizes: Sequence[int]) -> float:
    """Where the reference stands: two doublings beyond the largest number of shots."""
    return 4.0 * max(sizes)


def _shots_axis(axes: Axes, sizes: Sequence[int]) -> None:
    from matplotlib.ticker import NullLocator

    axes.set_xscale("log", base=2)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks([*sizes, _end(sizes)], [*map(str, sizes), "all"])
    axes.set_xlim(min(sizes) / 1.25, _end(sizes) * 2)
    axes.set_xlabel("Labelled samples a class")


def _note(summary: pd.DataFrame, *, banded: bool) -> str:
    if (summary["interval"] == OVER_SEEDS).any():
        text = "Means over seeds" + ("; bands and whiskers: 95% Student interval over seeds." if banded else ".")
    else:
        text = "Means over draws" + ("; bands: 95% Student interval over draws" if banded else "")
        text += "; whiskers: 95% bootstrap over test samples."
    return text + " Right of the line: fitted to all train samples."
