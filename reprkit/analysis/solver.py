"""Regularised linear predictors by preconditioned L-BFGS: one solver for every linear fit, in memory or streamed.

    F(W, b) = (1/n) sum of losses(W x_i + b)  +  (lambda / 2) ||W||^2,      lambda = 1 / (C n),

which is scikit-learn's objective divided by C n. x is the centred z times a fixed factor a feature; the factors move
into W, so that one centred float32 matrix serves every task, every loss and every scale without a copy. The Hessian is
close to the covariance of x times the curvature of the loss: L-BFGS runs in the eigenbasis of that covariance, scaled
by its square root, where it needs about half as many passes. The basis change acts on W and not on the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis import linalg
from reprkit.analysis.rows import Rows

Loss = Callable[[NDArray[np.float64], slice], float]
"""Scores [K, n] of some rows -> the sum of their losses; the scores are overwritten by the derivative of that sum.
Rows without a target have loss and derivative 0."""

GRADIENT = 1e-5
"""Largest absolute component of the gradient of F at which a fit stops (scikit-learn's default: 1e-4)."""

MAX_EVALUATIONS = 2000


@dataclass(frozen=True)
class Eigen:
    """Eigenbasis of the covariance of x: `values` [r], and `vectors` [D, r] as columns; or, without vectors, the
    variances [D] of the features themselves.
    """

    values: NDArray[np.float64]
    vectors: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, covariance: NDArray[np.float64]) -> Eigen:
        """From a covariance matrix [D, D]."""
        values, vectors = np.linalg.eigh(covariance)
        return cls(np.maximum(values, 0.0), vectors)


@dataclass(frozen=True)
class LinearFit:
    """A fitted linear predictor of centred z.

    Attributes:
        weights: [K, D], to be multiplied with centred z (the factors of the features are in them).
        bias: [K].
        scale: [D] the factors: x = centred z * scale.
        c: inverse regularisation, as scikit-learn counts it.
        objective: F.
        gradient: largest absolute component of the gradient of F with respect to W and b.
        certificate: ||grad F||^2 / (2 lambda): an upper bound of F - min F where the bias is optimal or penalised.
        evaluations: passes over the rows.
    """

    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    scale: NDArray[np.float64]
    c: float
    objective: float
    gradient: float
    certificate: float
    evaluations: int

    @property
    def converged(self) -> bool:
        """True if the gradient is within ten times the default tolerance."""
        return self.gradient <= 10 * GRADIENT

    def scores(self, rows: Rows) -> NDArray[np.float64]:
        """[K, N] scores of centred rows."""
        out = np.empty((len(self.bias), rows.count))
        for part, block in rows.blocks():
            out[:, part] = self.of_block(block)
        return out

    def of_block(self, centred: NDArray) -> NDArray[np.float64]:
        """[K, n] scores of a block [n, D] of centred rows."""
        scores = self.weights.astype(centred.dtype, copy=False) @ centred.T
        return scores.astype(np.float64) + self.bias[:, None]


