"""Arrays whose rows are read from files when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import numpy as np

from reprkit.environment import usable_cores

T = TypeVar("T")
Reader = Callable[[T], np.ndarray]
"""Turns what names a row (a path, an index) into its array."""

WORKERS = min(8, usable_cores())
"""Threads that read rows at once: decoders and decompressors let go of Python's lock."""


class FileArray(Generic[T]):
    """Rows that are decoded anew whenever they are asked for: an array [N, ...] for those who only take rows of it.

    Attributes:
        items: [N] what names each row.
        read: reads a row.
        shape: (N, ...).
        dtype: of the rows.
    """

    def __init__(
        self, items: Sequence[T], read: Reader[T], shape: Sequence[int], dtype: Any, workers: int = WORKERS
    ) -> None:
        self.items = items
        self.read = read
        self.shape = (len(items), *shape)
        self.dtype = np.dtype(dtype)
        self.workers = workers

    @property
    def ndim(self) -> int:
        """Number of axes, rows included."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """What all rows would take in memory."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """The rows of a slice, an array of row numbers or a boolean mask [n, ...]; of a number, that row alone.

        Raises:
            InputError: a file cannot be used; its name is told.
            IndexError: no such row.
        """
        chosen = np.arange(len(self))[rows]
        if chosen.ndim == 0:
            return self._row(int(chosen))
        if chosen.ndim != 1:
            raise IndexError("only rows can be taken: a slice, row numbers or a mask")
        out = np.empty((len(chosen), *self.shape[1:]), self.dtype)
        if self.workers > 1 and len(chosen) > 1:
            with ThreadPoolExecutor(min(self.workers, len(chosen))) as pool:
                for place, row in enumerate(pool.map(self._row, chosen.tolist())):
                    out[place] = row
        else:
            for place, index in enumerate(chosen.tolist()):
                out[place] = self._row(index)
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        rows = self[:]
        return rows if dtype is None else rows.astype(dtype)

    def _row(self, index: int) -> np.ndarray:
        row = self.read(self.items[index])
        if row.shape != self.shape[1:] or row.dtype != self.dtype:
            raise ValueError(f"row {index}: got {row.dtype} {row.shape}, not {self.dtype} {self.shape[1:]}")
        return row
