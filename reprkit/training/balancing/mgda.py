"""MGDA: the shortest vector in the convex hull of the task gradients.

Desideri, "Multiple-gradient descent algorithm (MGDA) for multiobjective optimization", Comptes Rendus Mathematique
2012; Sener, Koltun, "Multi-Task Learning as Multi-Objective Optimization", NeurIPS 2018:

    w = argmin over the simplex of  w'G w

The update decreases every loss or is zero. With `normalise`, the hull is that of g_k / n_k: none n = 1, l2 n = |g_k|,
loss n = L_k, loss+ n = L_k |g_k|.

Deviations from the published code: exact active-set method rather than 250 projected-gradient rounds to 1e-5 from the
best pair, whose weights never reach a vertex (0.999 / 0.001); the update is the shortest vector of the *normalised*
hull, so that it still decreases every loss (there the weights found on normalised gradients multiply the raw losses);
weights of the raw gradients are scaled to sum w = K.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from reprkit.training.balancing.active import Tasks, solve_active
from reprkit.training.balancing.simplex import minimise


def mgda(
    G: Tensor, *, normalise: Literal["none", "l2", "loss", "loss+"] = "none", losses: Tensor | None = None
) -> Tensor:
    """Weights of MGDA; none is negative. K identical tasks give ones.

    Args:
        G: [K, K] Gramian of the task gradients.
        normalise: what gradients are divided by before the hull is formed.
        losses: [K], 0 or more; needed by `loss` and `loss+`.

    Returns:
        w [K] of sum K; the update of the shared parameters is J'w.

    Raises:
        ValueError: G is no finite Gramian, `normalise` is unknown, or the losses it needs are missing or negative.
        SolverError: the simplex problem did not converge.
    """
    if normalise not in ("none", "l2", "loss", "loss+"):
        raise ValueError(f"normalise must be none, l2, loss or loss+, not {normalise!r}")
    by_loss = normalise in ("loss", "loss+")
    if by_loss and (losses is None or losses.shape != G.shape[:1]):
        raise ValueError(f"normalise={normalise!r} needs the losses of the {len(G)} tasks")

    def solve(tasks: Tasks) -> np.ndarray:
        norms = tasks.norms / tasks.norms.max()
        divisors = norms if normalise in ("l2", "loss+") else np.ones(len(norms))
        if by_loss:
            assert losses is not None
            values = losses.detach().to("cpu", torch.float64).numpy()[tasks.active]
            if not (np.isfinite(values).all() and values.min() >= 0):
                raise ValueError(f"normalise={normalise!r} needs losses of 0 or more, not {values.tolist()}")
            divisors = divisors * np.maximum(values, 1e-12)  # a fitted task's loss can round to 0
        found = minimise(tasks.cosines, divisors / norms, np.zeros(len(norms)), 1.0, ridge=tasks.noise)
        w = found.v * (norms.min() / norms)
        return w * (len(w) / w.sum())

    return solve_active(G, solve)
