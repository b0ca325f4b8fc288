"""HDF5 storage whose structure never changes once it is created.

Every dataset is allocated in full, chunk by chunk, before the first row arrives. From then on a write touches
nothing but the bytes of one chunk (or of one counter), at an address fixed beforehand, so a kill at any moment
leaves a file that opens, and writing the same chunk again heals it. Two rules of HDF5 make this work:

- with early allocation, filtered chunks are written out with the fill value at once, and a checksummed chunk
  always has the same size, so it is never moved and the index never changes;
- a chunk that is overwritten whole is not read first. The last chunk of a dataset reaches past its end and
  would be read (and would fail if a kill had torn it), so it is written raw, with its checksum made here.
"""

from __future__ import annotations

import struct

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t

from reprkit.embeddings.format import chunk_rows

LIBVER = ("v108", "v108")
"""Readable by HDF5 1.8 and later. Newer superblocks (1.10) mark a killed writer's file as still open."""


def create_rows(
    group: h5py.Group, name: str, shape: tuple[int, ...], dtype: np.dtype, *, chunk: int, fill: float | None = None
) -> h5py.Dataset:
    """Create a checksummed dataset of `shape`, chunked by `chunk` rows and allocated in full."""
    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_chunk((chunk, *shape[1:]))
    properties.set_fletcher32()
    if fill is not None:
        properties.set_fill_value(np.array(fill, dtype))
    return _create(group, name, shape, dtype, properties)


def create_column(group: h5py.Group, name: str, values: np.ndarray) -> None:
    """Store a column of N values that are known already, checksummed.

    Its fill value is one that no column may hold, so that a chunk lost by a damaged index is noticed.
    """
    chunk = chunk_rows(len(values), [values.dtype.itemsize])
    fill = {"f": np.inf, "i": np.iinfo(np.int64).min}.get(values.dtype.kind)
    create_rows(group, name, values.shape, values.dtype, chunk=chunk, fill=fill)[...] = values


def create_bytes(group: h5py.Group, name: str, content: bytes) -> None:
    """Store `content` as a checksummed uint8 dataset."""
    create_column(group, name, np.frombuffer(content, np.uint8))


def create_counter(group: h5py.Group, name: str) -> None:
    """Store one int64, 0 for now, as plain bytes at a fixed address."""
    _create(group, name, (1,), np.dtype("<i8"), h5p.create(h5p.DATASET_CREATE))


def _create(
    group: h5py.Group, name: str, shape: tuple[int, ...], dtype: np.dtype, properties: h5p.PropDCID
) -> h5py.Dataset:
    properties.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    properties.set_obj_track_times(False)
    stored = h5t.py_create(dtype, logical=True)
    return h5py.Dataset(h5d.create(group.id, name.encode(), stored, h5s.create_simple(shape), properties))


def write_chunk(dataset: h5py.Dataset, start: int, rows: np.ndarray) -> None:
    """Overwrite the chunk that begins at row `start` with `rows`: a whole chunk, or all of the last one."""
    chunk = dataset.chunks[0]
    if len(rows) == chunk:
        dataset[start : start + chunk] = rows
        return
    padded = np.full(dataset.chunks, dataset.fillvalue, dataset.dtype)
    padded[: len(rows)] = rows
    content = padded.tobytes()
    origin = (start,) + (0,) * (dataset.ndim - 1)
    dataset.id.write_direct_chunk(origin, content + struct.pack("<I", fletcher32(content)))


def fletcher32(content: bytes) -> int:
    """HDF5's Fletcher-32 of an even number of bytes, as its filter appends it.

    Over big-endian 16-bit words w_1..w_n: the sum of w_i, and the sum of (n + 1 - i) w_i, both modulo 65535, where
    only a sum of zero gives 0. The words are read little-endian here, which modulo 65535 is a factor of 256.
    """
    words = np.frombuffer(content, "<u2")
    block = 1 << 16  # weighted sums of a block stay below 2^48; the running sums are Python integers
    weights = np.arange(block, 0, -1, dtype=np.uint64)
    first = second = 0
    for start in range(0, len(words), block):
        part = words[start : start + block].astype(np.uint64)
        second += len(part) * first + int(part @ weights[block - len(part) :])
        first += int(part.sum())
    return _fold(second) << 16 | _fold(first)


def _fold(total: int) -> int:
    return (total * 256 - 1) % 65535 + 1 if total else 0
