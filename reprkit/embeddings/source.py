"""What a kind of file must offer so that `Embeddings` can read it, and a table so that `ArraySource` can hold it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from reprkit.tasks import Task


class Source(Protocol):
    """A kind of file; `Embeddings` adds the checks and conveniences that all of them share.

    Attributes:
        splits: those of train, val, test that have rows.
        tasks: name -> Task.
        dim: D.
        meta: as of `Embeddings.meta`; `provenance["source"]` says in words where z is.
    """

    splits: tuple[str, ...]
    tasks: dict[str, Task]
    dim: int
    meta: dict[str, Any]

    def num_rows(self, split: str) -> int:
        """Number of samples N of `split`."""

    def read_z(self, split: str, start: int, stop: int) -> np.ndarray:
        """Rows of z: a new float32 [stop - start, D]."""

    def ids(self, split: str) -> np.ndarray:
        """Sample ids: str [N]."""

    def targets(self, split: str, task: str) -> np.ndarray:
        """Targets: int64 or float64 [N]."""

    def read_logits(self, split: str, task: str, start: int, stop: int) -> np.ndarray | None:
        """Rows of the own-head outputs: float32 [stop - start, C]; None if there are none."""

    def unstored(self, split: str) -> Mapping[str, int]:
        """Datasets of which parts were never stored, and how many."""

    def close(self) -> None:
        """Release the file; a later access opens it again."""


class Matrix(Protocol):
    """Numbers [N, D], in memory or on disk."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D)."""

    @property
    def dtype(self) -> np.dtype:
        """Number type, as stored."""

    def take(self, rows: np.ndarray) -> np.ndarray:
        """A new float32 [n, D]: the rows of these increasing numbers."""

    def close(self) -> None:
        """Release the file; a later access opens it again."""
