"""Reading embeddings that others made: the AnnData layout of HDF5 (`.h5ad`), its z streamed from disk.

Follows the public description of that layout, encoding versions 0.1.0 and 0.2.0, with the older `obs/__categories`.
z is a dense array of `obsm` (or `X` itself), the columns of `obs` are targets, its index the ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from h5py import h5z

from reprkit.embeddings import safe
from reprkit.embeddings.arrays import ArraySource, check_matrix
from reprkit.embeddings.columns import Column, Labels, Unreadable, choose_targets
from reprkit.embeddings.handles import PerProcess
from reprkit.embeddings.safe import attribute, damage, has, is_hard, open_h5, read_text
from reprkit.errors import InputError

MEND = "copy it again, or write it again with anndata"
FILTERS = safe.FILTERS | {h5z.FILTER_LZF}
"""h5py brings LZF, and much AnnData is written with it."""
PIECE_BYTES = 16 << 20
"""Read at once, at most."""

_child = partial(safe.child, mend=MEND)
_dataset = partial(safe.dataset, filters=FILTERS, mend=MEND)
_read = partial(safe.read, mend=MEND)


def is_h5ad(path: Path) -> bool:
    """True for an HDF5 file that says it is AnnData, or is laid out like one."""
    with damage(str(path), MEND), open_h5(path, MEND) as file:
        said = attribute(file, "encoding-type", "") == "anndata"
        return said or (has(file, "obs") and (has(file, "obsm") or has(file, "X")))


def dense_arrays(path: Path) -> list[str]:
    """Names of the arrays in `obsm` that can be z."""
    with damage(str(path), MEND), open_h5(path, MEND) as file:
        return list(_dense(file))


def open_h5ad(path: Path, name: str | None = None) -> ArraySource:
    """Read all but z of an `.h5ad`.

    Args:
        path: the file.
        name: which array of `obsm` is z, or `X` for X itself; None takes the only one.

    Raises:
        InputError: a damaged file, one without an index of its rows, or without targets.
    """
    where = str(path)
    with damage(where, MEND), open_h5(path, MEND) as file:
        home, key = _choose(file, name, where)
        z = StoredMatrix(path, home, key)
        check_matrix(z, where)
        obs = _child(file, "obs", h5py.Group, where)
        index = attribute(obs, "_index", "")
        if not index:
            raise InputError(f"{where}: '/obs' names no index; {MEND}")
        ids = _column(obs, index, where)
        columns = {each: _column(obs, each, where) for each in _column_names(obs) if each != index}
        label = {"label": f"{path.stem} {key}"} if len(_dense(file)) > 1 else {}
    split = columns.pop("split", None)
    targets, marked = choose_targets(columns)
    kept = f"AnnData; z {z.dtype} in '{home}{key}', streamed from disk"
    meta = {**label, "provenance": {"source": kept}}
    return ArraySource(z, targets, ids=ids, split=split, marked=marked, what=where, meta=meta)


class StoredMatrix:
    """A dense dataset, read in pieces."""

    def __init__(self, path: Path, home: str, key: str) -> None:
        self._where, self._home, self._key = str(path), home, key
        self._file: PerProcess[h5py.File] = PerProcess(partial(open_h5, path, MEND))
        try:
            found = self._dataset()
            self.shape, self.dtype = found.shape, found.dtype
            self._gap = found.chunks[0] if found.chunks else 16
        finally:
            self.close()

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Rows, as float32."""
        values = np.empty((len(rows), self.shape[1]), np.float32)
        longest = max(1, PIECE_BYTES // (self.shape[1] * self.dtype.itemsize))
        with damage(f"{self._where}: z", MEND), np.errstate(over="ignore", invalid="ignore"):
            found = self._dataset()
            for part in pieces(rows, gap=self._gap, longest=longest):
                first, last = rows[part.start], rows[part.stop - 1]
                values[part] = found[first : last + 1][rows[part] - first]
        return values

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def _dataset(self) -> h5py.Dataset:
        file = self._file.get()
        group = _child(file, self._home.strip("/"), h5py.Group, self._where) if self._home else file
        return _dataset(group, self._key, self._where, kinds="fiu", ndim=2)


def pieces(rows: np.ndarray, *, gap: int, longest: int) -> Iterator[slice]:
    """Cut increasing row numbers into slices, each read at once: no step over `gap`, no stretch over `longest`."""
    start = 0
    for stop in [*(np.flatnonzero(np.diff(rows) > gap) + 1).tolist(), len(rows)]:
        while start < stop:
            end = min(stop, int(np.searchsorted(rows, rows[start] + longest)))
            yield slice(start, end)
            start = end


def _dense(file: h5py.File) -> dict[str, int]:
    """Names and widths of the dense arrays in `obsm`."""
    if not has(file, "obsm") or not is_hard(file, "obsm") or not isinstance(file["obsm"], h5py.Group):
        return {}
    arrays = {name: file["obsm"][name] for name in file["obsm"] if is_hard(file["obsm"], name)}
    return {
        name: found.shape[1]
        for name, found in arrays.items()
        if isinstance(found, h5py.Dataset) and found.shape and len(found.shape) == 2 and found.dtype.kind in "fiu"
    }


def _choose(file: h5py.File, name: str | None, where: str) -> tuple[str, str]:
    """Group and name of the dataset that is z."""
    dense = _dense(file)
    if name is None and len(dense) == 1:
        return "obsm/", next(iter(dense))
    if name in dense:
        return "obsm/", str(name)
    if name == "X":
        if isinstance(_child(file, "X", h5py.HLObject, where), h5py.Group):
            raise InputError(f"{where}: X is sparse; store it as a dense array")
        return "", "X"
    several = ", ".join(f"{key} ({width} features)" for key, width in dense.items())
    if name is not None:
        raise InputError(f"{where}: has no dense array '{name}' in obsm; choose from {several or 'none'}, or X")
    if not dense:
        raise InputError(f"{where}: has no dense array in obsm; add one, or name {where}::X to take X itself")
    raise InputError(f"{where}: has several embeddings: {several}; name one, as in {where}::{next(iter(dense))}")


def _column_names(obs: h5py.Group) -> list[str]:
    """The columns of `obs`, in the order that it states."""
    names = [name for name in obs if name != "__categories"]
    if "column-order" in obs.attrs:
        kind = obs.attrs.get_id("column-order")
        if len(kind.shape) == 1 and kind.shape[0] <= len(names) and h5py.check_string_dtype(kind.dtype):
            stated = [each.decode() if isinstance(each, bytes) else each for each in obs.attrs["column-order"].tolist()]
            names.sort(key=lambda name: stated.index(name) if name in stated else len(stated))
    return names


def _column(group: h5py.Group, name: str, where: str) -> Column:
    found = _child(group, name, h5py.HLObject, where)
    if isinstance(found, h5py.Group) and attribute(found, "encoding-type", "") == "categorical":
        return _labels(_dataset(found, "codes", where, kinds="iu", ndim=1), found, "categories", found, where)
    if isinstance(found, h5py.Dataset) and has(group, "__categories"):
        old = _child(group, "__categories", h5py.Group, where)
        if has(old, name):
            categories = _child(old, name, h5py.Dataset, where)
            return _labels(_dataset(group, name, where, kinds="iu", ndim=1), old, name, categories, where)
    return _values(group, name, where)


def _labels(codes: h5py.Dataset, home: h5py.Group, name: str, told: h5py.HLObject, where: str) -> Column:
    names = _values(home, name, where)
    if not isinstance(names, np.ndarray):
        return Unreadable("a column of categories that are no text or numbers")
    ordered = bool(attribute(told, "ordered", 0))
    return Labels(_read(codes, where), [str(each) for each in names.tolist()], ordered)


def _values(group: h5py.Group, name: str, where: str) -> Column:
    """Text or numbers, with a mask of those that are missing if they are in a group."""
    found = _child(group, name, h5py.HLObject, where)
    if isinstance(found, h5py.Dataset):
        return _array(group, name, where)
    kind = attribute(found, "encoding-type", "")
    if kind in ("nullable-integer", "nullable-boolean", "nullable-string-array"):
        values = _array(found, "values", where)
        gaps = _read(_dataset(found, "mask", where, kinds="b", ndim=1), where)
        if isinstance(values, np.ndarray) and values.shape == gaps.shape:
            return np.where(gaps, "", values) if values.dtype.kind == "U" else np.ma.array(values, mask=gaps)
    return Unreadable(f"encoded as '{kind}'")


def _array(group: h5py.Group, name: str, where: str) -> Column:
    found = _child(group, name, h5py.Dataset, where)
    text = h5py.check_string_dtype(found.dtype) is not None
    if found.shape is None or found.ndim != 1 or not (text or found.dtype.kind in "biuf"):
        return Unreadable(f"{found.dtype} of shape {found.shape}")
    found = _dataset(group, name, where, kinds="biufST", ndim=1)
    return read_text(found, where, MEND) if text else _read(found, where)
