"""Exact nearest neighbours by blocked matrix products: one search serves the kNN probe, t-SNE and the hit rates."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.linalg import num_workers as cores
from reprkit.analysis.linalg import ordered_map
from reprkit.errors import InputError

__all__ = ["cores", "exact_neighbors", "largest", "unit_rows"]

Metric = Literal["cosine", "euclidean"]

BLOCK = 256
"""Queries a block. Fixed, not tuned to the machine: each block is one single-threaded product, so rounding, and with
it the order of near ties, does not depend on the number of threads."""


def exact_neighbors(
    bank: NDArray,
    k: int,
    queries: NDArray | None = None,
    *,
    metric: Metric = "cosine",
    threads: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The `k` nearest rows of `bank` for each query, nearest first, by exhaustive search.

    Rows at the same distance come in the order of their index, also where the k-th place is shared. Products are
    computed in float32, or in float64 if `bank` is float64; each block of queries runs on one thread, so the result
    is the same for any number of threads.

    Args:
        bank: [N, D] rows to search.
        k: neighbours a query, 1 to N (to N - 1 without `queries`).
        queries: [M, D]; None searches the bank for its own rows, each row itself excluded (a duplicate of it is not).
        metric: `cosine` (a zero row has similarity 0 to all) or `euclidean`.
        threads: worker threads; None takes every core this process may use.

    Returns:
        indices [M, k] int64 into `bank`, and values [M, k] float64: cosine similarities (falling), or Euclidean
        distances (rising; recomputed in float64 from differences, so that near duplicates do not cancel).

    Raises:
        InputError: shapes that do not fit, non-finite values, or `k` out of range.
    """
    dtype = np.float64 if np.asarray(bank).dtype == np.float64 else np.float32
    base = _matrix(bank, "bank", dtype)
    asked = base if queries is None else _matrix(queries, "queries", dtype)
    if asked.shape[1] != base.shape[1]:
        raise InputError(
            f"neighbours: queries have {asked.shape[1]} columns, the bank {base.shape[1]}; use one encoder"
        )
    available = len(base) - (queries is None)
    if not 1 <= k <= available:
        raise InputError(f"neighbours: k = {k} is not between 1 and the {available} rows there are; lower k")
    if metric not in ("cosine", "euclidean"):
        raise InputError(f"neighbours: metric '{metric}' is unknown; choose cosine or euclidean")

    # Both metrics rank by q.x + offset(x): the cosine of unit rows, or half the negative squared distance up to a
    # constant of the query. Centring keeps the squared norms, and with them the rounding, small.
    if metric == "cosine":
        base = unit_rows(base)
        asked = base if queries is None else unit_rows(asked)
        offset = None
    else:
        centre = base.mean(axis=0, dtype=np.float64).astype(dtype)
        base = base - centre
        asked = base if queries is None else asked - centre
        offset = (-0.5 * np.einsum("nd,nd->n", base, base)).astype(dtype)

    indices = np.empty((len(asked), k), np.int64)
    values = np.empty((len(asked), k), np.float64)

    def search(start: int) -> None:
        rows = asked[start : start + BLOCK]
        scores = rows @ base.T
        if offset is not None:
            scores += offset
        if queries is None:
            scores[np.arange(len(rows)), np.arange(start, start + len(rows))] = -np.inf
        best, best_scores = largest(scores, k)
        if metric == "euclidean":
            best, best_scores = _by_distance(rows, base, best)
        indices[start : start + BLOCK], values[start : start + BLOCK] = best, best_scores

    for _ in ordered_map(search, range(0, len(asked), BLOCK), workers=threads):
        pass
    return indices, values


def largest(scores: NDArray, k: int) -> tuple[NDArray[np.int64], NDArray]:
    """Column indices and values [M, k] of the `k` largest entries of each row [M, N], ties by lower index.

    The k-th largest of the maxima of disjoint groups of columns bounds the k-th largest entry from below; only
    entries that reach the bound are sorted. All ties at the k-th place reach it, so none is dropped by chance.
    """
    rows, columns = scores.shape
    group = next(size for size in (16, 8, 4, 2, 1) if size == 1 or columns // size >= 4 * k)
    width = columns // group
    maxima = scores[:, : width * group].reshape(rows, group, width).max(axis=1)
    bound = np.partition(maxima, width - k, axis=1)[:, width - k]
    row, column = np.nonzero(scores >= bound[:, None])
    score = scores[row, column]
    order = np.lexsort((-score, row))  # stable: equal scores keep the order of their columns
    counts = np.bincount(row, minlength=rows)
    first = np.concatenate(([0], np.cumsum(counts)[:-1]))
    chosen = order[first[:, None] + np.arange(k)]
    return column[chosen], score[chosen]


def unit_rows(matrix: NDArray) -> NDArray:
    """Rows scaled to Euclidean length 1; zero rows stay zero."""
    length = np.sqrt(np.einsum("nd,nd->n", matrix, matrix, dtype=np.float64))
    return (matrix / np.where(length > 0, length, 1.0)[:, None]).astype(matrix.dtype, copy=False)


def _by_distance(rows: NDArray, base: NDArray, best: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray]:
    """Neighbours [m, k] ordered by their exact distance, and the distances."""
    best = np.sort(best, axis=1)  # so that the stable sort below breaks ties by lower index
    distance = np.empty(best.shape)
    for i, neighbours in enumerate(best):
        difference = base[neighbours].astype(np.float64) - rows[i]
        distance[i] = np.einsum("kd,kd->k", difference, difference)
    order = np.argsort(distance, axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1), np.sqrt(np.take_along_axis(distance, order, axis=1))


def _matrix(values: NDArray, name: str, dtype: type) -> NDArray:
    matrix: NDArray = np.ascontiguousarray(values, dtype=dtype)
    if matrix.ndim != 2:
        raise InputError(f"neighbours: the {name} must be a matrix [rows, features], not of shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise InputError(f"neighbours: the {name} holds NaN or infinite values; drop those rows")
    return matrix
