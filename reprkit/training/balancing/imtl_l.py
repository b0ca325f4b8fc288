"""IMTL-L: the loss half of impartial multi-task learning."""

from __future__ import annotations

from torch import Tensor

from reprkit.training.balancing.method import Weighted, learnt


class IMTLL(Weighted):
    """Learns a scale for each loss that brings all scaled losses to 1.

    Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021:

        L = sum_k  exp(s_k) L_k - s_k,    minimal in s where exp(s_k) L_k = 1

    Deviation: s has its own group without weight decay. s starts at 0, where this is Vanilla.
    """

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        self.s = learnt(num_tasks)

    def weights(self, losses: Tensor) -> Tensor:
        """exp(s)."""
        return self.s.detach().exp()

    def total(self, losses: Tensor, labelled: Tensor) -> Tensor:
        """The loss above, over labelled tasks: a batch without labels says nothing of a task's scale."""
        return ((self.s.exp() * losses - self.s) * labelled).sum()
