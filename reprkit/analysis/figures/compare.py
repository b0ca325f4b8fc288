"""Figures of a comparison: paired differences with intervals, the same as a heat map, and what is traded for what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.comparison.pairs import OVER_BOTH
from reprkit.analysis.comparison.pareto import dominates
from reprkit.analysis.figures import marks
from reprkit.analysis.figures.changes import BOLD, MOST_PANELS, changes_figure
from reprkit.analysis.reporting.headlines import HEAD, PROBE_NAMES
from reprkit.analysis.reporting.metric_names import metric_name
from reprkit.analysis.reporting.typeset import signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from reprkit.analysis.comparison.result import Comparison

NAMES = {**PROBE_NAMES, HEAD: "Own head"}
HEADLINES = ("accuracy", "r2")
MOST_ABREAST = 4
"""So many encoders have a mark each on the row of a predictor; more have a row each, with one predictor."""

MOST_PAIRS = 6
"""So many pairs of tasks have a panel."""


def comparison_figures(comparison: Comparison) -> Iterator[tuple[str, str, Figure, pd.DataFrame]]:
    """File stem, title, figure and data of every figure that a comparison allows."""
    frame = comparison.frame
    rows = frame[(frame["kind"] == "probe") & frame["metric"].isin(HEADLINES)]
    if not len(rows):
        return
    figure = differences_figure(rows, comparison.seeds, view=comparison.view)
    yield "differences", "Paired differences from the baseline", figure, rows
    if (rows["metric"] == "accuracy").any():
        yield "heat", "Where an encoder is ahead and behind", heat_figure(rows, view=comparison.view), rows
    seen = rows[rows["name"] == comparison.view]
    if seen["task"].nunique() > 1:
        yield "pareto", "What is gained on one task at which price on another", pareto_figure(seen), seen


def differences_figure(rows: pd.DataFrame, seeds: pd.DataFrame, *, view: str) -> Figure:
    """A panel a task: the paired difference of every predictor with its 95% interval, and a dot for each seed.

    Filled marks: the interval excludes 0. More than 4 encoders beside the baseline have a row each instead, for the
    predictor `view` alone.

    Args:
        rows: rows of `paired_rows` of headline metrics.
        seeds: rows of `seed_rows`.
        view: predictor shown where there are many encoders.
    """
    encoders = style.encoder_order(rows["encoder"])
    many = len(encoders) > MOST_ABREAST
    if many:
        rows, seeds = rows[rows["name"] == view], seeds[seeds["name"] == view]
    index = "encoder" if many else "name"
    lines = encoders if many else list(dict.fromkeys(rows["name"]))
    place = dict.fromkeys(encoders, 0.0) if many else marks.offsets(encoders)
    tasks = list(dict.fromkeys(rows["task"]))
    with style.context():
        height = (marks.ROW * 1.3 if many else 0.14 + 0.16 * len(encoders)) * len(lines)
        columns = min(len(tasks), 3)
        figure = style.new_figure(style.TEXT_WIDTH, (height + 0.75) * -(-len(tasks) // columns) + 0.6)
        panels = marks.grid(figure, len(tasks), columns=columns, sharey=True)
        for axes, task in zip(panels, tasks, strict=True):
            own = rows[rows["task"] == task]
            _forest(axes, own, seeds[seeds["task"] == task], index, lines, place)
            axes.set_title(task)
            axes.set_xlabel(_unit(str(own["metric"].iloc[0])))
        names = style.row_names(lines) if many else [NAMES.get(name, name) for name in lines]
        panels[0].set_yticks(range(len(lines)), names)
        if not many and len(encoders) > 1:
            marks.encoder_legend(figure, panels)
        about = f" {NAMES.get(view, view)} predictor." if many else ""
        who = "Minus" if len(encoders) > 1 else f"{style.display(encoders[0])} minus"
        base = style.display(str(rows["baseline"].iloc[0]))
        dots = "; dots: the seeds" if rows["n_seeds"].max() > 1 else ""
        text = f"{who} {base}, on the same test samples.{about} {_whiskers(rows)}{dots}."
        marks.note(figure, f"{text} Filled marks exclude 0.")
    return figure


def _forest(
    axes: Axes, own: pd.DataFrame, seeds: pd.DataFrame, index: str, lines: Sequence[str], place: dict[str, float]
) -> None:
    look = style.encoder_styles([*place, *own["baseline"]])
    for row in own.to_dict("records"):
        factor, y = _factor(row["metric"]), lines.index(row[index]) + place[row["encoder"]]
        whisker = factor * np.array([[row["difference"] - row["low"]], [row["high"] - row["difference"]]])
        clear = row["reading"] in ("better", "worse")
        known = axes.get_legend_handles_labels()[1]
        axes.errorbar(
            [factor * row["difference"]], [y], xerr=np.maximum(np.nan_to_num(whisker), 0), linestyle="none",
            markersize=4.5, elinewidth=1.1, capsize=0, zorder=3, markerfacecolor=None if clear else "white",
            label=f"_{row['encoder']}" if row["encoder"] in known else row["encoder"], **look[row["encoder"]],
        )  # fmt: skip
        dots = seeds[(seeds["encoder"] == row["encoder"]) & (seeds["name"] == row["name"])]
        if len(dots) > 1:
            axes.scatter(
                factor * dots["difference"], np.full(len(dots), y + 0.09), s=7, color=look[row["encoder"]]["color"],
                alpha=0.55, linewidths=0, zorder=4, label="_seeds",
            )  # fmt: skip
    axes.axvline(0, color="#444444", linewidth=0.8, zorder=1)
    axes.set_ylim(len(lines) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x")
    axes.locator_params(axis="x", nbins=5)


def heat_figure(rows: pd.DataFrame, *, view: str) -> Figure:
    """Differences of accuracy as a heat map; bold where the 95% interval excludes 0.

    Up to 3 encoders beside the baseline have a panel each, tasks down and predictors across; more have a row each, in a
    panel a task, and colours end at the difference that 5% of the cells exceed.
    """
    rows = rows[rows["metric"] == "accuracy"]
    if rows["encoder"].nunique() <= MOST_PANELS:
        names = {HEAD: NAMES[HEAD]}
        return changes_figure(rows.assign(predictor=rows["name"].replace(names)))
    encoders, tasks = style.encoder_order(rows["encoder"]), list(dict.fromkeys(rows["task"]))
    across = list(dict.fromkeys(rows["name"]))
    limit = max(100 * float(rows["difference"].abs().quantile(0.95)), 1.0)
    with style.context():
        figure = style.new_figure(0.36 * len(across) * len(tasks) + 2.6, 0.17 * len(encoders) + 1.6)
        panels = figure.subplots(1, len(tasks), squeeze=False, sharey=True)[0]
        for axes, task in zip(panels, tasks, strict=True):
            own = rows[rows["task"] == task].set_index(["encoder", "name"])
            points = np.array([[own["difference"].get((e, n), np.nan) for n in across] for e in encoders], float)
            image = axes.imshow(100 * points, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
            for (i, j), value in np.ndenumerate(100 * points):
                clear = own["reading"].get((encoders[i], across[j]), "") in ("better", "worse")
                ink, weight = "white" if abs(value) > 0.75 * limit else "black", "bold" if clear else "normal"
                if np.isfinite(value):
                    axes.text(
                        j, i, signed(value, 1), ha="center", va="center", fontsize=6, fontweight=weight, color=ink,
                        alpha=1.0 if clear else 0.6,
                    )  # fmt: skip
            axes.set_title(task)
            axes.set_xticks(range(len(across)), [NAMES.get(n, n) for n in across], rotation=30, ha="right")
            axes.set_yticks(range(len(encoders)), style.row_names(encoders))
            axes.tick_params(labelsize=7, length=0)
            axes.spines[:].set_visible(False)
        figure.colorbar(image, ax=list(panels), label="points of accuracy", aspect=30)
        base = style.display(str(rows["baseline"].iloc[0]))
        marks.note(figure, f"Minus {base}. {BOLD}. Colours end at {limit:.1f} points.")
    return figure


def pareto_figure(rows: pd.DataFrame) -> Figure:
    """A panel a pair of tasks: differences from the baseline on one against the other, with 95% intervals.

    Upper right: ahead on both; upper left and lower right: one task at the price of the other. The dashed line joins
    those that no other one, nor the baseline, beats on one of the two tasks without losing on the other. Of more than
    8 encoders, those that are not dominated over all tasks are named, and the others are grey dots.

    Args:
        rows: rows of `paired_rows` of the headline metric of one predictor.
    """
    baseline, name = str(rows["baseline"].iloc[0]), str(rows["name"].iloc[0])
    tasks = list(dict.fromkeys(rows["task"]))
    pairs = list(combinations(tasks, 2))
    shown = pairs[:MOST_PAIRS]
    points = rows.pivot(index="encoder", columns="task", values="difference").reindex(columns=tasks)
    points.loc[baseline] = 0.0
    encoders = style.encoder_order(points.index)
    named = encoders
    if len(encoders) > marks.MOST_BESIDE:
        beaten = np.flatnonzero(dominates(points.loc[encoders].to_numpy()).any(axis=0))
        named = [name for i, name in enumerate(encoders) if i not in beaten or name == baseline]
    look = style.encoder_styles(encoders)
    by_task = {task: rows[rows["task"] == task].set_index("encoder") for task in tasks}
    with style.context():
        columns = min(3, len(shown))
        legend = 0.17 * (1 + len(named) // 4)
        figure = style.new_figure(2.5 * columns + 0.4, 2.6 * -(-len(shown) // columns) + 0.6 + legend)
        panels = marks.grid(figure, len(shown), columns=columns)
        for axes, pair in zip(panels, shown, strict=True):
            for encoder in encoders:
                if encoder != baseline and all(encoder in by_task[task].index for task in pair):
                    ends = [_scaled(by_task[task].loc[encoder]) for task in pair]
                    _mark(axes, ends, encoder, look[encoder] if encoder in named else None)
            axes.plot([0], [0], linestyle="none", markersize=6.5, zorder=4, label=baseline, **look[baseline])
            _quadrants(axes, *pair)
            factors = [_factor(str(by_task[task]["metric"].iloc[0])) for task in pair]
            _front(axes, points[list(pair)].dropna().to_numpy() * factors)
            labels = [f"{task}: {_unit(str(by_task[task]['metric'].iloc[0]))}" for task in pair]
            axes.set(xlabel=labels[0], ylabel=labels[1])
        marks.encoder_legend(figure, panels)
        grey = " Grey: dominated over all tasks." if len(named) < len(encoders) else ""
        more = f" {len(pairs) - len(shown)} more pairs of tasks are in the CSV file." if pairs != shown else ""
        text = f"{NAMES.get(name, name)}: differences from {style.display(baseline)}, which stands at 0."
        marks.note(figure, f"{text} {_whiskers(rows)}.\nDashed: not dominated on these two tasks.{grey}{more}")
    return figure


def _mark(axes: Axes, ends: list[tuple[float, float, float]], encoder: str, look: dict[str, Any] | None) -> None:
    (x, left, right), (y, low, high) = ends
    if look is None:
        axes.plot([x], [y], "o", color="#BBBBBB", markersize=3, zorder=2)
        return
    across, up = ([[max(v - a, 0)], [max(b - v, 0)]] for v, a, b in ((x, left, right), (y, low, high)))
    axes.errorbar(
        [x], [y], xerr=across, yerr=up, linestyle="none", markersize=5.5, elinewidth=0.9, capsize=0, zorder=3,
        label=encoder, **look,
    )  # fmt: skip


def _scaled(row: pd.Series) -> tuple[float, float, float]:
    factor = _factor(str(row["metric"]))
    return tuple(factor * float(row[name]) for name in ("difference", "low", "high"))  # type: ignore[return-value]


def _quadrants(axes: Axes, first: str, second: str) -> None:
    """Zero lines, tinted trade-off quadrants, and a word in each corner."""
    from matplotlib.patches import Rectangle

    for edges, reach in ((axes.get_xlim(), axes.set_xlim), (axes.get_ylim(), axes.set_ylim)):
        span = max(abs(edges[0]), abs(edges[1])) * 1.1
        reach(-span, span)  # 0 in the middle: as much room for losses as for gains
    axes.axhline(0, color="#444444", linewidth=0.8, zorder=1)
    axes.axvline(0, color="#444444", linewidth=0.8, zorder=1)
    for corner in ((0, 0.5), (0.5, 0)):
        axes.add_patch(
            Rectangle(corner, 0.5, 0.5, transform=axes.transAxes, facecolor="#F3F3F3", zorder=0, linewidth=0)
        )
    for x, y, text in (
        (0.98, 0.98, "better on both"), (0.02, 0.02, "worse on both"), (0.02, 0.98, f"{second} up, {first} down"),
        (0.98, 0.02, f"{first} up, {second} down"),
    ):  # fmt: skip
        axes.text(
            x, y, text, transform=axes.transAxes, fontsize=6.5, color=style.GREY, ha="left" if x < 0.5 else "right",
            va="bottom" if y < 0.5 else "top", zorder=2,
        )  # fmt: skip
    axes.locator_params(nbins=5)


def _front(axes: Axes, points: np.ndarray) -> None:
    """The staircase through the points that none dominates."""
    kept = points[~dominates(points).any(axis=0)]
    kept = kept[np.argsort(kept[:, 0])]
    if len(kept) > 1:
        axes.step(kept[:, 0], kept[:, 1], where="pre", color=style.GREY, linewidth=1.0, linestyle="--", zorder=2)


def _whiskers(rows: pd.DataFrame) -> str:
    both = (rows["interval"] == OVER_BOTH).any()
    return f"Whiskers: 95% interval over {'seeds and test samples' if both else 'test samples'}"


def _unit(metric: str) -> str:
    return "points of accuracy" if metric == "accuracy" else f"change of {metric_name(metric)}"


def _factor(metric: str) -> float:
    return 100.0 if metric == "accuracy" else 1.0
