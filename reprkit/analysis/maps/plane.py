"""A map, and how it is turned onto another one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reprkit.errors import InputError

Placement = Callable[[NDArray, int], NDArray[np.float64]]
"""New rows [M, D] and a number of threads -> [M, 2]."""


@dataclass(frozen=True)
class PlaneMap:
    """A two-dimensional map of an embedding.

    Attributes:
        kind: `tsne`, `pca`, or `lda:` with the name of the task whose classes it tells apart.
        points: [N, 2] float64 coordinates; all zero if there was nothing to map.
        neighbors: [N, k] the nearest rows in the embedding, nearest first; [N, 0] if there was nothing to map.
        status: `ok`, or a sentence.
        perplexity: t-SNE, the perplexity used: what was asked for, or (N - 1) / 3 if that is smaller; else NaN.
        kl: t-SNE, the Kullback-Leibler divergence reached, in nats; else NaN.
        explained: share that lies in the plane: `pca`, of the variance; `lda`, of that between classes; else NaN.
        placement: how new rows are put on it; None if there was nothing to map.
    """

    kind: str
    points: NDArray[np.float64]
    neighbors: NDArray[np.int64]
    status: str
    perplexity: float = np.nan
    kl: float = np.nan
    explained: float = np.nan
    placement: Placement | None = field(default=None, repr=False)

    @property
    def drawn(self) -> bool:
        """False if there was nothing to map."""
        return self.status.startswith("ok")

    def transform(self, z: NDArray, *, n_jobs: int = 1) -> NDArray[np.float64]:
        """Coordinates [M, 2] of new rows z [M, D] of the same encoder; the map stays as it is.

        Where a row lands depends neither on the rows that come with it nor on the number of threads.

        Raises:
            InputError: there is no map, z has another number of columns, or values that are not finite.
        """
        if self.placement is None:
            raise InputError(f"{self.kind}: no new samples can be placed: {self.status}")
        return self.placement(z, n_jobs)


def align(points: NDArray, reference: NDArray) -> NDArray[np.float64]:
    """Rotate or reflect a map [N, 2] onto another of the same samples (orthogonal Procrustes, no scaling).

    The orientation of a map is arbitrary; aligned maps can be compared by eye.
    """
    turn, centre = turn_onto(points, reference)
    return np.asarray((points - centre) @ turn, dtype=np.float64)


def turn_onto(points: NDArray, reference: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The rotation or reflection [2, 2] of `align`, and the centre [2] about which it turns."""
    centre = points.mean(axis=0)
    left, _, right = np.linalg.svd((points - centre).T @ (reference - reference.mean(axis=0)))
    return left @ right, centre
