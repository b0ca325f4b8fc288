"""One panel of a map: its points, what it keeps of the embedding, and the key of a task's colours."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reprkit.analysis import style
from reprkit.analysis.maps.plane import turn_onto
from reprkit.tasks import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_TICKS = 10
MOST_MARKED = 5000
"""More points than this are dots: shapes of so many could not be seen, and take long to draw."""

Turn = tuple[NDArray[np.float64], NDArray[np.float64]]
"""A rotation or reflection [2, 2] and the centre [2] about which it turns."""


def with_views(frame: pd.DataFrame, quality: pd.DataFrame | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables with a column `view` that names a map: `tsne`, `pca`, `lda:<task>`; `tsne@30` if there are several.

    Tables from before maps had a name hold t-SNE.
    """
    frame = frame.assign(task=frame["task"].fillna("").astype(str))
    frame = frame.assign(map=frame["map"].fillna("tsne") if "map" in frame else "tsne")
    if quality is None or not len(quality):
        quality = pd.DataFrame(columns=["encoder", "seed", "task", "map", "view", "kl", "status"])
    else:
        quality = quality.assign(task=quality["task"].fillna("").astype(str))
        quality = quality.assign(map=quality["map"].fillna("tsne") if "map" in quality else "tsne")
    several = "perplexity" in frame and frame["perplexity"].nunique() > 1
    return tuple(table.assign(view=_views(table, several)) for table in (frame, quality))  # type: ignore[return-value]


def _views(table: pd.DataFrame, several: bool) -> Any:
    if not several or not len(table):
        return table["map"]
    used = table["perplexity"].map(lambda p: "" if pd.isna(p) else f"@{p:.6g}")
    return table["map"] + used


def title_of(view: str) -> str:
    """What a reader calls a view."""
    kind, _, perplexity = view.partition("@")
    name = {"tsne": "t-SNE", "pca": "PCA"}.get(kind, "LDA")
    return f"{name}, perplexity {float(perplexity):.3g}" if perplexity else name


def first_view(views: Sequence[str]) -> str:
    """The view that others are turned onto: t-SNE of the perplexity nearest to 30, if there is one."""
    ranks = {v: abs(np.log(float(v.partition("@")[2]) / 30)) for v in views if v.startswith("tsne@")}
    return min(ranks, key=ranks.__getitem__) if ranks else views[0]


def reference_of(shown: pd.DataFrame, encoders: Sequence[str], view: str) -> pd.DataFrame | None:
    """Coordinates by id of the first encoder that has one map for all tasks, else of the first map."""
    shown = shown[shown["view"] == view]
    known = [name for name in encoders if (shown["encoder"] == name).any()]
    if not known:
        return None
    whole = [name for name in known if (shown.loc[shown["encoder"] == name, "task"] == "").any()]
    own = shown[shown["encoder"] == (whole or known)[0]]
    own = own[own["task"] == own["task"].iloc[0]]
    return pd.DataFrame(own.drop_duplicates("id").set_index("id")[["x", "y"]])


def turn_of(own: pd.DataFrame, reference: pd.DataFrame | None) -> Turn:
    """How a map is turned onto the reference; not at all if they do not show the same samples."""
    points = own[["x", "y"]].to_numpy(float)
    if reference is not None and len(own) and own["id"].isin(reference.index).all():
        return turn_onto(points, reference.loc[own["id"]].to_numpy(float))
    return np.eye(2), np.zeros(2)


def draw_panel(axes: Axes, own: pd.DataFrame, task: Task, turn: Turn, *, behind: pd.DataFrame | None = None) -> None:
    """The points of one map, coloured by a task's targets; `behind` them others, in grey."""
    axes.set(xticks=[], yticks=[])
    axes.set_box_aspect(1)
    for spine in axes.spines.values():
        spine.set(visible=True, color=style.LIGHT)
    points, others = (
        (f[["x", "y"]].to_numpy(float) - turn[1]) @ turn[0] for f in (own, own[:0] if behind is None else behind)
    )
    every = np.concatenate([points, others])
    if not len(points) or not np.ptp(every, axis=0).any():
        axes.text(0.5, 0.5, "no map", transform=axes.transAxes, ha="center", va="center", color=style.GREY)
        return
    middle = (every.min(axis=0) + every.max(axis=0)) / 2
    points, others = points - middle, others - middle
    half = 1.06 * np.abs(every - middle).max()
    axes.set(xlim=(-half, half), ylim=(-half, half))
    targets = own[task.name].to_numpy()
    valid = np.asarray(task.valid(targets), bool)
    size = float(np.clip(6000 / len(every), 0.4 if len(every) > MOST_MARKED else 2.0, 16.0))
    common: dict[str, Any] = {"s": size, "linewidths": 0, "rasterized": True}
    if len(others):
        axes.scatter(*others.T, color=style.LIGHT, label="_mapped", **common)
        common["s"] = max(size, 6.0)
    x, y = points[valid].T
    if (~valid).any():
        axes.scatter(points[~valid, 0], points[~valid, 1], color=style.LIGHT, label="_missing", **common)
    if not valid.any():
        return
    if task.kind == "regression":
        axes.scatter(x, y, c=targets[valid], cmap="viridis", alpha=0.85, label=task.name, **common)
        return
    classes = targets[valid].astype(int)
    colours = np.array(style.class_colours(task), dtype=object)[classes]
    drawn = axes.scatter(x, y, c=list(colours), alpha=0.85, label=task.name, **common)
    if task.kind == "classification" and len(points) <= MOST_MARKED:
        # a marker for each point in one collection: no class is drawn above another
        paths = [_marker_path(style.CLASS_MARKERS[c % len(style.CLASS_MARKERS)]) for c in range(task.num_outputs)]
        drawn.set_paths([paths[c] for c in classes])


