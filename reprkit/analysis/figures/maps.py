"""t-SNE maps side by side: the paper's Figure 3(b), on the same samples for every encoder, with their quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.figures import marks
from reprkit.analysis.tsne import align
from reprkit.errors import InputError
from reprkit.tasks import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KEY_COLUMNS = ("encoder", "seed", "task", "id", "x", "y")
MAX_TICKS = 10
PANEL, SMALL_PANEL = 2.55, 2.0
"""Height of a row in inches, and with more than `MOST_LARGE` encoders, which stand in two blocks."""
MOST_LARGE, MOST_TASKS = 4, 4


def tsne_figure(
    frame: pd.DataFrame,
    tasks: Mapping[str, Task] | None = None,
    quality: pd.DataFrame | None = None,
    *,
    seed: int | None = None,
    aligned: bool = True,
) -> Figure:
    """Rows are encoders, columns tasks; every panel shows the same samples, coloured by the task's targets.

    More than four encoders stand in two blocks beside each other.

    Ordinal tasks have a discrete colour bar in class order, classes a legend with a colour and a marker each, missing
    targets are grey. Under a panel stands what its map keeps: NH@10 (neighbourhood hit, with chance in brackets),
    recall@10 and KL. Of more than 12 encoders, the 12 of `style.pictured` are shown, and the note says so.

    Args:
        frame: rows of tsne.csv.
        tasks: task records; None infers them from the target columns.
        quality: rows of tsne_quality.csv.
        seed: training seed to show; None takes the lowest.
        aligned: rotate or reflect every map onto that of the first encoder with a map of the same samples, so that
            they can be compared by eye; the orientation of a t-SNE map is arbitrary.

    Raises:
        InputError: there is no map of that seed.
    """
    frame = frame.assign(task=frame["task"].fillna("").astype(str))
    names = [c for c in frame.columns if c not in KEY_COLUMNS]
    records = {name: (tasks or {}).get(name) or infer_task(name, frame[name]) for name in names}
    names = marks.task_order(pd.Series(names), list(tasks or ()))
    seed = int(frame["seed"].min()) if seed is None and len(frame) else seed
    shown = frame[frame["seed"] == seed]
    if not len(shown) or not names:
        raise InputError(f"t-SNE figure: there is no map of seed {seed}; make the maps first")
    known = style.encoder_order(shown["encoder"])
    encoders = style.pictured(known)
    reference = _reference(shown, encoders) if aligned else None
    with style.context():
        small = len(encoders) > MOST_LARGE
        panel = SMALL_PANEL if small else PANEL
        blocks = 2 if small and len(names) <= MOST_TASKS else 1
        rows, columns = -(-len(encoders) // blocks), blocks * len(names)
        legend = 0.12 + 0.16 * max(map(_legend_rows, records.values()))
        spare = 0.5 + 0.18 * rows * small
        figure = style.new_figure(max((panel - 0.2) * columns + 0.5, 4.4), panel * rows + legend + spare)
        layout = figure.subplots(rows + 1, columns, squeeze=False, height_ratios=[panel] * rows + [legend])
        for number in range(blocks * rows):
            block, row = divmod(number, rows)
            for name, axes in zip(names, layout[row, block * len(names) :], strict=False):
                if number >= len(encoders):
                    axes.remove()
                    continue
                encoder = encoders[number]
                own = shown[(shown["encoder"] == encoder) & shown["task"].isin(["", name])]
                _panel(axes, own, records[name], reference)
                told = _caption(quality, encoder, seed, own["task"].iloc[0] if len(own) else "", name)
                axes.set_xlabel(told.replace(" · ", "\n", 1) if small else told, fontsize=6.5 if small else 7)
                if name == names[0]:
                    axes.set_ylabel(style.display(encoder), fontsize=9.5, fontweight="bold")
                if row == 0:
                    axes.set_title(name)
        for name, axes in zip(names * blocks, layout[-1], strict=True):
            _key(axes, records[name], shown[name])
        counts = shown.groupby(["encoder", "task"]).size()
        marks.note(
            figure,
            f"The same {int(counts.max())} samples in every panel, seed {seed}. NH@10: share of the 10 nearest points"
            " on the map\nwith the same label (in brackets: if labels were dealt at random). Sizes of clusters and"
            f" distances between them mean little.{marks.chosen_note(encoders, known)}",
        )
    return figure


def infer_task(name: str, targets: pd.Series) -> Task:
    """A task record guessed from a target column: whole numbers are class indices."""
    values = targets.dropna().to_numpy()
    if len(values) and (values == np.round(values)).all():
        return Task(name, "classification", max(int(values.max()) + 1, 2))
    return Task(name, "regression", 1)


def _reference(shown: pd.DataFrame, encoders: Sequence[str]) -> pd.DataFrame | None:
    """Coordinates by id of the first encoder that has one map for all tasks, else of the first map."""
    whole = [name for name in encoders if (shown.loc[shown["encoder"] == name, "task"] == "").any()]
    own = shown[shown["encoder"] == (whole or encoders)[0]]
    own = own[own["task"] == own["task"].iloc[0]]
    return pd.DataFrame(own.drop_duplicates("id").set_index("id")[["x", "y"]])


def _panel(axes: Axes, own: pd.DataFrame, task: Task, reference: pd.DataFrame | None) -> None:
    axes.set(xticks=[], yticks=[])
    axes.set_box_aspect(1)
    for spine in axes.spines.values():
        spine.set(visible=True, color=style.LIGHT)
    points = own[["x", "y"]].to_numpy(float)
    if not len(points) or not np.ptp(points, axis=0).any():
        axes.text(0.5, 0.5, "no map", transform=axes.transAxes, ha="center", va="center", color=style.GREY)
        return
    if reference is not None and own["id"].isin(reference.index).all():
        points = align(points, reference.loc[own["id"]].to_numpy(float))
    points = points - (points.min(axis=0) + points.max(axis=0)) / 2
    half = 1.06 * np.abs(points).max()
    axes.set(xlim=(-half, half), ylim=(-half, half))
    targets = own[task.name].to_numpy()
    valid = np.asarray(task.valid(targets), bool)
    size = float(np.clip(6000 / len(points), 2.0, 16.0))
    common: dict[str, Any] = {"s": size, "linewidths": 0, "rasterized": True}
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
    if task.kind == "classification":  # a marker for each point in one collection: no class is drawn above another
        paths = [_marker_path(style.CLASS_MARKERS[c % len(style.CLASS_MARKERS)]) for c in range(task.num_outputs)]
        drawn.set_paths([paths[c] for c in classes])


def _marker_path(marker: str) -> Any:
    from matplotlib.markers import MarkerStyle

    made = MarkerStyle(marker)
    return made.get_path().transformed(made.get_transform())


def _caption(quality: pd.DataFrame | None, encoder: str, seed: int | None, map_task: str, task: str) -> str:
    """What the map of one panel keeps of its embedding, as one line."""
    if quality is None or not len(quality):
        return ""
    own = quality[(quality["encoder"] == encoder) & (quality["seed"] == seed)]
    own = own[own["task"].fillna("").astype(str) == map_task]
    if not len(own):
        return ""
    row = own.iloc[0]
    if not np.isfinite(row["kl"]):
        return str(row.get("status", "no map"))
    parts = []
    if np.isfinite(row.get(f"hit_{task}", np.nan)):
        chance = row.get(f"chance_{task}", np.nan)
        parts.append(f"NH@10 {row[f'hit_{task}']:.2f}" + (f" ({chance:.2f})" if np.isfinite(chance) else ""))
    return " · ".join([*parts, f"recall@10 {row['knn_recall']:.2f}", f"KL {row['kl']:.2f}"])


def _legend_rows(task: Task) -> int:
    return 2 if task.kind != "classification" else -(-task.num_outputs // _legend_columns(task))


def _legend_columns(task: Task) -> int:
    longest = max(map(len, task.class_names))
    return max(1, min(task.num_outputs, 5, 24 // (longest + 3)))


def _key(axes: Axes, task: Task, targets: pd.Series) -> None:
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
