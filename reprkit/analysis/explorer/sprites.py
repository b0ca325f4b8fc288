"""Thumbnails of many samples in a few images, found again by sample id."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHEET = 2048
"""Side of a sheet in pixels: small enough for every browser to decode."""

BYTES_A_THUMBNAIL = 480
"""What a thumbnail may take: 5,000 of them and their maps stay below 4 MB as text."""

QUALITIES = (85, 70, 55, 40, 25)


@dataclass(frozen=True)
class Sprites:
    """Thumbnails packed row by row into square sheets.

    Attributes:
        side: pixels of a thumbnail's longer side; the other is letterboxed.
        sheets: WebP files.
        place: sample id -> number of its thumbnail, over all sheets.
    """

    side: int
    sheets: tuple[bytes, ...]
    place: Mapping[str, int]

    @property
    def per_row(self) -> int:
        """Thumbnails in a row, and rows in a sheet."""
        return SHEET // self.side


def pack_sprites(ids: Sequence[str], images: Sequence[NDArray[np.uint8]], *, side: int = 40) -> Sprites:
    """Pack one image a sample id into sheets, at the best quality that keeps them small.

    Args:
        ids: [N] sample ids.
        images: [N] arrays uint8 [H, W], [H, W, 3] or [C, H, W] with C of 1 or 3.
        side: pixels of a thumbnail.
    """
    from PIL import Image

    per_row = SHEET // side
    per_sheet = per_row * per_row
    pages = []
    for start in range(0, len(images), per_sheet):
        part = images[start : start + per_sheet]
        rows = -(-len(part) // per_row)
        sheet = Image.new("RGB", (per_row * side, rows * side), "white")
        for number, array in enumerate(part):
            picture = Image.fromarray(_rgb(np.asarray(array)))
            enlarge = side / max(picture.size)
            size = (max(1, round(picture.width * enlarge)), max(1, round(picture.height * enlarge)))
            small = picture.resize(size, Image.Resampling.BILINEAR if enlarge < 1 else Image.Resampling.NEAREST)
            row, column = divmod(number, per_row)
            sheet.paste(small, (column * side + (side - size[0]) // 2, row * side + (side - size[1]) // 2))
        pages.append(sheet)
    sheets: tuple[bytes, ...] = ()
    for quality in QUALITIES:
        sheets = tuple(_webp(page, quality) for page in pages)
        if sum(map(len, sheets)) <= BYTES_A_THUMBNAIL * max(len(images), 1):
            break
    return Sprites(side, sheets, {str(name): number for number, name in enumerate(ids)})


def _rgb(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
        array = array.transpose(1, 2, 0)
    if array.ndim == 2:
        array = array[:, :, None]
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


def _webp(page: object, quality: int) -> bytes:
    buffer = io.BytesIO()
    page.save(buffer, format="WEBP", quality=quality, method=4)  # type: ignore[attr-defined]
    return buffer.getvalue()
