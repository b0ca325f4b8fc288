"""The files that `Embeddings` reads, described in one place (`sources()`), and which reader each one needs."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from reprkit.errors import InputError

if TYPE_CHECKING:
    from reprkit.embeddings.source import Source

_SOURCES = """\
embeddings files, told apart by their content:
  .h5       written by `reprkit embed`; read row by row, with the encoder's own outputs
  .npz      numpy.savez with z [samples, features], y_<task>, optional ids and split; read whole
  .npy      z, mapped from disk, with a CSV of the same stem beside it (z.npy, z.csv): one line a row of z, in order
  .parquet  one row a sample, streamed; z is a column of lists named z, or columns z0, z1, ... (also z_0, z_1, ...),
            or the only column of lists of numbers; needs pip install "reprkit[parquet]"
  .h5ad     AnnData, streamed; z is the only dense array of obsm, targets are the columns of obs, ids its index
  FILE::NAME chooses where there are several: an array of obsm (or X), a column of lists

columns of all but the first:
  id, ids   unique names of the samples (default: row numbers)
  split     train, val or test (default: 70, 10, 20 % by a hash of the id)
  y_<task>  targets. Whole numbers are class indices from 0 on (-1 = missing), other numbers real values (NaN =
            missing), text the names of classes, which are sorted; true and false are classes 1 and 0
  If a CSV, Parquet or AnnData table has no y_<task>, every other column is a target: whole numbers of at most 20
  values, text, true and false are classes, other numbers real values; free text is left out. Declared
  categories are classes, ordered ones of AnnData an ordinal task. Empty, na, n/a, nan, null or no entry = missing.
"""


def sources() -> str:
    """What can be given as embeddings, as text for people."""
    return _SOURCES


def split_name(path: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """`FILE::NAME` as file and name; the name is None if there is none, or if a file is called like that."""
    file, mark, name = os.fspath(path).rpartition("::")
    return (Path(file), name) if mark and not Path(path).exists() else (Path(path), None)


def choices(path: str | os.PathLike[str]) -> list[str]:
    """`FILE::NAME` for each of several embeddings in the file at `path`, of which one must be chosen; else empty."""
    file, name = split_name(path)
    kind = "" if name is not None else _kind(file)
    if kind == "h5ad":
        from reprkit.embeddings.h5ad import dense_arrays

        names = dense_arrays(file)
    elif kind == "parquet":
        from reprkit.embeddings.parquet import list_columns

        names = list_columns(file)
    else:
        names = []
    return [f"{file}::{each}" for each in names] if len(names) > 1 else []


def open_source(path: str | os.PathLike[str], *, allow_partial: bool = False) -> Source:
    """Open `FILE` or `FILE::NAME` with the reader that its content needs.

    Raises:
        InputError: a file that its reader refuses, or a NAME where there is nothing to choose.
    """
    file, name = split_name(path)
    kind = _kind(file)
    if kind == "h5ad":
        from reprkit.embeddings.h5ad import open_h5ad

        return open_h5ad(file, name)
    if kind == "parquet":
        from reprkit.embeddings.parquet import open_parquet

        return open_parquet(file, name)
    if name is not None:
        raise InputError(f"{path}: '::{name}' chooses in an .h5ad or .parquet only; give {file}")
    if kind == "npz":
        from reprkit.embeddings.npz import open_npz

        return open_npz(file)
    if kind == "npy":
        from reprkit.embeddings.npy import open_npy

        return open_npy(file)
    from reprkit.embeddings.h5 import H5Source

    return H5Source(file, allow_partial=allow_partial)


def _kind(path: Path) -> str:
    """By content; by name where the content says nothing, so that the right reader names the fault."""
    from reprkit.embeddings.h5ad import is_h5ad
    from reprkit.embeddings.safe import file_size

    file_size(path)
    with open(path, "rb") as handle:
        head = handle.read(8)
    for kind, signature in {"npz": b"PK\x03\x04", "npy": b"\x93NUMPY", "parquet": b"PAR1"}.items():
        if head.startswith(signature):
            return kind
    with contextlib.suppress(InputError):
        return "h5ad" if is_h5ad(path) else "h5"
    if path.suffix == ".csv":
        raise InputError(f"{path}: a table, not an array; give the .npy beside it")
    return path.suffix[1:] if path.suffix in (".npz", ".npy", ".parquet", ".h5ad") else "h5"
