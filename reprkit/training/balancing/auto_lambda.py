"""Auto-lambda."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from reprkit.training.balancing.method import Method, learnt
from reprkit.training.batches import Batch
from reprkit.training.objective import Objective
from reprkit.training.virtual import check_imitable, last_answers, virtual_step

_EPSILON = 0.01  # length of the finite difference, as published


class AutoLambda(Method):
    """Learns task weights by which one training step lowers the losses of held-out images most.

    Liu, James, Davison, Johns, "Auto-Lambda: Disentangling Dynamic Task Relationships", TMLR 2022:

        theta'(w) = theta - step of the optimizer on sum_k w_k L_k(theta; train)
        w minimises sum_k L_k(theta'(w); meta),   dL_meta/dw_k = -<grad L_k(theta; train), d>
        d = (how theta' answers to the gradient) * grad L_meta(theta')

    The inner product is a central difference of L_k along d, of length 0.01, in two passes without a graph.

    Deviations from the original code: the meta images are held out of training (there, they are the training set
    again); the virtual step is that of the optimizer in use, with Adam's second moments held fixed in the derivative
    (there, always SGD); weights start at 1 and have Adam's rate 1e-3 (0.1 and 1e-4: the same relative speed under
    Adam); side passes move no BatchNorm statistics; the forward graph of the training batch is kept rather than built
    again. All tasks are primary.

    With bf16 the two passes of the difference are float32: it would drown in rounding. Under SAM all of this happens at
    the perturbed parameters. `lagged` takes the update itself as the virtual step: one encoder backward fewer, and
    weights that are one step older.
    """

    needs_meta = True

    def __init__(self, num_tasks: int, *, meta_lr: float = 1e-3, lagged: bool = False) -> None:
        super().__init__()
        self.lagged = lagged
        self.w = learnt(num_tasks, 1.0)
        self.adam = torch.optim.Adam([self.w], lr=meta_lr)
        self.optimizer: torch.optim.Optimizer | None = None
        self._before: list[Tensor] | None = None

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Name the optimizer whose step is imitated."""
        check_imitable(optimizer)
        self.optimizer = optimizer

    def learnt_parameters(self) -> list[torch.nn.Parameter]:
        """None: the weights have an Adam of their own."""
        return []

    def get_extra_state(self) -> dict[str, Any]:
        """The state of the weights' own Adam."""
        return self.adam.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take that state back."""
        self.adam.load_state_dict(state)

    def backward(self, objective: Objective, batch: Batch, meta: Batch | None = None) -> dict[str, Tensor]:
        """Learn from the virtual step (unless `lagged`), then the gradient of the weighted sum."""
        parameters = objective.parameters()
        z = objective.encode(batch)
        losses = objective.losses(z, batch)
        penalty = objective.regulariser(z, batch)
        pull = 0.0 if penalty is None else objective.penalty_weight * penalty
        used = self.w.detach().clone()
        if self.lagged:
            self._before = [p.detach().clone() for p in parameters]
        else:
            total = (used * losses.trained).sum() + pull
            gradients = list(torch.autograd.grad(total, parameters, retain_graph=True))
            objective.ranks.average(gradients)
            assert self.optimizer is not None
            there, answers = virtual_step(self.optimizer, parameters, gradients)
            self._learn(objective, batch, meta, parameters, parameters, there, answers)
            used = self.w.detach().clone()
        ((used * losses.trained).sum() + pull).backward()  # type: ignore[no-untyped-call]
        objective.ranks.average([p.grad for p in parameters if p.grad is not None])
        return objective.terms(losses, penalty, used)

    def after_update(self, objective: Objective, batch: Batch, meta: Batch | None = None) -> None:
        """With `lagged`: learn from the update that was made."""
        if self._before is None:
            return
        parameters = objective.parameters()
        here = [p.detach().clone() for p in parameters]
        assert self.optimizer is not None
        answers = last_answers(self.optimizer, parameters)
        self._learn(objective, batch, meta, parameters, self._before, here, answers)
        self._before = None

    def _learn(
        self,
        objective: Objective,
        batch: Batch,
        meta: Batch | None,
        parameters: Sequence[Tensor],
        here: Sequence[Tensor],
        there: Sequence[Tensor],
        answers: Sequence[Tensor],
    ) -> None:
        """One step on the weights, with training losses around `here` and meta losses at `there`."""
        assert meta is not None
        names = {id(p): name for name, p in objective.model.named_parameters()}
        inside = [i for i, p in enumerate(parameters) if id(p) in names]  # not PTA's decoders: predictions ignore them

        def place(values: Sequence[Tensor]) -> dict[str, Tensor]:
            return {names[id(parameters[i])]: value for i, value in zip(inside, values, strict=True)}

        leaves = [there[i].detach().requires_grad_() for i in inside]
        total = objective.at(place(leaves), lambda: objective.predicted(objective.encode(meta), meta).sum())
        slopes = list(torch.autograd.grad(total, leaves))
        objective.ranks.average(slopes)
        directions = slopes
        torch._foreach_mul_(directions, [answers[i] for i in inside])
        length = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(directions)))
        if not bool(length > 0) or not bool(torch.isfinite(length)):
            return
        step = float(_EPSILON / length)
        exact = replace(objective, precision="float32")

        def losses(values: Sequence[Tensor]) -> Tensor:
            return exact.at(place(values), lambda: exact.losses(exact.encode(batch), batch).trained)

        with torch.no_grad():
            moved = list(torch._foreach_add([here[i] for i in inside], directions, alpha=step))
            ahead = losses(moved)
            torch._foreach_add_(moved, directions, alpha=-2 * step)
            slope = (losses(moved) - ahead) / (2 * step)
            objective.ranks.average([slope])
            self.w.grad = slope.to(self.w)
            self.adam.step()
            self.w.grad = None
