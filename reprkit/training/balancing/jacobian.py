"""Methods that look at every task's own gradient: those of the Gramian, and GradDrop.

The graph is cut at z: each head gives dL_k/dz by a backward of its own, cheap, and the encoder is visited

- once a task at `level="parameters"`: the rows of the Jacobian J [K, P] are written into one buffer that is kept;
- once in all at `level="representation"`, where the rows are the dL_k/dz themselves, flattened over batch and features
  (MGDA-UB's view), and their aggregate is sent through the encoder.

R's gradient bypasses the balancing: it is added to the aggregate. Heads get the gradients of their own loss unless
`weight_heads` asks for the task's weight on them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from reprkit.errors import InputError
from reprkit.training.balancing.graddrop import graddrop
from reprkit.training.balancing.method import Method
from reprkit.training.balancing.pcgrad import pcgrad
from reprkit.training.batches import Batch
from reprkit.training.dgr import Representation
from reprkit.training.draws import Draws
from reprkit.training.objective import Losses, Objective, widened

Level = Literal["parameters", "representation"]
Weighting = Callable[[Tensor], Tensor]
"""Gramian [K, K] in float64 -> weights [K]; any such callable is a method, torchjd's Weightings among them."""


@dataclass(frozen=True)
class Cut:
    """A batch up to its representation, with the derivatives of everything above it.

    Attributes:
        z: leaves of the representation, with the encoder's graph.
        slopes: [task][leaf] dL_k/dz.
        heads: [task][parameter] dL_k w.r.t. the task's own parameters.
        pull: [leaf] lambda dR/dz; None without DGR.
        losses: of the batch.
        penalty: R; None without DGR.
    """

    z: tuple[Tensor, ...]
    slopes: list[list[Tensor]]
    heads: list[list[Tensor]]
    pull: list[Tensor] | None
    losses: Losses
    penalty: Tensor | None


def cut_at_z(objective: Objective, batch: Batch) -> Cut:
    """Forward, and the backward of the heads alone."""
    z = _leaves(objective.encode(batch))
    leaves = tuple(leaf.detach().requires_grad_() for leaf in z)
    view: Representation = leaves if len(leaves) > 1 else leaves[0]
    slopes, heads, trained, plain = [], [], [], []
    for task in objective.tasks:
        loss, own_head = objective.loss(task, view, batch)
        own = objective.own(task)
        gradients = torch.autograd.grad(loss, [*leaves, *own])
        slopes.append(list(gradients[: len(leaves)]))
        heads.append(list(gradients[len(leaves) :]))
        trained.append(loss.detach())
        plain.append(own_head)
    penalty = objective.regulariser(view, batch)
    pull = None
    if penalty is not None:
        pull = [objective.penalty_weight * g for g in torch.autograd.grad(penalty, leaves)]
        penalty = penalty.detach()
    return Cut(
        z, slopes, heads, pull, Losses(torch.stack(trained), torch.stack(plain), objective.labelled(batch)), penalty
    )


