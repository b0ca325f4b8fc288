"""Edges from label maps: where one label meets another."""

from __future__ import annotations

import numpy as np

from reprkit.tasks import MISSING_CLASS


def label_boundaries(labels: np.ndarray) -> np.ndarray:
    """1 where one of the four neighbours of a pixel has another class, else 0; lines are two pixels wide.

    What has no class, or borders on such a pixel without being an edge already, is unknown: whether a line runs there
    was not labelled.

    Args:
        labels: class indices [H, W], -1 where there is none.

    Returns:
        int8 [H, W], -1 where it is unknown.
    """
    edge = np.zeros(labels.shape, dtype=bool)
    near_void = labels == MISSING_CLASS
    void = near_void.copy()
    for axis in (0, 1):
        one, other = np.swapaxes(labels, 0, axis)[:-1], np.swapaxes(labels, 0, axis)[1:]
        known = (one != MISSING_CLASS) & (other != MISSING_CLASS)
        for place in (slice(None, -1), slice(1, None)):
            np.swapaxes(edge, 0, axis)[place] |= known & (one != other)
            np.swapaxes(near_void, 0, axis)[place] |= ~known
    return np.where(void | (near_void & ~edge), MISSING_CLASS, edge).astype(np.int8)


def thin_boundaries(labels: np.ndarray) -> np.ndarray:
    """1 on the thinned zero-free set of a label map's Laplacian, else 0: lines one pixel wide.

    As for PASCAL-Context in Maninis et al. (CVPR 2019): the Laplacian with the kernel (0 1 0, 1 -4 1, 0 1 0) of the
    label numbers themselves, reflected at the border, then `thin`.

    Args:
        labels: [H, W] numbers.

    Returns:
        int8 [H, W].
    """
    padded = np.pad(labels.astype(np.int64), 1, mode="reflect")
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return thin(around != 4 * padded[1:-1, 1:-1]).astype(np.int8)


def thin(mask: np.ndarray) -> np.ndarray:
    """A mask [H, W] eroded to lines one pixel wide that keep its connections.

    Guo and Hall, "Parallel thinning with two-subiteration algorithms" (CACM 1989), algorithm A1: pixels are removed
    while their neighbourhood has one crossing, two or three neighbours in the paper's count, and lies on the side that
    the subiteration is for, until none is left to remove.
    """
    mask = np.pad(np.asarray(mask, dtype=bool), 1)
    inner = (slice(1, -1), slice(1, -1))
    changed = True
    while changed:
        changed = False
        for turn in (0, 1):
            remove = _REMOVABLE[turn][_neighbourhoods(mask)] & mask[inner]
            if remove.any():
                mask[inner] &= ~remove
                changed = True
    return mask[inner].copy()


# Neighbours counter-clockwise from the east: E, NE, N, NW, W, SW, S, SE.
_OFFSETS = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))


def _neighbourhoods(mask: np.ndarray) -> np.ndarray:
    """The eight neighbours of every pixel inside the margin of `mask`, as one byte each."""
    height, width = mask.shape[0] - 2, mask.shape[1] - 2
    code = np.zeros((height, width), dtype=np.uint8)
    for bit, (down, right) in enumerate(_OFFSETS):
        code |= mask[1 + down : 1 + down + height, 1 + right : 1 + right + width].view(np.uint8) << bit
    return code


def _removable() -> tuple[np.ndarray, np.ndarray]:
    """For each neighbourhood, whether its middle goes in the first and in the second subiteration."""
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1 == 1
    east, north_east, north, north_west, west, south_west, south, south_east = bits.T
    crossings = sum((~bits[:, 2 * i] & (bits[:, 2 * i + 1] | bits[:, (2 * i + 2) % 8])).astype(int) for i in range(4))
    pairs_a = sum((bits[:, 2 * i] | bits[:, 2 * i + 1]).astype(int) for i in range(4))
    pairs_b = sum((bits[:, 2 * i + 1] | bits[:, (2 * i + 2) % 8]).astype(int) for i in range(4))
    fewest = np.minimum(pairs_a, pairs_b)
    simple = (crossings == 1) & (fewest >= 2) & (fewest <= 3)
    first = simple & ~((north | north_east | ~south_east) & east)
    second = simple & ~((south | south_west | ~north_west) & west)
    return first, second


_REMOVABLE = _removable()
