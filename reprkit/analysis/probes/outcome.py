"""What a fitted probe hands back, and how the best of its candidates is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reprkit.tasks import Task


@dataclass(frozen=True)
class Outcome:
    """The chosen model of one probe on one task.

    Attributes:
        test: [n_test] predicted class indices, or values.
        params: chosen hyperparameters.
        val_value: value of the selection metric on val.
        n_train: samples the model was fitted to.
        log_probabilities: [n_test, C] of the test samples, where the probe has calibrated ones.
        selected_by: metric that chose, if not the task's headline metric.
        remarks: sentences for the status column, such as a subsample or a lack of convergence.
    """

    test: NDArray
    params: dict[str, Any]
    val_value: float
    n_train: int
    log_probabilities: NDArray[np.float64] | None = None
    selected_by: str = ""
    remarks: tuple[str, ...] = ()


@dataclass
class Selection:
    """Keeps the best candidate seen: the highest value, the first of equal ones."""

    value: float = float("nan")
    params: dict[str, Any] = field(default_factory=dict)
    model: Any = None

    def offer(self, value: float, params: dict[str, Any], model: Any = None) -> None:
        """Take a candidate if it beats what is held."""
        if not self.params or value > self.value:
            self.value, self.params, self.model = value, params, model


def score(task: Task, predicted: NDArray, target: NDArray) -> float:
    """Selection metric: accuracy, or R2 of regression targets (NaN-free: a constant target counts squared error)."""
    if task.is_discrete:
        return float((predicted == target).mean())
    spread = float(((target - target.mean()) ** 2).sum())
    error = float(((target - predicted) ** 2).sum())
    return 1 - error / spread if spread > 0 else -error


def edge_remark(name: str, value: float, grid: tuple[float, ...]) -> tuple[str, ...]:
    """A remark if the chosen value is the first or last of its grid: a wider grid might do better."""
    return (f"{name} at the edge of its grid",) if len(grid) > 1 and value in (grid[0], grid[-1]) else ()
