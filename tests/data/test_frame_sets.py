"""What all sets of frames share: splits, checks and what is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reprkit.data.frame_sets import carve, scene_dataset
from reprkit.data.modalities import Modality
from reprkit.errors import InputError
from reprkit.tasks import Task

DEPTH = Task("depth", "depth", 1)


def constant(value: float, dtype: str = "float32") -> np.ndarray:
    return np.full((9, 12), value, dtype=dtype)


def image(value: int) -> np.ndarray:
    return np.full((3, 9, 12), value, dtype=np.uint8)


def test_val_is_an_eighth_and_does_not_move() -> None:
    ids = [f"train/{i}" for i in range(800)] + [f"val/{i}" for i in range(100)]
    test = np.array([name.startswith("val") for name in ids])
    split = carve(ids, test)
    assert np.bincount(split).tolist() == [700, 100, 100]
    order = np.random.RandomState(0).permutation(900)
    assert np.array_equal(carve([ids[i] for i in order], test[order]), split[order])
    rooms = [f"room {i // 9}" for i in range(900)]
    grouped = carve(ids, test, rooms)
    assert all(len(set(grouped[i : i + 9])) == 1 for i in range(0, 792, 9))
    assert 85 < (grouped == 1).sum() < 115


def build(cache: Path, size: tuple[int, int] = (9, 12), depth=constant, count: int = 12, **rest):
    items = {str(i): (i,) for i in range(count)}
    return scene_dataset(
        "scenes",
        Path("root"),
        [Modality("image", items, image), Modality("depth", items, depth, DEPTH)],
        lambda ids: np.arange(len(ids), dtype=np.uint8) % 3,
        size,
        ("depth",),
        split_rule="every third",
        digests={},
        cache_dir=cache,
        **rest,
    )


def test_frames_are_read_once_and_kept(cache: Path) -> None:
    calls = []

    def depth(value: int) -> np.ndarray:
        calls.append(value)
        return constant(value)

    first = build(cache, depth=depth)
    assert sorted(calls) == list(range(12))
    assert np.array_equal(first.targets["depth"][:, 3, 3], np.arange(12))
    again = build(cache, depth=depth)
    assert len(calls) == 12
    assert np.array_equal(again.images, first.images)
    assert not [path for path in cache.iterdir() if path.name.startswith(".")]
    build(cache, (18, 8), depth=depth)
    assert len(calls) == 24


def test_a_full_disk_is_told_before_anything_is_read(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 2**20

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    with pytest.raises(InputError, match=r"the cache needs room for .* GiB; make some, or set REPRKIT_CACHE"):
        build(cache)


def test_readers_that_break_the_rules_of_a_row(cache: Path) -> None:
    with pytest.raises(ValueError, match="float64"):
        build(cache, depth=lambda value: constant(value, "float64")).targets["depth"]


def test_sizes(cache: Path) -> None:
    with pytest.raises(InputError, match=r"frame '0' is 9 x 11 in depth but 9 x 12 in image; all files of a frame"):
        build(cache, depth=lambda value: constant(value)[:, 1:])
    assert build(cache, depth=lambda value: constant(value)[:, 1:], same_size=False)
    with pytest.raises(InputError, match=r"data\.image_size: 4 is outside"):
        build(cache, (9, 4))