def fit_linear(
    rows: Rows,
    loss: Loss,
    outputs: int,
    c: float,
    *,
    count: int,
    scale: NDArray | float = 1.0,
    eigen: Eigen | None = None,
    curvature: float = 1.0,
    penalise_bias: bool = False,
    start: LinearFit | None = None,
    bias: NDArray | None = None,
    dtype: type = np.float32,
    gradient: float = GRADIENT,
    certificate: float = 0.0,
    relative: float = 0.0,
    max_evaluations: int = MAX_EVALUATIONS,
    workers: int = 1,
) -> LinearFit:
    """Minimise F.

    Args:
        rows: centred rows [N, D].
        loss: convex and differentiable.
        outputs: K.
        c: inverse regularisation, positive.
        count: n, the rows that have a target.
        scale: factors of the features.
        eigen: of the covariance of x, for the preconditioner; None uses the identity.
        curvature: typical second derivative of the loss with respect to a score.
        penalise_bias: treat the bias as the weight of a constant feature 1, as liblinear does.
        start: a fit to start from, such as that of the previous C; else W = 0 and `bias` (0).
        dtype: of the products. float32 is enough to `gradient`; a certificate near 1e-8 wants float64.
        gradient, certificate: stop where either is reached.
        relative: stop once F falls by less than this fraction in a step.
        max_evaluations: passes over the rows at most.
        workers: threads that share a pass over rows in memory.
    """
    dim = rows.dim
    factors = np.broadcast_to(np.asarray(scale, np.float64), (dim,))
    penalty = 1.0 / (c * count)
    basis = eigen or Eigen(np.ones(dim))
    spread = 1.0 / np.sqrt(curvature * basis.values + penalty)
    bias_spread = 1.0 / np.sqrt(curvature + penalty * penalise_bias)
    objective = _Objective(rows, loss, outputs, dtype, workers)

    def to_x(free: NDArray) -> NDArray:
        scaled = free * spread
        return scaled if basis.vectors is None else scaled @ basis.vectors.T

    def to_free(weights: NDArray, power: float) -> NDArray:
        turned = weights if basis.vectors is None else weights @ basis.vectors
        return turned * spread**power

    def evaluate(weights: NDArray, offset: NDArray) -> tuple[float, NDArray, NDArray]:
        total, by_weights, by_bias = objective(weights * factors, offset)
        value = total / count + penalty / 2 * float((weights**2).sum())
        by_weights = by_weights * factors / count + penalty * weights
        by_bias = by_bias / count
        if penalise_bias:
            value += penalty / 2 * float((offset**2).sum())
            by_bias = by_bias + penalty * offset
        return value, by_weights, by_bias

    last = {"gradient": np.inf, "certificate": np.inf}

    def scaled(flat: NDArray) -> tuple[float, NDArray]:
        point = flat.reshape(outputs, -1)
        value, by_weights, by_bias = evaluate(to_x(point[:, :-1]), point[:, -1] * bias_spread)
        last["gradient"] = float(max(np.abs(by_weights).max(), np.abs(by_bias).max()))
        last["certificate"] = float((by_weights**2).sum() + (by_bias**2).sum()) / (2 * penalty)
        return value, np.column_stack([to_free(by_weights, 1.0), by_bias * bias_spread]).ravel()

    def watch(_: NDArray) -> None:
        if last["gradient"] < gradient or last["certificate"] < certificate:
            raise StopIteration

    first_bias = np.zeros(outputs) if bias is None else np.asarray(bias, np.float64)
    first = np.zeros((outputs, dim))
    if start is not None:
        first, first_bias = start.weights / factors, start.bias
    from scipy.optimize import minimize

    flat = np.column_stack([to_free(first, -1.0), first_bias / bias_spread]).ravel()
    options = {"maxcor": 20, "ftol": relative, "gtol": 0.0, "maxfun": max_evaluations, "maxiter": max_evaluations}
    with linalg.single_thread_blas(), objective:
        found = minimize(scaled, flat, jac=True, method="L-BFGS-B", callback=watch, options=options)
        point = found.x.reshape(outputs, -1)
        weights, offset = to_x(point[:, :-1]), point[:, -1] * bias_spread
        value, by_weights, by_bias = evaluate(weights, offset)
    return LinearFit(
        weights * factors,
        offset,
        factors,
        c,
        value,
        float(max(np.abs(by_weights).max(), np.abs(by_bias).max())),
        float((by_weights**2).sum() + (by_bias**2).sum()) / (2 * penalty),
        objective.evaluations,
    )


