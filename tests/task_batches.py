"""Tasks of every kind, and random batches of theirs with targets missing."""

import torch
from torch.nn import functional as F

from reprkit.tasks import Task

SIZES = {"segmentation": 4, "depth": 1, "disparity": 1, "normals": 3, "saliency": 1, "edges": 1}
DENSE = [Task(kind, kind, size) for kind, size in SIZES.items()]
VECTOR = [
    Task("classification", "classification", 4), Task("ordinal", "ordinal", 3),
    Task("regression", "regression", 1, mean=2.0, std=3.0),
]  # fmt: skip
H, W = 12, 18


def batch(task, seed=0, count=3, void=0.3, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    place = (H, W) if task.is_dense else ()
    outputs = torch.randn(count, task.num_outputs, *place, generator=g, dtype=dtype)
    missing = torch.rand(count, *place, generator=g) < void
    if task.kind == "normals":
        targets = F.normalize(torch.randn(count, 3, H, W, generator=g, dtype=dtype), dim=1)
        targets[missing[:, None].expand(-1, 3, -1, -1)] = float("nan")
    elif task.is_discrete:
        # Images differ in how rare the classes are, so that a mean of batch means is not the pooled mean.
        rare = torch.rand(count, *(1 for _ in place), generator=g)
        drawn = torch.rand(count, *place, generator=g) ** (0.3 + 3 * rare) * max(task.num_outputs, 2)
        targets = drawn.long().clamp(max=max(task.num_outputs, 2) - 1)
        targets[missing] = -1
    else:
        targets = torch.rand(count, *place, generator=g, dtype=dtype) * 5 + 0.1
        targets[missing] = float("nan")
    return outputs, targets


def computed(task, *batches):
    scores = task.new_scores()
    for outputs, targets in batches:
        scores.update(outputs, targets)
    return scores.compute()
