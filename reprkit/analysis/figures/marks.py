"""What several figures draw alike: dodged marks with whiskers, honest axes, notes and legends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.reporting.seeds import OVER_SAMPLES, OVER_SEEDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GROUP_WIDTH = 0.7
SEED_SHIFT = 0.06
"""How far left of its mark the dots of the seeds stand."""

MOST_BESIDE = 8
"""So many encoders stand side by side; more have a row each."""

ROW = 0.155
"""Height of a row in inches."""


def offsets(encoders: Sequence[str]) -> dict[str, float]:
    """Horizontal place of each encoder's mark within a group, centred on 0."""
    if len(encoders) == 1:
        return {encoders[0]: 0.0}
    step = min(GROUP_WIDTH / (len(encoders) - 1), 0.2)
    return {name: (i - (len(encoders) - 1) / 2) * step for i, name in enumerate(encoders)}


def draw_groups(
    axes: Axes,
    summary: pd.DataFrame,
    rows: pd.DataFrame,
    *,
    encoders: Sequence[str],
    group: str,
    groups: Sequence[str],
    value: str = "value",
) -> None:
    """One mark an encoder and group, with whiskers from `low` to `high` and a dot for each of several seeds.

    Args:
        axes: where to draw; group g is at x = g.
        summary: result of `over_seeds` by encoder and `group`.
        rows: the rows behind it, one a seed, with `value`.
        encoders: all encoders of the figure in order, so that each has the same colour and place in every panel.
        group: column of the groups; groups: its values, left to right.
    """
    look, place = style.encoder_styles(encoders), offsets(encoders)
    for encoder in encoders:
        own = summary[(summary["encoder"] == encoder) & summary[group].isin(groups) & np.isfinite(summary["value"])]
        if not len(own):
            continue
        x = np.array([groups.index(name) for name in own[group]]) + place[encoder]
        y = own["value"].to_numpy(float)
        # An interval can be unknown (NaN: no whisker) or unbounded (drawn past the end of the axis).
        whisker = np.stack([y - own["low"].to_numpy(float), own["high"].to_numpy(float) - y])
        whisker = np.nan_to_num(np.maximum(whisker, 0), nan=0.0, posinf=1e6)
        axes.errorbar(
            x,
            y,
            yerr=whisker,
            linestyle="none",
            markersize=5.5,
            elinewidth=1.3,
            label=encoder,
            zorder=3,
            **look[encoder],
        )
        several = own.loc[(own["n_seeds"] > 1).to_numpy(), group]
        dots = rows[(rows["encoder"] == encoder) & rows[group].isin(several)]
        if len(dots):
            at = np.array([groups.index(name) for name in dots[group]]) + place[encoder] - SEED_SHIFT
            axes.scatter(
                at, dots[value], s=9, facecolors="white", edgecolors=look[encoder]["color"], linewidths=0.7, zorder=4,
                label=f"_seeds {encoder}",
            )  # fmt: skip
    axes.set_xticks(range(len(groups)))
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.grid(visible=True, axis="y")
    axes.ticklabel_format(axis="y", useOffset=False)
    for edge in np.arange(len(groups) - 1) + 0.5:
        axes.axvline(edge, color="#F0F0F0", linewidth=0.8, zorder=0)


