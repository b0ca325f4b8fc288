"""What DGR, SAM and PTA add to Vanilla and to other methods: the paper's Figure 2, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.figures import marks
from reprkit.analysis.reporting.gains import addition_gains, gain_sentence, seed_gains
from reprkit.analysis.reporting.joined import load_folders
from reprkit.analysis.reporting.results import Results
from reprkit.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Multi-task gain of methods alone and with additions"
COLOURS = {"": "#0072B2", "dgr": "#D55E00", "sam": "#009E73", "pta": "#CC79A7"}
"""Of additions: the axis names the methods here."""


def chosen_bases(results: Results, bases: Sequence[str] = ()) -> list[str]:
    """Methods to show: `bases`, or those of the results that have an addition and a multi-task gain.

    Raises:
        InputError: none has, or one of `bases` is not among them.
    """
    gains = seed_gains(results)
    known = list(dict.fromkeys(addition_gains(gains)["method"]))
    if not known:
        added = [name for name in results.encoders if style.split_label(name)[1]]
        if not added:
            raise InputError(
                f"{results.folder}: no method has an addition; add some such as vanilla+dgr to the recipe's methods"
            )
        raise InputError(
            f"{results.folder}: no multi-task gain without single-task encoders; add single to the recipe's methods"
        )
    unknown = [name for name in bases if name not in known]
    if unknown:
        raise InputError(
            f"--bases: {results.folder} has no '{unknown[0]}' with an addition; choose from {', '.join(known)}"
        )
    return list(dict.fromkeys(bases)) or known


def additions_figure(gains: pd.DataFrame, bases: Sequence[str] = ()) -> Figure:
    """Multi-task gain (the paper's equation 6) of each method alone and with each addition, a group a method.

    Marks are means over seeds with Student's 95% interval, open dots the seeds; the dashed line in a group is the
    method alone.

    Args:
        gains: rows of `reprkit.analysis.reporting.gains.seed_gains`.
        bases: methods to show, in this order; none takes all that have an addition, in the paper's order.

    Raises:
        InputError: no method has an addition.
    """
    table = addition_gains(gains)
    bases = list(bases) or list(dict.fromkeys(table["method"]))
    table = table[table["method"].isin(bases)]
    if not len(table):
        raise InputError("additions figure: no method has an addition; train vanilla+dgr or another first")
    order = {name: i for i, name in enumerate(_addition_order(table["addition"]))}
    with style.context():
        figure = style.new_figure(max(0.25 * len(order) * len(bases) + 1.0, 4.6), 3.4)
        axes = figure.subplots()
        step = min(0.75 / max(len(order) - 1, 1), 0.2)
        for row in table.to_dict("records"):
            addition, place = row["addition"], bases.index(row["method"])
            x = place + (order[addition] - (len(order) - 1) / 2) * step
            look: dict[str, Any] = {"color": COLOURS.get(addition, "#000000"), "marker": _marker(addition)}
            ends = np.nan_to_num(np.array([[row["delta"] - row["low"]], [row["high"] - row["delta"]]]), nan=0.0)
            axes.errorbar(
                [x], [row["delta"]], yerr=ends, linestyle="none", markersize=5.5, elinewidth=1.3,
                label=row["encoder"], zorder=3, **look,
            )  # fmt: skip
            if addition == "":
                axes.plot(
                    [place - 0.45, place + 0.45], [row["delta"]] * 2, color=look["color"], linewidth=0.9,
                    linestyle=(0, (4, 3)), zorder=1, label=f"_alone {row['method']}",
                )  # fmt: skip
            dots = gains.loc[gains["encoder"] == row["encoder"], "delta"]
            if len(dots) > 1:
                axes.scatter(
                    np.full(len(dots), x - marks.SEED_SHIFT), dots, s=9, facecolors="white", edgecolors=look["color"],
                    linewidths=0.7, zorder=4, label=f"_seeds {row['encoder']}",
                )  # fmt: skip
        axes.set_xticks(range(len(bases)), [style.display(name) for name in bases])
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.55, len(bases) - 0.45)
        for edge in np.arange(len(bases) - 1) + 0.5:
            axes.axvline(edge, color="#F0F0F0", linewidth=0.8, zorder=0)
        axes.grid(visible=True, axis="y")
        marks.fit_y(axes, table[["delta", "low", "high"]], gains.loc[gains["encoder"].isin(table["encoder"]), "delta"])
        axes.set_ylabel("Multi-task gain Δ (%)")
        _legend(figure, list(order))
        alone = " Dashed: the method alone." if (table["addition"] == "").any() else ""
        text = marks.interval_note(table) or "One seed: no interval."
        marks.note(figure, f"{text}{alone}\n{gain_sentence(table)}".strip())
    return figure


def write_figure2(
    folders: str | Path | Sequence[str | Path], out: str | Path, *, bases: Sequence[str] = ()
) -> list[Path]:
    """Write the paper's Figure 2 as `figure2.pdf`, `.png` and `.csv`.

    Args:
        folders: one or more that `reprkit run` wrote, of the same data.
        out: where to write.
        bases: methods to show; none takes those that have an addition, in the paper's order.

    Returns:
        The paths written.

    Raises:
        InputError: no method has an addition, or one of `bases` has none, or there are no single-task encoders.
    """
    results = load_folders(folders)
    chosen = chosen_bases(results, bases)
    gains = seed_gains(results)
    table = addition_gains(gains)
    data = pd.concat([table[table["method"] == base] for base in chosen], ignore_index=True)
    return style.save(additions_figure(gains, chosen), Path(out) / "figure2", data, title=TITLE)


def _addition_order(additions: pd.Series) -> list[str]:
    """Distinct additions, none first, in the order of a method's encoders."""
    labels = style.encoder_order("+".join(part for part in ("vanilla", addition) if part) for addition in additions)
    return ["+".join(style.split_label(label)[1]) for label in labels]


def _marker(addition: str) -> str:
    return style.ADDITION_MARKERS[tuple(part for part in addition.split("+") if part)]


def _legend(figure: Figure, additions: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="none", marker=_marker(a), color=COLOURS.get(a, "#000000"), markersize=5.5)
        for a in additions
    ]
    names = [
        "+ " + " + ".join(style.ADDITION_NAMES[part] for part in a.split("+")) if a else "alone" for a in additions
    ]
    figure.legend(handles, names, loc="outside upper center", ncols=len(handles))