class JacobianMethod(Method):
    """Aggregates the rows of the Jacobian into one gradient; see the module for the two levels."""

    def __init__(self, level: Level = "parameters") -> None:
        super().__init__()
        self.level = level
        self._rows: Tensor | None = None  # [K, P], kept from step to step

    @abstractmethod
    def aggregate(self, rows: Tensor, cut: Cut, objective: Objective) -> Tensor:
        """The update [P] from rows [K, P]: gradients of shared parameters (averaged over ranks), or of z."""

    def kept_weights(self) -> Tensor | None:
        """Called once a step: weights [K] kept from an earlier step; None means that this step's gradients decide."""
        return None

    @property
    def head_weights(self) -> Tensor | None:
        """Factors [K] of the heads' gradients; None means 1."""
        return None

    @property
    def logged_weights(self) -> Tensor | None:
        """Weights [K] of the step, for the log."""
        return None

    def backward(self, objective: Objective, batch: Batch, meta: Batch | None = None) -> dict[str, Tensor]:
        """Cut at z, aggregate, and send one gradient (or one a task) through the encoder."""
        cut = cut_at_z(objective, batch)
        shared = objective.shared()
        known = self.kept_weights()
        if known is not None or self.level == "representation":
            if known is not None:
                sent = [sum_rows(known, leaf) for leaf in zip(*cut.slopes, strict=True)]
            else:
                rows = torch.stack([torch.cat([widened(g).flatten() for g in row]) for row in cut.slopes])
                sent = _split_like(self.aggregate(rows, cut, objective), cut.z)
            pulls = cut.pull or [torch.zeros(())] * len(sent)
            cotangents = [(g + p.to(g)).to(leaf.dtype) for g, p, leaf in zip(sent, pulls, cut.z, strict=True)]
            gradients = list(torch.autograd.grad(cut.z, shared, cotangents))
            objective.ranks.average(gradients)
        else:
            flat = self._aggregate_parameters(cut, shared, objective)
            gradients = _split_like(flat, shared)
        for parameter, gradient in zip(shared, gradients, strict=True):
            parameter.grad = gradient
        self._set_heads(objective, cut)
        return objective.terms(cut.losses, cut.penalty, self.logged_weights)

    def _aggregate_parameters(self, cut: Cut, shared: list[nn.Parameter], objective: Objective) -> Tensor:
        """The aggregate of the shared parameters' gradients, with R's added: [P]."""
        sizes = [p.numel() for p in shared]
        if self._rows is None or self._rows.shape != (len(cut.slopes), sum(sizes)):
            self._rows = torch.empty(len(cut.slopes), sum(sizes), dtype=shared[0].dtype, device=shared[0].device)
        rows = self._rows
        pull = None
        if cut.pull is not None:
            pull = torch.empty_like(rows[0])
            self._vjp(cut.z, shared, cut.pull, pull, keep=True)
            objective.ranks.average([pull])
        for k, slope in enumerate(cut.slopes):
            self._vjp(cut.z, shared, slope, rows[k], keep=k < len(cut.slopes) - 1)
        objective.ranks.average([rows])
        update = self.aggregate(rows, cut, objective)
        return update if pull is None else update.add_(pull)

    @staticmethod
    def _vjp(
        z: Sequence[Tensor], shared: list[nn.Parameter], cotangent: Sequence[Tensor], out: Tensor, *, keep: bool
    ) -> None:
        """Write the gradient of <z, cotangent> w.r.t. the shared parameters into `out` [P]."""
        sent = [c.to(leaf.dtype) for c, leaf in zip(cotangent, z, strict=True)]
        gradients = torch.autograd.grad(z, shared, sent, retain_graph=keep)
        for part, gradient in zip(_split_like(out, shared), gradients, strict=True):
            part.copy_(gradient)

    def _set_heads(self, objective: Objective, cut: Cut) -> None:
        factors = self.head_weights
        gradients = [g for row in cut.heads for g in row]
        objective.ranks.average(gradients)
        for k, (task, row) in enumerate(zip(objective.tasks, cut.heads, strict=True)):
            for parameter, gradient in zip(objective.own(task), row, strict=True):
                parameter.grad = gradient if factors is None else gradient * factors[k].to(gradient)


class GramianMethod(JacobianMethod):
    """A method that is a function from the Gramian G = J J' [K, K] to K weights.

    Args:
        weighting: that function; an `nn.Module`'s state is saved with the method's.
        level: which gradients.
        update_every: steps between new weights.
        weight_heads: multiply each head's gradients by its task's weight too.
        num_tasks: K.
        wants_losses: call `weighting(G, losses=...)` with the batch's losses.
    """

    current: Tensor
    age: Tensor

    def __init__(
        self,
        weighting: Weighting,
        num_tasks: int,
        *,
        level: Level = "parameters",
        update_every: int = 1,
        weight_heads: bool = False,
        wants_losses: bool = False,
    ) -> None:
        super().__init__(level)
        self.weighting = weighting
        self.update_every = update_every
        self.weight_heads = weight_heads
        self.wants_losses = wants_losses
        self.register_buffer("current", torch.ones(num_tasks, dtype=torch.float32))
        self.register_buffer("age", torch.zeros((), dtype=torch.int64))

    def kept_weights(self) -> Tensor | None:
        """The weights in force, between two updates of them; counts the step."""
        due = int(self.age) % self.update_every == 0
        self.age += 1
        return None if due else self.current

    def aggregate(self, rows: Tensor, cut: Cut, objective: Objective) -> Tensor:
        """J' w(J J')."""
        gram = gramian(rows)
        losses = cut.losses.trained.clone()
        if self.level == "representation":  # samples are spread over ranks, not averaged
            gram = objective.ranks.total(gram) / objective.ranks.world**2
        objective.ranks.average([losses])
        if not bool(torch.isfinite(gram).all()):
            bad = objective.tasks[int((~torch.isfinite(gram.diagonal())).int().argmax())].name
            raise NotFinite(f"the gradient of task '{bad}' became NaN or infinite")
        found = self.weighting(gram, losses=losses) if self.wants_losses else self.weighting(gram)  # type: ignore[call-arg]
        if not isinstance(found, Tensor) or found.shape != self.current.shape:
            got = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise InputError(f"a weighting should map a Gramian to weights [{len(self.current)}], but gave {got}")
        self.current.copy_(found.detach().to(self.current))
        return sum_rows(self.current, rows)

    @property
    def head_weights(self) -> Tensor | None:
        """The weights, if `weight_heads`."""
        return self.current if self.weight_heads else None

    @property
    def logged_weights(self) -> Tensor | None:
        """The weights."""
        return self.current.clone()


