"""Where an encoder wins and loses against another: a heat map of paired differences."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.figures import marks
from reprkit.analysis.reporting.differences import closest
from reprkit.analysis.reporting.headlines import PROBE_NAMES
from reprkit.analysis.reporting.typeset import MINUS, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BOLD = "Bold: the 95% interval of the paired difference excludes 0"


MOST_PANELS = 3
"""So many pairs have a panel each; more have a row each."""


def changes_figure(changes: pd.DataFrame) -> Figure:
    """Differences in percentage points, tasks down and predictors across, a panel a pair of encoders.

    A cell whose 95% interval excludes 0 is bold; the others are noise as far as these results tell. Colours run alike
    in all panels. More than three pairs have a row each instead, in a panel a task; each encoder then stands against
    its closest other alone, and colours end at the difference that 5% of the cells exceed.

    Args:
        changes: rows of `reprkit.analysis.reporting.differences.differences`; accuracy only is drawn.

    Raises:
        ValueError: no row of accuracy.
    """
    shown = changes[changes["metric"] == "accuracy"]
    if shown.empty:
        raise ValueError("no differences of accuracy to draw")
    pairs = list(shown[["encoder", "baseline"]].drop_duplicates().itertuples(index=False, name=None))
    with style.context():
        return _panels(shown, pairs) if len(pairs) <= MOST_PANELS else _rows(shown, closest(pairs))


def _panels(shown: pd.DataFrame, pairs: list[tuple[str, str]]) -> Figure:
    limit = max(100 * float(shown["difference"].abs().max()), 1.0)
    width = 0.42 * shown["predictor"].nunique() * len(pairs) + 2.2  # room for four figures in every cell
    figure = style.new_figure(max(style.TEXT_WIDTH, width), 1.5 + 0.36 * shown["task"].nunique())
    panels = figure.subplots(1, len(pairs), squeeze=False)[0]
    for axes, (encoder, baseline) in zip(panels, pairs, strict=True):
        own = shown[(shown["encoder"] == encoder) & (shown["baseline"] == baseline)]
        _heat(axes, own, "task", limit=limit, bar=axes is panels[-1])
        axes.set_title(f"{style.display(encoder)} minus {style.display(baseline)}")
    figure.supxlabel(f"{BOLD}.", fontsize=8, color=style.GREY)
    return figure


def _rows(shown: pd.DataFrame, pairs: list[tuple[str, str]]) -> Figure:
    order = {pair: f"{style.display(pair[0])} {MINUS} {style.display(pair[1])}" for pair in pairs}
    keys = list(zip(shown["encoder"], shown["baseline"], strict=True))
    shown = shown.assign(pair=[order.get(key, "") for key in keys])
    shown = shown[shown["pair"] != ""]
    shown = shown.assign(rank=shown["pair"].map(list(order.values()).index)).sort_values("rank", kind="stable")
    limit = max(100 * float(shown["difference"].abs().quantile(0.95)), 1.0)
    tasks, predictors = list(dict.fromkeys(shown["task"])), shown["predictor"].nunique()
    figure = style.new_figure(0.36 * predictors * len(tasks) + 3.2, 0.17 * len(pairs) + 1.6)
    panels = figure.subplots(1, len(tasks), squeeze=False)[0]
    for axes, task in zip(panels, tasks, strict=True):
        _heat(
            axes, shown[shown["task"] == task], "pair", limit=limit, bar=axes is panels[-1], size=6, rows=order.values()
        )
        axes.set_title(task)
        axes.tick_params(labelsize=7, length=0)
        if axes is not panels[0]:
            axes.set_yticks([])
    marks.note(
        figure,
        f"{BOLD}. Each encoder against its own method without the addition, else against Vanilla.\n"
        f"Colours end at {limit:.1f} points. All pairs are in the CSV file.",
    )
    return figure


def _heat(
    axes: Axes,
    own: pd.DataFrame,
    index: str,
    *,
    limit: float,
    bar: bool,
    size: float = 8,
    aspect: float = 20,
    rows: Iterable[str] = (),
) -> None:
    """One heat map: `index` down, predictors across."""
    import seaborn as sns

    down, across = list(rows) or list(dict.fromkeys(own[index])), list(dict.fromkeys(own["predictor"]))
    points = (100 * own.pivot(index=index, columns="predictor", values="difference")).reindex(
        index=down, columns=across
    )
    reading = own.pivot(index=index, columns="predictor", values="reading").reindex(index=down, columns=across)
    labels = points.map(lambda value: "" if value != value else signed(value, 1))
    sns.heatmap(
        points, ax=axes, annot=labels, fmt="", cmap="PuOr", center=0, vmin=-limit, vmax=limit,
        cbar=bar, cbar_kws={"label": "points of accuracy", "aspect": aspect}, linewidths=1, annot_kws={"size": size},
    )  # fmt: skip
    clear = reading.isin(["better", "worse"]).to_numpy()[
        points.notna().to_numpy()
    ]  # cells without a number have no text
    for text, certain in zip(axes.texts, clear, strict=True):
        text.set(fontweight="bold" if certain else "normal", alpha=1.0 if certain else 0.6)
    axes.set(xlabel="", ylabel="")
    axes.set_xticklabels([PROBE_NAMES.get(name, name) for name in across], rotation=30, ha="right")
    axes.set_yticklabels(down, rotation=0)
