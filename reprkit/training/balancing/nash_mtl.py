"""Nash-MTL: the update that maximises the product of the tasks' gains.

Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik, Fetaya, "Multi-Task Learning as a Bargaining Game", ICML 2022:

    w > 0  with  G w = 1 / w

It is the minimum of the strictly convex 1/2 w'G w - sum log w, found by a damped Newton method in v_k = w_k |g_k| on
the cosines C: v (C v) = 1, so that the gradients' norms do not matter.

Where a convex combination of the unit gradients vanishes (opposed gradients; the point is Pareto stationary) there is
no solution: weights along that combination grow without bound. If |v|^2 exceeds k / RIDGE, C + RIDGE I is solved
instead. Its weights tend to those of the vanishing combination, and with `scale="sum"` the update to zero.

Deviations from the published code: an exact solution rather than 20 rounds of a convex-concave procedure that keeps
the last weights when its solver fails; weights at every call; `scale="sum"` makes sum w = K, so that the length of
the update follows the gradients (the solution itself always has length sqrt K), the shortest above all: a task whose
gradient nearly vanishes takes nearly all of the weight, and the update is short; the update is not clipped.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from scipy.linalg.lapack import dposv
from torch import Tensor

from reprkit.training.balancing.active import SolverError, Tasks, solve_active

RIDGE = 1e-6
TOLERANCE = 1e-8


def nash_mtl(G: Tensor, *, scale: Literal["sum", "nash"] = "sum") -> Tensor:
    """Weights of Nash-MTL; all positive.

    Args:
        G: [K, K] Gramian of the task gradients.
        scale: `nash` solves G w = 1 / w; `sum` rescales that to sum w = K: then K identical tasks give ones.

    Returns:
        w [K]; the update of the shared parameters is J'w.

    Raises:
        ValueError: G is no finite Gramian, or `scale` is unknown.
        SolverError: max |w (G w) - 1| stays above 1e-8.
    """
    if scale not in ("sum", "nash"):
        raise ValueError(f"scale must be sum or nash, not {scale!r}")

    def solve(tasks: Tasks) -> np.ndarray:
        v = _bargain(tasks.cosines, max(RIDGE, tasks.noise))
        if scale == "nash":
            return v / tasks.norms
        w = v * (tasks.norms.min() / tasks.norms)
        return w * (len(w) / w.sum())

    return solve_active(G, solve)


def _bargain(cosines: np.ndarray, ridge: float) -> np.ndarray:
    v, residual = _newton(cosines, ridge)
    if residual > TOLERANCE:
        v, residual = _newton(cosines + ridge * np.eye(len(cosines)), 0.0)
    if residual > TOLERANCE:
        raise SolverError("the Nash bargaining weights did not converge", residual)
    return v


def _newton(c: np.ndarray, ridge: float) -> tuple[np.ndarray, float]:
    """v with v (c v) = 1 and max |v (c v) - 1|; inf if |v|^2 exceeds k / ridge."""
    count = len(c)
    v = np.full(count, math.sqrt(count / max(c.sum(), 1e-3 * count)))
    eye = np.eye(count)
    residual = math.inf
    for _ in range(200):
        missing = 1 - v * (c @ v)
        before, residual = residual, float(np.abs(missing).max())
        if residual <= TOLERANCE and (residual <= 1e-3 * TOLERANCE or residual >= before / 2):  # rounding stops it
            break
        if ridge * (v @ v) > count:
            return v, math.inf
        _, step, failed = dposv(c * v * v[:, None] + eye, missing)
        if failed:
            return v, math.inf
        decrement = math.sqrt(max(missing @ step, 0.0))
        v = v * (1 + step / (1 + decrement if decrement > 0.25 else 1))
    return v, residual
