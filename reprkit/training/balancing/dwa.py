"""Dynamic weight average (DWA)."""

from __future__ import annotations

import torch
from torch import Tensor

from reprkit.training.balancing.method import Weighted


class DWA(Weighted):
    """Weighs a task more whose loss fell less over the last two epochs.

    Liu, Johns, Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019:

        w_k = K softmax_k(r_k / T),    r_k = Lbar_k(t-1) / Lbar_k(t-2),    w = 1 in the first two epochs

    with Lbar the epoch mean of the unweighted training loss. A task whose earlier mean is not positive has r_k = 1.
    """

    history: Tensor
    epochs: Tensor

    def __init__(self, num_tasks: int, temperature: float = 2.0) -> None:
        super().__init__()
        self.temperature = temperature
        self.register_buffer("history", torch.zeros(2, num_tasks, dtype=torch.float32))
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))

    def weights(self, losses: Tensor) -> Tensor:
        """Weights of the current epoch."""
        if int(self.epochs) < 2:
            return torch.ones_like(losses)
        return dwa_weights(self.history[1], self.history[0], self.temperature)

    def end_epoch(self, losses: Tensor) -> None:
        """Remember an epoch's mean losses."""
        self.history.copy_(torch.stack([self.history[1], losses.to(self.history)]))
        self.epochs += 1


def dwa_weights(last: Tensor, before: Tensor, temperature: float = 2.0) -> Tensor:
    """K softmax(last / before / T): [K] weights from the mean losses of the last epoch and the one before it."""
    ratio = torch.where(before > 0, last / torch.where(before > 0, before, 1), 1)
    return len(ratio) * torch.softmax(ratio / temperature, 0)
