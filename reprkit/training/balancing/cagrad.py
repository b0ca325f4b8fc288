"""CAGrad: the direction near the mean gradient that is best for the task it serves worst.

Liu, Liu, Jin, Stone, Liu, "Conflict-Averse Gradient Descent for Multi-task Learning", NeurIPS 2021:

    d = argmax over |d - g0| <= c |g0| of  min_k <g_k, d>,      g0 = mean of g_k
      = g0 + phi g_w / |g_w|,   phi = c |g0|,   g_w = J'w*,   w* = argmin over the simplex of  w'G 1/K + phi sqrt(w'G w)

Deviations from the published code: d is divided by 1 + c (`rescale=2`) rather than by 1 + c^2 (`rescale=1`), so that
identical tasks give the plain sum; w* comes from an exact active-set method rather than from SLSQP started at equal
weights; where the hull of the gradients holds 0 and w* makes g_w vanish, the direction g_w / |g_w| is not defined and
the shortest valid one is taken instead of a division by a small constant. As there, d is multiplied by K.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from torch import Tensor

from reprkit.training.balancing.active import Tasks, solve_active
from reprkit.training.balancing.simplex import minimise


def cagrad(G: Tensor, *, c: float = 0.4, rescale: Literal[0, 1, 2] = 2) -> Tensor:
    """Weights of CAGrad: the coefficients of K d / rescaling in the task gradients.

    Args:
        G: [K, K] Gramian of the task gradients.
        c: >= 0, radius of the search around the mean gradient, in units of its norm; 0 is the mean.
        rescale: 0 leaves d, 1 divides it by 1 + c^2, 2 by 1 + c: then K identical tasks give ones.

    Returns:
        w [K]; the update of the shared parameters is J'w.

    Raises:
        ValueError: G is no finite Gramian, or an option is out of range.
        SolverError: the simplex problem did not converge.
    """
    if not 0 <= c < math.inf:
        raise ValueError(f"c must be >= 0 and finite, not {c}")
    if rescale not in (0, 1, 2):
        raise ValueError(f"rescale must be 0, 1 or 2, not {rescale}")
    divisor = (1.0, 1 + c**2, 1 + c)[rescale]

    def solve(tasks: Tasks) -> np.ndarray:
        cosines, norms = tasks.cosines, tasks.norms / tasks.norms.max()
        count = len(norms)
        b = cosines @ norms / count
        phi = c * math.sqrt(max(b @ norms / count, 0.0))
        if phi == 0:
            return np.full(count, 1 / divisor)
        found = minimise(cosines, 1 / norms, norms / count, phi, ridge=tasks.noise)
        return (1 + count * found.x / norms) / divisor

    return solve_active(G, solve)
