"""Opening HDF5 files that may be damaged or hostile: nothing is followed out of the file, nothing is believed.

Only hard links, plain numbers and fixed-length text, data inside the file, and the filters that HDF5 itself
brings. Declared sizes are compared with the bytes that are really there before anything is allocated.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5l, h5z

from reprkit.errors import InputError

FILTERS = frozenset({h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32})
MAX_DECLARED = 4 << 30
MAX_RATIO = 1000
MAX_CHUNK = 512 << 20
MAX_TEXT = 1024
ERRORS = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, OverflowError)
"""What h5py, and reading the metadata of a damaged file, can raise beside MemoryError."""

MEND = "re-run `reprkit embed`"


@contextlib.contextmanager
def damage(what: str, mend: str = MEND) -> Iterator[None]:
    """Turn any error of h5py in the body into one InputError about `what`.

    Raises:
        InputError: in the place of what h5py raised.
    """
    try:
        yield
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"{what}: too large to read into memory") from None
    except ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{what}: the data are damaged ({reason}); {mend}") from None


def open_h5(path: Path, mend: str = MEND) -> h5py.File:
    """Open `path` read-only, refusing what is no HDF5 file with a line that says what it is instead.

    Raises:
        InputError: an empty, damaged or foreign file, or one that is being written.
    """
    size = file_size(path)
    if size == 0:
        raise InputError(f"{path}: the file is empty; {mend}")
    if not h5py.is_hdf5(path):
        raise InputError(
            f"{path}: not an HDF5 file ({_looks_like(path)}); give a file made by `reprkit embed`, or an .npz, .npy, "
            ".parquet or .h5ad"
        )
    try:
        return h5py.File(path, "r", locking="best-effort", rdcc_nbytes=8 << 20)
    except BlockingIOError:
        raise InputError(f"{path}: still being written by another process; wait for it to finish") from None
    except ERRORS as error:
        cut = "the file is truncated" if "truncated" in str(error) else "the file is damaged"
        raise InputError(f"{path}: {cut} ({' '.join(str(error).split())}); copy it again or {mend}") from None


def file_size(path: Path) -> int:
    """Size in bytes of a regular file; InputError if it is missing, a folder or unreadable."""
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder; give the embeddings file inside it")
        with open(path, "rb") as handle:
            return os.fstat(handle.fileno()).st_size
    except FileNotFoundError:
        if path.with_name(path.name + ".partial").exists():
            raise InputError(f"{path}: not finished, only its .partial is there; {MEND} to continue it") from None
        raise InputError(f"{path}: no such file; make it with `reprkit embed`") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def attribute(found: h5py.File | h5py.Group | h5py.Dataset, name: str, default: Any) -> Any:
    """The scalar attribute `name`, if it is of the type of `default` (int, bytes or str); else `default`."""
    if name not in found.attrs:
        return default
    kind = found.attrs.get_id(name)
    text = h5py.check_string_dtype(kind.dtype) is not None
    fits = text if isinstance(default, str) else kind.dtype.kind in ("S" if isinstance(default, bytes) else "iub")
    if kind.shape != () or not fits:
        return default
    value = found.attrs[name]
    if isinstance(default, str) and isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return type(default)(value)


def has(group: h5py.Group, name: str) -> bool:
    """True if `group` has a link of this name, wherever it points."""
    return bool(group.id.links.exists(name.encode()))


def is_hard(group: h5py.Group, name: str) -> bool:
    """True if the link `name` of `group` leads to an object of the same file; asks without following it."""
    return bool(group.id.links.get_info(name.encode()).type == h5l.TYPE_HARD)


def child(group: h5py.Group, name: str, kind: type, where: str, mend: str = MEND) -> Any:
    """The group or dataset `name` of `group`, if it is there by a hard link; InputError otherwise."""
    with damage(where, mend):
        full = f"{group.name.rstrip('/')}/{name}"
        if not has(group, name):
            raise InputError(f"{where}: has no '{full}'; the file is damaged or of another kind; {mend}")
        if not is_hard(group, name):
            raise InputError(f"{where}: '{full}' is a link to somewhere else; refused, the data must be in the file")
        found = group[name]
        if not isinstance(found, kind):
            raise InputError(f"{where}: '{full}' is not a {kind.__name__.lower()}; {mend}")
        return found


def dataset(
    group: h5py.Group,
    name: str,
    where: str,
    *,
    kinds: str,
    ndim: int,
    filters: Collection[int] = FILTERS,
    mend: str = MEND,
) -> h5py.Dataset:
    """The dataset `name` of `group`, checked to be stored inside the file and to be no larger than it says.

    Args:
        group: where to look.
        name: its name there.
        where: names the file in error messages.
        kinds: NumPy dtype kinds that are allowed, for example `"f"` or `"iu"`; `T` is text of variable length.
        ndim: number of dimensions.
        filters: HDF5 filters that are allowed.
        mend: what to do about damage.

    Raises:
        InputError: missing, stored in other files, compressed by a plug-in, or of another shape or type.
    """
    found: h5py.Dataset = child(group, name, h5py.Dataset, where, mend)
    what = f"{where}: '{found.name}'"
    with damage(what, mend):
        properties = found.id.get_create_plist()
        if found.is_virtual or properties.get_external_count():
            raise InputError(f"{what} keeps its data in other files; refused, the data must be in the file")
        kind = "T" if found.dtype == object and h5py.check_string_dtype(found.dtype) else found.dtype.kind
        if kind not in kinds or (found.dtype.hasobject and kind != "T") or found.shape is None or found.ndim != ndim:
            raise InputError(f"{what} is {found.dtype} of shape {found.shape}; not what an embeddings file holds there")
        if any(properties.get_filter(i)[0] not in filters for i in range(properties.get_nfilters())):
            raise InputError(f"{what} uses a filter other than gzip, shuffle or fletcher32; write it again without")
        _check_size(found, what)
    return found


def read(found: h5py.Dataset, where: str, mend: str = MEND) -> np.ndarray:
    """All of a dataset, if it fits into free memory."""
    check_memory(_declared(found), f"{where}: '{found.name}'")
    with damage(where, mend):
        return np.asarray(found[...])


def read_text(found: h5py.Dataset, where: str, mend: str = MEND) -> np.ndarray:
    """All of a dataset of text, as str.

    Text of variable length may be one long string that every row points to: it is read a few rows at a time, in a
    tenth of the free memory even then, and strings over `MAX_TEXT` bytes are refused.

    Returns:
        str [N].

    Raises:
        InputError: more text than any file needs, or none in UTF-8.
    """
    what = f"{where}: '{found.name}'"
    if found.dtype.kind == "S":
        items = read(found, where, mend).tolist()
    else:
        check_memory(_declared(found), what)
        share = (free_memory() or MAX_DECLARED) // 10 // max(os.stat(found.file.filename).st_size, 1)
        step, items = min(max(share, 16), 1 << 16), []
        with damage(what, mend):
            for start in range(0, len(found), step):
                items += found[start : start + step].tolist()
                if max(map(len, items[start:]), default=0) > MAX_TEXT:
                    raise InputError(f"{what} holds text over {MAX_TEXT} bytes; refused")
    check_memory(4 * len(items) * max(map(len, items), default=0), what)
    with damage(what, mend):
        return np.array([item.decode("utf-8") for item in items], dtype=str)


def _declared(found: h5py.Dataset) -> int:
    return int(math.prod(found.shape) * found.dtype.itemsize)


def _check_size(found: h5py.Dataset, what: str) -> None:
    declared, stored = _declared(found), int(found.id.get_storage_size())
    bomb = declared > MAX_DECLARED and declared > MAX_RATIO * stored
    chunk = math.prod(found.chunks or ()) * found.dtype.itemsize if found.chunks else 0
    if bomb or chunk > MAX_CHUNK:
        raise InputError(f"{what} declares {declared:,} bytes in shape {found.shape} but stores {stored:,}; refused")


def check_memory(needed: int, what: str) -> None:
    """Refuse an allocation that would not fit into the memory that is free.

    Raises:
        InputError: more bytes than are free.
    """
    free = free_memory()
    if free is not None and needed > free:
        raise InputError(
            f"{what} needs {needed / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free; use fewer samples"
        )


def free_memory() -> int | None:
    """Bytes of memory that can be had without swapping, within the container's limit; None where unknown."""
    if sys.platform != "linux":
        return None
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    with contextlib.suppress(OSError, KeyError, ValueError):
        group = Path("/sys/fs/cgroup")
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        cache = int(stat["inactive_file"]) + int(stat["active_file"])  # counted as used, but given back on demand
        used = int((group / "memory.current").read_text()) - cache
        free = min(free, int((group / "memory.max").read_text()) - used)
    return max(free, 0)


def _looks_like(path: Path) -> str:
    with open(path, "rb") as handle:
        head = handle.read(8)
    if head[:1] == b"\x80":
        return "it is a Python pickle, which can run code and is not read"
    if head.startswith(b"\x89HDF"):
        return "its header is damaged"
    return "unknown content"