def draw_rows(
    axes: Axes, summary: pd.DataFrame, rows: pd.DataFrame, *, encoders: Sequence[str], value: str = "value"
) -> None:
    """One encoder a row, from the top: a mark, with whiskers from `low` to `high` and a dot for each of several seeds.

    A thin line goes through vanilla's mark; every other method with its additions is on a grey band.

    Args:
        axes: where to draw; row i is at y = i, downwards.
        summary: result of `over_seeds` by encoder.
        rows: the rows behind it, one a seed, with `value`.
        encoders: all encoders of the figure, in order.
    """
    look = style.encoder_styles(encoders)
    for encoder in encoders:
        own = summary[(summary["encoder"] == encoder) & np.isfinite(summary["value"])]
        if not len(own):
            continue
        at, x = encoders.index(encoder), float(own["value"].iloc[0])
        whisker = np.array([[x - float(own["low"].iloc[0])], [float(own["high"].iloc[0]) - x]])
        whisker = np.nan_to_num(np.maximum(whisker, 0), nan=0.0, posinf=1e6)
        axes.errorbar(
            [x], [at], xerr=whisker, linestyle="none", markersize=4, elinewidth=1.0, capsize=0, label=encoder, zorder=3,
            **look[encoder],
        )  # fmt: skip
        if int(own["n_seeds"].iloc[0]) > 1:
            dots = rows.loc[rows["encoder"] == encoder, value]
            axes.scatter(
                dots, np.full(len(dots), at + 0.3), s=4, facecolors="white", edgecolors=look[encoder]["color"],
                linewidths=0.5, zorder=4, label=f"_seeds {encoder}",
            )  # fmt: skip
        if encoder == "vanilla":
            axes.axvline(x, color=look[encoder]["color"], linewidth=0.7, zorder=1, label="_vanilla")
    for band in family_bands(encoders):
        axes.axhspan(*band, color="#F4F4F4", zorder=0, linewidth=0)
    axes.set_ylim(len(encoders) - 0.4, -0.6)
    axes.set_yticks(range(len(encoders)), style.row_names(encoders))
    axes.tick_params(axis="y", length=0, labelsize=7)
    axes.tick_params(axis="x", labelsize=7)
    axes.grid(visible=True, axis="x")
    axes.ticklabel_format(axis="x", useOffset=False)


def family_bands(encoders: Sequence[str]) -> list[tuple[float, float]]:
    """Rows (from, to) of every other method with its additions, where encoders stand one below the other."""
    bases = [style.split_label(name)[0] for name in encoders]
    starts = [i for i, base in enumerate(bases) if i == 0 or base != bases[i - 1]]
    ends = [*starts[1:], len(bases)]
    return [(start - 0.5, end - 0.5) for start, end in list(zip(starts, ends, strict=True))[1::2]]


def limits(
    *values: Any, bounds: tuple[float, float] = (-np.inf, np.inf), keep: float = np.nan
) -> tuple[float, float, bool]:
    """Ends of an axis that shows all finite `values`, with a margin, inside `bounds`; and whether `keep` is in view.

    `keep` (a floor) is shown too unless the values would then fill less than a third of the axis. NaN without values.
    """
    shown = np.concatenate([np.asarray(v, float).ravel() for v in values])
    shown = shown[np.isfinite(shown)]
    if not len(shown):
        return np.nan, np.nan, False
    low, high = max(float(shown.min()), bounds[0]), min(float(shown.max()), bounds[1])
    span = max(high - low, 1e-9)
    full = max(high, keep) - min(low, keep)
    visible = bool(np.isfinite(keep) and (span >= full / 3 or full <= 0.05))
    if visible:
        low, high = min(low, keep), max(high, keep)
    margin = max(0.07 * (high - low), 0.02 * max(abs(high), abs(low), 1e-3))
    return low - margin, high + margin, visible


def fit_y(axes: Axes, *values: Any, bounds: tuple[float, float] = (-np.inf, np.inf), keep: float = np.nan) -> bool:
    """Let the vertical axis span `limits`; returns whether `keep` is in view.

    If `keep` is left out, or the axis does not reach down to a bound of 0, it carries a break mark.
    """
    low, high, visible = limits(*values, bounds=bounds, keep=keep)
    if not np.isfinite(low):
        return False
    axes.set_ylim(low, high)
    axes.locator_params(axis="y", nbins=6)
    if (not visible and np.isfinite(keep)) or (bounds[0] == 0 and low > 0):
        break_mark(axes)
    return visible


def fit_rows(
    axes: Axes,
    summary: pd.DataFrame,
    rows: pd.DataFrame,
    *,
    encoders: Sequence[str],
    value: str = "value",
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> None:
    """Let the horizontal axis of `draw_rows` span `limits`; its arguments are those.

    There is no break mark: nothing is a bar from 0. If single alone would squeeze all others into less than 40% of the
    axis, the axis spans the others, and single's value is printed at the end that it lies beyond.
    """

    def ends(names: Sequence[str]) -> tuple[float, float]:
        own, dots = summary[summary["encoder"].isin(names)], rows[rows["encoder"].isin(names)]
        return limits(own[["value", "low", "high"]], dots[value], bounds=bounds)[:2]

    low, high = ends(encoders)
    if not np.isfinite(low):
        return
    others = [name for name in encoders if name != "single"]
    inner = ends(others)
    if len(others) < len(encoders) and inner[1] - inner[0] < 0.4 * (high - low):
        low, high = inner
        x = float(summary.loc[summary["encoder"] == "single", "value"].iloc[0])
        if not low <= x <= high:
            axes.text(
                0.02 if x < low else 0.98, encoders.index("single"), f"◂ {x:.2f}" if x < low else f"{x:.2f} ▸",
                transform=axes.get_yaxis_transform(), ha="left" if x < low else "right", va="center", fontsize=6.5,
                color=style.encoder_styles(["single"])["single"]["color"], zorder=5,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},  # not struck out by its own whisker
            )  # fmt: skip
    axes.set_xlim(low, high)
    axes.locator_params(axis="x", nbins=4)