def _marker_path(marker: str) -> Any:
    from matplotlib.markers import MarkerStyle

    made = MarkerStyle(marker)
    return made.get_path().transformed(made.get_transform())


def caption(quality: pd.DataFrame, encoder: str, seed: int | None, map_task: str, task: str, view: str) -> list[str]:
    """What the map of one panel keeps of its embedding, part by part."""
    own = quality[(quality["encoder"] == encoder) & (quality["seed"] == seed) & (quality["view"] == view)]
    own = own[own["task"] == map_task]
    if not len(own):
        return []
    row = own.iloc[0]
    if not str(row["status"]).startswith("ok"):
        return [str(row["status"])]
    parts = []
    if np.isfinite(row.get(f"hit_{task}", np.nan)):
        chance = row.get(f"chance_{task}", np.nan)
        parts.append(f"NH@10 {row[f'hit_{task}']:.2f}" + (f" ({chance:.2f})" if np.isfinite(chance) else ""))
    names = {"knn_recall": "recall@10", "trustworthiness": "trust", "spearman": "Spearman", "kl": "KL"}
    parts += [f"{name} {row[c]:.2f}" for c, name in names.items() if np.isfinite(row.get(c, np.nan))]
    if np.isfinite(row.get("explained", np.nan)):
        parts.append(f"{row['explained']:.0%} of {'variance' if view == 'pca' else 'separation'}")
    return parts


def in_lines(parts: Sequence[str], most: int) -> str:
    """Parts joined to lines of at most `most` characters."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 3 + len(part) <= most:
            lines[-1] += f" · {part}"
        else:
            lines.append(part)
    return "\n".join(lines)


def legend_rows(task: Task) -> int:
    """Lines that the key of a task takes."""
    return 2 if task.kind != "classification" else -(-task.num_outputs // _legend_columns(task))


def _legend_columns(task: Task) -> int:
    longest = max(map(len, task.class_names))
    return max(1, min(task.num_outputs, 5, 24 // (longest + 3)))


def draw_key(axes: Axes, task: Task, targets: pd.Series) -> None:
    """The legend of a column's classes, or its colour bar."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, Normalize
    from matplotlib.lines import Line2D

    axes.axis("off")
    if task.kind == "classification":
        handles = [
            Line2D([], [], linestyle="none", marker=marker, color=colour, markersize=4.5)
            for marker, colour in zip(cycle(style.CLASS_MARKERS), style.class_colours(task), strict=False)
        ]
        columns = _legend_columns(task)
        by_row = [i for column in range(columns) for i in range(column, task.num_outputs, columns)]  # read line by line
        axes.legend(
            [handles[i] for i in by_row], [task.class_names[i] for i in by_row], loc="upper center", ncols=columns,
            fontsize=7, handletextpad=0.1, columnspacing=0.8, borderaxespad=0,
        )  # fmt: skip
        return
    bar = axes.inset_axes((0.03, 0.7, 0.94, 0.28))
    if task.kind == "ordinal":
        norm = BoundaryNorm(np.arange(task.num_outputs + 1) - 0.5, task.num_outputs)
        drawn = axes.figure.colorbar(ScalarMappable(norm, style.ordinal_map(task)), cax=bar, orientation="horizontal")
        every = -(-task.num_outputs // MAX_TICKS)
        ticks = list(range(0, task.num_outputs, every))
        names = [task.class_names[i] for i in ticks]
        drawn.set_ticks(ticks, labels=names)
        bar.tick_params(labelsize=6.5, length=2, rotation=40 if sum(map(len, names)) > 24 else 0)
    else:
        present = targets.dropna()
        low, high = (float(present.min()), float(present.max())) if len(present) else (0.0, 1.0)
        drawn = axes.figure.colorbar(ScalarMappable(Normalize(low, high), "viridis"), cax=bar, orientation="horizontal")
        bar.tick_params(labelsize=6.5, length=2)
        drawn.set_label(task.unit, fontsize=7)
    bar.minorticks_off()
