"""Writing what some function makes of every image of a data set to an embeddings file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from reprkit.data import SPLITS
from reprkit.data.base import ImageDataset
from reprkit.embeddings import EmbeddingsWriter, SplitRows
from reprkit.embeddings.dummies import TrainingDummies
from reprkit.recipe import EmbedConfig
from reprkit.training.ranks import joined

Encode = Callable[[np.ndarray], tuple[np.ndarray, dict[str, np.ndarray]]]
"""Row numbers [B] -> representation [B, D] and own logits {task: [B, C]}, float32 on the CPU."""


def dump(
    target: str | Path,
    dataset: ImageDataset,
    encode: Encode,
    *,
    dim: int,
    config: EmbedConfig,
    meta: Mapping[str, Any],
    title: str,
    logits: Mapping[str, int] | None = None,
    dummies: Mapping[str, TrainingDummies] | None = None,
    check: Callable[[], object] = lambda: None,
    progress: bool = True,
) -> Path:
    """Encode every image and write z, ids, targets and logits; an interrupted dump is continued.

    Under torchrun the ranks share the batches, and the first writes the file.

    Args:
        target: the file to write.
        dataset: images, ids and targets.
        encode: what makes embeddings of rows; equal rows in equal batches give equal bits.
        dim: D.
        config: batch size and number type on disk.
        meta: of the file (see `EmbeddingsWriter`).
        title: of the bar.
        logits: task name -> C of the own logits that `encode` gives.
        dummies: task name -> dummy heads of training.
        check: called before the file gets its name; raises where something is wrong after all.
        progress: show a bar with the time left (never when the output is not a terminal).
    """
    rows = {split: dataset.rows(split) for split in SPLITS if len(dataset.rows(split))}
    new_writer = partial(
        EmbeddingsWriter,
        target,
        splits={
            split: SplitRows(dataset.ids[r], {t.name: dataset.targets[t.name][r] for t in dataset.tasks})
            for split, r in rows.items()
        },
        tasks=list(dataset.tasks),
        dim=dim,
        logits=logits or {},
        meta=meta,
        dtype=config.dtype,
        dummies=dummies,
    )
    ranks = joined()
    writer = new_writer() if ranks.is_first else None
    done = ranks.from_first({split: writer.rows_done(split) for split in rows} if writer else {})
    with _bar(rows, done, title, progress and ranks.is_first) as bar:
        for split, r in rows.items():
            # Batches start at multiples of the batch size even after a resume and on any number of ranks: a row's
            # sums, and so its last bits, may depend on the size of the batch it is computed in.
            starts = [
                i for i in range(0, len(r), config.batch_size) if min(i + config.batch_size, len(r)) > done[split]
            ]
            for turn in range(0, len(starts), ranks.world):
                group = starts[turn : turn + ranks.world]
                mine = [r[i : i + config.batch_size] for i in group[ranks.rank : ranks.rank + 1]]
                encoded = [encode(part) for part in mine]
                for start, part in zip(group, ranks.gather(encoded), strict=False):
                    z, own = part[0]
                    assert writer is not None
                    writer.append(split, z, own, start=start)
                    bar.update(start + len(z) - max(start, done[split]))
    check()
    return ranks.from_first(writer.finish() if writer else Path(target))


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
