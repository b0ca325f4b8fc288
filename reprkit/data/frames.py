"""Readers of one frame's files as they are kept: pictures, label pictures, NumPy and MATLAB files."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reprkit.data.decode import BrokenImage, open_rgb
from reprkit.errors import InputError
from reprkit.tasks import MISSING_CLASS

VOID = MISSING_CLASS


def read_image(file: Path | bytes) -> np.ndarray:
    """A picture, named or as its bytes, as uint8 [3, H, W]."""
    return np.asarray(open_rgb(_bytes(file)), dtype=np.uint8).transpose(2, 0, 1)


def read_labels(file: Path | bytes) -> np.ndarray:
    """The numbers in a label picture of one channel (grey of 8, 16 or 32 bits, or palette indices), [H, W]."""
    blob = _bytes(file)
    try:
        with Image.open(BytesIO(blob)) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and image.width * image.height > limit:
                raise BrokenImage(f"more than {limit:,} pixels: refused, it may be a decompression bomb")
            mode = image.mode
            values = np.asarray(image.convert("L") if mode == "1" else image)
    except BrokenImage:
        raise
    except Image.DecompressionBombError:
        raise BrokenImage("far too many pixels: refused, it may be a decompression bomb") from None
    except Exception as error:  # Pillow's plug-ins raise many kinds on damaged files.
        raise BrokenImage(f"not a readable label image ({type(error).__name__})") from None
    if values.ndim != 2:
        raise BrokenImage(f"has pixels of kind {mode}, a label image has one channel")
    return values


def read_npy(path: Path) -> np.ndarray:
    """A NumPy file."""
    try:
        return np.load(path, allow_pickle=False)
    except Exception as error:
        raise BrokenImage(f"not a readable .npy file ({error})") from None


def read_mat(path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file (up to version 7)."""
    from scipy.io import loadmat

    try:
        return loadmat(str(path))
    except Exception as error:  # scipy raises many kinds on damaged files
        raise BrokenImage(f"not a readable .mat file ({type(error).__name__})") from None


def map_plane(values: np.ndarray) -> np.ndarray:
    """[H, W], or [H, W, 1] without its last axis."""
    plane = values[..., 0] if values.ndim == 3 and values.shape[-1] == 1 else values
    if plane.ndim != 2 or plane.size == 0:
        raise BrokenImage(f"has shape {values.shape}, not [height, width]")
    return plane


def float_image(values: np.ndarray) -> np.ndarray:
    """Colours in [0, 1], [H, W, 3], as uint8 [3, H, W]."""
    if values.ndim != 3 or values.shape[-1] != 3:
        raise BrokenImage(f"has shape {values.shape}, an image needs [height, width, 3]")
    if values.dtype == np.uint8:
        return values.transpose(2, 0, 1)
    low, high = float(values.min()), float(values.max())
    if not -1e-3 <= low <= high <= 1 + 1e-3:
        raise BrokenImage(f"has colours from {low:.3g} to {high:.3g}, they should lie in 0 to 1")
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8).transpose(2, 0, 1)


def class_indices(values: np.ndarray, classes: int) -> np.ndarray:
    """Whole numbers from -1 (no label) to `classes` - 1, kept as any type, as int8."""
    if not ((values >= VOID) & (values < classes) & (values == np.floor(values))).all():
        odd = values[~((values >= VOID) & (values < classes) & (values == np.floor(values)))][0]
        raise BrokenImage(f"holds the label {odd:g}, beyond -1 to {classes - 1}")
    return values.astype(np.int8)


def looked_up(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Class indices int8 of published label numbers.

    Args:
        values: whole numbers from 0.
        table: int8 [L], the class of each number (-1 for none); a number beyond it is an error.
    """
    if values.size and (values.max() >= len(table) or values.min() < 0):
        odd = values[(values >= len(table)) | (values < 0)][0]
        raise BrokenImage(f"holds the label {odd}, beyond 0 to {len(table) - 1}")
    return table[values]


def lookup(classes: Mapping[int, int], length: int = 256) -> np.ndarray:
    """A table for `looked_up`: label number -> class index; other numbers below `length` have no label."""
    table = np.full(length, VOID, dtype=np.int8)
    for number, index in classes.items():
        table[number] = index
    return table


def positive(values: np.ndarray) -> np.ndarray:
    """float32, with NaN where a value is not a positive number."""
    values = values.astype(np.float32)
    return np.where(np.isfinite(values) & (values > 0), values, np.float32(np.nan))


def unit_vectors(values: np.ndarray, shortest: float = 0.1) -> np.ndarray:
    """float16 [3, H, W] of length one (to 0.03 degrees), all NaN where a vector is shorter than `shortest`."""
    values = values.astype(np.float32)
    length = np.sqrt(np.square(values).sum(axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(length >= shortest, values / length, np.float32(np.nan)).astype(np.float16)


def files_named(folder: Path, suffix: str, prefix: str = "") -> dict[str, tuple[Path]]:
    """`prefix` + file name without `suffix` -> file, for the files of one folder whose names end so.

    Raises:
        InputError: there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; point --data to the data as it is published")
    names = [path.name for path in folder.iterdir() if path.name.endswith(suffix) and not path.name.startswith(".")]
    return {prefix + name.removesuffix(suffix): (folder / name,) for name in names}


def _bytes(file: Path | bytes) -> bytes:
    try:
        return file if isinstance(file, bytes) else file.read_bytes()
    except OSError as error:
        raise BrokenImage(f"cannot be read ({error.strerror})") from None
