"""The optimal linear predictor: multinomial logistic regression with a certificate, C chosen on validation.

    F(W, b) = (1/N) sum_i CE(W x_i + b, y_i) + (lambda / 2) ||W||^2,      lambda = 1 / (C N)

which is scikit-learn's `LogisticRegression(C=C)` divided by C N (for two classes scikit-learn fits one weight vector:
its C is twice ours). x are the principal components of the centred, RMS-1 z: a rotation leaves F as it is,
directions without variance drop out exactly, and there the Hessian is close to diagonal, so L-BFGS runs in
coordinates scaled by its square root.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from reprkit.analysis import linalg
from reprkit.analysis.moments import SufficientStatistics

C_DECADES = (-6, 4)
"""Exponents of ten of the smallest and largest C that are tried."""

PATIENCE = 2
"""Decades of C without a lower validation loss after which larger ones are not tried."""

CERTIFICATE = 1e-8
"""Nats: the bound on F - min F at which the final fit stops."""


@dataclass(frozen=True)
class Basis:
    """Principal components of the centred, RMS-1 z.

    Attributes:
        mean: [D], subtracted.
        components: [D, r]: the product with it rotates and divides by the RMS.
        variances: [r], of the components; they average to 1 over the D directions of z.
    """

    mean: np.ndarray
    components: np.ndarray
    variances: np.ndarray

    @classmethod
    def of(cls, statistics: SufficientStatistics) -> Basis:
        """The basis that the training statistics define; r = 0 for a constant z."""
        values, vectors = statistics.eigen
        kept = int(np.count_nonzero(values))
        rms = statistics.rms or 1.0
        return cls(statistics.mean, np.ascontiguousarray(vectors[:, :kept]) / rms, values[:kept] / rms**2)

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """[N, r] float64 components of raw z [N, D], made in blocks."""
        out = np.empty((len(z), len(self.variances)))

        def fill(part: slice) -> None:
            np.matmul(z[part].astype(np.float64) - self.mean, self.components, out=out[part])

        for _ in linalg.ordered_map(fill, linalg.row_slices(len(z), 2048)):
            pass
        return out


@dataclass(frozen=True)
class LinearFit:
    """A fitted multinomial logistic regression.

    Attributes:
        weights, bias: [C, r] and [C].
        c: inverse regularisation, as scikit-learn counts it.
        objective: F at the fit.
        certificate: ||grad F||^2 / (2 lambda), an upper bound of F - min F (the bias is exactly optimal).
        evaluations: passes over the training rows.
    """

    weights: np.ndarray
    bias: np.ndarray
    c: float
    objective: float
    certificate: float
    evaluations: int

    def logits(self, x: np.ndarray) -> np.ndarray:
        """[C, N] logits of rows x [N, r]."""
        return self.weights @ x.T + self.bias[:, None]


def cross_entropies(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """[N] losses in nats of logits [C, N] for class indices [N]."""
    peak = logits.max(axis=0)
    return np.log(np.exp(logits - peak).sum(axis=0)) + peak - logits[targets, np.arange(len(targets))]


class _Objective:
    """F and its gradient, in row blocks that stay in cache between the two products that need them."""

    def __init__(self, x: np.ndarray, targets: np.ndarray, classes: int, penalty: float) -> None:
        self.x, self.targets, self.classes, self.penalty = x, targets, classes, penalty
        self.evaluations = 0
        rows = linalg.rows_for_cache(max(1, x.shape[1]), itemsize=8)
        self.parts = list(linalg.row_slices(len(x), rows))
        # Threads pay when a pass takes longer than starting it.
        self.workers = linalg.num_workers() if x.size > 1 << 19 else 1
        self.map: Callable = map

    def __call__(self, weights: np.ndarray, bias: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        self.evaluations += 1

        def partial(part: slice) -> tuple[float, np.ndarray, np.ndarray]:
            x, y = self.x[part], self.targets[part]
            error = weights @ x.T
            error += bias[:, None]
            peak = error.max(axis=0)
            error -= peak
            at_target = error[y, np.arange(len(y))]
            np.exp(error, out=error)
            total = error.sum(axis=0)
            loss = float((np.log(total) - at_target).sum())
            error /= total
            error[y, np.arange(len(y))] -= 1
            return loss, error @ x, error.sum(axis=1)

        loss, by_weights, by_bias = 0.0, np.zeros_like(weights), np.zeros_like(bias)
        for part_loss, part_weights, part_bias in self.map(partial, self.parts):
            loss += part_loss
            by_weights += part_weights
            by_bias += part_bias
        n = len(self.targets)
        value = loss / n + self.penalty / 2 * float(np.sum(weights**2))
        return value, by_weights / n + self.penalty * weights, by_bias / n


def fit_linear(
    x: np.ndarray,
    targets: np.ndarray,
    classes: int,
    c: float,
    *,
    variances: np.ndarray | None = None,
    start: LinearFit | None = None,
    tolerance: float = CERTIFICATE,
    relative: float = 0.0,
    max_evaluations: int = 3000,
) -> LinearFit:
    """Minimise F by preconditioned L-BFGS.

    Args:
        x: [N, r] float64, centred.
        targets: [N] class indices; each class occurs.
        classes: C >= 2.
        c: inverse regularisation (scikit-learn's C), positive.
        variances: [r] variances of the columns, for the preconditioner; measured if not given.
        start: warm start, e.g. the fit at a neighbouring C.
        tolerance: stop once the certificate (nats) is below it.
        relative: stop once F falls by less than this fraction in a step; 0 leaves the stop to `tolerance`.
        max_evaluations: passes over x at most.
    """
    n, width = x.shape
    penalty = 1.0 / (c * n)
    objective = _Objective(x, targets, classes, penalty)
    prior = np.bincount(targets, minlength=classes) / n
    weights = start.weights if start else np.zeros((classes, width))
    bias = start.bias if start else np.log(prior)
    # Hessian of the loss about the prior: (diag p - pp') x covariance; its mean curvature scales each coordinate.
    curvature = float(np.sum(prior * (1 - prior))) / classes
    spread = variances if variances is not None else x.var(axis=0)
    scale = 1.0 / np.sqrt(np.append(curvature * spread + penalty, curvature))

    last: dict[str, float] = {"certificate": np.inf}

    def scaled(flat: np.ndarray) -> tuple[float, np.ndarray]:
        point = flat.reshape(classes, width + 1) * scale
        value, by_weights, by_bias = objective(np.ascontiguousarray(point[:, :-1]), point[:, -1])
        last["certificate"] = float(np.sum(by_weights**2) + np.sum(by_bias**2)) / (2 * penalty)
        return value, (np.column_stack([by_weights, by_bias]) * scale).ravel()

    def watch(_: np.ndarray) -> None:
        if last["certificate"] < tolerance:
            raise StopIteration

    def run() -> LinearFit:
        first = (np.column_stack([weights, bias]) / scale).ravel()
        options = {"maxcor": 20, "ftol": relative, "gtol": 0.0, "maxfun": max_evaluations, "maxiter": max_evaluations}
        found = minimize(scaled, first, jac=True, method="L-BFGS-B", callback=watch, options=options)
        point = found.x.reshape(classes, width + 1) * scale
        solved = np.ascontiguousarray(point[:, :-1])
        free = _best_bias(solved @ x.T, targets, point[:, -1], prior)
        value, by_weights, by_bias = objective(solved, free)
        certificate = float(np.sum(by_weights**2) + np.sum(by_bias**2)) / (2 * penalty)
        return LinearFit(solved, free, c, value, certificate, objective.evaluations)

    with linalg.single_thread_blas():
        if objective.workers == 1:
            return run()
        with ThreadPoolExecutor(objective.workers) as pool:
            objective.map = pool.map
            return run()


def _best_bias(products: np.ndarray, targets: np.ndarray, bias: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """The bias that minimises the loss for given W x [C, N], by a few Newton steps (damped to stay a descent)."""

    def loss(candidate: np.ndarray) -> float:
        return float(cross_entropies(products + candidate[:, None], targets).mean())

    value = loss(bias)
    for _ in range(8):
        shifted = products + bias[:, None]
        shifted -= shifted.max(axis=0)
        np.exp(shifted, out=shifted)
        shifted /= shifted.sum(axis=0)
        gradient = shifted.mean(axis=1) - prior
        if np.abs(gradient).max() < 1e-15:
            break
        hessian = np.diag(shifted.mean(axis=1)) - shifted @ shifted.T / len(targets)
        step = np.linalg.pinv(hessian, hermitian=True) @ gradient
        size = 1.0
        while size > 1e-3 and (trial := loss(bias - size * step)) > value:
            size /= 2
        if size <= 1e-3:
            break
        bias, value = bias - size * step, trial
    return bias


@dataclass(frozen=True)
class Choice:
    """The linear predictor that validation chose.

    Attributes:
        fit: at the chosen C, polished.
        val_loss: its mean validation loss in nats.
        path: (C, validation loss) of every fit, in the order they were made.
    """

    fit: LinearFit
    val_loss: float
    path: tuple[tuple[float, float], ...]


def choose_linear(
    x: np.ndarray,
    targets: np.ndarray,
    val_x: np.ndarray,
    val_targets: np.ndarray,
    classes: int,
    *,
    variances: np.ndarray | None = None,
    exponents: Sequence[int] = C_DECADES,
) -> Choice:
    """Choose C by validation log-loss: decades upwards, each started from the last fit; then half and quarter steps.

    The path stops when two decades in a row brought no lower validation loss.
    """
    path: dict[float, tuple[float, LinearFit]] = {}

    def visit(exponent: float, start: LinearFit | None) -> float:
        fit = fit_linear(
            x, targets, classes, 10.0**exponent, variances=variances, start=start, relative=1e-7, max_evaluations=200
        )
        loss = float(cross_entropies(fit.logits(val_x), val_targets).mean())
        path[exponent] = (loss, fit)
        return loss

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
    chosen = path[best()][1]
    final = fit_linear(x, targets, classes, chosen.c, variances=variances, start=chosen)
    val_loss = float(cross_entropies(final.logits(val_x), val_targets).mean())
    return Choice(final, val_loss, tuple((10.0**e, loss) for e, (loss, _) in path.items()))
