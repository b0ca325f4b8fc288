"""Dummy Gradient norm Regularization (DGR), exactly and at the price of the heads.

Shin, Do, Son, "Learning Representation for Multitask Learning through Self-Supervised Auxiliary Learning",
ECCV 2024, equation 5:

    minimise   sum_k L_k(theta, theta_k)  +  lambda R
    R = mean over dummies m of  sum over tasks k of  || grad of L_k w.r.t. dummy head (m, k) ||^power

A dummy is a head with fresh random weights that are never trained. R depends on the encoder only through its
output z, so R is built here as an ordinary scalar whose graph ends at z: the encoder runs forward and backward
once, as without it, and BatchNorm statistics move once. Linear and two-layer heads have a closed form
(`gradient_norms`); any other head, convolutional ones with care for their cost (`conv_norms`), is differentiated
alone, and R then carries its derivative at z instead of a graph, so that memory holds one dummy's graph at a time.

Deviations from the published code, which is a finite difference over the whole network: the derivative is
exact; `power=1` is the paper's wording and the default, the code squares; lambda does not carry over; dummies are
in eval mode (BatchNorm divides by sqrt(1 + eps) and dropout is off), the code's in training mode.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel

from reprkit.errors import InputError
from reprkit.models.heads import LinearHead, MLPHead
from reprkit.tasks import Task
from reprkit.training.conv_norms import Kernels, call, parameters_of, squared_norm
from reprkit.training.gradient_norms import can_stack, stacked_norms
from reprkit.training.ranks import Ranks

Representation = Tensor | tuple[Tensor, ...]
Counts = Mapping[str, float] | None
Loss = Callable[[Any, Any], Tensor]
"""(outputs of a head, targets) -> a scalar, such as `nn.CrossEntropyLoss()`."""


@dataclass(frozen=True)
class PlainLoss:
    """A loss that is no `Task`'s, with the part of its face that is needed here.

    Attributes:
        name: of the task.
        function: applied as it is: it also decides what a missing target is.
    """

    name: str
    function: Loss

    def loss(self, outputs: Any, targets: Any, count: float | None = None) -> Tensor:
        """The loss of a batch; `count` is not used."""
        return self.function(outputs, targets)


class DummyGradientNorm(nn.Module):
    """The penalty R as a function of a representation and its targets.

    Use it in any training loop, with the losses that the loop has (or with `Task`s, which bring their own)::

        penalty = DummyGradientNorm(heads, {"kind": nn.CrossEntropyLoss(), "age": nn.MSELoss()})
        loss = sum(of_task(heads[name](z), targets[name]) for name, of_task in losses.items())
        (loss + 0.1 * penalty(z, targets)).backward()

    The dummies belong to this module, not to the model, ask for no gradient and are always used detached: nothing
    trains them. Constructing it and calling it leave torch's random state as it was, on every device.

    Args:
        heads: task name -> head, any module with parameters that `reset_parameters()` of its parts draws anew; dummies
            have the same architecture and fresh weights.
        tasks: the tasks whose losses are differentiated, each with a head: `Task`s, or task name -> `Task` or loss.
        num_dummies: dummies a task (the paper: 3).
        power: 1 for the norm, 2 for its square.
        seed: of the dummies' weights and of the control's directions.
        activation: hidden activation of the dummies of `MLPHead`s: `same`, `relu`, `gelu`, `tanh`; `linear`
            replaces each dummy by a linear head. A ReLU makes R jump where a unit switches; a smooth one does not.
            Other heads than linear and two-layer ones (all dense ones) take `same` alone.
        estimator: `exact`, or `finite_difference`: the paper's Algorithm 1 with the heads re-evaluated alone.
            It steps all dummies of a set together, so it estimates the joint norm over tasks.
        step: length of that finite step.
        ranks: the processes of a distributed run; None means this one alone.
        control: `random_direction` keeps R's value and the norm of its gradient at z, and replaces the
            gradient's direction by a random one: it tells whether the direction matters.

    Raises:
        InputError: a task without a head, or a head without parameters or with ones that cannot be drawn anew.
    """

    generator_state: Tensor

    def __init__(
        self,
        heads: Mapping[str, nn.Module],
        tasks: Sequence[Task] | Mapping[str, Task | Loss],
        *,
        num_dummies: int = 3,
        power: Literal[1, 2] = 1,
        seed: int = 0,
        activation: Literal["same", "relu", "gelu", "tanh", "linear"] = "same",
        estimator: Literal["exact", "finite_difference"] = "exact",
        step: float = 1e-3,
        control: Literal["none", "random_direction"] = "none",
        ranks: Ranks | None = None,
    ) -> None:
        super().__init__()
        if power not in (1, 2):
            raise ValueError(f"power must be 1 or 2, not {power}")
        if num_dummies < 1:
            raise ValueError(f"num_dummies must be at least 1, not {num_dummies}")
        self.tasks = _named(tasks)
        for task in self.tasks:
            if task.name not in heads:
                raise InputError(f"DGR: task '{task.name}' has no head; there are heads of {', '.join(heads)}")
        self.power = power
        self.estimator = estimator
        self.step = step
        self.control = control
        self.ranks = ranks or Ranks()
        # A stream of its own: with torch.manual_seed(seed), a model built from the same seed would begin with the
        # very numbers that its dummies get. Drawn on the CPU, so that dummies do not depend on the device.
        stream = np.random.SeedSequence([seed, 0xD6]).generate_state(2, np.uint64) >> np.uint64(1)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(stream[0]))
            self.sets = nn.ModuleList(
                nn.ModuleList(fresh_head(heads[task.name], activation) for task in self.tasks)
                for _ in range(num_dummies)
            )
        self.requires_grad_(False)
        self._apply(lambda tensor: tensor)
        generator = torch.Generator().manual_seed(int(stream[1]))
        self.register_buffer("generator_state", generator.get_state())
        if estimator == "finite_difference" and any(_has_relu(head) for head in self.sets.modules()):
            warnings.warn(
                "finite differences of ReLU dummies give a direction that is mostly noise; "
                'use estimator="exact" or activation="gelu"',
                stacklevel=2,
            )
        self.train(False)

    def train(self, mode: bool = True) -> DummyGradientNorm:
        """Keep the dummies fixed functions: dropout off, BatchNorm with stored statistics, whatever `mode`."""
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DummyGradientNorm:
        """Follow the model to its device and to float64, but not to 16 bits: R is computed in float32."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for tensor in (*self.sets.parameters(), *self.sets.buffers()):
            if tensor.is_floating_point() and tensor.element_size() < 4:
                tensor.data = tensor.data.float()
        return self

    def forward(
        self, z: Representation, targets: Mapping[str, Tensor], counts: Mapping[str, float] | None = None
    ) -> Tensor:
        """R, a scalar whose graph ends at `z`; float32 (or float64 if `z` is), outside any autocast.

        In a distributed run (`ranks`) the dummy gradients are averaged over ranks before the norm is taken: R is that
        of the global batch, and the gradient at this rank's z becomes R's when parameter gradients are averaged.
        Without ranks, R is that of the batch it is given: of this rank's, or of one of several accumulated batches.

        Under `torch.no_grad()` and `torch.inference_mode()` R has its value and no graph.

        Args:
            z: what the heads take: [B, D], or a tuple of feature maps.
            targets: task name -> [B] targets; missing ones (see `Task`) take no part.
            counts: task name -> what its losses are divided by (see `Task.loss`); None means its valid targets. Losses
                that are no `Task`'s do not use it.

        Raises:
            InputError: a task without targets.
        """
        if torch.compiler.is_compiling():  # a double backward cannot be compiled; the rest of the step still is
            return torch.compiler.disable(self._eager)(z, targets, counts)  # type: ignore[no-untyped-call]
        return self._eager(z, targets, counts)

    def _eager(self, z: Representation, targets: Mapping[str, Tensor], counts: Counts) -> Tensor:
        if torch.is_inference_mode_enabled():
            with torch.inference_mode(False), torch.no_grad():
                return self._eager(_copied(z), _copied(targets), counts)
        for task in self.tasks:
            if task.name not in targets:
                raise InputError(f"DGR: no targets of task '{task.name}'; there are those of {', '.join(targets)}")
        leaves = z if isinstance(z, tuple) else (z,)
        with torch.autocast(leaves[0].device.type, enabled=False):
            leaves = tuple(leaf if leaf.dtype == torch.float64 else leaf.float() for leaf in leaves)
            if self.control == "random_direction":
                return self._random_direction(leaves, targets, counts)
            return self._penalty(leaves, targets, counts)

    def _penalty(self, z: tuple[Tensor, ...], targets: Mapping[str, Tensor], counts: Counts) -> Tensor:
        dummies = [[heads[k] for heads in self.sets] for k in range(len(self.tasks))]  # type: ignore[index]
        tasks = [task for task in self.tasks if isinstance(task, Task)]
        stacks = len(tasks) == len(self.tasks) and all(can_stack(group) for group in dummies)
        if self.estimator == "exact" and len(z) == 1 and stacks:
            mean = self.ranks.mean_through if self.ranks.world > 1 else None
            squared = stacked_norms(z[0], dummies, tasks, targets, counts, mean)
            return (squared if self.power == 2 else safe_sqrt(squared)).sum(0).mean()
        cut = tuple(leaf.detach().requires_grad_() for leaf in z)
        kernels = Kernels(cut)
        value = torch.zeros((), dtype=z[0].dtype, device=z[0].device)
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # the fused attention kernels have no double backward
            for term in self._terms(kernels, targets, counts):
                torch.autograd.backward(term / len(self.sets), inputs=kernels.leaves)
                value += term.detach() / len(self.sets)
            kernels.backward()
        slopes = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in cut]
        return _carried(value, slopes, z)

    def _terms(self, kernels: Kernels, targets: Mapping[str, Tensor], counts: Counts) -> Iterable[Tensor]:
        """The addends of R, one by one: of each dummy, or of each set for the finite difference."""
        for heads in self.sets:
            assert isinstance(heads, nn.ModuleList)
            if self.estimator == "finite_difference":
                yield self._finite_difference(heads, kernels.maps, targets, counts)
                continue
            for head, task in zip(heads, self.tasks, strict=True):
                count = counts[task.name] if counts else None
                loss = partial(task.loss, targets=targets[task.name], count=count)
                if self.ranks.world > 1:
                    squared = squared_norm(head, kernels.maps, loss, mean=self.ranks.mean_through)
                else:
                    squared = squared_norm(head, kernels.maps, loss, kernels)
                yield squared if self.power == 2 else safe_sqrt(squared)

    def _finite_difference(
        self, heads: nn.ModuleList, z: tuple[Tensor, ...], targets: Mapping[str, Tensor], counts: Counts
    ) -> Tensor:
        """((L(phi + step d/|d|) - L(phi)) / step)^power with the direction d = grad of L held constant."""

        def loss(parameters: list[dict[str, Tensor]]) -> Tensor:
            return torch.stack(
                [
                    task.loss(call(head, own, z), targets[task.name], counts[task.name] if counts else None)
                    for head, own, task in zip(heads, parameters, self.tasks, strict=True)
                ]
            ).sum()

        parameters = [parameters_of(head) for head in heads]
        flat = [p for own in parameters for p in own.values()]
        base = loss(parameters)
        slopes = torch.autograd.grad(base, flat, retain_graph=True)
        self.ranks.average(slopes)
        gradients = iter(slopes)
        direction = [{name: next(gradients) for name in own} for own in parameters]
        length = torch.sqrt(sum(((g**2).sum() for own in direction for g in own.values()), torch.zeros(()).to(base)))
        scale = torch.where(length > 0, self.step / length, 0)
        moved = [
            {name: p.detach() + scale * d[name] for name, p in own.items()}
            for own, d in zip(parameters, direction, strict=True)
        ]
        return (self.ranks.mean_through(loss(moved) - base) / self.step) ** self.power

    def _random_direction(self, z: tuple[Tensor, ...], targets: Mapping[str, Tensor], counts: Counts) -> Tensor:
        cut = tuple(leaf.detach().requires_grad_() for leaf in z)
        with torch.enable_grad():
            value = self._penalty(cut, targets, counts)
            gradients = torch.autograd.grad(value, cut)
        generator = torch.Generator()
        generator.set_state(self.generator_state.cpu())
        noise = []
        for g in gradients:  # drawn for the global batch, whatever the number of ranks
            drawn = torch.randn((len(g) * self.ranks.world, *g.shape[1:]), generator=generator)
            noise.append(drawn[self.ranks.slice(len(drawn))].to(g))
        self.generator_state.copy_(generator.get_state())
        size = torch.sqrt(self.ranks.total(torch.stack([(g**2).sum() for g in gradients]).sum()))
        length = torch.sqrt(self.ranks.total(torch.stack([(n**2).sum() for n in noise]).sum()))
        return _carried(value.detach(), [n * (size / length) for n in noise], z)


