"""The optimal linear predictor of a discrete task: multinomial logistic regression with a certificate, C by validation.

    F(W, b) = (1/N) sum_i CE(W x_i + b, y_i) + (lambda / 2) ||W||^2,      lambda = 1 / (C N)

which is scikit-learn's `LogisticRegression(C=C)` divided by C N (for two classes scikit-learn fits one weight vector:
its C is twice ours). x is the centred, RMS-1 z. C is chosen by `solver.fit_linear` in float32; the last fit is then
polished in float64, and its bias solved exactly, so that F is known to be within `certificate` of its minimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis import linalg
from reprkit.analysis.moments import SufficientStatistics
from reprkit.analysis.rows import Rows
from reprkit.analysis.solver import Eigen, LinearFit, cross_entropy, fit_linear, logistic_curvature
from reprkit.analysis.universal.targets import mean_loss

C_DECADES = (-6, 4)
"""Exponents of ten of the smallest and largest C that are tried."""

PATIENCE = 2
"""Decades of C without a lower validation loss after which larger ones are not tried."""

CERTIFICATE = 1e-8
"""Nats: the bound on F - min F at which the final fit stops."""

STREAMED_CERTIFICATE = 1e-7
"""The same where every evaluation reads the file."""

BLOCK = 1024
"""Rows of a block in float64."""


@dataclass(frozen=True)
class Linear:
    """A linear predictor of centred z; z - mean is all it takes.

    Attributes:
        weights, bias: [K, D] and [K].
        c: inverse regularisation, as scikit-learn counts it; NaN if none was chosen.
        objective: F.
        certificate: ||grad F||^2 over twice the strong convexity: an upper bound of F - min F.
    """

    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    c: float = float("nan")
    objective: float = float("nan")
    certificate: float = 0.0

    def __call__(self, centred: NDArray) -> NDArray[np.float64]:
        """[K, n] scores of centred rows [n, D]."""
        return self.weights @ centred.astype(np.float64).T + self.bias[:, None]


@dataclass(frozen=True)
class Problem:
    """Logistic regression of one task on the RMS-1 z.

    Attributes:
        rows, targets: centred training rows [N, D] and class indices [N], -1 where missing; each class occurs.
        classes: C >= 2.
        rms: of the centred z, positive.
        eigen: of the covariance of x, for the preconditioner.
    """

    rows: Rows
    targets: NDArray[np.int64]
    classes: int
    rms: float
    eigen: Eigen | None = None

    @property
    def counts(self) -> NDArray[np.int64]:
        """[C] rows of each class."""
        return np.bincount(self.targets[self.targets >= 0], minlength=self.classes)

    def fit(self, c: float, start: LinearFit | None, **options: float | type) -> LinearFit:
        """Minimise F by preconditioned L-BFGS; `options` of `solver.fit_linear`."""
        counts = self.counts
        return fit_linear(
            self.rows,
            cross_entropy(self.targets),
            self.classes,
            c,
            count=int(counts.sum()),
            scale=1.0 / self.rms,
            eigen=self.eigen,
            curvature=logistic_curvature(counts),
            start=start,
            bias=np.log(counts / counts.sum()),
            workers=linalg.num_workers(),
            **options,  # type: ignore[arg-type]
        )


def principal(statistics: SufficientStatistics) -> Eigen:
    """Eigenbasis of the covariance of the centred, RMS-1 z."""
    values, vectors = statistics.eigen
    return Eigen(values / (statistics.rms or 1.0) ** 2, vectors)


def choose_c(
    problem: Problem, val_rows: Rows, val_targets: NDArray[np.int64], *, exponents: Sequence[int] = C_DECADES
) -> tuple[LinearFit, tuple[tuple[float, float], ...]]:
    """Choose C by validation log-loss: decades upwards, each started from the last fit; then half and quarter steps.

    The path stops when two decades in a row brought no lower validation loss.

    Returns:
        The fit at the chosen C, in float32, and (C, validation loss) of every fit, in the order they were made.
    """
    path: dict[float, tuple[float, LinearFit]] = {}

    def visit(exponent: float, start: LinearFit | None) -> None:
        fit = problem.fit(10.0**exponent, start, relative=1e-7, max_evaluations=200)
        path[exponent] = (mean_loss(fit.scores(val_rows), val_targets), fit)

    def best() -> float:
        return min(path, key=lambda exponent: (path[exponent][0], exponent))

    fit: LinearFit | None = None
    for exponent in map(float, range(exponents[0], exponents[1] + 1)):
        visit(exponent, fit)
        fit = path[exponent][1]
        if exponent - best() >= PATIENCE:
            break
    for step in (0.5, 0.25):
        centre = best()
        for exponent in (centre - step, centre + step):
            if exponents[0] <= exponent <= exponents[1]:
                visit(exponent, path[centre][1])
    return path[best()][1], tuple((10.0**e, loss) for e, (loss, _) in path.items())


def polish(problem: Problem, c: float, start: LinearFit | None = None, *, max_evaluations: int = 3000) -> Linear:
    """Minimise F in float64 until its certificate is small, then solve the bias exactly by Newton's method.

    Args:
        problem: rows in memory or streamed.
        c: inverse regularisation.
        start: where to start, such as the fit in float32.
        max_evaluations: passes over the rows at most.
    """
    limit = CERTIFICATE if problem.rows.array is not None else STREAMED_CERTIFICATE
    fit = problem.fit(c, start, dtype=np.float64, gradient=0.0, certificate=limit, max_evaluations=max_evaluations)
    return _solve_bias(problem, c, fit.weights, fit.bias)


def _solve_bias(problem: Problem, c: float, weights: NDArray, bias: NDArray) -> Linear:
    """Newton steps in the bias alone, halved where they would not descend; and the certificate at their end."""
    penalty = 1.0 / (c * problem.counts.sum())
    at = _derivatives(problem, weights, bias, penalty)
    for _ in range(8):
        if np.abs(at.by_bias).max() < 1e-13:
            break
        step = np.linalg.pinv(at.hessian, hermitian=True) @ at.by_bias
        size = 1.0
        while size > 1e-3 and (trial := _derivatives(problem, weights, bias - size * step, penalty)).value > at.value:
            size /= 2
        if size <= 1e-3:
            break
        bias, at = bias - size * step, trial
    certificate = float((at.by_weights**2).sum() + (at.by_bias**2).sum()) / (2 * penalty)
    return Linear(weights, bias, c, at.value, certificate)


@dataclass(frozen=True)
class _Derivatives:
    """F, its gradient w.r.t. W (in the units of x) and b, and its Hessian w.r.t. b."""

    value: float
    by_weights: NDArray[np.float64]
    by_bias: NDArray[np.float64]
    hessian: NDArray[np.float64]


def _derivatives(problem: Problem, weights: NDArray, bias: NDArray, penalty: float) -> _Derivatives:
    loss = cross_entropy(problem.targets)

    def partial(item: tuple[slice, NDArray]) -> tuple[float, NDArray, NDArray, NDArray]:
        where, block = item
        block = block.astype(np.float64)
        error = weights @ block.T + bias[:, None]
        value = loss(error, where)
        shares = error.copy()
        y = problem.targets[where]
        known = np.flatnonzero(y >= 0)
        shares[y[known], known] += 1.0  # the derivative is the shares of the classes minus the truth
        return value, error @ block, error.sum(axis=1), np.diag(shares.sum(axis=1)) - shares @ shares.T

    value, by_weights, by_bias = 0.0, np.zeros_like(weights), np.zeros_like(bias)
    hessian = np.zeros((len(bias), len(bias)))
    for part, part_weights, part_bias, part_hessian in linalg.ordered_map(partial, problem.rows.blocks(BLOCK)):
        value += part
        by_weights += part_weights
        by_bias += part_bias
        hessian += part_hessian
    n, inside = problem.counts.sum(), weights * problem.rms
    value = float(value / n) + penalty / 2 * float((inside**2).sum())
    return _Derivatives(value, by_weights / (n * problem.rms) + penalty * inside, by_bias / n, hessian / n)
