"""What a probe is fitted to: one task's targets, the rows that have one, and their moments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.moments import sufficient_statistics
from reprkit.analysis.probes.protocol import Protocol
from reprkit.analysis.rows import BLOCK_ROWS, stratified_rows
from reprkit.analysis.solver import Eigen
from reprkit.analysis.workspace import SPLITS, Workspace
from reprkit.analysis.workspace import carve_by_id as carve_by_id
from reprkit.tasks import Task


@dataclass(frozen=True)
class TaskData:
    """One task's targets.

    Attributes:
        task: the task.
        targets: split -> [N] int64 class indices (-1: missing) or float64 values (NaN: missing).
        groups: [N_test] name of the group of each test row; None if every row is its own.
    """

    task: Task
    targets: dict[str, NDArray]
    groups: NDArray[np.str_] | None = None

    @classmethod
    def of(cls, workspace: Workspace, name: str) -> TaskData:
        """A task of a file.

        Raises:
            InputError: a target that the task cannot have.
        """
        targets = {split: workspace.targets(split, name) for split in SPLITS}
        return cls(workspace.tasks[name], targets, workspace.group_names("test"))

    @cached_property
    def rows(self) -> dict[str, NDArray[np.int64]]:
        """Split -> [n] numbers of the rows that have a target."""
        return {split: np.flatnonzero(self.task.valid(values)) for split, values in self.targets.items()}

    @cached_property
    def y(self) -> dict[str, NDArray]:
        """Split -> [n] their targets."""
        return {split: values[self.rows[split]] for split, values in self.targets.items()}

    @property
    def complete(self) -> bool:
        """True if no train row lacks a target, so that work on all train rows can be shared."""
        return len(self.rows["train"]) == len(self.targets["train"])

    @cached_property
    def present(self) -> NDArray[np.int64]:
        """The classes that train holds. No probe can predict another one."""
        return np.unique(self.y["train"])

    def encode(self, targets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places of class indices in `present`; -1 for a class that is not there, or a missing one."""
        places = np.full(self.task.num_outputs + 1, -1)
        places[self.present] = np.arange(len(self.present))
        return places[targets]

    def spread_out(self, log_p: NDArray, size: int) -> NDArray[np.float64]:
        """[n, C] log-probabilities of all classes, -inf where train lacks one, from [present, n]."""
        full = np.full((size, self.task.num_outputs), -np.inf)
        full[:, self.present] = log_p.T
        return full


def cannot_be_probed(data: TaskData) -> str:
    """Why nothing can be fitted to a task; empty if it can."""
    for split in ("train", "val", "test"):
        if not len(data.y[split]):
            return f"skipped: no {split} sample has a target"
    if len(data.present) < 2:
        return f"skipped: one {'class' if data.task.is_discrete else 'value'} only in train"
    return ""


@dataclass(frozen=True)
class Moments:
    """Moments of the train rows that have a target, in standardised coordinates (z - workspace.mean) * workspace.scale.

    Attributes:
        count: n.
        mean: [D].
        eigen: of their covariance.
        class_counts: [C] of a discrete task, else [0].
        class_means: [C, D]; zeros for a class without rows.
    """

    count: int
    mean: NDArray[np.float64]
    eigen: Eigen
    class_counts: NDArray[np.int64]
    class_means: NDArray[np.float64]

    @classmethod
    def of(cls, workspace: Workspace, data: TaskData) -> Moments:
        """Those of the workspace if every row has a target, else from one pass of their own."""

        def make() -> Moments:
            name, task, rows = data.task.name, data.task, data.rows["train"]
            if data.complete:
                found, eigen = workspace.statistics, workspace.correlation_eigen
            else:
                known = {name: (data.y["train"], task.num_outputs)} if task.is_discrete else {}
                found = sufficient_statistics(labelled_blocks(workspace, data, "train"), known)
                eigen = Eigen.of(found.scatter / found.count * workspace.scale * workspace.scale[:, None])
            counts = found.class_counts.get(name, np.zeros(0, np.int64))
            sums = found.class_sums.get(name, np.zeros((0, workspace.dim)))
            # class sums are about the mean of these rows
            shift = (found.mean - workspace.mean) * workspace.scale
            means = sums / np.maximum(counts, 1)[:, None] * workspace.scale
            means = np.where(counts[:, None] > 0, means + shift, 0.0)
            return cls(len(rows), shift, eigen, counts, means)

        return workspace.keep(("probe moments", data.task.name), make)


def fitting_rows(data: TaskData, protocol: Protocol) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Sorted train rows that trees and MLP are fitted to, and what the status column says of them."""
    every = data.rows["train"]
    if len(every) <= protocol.max_fit:
        return every, ()
    picked = stratified_rows(data.targets["train"], protocol.max_fit, seed=protocol.seed)
    return picked, (f"fitted to a subsample of {len(picked)} of {len(every)} train samples",)


def val_rows(data: TaskData, protocol: Protocol) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Sorted val rows on which MLP and kNN choose, and what the status column says of them."""
    every = data.rows["val"]
    if len(every) <= protocol.max_val:
        return every, ()
    picked = stratified_rows(data.targets["val"], protocol.max_val, seed=protocol.seed)
    return picked, (f"chosen on {len(picked)} of {len(every)} val samples",)


def labelled_blocks(
    workspace: Workspace, data: TaskData, split: str, *, size: int = BLOCK_ROWS
) -> Iterator[NDArray[np.float32]]:
    """Blocks [n, D] of the raw rows of a split that have a target, in order."""
    return workspace.some_blocks(split, data.rows[split], size)


@dataclass(frozen=True)
class Scale:
    """Standardisation of a regression target by its train values; leaves class indices alone."""

    mean: float = 0.0
    std: float = 1.0

    @classmethod
    def of(cls, data: TaskData) -> Scale:
        """From the train values."""
        if data.task.is_discrete:
            return cls()
        return cls(float(data.y["train"].mean()), float(data.y["train"].std()) or 1.0)

    def forward(self, values: NDArray) -> NDArray:
        """Into units of the spread."""
        return (values - self.mean) / self.std

    def back(self, values: NDArray) -> NDArray:
        """Into units of the target."""
        return values * self.std + self.mean
