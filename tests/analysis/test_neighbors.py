from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from reprkit.analysis import neighbors
from reprkit.analysis.neighbors import exact_neighbors, exact_neighbors_streamed
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


def test_distances_equal_but_for_the_rounding_of_products_come_in_index_order():
    rng = np.random.default_rng(8)
    query = rng.integers(-(2**17), 2**17, size=(1, 8)) / 2**10
    step = rng.integers(-(2**17), 2**17, size=(60, 8)) / 2**10
    bank = rng.permutation(np.concatenate([query + step, query - step])).astype(np.float32)
    indices, values = exact_neighbors(bank, 120, query, metric="euclidean")
    expected, expected_values = brute(bank, 120, query, "euclidean")
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(values, expected_values, rtol=1e-15)


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
    monkeypatch.setattr(neighbors, "QUERY_ROWS", 7)
    monkeypatch.setattr(neighbors, "BANK_ROWS", 13)
    in_blocks = exact_neighbors(bank, 40, metric="euclidean")
    np.testing.assert_array_equal(whole[0], in_blocks[0])
    np.testing.assert_array_equal(whole[1], in_blocks[1])


def test_a_collapsed_representation_has_the_first_rows_as_neighbours():
    for constant in (0.0, 2.0):
        indices, values = exact_neighbors(np.full((300, 3), constant, np.float32), 5)
        np.testing.assert_array_equal(indices[10], [0, 1, 2, 3, 4])
        np.testing.assert_allclose(values, 0.0 if constant == 0 else 1.0, atol=1e-6)


def ragged(bank, seed):
    """The rows of a bank in blocks of odd sizes, some empty."""
    cuts = np.sort(np.random.default_rng(seed).integers(0, len(bank) + 1, size=5))
    return iter(np.split(bank, cuts))


@given(
    st.integers(1, 60), st.integers(0, 40), st.integers(0, 10**6), st.sampled_from([2, 1000]), st.integers(1, 9),
    st.sampled_from(["cosine", "euclidean"]), st.floats(0.0, 1.0),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_a_streamed_bank_gives_the_same_bits_and_the_sorted_distances(n, m, seed, levels, slab, metric, share):
    rng = np.random.default_rng(seed)
    draw = lambda rows: (1 + rng.integers(levels, size=(rows, 3))).astype(np.float32)  # noqa: E731
    bank, queries = draw(n), draw(m)
    k = max(1, round(share * n))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbors, "BANK_ROWS", slab)
        patch.setattr(neighbors, "QUERY_ROWS", 7)
        whole = exact_neighbors(bank, k, queries, metric=metric)
        streamed = exact_neighbors_streamed(ragged(bank, seed), k, queries, metric)
    np.testing.assert_array_equal(whole[0], streamed[0])
    np.testing.assert_array_equal(whole[1], streamed[1])
    expected = brute(bank, k, queries, metric)
    if metric == "euclidean" and levels == 2:  # small whole numbers: no rounding, so that ties are ties
        np.testing.assert_array_equal(whole[0], expected[0])
    np.testing.assert_allclose(whole[1], expected[1], atol=2e-6 * levels)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_stream_of_several_slabs_gives_the_same_bits(metric):
    rng = np.random.default_rng(5)
    bank, queries = rng.normal(size=(20000, 24)).astype(np.float32), rng.normal(size=(600, 24)).astype(np.float32)
    whole = exact_neighbors(bank, 50, queries, metric=metric, threads=2)
    streamed = exact_neighbors_streamed(ragged(bank, 0), 50, queries, metric)
    np.testing.assert_array_equal(whole[0], streamed[0])
    np.testing.assert_array_equal(whole[1], streamed[1])
    model = NearestNeighbors(n_neighbors=50, algorithm="brute", metric=metric).fit(bank.astype(np.float64))
    distance, expected = model.kneighbors(queries.astype(np.float64))
    assert (whole[0] == expected).mean() > 0.999  # but for pairs that float32 cannot tell apart
    np.testing.assert_allclose(whole[1], 1 - distance if metric == "cosine" else distance, atol=1e-6)


def test_memory_of_a_streamed_search_does_not_hold_the_bank():
    block = np.random.default_rng(6).normal(size=(8192, 64)).astype(np.float32)
    queries = block[:300]
    peaks = []
    for blocks in (2, 12):
        tracemalloc.start()
        exact_neighbors_streamed((block + i for i in range(blocks)), 5, queries, threads=1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + block.nbytes / 2


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_back_end_of_the_gpu_finds_the_same_neighbours(metric, monkeypatch):
    rng = np.random.default_rng(7)
    bank = rng.integers(-3, 4, size=(3000, 5)).astype(np.float32)  # many ties, and rows met several times
    queries = rng.integers(-3, 4, size=(700, 5)).astype(np.float32)
    monkeypatch.setattr(neighbors, "BANK_ROWS", 100)
    monkeypatch.setattr(neighbors, "QUERY_ROWS", 50)
    on_cpu = exact_neighbors(bank, 30, queries, metric=metric), exact_neighbors(bank, 30, metric=metric)
    monkeypatch.setenv("REPRKIT_DEVICE", "torch-cpu")
    by_torch = exact_neighbors(bank, 30, queries, metric=metric), exact_neighbors(bank, 30, metric=metric)
    for ours, theirs in zip(on_cpu, by_torch, strict=True):
        np.testing.assert_allclose(ours[1], theirs[1], atol=1e-6)
        if metric == "euclidean":  # whole numbers and a centre that rounds little: ties are found as ties
            np.testing.assert_array_equal(ours[0], theirs[0])


def test_a_search_is_silent_unless_it_writes_to_a_terminal(capfd, monkeypatch):
    monkeypatch.setattr(neighbors, "PATIENCE", 0.0)
    exact_neighbors(np.eye(5), 2)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"k": 0}, "k = 0"),
        ({"k": 5}, "not between 1 and the 4"),
        ({"k": 1, "metric": "manhattan"}, "choose cosine or euclidean"),
        ({"k": 1, "queries": np.ones((2, 7))}, "queries have 7 columns"),
        ({"k": 1, "queries": np.ones(3)}, "must be a matrix"),
        ({"k": 1, "queries": np.full((2, 3), np.nan)}, "the queries holds NaN"),
    ],
)
def test_wrong_input_says_what_is_wrong(options, says):
    with pytest.raises(InputError, match=says):
        exact_neighbors(np.ones((5, 3)), **options)


def test_values_whose_squares_overflow_are_refused():
    bank = np.array([[3e25, 0], [-3e25, 1], [0, 3e25], [1, -3e25]], np.float32)
    with np.errstate(all="ignore"), pytest.raises(InputError, match="scale the embeddings down"):
        exact_neighbors(bank, 2, metric="euclidean")


@pytest.mark.parametrize(
    ("blocks", "k", "says"),
    [
        ([], 1, "k = 1 is not between 1 and the 0 rows"),
        ([np.ones((2, 3)), np.ones((1, 3))], 4, "k = 4 is not between 1 and the 3 rows"),
        ([np.ones((2, 3)), np.ones((1, 4))], 1, "queries have 3 columns, the bank 4"),
        ([np.ones((2, 3)), np.full((1, 3), np.inf)], 1, "the bank holds NaN or infinite"),
        ([np.ones(3)], 1, "must be a matrix"),
    ],
)
def test_a_wrong_stream_says_what_is_wrong(blocks, k, says):
    with pytest.raises(InputError, match=says):
        exact_neighbors_streamed(blocks, k, np.ones((2, 3)))
