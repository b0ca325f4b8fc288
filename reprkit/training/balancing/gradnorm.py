"""GradNorm."""

from __future__ import annotations

import torch
from torch import Tensor

from reprkit.training.balancing.method import Weighted, learnt
from reprkit.training.objective import Losses, Objective


class GradNorm(Weighted):
    """Learns weights under which all tasks' gradients at the last shared layer have like norms.

    Chen et al., "GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks", ICML 2018:

        G_k = || grad_W w_k L_k ||,    target_k = mean(G) (Ltilde_k / mean Ltilde)^alpha,    Ltilde_k = L_k / L_k(0)
        w minimises sum_k |G_k - target_k| with the targets held fixed; then w is scaled to sum K

    W is the last shared weight tensor (`Split.last_shared_weight`). Deviations: L(0) is the mean of the first epoch,
    in which w stays 1 (the first batch alone is noise); L is that of the model's own heads; tasks without a label in a
    batch take no part in its step; w is cut at 0.01 before it is scaled; its derivative is written out, so there is no
    double backward.
    """

    initial: Tensor

    def __init__(self, num_tasks: int, alpha: float = 1.5) -> None:
        super().__init__()
        self.alpha = alpha
        self.w = learnt(num_tasks, 1.0)
        self.register_buffer("initial", torch.zeros(num_tasks))

    def weights(self, losses: Tensor) -> Tensor:
        """The learnt weights, without a graph: the task losses do not move them."""
        return self.w.detach().clone()

    def before_backward(self, objective: Objective, losses: Losses) -> None:
        """Set the gradient of w."""
        if not bool((self.initial > 0).all()):
            return
        layer = objective.model.last_shared_weight()
        slopes = [torch.autograd.grad(loss, layer, retain_graph=True)[0] for loss in losses.trained]
        objective.ranks.average(slopes)
        norms = torch.stack([slope.norm() for slope in slopes])
        current = losses.heads.clone()
        objective.ranks.average([current])
        slope = torch.zeros_like(self.w)
        here = losses.labelled
        slope[here] = gradnorm_slope(self.w.detach()[here], norms[here], (current / self.initial)[here], self.alpha)
        self.w.grad = slope

    def after_update(self, *_: object) -> None:
        """Scale the weights to sum K."""
        with torch.no_grad():
            self.w.clamp_(min=0.01)
            self.w.mul_(len(self.w) / self.w.sum())

    def end_epoch(self, losses: Tensor) -> None:
        """Take the first epoch's mean losses as L(0)."""
        if not bool((self.initial > 0).any()):
            self.initial.copy_(losses.to(self.initial).clamp(min=1e-12))


def gradnorm_slope(w: Tensor, norms: Tensor, ratios: Tensor, alpha: float) -> Tensor:
    """Derivative of sum_k |w_k norms_k - target_k| in w, the targets held fixed; all [K].

    Args:
        w: weights.
        norms: norms of the unweighted gradients.
        ratios: L_k / L_k(0).
        alpha: restoring force.
    """
    pull = (ratios / ratios.mean().clamp(min=1e-12)) ** alpha
    target = (w * norms).mean() * pull
    return torch.sign(w * norms - target) * norms
