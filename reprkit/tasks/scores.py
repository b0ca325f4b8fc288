"""Scores of a model's outputs, added up batch by batch.

Every account holds sums in float64 or counts in int64, so that batches, in any partition, give what all samples at once
give: an mIoU is that of the pooled confusion matrix and an error the mean over all valid pixels, never a mean of batch
means. Merged in the same order, accounts give the same bits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from reprkit.tasks.task import Task

HEADLINES = {
    "classification": "accuracy", "ordinal": "accuracy", "regression": "r2", "segmentation": "miou",
    "depth": "abs_error", "disparity": "abs_error", "normals": "mean_angle", "saliency": "iou", "edges": "odsf",
}  # fmt: skip
"""The metric that stands for a task of each kind."""

LOWER_IS_BETTER = frozenset(
    {"mae", "log_loss", "mse", "rmse", "ece", "loss", "abs_error", "rel_error", "mean_angle", "median_angle"}
)
"""Metrics that are errors."""


class Scores(ABC):
    """An account of a task's outputs beside its targets.

    Attributes:
        task: the task.
        total, count: sum of the loss over valid targets, and their number.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.total = 0.0
        self.count = 0

    def update(self, outputs: Tensor | NDArray[Any], targets: Tensor | NDArray[Any]) -> None:
        """Add a batch: outputs and targets as `Task.loss` takes them, tensors or arrays."""
        import torch

        from reprkit.tasks.task import widened

        x, y = widened(torch.as_tensor(outputs).detach()).cpu(), torch.as_tensor(targets).cpu()
        if self.task.is_discrete:
            y = y.long()
        valid = self.task.valid(y)
        self.count += int(valid.sum())
        self.add(x, y, valid)

    @abstractmethod
    def add(self, outputs: Tensor, targets: Tensor, valid: Tensor) -> None:
        """Add a batch on the CPU, its loss too.

        Args:
            outputs: of the head, float32 or float64 [B, C], or [B, C, h, w] of a dense task.
            targets: class indices (int64) or values, [B], or [B, ...] of a dense task.
            valid: where targets are known, bool, of their shape (without the channels of normals).
        """

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """Every metric; called where there is at least one valid target."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names of the metrics, the headline first."""

    def loss(self) -> float:
        """Mean loss over valid targets, times `Task.weight`; called where there is at least one."""
        return self.total / self.count

    def merge(self, other: Self) -> None:
        """Add another account of the same task.

        Raises:
            ValueError: it is of another task.
        """
        if other.task != self.task:
            raise ValueError(f"scores of '{other.task.name}' cannot be added to those of another task")
        self.total += other.total
        self.count += other.count
        for name, value in vars(other).items():
            if isinstance(value, np.ndarray):
                setattr(self, name, getattr(self, name) + value)
            elif isinstance(value, list):
                getattr(self, name).extend(value)

    def compute(self) -> dict[str, float]:
        """`loss` and every metric of all that was added; loss 0 and metrics NaN if no target was valid."""
        if not self.count:
            return {"loss": 0.0, **dict.fromkeys(self.names, float("nan"))}
        return {"loss": self.loss(), **self.metrics()}


def scores_of(task: Task) -> Scores:
    """An empty account for a task."""
    from reprkit.tasks import dense_scores as dense
    from reprkit.tasks.edge_scores import EdgeScores
    from reprkit.tasks.vector_scores import ClassScores, ValueScores

    accounts: dict[str, type[Scores]] = {
        "classification": ClassScores, "ordinal": ClassScores, "regression": ValueScores,
        "segmentation": dense.SegmentationScores, "depth": dense.DepthScores, "disparity": dense.DepthScores,
        "normals": dense.NormalsScores, "saliency": dense.SaliencyScores, "edges": EdgeScores,
    }  # fmt: skip
    return accounts[task.kind](task)
