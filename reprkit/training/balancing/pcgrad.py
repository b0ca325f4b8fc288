"""PCGrad: each gradient is projected off those it conflicts with, and the results are summed.

Yu, Kumar, Gupta, Levine, Hausman, Finn, "Gradient Surgery for Multi-Task Learning", NeurIPS 2020, Algorithm 1:

    for each task i, for j != i in random order:   if <g_i', g_j> < 0:  g_i' -= <g_i', g_j> / |g_j|^2 g_j
    u = sum_i g_i'

In Gramian form g_i' = sum_j c_ij g_j, with c_i = e_i at first: if (G c_i)_j < 0, c_ij -= (G c_i)_j / G_jj.

Deviations from the published code: it shuffles the list of all gradients, the projected one included; here, as in the
paper's Algorithm 1, a gradient is never projected off itself. Each task has its own order.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from reprkit.training.balancing.active import Tasks, solve_active


def pcgrad(G: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Weights of PCGrad; K identical tasks give ones.

    Args:
        G: [K, K] Gramian of the task gradients.
        generator: of the random orders; None is torch's global one. Each call draws K x K numbers.

    Returns:
        w [K]; the update of the shared parameters is J'w.

    Raises:
        ValueError: G is no finite Gramian.
    """
    device = "cpu" if generator is None else generator.device
    orders = torch.rand(len(G), len(G), generator=generator, device=device).argsort(dim=1, stable=True).cpu().numpy()

    def solve(tasks: Tasks) -> np.ndarray:
        count = len(tasks.active)
        position = np.full(len(orders), -1)
        position[tasks.active] = np.arange(count)
        others = position[orders[tasks.active]]
        others = others[others >= 0].reshape(count, count)
        row = np.arange(count)
        units = np.eye(count)  # coefficients of g_i' / |g_i| in the unit gradients
        for j in others.T:
            inner = np.einsum("ij,ij->i", units, tasks.cosines[j])
            units[row, j] -= np.where(j == row, 0, np.minimum(inner, 0))
        return (tasks.norms @ units) / tasks.norms

    return solve_active(G, solve)