class _Carried(Function):
    """A scalar with a derivative that is known already."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, slopes: Sequence[Tensor], *leaves: Tensor) -> Tensor:
        ctx.save_for_backward(*slopes)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *factors: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(factors[0] * slope for slope in ctx.saved_tensors)


def _carried(value: Tensor, slopes: Sequence[Tensor], leaves: Sequence[Tensor]) -> Tensor:
    """`value`, whose derivative at each of `leaves` is the slope of the same place."""
    return _Carried.apply(value, slopes, *leaves)


def safe_sqrt(x: Tensor) -> Tensor:
    """Square root whose derivative at 0 is 0 instead of infinite."""
    positive = x > 0
    return torch.where(positive, x, 1).sqrt() * positive


def fresh_head(head: nn.Module, activation: str = "same") -> nn.Module:
    """A head of the same architecture with fresh weights from the global generator.

    Raises:
        InputError: an activation other than `same` for a head that is neither linear nor of two layers; a head without
            parameters, with lazy ones, or with ones that cannot be drawn anew.
    """
    like = next(head.parameters(), None)
    if like is None:
        raise InputError(f"a {type(head).__name__} without parameters is no head: there is nothing to draw anew")
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in head.parameters()):
        raise InputError(f"a {type(head).__name__} has lazy parameters still; send one batch through the model first")
    if isinstance(head, MLPHead) and activation != "same":
        dim, hidden, outputs = head.hidden.in_features, head.hidden.out_features, head.out.out_features
        fresh: nn.Module = (
            LinearHead(dim, outputs) if activation == "linear" else MLPHead(dim, outputs, hidden, activation)  # type: ignore[arg-type]
        )
        return fresh.to(like.device, like.dtype)
    if activation != "same" and not isinstance(head, LinearHead):
        raise InputError(f"dgr.activation: dummies of a {type(head).__name__} keep its own activations; use same")
    fresh = copy.deepcopy(head).to("cpu")
    late = []
    for module in fresh.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
        elif callable(reset := getattr(module, "_reset_parameters", None)):  # PyTorch's attention and transformers
            late.append(reset)
        elif any(True for _ in module.parameters(recurse=False)):
            raise InputError(
                f"{type(module).__name__} in a head has no reset_parameters(), which draws its parameters anew: add it"
            )
    for reset in late:  # after their parts, whose parameters they set too
        reset()
    for (name, old), new in zip(head.named_parameters(), fresh.parameters(), strict=True):
        if (
            old.requires_grad
            and old.numel() > 1
            and torch.equal(old.to(new.device), new)
            and not (new == new.flatten()[0]).all()
        ):
            raise InputError(f"reset_parameters() of a {type(head).__name__} leaves '{name}' as it was; draw it anew")
    return fresh.to(like.device)


def _named(tasks: Sequence[Task] | Mapping[str, Task | Loss]) -> tuple[Task | PlainLoss, ...]:
    if not isinstance(tasks, Mapping):
        return tuple(tasks)
    return tuple(
        replace(task, name=name) if isinstance(task, Task) else PlainLoss(name, task) for name, task in tasks.items()
    )


def _copied(x: Any) -> Any:
    """Tensors that autograd may keep, of such as inference mode made."""
    if isinstance(x, Mapping):
        return {name: _copied(one) for name, one in x.items()}
    return tuple(map(_copied, x)) if isinstance(x, tuple) else x.clone() if isinstance(x, Tensor) else x


def _has_relu(module: nn.Module) -> bool:
    return isinstance(module, nn.ReLU)
