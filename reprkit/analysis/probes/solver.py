"""Regularised linear predictors by L-BFGS on matrix products: all classes of a task in one problem.

Minimises mean loss(S + b) + |W|^2 / (2 C n) over W [D, K] (and b [K]), S = X W. With C n the sum of losses is weighted
as in scikit-learn, whose optima these are; the work is two matrix products an evaluation instead of a coordinate
descent in scalar code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Loss = Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]
"""Scores [n, K] -> (mean loss, its gradient with respect to the scores [n, K])."""

GRADIENT_TOLERANCE = 1e-5
MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class LinearFit:
    """A fitted linear predictor.

    Attributes:
        weights: [D, K].
        bias: [K].
        gradient: largest absolute component of the objective's gradient at the end.
    """

    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    gradient: float

    @property
    def converged(self) -> bool:
        """True if the gradient is within ten times the tolerance that was asked for."""
        return self.gradient <= 10 * GRADIENT_TOLERANCE

    def scores(self, x: NDArray) -> NDArray[np.float64]:
        """X W + b, [n, K]."""
        scores: NDArray[np.float64] = x @ self.weights + self.bias
        return scores


def fit_linear_predictor(
    x: NDArray, loss: Loss, outputs: int, c: float, *, penalise_bias: bool = False, start: LinearFit | None = None
) -> LinearFit:
    """Minimise the regularised loss from `start` (from zero if None).

    Args:
        x: [n, D] float64.
        loss: convex, differentiable; sees scores [n, outputs].
        outputs: K.
        c: inverse regularisation strength.
        penalise_bias: treat the bias as the weight of a constant feature 1, as liblinear does.
        start: a fit to start from, such as that of the previous C.
    """
    from scipy.optimize import minimize

    n, dim = x.shape
    decay = 1.0 / (c * n)

    def objective(flat: NDArray) -> tuple[float, NDArray]:
        full = flat.reshape(dim + 1, outputs)
        value, outer = loss(x @ full[:dim] + full[dim])
        gradient = np.empty_like(full)
        np.matmul(x.T, outer, out=gradient[:dim])
        gradient[dim] = outer.sum(axis=0)
        penalised = full if penalise_bias else full[:dim]
        gradient[: len(penalised)] += decay * penalised
        return value + 0.5 * decay * float((penalised**2).sum()), gradient.ravel()

    first = np.zeros((dim + 1, outputs)) if start is None else np.vstack([start.weights, start.bias])
    options = {"maxiter": MAX_ITERATIONS, "maxfun": 2 * MAX_ITERATIONS, "gtol": GRADIENT_TOLERANCE, "ftol": 0.0}
    found = minimize(objective, first.ravel(), jac=True, method="L-BFGS-B", options=options)
    full = found.x.reshape(dim + 1, outputs)
    return LinearFit(full[:dim], full[dim], float(np.abs(found.jac).max()))


def log_softmax(scores: NDArray) -> NDArray[np.float64]:
    """Logarithm of the softmax over the last axis."""
    shifted = scores - scores.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def cross_entropy(target: NDArray[np.int64]) -> Loss:
    """Multinomial logistic loss in nats; `target` [n] class indices."""
    rows = np.arange(len(target))

    def loss(scores: NDArray) -> tuple[float, NDArray]:
        log_p = log_softmax(scores)
        value = -float(log_p[rows, target].mean())
        gradient = np.exp(log_p)
        gradient[rows, target] -= 1.0
        gradient /= len(target)
        return value, gradient

    return loss


def squared_hinge(signs: NDArray[np.float64]) -> Loss:
    """max(0, 1 - sign * score)^2 summed over outputs; `signs` [n, K] of +-1."""

    def loss(scores: NDArray) -> tuple[float, NDArray]:
        slack = np.maximum(1.0 - signs * scores, 0.0)
        return float((slack**2).sum() / len(signs)), -2.0 / len(signs) * signs * slack

    return loss


def squared_tube(target: NDArray[np.float64], epsilon: float) -> Loss:
    """max(0, |score - target| - epsilon)^2; `target` [n]."""

    def loss(scores: NDArray) -> tuple[float, NDArray]:
        residual = scores[:, 0] - target
        excess = np.maximum(np.abs(residual) - epsilon, 0.0)
        gradient = (2.0 / len(target)) * np.sign(residual) * excess
        return float((excess**2).mean()), gradient[:, None]

    return loss
