"""Standard deviation between quantities that are known from samples only: freed of sampling noise, with an interval.

Means over n samples differ even where what they estimate is equal, so their plain standard deviation is too large. The
squared length of a vector known with noise exceeds its true value by the trace of its covariance, on average; that
trace is estimated from the samples and taken off.

A standard deviation near 0 is no place for percentiles of resamples: they repeat the bias and never reach 0. The
interval holds those lengths at which the observed one would not be surprising: the vector is moved along its own
direction, and the bootstrap says how far chance carries it. The interval of a difference joins two of these by the
correlation of the resamples: the method of variance estimates recovery (Zou and Donner, Statistics in Medicine 27,
2008).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Dispersion:
    """Standard deviation between the true components of a vector.

    Attributes:
        value: the standard deviation; 0 where `variance` is negative.
        low, high: its interval.
        variance: the estimate behind it; chance makes it negative where the components are equal.
        along: [B] deviations of the resamples along the observed vector, over sqrt(P - 1).
    """

    value: float
    low: float
    high: float
    variance: float
    along: NDArray[np.float64]

    @property
    def ends(self) -> tuple[float, float, float]:
        """Value, low, high."""
        return self.value, self.low, self.high

    @property
    def signed(self) -> float:
        """Root of the absolute variance, with the variance's sign: for averages, which a cut at 0 would bias."""
        return float(np.sign(self.variance) * np.sqrt(abs(self.variance)))


UNKNOWN = Dispersion(*(float("nan"),) * 4, np.empty(0))


def dispersion(vector: NDArray, resampled: NDArray, influence: NDArray, *, level: float = 0.95) -> Dispersion:
    """Standard deviation of the true components of a vector that was estimated from n samples.

    Args:
        vector: [P] components as observed, of mean 0; P at least 2.
        resampled: [B, P] the same of bootstrap resamples.
        influence: [n, P] what each sample adds to the vector, to first order: the vector's covariance is that of the
            influence / n. If the vector is a mean, the influence is the samples, and `variance` is unbiased.
        level: of the interval.
    """
    n, count = influence.shape
    freedom = count - 1
    square = float(vector @ vector)
    variance = (square - float(influence.var(axis=0, ddof=1).sum()) / n) / freedom
    error = resampled - vector
    across = np.einsum("bp,bp->b", error, error)
    # A vector of zeros has no direction: take the one in which chance moves it most.
    along = error @ (vector / np.sqrt(square) if square > 0 else np.linalg.svd(error, full_matrices=False)[2][0])

    def quantile(length: float, share: float) -> float:
        """Of the observed squared length, if the true vector had `length` in this direction."""
        return float(np.quantile(length**2 + 2 * length * along + across, share))

    tail = (1 - level) / 2
    low = _crossing(lambda length: quantile(length, 1 - tail) - square, square, across)
    # A length below what chance alone gives says nothing more: the interval shall not shrink to a point there.
    seen = max(square, float(np.median(across)))
    high = _crossing(lambda length: quantile(length, tail) - seen, seen, across)
    root = float(np.sqrt(freedom))
    return Dispersion(float(np.sqrt(max(variance, 0.0))), low / root, high / root, variance, along / root)


def minus(one: Dispersion, other: Dispersion) -> tuple[float, float, float]:
    """one - other with its interval: difference, low, high. Both from the same resamples; NaN if one is unknown."""
    if not len(one.along) or not len(other.along):
        return (float("nan"),) * 3
    a, b = (each.along - each.along.mean() for each in (one, other))
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    correlation = float(a @ b) / norms if norms > 0 else 0.0
    difference = one.value - other.value

    def reach(x: float, y: float) -> float:
        x, y = max(x, 0.0), max(y, 0.0)
        return float(np.sqrt(max(x * x + y * y - 2 * correlation * x * y, 0.0)))

    down = reach(one.value - one.low, other.high - other.value)
    up = reach(one.high - one.value, other.value - other.low)
    return difference, difference - down, difference + up


def _crossing(excess: Callable[[float], float], square: float, across: NDArray) -> float:
    """The length at which a function that rises with it passes 0; 0 if it starts above."""
    from scipy.optimize import brentq

    if excess(0.0) >= 0:
        return 0.0
    return float(brentq(excess, 0.0, 2 * float(np.sqrt(square) + np.sqrt(across.max())), xtol=1e-12))
