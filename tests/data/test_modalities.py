"""Ids and sizes of frames in several modalities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprkit.data.modalities import Modality, common_ids, natural, nearest
from reprkit.errors import InputError


def constant(value: float) -> np.ndarray:
    return np.full((9, 12), value, dtype=np.float32)


@pytest.mark.parametrize(("old", "new"), [(9, 3), (4, 6), (5, 5), (7, 3), (480, 288), (1, 4)])
def test_nearest_takes_the_pixel_under_each_middle(old: int, new: int) -> None:
    frame = np.arange(old)[None, :, None] * np.ones((2, 1, 3))
    found = nearest(frame, (new, 3))[0, :, 0]
    middles = (np.arange(new) + 0.5) * old / new
    assert (np.abs(found + 0.5 - middles) <= 0.5 + 1e-9).all()


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=20, unique=True))
def test_numbers_are_sorted_as_numbers(numbers: list[int]) -> None:
    assert sorted((f"train/{n}" for n in numbers), key=natural) == [f"train/{n}" for n in sorted(numbers)]


def test_ids_are_those_of_all_modalities() -> None:
    a, b = (Modality(name, {str(i): (i,) for i in (10, 2, 1)}, constant) for name in "ab")
    assert common_ids("root", [a, b]) == ["1", "2", "10"]
    c = Modality("c", {str(i): (i,) for i in (1, 10)}, constant)
    d = Modality("d", {str(i): (i,) for i in (1, 2, 10, 20, 30)}, constant)
    with pytest.raises(InputError, match="root: '2' is in a but not in c"):
        common_ids("root", [a, b, c])
    with pytest.raises(InputError, match=r"root: '20' \(and 1 more\) is in d but not in a"):
        common_ids("root", [a, d])
    with pytest.raises(InputError, match="no frames in e"):
        common_ids("root", [Modality("e", {}, constant)])
