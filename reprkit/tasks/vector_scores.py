"""Scores of tasks with one target an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reprkit.tasks.scores import Scores

if TYPE_CHECKING:
    from torch import Tensor

    from reprkit.tasks.task import Task


class ClassScores(Scores):
    """Accuracy: the share of samples whose largest output is at their class."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.hits = np.zeros(1, np.int64)

    def add(self, outputs: Tensor, targets: Tensor, valid: Tensor) -> None:
        """Count hits."""
        self.total += float(self.task.loss(outputs.double(), targets, count=1))
        self.hits += int((outputs.argmax(1) == targets)[valid].sum())

    @property
    def names(self) -> tuple[str, ...]:
        """One metric."""
        return ("accuracy",)

    def metrics(self) -> dict[str, float]:
        """Of all samples."""
        return {"accuracy": float(self.hits[0] / self.count)}


class ValueScores(Scores):
    """R2: one minus the squared error's share of the truth's spread. Holds two numbers a sample, in float64."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.predicted: list[NDArray[Any]] = []
        self.truth: list[NDArray[Any]] = []

    def add(self, outputs: Tensor, targets: Tensor, valid: Tensor) -> None:
        """Keep the valid rows."""
        self.total += float(self.task.loss(outputs.double(), targets.double(), count=1))
        self.predicted.append(outputs[valid, 0].double().numpy() * self.task.std + self.task.mean)
        self.truth.append(targets[valid].double().numpy())

    @property
    def names(self) -> tuple[str, ...]:
        """One metric."""
        return ("r2",)

    def metrics(self) -> dict[str, float]:
        """Of all samples; NaN if their truths are all equal."""
        predicted, truth = np.concatenate(self.predicted), np.concatenate(self.truth)
        if np.ptp(truth) == 0:
            return {"r2": float("nan")}
        return {"r2": float(1 - ((truth - predicted) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())}
