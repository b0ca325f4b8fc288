"""Mini-batches straight from a data set's array, in an order that (seed, epoch) alone decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reprkit.data.augment import Augment, normalise
from reprkit.data.base import ImageDataset


@dataclass(frozen=True)
class Batch:
    """Images ready for an encoder, and targets by task."""

    rows: np.ndarray
    images: Tensor
    targets: dict[str, Tensor]


@dataclass(frozen=True)
class BatchSource:
    """Turns row numbers into batches on a device.

    Attributes:
        dataset: where images and targets come from.
        device: where batches go.
        channels_last: memory format of the images.
    """

    dataset: ImageDataset
    device: torch.device
    channels_last: bool = False

    def batch(self, rows: np.ndarray, augment: Augment | None = None, seed: tuple[int, ...] = ()) -> Batch:
        """The normalised images [B, C, H, W] float32 and targets of `rows`."""
        images = torch.from_numpy(np.ascontiguousarray(self.dataset.images[rows]))
        if augment is not None:
            images = augment(images, seed)
        images = normalise(images.to(self.device), self.dataset.mean, self.dataset.std)
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return Batch(rows, images, {task.name: self._targets(task.name, rows) for task in self.dataset.tasks})

    def _targets(self, task: str, rows: np.ndarray) -> Tensor:
        targets = torch.from_numpy(np.ascontiguousarray(self.dataset.targets[task][rows]))
        if self.device.type == "mps" and targets.dtype == torch.float64:
            targets = targets.float()  # Apple's GPUs have no float64
        return targets.to(self.device)

    def in_order(self, rows: np.ndarray, size: int) -> Iterator[Batch]:
        """Every row once, in order, `size` at a time."""
        for start in range(0, len(rows), size):
            yield self.batch(rows[start : start + size])


def epoch_order(rows: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """A permutation of `rows` that depends on nothing but (seed, epoch)."""
    return np.random.default_rng([seed, epoch]).permutation(rows)
