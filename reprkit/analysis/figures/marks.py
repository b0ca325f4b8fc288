"""What several figures draw alike: dodged marks with whiskers, honest axes, notes and legends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.seeds import OVER_SAMPLES, OVER_SEEDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GROUP_WIDTH = 0.7
SEED_SHIFT = 0.06
"""How far left of its mark the dots of the seeds stand."""


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


def fit_y(axes: Axes, *values: Any, bounds: tuple[float, float] = (-np.inf, np.inf), keep: float = np.nan) -> bool:
    """Let the vertical axis show all finite `values`, with a margin, inside `bounds`.

    `keep` (a floor) is shown too unless the values would then fill less than a third of the axis. If `keep` is left
    out, or the axis does not reach down to a bound of 0, it carries a break mark. Returns whether `keep` is in view.
    """
    shown = np.concatenate([np.asarray(v, float).ravel() for v in values])
    shown = shown[np.isfinite(shown)]
    if not len(shown):
        return False
    low, high = max(float(shown.min()), bounds[0]), min(float(shown.max()), bounds[1])
    span = max(high - low, 1e-9)
    full = max(high, keep) - min(low, keep)
    visible = bool(np.isfinite(keep) and (span >= full / 3 or full <= 0.05))
    if visible:
        low, high = min(low, keep), max(high, keep)
    margin = max(0.07 * (high - low), 0.02 * max(abs(high), abs(low), 1e-3))
    axes.set_ylim(low - margin, high + margin)
    axes.locator_params(axis="y", nbins=6)
    if (not visible and np.isfinite(keep)) or (bounds[0] == 0 and low - margin > 0):
        break_mark(axes)
    return visible


def plain_log(axes: Axes) -> None:
    """A logarithmic vertical axis whose ticks are plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


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
        x, 0.04, status.replace("_", " "), transform=axes.get_xaxis_transform(), rotation=90, ha="center", va="bottom",
        fontsize=6.5, color=colour, zorder=5,
    )  # fmt: skip


def encoder_legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend above all panels, in encoder order."""
    handles: dict[str, Any] = {}
    for panel in axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    order = style.encoder_order(handles)
    if order:
        figure.legend(
            [handles[name] for name in order], order, loc="outside upper center", ncols=min(len(order), 6)
        )  # fmt: skip


def note(figure: Figure, text: str) -> None:
    """A small line of explanation under all panels."""
    figure.supxlabel(text, fontsize=7.5, color=style.GREY)


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


def grid(figure: Figure, count: int, *, columns: int, sharey: bool = False) -> list[Axes]:
    """`count` panels in rows of at most `columns`; the unused corner stays empty."""
    columns = max(1, min(columns, count))
    rows = -(-count // columns)
    made = np.atleast_1d(figure.subplots(rows, columns, squeeze=False, sharey=sharey)).ravel()
    for spare in made[count:]:
        spare.remove()
    return list(made[:count])


def task_order(names: pd.Series, known: Sequence[str] = ()) -> list[str]:
    """Task names in the order of `known` tasks, then in order of appearance."""
    found = [str(name) for name in dict.fromkeys(names)]
    return [name for name in known if name in found] + [name for name in found if name not in known]