def plain_log(axes: Axes, axis: str = "y") -> None:
    """A logarithmic axis (`y` or `x`) whose ticks are plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set(**{f"{axis}scale": "log"})
    which = axes.yaxis if axis == "y" else axes.xaxis
    which.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
    which.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    which.set_minor_formatter(NullFormatter())


def break_mark(axes: Axes) -> None:
    """Two short strokes across the foot of the vertical axis: it does not start where one would expect."""
    for height in (0.015, 0.035):
        axes.plot(
            (-0.018, 0.018), (height - 0.012, height + 0.012), transform=axes.transAxes, color="#444444", linewidth=0.9,
            clip_on=False, zorder=5, label="_break",
        )  # fmt: skip


def note_status(axes: Axes, x: float, status: str, colour: str) -> None:
    """Print a status where a mark is missing."""
    axes.text(
        x, 0.04, status, transform=axes.get_xaxis_transform(), rotation=90, ha="center", va="bottom",
        fontsize=6.5, color=colour, zorder=5,
    )  # fmt: skip


def encoder_legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend above all panels, in encoder order, in lines of equal length that fit the figure."""
    handles: dict[str, Any] = {}
    for panel in axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    order = style.encoder_order(handles)
    if order:
        names = [style.display(name) for name in order]
        fit = int(figure.get_figwidth() / (0.075 * max(map(len, names)) + 0.5))
        lines = -(-len(order) // max(1, min(fit, 6)))
        figure.legend(
            [handles[name] for name in order], names, loc="outside upper center", ncols=-(-len(order) // lines)
        )  # fmt: skip


def note(figure: Figure, text: str) -> None:
    """A small line of explanation under all panels, broken where the figure is too narrow for it."""
    figure.supxlabel(text, fontsize=7.5, color=style.GREY, wrap=True)


def interval_note(summary: pd.DataFrame, *, one_seed: str = "95% bootstrap over test samples") -> str:
    """What the marks, whiskers and dots of a figure mean; `one_seed` names the interval that rows bring along."""
    several = summary[summary["n_seeds"] > 1]["n_seeds"]
    parts = []
    if len(several):
        least, most = int(several.min()), int(several.max())
        count = f"{most}" if least == most else f"{least} to {most}"
        parts.append(f"marks: mean over {count} seeds, open dots: the seeds")
        if (summary["interval"] == OVER_SEEDS).any():
            parts.append("whiskers: 95% Student interval over seeds")
    if (summary["interval"] == OVER_SAMPLES).any():
        parts.append(("one seed: " if len(several) else "one seed; whiskers: ") + one_seed)
    text = "; ".join(parts)
    return text[:1].upper() + text[1:] + "." if parts else ""


def chosen_note(shown: Sequence[str], known: Sequence[str]) -> str:
    """Says that a figure shows some of the encoders, chosen by `style.pictured`; empty if it shows all."""
    if len(shown) == len(known):
        return ""
    return (
        f"\n{len(shown)} of {len(known)} encoders, chosen by name, not by result: methods alone and with DGR,"
        " those of the paper's Figure 2 first."
    )


def rows_note(encoders: Sequence[str], text: str) -> str:
    """`interval_note` under a figure of `draw_rows`, in two lines."""
    line = " Vertical line: Vanilla." if "vanilla" in encoders else ""
    return f"{text}\nEvery panel has a scale of its own, which need not start at 0.{line}"


def grid(figure: Figure, count: int, *, columns: int, sharey: bool = False) -> list[Axes]:
    """`count` panels in rows of at most `columns`; the unused corner stays empty."""
    columns = max(1, min(columns, count))
    rows = -(-count // columns)
    made = np.atleast_1d(figure.subplots(rows, columns, squeeze=False, sharey=sharey)).ravel()
    for spare in made[count:]:
        spare.remove()
    return list(made[:count])
