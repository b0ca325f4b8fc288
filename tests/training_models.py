"""A tiny model in float64, a batch with missing labels, and gradients to compare."""

import numpy as np
import torch
from torch import nn

from reprkit.models.heads import MLPHead
from reprkit.models.split import Split
from reprkit.tasks import Task
from reprkit.training.batches import Batch

TASKS = (Task("a", "classification", 4), Task("b", "ordinal", 3), Task("c", "regression", 1, std=2.0))


def make_model(batch_norm=True, seed=0, tasks=TASKS):
    torch.manual_seed(seed)
    norm = [nn.BatchNorm2d(6)] if batch_norm else []
    encoder = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), *norm, nn.Tanh(), nn.Conv2d(6, 5, 3), nn.Tanh(), nn.Flatten(), nn.Linear(80, 7)
    )
    return Split(encoder, 7, {task.name: MLPHead(7, task.num_outputs, 8, "tanh") for task in tasks}).double()


def make_batch(size=12, seed=0, tasks=TASKS):
    draws = torch.Generator().manual_seed(seed)
    targets = {}
    for task in tasks:
        if task.is_discrete:
            targets[task.name] = torch.randint(-1, task.num_outputs, (size,), generator=draws)
        else:
            targets[task.name] = torch.randn(size, generator=draws, dtype=torch.float64)
    images = torch.randn(size, 1, 6, 6, generator=draws, dtype=torch.float64)
    return Batch(np.arange(size), images, targets)


def task_gradients(objective, batch):
    """Rows of the Jacobian [K, P] by one whole-graph backward a task, and the heads' own gradients."""
    rows, heads = [], {}
    for task in objective.tasks:
        z = objective.encode(batch)
        loss, _ = objective.loss(task, z, batch)
        shared, own = objective.shared(), objective.own(task)
        gradients = torch.autograd.grad(loss, [*shared, *own])
        rows.append(torch.cat([g.flatten() for g in gradients[: len(shared)]]))
        heads[task.name] = gradients[len(shared) :]
    return torch.stack(rows), heads


def shared_gradient(objective):
    return torch.cat([p.grad.flatten() for p in objective.shared()])
