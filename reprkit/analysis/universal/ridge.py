"""The optimal linear predictor of a real-valued task, and everything else that moments alone decide: in closed form.

    F(w, b) = (1/n) sum_i (y_i - w x_i - b)^2 + lambda ||w||^2,      lambda = 1 / (C n)

on the centred, RMS-1 z: scikit-learn's `Ridge(alpha=1/C)` divided by n. The covariance of x and that of x with y are
all it takes, so that every C costs a product in the eigenbasis, and one pass over val judges all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.moments import SufficientStatistics, sufficient_statistics
from reprkit.analysis.rows import BLOCK_ROWS
from reprkit.analysis.universal.optimal import Linear
from reprkit.analysis.workspace import Workspace

EXPONENTS = tuple(np.arange(-32, 25) / 4)
"""Exponents of ten of the values of C that are tried: 1e-8 to 1e6 in quarter decades."""


@dataclass(frozen=True)
class Moments:
    """Second moments of z and one target over the training rows that have a value; the target is standardised there.

    Attributes:
        statistics: of those rows.
        cross: [D] covariance of z and the target.
        offset: [D] mean of those rows beyond the mean that centred rows were taken about.
    """

    statistics: SufficientStatistics
    cross: NDArray[np.float64]
    offset: NDArray[np.float64]

    @property
    def covariance(self) -> NDArray[np.float64]:
        """[D, D] covariance of z."""
        return self.statistics.scatter / self.statistics.count


def regression_moments(ws: Workspace, targets: Mapping[str, NDArray[np.float64]]) -> dict[str, Moments]:
    """Moments of standardised targets: task -> [N_train], NaN where missing. One pass, and one for each with gaps."""
    complete = {name: np.nan_to_num(y) for name, y in targets.items()}
    cross = np.zeros((len(targets), ws.dim))
    start = 0
    for block in ws.blocks("train"):
        part = slice(start, start + len(block))
        cross += np.stack([y[part] for y in complete.values()]) @ (block - ws.mean)
        start = part.stop
    found = {}
    for (name, y), total in zip(targets.items(), cross, strict=True):
        known = ~np.isnan(y)
        statistics = ws.statistics if known.all() else sufficient_statistics(_selected(ws, known))
        found[name] = Moments(statistics, total / statistics.count, statistics.mean - ws.mean)
    return found


def _selected(ws: Workspace, known: NDArray[np.bool_]) -> Iterator[NDArray[np.float32]]:
    start = 0
    for block in ws.blocks("train", BLOCK_ROWS):
        yield block[known[start : start + len(block)]]
        start += len(block)


def choose_ridge(
    moments: Moments, rms: float, ws: Workspace, val: NDArray[np.float64], *, exponents: Sequence[float] = EXPONENTS
) -> tuple[Linear, float]:
    """The ridge regression with the least squared error on val, and that error.

    Args:
        moments: of the task.
        rms: of the centred z, positive.
        ws: where val is read.
        val: [N_val] standardised targets, NaN where missing.
        exponents: of ten, of the values of C.
    """
    c = 10.0 ** np.asarray(exponents, dtype=np.float64)
    weights = _solutions(moments, rms, c) / rms
    bias = -weights @ moments.offset
    total = np.zeros(len(c))
    for where, block in ws.centred("val").blocks():
        known = np.flatnonzero(~np.isnan(val[where]))
        predicted = weights @ block[known].astype(np.float64).T + bias[:, None]
        total += ((predicted - val[where][known]) ** 2).sum(axis=1)
    best = int(np.argmin(total))
    return fit_ridge(moments, rms, float(c[best])), float(total[best] / np.count_nonzero(~np.isnan(val)))


def fit_ridge(moments: Moments, rms: float, c: float) -> Linear:
    """Minimise F; directions in which z does not vary take no weight."""
    penalty = 1.0 / (c * moments.statistics.count)
    inside = _solutions(moments, rms, np.array([c]))[0]
    cross = moments.cross / rms
    slope = moments.covariance @ inside / rms**2 - cross
    gradient = 2 * (slope + penalty * inside)
    value = 1.0 + float(inside @ (slope - cross)) + penalty * float(inside @ inside)
    weights = inside / rms
    bias = np.array([-weights @ moments.offset])
    return Linear(weights[None], bias, c, value, float(gradient @ gradient) / (4 * penalty))


def _solutions(moments: Moments, rms: float, c: NDArray[np.float64]) -> NDArray[np.float64]:
    """[G, D] minimising weights, in the units of x, for each C [G]."""
    penalties = 1.0 / (c * moments.statistics.count)
    values, vectors = moments.statistics.eigen
    basis = vectors[:, : np.count_nonzero(values)]
    curvatures = values[: basis.shape[1]] / rms**2 + penalties[:, None]
    return (basis.T @ moments.cross / rms / curvatures) @ basis.T
