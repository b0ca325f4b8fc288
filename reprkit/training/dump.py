"""Writing what some function makes of every image of a data set to an embeddings file, a row an image or a pixel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from reprkit.data import SPLITS
from reprkit.data.base import ImageDataset
from reprkit.embeddings import EmbeddingsWriter
from reprkit.embeddings.dummies import TrainingDummies
from reprkit.recipe import EmbedConfig
from reprkit.training.file_rows import file_tasks, image_rows, pixel_rows
from reprkit.training.positions import SEPARATOR, Positions
from reprkit.training.ranks import joined

Encode = Callable[[np.ndarray], tuple[np.ndarray, dict[str, np.ndarray]]]
"""Row numbers [B] -> representation [B, D] and outputs of heads {task: [B, C]}, float32 on the CPU; with positions, of
each of the P pixels of an image: [B * P, D] and [B * P, C]."""

LARGE = 256 * 128 * 128
"""Pixels in a batch of images of which every pixel is encoded; maps need more memory than vectors."""


def dump(
    target: str | Path,
    dataset: ImageDataset,
    encode: Encode,
    *,
    dim: int,
    config: EmbedConfig,
    meta: Mapping[str, Any],
    title: str,
    positions: Positions | None = None,
    logits: Mapping[str, int] | None = None,
    dummies: Mapping[str, TrainingDummies] | None = None,
    check: Callable[[], object] = lambda: None,
    progress: bool = True,
) -> Path:
    """Encode every image and write z, ids, targets and logits; an interrupted dump is continued.

    Under torchrun the ranks share the batches, and the first writes the file. Maps are read at `positions` batch by
    batch, and let go.

    Args:
        target: the file to write.
        dataset: images, ids and targets.
        encode: what makes embeddings of rows; equal rows in equal batches give equal bits.
        dim: D.
        config: batch size (of maps, of that many pixels at most: see `LARGE`) and number type on disk.
        meta: of the file (see `EmbeddingsWriter`); `trained_tasks` are tasks of the data set.
        title: of the bar.
        positions: where images are read; None if `encode` gives a vector an image.
        logits: task name -> C of the outputs that `encode` gives.
        dummies: task name -> dummy heads of training.
        check: called before the file gets its name; raises where something is wrong after all.
        progress: show a bar with the time left (never when the output is not a terminal).
    """
    rows = {split: dataset.rows(split) for split in SPLITS if len(dataset.rows(split))}
    ranks, times, size = joined(), 1, config.batch_size
    if positions is not None:
        times = positions.count
        size = max(1, min(size, LARGE // (positions.height * positions.width)))
    writer = held = None
    if ranks.is_first:
        show = progress and positions is not None
        held = image_rows(dataset, rows) if positions is None else pixel_rows(dataset, rows, positions, progress=show)
        writer = EmbeddingsWriter(
            target,
            splits=held.splits,
            tasks=held.tasks,
            dim=dim,
            logits=(logits or {}) if positions is None else _widths(logits or {}, dataset, positions),
            meta=meta if positions is None else _of_pixels(meta, dataset, positions),
            dtype=config.dtype,
            dummies=dummies,
        )
    # Rows of an image are written together; a chunk may end between them. Such an image is encoded again.
    done = ranks.from_first({split: writer.rows_done(split) // times for split in rows} if writer else {})
    with _bar(rows, done, title, progress and ranks.is_first) as bar:
        for split, r in rows.items():
            # Batches start at multiples of the batch size even after a resume and on any number of ranks: a row's
            # sums, and so its last bits, may depend on the size of the batch it is computed in.
            starts = [i for i in range(0, len(r), size) if min(i + size, len(r)) > done[split]]
            for turn in range(0, len(starts), ranks.world):
                group = starts[turn : turn + ranks.world]
                mine = [r[i : i + size] for i in group[ranks.rank : ranks.rank + 1]]
                encoded = [encode(part) for part in mine]
                for start, part in zip(group, ranks.gather(encoded), strict=False):
                    z, outputs = part[0]
                    assert writer is not None
                    assert held is not None
                    writer.append(split, z, held.outputs(outputs), start=start * times)
                    bar.update(start + len(z) // times - max(start, done[split]))
    check()
    return ranks.from_first(writer.finish() if writer else Path(target))


def _of_pixels(meta: Mapping[str, Any], dataset: ImageDataset, positions: Positions) -> dict[str, Any]:
    """The metadata of a file whose rows are pixels: what they are of, and that other pixels are not comparable."""
    trained = map(dataset.task, meta["trained_tasks"])
    prints = {**meta["fingerprints"], "transform": positions.fingerprint(dataset.transform_fingerprint)}
    provenance = {**meta["provenance"], "positions": positions.record()}
    changed = {"groups": SEPARATOR, "fingerprints": prints, "provenance": provenance}
    return {**meta, **changed, "trained_tasks": [task.name for task in file_tasks(trained, positions)]}


def _widths(heads: Iterable[str], dataset: ImageDataset, positions: Positions) -> dict[str, int]:
    """Task of the file -> C of its outputs, for the heads of these tasks."""
    return {task.name: task.num_outputs for task in file_tasks(map(dataset.task, heads), positions)}


def _bar(rows: Mapping[str, np.ndarray], done: Mapping[str, int], title: str, show: bool) -> tqdm:
    return tqdm(
        total=sum(map(len, rows.values())),
        initial=sum(done.values()),
        desc=title,
        unit="image",
        leave=False,
        dynamic_ncols=True,
        disable=None if show else True,
    )
