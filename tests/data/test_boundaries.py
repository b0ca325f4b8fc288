"""Edges from label maps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import label as components

from reprkit.data.boundaries import label_boundaries, thin, thin_boundaries

MAPS = arrays(np.int8, st.tuples(st.integers(2, 9), st.integers(2, 9)), elements=st.integers(-1, 2))
MASKS = arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14)))


def by_hand(labels: np.ndarray) -> np.ndarray:
    out = np.zeros(labels.shape, dtype=np.int8)
    for y, x in np.ndindex(labels.shape):
        around = [
            labels[y + dy, x + dx]
            for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0))
            if 0 <= y + dy < labels.shape[0] and 0 <= x + dx < labels.shape[1]
        ]
        if labels[y, x] == -1:
            out[y, x] = -1
        elif any(other not in (-1, labels[y, x]) for other in around):
            out[y, x] = 1
        elif -1 in around:
            out[y, x] = -1
    return out


@settings(deadline=None)
@given(MAPS)
def test_boundaries_are_the_rule_in_words_and_know_no_direction(labels: np.ndarray) -> None:
    found = label_boundaries(labels)
    assert found.dtype == np.int8
    assert np.array_equal(found, by_hand(labels))
    assert np.array_equal(label_boundaries(labels[:, ::-1]), found[:, ::-1])
    assert np.array_equal(label_boundaries(labels.T), found.T)


@settings(deadline=None)
@given(MASKS)
def test_thinning_keeps_connections_and_never_adds(mask: np.ndarray) -> None:
    lines = thin(mask)
    assert not (lines & ~mask).any()
    eight = np.ones((3, 3), dtype=int)
    assert components(lines, eight)[1] == components(mask, eight)[1]
    assert np.array_equal(thin(lines), lines)


def test_thinning_by_hand() -> None:
    """Results of scikit-image 0.26.0's `skimage.morphology.thin` on the same masks."""
    bar = np.zeros((7, 9), dtype=bool)
    bar[2:5, 1:8] = True
    assert np.argwhere(thin(bar)).tolist() == EXPECTED_BAR
    corner = np.zeros((8, 8), dtype=bool)
    corner[1:3, 1:7] = corner[1:7, 1:3] = True
    assert np.argwhere(thin(corner)).tolist() == EXPECTED_CORNER


EXPECTED_BAR = [[3, 2], [3, 3], [3, 4], [3, 5], [3, 6]]
EXPECTED_CORNER = [[2, 2], [2, 3], [2, 4], [2, 5], [3, 1], [4, 1], [5, 1], [6, 1]]


def test_thin_boundaries_follow_the_laplacian_of_the_numbers() -> None:
    labels = np.zeros((12, 12), dtype=np.uint16)
    labels[:, 6:] = 40
    found = thin_boundaries(labels)
    assert found.dtype == np.int8
    assert (found[1:-1].sum(1) == 1).all()
    assert set(np.argwhere(found)[:, 1]) <= {5, 6}
    # 2 - 2 * 4 + 6 = 0: where numbers rise evenly, the Laplacian of the original sees no edge.
    even = np.repeat(np.array([[2, 4, 6]]), 5, axis=0)
    assert not thin_boundaries(even)[:, 1].any()


@pytest.mark.parametrize("side", [1, 2, 3])
def test_small_maps(side: int) -> None:
    assert thin(np.ones((side, side), dtype=bool)).any()
    assert label_boundaries(np.zeros((side, side), dtype=np.int8)).sum() == 0
