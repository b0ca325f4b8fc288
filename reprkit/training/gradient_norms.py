"""Closed forms of the squared gradient norm of linear and two-layer heads, many heads at once.

With e = dL/dlogits [B, C] and, for a hidden layer, d = (e W2) * act'(pre) [B, H]:

    ||dL/dW2||^2 = ||e' h||^2,  ||dL/db2||^2 = ||sum_b e||^2,  and the same with (d, z) for the first layer.

||d' z||^2 equals <d d', z z'>: where the batch is smaller than the layers, the [B, B] Gram matrix of z is formed
once and shared by all heads, and the [H, D] gradients never are. One first-order backward through these
expressions gives the exact derivative with respect to z (almost everywhere, for ReLU).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from reprkit.models.heads import LinearHead, MLPHead
from reprkit.tasks import Task


def can_stack(heads: Sequence[nn.Module]) -> bool:
    """True if the heads are of one kind and shape that has a closed form."""
    first = heads[0]
    return type(first) in (LinearHead, MLPHead) and all(
        type(head) is type(first) and getattr(head, "activation", None) == getattr(first, "activation", None)
        for head in heads
    )


def stacked_norms(
    z: Tensor,
    heads: Sequence[Sequence[nn.Module]],
    tasks: Sequence[Task],
    targets: Mapping[str, Tensor],
    counts: Mapping[str, float] | None = None,
    mean: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Squared gradient norms of the losses w.r.t. each head's parameters: [K, M], differentiable in z.

    Args:
        z: [B, D].
        heads: for each of K tasks, M heads of one shape (see `can_stack`).
        tasks: the K tasks.
        targets: task name -> [B].
        counts: task name -> what its losses are divided by (see `Task.loss`).
        mean: applied to each gradient before its norm is taken: the mean over the ranks of a distributed run.
    """
    units = sum(len(group) * _first_layer(group[0]).out_features for group in heads)
    batch, dim = z.shape
    gram = z @ z.T if mean is None and batch * (dim + units) < units * dim else None
    rows = []
    for group, task in zip(heads, tasks, strict=True):
        residual = partial(task.residual, targets=targets[task.name], count=counts[task.name] if counts else None)
        layers = _layers(z, group, residual)
        rows.append(torch.stack([_layer_norm2(delta, inputs, gram, mean) for delta, inputs in layers]).sum(0))
    return torch.stack(rows)


def _first_layer(head: nn.Module) -> nn.Linear:
    if isinstance(head, MLPHead):
        return head.hidden
    assert isinstance(head, LinearHead)
    return head.out


def _layers(
    z: Tensor, heads: Sequence[nn.Module], residual: Callable[[Tensor], Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each layer of M heads: the derivative w.r.t. its outputs [M, B, H], and its inputs."""
    first = _stacked_linear(z, [_first_layer(head) for head in heads])
    if not isinstance(heads[0], MLPHead):
        yield residual(first), z
        return
    outs = [head.out for head in heads if isinstance(head, MLPHead)]
    hidden, slope = _activate(first, heads[0].activation)
    weight = torch.stack([out.weight.detach() for out in outs]).to(z.dtype)  # [M, C, H]
    bias = torch.stack([out.bias.detach() for out in outs]).to(z.dtype)
    delta = residual(torch.baddbmm(bias[:, None], hidden, weight.mT))  # [M, B, C]
    yield delta, hidden
    yield (delta @ weight) * slope, z


def _stacked_linear(z: Tensor, layers: Sequence[nn.Linear]) -> Tensor:
    """Outputs [M, B, H] of M linear layers on the same z, in one matrix product."""
    weight = torch.cat([layer.weight.detach() for layer in layers]).to(z.dtype)
    bias = torch.cat([layer.bias.detach() for layer in layers]).to(z.dtype)
    return torch.addmm(bias, z, weight.T).view(len(z), len(layers), -1).transpose(0, 1)


def _layer_norm2(delta: Tensor, inputs: Tensor, gram: Tensor | None, mean: Callable[[Tensor], Tensor] | None) -> Tensor:
    """||delta' inputs||^2 + ||sum_b delta||^2 for each of M heads: delta [M, B, H], inputs [B, D] or [M, B, D]."""
    bias = delta.sum(1)
    if gram is not None and inputs.ndim == 2:
        return ((delta @ delta.mT) * gram).sum((1, 2)) + (bias**2).sum(1)
    weight = delta.mT @ inputs
    if mean is not None:
        weight, bias = mean(weight), mean(bias)
    return (weight**2).sum((1, 2)) + (bias**2).sum(1)


def _activate(x: Tensor, activation: str) -> tuple[Tensor, Tensor]:
    """An activation and its derivative, both differentiable in x."""
    if activation == "relu":
        return x.relu(), (x > 0).to(x.dtype)
    if activation == "tanh":
        y = x.tanh()
        return y, 1 - y**2
    cdf = 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    return x * cdf, cdf + x * torch.exp(-0.5 * x**2) / math.sqrt(2 * math.pi)
