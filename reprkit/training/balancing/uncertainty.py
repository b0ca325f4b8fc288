"""Uncertainty weighting."""

from __future__ import annotations

import math

from torch import Tensor

from reprkit.training.balancing.method import Weighted, learnt


class Uncertainty(Weighted):
    """Weighs each loss by the inverse of a learnt variance.

    Kendall, Gal, Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and Semantics",
    CVPR 2018:

        L = sum_k  L_k / (2 exp s_k) + s_k / 2,    s_k = log sigma_k^2

    Deviations: s starts at -log 2, where all weights are 1 (public code: 0, -0.5 or -0.7); s is learnt in its own
    group without weight decay, which would pull the weights to 1/2.
    """

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        self.s = learnt(num_tasks, -math.log(2))

    def weights(self, losses: Tensor) -> Tensor:
        """exp(-s) / 2."""
        return (-self.s.detach()).exp() / 2

    def total(self, losses: Tensor, labelled: Tensor) -> Tensor:
        """The loss above, over labelled tasks: a batch without labels says nothing of a task's variance."""
        return (((-self.s).exp() * losses + self.s) * labelled).sum() / 2
