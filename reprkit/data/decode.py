"""One encoded image to pixels: RGB, uint8. Pillow only, because it refuses decompression bombs."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from reprkit.errors import InputError

DECODER = 1
"""Raised whenever the same file would give different pixels; part of cache keys and transform fingerprints."""

MIN_SIDE, MAX_SIDE = 8, 4096


class BrokenImage(Exception):
    """An image that cannot be used; the message says why, in words that repeat for the same kind of damage."""


def decode_rgb(blob: bytes, size: int | tuple[int, int]) -> np.ndarray:
    """Decode, turn upright (EXIF), convert to RGB and resize.

    Large JPEGs are decoded at a reduced scale that stays at least three times `size`; the resize is bilinear
    with antialiasing and does not keep the aspect ratio.

    Args:
        blob: an image file of any format that Pillow reads.
        size: (height, width) of the result, or the pixels of both.

    Returns:
        uint8 [3, height, width].

    Raises:
        BrokenImage: the image is damaged, not an image, or too large to decode safely.
    """
    height, width = (size, size) if isinstance(size, int) else size
    return resize_rgb(open_rgb(blob, (3 * width, 3 * height)), (height, width))


def resize_rgb(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """An RGB picture as uint8 [3, height, width], resized bilinearly with antialiasing where its size differs."""
    if image.size != size[::-1]:
        image = image.resize(size[::-1], Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1))


def open_rgb(blob: bytes, least: tuple[int, int] | None = None) -> Image.Image:
    """Decode, turn upright (EXIF) and convert to RGB.

    Args:
        blob: an image file of any format that Pillow reads.
        least: (width, height) that a JPEG decoded at a reduced scale must still have; None decodes at full scale.

    Raises:
        BrokenImage: the image is damaged, not an image, or too large to decode safely.
    """
    try:
        with Image.open(io.BytesIO(blob)) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and image.width * image.height > limit:
                raise BrokenImage(f"more than {limit:,} pixels: refused, it may be a decompression bomb")
            if least is not None:
                image.draft(None, least)
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except (BrokenImage, MemoryError):
        raise
    except UnidentifiedImageError:
        raise BrokenImage("not an image") from None
    except Image.DecompressionBombError:
        raise BrokenImage("far too many pixels: refused, it may be a decompression bomb") from None
    except Exception as error:  # Pillow's plug-ins raise many kinds on damaged files.
        raise BrokenImage(f"damaged image ({type(error).__name__})") from error


def check_side(*sides: int) -> None:
    """Raise InputError if a side is no sensible size of an image."""
    for side in sides:
        if not MIN_SIDE <= side <= MAX_SIDE:
            raise InputError(f"data.image_size: {side} is outside {MIN_SIDE}..{MAX_SIDE} pixels")


def transform_record(side: int, mean: tuple[float, ...], std: tuple[float, ...]) -> dict[str, object]:
    """What happens to an image between its file and the encoder, as plain JSON types."""
    return {"kind": "resize", "side": side, "filter": "bilinear", "decoder": DECODER, "mean": [*mean], "std": [*std]}


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow would clip 16-bit grey to its lowest 255 values.
        image = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise BrokenImage(f"pixel type {image.mode} (32 bits) is not supported")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
