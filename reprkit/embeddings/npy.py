"""Reading embeddings that others made: a `.npy` of z, with ids, split and targets in a CSV beside it."""

from __future__ import annotations

import csv
import math
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from reprkit.embeddings.arrays import ArraySource, check_matrix
from reprkit.embeddings.columns import choose_targets, read_cells
from reprkit.embeddings.handles import PerProcess
from reprkit.embeddings.npz import read_header
from reprkit.errors import InputError

ID_NAMES = ("id", "ids")


class MappedMatrix:
    """The array of a `.npy`, mapped into memory and never read whole."""

    def __init__(self, path: Path) -> None:
        with open(path, "rb") as handle:
            self.shape, fortran, self.dtype = read_header(handle, f"{path}: the array")
            offset, size = handle.tell(), os.fstat(handle.fileno()).st_size
        if math.prod(self.shape) * self.dtype.itemsize != size - offset:
            raise InputError(
                f"{path}: declares shape {self.shape} of {self.dtype} but holds {size - offset:,} bytes of it; "
                "copy it again, or save it again with numpy.save"
            )
        order = "F" if fortran else "C"
        self._array: PerProcess[np.ndarray] = PerProcess(
            partial(np.memmap, path, dtype=self.dtype, mode="r", offset=offset, shape=self.shape, order=order)
        )

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Rows, as float32."""
        run = len(rows) > 0 and rows[-1] - rows[0] + 1 == len(rows)
        chosen = self._array.get()[slice(rows[0], rows[-1] + 1) if run else rows]
        with np.errstate(over="ignore", invalid="ignore"):
            return np.array(chosen, np.float32)

    def close(self) -> None:
        """Release the mapping."""
        self._array.close()


def open_npy(path: Path) -> ArraySource:
    """Map a `.npy`, and read the CSV of the same stem beside it: a line a row, in the same order.

    Raises:
        InputError: a damaged file, or a CSV that is missing or has another number of lines.
    """
    z, table = MappedMatrix(path), path.with_suffix(".csv")
    check_matrix(z, str(path))
    if not table.is_file():
        raise InputError(
            f"{path}: there is no {table.name} beside it; write one with a line a row: id, split and y_<task> columns"
        )
    columns = read_csv(table)
    rows = len(next(iter(columns.values())))
    if z.shape[:1] != (rows,):
        raise InputError(f"{table}: has {rows} rows, but {path.name} is of shape {z.shape}; write a line for each row")
    ids, split = take_special(columns, str(table))
    targets, marked = choose_targets({name: read_cells(cells) for name, cells in columns.items()})
    kept = f"NumPy array with {table.name}; z {z.dtype}, mapped from disk"
    return ArraySource(
        z, targets, ids=ids, split=split, marked=marked, what=str(table), meta={"provenance": {"source": kept}}
    )


def take_special(columns: dict[str, Any], what: str) -> tuple[Any, Any]:
    """Remove the columns of ids and splits from `columns` and return them; None for one that is not there."""
    names = [name for name in ID_NAMES if name in columns]
    if len(names) > 1:
        raise InputError(f"{what}: has both columns {' and '.join(names)}; keep the one with the ids of the samples")
    return columns.pop(names[0]) if names else None, columns.pop("split", None)


def read_csv(path: Path) -> dict[str, list[str]]:
    """A CSV (UTF-8, commas) as text by column. Blank lines and columns without a name are left out.

    Raises:
        InputError: no CSV, no rows, a header that repeats a name, or a line of another length; it names the line.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as handle:
            reader = csv.reader(handle, strict=True)
            header = [name.strip() for name in next(reader, [])]
            twice = [name for name in header if name and header.count(name) > 1]
            if not any(header) or twice:
                wrong = f"the header repeats '{twice[0]}'" if twice else "there is no header"
                raise InputError(f"{path}: {wrong}; name every column once, in the first line")
            rows = []
            for cells in reader:
                if len(cells) == len(header):
                    rows.append(cells)
                elif cells:
                    raise InputError(
                        f"{path}, line {reader.line_num}: {len(cells)} cells for {len(header)} columns; "
                        "quote cells that hold commas"
                    )
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a CSV in UTF-8 ({error}); save it again") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if not rows:
        raise InputError(f"{path}: has a header but no rows")
    return {name: list(cells) for name, cells in zip(header, zip(*rows, strict=True), strict=True) if name}
