"""Reading embeddings that others made: an `.npz` with `z`, `y_<task>` and, if wanted, `ids` and `split`."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from reprkit.embeddings.arrays import ArraySource, HeldMatrix
from reprkit.embeddings.safe import MAX_DECLARED, MAX_RATIO, check_memory, file_size
from reprkit.errors import InputError


def open_npz(path: Path) -> ArraySource:
    """Read an `.npz` whole.

    Arrays: `z` [N, D]; `y_<task>` [N]; `ids` [N], unique text; `split` [N] of `train`, `val`, `test`. Any other
    array is refused, and so are pickled ones.

    Raises:
        InputError: a damaged file, one without z, or with arrays that are none of these.
    """
    arrays = _load(path)
    if "z" not in arrays:
        raise InputError(
            f"{path}: has no array 'z' (found: {', '.join(arrays) or 'nothing'}); save z, y_<task>, ids, split"
        )
    targets = {name.removeprefix("y_"): values for name, values in arrays.items() if name.startswith("y_")}
    unknown = sorted(set(arrays) - {"z", "ids", "split"} - {f"y_{name}" for name in targets})
    if unknown:
        raise InputError(f"{path}: unknown array '{unknown[0]}'; use z, y_<task>, ids and split")
    kept = f"NumPy archive; z {arrays['z'].dtype}, held in memory"
    return ArraySource(
        HeldMatrix(arrays["z"]),
        targets,
        ids=arrays.get("ids"),
        split=arrays.get("split"),
        what=str(path),
        meta={"provenance": {"source": kept}},
    )


def _load(path: Path) -> dict[str, np.ndarray]:
    if file_size(path) == 0:
        raise InputError(f"{path}: the file is empty; save it again with numpy.savez")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if not all(member.filename.endswith(".npy") for member in members):
                raise InputError(f"{path}: a zip archive but no .npz; if it is a checkpoint, run `reprkit embed` on it")
            declared, stored = sum(m.file_size for m in members), sum(m.compress_size for m in members)
            if declared > MAX_DECLARED and declared > MAX_RATIO * stored:
                raise InputError(f"{path}: {stored:,} bytes claim to unpack to {declared:,}; refused")
            check_memory(declared, str(path))
            return {member.filename.removesuffix(".npy"): _member(archive, member, path) for member in members}
    except InputError:
        raise
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError, RuntimeError, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: not a readable .npz ({reason}); save it again with numpy.savez") from None


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> np.ndarray:
    """One array, after its header was found to agree with the size of the member."""
    what = f"{path}: array '{member.filename.removesuffix('.npy')}'"
    with archive.open(member) as handle:
        shape, _, dtype = read_header(handle, what)
        if math.prod(shape) * dtype.itemsize != member.file_size - handle.tell():
            raise InputError(f"{what} declares shape {shape} of {dtype} but holds {member.file_size:,} bytes; refused")
    with archive.open(member) as handle:
        return np.asarray(np.lib.format.read_array(handle, allow_pickle=False))


def read_header(handle: IO[bytes], what: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran order, and dtype of the `.npy` that begins here; objects are refused."""
    try:
        version = np.lib.format.read_magic(handle)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(handle)
    except (ValueError, TypeError, OverflowError, MemoryError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{what} is not a NumPy array ({reason}); save it again with numpy") from None
    if dtype.hasobject:
        raise InputError(f"{what} holds Python objects, which can run code; save numbers or text (dtype U) instead")
    if any(size < 0 for size in shape):
        raise InputError(f"{what} declares shape {shape}; refused")
    return shape, fortran, dtype
