"""Rows read when they are asked for behave like rows of an array."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from reprkit.data.lazy import FileArray

WHOLE = np.random.RandomState(0).randint(256, size=(37, 3, 4, 5)).astype(np.uint8)


def lazy(workers: int = 4) -> FileArray[int]:
    return FileArray(list(range(37)), lambda i: WHOLE[i], (3, 4, 5), np.uint8, workers)


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize(
    "rows",
    [
        slice(None),
        slice(5, 20, 3),
        slice(-4, None),
        np.array([3, 3, 36, 0]),
        [1, 2],
        np.array([-1, 5]),
        np.array([], dtype=int),
        np.arange(37) % 5 == 0,
        7,
        np.int64(-2),
    ],
)
def test_rows_are_those_of_the_array(rows, workers: int) -> None:
    found = lazy(workers)[rows]
    assert found.dtype == np.uint8
    assert np.array_equal(found, WHOLE[rows])


def test_it_looks_like_an_array() -> None:
    array = lazy()
    assert (array.shape, array.dtype, array.ndim, len(array), array.nbytes) == ((37, 3, 4, 5), np.uint8, 4, 37, 37 * 60)
    assert np.array_equal(np.asarray(array), WHOLE)


def test_only_rows_that_exist_and_only_rows() -> None:
    with pytest.raises(IndexError):
        lazy()[37]
    with pytest.raises(IndexError):
        lazy()[np.array([0, 40])]
    with pytest.raises(IndexError):
        lazy()[:, 0]
    with pytest.raises(IndexError, match="only rows"):
        lazy()[np.zeros((2, 2), dtype=int)]


def test_nothing_is_read_until_asked_for_and_several_rows_at_once() -> None:
    seen, together = [], threading.Barrier(3, timeout=10)

    def read(i: int) -> np.ndarray:
        seen.append(i)
        together.wait()  # passes only if three threads read at the same time
        return np.full(2, i)

    array = FileArray([10, 20, 30, 40], read, (2,), np.int64, workers=3)
    assert seen == []
    assert array[[3, 0, 1]].tolist() == [[40, 40], [10, 10], [20, 20]]
    assert sorted(seen) == [10, 20, 40]


def test_errors_of_readers_arrive_and_wrong_rows_are_refused() -> None:
    def broken(i: int) -> np.ndarray:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        FileArray([0, 1], broken, (2,), np.int64)[:]
    with pytest.raises(ValueError, match="row 1"):
        FileArray([0, 1], lambda i: np.zeros(2 + i, dtype=np.int64), (2,), np.int64)[:]
    with pytest.raises(ValueError, match="float64"):
        FileArray([0], lambda i: np.zeros(2), (2,), np.int64)[0]
