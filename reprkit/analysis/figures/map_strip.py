"""Several maps of the same samples in a row, and new samples on a map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.figures import marks
from reprkit.analysis.figures.map_panels import (
    caption,
    draw_key,
    draw_panel,
    first_view,
    in_lines,
    legend_rows,
    reference_of,
    title_of,
    turn_of,
    with_views,
)
from reprkit.analysis.figures.maps import LINE, PANEL, sample_note, task_records
from reprkit.errors import InputError
from reprkit.tasks import Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def strip_figure(
    frame: pd.DataFrame,
    task: str,
    tasks: Mapping[str, Task] | None = None,
    quality: pd.DataFrame | None = None,
    *,
    seed: int | None = None,
) -> Figure:
    """Rows are encoders, columns maps (t-SNE at several perplexities, PCA, LDA), coloured by a task.

    What holds at every perplexity and on the linear maps is in the embedding; what one map alone shows may be its own.
    All panels are turned onto the first encoder's t-SNE map with the perplexity nearest to 30. Captions and the choice
    of encoders are those of `tsne_figure`.

    Args:
        frame: rows of tsne.csv.
        task: whose targets colour the points. Discriminant planes of other tasks are left out.
        tasks: task records; None infers them from the target columns.
        quality: rows of tsne_quality.csv.
        seed: training seed to show; None takes the lowest.

    Raises:
        InputError: there is no map of that seed, or no such task.
    """
    frame, quality = with_views(frame, quality)
    records = task_records(frame, tasks)
    seed = int(frame["seed"].min()) if seed is None and len(frame) else seed
    shown = frame[(frame["seed"] == seed) & ~(frame["map"].str.startswith("lda:") & (frame["map"] != f"lda:{task}"))]
    shown = shown[shown["task"].isin(["", task])]
    views = list(dict.fromkeys(shown["view"]))
    if task not in records or not views:
        raise InputError(f"map figure: there is no map of task '{task}', seed {seed}; make the maps first")
    record = records[task]
    known = style.encoder_order(shown["encoder"])
    encoders = style.pictured(known)
    reference = reference_of(shown, encoders, first_view(views))
    with style.context():
        legend = 0.12 + 0.16 * legend_rows(record)
        height = (PANEL + 0.12) * len(encoders) + legend + 0.75 + 0.15 * len(views)
        figure = style.new_figure(max((PANEL - 0.2) * len(views) + 0.5, 4.4), height)
        grid = figure.add_gridspec(len(encoders) + 1, len(views), height_ratios=[PANEL] * len(encoders) + [legend])
        for row, encoder in enumerate(encoders):
            for column, view in enumerate(views):
                axes = figure.add_subplot(grid[row, column])
                own = shown[(shown["encoder"] == encoder) & (shown["view"] == view)]
                draw_panel(axes, own, record, turn_of(own, reference))
                told = caption(quality, encoder, seed, own["task"].iloc[0] if len(own) else "", task, view)
                axes.set_xlabel(in_lines(told, LINE), fontsize=7)
                if column == 0:
                    axes.set_ylabel(style.display(encoder), fontsize=9.5, fontweight="bold")
                if row == 0:
                    axes.set_title(title_of(view))
        middle = (len(views) - 1) // 2
        draw_key(figure.add_subplot(grid[-1, middle : len(views) - middle]), record, shown[task])
        kinds = list(dict.fromkeys(view.partition("@")[0].partition(":")[0] for view in views))
        marks.note(figure, f"Colour: {task}. {sample_note(shown, seed, kinds)}{marks.chosen_note(encoders, known)}")
    return figure


def placed_figure(
    frame: pd.DataFrame,
    placed: pd.DataFrame,
    tasks: Mapping[str, Task] | None = None,
    quality: pd.DataFrame | None = None,
) -> Figure:
    """Rows are maps of one encoder, columns tasks: new samples in colour, over the mapped ones in grey.

    Args:
        frame: rows of tsne.csv, of one encoder and seed.
        placed: rows of placed.csv.
        tasks: task records; None infers them from the target columns.
        quality: rows of placed_quality.csv.

    Raises:
        InputError: no sample was placed, or the new ones have no task.
    """
    frame = frame.assign(new=False)
    both, quality = with_views(pd.concat([frame, placed.assign(new=True)], ignore_index=True), quality)
    shown = both[both["new"]].drop(columns="new")
    records = task_records(shown.dropna(axis="columns", how="all"), tasks)
    views = list(dict.fromkeys("lda" if view.startswith("lda:") else view for view in shown["view"]))
    if not views or not records:
        raise InputError("map figure: there are no placed samples with a task; place some first")
    encoder, seed = str(shown["encoder"].iloc[0]), int(shown["seed"].iloc[0])
    with style.context():
        legend = 0.12 + 0.16 * max(map(legend_rows, records.values()))
        figure = style.new_figure(max((PANEL - 0.2) * len(records) + 0.5, 4.4), PANEL * len(views) + legend + 0.7)
        layout = figure.subplots(
            len(views) + 1, len(records), squeeze=False, height_ratios=[PANEL] * len(views) + [legend]
        )
        for row, title in enumerate(views):
            for (name, record), axes in zip(records.items(), layout[row], strict=True):
                view = f"lda:{name}" if title == "lda" else title  # each task on its own plane
                own = shown[shown["view"] == view]
                mapped = both[~both["new"].astype(bool) & (both["view"] == view)]
                draw_panel(axes, own, record, turn_of(own, None), behind=mapped)
                told = caption(quality, encoder, seed, str(shown["task"].iloc[0]), name, view)
                axes.set_xlabel(in_lines(told, LINE), fontsize=7)
                if row == 0:
                    axes.set_title(name)
            layout[row, 0].set_ylabel(title_of(title), fontsize=9.5, fontweight="bold")
        for (name, record), axes in zip(records.items(), layout[-1], strict=True):
            draw_key(axes, record, shown[name])
        marks.note(
            figure,
            f"{style.display(encoder)}: {placed['id'].nunique()} new samples, in colour, on maps of"
            f" {frame['id'].nunique()} others, in grey, which did not move.\nNH@10: share of the 10 nearest mapped"
            " samples with the same label (in brackets: by chance).\nrecall@10: share of the 10 mapped samples nearest"
            " in z that are nearest on the map.",
        )
    return figure
