"""What a fitted probe hands back, and how the best of its candidates is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.solver import LinearFit
from reprkit.tasks import Task

LOG_FLOOR = float(np.log(np.finfo(np.float64).eps))
"""Log-probabilities are clipped here, as by scikit-learn: a class never seen costs 36 nats and not infinity."""


@dataclass(frozen=True)
class Outcome:
    """The chosen model of one probe on one task.

    Attributes:
        test: [n_test] predicted class indices, or values; [R, n_test] of R models of equal standing, whose metrics are
            averaged.
        params: chosen hyperparameters.
        val_value: value of the selection metric on val.
        n_train: samples the model was fitted to.
        log_probabilities: [n_test, C] of the test samples, where the probe models them.
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
    """Selection metric: accuracy, or R2 of regression targets (NaN-free: a constant target counts squared error).

    Args:
        task: what the values are.
        predicted, target: [n] class indices or values.
    """
    if task.is_discrete:
        return float((predicted == target).mean())
    spread = float(((target - target.mean()) ** 2).sum())
    error = float(((target - predicted) ** 2).sum())
    return 1 - error / spread if spread > 0 else -error


def edge_remark(name: str, value: float, grid: tuple[float, ...]) -> tuple[str, ...]:
    """A remark if the chosen value is the first or last of its grid: a wider grid might do better."""
    return (f"{name} at the edge of its grid",) if len(grid) > 1 and value in (grid[0], grid[-1]) else ()


def log_score(log_p: NDArray, target: NDArray[np.int64]) -> float:
    """Selection metric of probabilistic probes: mean log-probability (clipped) of the class [n] by log_p [n, C]."""
    return float(log_p[np.arange(len(target)), target].clip(min=LOG_FLOOR).mean())


def unconverged_remark(fit: LinearFit) -> tuple[str, ...]:
    """A remark if the solver stopped short of its optimum."""
    return () if fit.converged else (f"not converged (largest gradient {fit.gradient:.1e})",)
