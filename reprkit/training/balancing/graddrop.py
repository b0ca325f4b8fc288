"""GradDrop: where tasks disagree on a sign, one sign is drawn by chance and the others' gradients are dropped.

Chen, Ngiam, Huang, Luong, Kretzschmar, Chai, Anguelov, "Just Pick a Sign: Optimizing Deep Multitask Models with
Gradient Sign Dropout", NeurIPS 2020, Algorithm 1. Element by element, with U ~ U(0, 1) and leak l:

    P = 1/2 (1 + sum_k g_k / sum_k |g_k|),   M_k = [P > U][g_k > 0] + [P < U][g_k < 0]
    u = sum_k (l + (1 - l) M_k) g_k

The paper's layer works on a representation z: P and the masks are formed from sum over the batch of sign(z) g_k and
apply to all samples alike. Without z the rule applies to parameter gradients, as in most later code.

Deviations: elements where all gradients vanish (P = 0/0) contribute 0; P = U picks the negative sign, so that an
element where all tasks agree is never dropped; U is drawn in float32. The update is a sum over the tasks.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

CHUNK = 1 << 20  # elements a task treated at a time


def graddrop(
    J: Tensor,
    *,
    generator: torch.Generator | None = None,
    leak: float = 0.0,
    activation: Tensor | None = None,
    reduce: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The update of GradDrop, a sum over the tasks: K identical tasks give K g.

    Args:
        J: [K, ...] one gradient a task; with `activation` [K, B, ...].
        generator: of U; None is torch's global one. A CPU generator gives the same U whatever the device of J.
        leak: in [0, 1], share of each gradient that always passes.
        activation: [B, ...] the representation z, for the paper's form.
        reduce: applied to the batch sums [K, ...] of sign(z) g_k before anything else, for example a sum over ranks.

    Returns:
        Tensor of the shape and dtype of J[0].

    Raises:
        ValueError: `leak` or the shapes do not fit, or `reduce` comes without `activation`.
    """
    if not 0 <= leak <= 1:
        raise ValueError(f"leak must be in [0, 1], not {leak}")
    if activation is not None:
        if activation.shape != J.shape[1:]:
            raise ValueError(f"activation {tuple(activation.shape)} does not fit gradients {tuple(J.shape)}")
        return _by_feature(J, activation, generator, leak, reduce)
    if reduce is not None:
        raise ValueError("reduce needs activation: without it there is no sum over the batch")
    flat = J.reshape(len(J), -1)
    update = torch.empty_like(flat[0])
    for start in range(0, flat.shape[1], CHUNK):
        g = flat[:, start : start + CHUNK]
        positive, negative = g.clamp(min=0).sum(0), g.clamp(max=0).sum(0)
        kept = torch.where(_picks_positive(positive, negative, generator), positive, negative)
        update[start : start + CHUNK] = torch.lerp(kept, positive + negative, leak) if leak else kept
    return update.view(J.shape[1:])


def _by_feature(
    J: Tensor,
    activation: Tensor,
    generator: torch.Generator | None,
    leak: float,
    reduce: Callable[[Tensor], Tensor] | None,
) -> Tensor:
    sums = torch.stack([(activation.sign() * g).sum(0) for g in J])  # [K, ...] one number a feature
    if reduce is not None:
        sums = reduce(sums)
    pick = _picks_positive(sums.clamp(min=0).sum(0), sums.clamp(max=0).sum(0), generator)
    passed = leak + (1 - leak) * torch.where(pick, sums > 0, sums < 0).to(J.dtype)
    update = passed[0] * J[0]
    for share, g in zip(passed[1:], J[1:], strict=True):
        update += share * g
    return update


def _picks_positive(positive: Tensor, negative: Tensor, generator: torch.Generator | None) -> Tensor:
    """P > U, where P = positive / (positive - negative) is the same as 1/2 (1 + sum g / sum |g|)."""
    device = "cpu" if generator is None else generator.device
    u = torch.rand(positive.shape, generator=generator, device=device).to(positive.device)
    return positive / (positive - negative) > u
