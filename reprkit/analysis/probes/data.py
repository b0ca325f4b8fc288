"""What probes are fitted to: the representation of each split, the targets of each task, and pieces shared by tasks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.linalg import KERNEL_BLOCK as KERNEL_BLOCK
from reprkit.analysis.linalg import rbf_kernel as rbf_kernel
from reprkit.analysis.neighbors import exact_neighbors
from reprkit.errors import InputError
from reprkit.tasks import Task

if TYPE_CHECKING:
    from reprkit.embeddings import Embeddings

CARVE = 5
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class TaskData:
    """One task's targets, without the samples that lack one.

    Attributes:
        task: the task.
        rows: split -> [n] row numbers that have a target.
        y: split -> [n] their targets: int64 class indices or float64 values.
        complete: True if no train row lacks a target, so that work on all train rows can be shared.
    """

    task: Task
    rows: dict[str, NDArray[np.int64]]
    y: dict[str, NDArray]
    complete: bool


class Space:
    """The representation of all splits, with what several probes and tasks share.

    Attributes:
        z: split -> float32 [n, D] as stored.
        standard: split -> float64 [n, D]: centred and scaled to unit variance, both of the train split; constant
            features are only centred.
        gamma: RBF width 1 / (D * variance of `standard["train"]`).
    """

    def __init__(self, z: dict[str, NDArray]) -> None:
        self.z = z
        train = z["train"]
        mean = train.mean(axis=0, dtype=np.float64)
        std = train.std(axis=0, dtype=np.float64)
        scale = np.where(std > 0, std, 1.0)  # float64 sums of equal float32 values are exact, so constant means 0
        self.standard = {split: (rows - mean) / scale for split, rows in z.items()}
        variance = float(self.standard["train"].var())
        self.gamma = 1.0 / (train.shape[1] * variance) if variance > 0 else 1.0
        self._neighbors: tuple[int, dict[str, tuple[NDArray[np.int64], NDArray]]] | None = None
        self._kernel: NDArray[np.float64] | None = None

    def neighbors(self, data: TaskData, k: int) -> dict[str, tuple[NDArray[np.int64], NDArray]]:
        """The `k` nearest train rows with a target, by cosine, of all val and test rows.

        Returns:
            split -> indices [n, k] into `data.rows["train"]`, cosines [n, k]. One search serves all complete tasks.
        """
        if data.complete and self._neighbors is not None and self._neighbors[0] == k:
            return self._neighbors[1]
        bank = self.z["train"] if data.complete else self.z["train"][data.rows["train"]]
        found = {split: exact_neighbors(bank, k, self.z[split]) for split in ("val", "test") if len(self.z[split])}
        if data.complete:
            self._neighbors = k, found
        return found

    def kernel(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """RBF kernel matrix [n, n] of train rows; that of all rows is computed once and kept."""
        everything = len(rows) == len(self.z["train"])
        if everything and self._kernel is not None:
            return self._kernel
        selected = self.standard["train"][rows]
        kernel = rbf_kernel(selected, selected, self.gamma)
        if everything:
            self._kernel = kernel
        return kernel


def load(embeddings: Embeddings, names: list[str]) -> tuple[Space, list[TaskData], NDArray, bool]:
    """Read what the probes need.

    Returns:
        the space, each task's targets, the ids of the test split, and whether val was carved from train.

    Raises:
        InputError: no train or test split, or non-finite embeddings.
    """
    source = source_of(embeddings)
    for split, purpose in (("train", "fit probes on"), ("test", "score them on")):
        if split not in embeddings.splits or not embeddings.num_rows(split):
            raise InputError(f"{source}: has no {split} split to {purpose}; write the file with train, val and test")
    z = {split: np.asarray(embeddings.z(split), np.float32) for split in SPLITS if split in embeddings.splits}
    for split, rows in z.items():
        if not np.isfinite(rows).all():
            raise InputError(
                f"{source}: split {split} holds NaN or infinite embeddings; embed it again or drop those rows"
            )
    targets = {name: {split: np.asarray(embeddings.targets(split, name)) for split in z} for name in names}

    carved = "val" not in z or not len(z["val"])
    if carved:
        held_out = carve_by_id(embeddings.ids("train"))
        z["train"], z["val"] = z["train"][~held_out], z["train"][held_out]
        for splits in targets.values():
            splits["train"], splits["val"] = splits["train"][~held_out], splits["train"][held_out]
    tasks = [_task_data(embeddings.tasks[name], targets[name], source) for name in names]
    return Space(z), tasks, np.asarray(embeddings.ids("test")), carved


def carve_by_id(ids: Any, one_in: int = CARVE) -> NDArray[np.bool_]:
    """Mask [n] of about one in `one_in` samples by SHA-256 of their id: the same samples in any order or file."""
    digests = (hashlib.sha256(str(name).encode()).digest() for name in ids)
    return np.array([int.from_bytes(digest[:8], "big") % one_in == 0 for digest in digests], bool)


def source_of(embeddings: Any) -> str:
    """The file's path if it has one, else its label: what an error message names."""
    return str(getattr(embeddings, "path", None) or embeddings.label)


def _task_data(task: Task, targets: dict[str, NDArray], source: str) -> TaskData:
    rows = {split: np.flatnonzero(task.valid(values)) for split, values in targets.items()}
    for split, values in targets.items():
        found = values[rows[split]]
        if task.is_discrete and not ((found >= 0) & (found < task.num_outputs)).all():
            last = task.num_outputs - 1
            raise InputError(
                f"{source}: task '{task.name}' has a target outside 0..{last} in {split}; write class indices"
            )
        if not np.isfinite(found).all():
            raise InputError(
                f"{source}: task '{task.name}' has an infinite target in {split}; write NaN if it is missing"
            )
    y = {split: targets[split][index] for split, index in rows.items()}
    return TaskData(task, rows, y, complete=len(rows["train"]) == len(targets["train"]))
