"""Ridge regression for a whole path of penalties: one pass over the rows, one eigenbasis, closed forms."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.rows import Rows
from reprkit.analysis.solver import Eigen


def ridge_path(
    eigen: Eigen, cross: NDArray[np.float64], count: int, alphas: Iterable[float]
) -> list[NDArray[np.float64]]:
    """Weights [K, D] that minimise sum of |w x_i - y_i|^2 + alpha |w|^2 over centred rows, for each alpha.

    Args:
        eigen: of the covariance of x.
        cross: [K, D], the sum of y_i x_i' over rows, y centred.
        count: rows.
        alphas: positive.
    """
    assert eigen.vectors is not None
    turned = cross @ eigen.vectors
    return [turned / (count * eigen.values + alpha) @ eigen.vectors.T for alpha in alphas]


def cross_moments(rows: Rows, targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """[K, D] sum of y_i x_i' for targets [K, N] and rows [N, D], in float64 by blocks."""
    total = np.zeros((len(targets), rows.dim))
    for part, block in rows.blocks():
        total += targets[:, part] @ block.astype(np.float64)
    return total


def linear_scores(rows: Rows, weights: NDArray[np.float64], bias: NDArray[np.float64]) -> NDArray[np.float64]:
    """[K, N] of weights [K, D] and bias [K], in float64 by blocks."""
    out = np.empty((len(weights), rows.count))
    for part, block in rows.blocks():
        np.matmul(weights, block.astype(np.float64).T, out=out[:, part])
    out += bias[:, None]
    return out