class GradDrop(JacobianMethod):
    """GradDrop as a method; see `graddrop`."""

    def __init__(self, level: Level = "parameters", leak: float = 0.0, seed: int = 0) -> None:
        super().__init__(level)
        self.leak = leak
        self.draws = Draws(seed, 0x6D)

    def aggregate(self, rows: Tensor, cut: Cut, objective: Objective) -> Tensor:
        """Sign-consistent sum of the rows."""
        with self.draws.generator() as generator:
            if self.level == "parameters":
                return graddrop(rows, generator=generator, leak=self.leak)
            parts = []
            for leaf, slopes in zip(cut.z, zip(*cut.slopes, strict=True), strict=True):
                stacked, total = torch.stack([widened(s) for s in slopes]), objective.ranks.total
                part = graddrop(stacked, generator=generator, leak=self.leak, activation=leaf.detach(), reduce=total)
                parts.append(part.flatten())
            return torch.cat(parts)


class PCGrad(nn.Module):
    """`pcgrad` with random orders of its own stream."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.draws = Draws(seed, 0xBC)

    def forward(self, gram: Tensor) -> Tensor:
        """Weights [K] of a Gramian [K, K]."""
        with self.draws.generator() as generator:
            return pcgrad(gram, generator=generator)


class NotFinite(ArithmeticError):
    """A gradient is NaN or infinite."""


def gramian(rows: Tensor, block: int = 4096) -> Tensor:
    """J J' in float64 for rows J [K, P]: [K, K].

    Rows are widened a few blocks at a time, which stay in the cache. (Products in float32 would be three times as fast,
    and rounding would make identical tasks look different to solvers that trust a float64 Gramian.)
    """
    kind = torch.float32 if rows.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
    many = block * (32 if rows.device.type == "cpu" else 4096)
    total = torch.zeros(len(rows), len(rows), dtype=kind, device=rows.device)
    for start in range(0, rows.shape[1], many):
        part = rows[:, start : start + many].to(kind)
        whole = part.shape[1] // block * block
        blocks = part[:, :whole].view(len(rows), whole // block, block).transpose(0, 1)
        total += torch.bmm(blocks, blocks.mT).sum(0)
        total += part[:, whole:] @ part[:, whole:].T
    return total


def sum_rows(weights: Tensor, rows: Tensor | Sequence[Tensor]) -> Tensor:
    """sum_k w_k row_k, one row after the other: four times as fast on a CPU as a product with so narrow a matrix.

    Args:
        weights: [K].
        rows: [K, P], or K tensors of one shape.

    Returns:
        [P], or that shape.
    """
    factors = weights.tolist()
    total = rows[0] * factors[0]
    for factor, row in zip(factors[1:], rows[1:], strict=True):
        total.add_(row, alpha=factor)
    return total


def _leaves(z: Representation) -> tuple[Tensor, ...]:
    return z if isinstance(z, tuple) else (z,)


def _split_like(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    parts = torch.split(flat, [t.numel() for t in like])
    return [part.view(t.shape) for part, t in zip(parts, like, strict=True)]
