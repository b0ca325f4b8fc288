"""Several processes that train one encoder: `torchrun --nproc_per_node N -m reprkit train ...`.

Every process (rank) computes on its slice of the global batch; gradients, and whatever a norm or a Gramian is taken
of, are averaged over ranks first, so that N ranks do what one process does with N times the batch. One process is
the case N = 1, in which nothing here touches torch.distributed.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from reprkit.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: number of this process, from 0.
        world: number of processes.
    """

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """True for the process that writes files and talks."""
        return self.rank == 0

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over ranks, in place.

        Args:
            tensors: of any shapes, the same on every rank.
        """
        if self.world == 1 or not tensors:
            return
        if len(tensors) == 1 and tensors[0].is_contiguous():
            dist.all_reduce(tensors[0])
            tensors[0].div_(self.world)
            return
        for kind in dict.fromkeys((t.dtype, t.device) for t in tensors):  # in the same order on every rank
            alike = [t for t in tensors if (t.dtype, t.device) == kind]
            flat = torch.cat([t.detach().reshape(-1) for t in alike])
            dist.all_reduce(flat)
            flat.div_(self.world)
            for tensor, part in zip(alike, torch.split(flat, [t.numel() for t in alike]), strict=True):
                tensor.detach().copy_(part.view_as(tensor))

    def total(self, x: Tensor) -> Tensor:
        """Sum over ranks, without a graph."""
        if self.world == 1:
            return x
        x = x.detach().clone()
        dist.all_reduce(x)
        return x

    def mean_through(self, x: Tensor) -> Tensor:
        """Mean over ranks in value; in the backward pass the gradient goes to this rank's `x` unchanged.

        A function f of the mean then gives every rank the gradient f' at its own `x`. Averaging the ranks' parameter
        gradients afterwards supplies the factor 1/N, and the result is the gradient of f(mean) in all of them.
        """
        if self.world == 1:
            return x
        mean = x.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(mean)
        return x + (mean / self.world - x.detach())

    def from_first(self, value: T) -> T:
        """The value of rank 0, on all ranks."""
        if self.world == 1:
            return value
        box: list[Any] = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: T) -> list[T]:
        """The values of all ranks in order, on rank 0; an empty list on the others."""
        if self.world == 1:
            return [value]
        box: list[Any] | None = [None] * self.world if self.is_first else None
        dist.gather_object(value, box)
        return box or []

    def slice(self, n: int) -> slice:
        """This rank's share of n rows that are a multiple of the number of ranks."""
        size = n // self.world
        return slice(self.rank * size, (self.rank + 1) * size)


def joined() -> Ranks:
    """Join the processes that torchrun started, until this one ends; alone, the one rank of one.

    Raises:
        InputError: several processes, and a PyTorch without torch.distributed.
    """
    if not dist.is_available():
        if os.environ.get("WORLD_SIZE", "1") != "1":
            raise InputError("this PyTorch was built without torch.distributed: train with one process")
        return Ranks()
    if not dist.is_initialized():
        if os.environ.get("WORLD_SIZE", "1") == "1":
            return Ranks()
        if torch.cuda.is_available():
            torch.cuda.set_device(local_rank())
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(dist.destroy_process_group)
    return Ranks(dist.get_rank(), dist.get_world_size())


def local_rank() -> int:
    """Number of this process on its machine: the GPU it uses."""
    return int(os.environ.get("LOCAL_RANK", "0"))
