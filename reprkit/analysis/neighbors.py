"""Exact nearest neighbours by blocked matrix products: one search serves the kNN probe, t-SNE and the hit rates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis import linalg
from reprkit.errors import InputError

__all__ = ["exact_neighbors", "exact_neighbors_streamed", "unit_rows"]

Metric = Literal["cosine", "euclidean"]

QUERY_ROWS, BANK_ROWS = 256, 8192
"""Rows of a product. Fixed, not tuned to the machine: each product runs on one thread, so rounding, and with it the
order of near ties, depends neither on the number of threads nor on how the bank arrives."""

GPU_FACTOR = 8
"""A GPU takes so many times more rows of either side at once."""

PATIENCE = 3.0
"""Seconds after which a search shows its progress, if stderr is a terminal."""

NOBODY = np.iinfo(np.int64).max


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
    computed in float32, or in float64 if `bank` is float64, and the result is the same for any number of threads.
    Beside the bank, memory holds a copy of the queries, and of 8192 rows of the bank with 10 MB of scores a thread.

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
    bank = np.asarray(bank)
    bank = bank.astype(np.float64 if bank.dtype == np.float64 else np.float32, copy=False)
    own = queries is None
    search = _Search(bank if own else queries, k, metric, own=own, dtype=bank.dtype, threads=threads)
    search.read([bank], len(bank))
    if metric == "euclidean":
        search.run(lambda part: search.measure(part, bank))
    return search.ranked()


def exact_neighbors_streamed(
    blocks: Iterable[NDArray],
    k: int,
    queries: NDArray,
    metric: Metric = "cosine",
    *,
    threads: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """`exact_neighbors` in float32 of a bank too large for memory, read once in blocks; the same to the last bit.

    Memory holds the queries and a copy, two or three numbers for each of the M k neighbours, and 8192 rows of the bank
    with their scores.

    Args:
        blocks: the rows of the bank [n, D] in order, n as it comes; a block must not be overwritten later.
        k, queries, metric, threads: as in `exact_neighbors`.
    """
    search = _Search(queries, k, metric, own=False, dtype=np.dtype(np.float32), threads=threads)
    search.read(blocks, None)
    return search.ranked()


def unit_rows(matrix: NDArray) -> NDArray:
    """Rows scaled to Euclidean length 1; zero rows stay zero.

    Args:
        matrix: [N, D].
    """
    raw = matrix.astype(np.float64, copy=False)
    length = np.sqrt(np.einsum("nd,nd->n", raw, raw))
    return matrix / np.where(length > 0, length, 1.0).astype(matrix.dtype)[:, None]


class _Search:
    """The best neighbours so far of M queries, while the bank passes by in slabs.

    Both metrics rank by q.x + offset(x): the cosine of unit rows, or half the negative squared distance up to a
    constant of the query. Centring, about the mean of the first slab, keeps norms and rounding small.
    """

    def __init__(
        self, queries: NDArray | None, k: int, metric: Metric, *, own: bool, dtype: np.dtype, threads: int | None
    ) -> None:
        if metric not in ("cosine", "euclidean"):
            raise InputError(f"neighbours: metric '{metric}' is unknown; choose cosine or euclidean")
        self.queries = _matrix(np.asarray(queries, dtype), "bank" if own else "queries")
        self.k, self.metric, self.own, self.threads = k, metric, own, threads
        self.on_gpu = linalg.device() != "cpu"
        self.block = QUERY_ROWS * (GPU_FACTOR if self.on_gpu else 1)
        self.seen = 0
        self.centre: NDArray | None = None
        self.ready: NDArray | None = None  # the queries as they enter the products
        shape = len(self.queries), max(k, 0)
        self.indices = np.full(shape, NOBODY)
        self.scores = np.full(shape, -np.inf, dtype)
        self.distances = np.zeros(shape if metric == "euclidean" else (0, 0))

    def read(self, blocks: Iterable[NDArray], total: int | None) -> None:
        """Search a bank of `total` rows in memory (one block), or of unknown size in a stream."""
        from tqdm import tqdm

        if total is not None:
            self._check_count(total)
        with tqdm(
            total=total, desc="neighbours", unit="row", unit_scale=True, delay=PATIENCE, disable=None, leave=False
        ) as bar:
            for slab in _slabs(blocks, BANK_ROWS * (GPU_FACTOR if self.on_gpu else 1), self.queries.shape[1]):
                self.add(slab, measure=total is None and self.metric == "euclidean")
                bar.update(len(slab))
        self._check_count(self.seen)
        if (self.indices == NOBODY).any():
            raise InputError("neighbours: values so large that their squares overflow; scale the embeddings down")

    def add(self, slab: NDArray, *, measure: bool) -> None:
        """Let the rows of a slab [n, D] compete."""
        slab, start = slab.astype(self.scores.dtype, copy=False), self.seen
        if self.ready is None:
            self.centre = _centre(slab) if self.metric == "euclidean" else None
            self.ready = self._prepared(self.queries, "bank" if self.own else "queries")
        ready, base, offset = self.ready, self._prepared(slab, "bank"), None
        if self.metric == "euclidean":
            offset = linalg.on_device(-0.5 * np.einsum("nd,nd->n", base, base))
        right = linalg.on_device(base)

        def compete(part: slice) -> None:
            row, column, score = linalg.top_products(
                ready[part],
                right,
                self.k,
                offset=offset,
                floor=self.scores[part, -1],
                diagonal=part.start - start if self.own else None,
            )
            self._take(part, row, column + start, score)
            if measure:
                self.measure(part, slab, start)

        self.run(compete)
        self.seen += len(slab)

    def run(self, work: Callable[[slice], None]) -> None:
        """Do some work for all queries, a few at a time."""
        for _ in linalg.ordered_map(
            work, linalg.row_slices(len(self.queries), self.block), workers=1 if self.on_gpu else self.threads
        ):
            pass

    def measure(self, part: slice, bank: NDArray, start: int = 0) -> None:
        """Exact distances of a few queries to their neighbours in `bank`, the rows from `start` on."""
        for i in range(part.start, part.stop):
            fresh = (self.indices[i] >= start) & (self.indices[i] != NOBODY)
            difference = bank[self.indices[i, fresh] - start].astype(np.float64)
            difference -= self.queries[i]
            self.distances[i, fresh] = np.sqrt(np.vecdot(difference, difference))

    def ranked(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Indices and cosines, or indices and distances, nearest first."""
        if self.metric == "cosine":
            return self.indices, self.scores.astype(np.float64)
        order = np.lexsort((self.indices, self.distances), axis=1)
        return np.take_along_axis(self.indices, order, axis=1), np.take_along_axis(self.distances, order, axis=1)

    def _take(self, part: slice, row: NDArray, index: NDArray, score: NDArray) -> None:
        """Let entries in row-major order compete for the places of a few queries; `row` counts from `part.start`."""
        count, k = part.stop - part.start, self.k
        new = np.bincount(row, minlength=count)
        place = np.arange(len(row)) - (np.cumsum(new) - new)[row] + k
        indices = np.full((count, k + new.max(initial=0)), NOBODY)
        scores = np.full(indices.shape, -np.inf, self.scores.dtype)
        indices[:, :k], scores[:, :k] = self.indices[part], self.scores[part]
        indices[row, place], scores[row, place] = index, score
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]  # a tie goes to what stands first: the lower index
        self.indices[part] = np.take_along_axis(indices, order, axis=1)
        self.scores[part] = np.take_along_axis(scores, order, axis=1)
        if self.metric == "euclidean":
            distances = np.zeros(indices.shape)
            distances[:, :k] = self.distances[part]
            self.distances[part] = np.take_along_axis(distances, order, axis=1)

    def _prepared(self, raw: NDArray, name: str) -> NDArray:
        """Unit rows, or centred ones, checked to be finite."""
        out = np.empty_like(raw)

        def fill(part: slice) -> None:
            if not np.isfinite(raw[part]).all():
                raise InputError(f"neighbours: the {name} holds NaN or infinite values; drop those rows")
            out[part] = unit_rows(raw[part]) if self.centre is None else raw[part] - self.centre

        for _ in linalg.ordered_map(fill, linalg.row_slices(len(raw), QUERY_ROWS), workers=self.threads):
            pass
        return out

    def _check_count(self, rows: int) -> None:
        available = rows - self.own
        if not 1 <= self.k <= available:
            raise InputError(f"neighbours: k = {self.k} is not between 1 and the {available} rows there are; lower k")


