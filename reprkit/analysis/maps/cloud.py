"""The samples to be mapped, standardised, with their exact neighbours: one search serves every map of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.linalg import row_slices
from reprkit.analysis.neighbors import exact_neighbors
from reprkit.errors import InputError

MIN_POINTS = 5
QUALITY_NEIGHBORS = 10
"""k of every number of a map's quality."""

BLOCK_ROWS = 4096


@dataclass(frozen=True)
class Cloud:
    """Rows about their mean, in units of their root mean square, with their nearest neighbours.

    Attributes:
        rows: [N, D] float32.
        centre: [D] mean of the embeddings.
        rms: root mean square of the centred embeddings.
        neighbors: [N, k] nearest other rows, nearest first; [N, 0] if there is nothing to map.
        distances: [N, k] Euclidean distances to them.
        status: `ok`, with a remark if most rows are alike, or why there is nothing to map.
    """

    rows: NDArray[np.float32]
    centre: NDArray[np.float64]
    rms: float
    neighbors: NDArray[np.int64]
    distances: NDArray[np.float64]
    status: str

    @classmethod
    def of(cls, z: NDArray, perplexities: Sequence[float] = (), *, name: str = "map") -> Cloud:
        """Standardise z [N, D] and find the neighbours that t-SNE at these perplexities and `map_quality` need.

        Raises:
            InputError: z holds values that are not finite.
        """
        if not np.isfinite(z).all():
            raise InputError(
                f"{name}: the embedding holds NaN or infinite values; drop those rows or retrain the encoder"
            )
        count, blocks = len(z), list(row_slices(len(z), BLOCK_ROWS))
        nothing = np.zeros((count, 0), np.int64), np.zeros((count, 0))
        if count < MIN_POINTS:
            return cls(z.astype(np.float32), np.zeros(z.shape[1]), 1.0, *nothing, f"no map: {count} samples")
        centre = z.mean(axis=0, dtype=np.float64)
        rms = float(np.sqrt(sum(float(((z[part] - centre) ** 2).sum()) for part in blocks) / z.size))
        if rms <= 1e-6 * float(np.abs(z).max()):  # what is left is the rounding of float32
            return cls(z.astype(np.float32), centre, 1.0, *nothing, "no map: the embedding is constant")
        rows = np.empty(z.shape, np.float32)
        for part in blocks:
            rows[part] = (z[part] - centre) / rms
        k = max(map(graph_size, (used_perplexity(p, count) for p in perplexities)), default=1)
        found = exact_neighbors(rows, min(count - 1, max(k, QUALITY_NEIGHBORS)), metric="euclidean")
        distinct = len({hash(row.tobytes()) for row in rows})
        few = f"ok (only {distinct} distinct embeddings among {count} samples)"
        return cls(rows, centre, rms, *found, few if distinct < count / 2 else "ok")

    def standardise(self, z: NDArray) -> NDArray[np.float32]:
        """New rows [M, D] in the same units.

        Raises:
            InputError: another number of columns.
        """
        if z.ndim != 2 or z.shape[1] != len(self.centre):
            raise InputError(
                f"map: new samples have {z.shape[-1]} dimensions, the map's {len(self.centre)}; use the same encoder"
            )
        return np.asarray((z - self.centre) / self.rms, dtype=np.float32)


def used_perplexity(asked: float, count: int) -> float:
    """What `count` points allow."""
    return min(float(asked), (count - 1) / 3)


def graph_size(perplexity: float) -> int:
    """Neighbours that carry the affinities of one point."""
    return max(1, int(3 * perplexity))
