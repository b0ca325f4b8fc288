"""IMTL-G: the update has the same projection on every task's unit gradient.

Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang, "Towards Impartial Multi-task Learning", ICLR 2021:

    <J'w, g_k> / |g_k|  equal for all k,    sum w = K

In weights of the unit gradients, v_k = w_k |g_k| with cosines C, v is the shortest combination with sum v = 1: it has
equal projections v'C v >= 0, and it exists also where C is singular (least norm). The update therefore never turns
into ascent; exactly opposed gradients give the zero update.

Deviations from the published formula, which inverts a matrix of differences and fixes sum w = 1: sum w = K; where
weights of both signs nearly cancel, w is divided by 0.1 sum |w| instead of sum w, so that sum |w| <= 10 K and the
direction is not flipped; a task with a zero gradient takes no part.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from reprkit.training.balancing.active import Tasks, solve_active


def imtl_g(G: Tensor) -> Tensor:
    """Weights of IMTL-G; they may be negative. K identical tasks give ones.

    Args:
        G: [K, K] Gramian of the task gradients.

    Returns:
        w [K]; the update of the shared parameters is J'w.

    Raises:
        ValueError: G is no finite Gramian.
    """
    return solve_active(G, _solve)


def _solve(tasks: Tasks) -> np.ndarray:
    values, vectors = np.linalg.eigh(tasks.cosines + 1)
    kept = values > tasks.noise
    basis = vectors[:, kept]
    v = basis @ (basis.sum(axis=0) / values[kept])
    w = v * (tasks.norms.min() / tasks.norms)
    return w * (len(w) / max(w.sum(), 0.1 * np.abs(w).sum()))
