"""Rows of a representation, held in memory or streamed from a file, behind one face; and which rows stand for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

BLOCK_ROWS = 4096
"""Rows read from a file at a time. Fixed: sums in float64 run over blocks, so their last bits depend on it."""


class Rows:
    """float32 rows [N, D] that can be read in blocks, over and over.

    Attributes:
        count, dim: N and D.
        array: all rows, if they are in memory, else None.
    """

    def __init__(
        self,
        count: int,
        dim: int,
        *,
        array: NDArray[np.float32] | None = None,
        stream: Callable[[int], Iterator[NDArray[np.float32]]] | None = None,
    ) -> None:
        self.count = count
        self.dim = dim
        self.array = array
        self._stream = stream

    @classmethod
    def of(cls, array: NDArray) -> Rows:
        """Rows of an array [N, D]; it is kept as it is if it is float32."""
        return cls(len(array), array.shape[1], array=np.asarray(array, dtype=np.float32))

    def blocks(self, rows: int = BLOCK_ROWS) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Consecutive blocks of about `rows` rows (in memory: views), each with its place."""
        start = 0
        if self.array is not None:
            for start in range(0, self.count, rows):
                yield slice(start, min(start + rows, self.count)), self.array[start : start + rows]
            return
        assert self._stream is not None
        for block in self._stream(rows):
            yield slice(start, start + len(block)), block
            start += len(block)


def stratified_rows(targets: NDArray, limit: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Sorted numbers of at most `limit` rows that have a target, drawn at random.

    Of class indices the shares are kept (largest remainders) and no class is lost; of real values the draw is plain.

    Args:
        targets: [N] class indices (-1: missing) or values (NaN: missing).
        limit: rows to keep, at least the number of classes.
        seed: of the draw.
    """
    discrete = targets.dtype.kind in "iu"
    valid = np.flatnonzero(targets >= 0 if discrete else ~np.isnan(targets))
    if len(valid) <= limit:
        return valid
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(valid))
    if not discrete:
        return np.sort(valid[order[:limit]])
    _, encoded, counts = np.unique(targets[valid], return_inverse=True, return_counts=True)
    share = np.maximum(counts * (limit / len(valid)), 1.0)
    keep = np.floor(share).astype(np.int64)
    by_remainder = np.argsort(keep - share, kind="stable")
    for i in np.resize(by_remainder, max(limit - int(keep.sum()), 0)):
        keep[i] += keep[i] < counts[i]
    for _ in range(int(keep.sum()) - limit):  # what classes below their one row took
        keep[keep.argmax()] -= 1
    by_class = order[np.argsort(encoded[order], kind="stable")]
    ends = np.cumsum(counts)
    chosen = [by_class[end - count : end - count + n] for end, count, n in zip(ends, counts, keep, strict=True)]
    return np.sort(valid[np.concatenate(chosen)])