class _Objective:
    """Sum of losses and its derivatives, in row blocks that stay in cache between the two products that need them."""

    def __init__(self, rows: Rows, loss: Loss, outputs: int, dtype: type, workers: int) -> None:
        self.rows, self.loss, self.outputs, self.dtype = rows, loss, outputs, dtype
        self.evaluations = 0
        self.workers = workers if rows.array is not None and rows.count * rows.dim > 1 << 19 else 1
        self.block = linalg.rows_for_cache(max(1, rows.dim), itemsize=np.dtype(dtype).itemsize)
        self.pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> _Objective:
        self.pool = ThreadPoolExecutor(self.workers) if self.workers > 1 else None
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool is not None:
            self.pool.shutdown()

    def __call__(self, weights: NDArray, bias: NDArray) -> tuple[float, NDArray, NDArray]:
        self.evaluations += 1
        cast: NDArray = np.ascontiguousarray(weights, dtype=self.dtype)

        def partial(item: tuple[slice, NDArray]) -> tuple[float, NDArray, NDArray]:
            part, block = item
            block = block.astype(self.dtype, copy=False)
            scores = (cast @ block.T).astype(np.float64)
            scores += bias[:, None]
            value = self.loss(scores, part)
            return value, scores.astype(self.dtype, copy=False) @ block, scores.sum(axis=1)

        parts: Iterable[tuple[slice, NDArray]] = self._blocks()
        results = map(partial, parts) if self.pool is None else self.pool.map(partial, parts)
        total, by_weights, by_bias = 0.0, np.zeros((self.outputs, self.rows.dim)), np.zeros(self.outputs)
        for value, part_weights, part_bias in results:
            total += value
            by_weights += part_weights
            by_bias += part_bias
        return total, by_weights, by_bias

    def _blocks(self) -> Iterable[tuple[slice, NDArray]]:
        if self.rows.array is not None:
            yield from self.rows.blocks(self.block)
            return
        for where, block in self.rows.blocks():  # what is read at once is cut to what fits the cache
            for part in linalg.row_slices(len(block), self.block):
                yield slice(where.start + part.start, where.start + part.stop), block[part]


def log_softmax(scores: NDArray) -> NDArray[np.float64]:
    """Logarithm of the softmax of scores [K, n] over the classes."""
    shifted = scores - scores.max(axis=0)
    return shifted - np.log(np.exp(shifted).sum(axis=0))


def cross_entropy(targets: NDArray[np.int64]) -> Loss:
    """Multinomial logistic loss in nats; `targets` [N] class indices, -1 where missing."""

    def loss(scores: NDArray, part: slice) -> float:
        y = targets[part]
        valid = np.flatnonzero(y >= 0)
        scores -= scores.max(axis=0)
        at_target = scores[y[valid], valid]
        np.exp(scores, out=scores)
        total = scores.sum(axis=0)
        scores /= total
        scores[y[valid], valid] -= 1.0
        if len(valid) < len(y):
            scores[:, y < 0] = 0.0
        return float((np.log(total[valid]) - at_target).sum())

    return loss


def logistic_curvature(counts: NDArray) -> float:
    """Mean second derivative of the multinomial loss at the class frequencies: sum of p (1 - p) over C.

    Args:
        counts: [C] rows of each class.
    """
    p = counts / counts.sum()
    return float((p * (1 - p)).sum()) / len(p)


def squared_hinge(targets: NDArray[np.int64]) -> Loss:
    """max(0, 1 - s f)^2 summed over classes, s = 1 for the row's own class and -1 for the others; -1: missing.

    Args:
        targets: [N] class indices, -1 where missing.
    """

    def loss(scores: NDArray, part: slice) -> float:
        y = targets[part]
        valid = np.flatnonzero(y >= 0)
        scores += 1.0  # slack of the wrong classes, 1 + f; of the right one, 1 - f
        scores[y[valid], valid] = 2.0 - scores[y[valid], valid]
        np.maximum(scores, 0.0, out=scores)
        if len(valid) < len(y):
            scores[:, y < 0] = 0.0
        value = float((scores**2).sum())
        scores *= 2.0
        scores[y[valid], valid] *= -1.0
        return value

    return loss


def squared_tube(targets: NDArray[np.float64], epsilon: float) -> Loss:
    """max(0, |f - y| - epsilon)^2 of one output; `targets` [N], NaN where missing."""

    def loss(scores: NDArray, part: slice) -> float:
        residual = np.nan_to_num(scores[0] - targets[part])
        excess = np.maximum(np.abs(residual) - epsilon, 0.0)
        scores[0] = 2.0 * np.sign(residual) * excess
        return float((excess**2).sum())

    return loss
