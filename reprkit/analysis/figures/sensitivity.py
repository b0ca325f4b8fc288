"""Sensitivity to the classifier: the probes of each encoder on one axis, and how far they lie apart as a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.figures import marks
from reprkit.analysis.reporting.headlines import PROBE_NAMES, headline, task_order
from reprkit.analysis.reporting.metric_names import metric_name
from reprkit.analysis.reporting.seeds import OVER_SAMPLES, OVER_SEEDS, over_seeds
from reprkit.analysis.reporting.typeset import plain
from reprkit.analysis.sensitivity import summarise_sensitivity
from reprkit.errors import InputError
from reprkit.tasks import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HIGH_ROW = 0.36
"""Height of a row in inches, where there are few."""


def sensitivity_figure(
    sensitivity: pd.DataFrame, probes: pd.DataFrame, *, tasks: Mapping[str, Task] | None = None
) -> Figure:
    """A panel a task, a row an encoder: its probes as marks on the score axis, and the sensitivity as a number.

    The band reaches one standard deviation between the probes, freed of sampling noise, to each side of their mean
    (the stroke). The number is that standard deviation as a share of the mean gain over the floor. Several seeds:
    means over seeds, and Student's interval.

    Args:
        sensitivity: rows of `sensitivity`, of all encoders.
        probes: rows of probes.csv.
        tasks: task records, for the order of panels.

    Raises:
        InputError: there is no row.
    """
    if not len(sensitivity):
        raise InputError("sensitivity figure: there are no rows; probe the embeddings with two probes or more")
    names = task_order(sensitivity["task"], list(tasks or ()))
    encoders = style.encoder_order(sensitivity["encoder"])
    shown = headline(probes)
    shown = shown[shown["task"].isin(names) & shown["encoder"].isin(encoders)]
    compared = {name for listed in sensitivity["probes"] for name in str(listed).split()}
    ladder = shown[shown["probe"].isin(compared)]
    found = [str(name) for name in dict.fromkeys(ladder["probe"])]
    groups = [p for p in PROBE_NAMES if p in found] + [p for p in found if p not in PROBE_NAMES]
    by = ["encoder", "task"]
    numbers = summarise_sensitivity(sensitivity)
    bands = over_seeds(sensitivity, by=by, value="mean").rename(columns={"value": "mean"})
    bands["spread"] = over_seeds(sensitivity, by=by, value="spread")["value"]
    dots = over_seeds(ladder, by=[*by, "probe"])
    row = HIGH_ROW if len(encoders) <= marks.MOST_BESIDE else marks.ROW
    with style.context():
        columns = min(len(names), 3)
        height = (row * len(encoders) + 0.6) * -(-len(names) // columns) + 0.9
        figure = style.new_figure(max(2.9 * columns + 1.0, 4.8), height)
        panels = marks.grid(figure, len(names), columns=columns, sharey=True)
        for axes, task in zip(panels, names, strict=True):
            own, band, number = (frame[frame["task"] == task] for frame in (dots, bands, numbers))
            _draw(axes, own, band, number, encoders=encoders, groups=groups)
            kind = str(ladder.loc[ladder["task"] == task, "metric"].iloc[0]) if len(ladder) else "accuracy"
            floor = float(sensitivity.loc[sensitivity["task"] == task, "floor"].mean())
            _fit(axes, own["value"], band, floor)
            axes.set_title(task)
            axes.set_xlabel(metric_name(kind))
        _legend(figure, panels[0], groups)
        marks.note(figure, _note(numbers))
    return figure


def _draw(
    axes: Axes,
    dots: pd.DataFrame,
    bands: pd.DataFrame,
    numbers: pd.DataFrame,
    *,
    encoders: Sequence[str],
    groups: Sequence[str],
) -> None:
    look = style.encoder_styles(encoders)
    places = dict(zip(groups, np.linspace(-0.26, 0.26, len(groups)), strict=True))
    shapes = dict(zip(groups, _markers(groups), strict=True))
    for encoder, mean, half in bands[["encoder", "mean", "spread"]].itertuples(index=False):
        at, colour = encoders.index(encoder), look[encoder]["color"]
        axes.barh(at, 2 * half, left=mean - half, height=0.74, color=colour, alpha=0.16, zorder=1, label=f"_{encoder}")
        axes.plot([mean, mean], [at - 0.37, at + 0.37], color=colour, linewidth=1.0, zorder=2, label=f"_mean {encoder}")
    for encoder, probe, value in dots[["encoder", "probe", "value"]].itertuples(index=False):
        axes.plot(
            value, encoders.index(encoder) + places[probe], linestyle="none", marker=shapes[probe], markersize=4,
            color=look[encoder]["color"], markeredgecolor="white", markeredgewidth=0.4, zorder=3,
            label=f"_{probe} {encoder}",
        )  # fmt: skip
    for encoder, *ends in numbers[["encoder", "value", "low", "high"]].itertuples(index=False):
        axes.text(
            1.02, encoders.index(encoder), _percent(*ends), transform=axes.get_yaxis_transform(), va="center",
            fontsize=7,
        )  # fmt: skip
    axes.text(1.02, 1.01, "sensitivity", transform=axes.transAxes, fontsize=6.5, color=style.GREY, va="bottom")
    for band in marks.family_bands(encoders):
        axes.axhspan(*band, color="#F4F4F4", zorder=0, linewidth=0)
    axes.set_ylim(len(encoders) - 0.4, -0.6)
    axes.set_yticks(range(len(encoders)), style.row_names(encoders))
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x")


def _markers(groups: Sequence[str]) -> list[str]:
    shapes = (*style.CLASS_MARKERS, "*", "h", "<", ">")
    return [shapes[i % len(shapes)] for i in range(len(groups))]


def _percent(value: float, low: float, high: float) -> str:
    if not np.isfinite(value):
        return "no headroom"
    interval = f" ({100 * low:.1f}\N{EN DASH}{100 * high:.1f})" if np.isfinite([low, high]).all() else ""
    return f"{100 * value:.1f}%{interval}"


def _fit(axes: Axes, dots: pd.Series, bands: pd.DataFrame, floor: float) -> None:
    ends = [bands["mean"] + sign * bands["spread"] for sign in (-1, 1)]
    low, high, visible = marks.limits(dots, *ends, bounds=(-np.inf, 1.0), keep=floor)
    if not np.isfinite(low):
        return
    axes.set_xlim(low, high)
    axes.locator_params(axis="x", nbins=5)
    if visible:
        axes.axvline(floor, color=style.GREY, linestyle=(0, (4, 3)), linewidth=0.9, zorder=1, label="_floor")
    elif np.isfinite(floor):
        axes.text(
            0.02, 0.01, f"\N{LEFTWARDS ARROW} floor {plain(floor, 2)}", transform=axes.transAxes, fontsize=6.5,
            color=style.GREY, va="bottom",
        )  # fmt: skip


def _legend(figure: Figure, axes: Axes, groups: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    look: dict[str, Any] = {"linestyle": "none", "color": style.GREY, "markersize": 4.5}
    handles = [
        Line2D([], [], marker=marker, label=PROBE_NAMES.get(name, name), **look)
        for name, marker in zip(groups, _markers(groups), strict=True)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=max(len(handles), 1))


def _note(numbers: pd.DataFrame) -> str:
    kinds = {
        OVER_SAMPLES: "its 95% bootstrap interval over test samples",
        OVER_SEEDS: "Student's 95% interval over seeds",
    }
    brackets = " or ".join(text for kind, text in kinds.items() if (numbers["interval"] == kind).any())
    mean = " Everything is a mean over seeds." if (numbers["n_seeds"] > 1).any() else ""
    return (
        "Stroke and band: mean over the probes, and their standard deviation without sampling noise. Number: that"
        " deviation as a share of the mean gain over the floor"
        + (f", with {brackets}" if brackets else "")
        + f"; 0% if all probes do equally well.{mean}"
    )
