"""What a dense task is at a single pixel: the tasks of an embeddings file whose rows are pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reprkit.tasks.task import Task


@dataclass(frozen=True)
class PixelTask:
    """A task of pixel samples, and how it reads those of the dense task that it comes from.

    Attributes:
        task: classification (segmentation: its classes; saliency, edges: no and yes) or regression. Mean and std of a
            regression are to be set from the training samples (`dataclasses.replace`).
        targets: dense targets at n pixels, [n] or [n, 3] -> [n] targets of `task`.
        raw: outputs of the dense head at n pixels, [n, num_outputs] -> [n, C] in the unit of the targets.
    """

    task: Task
    targets: Callable[[NDArray[Any]], NDArray[Any]]
    raw: Callable[[NDArray[Any]], NDArray[Any]]

    def outputs(self, sampled: NDArray[Any]) -> NDArray[Any]:
        """What a head of `task` would have given for `sampled` outputs: logits, or standardised values [n, C]."""
        values = self.raw(sampled)
        return values if self.task.is_discrete else (values - self.task.mean) / self.task.std


def pixel_tasks(task: Task) -> list[PixelTask]:
    """The tasks that pixel samples of a dense task have.

    Normals become three regressions, `<name>.x`, `<name>.y` and `<name>.z`, of the unit vector's components.
    """
    plain = replace(task, weight=1.0, mean=0.0, std=1.0)
    if task.kind == "segmentation":
        return [PixelTask(replace(plain, kind="classification"), _classes, _as_it_is)]
    if task.kind in ("saliency", "edges"):
        names = task.classes if len(task.classes) == 2 else ("no", "yes")
        binary = replace(plain, kind="classification", num_outputs=2, classes=names)
        return [PixelTask(binary, _classes, _two_logits)]
    if task.kind in ("depth", "disparity"):
        return [PixelTask(replace(plain, kind="regression"), _values, _as_it_is)]
    if task.kind == "normals":
        return [
            PixelTask(
                replace(plain, name=f"{task.name}.{axis}", kind="regression", num_outputs=1), _Component(i), _Unit(i)
            )
            for i, axis in enumerate("xyz")
        ]
    raise TypeError(f"task '{task.name}': {task.kind} is not labelled pixel by pixel")


def _classes(sampled: NDArray[Any]) -> NDArray[Any]:
    return sampled.astype(np.int64)


def _values(sampled: NDArray[Any]) -> NDArray[Any]:
    return sampled.astype(np.float64)


def _as_it_is(sampled: NDArray[Any]) -> NDArray[Any]:
    return sampled


def _two_logits(sampled: NDArray[Any]) -> NDArray[Any]:
    """[0, l]: the softmax of these is the sigmoid of l."""
    return np.concatenate([np.zeros_like(sampled), sampled], axis=1)


@dataclass(frozen=True)
class _Component:
    axis: int

    def __call__(self, sampled: NDArray[Any]) -> NDArray[Any]:
        return sampled[:, self.axis].astype(np.float64)


@dataclass(frozen=True)
class _Unit:
    axis: int

    def __call__(self, sampled: NDArray[Any]) -> NDArray[Any]:
        length = np.sqrt((sampled.astype(np.float64) ** 2).sum(1, keepdims=True).clip(min=1e-12))
        return (sampled / length)[:, self.axis : self.axis + 1].astype(sampled.dtype)