def _centre(slab: NDArray) -> NDArray:
    """About the mean [D], to one or two bits of the spread: subtracting so round a number loses no bit of most values,
    so that equal distances stay equal.
    """
    mean, spread = slab.mean(axis=0, dtype=np.float64), slab.std(axis=0, dtype=np.float64)
    step = np.ldexp(1.0, np.frexp(spread)[1] - 1)
    return np.where(spread > 0, np.round(mean / step) * step, mean).astype(slab.dtype)


def _slabs(blocks: Iterable[NDArray], rows: int, columns: int) -> Iterator[NDArray]:
    """The rows of all blocks, `rows` at a time (the last fewer), so that blocks of any size give the same products."""
    parts: list[NDArray] = []
    held = 0
    for block in blocks:
        rest = _matrix(np.asarray(block), "bank")
        if rest.shape[1] != columns:
            raise InputError(f"neighbours: queries have {columns} columns, the bank {rest.shape[1]}; use one encoder")
        while len(rest):
            parts.append(rest[: rows - held])
            held += len(parts[-1])
            rest = rest[len(parts[-1]) :]
            if held == rows:
                yield np.concatenate(parts) if len(parts) > 1 else parts[0]
                parts, held = [], 0
    if parts:
        yield np.concatenate(parts)


def _matrix(values: NDArray, name: str) -> NDArray:
    if values.ndim != 2:
        raise InputError(f"neighbours: the {name} must be a matrix [rows, features], not of shape {values.shape}")
    return values
