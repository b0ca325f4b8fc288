"""Positions: a partition of the image, the same pixels for everybody, and maps as if upsampled first."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.nn import functional as F

from reprkit.errors import InputError
from reprkit.training.positions import Positions, mirrored, read_maps, read_patches, read_rows, read_targets

SIDES = st.integers(1, 70)
NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=8)


@given(SIDES, SIDES, st.data())
@settings(deadline=None, max_examples=200)
def test_cells_are_a_partition_of_equal_parts(height, width, data):
    count = data.draw(st.integers(1, min(height * width, 200)))
    cells = Positions(count, height, width).cells()
    assert len(cells) == count
    drawn = np.zeros((height, width), int)
    for top, rows, left, columns in cells:
        drawn[top : top + rows, left : left + columns] += 1
    assert (drawn == 1).all()
    assert (cells[:, 1::2] >= 1).all()


@pytest.mark.parametrize("count", [7, 32, 50])
@pytest.mark.parametrize(("height", "width"), [(480, 640), (256, 512), (300, 300)])
def test_cells_are_near_square_and_of_one_size(count, height, width):
    _, rows, _, columns = Positions(count, height, width).cells().T
    area = height * width / count
    assert (np.abs(rows * columns - area) <= rows + columns).all()
    assert (np.maximum(rows / columns, columns / rows) <= 2).all()


@given(st.lists(NAMES, min_size=1, max_size=5, unique=True), st.integers(1, 40))
@settings(deadline=None)
def test_one_pixel_a_cell_by_the_id_alone(names, count):
    positions = Positions(count, 9, 17)
    pixels, cells = positions.pixels(np.array(names)), positions.cells()
    assert pixels.shape == (len(names), count, 2)
    assert ((pixels >= cells[:, ::2]) & (pixels < cells[:, ::2] + cells[:, 1::2])).all()
    for name, own in zip(names, pixels, strict=True):
        np.testing.assert_array_equal(positions.pixels(np.array([name]))[0], own)
    ids = positions.ids(np.array(names))
    assert len(set(ids)) == len(names) * count
    for name, (i, j) in zip(ids, itertools.product(range(len(names)), range(count)), strict=True):
        image, _, place = name.rpartition("#")
        assert image == names[i]
        assert place == f"{pixels[i, j, 0]},{pixels[i, j, 1]}"


def test_the_draw_does_not_change():
    """Files of other versions hold other pixels and could not be compared."""
    assert Positions(3, 10, 20).pixels(np.array(["image7"])).tolist() == [[[1, 0], [4, 11], [4, 17]]]


def test_every_pixel_is_drawn_equally_often():
    positions = Positions(6, 12, 18)
    pixels = positions.pixels(np.array([f"i{k}" for k in range(12_000)])).reshape(-1, 2)
    counts = np.zeros((12, 18))
    np.add.at(counts, (pixels[:, 0], pixels[:, 1]), 1)
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3
    rows, columns = (pixels.reshape(-1, 6, 2) - positions.cells()[:, ::2]).reshape(-1, 2).T
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.02


def test_more_positions_than_pixels_are_refused():
    with pytest.raises(InputError, match=r"embed\.positions: 13 should be at most the 12 pixels"):
        Positions(13, 3, 4)
    assert len(set(map(tuple, Positions(12, 3, 4).pixels(np.array(["a"]))[0].tolist()))) == 12


def test_other_rules_have_other_fingerprints():
    rules = [Positions(4, 8, 8), Positions(5, 8, 8), Positions(4, 8, 9), Positions(4, 9, 8)]
    prints = {rule.fingerprint(transform) for rule in rules for transform in ("a", "b")}
    assert len(prints) == 8
    assert Positions(4, 8, 8).fingerprint("a") == rules[0].fingerprint("a")


@pytest.mark.parametrize("shape", [(1, 1), (4, 5), (15, 20), (30, 40), (60, 80), (97, 33)])
def test_maps_are_read_as_if_upsampled(shape):
    torch.manual_seed(0)
    size, names = (60, 80), np.array(["a", "b", "c"])
    maps, pixels = torch.randn(3, 5, *shape), Positions(50, *size).pixels(names)
    whole = F.interpolate(maps, size, mode="bilinear", align_corners=False)
    expected = [whole[i, :, row, column] for i, own in enumerate(pixels) for row, column in own.tolist()]
    torch.testing.assert_close(read_maps(maps, pixels, size), torch.stack(expected), rtol=1e-4, atol=1e-4)
    grid = torch.from_numpy((pixels[..., ::-1] + 0.5) / (80, 60) * 2 - 1).float()[:, :, None]
    other = F.grid_sample(maps, grid, align_corners=False, padding_mode="border")[..., 0].transpose(1, 2)
    torch.testing.assert_close(read_maps(maps, pixels, size), other.reshape(-1, 5), rtol=1e-3, atol=1e-3)


def test_centres_of_cells_are_exact():
    maps = torch.randn(1, 3, 4, 5)
    pixels = np.array([[(row, column) for row in range(1, 12, 3) for column in range(1, 15, 3)]])
    assert torch.equal(read_maps(maps, pixels, (12, 15)), maps[0].flatten(1).T)
    half = maps.bfloat16()
    assert torch.equal(read_maps(half, pixels, (12, 15)), half[0].flatten(1).T.float())


def test_vectors_are_repeated_and_maps_read():
    pixels, z = np.zeros((2, 3, 2), np.int64), torch.randn(2, 4)
    assert torch.equal(read_rows(z, pixels, (5, 5)), z[[0, 0, 0, 1, 1, 1]])
    assert read_rows(torch.randn(2, 4, 3, 3), pixels, (5, 5)).shape == (6, 4)


def test_targets_at_pixels():
    rng = np.random.default_rng(0)
    pixels = Positions(6, 5, 7).pixels(np.array(["a", "b"]))
    classes, normals = rng.integers(9, size=(2, 5, 7)), rng.normal(size=(2, 3, 5, 7))
    places = [(i, *place) for i, own in enumerate(pixels.tolist()) for place in own]
    assert read_targets(classes, pixels).tolist() == [classes[place] for place in places]
    np.testing.assert_array_equal(read_targets(normals, pixels), [normals[i, :, row, col] for i, row, col in places])


@pytest.mark.parametrize("size", [(40, 60), (20, 9), (5, 3), (1, 7)])
def test_patches_are_windows_of_the_mirrored_image(size):
    rng = np.random.default_rng(1)
    images, pixels = rng.normal(size=(2, 3, *size)), Positions(5, *size).pixels(np.array(["a", "b"]))
    found = read_patches(torch.from_numpy(images), pixels).numpy().reshape(2, 5, 3, 8, 8)
    for image, own, patches in zip(images, pixels, found, strict=True):
        wide = np.pad(image, ((0, 0), (8, 8), (8, 8)), mode="reflect" if min(size) > 1 else "edge")
        if min(size) == 1:  # an axis of one pixel has nothing to mirror; the other is mirrored
            wide = np.pad(
                np.pad(image, ((0, 0), (0, 0), (8, 8)), mode="reflect"), ((0, 0), (8, 8), (0, 0)), mode="edge"
            )
        for (row, column), patch in zip(own.tolist(), patches, strict=True):
            window = wide[:, row : row + 16, column : column + 16]
            np.testing.assert_allclose(patch, window.reshape(3, 8, 2, 8, 2).mean(axis=(2, 4)), atol=1e-12)


@given(st.integers(1, 9))
def test_mirrored_places(size):
    expected = np.pad(np.arange(size), 30, mode="reflect" if size > 1 else "edge")
    np.testing.assert_array_equal(mirrored(np.arange(-30, size + 30), size), expected)
