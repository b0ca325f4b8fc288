"""One embeddings file and the heavy work that its analyses share: each piece is made once, when it is first needed.

Small files are held in memory; larger ones are streamed from disk, block by block, by every analysis that can. The
moments, the eigenbasis, the neighbour table and the kernel matrix are computed for the first that asks and kept for
the others: all tasks, all hyperparameters, and probes beside universality beside geometry.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.groups import Codes, group_names, number_groups
from reprkit.analysis.linalg import rbf_kernel, row_slices
from reprkit.analysis.moments import SufficientStatistics, mean_and_variance, sufficient_statistics
from reprkit.analysis.neighbors import exact_neighbors, exact_neighbors_streamed
from reprkit.analysis.rows import BLOCK_ROWS, Rows
from reprkit.analysis.solver import Eigen
from reprkit.errors import InputError

if TYPE_CHECKING:
    from reprkit.embeddings import Embeddings
    from reprkit.tasks import Task

MEMORY = 1 << 30
"""Bytes of float32 embeddings, all splits together, up to which a file is held in memory."""

CARVE = 5
"""Without a val split, one train row in so many (by a hash of the id, or of its group's) takes its place."""

SPLITS = ("train", "val", "test")
Made = TypeVar("Made")


class Workspace:
    """The splits of one file, and what its analyses share. Safe to use from several threads.

    Without a val split, one train row in five, by a hash of its id, is taken out of train to serve as one. Where rows
    come in groups, whole groups are.

    Attributes:
        embeddings: the open file; whoever opened it closes it.
        source: its path, or its label: what an error message names.
        groups: separator before which an id names the group of its row; empty if every row is its own.
        carved: True if val was taken out of train.
        memory: bytes of float32 embeddings up to which they are held in memory.
        in_memory: True if they are.

    Raises:
        InputError: no train or test split, or one without rows; groups that are in two splits, or one alone in test.
    """

    def __init__(self, embeddings: Embeddings, *, memory: int = MEMORY) -> None:
        self.embeddings = embeddings
        self.source = str(getattr(embeddings, "path", None) or embeddings.label)
        for split, purpose in (("train", "fit on"), ("test", "score on")):
            if split not in embeddings.splits or not embeddings.num_rows(split):
                raise InputError(
                    f"{self.source}: has no {split} split to {purpose}; write the file with train, val and test"
                )
        self.groups = embeddings.groups
        if self.groups:
            self._check_groups()
        self.carved = "val" not in embeddings.splits or not embeddings.num_rows("val")
        self.memory = memory
        self.in_memory = sum(map(embeddings.num_rows, embeddings.splits)) * embeddings.dim * 4 <= memory
        self._kept: dict[Any, Any] = {}
        self._locks: dict[Any, threading.RLock] = {}
        self._guard = threading.Lock()

    @classmethod
    def of(cls, source: Embeddings | Workspace, *, memory: int = MEMORY) -> Workspace:
        """The workspace of `source`: of an open file a new one, with `memory` bytes for rows; a workspace itself."""
        return source if isinstance(source, Workspace) else cls(source, memory=memory)

    @property
    def label(self) -> str:
        """Name of the encoder."""
        return self.embeddings.label

    @property
    def seed(self) -> int:
        """Its training seed."""
        return int(self.embeddings.seed)

    @property
    def tasks(self) -> dict[str, Task]:
        """Task name -> Task."""
        return self.embeddings.tasks

    @property
    def trained_tasks(self) -> tuple[str, ...]:
        """Tasks that the encoder was trained for."""
        return tuple(self.embeddings.trained_tasks)

    @property
    def dim(self) -> int:
        """D."""
        return self.embeddings.dim

    def num_rows(self, split: str) -> int:
        """Rows of a split, after carving."""
        mask = self.mask(split)
        return self.embeddings.num_rows(split) if mask is None else int(mask.sum())

    def ids(self, split: str) -> NDArray[np.str_]:
        """Sample ids [N] of a split, after carving."""
        mask = self.mask(split)
        found = np.asarray(self.embeddings.ids("train" if mask is not None else split))
        return found if mask is None else found[mask]

    def group_names(self, split: str) -> NDArray[np.str_] | None:
        """Name of the group of each row of `split` [N]; None if every row is its own."""
        return group_names(self.ids(split), self.groups, self.source) if self.groups else None

    def group_codes(self, split: str) -> Codes | None:
        """Number of the group of each row of `split` [N], by their first rows; None if every row is its own."""
        names = self.group_names(split)
        return None if names is None else number_groups(names)

    def targets(self, split: str, task: str) -> NDArray:
        """Targets of `task` in `split` [N]: class indices (int64, -1: missing) or values (float64, NaN: missing).

        A copy.

        Raises:
            InputError: a class index that the task does not have, or an infinite value.
        """
        mask, kind = self.mask(split), self.tasks[task]
        found = np.array(self.embeddings.targets("train" if mask is not None else split, task))
        if kind.is_discrete and not ((found >= -1) & (found < kind.num_outputs)).all():
            last = kind.num_outputs - 1
            raise InputError(
                f"{self.source}: task '{task}' has a target outside 0..{last} in {split}; write class indices"
            )
        if not kind.is_discrete and np.isinf(found).any():
            raise InputError(
                f"{self.source}: task '{task}' has an infinite target in {split}; write NaN if it is missing"
            )
        return found if mask is None else found[mask]

    def z(self, split: str) -> NDArray[np.float32]:
        """All raw rows of `split` [N, D].

        Raises:
            InputError: the file is larger than what is held in memory; `blocks` and `rows` read it all the same.
        """
        if not self.in_memory:
            raise InputError(f"{self.source}: split {split} is too large for memory; give Workspace more of it")
        none = np.empty((0, self.dim), np.float32)
        return self.keep(("z", split), lambda: np.concatenate([none, *self._read(split, BLOCK_ROWS)]))

    def blocks(self, split: str, rows: int = BLOCK_ROWS) -> Iterator[NDArray[np.float32]]:
        """Raw rows of `split` in blocks of `rows`, in order."""
        if self.in_memory:
            return (block for _, block in Rows.of(self.z(split)).blocks(rows))
        return self._read(split, rows)

    def some_blocks(self, split: str, indices: NDArray, rows: int = BLOCK_ROWS) -> Iterator[NDArray[np.float32]]:
        """Raw rows of `split` at sorted, distinct `indices`, in order, in blocks of at most `rows`."""
        start = 0
        for block in self.blocks(split, rows):
            first, last = np.searchsorted(indices, (start, start + len(block)))
            if last - first == len(block):
                yield block
            elif last > first:
                yield block[indices[first:last] - start]
            start += len(block)

    def rows(self, split: str, indices: NDArray) -> NDArray[np.float32]:
        """Raw rows [n, D] of `split` at sorted, distinct `indices`; not to be written to."""
        if self.in_memory:
            every = self.z(split)
            return every if len(indices) == len(every) else every[indices]
        out, filled = np.empty((len(indices), self.dim), np.float32), 0
        for block in self.some_blocks(split, indices):
            out[filled : filled + len(block)] = block
            filled += len(block)
        return out

    @property
    def statistics(self) -> SufficientStatistics:
        """Moments of the train rows, with class sums of every discrete task: one pass."""

        def make() -> SufficientStatistics:
            discrete = {name: task for name, task in self.tasks.items() if task.is_discrete}
            targets = {name: (self.targets("train", name), task.num_outputs) for name, task in discrete.items()}
            return sufficient_statistics(self.blocks("train"), targets)

        return self.keep("statistics", make)

    @property
    def _mean_and_variance(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of each feature on train: a pass of its own, since the scatter matrix costs D times as much."""
        return self.keep("mean_and_variance", lambda: mean_and_variance(self.blocks("train")))

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        """[D] mean of the train rows, rounded to float32: what `centred` subtracts."""
        return self._mean_and_variance[0].astype(np.float32).astype(np.float64)

    @cached_property
    def scale(self) -> NDArray[np.float64]:
        """[D] 1 / standard deviation of each feature on train; 1 for a constant one."""
        mean, variance = self._mean_and_variance
        std = np.sqrt(variance)
        varies = std > 1e-7 * np.maximum(np.abs(mean), np.finfo(np.float32).tiny)
        return np.where(varies, 1.0 / np.where(varies, std, 1.0), 1.0)

    def centred(self, split: str) -> Rows:
        """Rows [N, D] of z - mean (float32) of a split, in memory or streamed."""
        mean, count = self.mean.astype(np.float32), self.num_rows(split)
        if self.in_memory:
            return self.keep(("centred", split), lambda: Rows.of(self.z(split) - mean))
        return Rows(count, self.dim, stream=lambda rows: (block - mean for block in self._read(split, rows)))

    @property
    def correlation_eigen(self) -> Eigen:
        """Eigenbasis of the covariance of the standardised train rows."""

        def make() -> Eigen:
            return Eigen.of(self.statistics.scatter / self.statistics.count * self.scale * self.scale[:, None])

        return self.keep("eigen", make)

    @cached_property
    def gamma(self) -> float:
        """RBF width 1 / (D * variance) of the standardised train rows: scikit-learn's "scale"."""
        variance = float((self._mean_and_variance[1] * self.scale**2).mean())
        return 1.0 / (self.dim * variance) if variance > 0 else 1.0

    def standardised(self, split: str, indices: NDArray) -> NDArray[np.float64]:
        """Standardised rows [n, D], float64, of `split` at sorted, distinct `indices`."""
        found = self.rows(split, indices) - self.mean
        found *= self.scale
        return found

    def neighbors(
        self, split: str, k: int, *, rows: NDArray | None = None, bank: NDArray | None = None
    ) -> tuple[NDArray, NDArray]:
        """The `k` nearest train rows, by cosine, of every row of a split: indices and cosines [n, k], by exact search.

        The table of all rows against all rows is kept. A streamed file is read once for as many rows as a quarter of
        the memory holds.

        Args:
            split: whose rows ask.
            k: at most the rows that are searched.
            rows: sorted rows of the split that ask; None: all.
            bank: sorted train rows that are searched, which the indices count; None: all.
        """

        def make() -> tuple[NDArray, NDArray]:
            asked = np.arange(self.num_rows(split)) if rows is None else rows
            known = np.arange(self.num_rows("train")) if bank is None else bank
            if self.in_memory:
                return exact_neighbors(self.rows("train", known), k, self.rows(split, asked))
            indices, cosines = np.empty((len(asked), k), np.int32), np.empty((len(asked), k), np.float32)
            for part in row_slices(len(asked), max(BLOCK_ROWS, self.memory // (32 * self.dim))):
                indices[part], cosines[part] = exact_neighbors_streamed(
                    self.some_blocks("train", known), k, self.rows(split, asked[part])
                )
            return indices, cosines

        return make() if rows is not None or bank is not None else self.keep(("neighbors", split, k), make)

    @property
    def kernels(self) -> dict[str, NDArray[np.float64]]:
        """Split -> RBF kernel matrix [n, N] of its rows with all train rows, standardised; held in memory.

        Val and test are there if they have at most half as many rows, so that all take at most twice what train takes.
        """

        def make() -> dict[str, NDArray[np.float64]]:
            count = self.num_rows("train")
            known = self.standardised("train", np.arange(count))
            found = {"train": rbf_kernel(known, known, self.gamma)}
            for split in ("val", "test"):
                if 2 * (asked := self.num_rows(split)) <= count:
                    rows = self.standardised(split, np.arange(asked))
                    found[split] = rbf_kernel(rows, known, self.gamma)
            return found

        return self.keep("kernels", make)

    def keep(self, key: Any, make: Callable[[], Made]) -> Made:
        """The value of `make` for a key, made once and kept; other keys are not held up meanwhile."""
        with self._guard:
            lock = self._locks.setdefault(key, threading.RLock())
        with lock:
            if key not in self._kept:
                self._kept[key] = make()
            return self._kept[key]

    def mask(self, split: str) -> NDArray[np.bool_] | None:
        """Which rows of the file's train split belong to a split; None: all rows of the split itself."""
        if not self.carved or split == "test":
            return None
        held_out = self.keep("held_out", lambda: carve_by_id(self._file_groups("train")))
        return held_out if split == "val" else ~held_out

    def _file_groups(self, split: str) -> NDArray[np.str_]:
        """The group of every row of a split of the file; the row's own id where there are no groups."""
        return group_names(self.embeddings.ids(split), self.groups, self.source)

    def _check_groups(self) -> None:
        homes: dict[str, str] = {}
        for split in self.embeddings.splits:
            for name in np.unique(self._file_groups(split)).tolist():
                if homes.setdefault(name, split) != split:
                    raise InputError(
                        f"{self.source}: rows of '{name}' are in both {homes[name]} and {split}; all rows of a group"
                        " belong to one split: write the splits into the file"
                    )
        if list(homes.values()).count("test") < 2:
            raise InputError(f"{self.source}: all test rows are of one group; intervals need two or more")

    def _read(self, split: str, rows: int) -> Iterator[NDArray[np.float32]]:
        """Blocks of a split from the file, checked to be finite."""
        mask, start = self.mask(split), 0
        for block in self.embeddings.blocks("train" if mask is not None else split, rows):
            if not np.isfinite(block.sum(dtype=np.float64)):
                raise InputError(
                    f"{self.source}: split {split} holds NaN or infinite embeddings; embed it again or drop those rows"
                )
            if mask is not None:
                block, start = block[mask[start : start + len(block)]], start + len(block)
            if len(block):
                yield block


def carve_by_id(ids: Any, one_in: int = CARVE) -> NDArray[np.bool_]:
    """Mask [n] of about one in `one_in` samples by SHA-256 of their id: the same samples in any order or file.

    Names of groups in the place of ids take whole groups.
    """
    digests = (hashlib.sha256(str(name).encode()).digest() for name in ids)
    return np.array([int.from_bytes(digest[:8], "big") % one_in == 0 for digest in digests], bool)
