"""Where an optimizer's next step would go, without taking it, and how far each parameter answers to its gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer


@torch.no_grad()
def virtual_step(
    optimizer: Optimizer, parameters: Sequence[Tensor], gradients: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """One step of SGD (with momentum), Adam or AdamW that is not taken.

    Args:
        optimizer: holds the parameters, and its state.
        parameters: some of them.
        gradients: one for each.

    Returns:
        The parameters after the step, and how far down each element moves for a unit of its gradient. For Adam the
        latter holds the second moments fixed (without that, its first step would not answer to the gradient at all),
        and is capped where they are near 0.

    Raises:
        TypeError: another optimizer.
    """
    moved, answers = [], []
    for p, g, group in _paired(optimizer, parameters, gradients):
        state, lr, decay = optimizer.state.get(p, {}), group["lr"], group["weight_decay"]
        if decay and not isinstance(optimizer, AdamW):
            g = g.add(p, alpha=decay)
        if isinstance(optimizer, SGD):
            before = state.get("momentum_buffer")
            moved.append(p.sub(g if before is None else before.mul(group["momentum"]).add_(g), alpha=lr))
            answers.append(torch.full_like(p, lr))
            continue
        step = float(state.get("step", 0)) + 1
        beta1, beta2 = group["betas"]
        first = torch.lerp(state["exp_avg"], g, 1 - beta1) if state else g * (1 - beta1)
        second = (state["exp_avg_sq"] * beta2).addcmul_(g, g, value=1 - beta2) if state else (g * g).mul_(1 - beta2)
        denominator = _adam_denominator(second, step, group)
        start = p * (1 - lr * decay) if decay and isinstance(optimizer, AdamW) else p
        moved.append(torch.addcdiv(start, first, denominator, value=-1 / (1 - beta1)))
        answers.append(_adam_answer(denominator))
    return moved, answers


@torch.no_grad()
def last_answers(optimizer: Optimizer, parameters: Sequence[Tensor]) -> list[Tensor]:
    """As the second result of `virtual_step`, of the step that was just taken."""
    answers = []
    for p, _, group in _paired(optimizer, parameters, parameters):
        if isinstance(optimizer, SGD):
            answers.append(torch.full_like(p, group["lr"]))
        else:
            state = optimizer.state[p]
            answers.append(_adam_answer(_adam_denominator(state["exp_avg_sq"].clone(), float(state["step"]), group)))
    return answers


def _adam_denominator(second: Tensor, step: float, group: dict) -> Tensor:
    """(sqrt(v / (1 - beta2^t)) + eps) (1 - beta1^t) / (lr (1 - beta1)), in the memory of `second`."""
    beta1, beta2 = group["betas"]
    scale = (1 - beta1**step) / (group["lr"] * (1 - beta1))
    return second.sqrt_().mul_(scale / (1 - beta2**step) ** 0.5).add_(group["eps"] * scale)


def _adam_answer(denominator: Tensor) -> Tensor:
    """1 / denominator, at most 100 / its mean: what hardly ever had a gradient would outweigh all else."""
    return denominator.clamp_(min=0.01 * float(denominator.mean())).reciprocal_()


def check_imitable(optimizer: Optimizer) -> None:
    """Refuse an optimizer whose step these functions do not know.

    Raises:
        TypeError: not SGD, Adam or AdamW, or one with options beyond momentum and weight decay.
    """
    if not isinstance(optimizer, SGD | Adam | AdamW):
        raise TypeError(f"the virtual step imitates SGD, Adam and AdamW, not {type(optimizer).__name__}")
    for name in ("nesterov", "dampening", "amsgrad", "maximize"):
        if any(group.get(name) for group in optimizer.param_groups):
            raise TypeError(f"the virtual step does not imitate {type(optimizer).__name__} with {name}")


def _paired(
    optimizer: Optimizer, parameters: Sequence[Tensor], gradients: Sequence[Tensor]
) -> Iterator[tuple[Tensor, Tensor, dict]]:
    check_imitable(optimizer)
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    for parameter, gradient in zip(parameters, gradients, strict=True):
        yield parameter, gradient, groups[id(parameter)]
