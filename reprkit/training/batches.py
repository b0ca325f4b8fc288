"""Mini-batches straight from a data set's array, in an order that (seed, epoch) alone decides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from reprkit.data.augment import Augment, normalise
from reprkit.data.base import ImageDataset
from reprkit.training.ranks import Ranks


@dataclass(frozen=True)
class Batch:
    """Images ready for an encoder, and targets by task.

    Attributes:
        rows: their row numbers.
        images: [B, C, H, W] float32.
        targets: task name -> [B]; [B, H, W] for dense tasks, [B, 3, H, W] for normals.
        counts: task name -> what losses are divided by (valid targets of the whole batch over the number of ranks),
            where this is one rank's part of a batch; None where it is all of it.
    """

    rows: np.ndarray
    images: Tensor
    targets: dict[str, Tensor]
    counts: dict[str, float] | None = None


@dataclass(frozen=True)
class BatchSource:
    """Turns row numbers into batches on a device.

    Attributes:
        dataset: where images and targets come from.
        device: where batches go.
        channels_last: memory format of the images.
        ranks: the processes that share each training batch.
    """

    dataset: ImageDataset
    device: torch.device
    channels_last: bool = False
    ranks: Ranks = field(default_factory=Ranks)

    def batch(self, rows: np.ndarray, augment: Augment | None = None, seed: tuple[int, ...] = ()) -> Batch:
        """The normalised images [B, C, H, W] float32 and targets of `rows`."""
        return self._ready(rows, *self._read(rows, augment, seed))

    def images(self, rows: np.ndarray) -> Tensor:
        """The normalised images alone; targets are not read."""
        return self._normalised(torch.from_numpy(np.ascontiguousarray(self.dataset.images[rows])))

    def part(self, rows: np.ndarray, augment: Augment, seed: tuple[int, ...]) -> Batch:
        """This rank's part of the training batch `rows`, augmented as one process would augment the whole."""
        if self.ranks.world == 1:
            return self.batch(rows, augment, seed)
        mine = self.ranks.slice(len(rows))
        images, targets = self._read(rows, augment, seed)
        counts = {t.name: int(t.valid(targets[t.name]).sum()) / self.ranks.world for t in self.dataset.tasks}
        part = self._ready(rows[mine], images[mine], {name: values[mine] for name, values in targets.items()})
        return replace(part, counts=counts)

    def _read(
        self, rows: np.ndarray, augment: Augment | None, seed: tuple[int, ...]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        images = torch.from_numpy(np.ascontiguousarray(self.dataset.images[rows]))
        targets = {
            task.name: torch.from_numpy(np.ascontiguousarray(self.dataset.targets[task.name][rows]))
            for task in self.dataset.tasks
        }
        return (images, targets) if augment is None else augment(images, targets, seed)

    def _ready(self, rows: np.ndarray, images: Tensor, targets: dict[str, Tensor]) -> Batch:
        return Batch(rows, self._normalised(images), {name: self._sent(values) for name, values in targets.items()})

    def _normalised(self, images: Tensor) -> Tensor:
        images = normalise(images.to(self.device), self.dataset.mean, self.dataset.std)
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images

    def _sent(self, targets: Tensor) -> Tensor:
        if targets.ndim > 1:  # dense targets are stored small
            targets = targets.float() if targets.is_floating_point() else targets.long()
        if self.device.type == "mps" and targets.dtype == torch.float64:
            targets = targets.float()  # Apple's GPUs have no float64
        return targets.to(self.device)


def read_ahead(reads: Iterable[Callable[[], Batch]]) -> Iterator[Batch]:
    """Batches in order, each read by a thread of its own while the one before it is used.

    Reading and augmenting are settled by their arguments, so the batches are those of reading one by one.
    """
    with ThreadPoolExecutor(1) as pool:
        waiting: Future[Batch] | None = None
        for read in reads:
            waiting, ready = pool.submit(read), waiting
            if ready is not None:
                yield ready.result()
        if waiting is not None:
            yield waiting.result()


def epoch_order(rows: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """A permutation of `rows` that depends on nothing but (seed, epoch)."""
    return np.random.default_rng([seed, epoch]).permutation(rows)
