"""Maps of files, written as tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reprkit.analysis.figures.map_strip import placed_figure, strip_figure
from reprkit.analysis.figures.maps import tsne_figure
from reprkit.analysis.linalg import num_workers
from reprkit.analysis.maps.selection import select_ids
from reprkit.analysis.maps.tsne import Maps, check_encoder, checkpoint_of, draw_maps, first_targets, not_mapped
from reprkit.analysis.style import save
from reprkit.errors import InputError
from reprkit.files import slug, write_frame
from reprkit.recipe import TsneConfig
from reprkit.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

    from reprkit.embeddings import Embeddings

ONE_THREAD_BELOW = 5000
"""Threads wait for one another at every step: with fewer samples than this there is little to share."""


def write_maps(
    files: Sequence[Embeddings],
    labels: Sequence[str],
    out: Path,
    *,
    config: TsneConfig,
    kinds: Sequence[str] = ("tsne",),
    perplexities: Sequence[float] | None = None,
    place: Embeddings | None = None,
) -> tuple[pd.DataFrame, list[Path]]:
    """Map the same samples of every file, and write tsne.csv, tsne_quality.csv and the figures.

    Figures: one a kind (encoders by tasks), `tsne`, `pca` and `lda`; and with several maps an encoder, one a task
    (encoders by maps), `maps-<task>`. With `place`, also placed.csv, placed_quality.csv and the figure `placed`.

    Args:
        files: open embeddings files.
        labels: a name of its own for each.
        out: folder.
        config, kinds, perplexities: see `draw_maps`.
        place: a file of the same encoder as the only one of `files`, whose test samples are put on the maps;
            those that are on them already are left out.

    Returns:
        The quality of the maps, and of placed samples after it; and the figures written (PNG).

    Raises:
        InputError: see `draw_maps` and `Maps.place`; or new samples for more than one file.
    """
    import pandas as pd

    if place is not None and len(files) > 1:
        raise InputError("tsne: --place puts samples on the maps of one file; name one")
    if place is not None:
        check_encoder(place, checkpoint_of(files[0]), files[0].dim)
    threads = num_workers() if config.samples >= ONE_THREAD_BELOW else 1
    drawn: list[Maps] = []
    for file, label in zip(files, labels, strict=True):
        ids = list(drawn[0].ids) if drawn else None  # the same samples on every map
        drawn.append(
            draw_maps(file, config=config, kinds=kinds, perplexities=perplexities, ids=ids, label=label, n_jobs=threads)
        )
    tasks = {name: task for file in files for name, task in file.tasks.items()}
    frame = pd.concat([maps.frame() for maps in drawn], ignore_index=True)
    quality = pd.concat([maps.quality() for maps in drawn], ignore_index=True)
    write_frame(frame, out / "tsne.csv")
    write_frame(quality, out / "tsne_quality.csv")
    figures = _figures(frame, quality, tasks, kinds, out)
    if place is not None:
        placed, told = drawn[0].place(place, _new_samples(place, files[0], drawn[0], config.samples), n_jobs=threads)
        write_frame(placed, out / "placed.csv")
        write_frame(told, out / "placed_quality.csv")
        quality = pd.concat([quality, told], ignore_index=True)
        if len(told):
            figures += save(placed_figure(frame, placed, tasks, told), out / "placed")
    return quality, [path for path in figures if path.suffix == ".png"]


def _new_samples(place: Embeddings, mapped: Embeddings, maps: Maps, samples: int) -> list[str]:
    """Up to so many test samples of a file that are not on the maps, which would be their own neighbours there."""
    if "test" not in place.splits:
        raise InputError(f"{place.path}: has no test split to place samples of")
    rows = not_mapped(place, mapped, maps.ids, "test")
    if not len(rows):
        raise InputError(f"{place.path}: all its test samples are on the map already; lower --samples")
    targets = first_targets(place, "test")
    return select_ids(np.asarray(place.ids("test"))[rows], None if targets is None else targets[rows], samples)


def _figures(
    frame: pd.DataFrame, quality: pd.DataFrame, tasks: dict[str, Task], kinds: Sequence[str], out: Path
) -> list[Path]:
    one = {"seed": 0}  # labels tell the files apart, and a figure shows one seed
    frame, quality = frame.assign(**one), quality.assign(**one)
    written = []
    for kind in dict.fromkeys(kinds):
        written += save(tsne_figure(frame, tasks, quality, kind=kind), out / kind)
    if len(frame[["map", "perplexity"]].drop_duplicates()) > 1:
        for name in tasks:
            written += save(strip_figure(frame, name, tasks, quality), out / f"maps-{slug(name)}")
    return written
