"""How many directions a representation uses, from the eigenvalues of its covariance or its singular values.

`SufficientStatistics` itself has the RMS, the anisotropy, the effective rank and the participation ratio.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reprkit.analysis.moments import SufficientStatistics, entropy
from reprkit.analysis.shape.estimates import Undefined

FIT_RANGE = (11, 100)
"""Ranks of the eigenvalues to which the power law is fitted, as published."""

LEAST_POINTS = 10
"""Eigenvalues that a fit needs after the first of the range; with fewer the fit starts at 1."""


def singular_values(moments: SufficientStatistics) -> NDArray[np.float64]:
    """Singular values [min(N, D)] of the uncentred Z, falling; rounding noise is set to 0."""
    second = moments.scatter + moments.count * np.outer(moments.mean, moments.mean)
    values = np.linalg.eigvalsh(second)[::-1][: moments.count]
    floor = max(values[0], 0.0) * moments.dim * np.finfo(np.float64).eps
    return np.sqrt(np.where(values > floor, values, 0.0))


def rankme(singular: ArrayLike, *, epsilon: float = 1e-7) -> float:
    """RankMe: exp of the entropy of the normalised singular values, at least 1 and at most min(N, D) up to epsilon.

    exp(-sum_k p_k log p_k) with p_k = s_k / sum(s) + epsilon. Garrido, Balestriero, Najman and LeCun, "RankMe" (ICML
    2023): of Z as it is, not centred, so that a large mean hides all other directions.

    Args:
        singular: singular values [min(N, D)] of Z.
        epsilon: added to every share; the paper's value for float32.

    Raises:
        Undefined: all are 0.
    """
    values = np.asarray(singular, np.float64)
    if not values.any():
        raise Undefined("all embeddings are zero")
    return float(np.exp(entropy(values / values.sum() + epsilon)))


def stable_rank(eigenvalues: ArrayLike) -> float:
    """Sum of the covariance eigenvalues over the largest: between 1 and the rank.

    The squared Frobenius norm over the squared spectral norm of the centred Z. Rudelson and Vershynin (J. ACM 2007).

    Raises:
        Undefined: all are 0.
    """
    values = np.asarray(eigenvalues, np.float64)
    if not values.any():
        raise Undefined("the embeddings are constant")
    return float(values.sum() / values.max())


class PowerLaw(NamedTuple):
    """A power law fitted to eigenvalues of rank `first` to `last`: lambda_i proportional to i^-alpha.

    Attributes:
        alpha: decay; about 1 is reported as best for transfer.
        r2: share of the weighted variance of log lambda that the line explains; NaN if log lambda does not vary.
        first, last: ranks fitted, counted from 1.
    """

    alpha: float
    r2: float
    first: int
    last: int


def alpha_req(eigenvalues: ArrayLike, *, fit_range: tuple[int, int] = FIT_RANGE) -> PowerLaw:
    """Power-law decay of the covariance eigenvalues.

    Least squares of log lambda_i on log i with weights 1/i. Agrawal, Mondal, Ghosh and Richards, "alpha-ReQ" (NeurIPS
    2022); range and weights as in Stringer et al. (Nature 2019). With fewer positive eigenvalues than `fit_range`
    asks for, the fit ends at the last of them, and starts at 1 if fewer than 10 would be left after the first.

    Args:
        eigenvalues: of the covariance, falling.
        fit_range: first and last rank, counted from 1.

    Raises:
        Undefined: fewer than 3 eigenvalues are positive.
    """
    values = np.asarray(eigenvalues, np.float64)
    first, last = fit_range[0], min(fit_range[1], int((values > 0).sum()))
    if last < 3:
        raise Undefined("fewer than 3 directions vary")
    if last - first < LEAST_POINTS:
        first = 1
    ranks = np.arange(first, last + 1)
    weights = 1 / ranks
    x, y = np.log(ranks), np.log(values[first - 1 : last])
    x, y = x - np.average(x, weights=weights), y - np.average(y, weights=weights)
    slope = (weights * x) @ y / ((weights * x) @ x)
    spread = float((weights * y) @ y)
    rest = float((weights * (y - slope * x)) @ (y - slope * x))
    return PowerLaw(float(-slope), 1 - rest / spread if spread > 1e-20 else float("nan"), first, last)
