"""The optimal two-layer predictor, as well as it can be found: several restarts, each stopped on its validation loss.

The problem is not convex, so what is found is an upper bound of the optimum. All restarts train side by side: their
first layers are one matrix, so a step costs one product, not one per restart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reprkit.analysis import linalg
from reprkit.analysis.universal.dummies import HIDDEN
from reprkit.analysis.universal.targets import losses

PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""L2 penalty of each restart: lambda / 2 times the squared weights, beside the mean loss."""

MAX_EPOCHS = 200
PATIENCE = 10
"""Epochs without a lower validation loss, in any restart, after which training ends."""

RATE, DECAY, EPSILON = 2e-3, (0.9, 0.999), 1e-8
"""Adam's step, forgetting factors and floor."""


@dataclass(frozen=True)
class MLPChoice:
    """The best epoch of the best restart.

    Attributes:
        first, first_bias: [H, r] and [H].
        second, second_bias: [C, H] and [C].
        val_loss: its mean validation loss, in nats or squared units.
        restarts: lowest validation loss of every restart.
    """

    first: np.ndarray
    first_bias: np.ndarray
    second: np.ndarray
    second_bias: np.ndarray
    val_loss: float
    restarts: tuple[float, ...]

    def logits(self, x: np.ndarray) -> np.ndarray:
        """[C, N] float64 logits of rows x [N, r]."""
        hidden = np.maximum(self.first @ x.astype(np.float32).T + self.first_bias[:, None], 0)
        return (self.second @ hidden + self.second_bias[:, None]).astype(np.float64)


def choose_mlp(
    x: np.ndarray, targets: np.ndarray, val_x: np.ndarray, val_targets: np.ndarray, classes: int, *, seed: int
) -> MLPChoice:
    """Train r -> 64 -> C predictors (ReLU) with Adam; keep the one with the lowest validation loss at any epoch.

    Args:
        x, val_x: [N, r] principal components.
        targets, val_targets: [N] class indices; or real values, for the squared error of one output.
        classes: C; 1 for real values.
        seed: of initial weights and batches.
    """
    rng = np.random.RandomState([seed, 3])
    net = _Nets(x.shape[1], classes, rng)
    train, held = x.astype(np.float32), val_x.astype(np.float32)
    batch = min(128, len(train))
    lowest = np.full(len(PENALTIES), np.inf)
    best, stale = (np.inf, net.copy(0)), 0
    with linalg.single_thread_blas():
        for _ in range(MAX_EPOCHS):
            order = rng.permutation(len(train))
            for start in range(0, len(order) - batch + 1, batch):
                rows = order[start : start + batch]
                net.step(train[rows], targets[rows])
            logits = net.forward(held)[1].astype(np.float64)
            means = np.array([losses(one, val_targets).mean() for one in logits])
            stale = 0 if (means < lowest).any() else stale + 1
            lowest = np.minimum(lowest, means)
            leader = int(np.argmin(means))
            if means[leader] < best[0]:
                best = float(means[leader]), net.copy(leader)
            if stale >= PATIENCE:
                break
    return MLPChoice(*best[1], val_loss=best[0], restarts=tuple(lowest.tolist()))


class _Nets:
    """R two-layer networks of equal shape, and Adam's memory."""

    def __init__(self, width: int, classes: int, rng: np.random.RandomState) -> None:
        count = len(PENALTIES)
        shapes = [(count, HIDDEN, width), (count, HIDDEN, 1), (count, classes, HIDDEN), (count, classes, 1)]
        scales = [np.sqrt(2 / max(1, width)), 0.0, np.sqrt(1 / HIDDEN), 0.0]
        self.values = [
            (rng.standard_normal(shape) * scale).astype(np.float32) for shape, scale in zip(shapes, scales, strict=True)
        ]
        self.means = [np.zeros_like(value) for value in self.values]
        self.squares = [np.zeros_like(value) for value in self.values]
        self.penalty = np.array(PENALTIES, dtype=np.float32)[:, None, None]
        self.steps = 0

    def copy(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Weights and biases of one network."""
        first, first_bias, second, second_bias = (value[index].copy() for value in self.values)
        return first, first_bias[:, 0], second, second_bias[:, 0]

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Hidden units [R, H, n] and logits [R, C, n] of rows x [n, r]."""
        first, first_bias, second, second_bias = self.values
        hidden = (first.reshape(-1, first.shape[2]) @ x.T).reshape(*first.shape[:2], len(x))
        hidden += first_bias
        np.maximum(hidden, 0, out=hidden)
        return hidden, second @ hidden + second_bias

    def step(self, x: np.ndarray, targets: np.ndarray) -> None:
        """One step of Adam on the mean loss of a batch plus the penalty."""
        first, _, second, _ = self.values
        hidden, error = self.forward(x)
        if targets.dtype.kind in "iu":
            error -= error.max(axis=1, keepdims=True)
            np.exp(error, out=error)
            error /= error.sum(axis=1, keepdims=True)
            error[:, targets, np.arange(len(targets))] -= 1
        else:
            error -= targets.astype(error.dtype)
            error *= 2
        error /= len(targets)
        back = second.transpose(0, 2, 1) @ error
        back *= hidden > 0
        gradients = [
            (back.reshape(-1, len(x)) @ x).reshape(first.shape) + self.penalty * first,
            back.sum(axis=2, keepdims=True),
            error @ hidden.transpose(0, 2, 1) + self.penalty * second,
            error.sum(axis=2, keepdims=True),
        ]
        self.steps += 1
        rate = RATE * np.sqrt(1 - DECAY[1] ** self.steps) / (1 - DECAY[0] ** self.steps)
        for value, mean, square, gradient in zip(self.values, self.means, self.squares, gradients, strict=True):
            mean += (1 - DECAY[0]) * (gradient - mean)
            square += (1 - DECAY[1]) * (gradient**2 - square)
            value -= np.float32(rate) * mean / (np.sqrt(square) + EPSILON)
