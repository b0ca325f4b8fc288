"""Maps side by side: the paper's Figure 3(b), on the same samples for every encoder, with their quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    turn_of,
    with_views,
)
from reprkit.analysis.reporting.headlines import task_order
from reprkit.errors import InputError
from reprkit.tasks import Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KEY_COLUMNS = ("encoder", "seed", "task", "map", "perplexity", "view", "id", "x", "y")
PANEL, SMALL_PANEL = 2.55, 2.0
"""Height of a row in inches, and with more than `MOST_LARGE` encoders, which stand in two blocks."""
LINE, SMALL_LINE = 38, 31
"""Characters of a caption that a panel has room for."""
MOST_LARGE, MOST_TASKS = 4, 4
MEANINGS = {
    "tsne": "t-SNE: sizes of clusters and distances between them mean little.",
    "pca": "PCA: distances are those in z, seen from one side, with the share of the variance that is seen.",
    "lda": "LDA: the plane that tells a task's classes apart best, fitted on train, shown on other samples,\nwith its"
    " share of what separates the class means.",
}
"""What a reader may see in a kind of map."""


def tsne_figure(
    frame: pd.DataFrame,
    tasks: Mapping[str, Task] | None = None,
    quality: pd.DataFrame | None = None,
    *,
    kind: str | None = None,
    seed: int | None = None,
    aligned: bool = True,
) -> Figure:
    """Rows are encoders, columns tasks; every panel shows the same samples, coloured by the task's targets.

    More than four encoders stand in two blocks beside each other.

    Ordinal tasks have a discrete colour bar in class order, classes a legend with a colour and a marker each, missing
    targets are grey. Under a panel stands what its map keeps: NH@10 (neighbourhood hit, with chance in brackets),
    recall@10, trustworthiness of 10 neighbours, Spearman's correlation of distances, and KL. Of more than 12 encoders,
    the 12 of `style.pictured` are shown, and the note says so.

    Args:
        frame: rows of tsne.csv.
        tasks: task records; None infers them from the target columns.
        quality: rows of tsne_quality.csv.
        kind: `tsne` (of several, that with the perplexity nearest to 30), `pca` or `lda` (each task on its own plane);
            None takes the kind of the first row.
        seed: training seed to show; None takes the lowest.
        aligned: rotate or reflect every map onto that of the first encoder with a map of the same samples, so that
            they can be compared by eye; the orientation of a map is arbitrary.

    Raises:
        InputError: there is no map of that kind and seed.
    """
    frame, quality = with_views(frame, quality)
    records = task_records(frame, tasks)
    seed = int(frame["seed"].min()) if seed is None and len(frame) else seed
    shown = frame[frame["seed"] == seed]
    kinds = shown["map"].str.partition(":")[0] if len(shown) else shown["map"]
    kind = str(kinds.iloc[0]) if kind is None and len(kinds) else kind
    shown = shown[kinds == kind]
    views = list(dict.fromkeys(shown["view"]))
    names = [name for name in records if kind != "lda" or f"lda:{name}" in views]
    if not views or not names:
        raise InputError(f"map figure: there is no map ({kind or 'of any kind'}) of seed {seed}; make the maps first")
    view_of = {name: f"lda:{name}" if kind == "lda" else first_view(views) for name in names}
    shown = shown[shown["view"].isin(view_of.values())]
    known = style.encoder_order(shown["encoder"])
    encoders = style.pictured(known)
    references = {name: reference_of(shown, encoders, view) if aligned else None for name, view in view_of.items()}
    with style.context():
        small = len(encoders) > MOST_LARGE
        panel = SMALL_PANEL if small else PANEL
        blocks = 2 if small and len(names) <= MOST_TASKS else 1
        rows, columns = -(-len(encoders) // blocks), blocks * len(names)
        legend = 0.12 + 0.16 * max(legend_rows(records[name]) for name in names)
        spare = 0.65 + (0.36 if small else 0.12) * rows
        figure = style.new_figure(max((panel - 0.2) * columns + 0.5, 4.4), panel * rows + legend + spare)
        layout = figure.subplots(rows + 1, columns, squeeze=False, height_ratios=[panel] * rows + [legend])
        for number in range(blocks * rows):
            block, row = divmod(number, rows)
            for name, axes in zip(names, layout[row, block * len(names) :], strict=False):
                if number >= len(encoders):
                    axes.remove()
                    continue
                encoder, view = encoders[number], view_of[name]
                own = shown[(shown["encoder"] == encoder) & (shown["view"] == view)]
                own = own[own["task"].isin(["", name])]
                draw_panel(axes, own, records[name], turn_of(own, references[name]))
                told = caption(quality, encoder, seed, own["task"].iloc[0] if len(own) else "", name, view)
                axes.set_xlabel(in_lines(told, SMALL_LINE if small else LINE), fontsize=6.5 if small else 7)
                if name == names[0]:
                    axes.set_ylabel(style.display(encoder), fontsize=9.5, fontweight="bold")
                if row == 0:
                    axes.set_title(name)
        for name, axes in zip(names * blocks, layout[-1], strict=True):
            draw_key(axes, records[name], shown[name])
        marks.note(figure, sample_note(shown, seed, [str(kind)]) + marks.chosen_note(encoders, known))
    return figure


def task_records(frame: pd.DataFrame, tasks: Mapping[str, Task] | None) -> dict[str, Task]:
    """Records of the tasks whose targets are in a table of maps, in the order of `tasks`."""
    names = [c for c in frame.columns if c not in KEY_COLUMNS]
    records = {name: (tasks or {}).get(name) or infer_task(name, frame[name]) for name in names}
    return {name: records[name] for name in task_order(pd.Series(names, dtype=object), list(tasks or ()))}


def infer_task(name: str, targets: pd.Series) -> Task:
    """A task record guessed from a target column: whole numbers are class indices."""
    values = targets.dropna().to_numpy()
    if len(values) and (values == values.round()).all():
        return Task(name, "classification", max(int(values.max()) + 1, 2))
    return Task(name, "regression", 1)


def sample_note(shown: pd.DataFrame, seed: int | None, kinds: Sequence[str]) -> str:
    """What the panels show, what their captions mean, and what may be read off each kind of map."""
    count = int(shown.groupby(["encoder", "task", "view"]).size().max())
    used = shown["perplexity"].dropna().unique().tolist() if "perplexity" in shown else []
    perplexity = f", perplexity {used[0]:.3g}" if len(used) == 1 else ""
    lines = [
        f"The same {count} samples in every panel, seed {seed}{perplexity}. NH@10: share of the 10 nearest points on",
        "the map with the same label (in brackets: if labels were dealt at random). recall@10: share of the 10 nearest",
        "in z that are among the 10 nearest on the map. trust: trustworthiness of those 10.",
        *(MEANINGS[kind] for kind in kinds),
    ]
    return "\n".join(lines)
