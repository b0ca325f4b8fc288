"""Schedules against PyTorch's own."""

from __future__ import annotations

import pytest
import torch

from reprkit.training.schedules import schedule_factor

STEPS = 90


def pytorch(name: str, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    match name:
        case "constant":
            return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
        case "cosine":
            return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        case "poly":
            return torch.optim.lr_scheduler.PolynomialLR(optimizer, STEPS, power=0.9)
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, [STEPS // 3, 2 * STEPS // 3])


@pytest.mark.parametrize("name", ["constant", "cosine", "poly", "step"])
def test_schedules_are_those_of_pytorch(name):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = pytorch(name, optimizer)
    for step in range(STEPS):
        assert schedule_factor(name, step / STEPS) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-6)
        optimizer.step()
        scheduler.step()
    assert schedule_factor(name, 1.0) == pytest.approx({"constant": 1.0, "step": 0.01}.get(name, 0.0), abs=1e-12)


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="linear"):
        schedule_factor("linear", 0.5)
