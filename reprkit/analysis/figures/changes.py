"""Where an encoder wins and loses against another: a heat map of paired differences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.figures.probes import PROBE_NAMES

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def changes_figure(changes: pd.DataFrame) -> Figure:
    """Differences in percentage points, tasks down and predictors across, a panel a pair of encoders.

    A cell whose 95% interval excludes 0 is bold; the others are noise as far as these results tell. Colours run alike
    in all panels.

    Args:
        changes: rows of `reprkit.analysis.differences.differences`; accuracy only is drawn.

    Raises:
        ValueError: no row of accuracy.
    """
    import seaborn as sns

    shown = changes[changes["metric"] == "accuracy"]
    if shown.empty:
        raise ValueError("no differences of accuracy to draw")
    pairs = list(shown[["encoder", "baseline"]].drop_duplicates().itertuples(index=False, name=None))
    limit = max(100 * float(shown["difference"].abs().max()), 1.0)
    with style.context():
        rows = shown["task"].nunique()
        figure = style.new_figure(style.TEXT_WIDTH, 1.5 + 0.36 * rows)
        panels = figure.subplots(1, len(pairs), squeeze=False)[0]
        for axes, (encoder, baseline) in zip(panels, pairs, strict=True):
            own = shown[(shown["encoder"] == encoder) & (shown["baseline"] == baseline)]
            order = list(dict.fromkeys(own["task"])), list(dict.fromkeys(own["predictor"]))
            points = (100 * own.pivot(index="task", columns="predictor", values="difference")).loc[order[0], order[1]]
            reading = own.pivot(index="task", columns="predictor", values="reading").loc[order[0], order[1]]
            labels = points.map("{:+.1f}".format)
            sns.heatmap(
                points, ax=axes, annot=labels, fmt="", cmap="PuOr", center=0, vmin=-limit, vmax=limit,
                cbar=axes is panels[-1], cbar_kws={"label": "points of accuracy"}, linewidths=1, annot_kws={"size": 8},
            )  # fmt: skip
            clear = reading.isin(["better", "worse"]).to_numpy().ravel()
            for text, certain in zip(axes.texts, clear, strict=True):
                text.set(fontweight="bold" if certain else "normal", alpha=1.0 if certain else 0.6)
            axes.set(xlabel="", ylabel="", title=f"{encoder} minus {baseline}")
            axes.set_xticklabels([PROBE_NAMES.get(name, name) for name in order[1]], rotation=30, ha="right")
            axes.set_yticklabels(order[0], rotation=0)
        figure.supxlabel("Bold: the 95% interval of the paired difference excludes 0.", fontsize=8, color=style.GREY)
    return figure
