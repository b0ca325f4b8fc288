"""One update of the parameters from one batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from reprkit.training.balancing import Method
from reprkit.training.batches import Batch
from reprkit.training.objective import Objective, still


@dataclass
class Update:
    """Gradient by the method, around it SAM, then the optimizer's step.

    Attributes:
        objective: losses, penalty and parameters.
        method: makes the gradient.
        optimizer: makes the step.
        rho: SAM's radius; 0 without SAM.
    """

    objective: Objective
    method: Method
    optimizer: torch.optim.Optimizer
    rho: float = 0.0

    def __call__(self, batch: Batch, meta: Batch | None = None) -> dict[str, Tensor]:
        """Move the parameters; returns what is logged, detached (see `Objective.terms`)."""
        objective = self.objective
        self.optimizer.zero_grad(set_to_none=True)
        if self.rho:
            with sharpest(objective, batch, self.rho) as terms:
                terms = {**self.method.backward(objective, batch, meta), **terms}
        else:
            terms = self.method.backward(objective, batch, meta)
        self.optimizer.step()
        self.method.after_update(objective, batch, meta)
        # BatchNorm of a CPU rank sees its own part of the batch only; the running statistics are kept common.
        objective.ranks.average([b for b in objective.model.buffers() if b.is_floating_point()])
        return terms


@contextmanager
def sharpest(objective: Objective, batch: Batch, rho: float) -> Iterator[dict[str, Tensor]]:
    """Sharpness-Aware Minimisation: the body runs at theta + rho g / ||g||, with buffers that stay as they are.

    Foret, Kleiner, Mobahi, Neyshabur, "Sharpness-Aware Minimization for Efficiently Improving Generalization",
    ICLR 2021. g is the gradient of the plain sum of the losses (and of R) over all parameters of the model, whatever
    method then balances the gradient at the perturbed point. Yields what is logged of the unperturbed pass. BatchNorm
    statistics move in that pass alone.
    """
    model = objective.model
    parameters: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
    z = objective.encode(batch)
    losses = objective.losses(z, batch)
    penalty = objective.regulariser(z, batch)
    total = losses.trained.sum()
    if penalty is not None:
        total = total + objective.penalty_weight * penalty
    gradients = list(torch.autograd.grad(total, parameters))
    objective.ranks.average(gradients)
    before = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        torch._foreach_mul_(gradients, torch.where(norm > 0, rho / norm, 0))
        torch._foreach_add_(parameters, gradients)
    try:
        with still(model):
            yield objective.terms(losses, penalty)
    finally:
        with torch.no_grad():
            torch._foreach_copy_(parameters, before)
