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

from reprkit.analysis.linalg import rbf_kernel
from reprkit.analysis.moments import SufficientStatistics, sufficient_statistics
from reprkit.analysis.neighbors import exact_neighbors
from reprkit.analysis.rows import BLOCK_ROWS, Rows
from reprkit.analysis.solver import Eigen
from reprkit.errors import InputError

if TYPE_CHECKING:
    from reprkit.embeddings import Embeddings
    from reprkit.tasks import Task

MEMORY = 1 << 30
"""Bytes of float32 embeddings, all splits together, up to which a file is held in memory."""

CARVE = 5
"""Without a val split, one train row in so many (by a hash of the id) takes its place."""

SPLITS = ("train", "val", "test")
Made = TypeVar("Made")


class Workspace:
    """The splits of one file, and what its analyses share. Safe to use from several threads.

    Without a val split, one train row in five, by a hash of its id, is taken out of train to serve as one.

    Attributes:
        embeddings: the open file; whoever opened it closes it.
        source: its path, or its label: what an error message names.
        carved: True if val was taken out of train.
        in_memory: True if the embeddings are held in memory.

    Raises:
        InputError: no train or test split, or one without rows.
    """

    def __init__(self, embeddings: Embeddings, *, memory: int = MEMORY) -> None:
        self.embeddings = embeddings
        self.source = str(getattr(embeddings, "path", None) or embeddings.label)
        for split, purpose in (("train", "fit on"), ("test", "score on")):
            if split not in embeddings.splits or not embeddings.num_rows(split):
                raise InputError(
                    f"{self.source}: has no {split} split to {purpose}; write the file with train, val and test"
                )
        self.carved = "val" not in embeddings.splits or not embeddings.num_rows("val")
        self.in_memory = sum(map(embeddings.num_rows, embeddings.splits)) * embeddings.dim * 4 <= memory
        self._kept: dict[Any, Any] = {}
        self._locks: dict[Any, threading.RLock] = {}
        self._guard = threading.Lock()

    @classmethod
    def of(cls, source: Embeddings | Workspace, *, memory: int = MEMORY) -> Workspace:
        """The workspace of an open file; a workspace is returned as it is."""
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
        mask = self._mask(split)
        return self.embeddings.num_rows(split) if mask is None else int(mask.sum())

    def ids(self, split: str) -> NDArray[np.str_]:
        """Sample ids [N]."""
        mask = self._mask(split)
        found = np.asarray(self.embeddings.ids("train" if mask is not None else split))
        return found if mask is None else found[mask]

    def targets(self, split: str, task: str) -> NDArray:
        """Class indices (int64, -1: missing) or values (float64, NaN: missing) [N]; a copy."""
        mask = self._mask(split)
        found = np.array(self.embeddings.targets("train" if mask is not None else split, task))
        return found if mask is None else found[mask]

    def z(self, split: str) -> NDArray[np.float32]:
        """All raw rows [N, D].

        Raises:
            InputError: the file is larger than what is held in memory; `blocks` and `rows` read it all the same.
        """
        if not self.in_memory:
            raise InputError(f"{self.source}: split {split} is too large for memory; give Workspace more of it")
        return self._keep(("z", split), lambda: np.concatenate(list(self._read(split, BLOCK_ROWS))))

    def blocks(self, split: str, rows: int = BLOCK_ROWS) -> Iterator[NDArray[np.float32]]:
        """Raw rows in blocks, in order."""
        if self.in_memory:
            return (block for _, block in Rows.of(self.z(split)).blocks(rows))
        return self._read(split, rows)

    def rows(self, split: str, indices: NDArray) -> NDArray[np.float32]:
        """Raw rows [n, D] of sorted indices."""
        if self.in_memory:
            return self.z(split)[indices]
        out, start, filled = np.empty((len(indices), self.dim), np.float32), 0, 0
        for block in self._read(split, BLOCK_ROWS):
            last = np.searchsorted(indices, start + len(block))
            out[filled:last] = block[indices[filled:last] - start]
            start, filled = start + len(block), int(last)
        return out

    @property
    def statistics(self) -> SufficientStatistics:
        """Moments of the train rows, with class sums of every discrete task: one pass."""

        def make() -> SufficientStatistics:
            discrete = {name: task for name, task in self.tasks.items() if task.is_discrete}
            targets = {name: (self.targets("train", name), task.num_outputs) for name, task in discrete.items()}
            return sufficient_statistics(self.blocks("train"), targets)

        return self._keep("statistics", make)

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        """[D] mean of the train rows, rounded to float32: what `centred` subtracts."""
        return self.statistics.mean.astype(np.float32).astype(np.float64)

    @cached_property
    def scale(self) -> NDArray[np.float64]:
        """[D] 1 / standard deviation of each feature on train; 1 for a constant one."""
        std = np.sqrt(np.diag(self.statistics.scatter) / self.statistics.count)
        varies = std > 1e-7 * np.maximum(np.abs(self.statistics.mean), np.finfo(np.float32).tiny)
        return np.where(varies, 1.0 / np.where(varies, std, 1.0), 1.0)

    def centred(self, split: str) -> Rows:
        """Rows of z - mean (float32)."""
        mean, count = self.mean.astype(np.float32), self.num_rows(split)
        if self.in_memory:
            return self._keep(("centred", split), lambda: Rows.of(self.z(split) - mean))
        return Rows(count, self.dim, stream=lambda rows: (block - mean for block in self._read(split, rows)))

    @property
    def correlation_eigen(self) -> Eigen:
        """Eigenbasis of the covariance of the standardised train rows."""

        def make() -> Eigen:
            return Eigen.of(self.statistics.scatter / self.statistics.count * self.scale * self.scale[:, None])

        return self._keep("eigen", make)

    @cached_property
    def gamma(self) -> float:
        """RBF width 1 / (D * variance) of the standardised train rows: scikit-learn's "scale"."""
        variance = float((np.diag(self.statistics.scatter) / self.statistics.count * self.scale**2).mean())
        return 1.0 / (self.dim * variance) if variance > 0 else 1.0

    def standardised(self, split: str, indices: NDArray) -> NDArray[np.float64]:
        """Standardised rows [n, D], float64, of sorted indices."""
        return (self.rows(split, indices) - self.mean) * self.scale

    def neighbors(self, split: str, k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The `k` nearest train rows, by cosine, of every row of a split held in memory: indices, cosines [N, k]."""

        def make() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
            return exact_neighbors(self.z("train"), k, self.z(split))

        return self._keep(("neighbors", split, k), make)

    @property
    def kernel(self) -> NDArray[np.float64]:
        """RBF kernel matrix [N, N] of all standardised train rows, held in memory."""

        def make() -> NDArray[np.float64]:
            rows = self.standardised("train", np.arange(self.num_rows("train")))
            return rbf_kernel(rows, rows, self.gamma)

        return self._keep("kernel", make)

    def _mask(self, split: str) -> NDArray[np.bool_] | None:
        """Which rows of the file's train split belong to a split; None: all rows of the split itself."""
        if not self.carved or split == "test":
            return None
        held_out = self._keep("held_out", lambda: carve_by_id(self.embeddings.ids("train")))
        return held_out if split == "val" else ~held_out

    def _read(self, split: str, rows: int) -> Iterator[NDArray[np.float32]]:
        """Blocks of a split from the file, checked to be finite."""
        mask, start = self._mask(split), 0
        for block in self.embeddings.blocks("train" if mask is not None else split, rows):
            if not np.isfinite(block.sum(dtype=np.float64)):
                raise InputError(
                    f"{self.source}: split {split} holds NaN or infinite embeddings; embed it again or drop those rows"
                )
            if mask is not None:
                block, start = block[mask[start : start + len(block)]], start + len(block)
            if len(block):
                yield block

    def _keep(self, key: Any, make: Callable[[], Made]) -> Made:
        """The value of `make`, called once; other keys are not held up meanwhile."""
        with self._guard:
            lock = self._locks.setdefault(key, threading.RLock())
        with lock:
            if key not in self._kept:
                self._kept[key] = make()
            return self._kept[key]


def carve_by_id(ids: Any, one_in: int = CARVE) -> NDArray[np.bool_]:
    """Mask [n] of about one in `one_in` samples by SHA-256 of their id: the same samples in any order or file."""
    digests = (hashlib.sha256(str(name).encode()).digest() for name in ids)
    return np.array([int.from_bytes(digest[:8], "big") % one_in == 0 for digest in digests], bool)
