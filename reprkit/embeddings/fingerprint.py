"""SHA-256 fingerprints of tensors, arrays and files: equal content, equal digest, whatever held it."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np


def fingerprint_tensors(tensors: Mapping[str, Any]) -> str:
    """Digest of named tensors, such as a state dict.

    Covers sorted names, dtypes, shapes and little-endian bytes; not the order, the device, strides or the file
    they came from. NumPy arrays and torch tensors (also bfloat16) of equal content give equal digests. torch is
    never imported here.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        _update(digest, name, tensors[name])
    return digest.hexdigest()


def fingerprint_arrays(*arrays: Any) -> str:
    """Digest of arrays in order: their dtypes, shapes and bytes. Arrays of text are taken as UTF-8."""
    digest = hashlib.sha256()
    for index, array in enumerate(arrays):
        _update(digest, str(index), array)
    return digest.hexdigest()


def fingerprint_file(path: str | os.PathLike[str]) -> str:
    """SHA-256, in hex, of the bytes of the file at `path`, read in pieces."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _update(digest: Any, name: str, value: Any) -> None:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        dtype, shape = str(value.dtype).removeprefix("torch."), tuple(value.shape)
        flat = value.detach().cpu().contiguous().reshape(-1)
        content = flat.view(torch.uint8).numpy() if flat.numel() else b""
    else:
        array = np.asarray(value)
        if array.dtype.kind in "US":
            names = [item if isinstance(item, bytes) else item.encode() for item in array.reshape(-1).tolist()]
            dtype, content = "text", b"".join(len(item).to_bytes(8, "little") + item for item in names)
        elif array.dtype.kind in "biufc":
            dtype = array.dtype.name
            content = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)
        else:
            raise TypeError(f"cannot fingerprint '{name}' of dtype {array.dtype}")
        shape = array.shape
    digest.update(f"{len(name)}:{name}|{dtype}|{shape}|".encode())
    digest.update(content)
