"""z of a Parquet file, streamed: batches of rows are decoded on the way to the rows that are wanted."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reprkit.embeddings.handles import PerProcess
from reprkit.embeddings.safe import damage
from reprkit.errors import InputError

if TYPE_CHECKING:
    from pyarrow import Array
    from pyarrow.parquet import ParquetFile

BATCH_BYTES = 8 << 20
"""Rows of z decoded at a time, and kept until others are wanted."""
BUFFER_BYTES = 8 << 20
"""Read buffer, shared by the columns of z."""
MEND = "copy it again, or write it again"


@dataclass(frozen=True)
class Layout:
    """Where z is in a Parquet file.

    Attributes:
        columns: one list column, or D columns of numbers.
        is_list: which of the two.
        shape: (N, D).
        dtype: NumPy name of the number type, the widest of them.
        groups: rows of each row group.
    """

    columns: tuple[str, ...]
    is_list: bool
    shape: tuple[int, int]
    dtype: np.dtype
    groups: tuple[int, ...]


class ParquetMatrix:
    """z of a Parquet file, on disk."""

    def __init__(self, path: Path, layout: Layout) -> None:
        self.layout, self.shape, self.dtype = layout, layout.shape, layout.dtype
        self._where = str(path)
        self._cursor = PerProcess(partial(Cursor, path, layout))

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Rows, as float32."""
        values = np.empty((len(rows), self.shape[1]), np.float32)
        done = 0
        with damage(f"{self._where}: z", MEND), self._cursor.get() as cursor:
            while done < len(rows):
                first, block = cursor.batch(int(rows[done]))
                stop = int(np.searchsorted(rows, first + len(block)))
                values[done:stop] = block[rows[done:stop] - first]
                done = stop
        return values

    def close(self) -> None:
        """Release the file."""
        self._cursor.close()


class Cursor:
    """A place in a Parquet file: the batch decoded last, and the way on from there.

    Rows in increasing order cost one pass through the file. A step back begins again at the row group.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        self._layout, self._where = layout, str(path)
        self._file = open_file(path, buffer_size=max(BUFFER_BYTES // len(layout.columns), 1 << 12))
        self._starts = np.cumsum([0, *layout.groups])
        self._batches: Iterator[np.ndarray] = iter(())
        self._first, self._block = 0, np.empty((0, layout.shape[1]), np.float32)
        self._lock = threading.Lock()

    def __enter__(self) -> Cursor:
        self._lock.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def batch(self, row: int) -> tuple[int, np.ndarray]:
        """The batch that holds `row`, and the number of its first row."""
        following = self._first + len(self._block)
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        if row < self._first or self._starts[group] > following or following == 0:
            self._batches, following = self._decode(group), int(self._starts[group])
            self._first, self._block = following, self._block[:0]
        while row >= following:
            block = next(self._batches, None)
            if block is None:
                raise InputError(f"{self._where}: ends before row {row}; {MEND}")
            self._first, self._block = following, block
            following += len(block)
        return self._first, self._block

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def _decode(self, group: int) -> Iterator[np.ndarray]:
        """Batches of z as float32 [n, D], from the beginning of a row group on."""
        size = max(1, BATCH_BYTES // (4 * self._layout.shape[1]))
        for each in range(group, len(self._layout.groups)):
            done = 0
            for batch in self._file.iter_batches(
                size, row_groups=[each], columns=list(self._layout.columns), use_threads=False
            ):
                columns = [batch.column(name) for name in self._layout.columns]
                what = f"{self._where}: rows {self._starts[each] + done} to {self._starts[each] + done + len(batch)}"
                is_list, width = self._layout.is_list, self._layout.shape[1]
                yield _from_list(columns[0], width, what) if is_list else _from_columns(columns, what)
                done += len(batch)
            if done != self._layout.groups[each]:
                raise InputError(f"{self._where}: row group {each} holds {done} of its rows; {MEND}")


def open_file(path: Path, **options: Any) -> ParquetFile:
    """Open `path`; InputError if pyarrow is not installed."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise InputError(f'{path}: a Parquet file needs pyarrow; run: pip install "reprkit[parquet]"') from None
    return pyarrow.parquet.ParquetFile(path, pre_buffer=False, page_checksum_verification=True, **options)


def _from_list(lists: Array, width: int, what: str) -> np.ndarray:
    """Lists of length D = `width` as float32 [n, D]."""
    values = lists.flatten()
    if lists.null_count or values.null_count or (np.asarray(lists.value_lengths()) != width).any():
        raise InputError(f"{what}: z is missing, holds nulls or differs in length; every sample needs {width} numbers")
    return _to_float32(values).reshape(-1, width)


def _from_columns(columns: Sequence[Array], what: str) -> np.ndarray:
    """Columns of numbers as float32 [n, D]."""
    block = np.empty((len(columns[0]), len(columns)), np.float32)
    for index, column in enumerate(columns):
        if column.null_count:
            raise InputError(f"{what}: z{index} is missing somewhere; every sample needs D numbers")
        block[:, index] = _to_float32(column)
    return block


def _to_float32(values: Array) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array(values.to_numpy(zero_copy_only=False), np.float32)
