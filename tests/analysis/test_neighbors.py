from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from reprkit.analysis import neighbors
from reprkit.analysis.neighbors import exact_neighbors, largest
from reprkit.errors import InputError


def brute(bank, k, queries, metric):
    """Written out: float64 distances of every pair, sorted by (distance, index)."""
    bank, queries = bank.astype(np.float64), queries.astype(np.float64)
    if metric == "cosine":
        cosine = queries @ bank.T / np.outer(np.linalg.norm(queries, axis=1), np.linalg.norm(bank, axis=1))
        order = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
        return order, np.take_along_axis(cosine, order, axis=1)
    distance = np.sqrt(((queries[:, None] - bank[None]) ** 2).sum(axis=2))
    order = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(distance, order, axis=1)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(("n", "m", "d", "k"), [(1, 3, 4, 1), (70, 30, 5, 7), (70, 30, 5, 70), (900, 600, 12, 20)])
def test_equals_the_sorted_distances_of_all_pairs(metric, n, m, d, k):
    rng = np.random.default_rng(n + m)
    bank, queries = rng.normal(size=(n, d)).astype(np.float32), rng.normal(size=(m, d)).astype(np.float32)
    indices, values = exact_neighbors(bank, k, queries, metric=metric)
    expected, expected_values = brute(bank, k, queries, metric)
    assert indices.dtype == np.int64
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(values, expected_values, atol=1e-6)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_equals_scikit_learn_on_the_bank_itself(metric):
    bank = np.random.default_rng(0).normal(size=(400, 20))
    indices, values = exact_neighbors(bank, 15, metric=metric)
    distance, expected = NearestNeighbors(n_neighbors=15, algorithm="brute", metric=metric).fit(bank).kneighbors()
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(values, 1 - distance if metric == "cosine" else distance, atol=1e-9)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_equal_distances_come_in_index_order_also_at_the_last_place(metric):
    points = np.array([[3, 0], [0, 3], [1, 1], [0, -3], [-3, 0]], np.float32)
    bank = np.tile(points, (40, 1))  # 40 copies each, and two pairs of points equally far from (1, 1)
    indices, _ = exact_neighbors(bank, 100, np.array([[1, 1]], np.float32), metric=metric)
    copies = np.arange(40) * 5
    expected = np.concatenate([copies + 2, np.sort(np.concatenate([copies, copies + 1]))])[:100]
    np.testing.assert_array_equal(indices[0], expected)


def test_a_row_is_not_its_own_neighbour_but_its_duplicate_is():
    bank = np.random.default_rng(1).normal(size=(300, 6)).astype(np.float32)
    bank[299] = bank[0]
    indices, values = exact_neighbors(bank, 299, metric="euclidean")
    assert not (indices == np.arange(300)[:, None]).any()
    assert indices[0, 0] == 299
    assert indices[299, 0] == 0
    assert values[0, 0] == 0.0  # exactly: differences, not a cancelled sum of squares


def test_far_from_the_origin_distances_keep_their_digits():
    rng = np.random.default_rng(2)
    bank = (rng.normal(size=(200, 8)) + 100.0).astype(np.float32)
    indices, values = exact_neighbors(bank, 10, metric="euclidean")
    expected, expected_values = brute(bank, 11, bank, "euclidean")
    np.testing.assert_array_equal(indices, expected[:, 1:])
    np.testing.assert_allclose(values, expected_values[:, 1:], rtol=1e-9)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_threads_do_not_change_a_bit(metric):
    bank = np.random.default_rng(3).normal(size=(1200, 16)).astype(np.float32)
    one, two, five = (exact_neighbors(bank, 30, metric=metric, threads=n) for n in (1, 2, 5))
    for other in (two, five):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def test_blocks_do_not_change_the_neighbours(monkeypatch):
    bank = np.random.default_rng(4).integers(-4, 5, size=(500, 6)).astype(np.float32)  # exact sums: many true ties
    whole = exact_neighbors(bank, 40, metric="euclidean")
    monkeypatch.setattr(neighbors, "BLOCK", 7)
    in_blocks = exact_neighbors(bank, 40, metric="euclidean")
    np.testing.assert_array_equal(whole[0], in_blocks[0])
    np.testing.assert_array_equal(whole[1], in_blocks[1])


def test_a_collapsed_representation_has_the_first_rows_as_neighbours():
    for constant in (0.0, 2.0):
        indices, values = exact_neighbors(np.full((300, 3), constant, np.float32), 5)
        np.testing.assert_array_equal(indices[10], [0, 1, 2, 3, 4])
        np.testing.assert_allclose(values, 0.0 if constant == 0 else 1.0, atol=1e-6)


@given(
    st.integers(1, 4), st.integers(1, 300), st.integers(0, 10**6), st.sampled_from([1, 3, 1000]), st.floats(0.0, 1.0)
)
@settings(max_examples=80, deadline=None)
def test_largest_is_a_stable_sort(rows, columns, seed, levels, share):
    rng = np.random.default_rng(seed)
    scores = rng.integers(levels, size=(rows, columns)).astype(np.float32)
    k = max(1, round(share * columns))
    indices, values = largest(scores, k)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(values, np.take_along_axis(scores, expected, axis=1))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"k": 0}, "k = 0"),
        ({"k": 5}, "not between 1 and the 4"),
        ({"k": 1, "metric": "manhattan"}, "choose cosine or euclidean"),
        ({"k": 1, "queries": np.ones((2, 7))}, "queries have 7 columns"),
        ({"k": 1, "queries": np.ones(3)}, "must be a matrix"),
        ({"k": 1, "queries": np.full((2, 3), np.nan)}, "NaN"),
    ],
)
def test_wrong_input_says_what_is_wrong(options, says):
    with pytest.raises(InputError, match=says):
        exact_neighbors(np.ones((5, 3)), **options)
