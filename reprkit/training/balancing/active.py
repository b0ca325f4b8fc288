"""What all Gramian methods share: unit gradients, tasks without a gradient, and the way in and out of NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class SolverError(RuntimeError):
    """A solver did not reach its accuracy; `residual` says how far it got."""

    def __init__(self, message: str, residual: float) -> None:
        super().__init__(f"{message} (residual {residual:.3g})")
        self.residual = residual


class Tasks(NamedTuple):
    """The k tasks that have a gradient, in unit gradients: g_k = norms[k] * unit gradient k.

    Attributes:
        cosines: [k, k] Gramian of the unit gradients.
        norms: [k], positive.
        active: [k] positions among all K tasks.
        noise: rounding error to expect in an eigenvalue of `cosines`, from the dtype of the Gramian.
    """

    cosines: np.ndarray
    norms: np.ndarray
    active: np.ndarray
    noise: float


def solve_active(gramian: Tensor, solve: Callable[[Tasks], np.ndarray]) -> Tensor:
    """Weights [K] of `solve` for the tasks that have a gradient; weight 1 for those that have none.

    A task has none if G_kk is zero or subnormal. Since `solve` sees unit gradients and their norms, gradients of
    1e-15 and of 1e15 work alike.

    Args:
        gramian: [K, K] Gramian G of the task gradients; any float dtype, any device.
        solve: maps `Tasks` to the weights [k] of the raw gradients.

    Raises:
        ValueError: G is not square, not finite, or has a negative diagonal.
    """
    if gramian.ndim != 2 or gramian.shape[0] != gramian.shape[1]:
        raise ValueError(f"a Gramian is square, not of shape {tuple(gramian.shape)}")
    g = gramian.detach().cpu().double().numpy()  # in this order: some devices have no float64
    if not np.isfinite(g).all():
        raise ValueError("the Gramian of the task gradients is not finite: a gradient is inf or nan")
    squares = g.diagonal()
    if squares.size and squares.min() < 0:
        raise ValueError(f"a Gramian has no negative diagonal entry ({squares.min():.3g})")
    finfo = torch.finfo(gramian.dtype)
    index = np.flatnonzero(squares >= finfo.tiny)
    weights = np.ones(len(g))
    if index.size:
        if index.size < len(g):
            g, squares = g[np.ix_(index, index)], squares[index]
        norms = np.sqrt(squares)
        cosines = g / norms / norms[:, None]
        cosines = (cosines + cosines.T) / 2
        weights[index] = solve(Tasks(cosines, norms, index, 32 * finfo.eps * index.size))
    return torch.from_numpy(weights).to(gramian.dtype).to(gramian.device)
