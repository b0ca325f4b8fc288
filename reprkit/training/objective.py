"""What training minimises: the losses of all tasks, and what DGR and pseudo-task augmentation add to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from reprkit.models import Model
from reprkit.tasks import Task
from reprkit.training.batches import Batch
from reprkit.training.devices import autocast
from reprkit.training.dgr import DummyGradientNorm, Representation, fresh_head
from reprkit.training.ranks import Ranks

T = TypeVar("T")


class ExtraDecoders(nn.Module):
    """Pseudo-task augmentation (PTA): each task's loss is the mean over its head and D more decoders.

    Meyerson, Miikkulainen, "Pseudo-task Augmentation: From Deep Multitask Learning to Intratask Sharing—and Back",
    ICML 2018. There is no official code. Decoders have the head's architecture and fresh weights of their own random
    stream. `frozen=False` trains them (the paper's I: independent starts); `frozen=True` keeps them as they are (F).
    Predictions come from the model's own heads.

    Args:
        heads: task name -> head.
        decoders: D, extra decoders a task.
        frozen: keep them fixed.
        seed: of their weights.
    """

    def __init__(
        self, heads: Mapping[str, nn.Module], *, decoders: int = 3, frozen: bool = False, seed: int = 0
    ) -> None:
        super().__init__()
        stream = np.random.SeedSequence([seed, 0x97A]).generate_state(1, np.uint64) >> np.uint64(1)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(stream[0]))
            self.sets = nn.ModuleList(
                nn.ModuleList(fresh_head(head) for _ in range(decoders)) for head in heads.values()
            )
        self.index = {name: k for k, name in enumerate(heads)}
        self.requires_grad_(not frozen)

    def of(self, task: str) -> list[nn.Module]:
        """The extra decoders of one task."""
        return list(self.sets[self.index[task]])  # type: ignore[call-overload]

    def __iter__(self) -> Iterator[nn.Module]:
        return (head for task in self.index for head in self.of(task))


@dataclass(frozen=True)
class Losses:
    """Losses of one batch.

    Attributes:
        trained: [K] what is minimised, with a graph: the mean over each task's decoders.
        heads: [K] losses of the model's own heads, detached, for the log.
        labelled: [K] bool: whether the (whole) batch has a valid target of the task; without one its loss is 0.
    """

    trained: Tensor
    heads: Tensor
    labelled: Tensor


@dataclass
class Objective:
    """The losses and the penalty of a batch under a model, and the groups of parameters that they train.

    Attributes:
        model: encoder and heads.
        tasks: K tasks.
        penalty: DGR's R; None without it.
        penalty_weight: its factor lambda.
        decoders: extra decoders; None without pseudo-task augmentation.
        ranks: the processes that train together.
        device: where all of it is.
        precision: float32 | bf16.
    """

    model: Model
    tasks: tuple[Task, ...]
    penalty: DummyGradientNorm | None = None
    penalty_weight: float = 0.0
    decoders: ExtraDecoders | None = None
    ranks: Ranks = field(default_factory=Ranks)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: str = "float32"

    def shared(self) -> list[nn.Parameter]:
        """Trainable parameters that all tasks share."""
        return [p for p in self.model.shared_parameters() if p.requires_grad]

    def own(self, task: Task) -> list[nn.Parameter]:
        """Trainable parameters that belong to one task: its head's and its extra decoders'."""
        extra = [p for head in self.decoders.of(task.name) for p in head.parameters()] if self.decoders else []
        return [p for p in [*self.model.task_parameters(task.name), *extra] if p.requires_grad]

    def parameters(self) -> list[nn.Parameter]:
        """All trainable parameters: the shared ones, then each task's."""
        return [*self.shared(), *(p for task in self.tasks for p in self.own(task))]

    def encode(self, batch: Batch) -> Representation:
        """The shared representation of a batch."""
        with autocast(self.device, self.precision):
            return self.model.encode(batch.images)

    def loss(self, task: Task, z: Representation, batch: Batch) -> tuple[Tensor, Tensor]:
        """One task's loss as it is trained (with a graph), and that of its own head (detached)."""
        heads = [self.model.heads[task.name], *(self.decoders.of(task.name) if self.decoders else [])]
        targets, count = batch.targets[task.name], batch.counts[task.name] if batch.counts else None
        with autocast(self.device, self.precision):
            outputs = [head(z) for head in heads]
        losses = [task.loss(widened(output), targets, count) for output in outputs]
        return losses[0] if len(losses) == 1 else torch.stack(losses).mean(), losses[0].detach()

    def losses(self, z: Representation, batch: Batch) -> Losses:
        """The losses of all tasks."""
        pairs = [self.loss(task, z, batch) for task in self.tasks]
        return Losses(torch.stack([a for a, _ in pairs]), torch.stack([b for _, b in pairs]), self.labelled(batch))

    def predicted(self, z: Representation, batch: Batch) -> Tensor:
        """[K] losses of the model's own heads, with a graph."""
        alone = replace(self, decoders=None)
        return torch.stack([alone.loss(task, z, batch)[0] for task in self.tasks])

    def labelled(self, batch: Batch) -> Tensor:
        """[K] bool: whether the batch, over all ranks, has a valid target of the task."""
        if batch.counts is not None:
            return torch.tensor([batch.counts[task.name] > 0 for task in self.tasks], device=self.device)
        return torch.stack([task.valid(batch.targets[task.name]).any() for task in self.tasks])

    def regulariser(self, z: Representation, batch: Batch) -> Tensor | None:
        """DGR's R, without its factor; None without DGR."""
        return None if self.penalty is None else self.penalty(z, batch.targets, batch.counts)

    def terms(self, losses: Losses, penalty: Tensor | None, weights: Tensor | None = None) -> dict[str, Tensor]:
        """What is logged of a step: losses of the own heads, whether there were labels, R, and the tasks' weights."""
        terms = {f"loss/{task.name}": loss for task, loss in zip(self.tasks, losses.heads, strict=True)}
        terms |= {f"labelled/{task.name}": here.float() for task, here in zip(self.tasks, losses.labelled, strict=True)}
        if penalty is not None:
            terms["penalty"] = penalty.detach()
        if weights is not None:
            terms |= {f"weight/{task.name}": w for task, w in zip(self.tasks, weights.detach(), strict=True)}
        return terms

    def at(self, values: Mapping[str, Tensor], compute: Callable[[], T]) -> T:
        """`compute()` with the model's parameters replaced by `values` (name -> tensor); no buffer of it moves."""
        buffers = {f"model.{name}": value.clone() for name, value in self.model.named_buffers()}
        swapped = {f"model.{name}": value for name, value in values.items()}
        with torch.random.fork_rng(devices=_gpus(self.device)):
            return functional_call(_Inside(self.model), {**swapped, **buffers}, (compute,))


class _Inside(nn.Module):
    """Lets `functional_call` swap a model's tensors while arbitrary code runs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, compute: Callable[[], Any]) -> Any:
        return compute()


def widened(x: Tensor) -> Tensor:
    """At least float32, whatever autocast made of it."""
    return x if x.dtype == torch.float64 else x.float()


@contextmanager
def still(model: nn.Module) -> Iterator[None]:
    """Undo what the body does to the model's buffers (BatchNorm statistics)."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    yield
    for buffer, value in before:
        buffer.data.copy_(value)  # .data: a graph that still needs the buffer need not know


def _gpus(device: torch.device) -> list[int]:
    if device.type != "cuda":
        return []
    return [torch.cuda.current_device() if device.index is None else device.index]
