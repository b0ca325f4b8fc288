"""What every method is: it turns the losses of a batch into `.grad`."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from reprkit.training.batches import Batch
from reprkit.training.objective import Losses, Objective


class Method(nn.Module, ABC):
    """Turns the task losses (and R) of one batch into the `.grad` of every parameter.

    What a method remembers is in its parameters (learnt by the optimizer in a group without weight decay) and
    buffers, so that `state_dict` holds all of it. In a distributed run `backward` leaves gradients that are averaged
    over ranks.
    """

    needs_meta = False
    """True if `backward` wants a batch of held-out training images."""

    def learnt_parameters(self) -> list[nn.Parameter]:
        """What the optimizer trains beside the model."""
        return list(self.parameters())

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Called once with the optimizer that trains the model."""

    @abstractmethod
    def backward(self, objective: Objective, batch: Batch, meta: Batch | None = None) -> dict[str, Tensor]:
        """Set `.grad` of all trained parameters; return what is logged (see `Objective.terms`), detached.

        Args:
            objective: model, losses and penalty.
            batch: images and targets of this step.
            meta: held-out training images and targets, if `needs_meta`.
        """

    def after_update(self, objective: Objective, batch: Batch, meta: Batch | None = None) -> None:
        """Called when the optimizer has moved the parameters, with the arguments of `backward`."""

    def end_epoch(self, losses: Tensor) -> None:
        """Called after each epoch with the [K] means of the unweighted losses over its labelled training batches."""


class Weighted(Method):
    """Methods that weigh the losses: one backward of their weighted sum. Without weights of its own: the plain sum.

    `single` and `vanilla` are this class: min sum_k L_k.
    """

    def weights(self, losses: Tensor) -> Tensor | None:
        """Weights [K] of this batch's losses [K], without a graph; None means 1."""
        return None

    def total(self, losses: Tensor, labelled: Tensor) -> Tensor:
        """The scalar that is differentiated, before R is added; tasks that are not labelled [K] have loss 0."""
        weights = self.weights(losses.detach())
        return losses.sum() if weights is None else (weights.to(losses) * losses).sum()

    def backward(self, objective: Objective, batch: Batch, meta: Batch | None = None) -> dict[str, Tensor]:
        """The gradient of the weighted sum of the losses, and of R."""
        z = objective.encode(batch)
        losses = objective.losses(z, batch)
        weights = self.weights(losses.trained.detach())
        total = self.total(losses.trained, losses.labelled)
        penalty = objective.regulariser(z, batch)
        if penalty is not None:
            total = total + objective.penalty_weight * penalty
        self.before_backward(objective, losses)
        total.backward()  # type: ignore[no-untyped-call]
        trained = [*objective.parameters(), *self.learnt_parameters()]
        objective.ranks.average([p.grad for p in trained if p.grad is not None])
        return objective.terms(losses, penalty, weights)

    def before_backward(self, objective: Objective, losses: Losses) -> None:
        """Called with the losses while their graph is there."""


def learnt(k: int, value: float = 0.0) -> nn.Parameter:
    """A parameter [k] of equal float32 values."""
    return nn.Parameter(torch.full((k,), value))
