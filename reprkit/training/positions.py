"""Pixel samples: the positions of an image at which a dense representation, its targets and its outputs are read.

A dense encoder has a vector for every cell of its map, far more than can be kept. Of each image P pixels are kept
instead. They are stratified: the image is cut into a near-square grid of P cells, and one pixel is drawn in each, so
that no part of an image is missed. The draw depends on the image's id alone, and is the same for every encoder, task,
split and seed: two files hold the same pixels, and may be compared.

Maps are coarser than images. Their value at a pixel is what bilinear upsampling to the size of the image
(`align_corners=False`) would give there: cells of the map have their centres at (i + 0.5) / h of the height, and a
pixel that is nearer to the border than the outermost centre takes the outermost cell.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reprkit.data.base import ImageDataset
from reprkit.errors import InputError

SEPARATOR = "#"
"""Between the id of an image and that of a pixel in it: `image7#12,40` is row 12, column 40 of image7, from 0."""

STREAM = "reprkit positions 1"
"""What the draw of an image depends on besides its id."""

WINDOW, PATCH = 16, 8
"""Side in pixels of the part of an image around a position, and of what it is averaged down to."""


@dataclass(frozen=True)
class Positions:
    """Where images of one size are read.

    Attributes:
        count: P, pixels an image.
        height, width: H and W of the images.

    Raises:
        InputError: an image has fewer pixels.
    """

    count: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.count > self.height * self.width:
            raise InputError(
                f"embed.positions: {self.count} should be at most the {self.height * self.width} pixels of an image"
            )

    @classmethod
    def of(cls, dataset: ImageDataset, count: int) -> Positions | None:
        """Those of a data set; None if no task of it is labelled pixel by pixel."""
        _, height, width = dataset.image_shape
        return cls(count, height, width) if any(task.is_dense for task in dataset.tasks) else None

    def cells(self) -> NDArray[np.int64]:
        """[P, 4] first row, rows, first column and columns of every cell: disjoint, and together the whole image.

        The grid has about sqrt(P H / W) strips of cells. Where P is no multiple of it some strips have a cell more,
        and are so much higher: all cells are of one size, up to a pixel in each direction.
        """
        strips = round(math.sqrt(self.count * self.height / self.width))
        strips = min(max(strips, -(-self.count // self.width)), self.height, self.count)
        ends = [self.count * strip // strips for strip in range(strips + 1)]
        found = []
        for strip, (before, after) in enumerate(itertools.pairwise(ends)):
            top, bottom = (
                i + (self.height - strips) * end // self.count for i, end in ((strip, before), (strip + 1, after))
            )
            edges = [self.width * i // (after - before) for i in range(after - before + 1)]
            found += [(top, bottom - top, left, right - left) for left, right in itertools.pairwise(edges)]
        return np.array(found, np.int64)

    def pixels(self, ids: NDArray) -> NDArray[np.int64]:
        """[n, P, 2] row and column of the pixels of n images, cell by cell."""
        cells = self.cells()
        digests = (hashlib.shake_128(f"{STREAM}:{name}".encode()).digest(8 * self.count) for name in ids)
        drawn = np.frombuffer(b"".join(digests), ">u4").reshape(len(ids), self.count, 2).astype(np.int64)
        return cells[:, ::2] + (drawn * cells[:, 1::2] >> 32)

    def ids(self, ids: NDArray) -> NDArray[np.str_]:
        """[n * P] names of the pixels of n images."""
        pixels = self.pixels(ids).tolist()
        return np.array(
            [f"{name}{SEPARATOR}{row},{column}" for name, own in zip(ids, pixels, strict=True) for row, column in own]
        )

    def record(self) -> dict[str, Any]:
        """The rule, for the provenance of a file."""
        return {
            **asdict(self),
            "draw": f"one pixel in each of {self.count} cells of a near-square grid, by SHAKE-128 of '{STREAM}:<id>'",
            "maps": "bilinear, align_corners=False",
        }

    def fingerprint(self, transform: str) -> str:
        """The transform fingerprint of a file of pixel samples, from that of its data set."""
        rule = "\0".join([transform, *(f"{key}={value}" for key, value in sorted(self.record().items()))])
        return hashlib.sha256(rule.encode()).hexdigest()


def read_maps(maps: Tensor, pixels: NDArray[np.int64], size: tuple[int, int]) -> Tensor:
    """Maps [B, D, h, w] at pixels [B, P, 2] of images of `size` H x W: float32 [B * P, D].

    Equal to reading the pixels off the maps after `F.interpolate(maps, size, mode="bilinear")`, without making them.
    """
    batch, dim, *shape = maps.shape
    flat = maps.reshape(batch, dim, -1)
    corners = []  # of each axis: the cells on both sides, and what each counts
    for axis in (0, 1):
        place = ((pixels[..., axis] + 0.5) * (shape[axis] / size[axis]) - 0.5).clip(0, shape[axis] - 1)
        low = np.floor(place).astype(np.int64)
        corners.append(((low, 1 - (place - low)), (np.minimum(low + 1, shape[axis] - 1), place - low)))
    found = torch.zeros(batch, dim, pixels.shape[1], device=maps.device)
    for row, row_share in corners[0]:
        for column, column_share in corners[1]:
            index = torch.from_numpy(row * shape[1] + column).to(maps.device)[:, None]
            share = torch.from_numpy(row_share * column_share).to(found)[:, None]
            found += flat.gather(2, index.expand(-1, dim, -1)).float() * share
    return found.transpose(1, 2).reshape(-1, dim)


def read_rows(values: Tensor, pixels: NDArray[np.int64], size: tuple[int, int]) -> Tensor:
    """Maps [B, D, h, w] at pixels; vectors [B, D] of whole images once for each of their pixels: [B * P, D]."""
    return read_maps(values, pixels, size) if values.ndim == 4 else values.repeat_interleave(pixels.shape[1], 0)


def read_patches(images: Tensor, pixels: NDArray[np.int64]) -> Tensor:
    """The surroundings of pixels [B, P, 2] in images [B, C, H, W]: [B * P, C * 8 * 8], channel by channel.

    A window of 16 x 16 pixels, of which the pixel is the first of the lower right quarter, averaged in squares of
    2 x 2. Beyond its borders an image is continued by its mirror image.
    """
    batch, channels = images.shape[:2]
    steps = np.arange(WINDOW) - WINDOW // 2
    rows, columns = (
        torch.from_numpy(mirrored(pixels[..., axis, None] + steps, images.shape[2 + axis])).to(images.device)
        for axis in (0, 1)
    )
    which = torch.arange(batch, device=images.device)[:, None, None, None]
    windows = images.movedim(1, -1)[which, rows[..., :, None], columns[..., None, :]]  # [B, P, 16, 16, C]
    side = WINDOW // PATCH
    small = windows.reshape(batch, -1, PATCH, side, PATCH, side, channels).mean(dim=(3, 5))
    return small.permute(0, 1, 4, 2, 3).reshape(-1, channels * PATCH * PATCH)


def mirrored(places: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Places on an axis of `size` pixels that is continued by its mirror image, the border pixel not repeated."""
    period = max(2 * (size - 1), 1)
    inside = places % period
    return np.minimum(inside, period - inside) if size > 1 else np.zeros_like(places)


def read_targets(targets: NDArray, pixels: NDArray[np.int64]) -> NDArray:
    """Dense targets [B, H, W] or [B, 3, H, W] at pixels [B, P, 2]: [B * P] or [B * P, 3]."""
    which = np.arange(len(targets))[:, None]
    if targets.ndim == 3:
        return targets[which, pixels[..., 0], pixels[..., 1]].reshape(-1)
    return targets[which, :, pixels[..., 0], pixels[..., 1]].reshape(-1, targets.shape[1])
