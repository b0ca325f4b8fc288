"""Run by torchrun from tests/training/test_ranks.py: `rank_workers.py {updates|training} OUT`."""

import contextlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from training_models import TASKS, make_batch, make_model

from reprkit.recipe import METHODS, BalancingConfig, DataConfig, Recipe, TrainConfig, reads
from reprkit.training.balancing import build_method
from reprkit.training.dgr import DummyGradientNorm
from reprkit.training.objective import ExtraDecoders, Objective
from reprkit.training.ranks import Ranks, joined
from reprkit.training.update import Update

REGULARISERS = {
    "": None,
    "+dgr": {},
    "+dgr power 2": {"power": 2},
    "+dgr finite difference": {"estimator": "finite_difference", "step": 1e-2},
    "+dgr random direction": {"control": "random_direction"},
    "+dgr any head": {},
}


class AnyHead(nn.Sequential):
    """A head without a closed form."""


def updated(ranks, name, level, addition, rho=0.0, decoders=False):
    """Parameters after two updates of a small float64 model."""
    model = make_model(batch_norm=False)
    if addition == "+dgr any head":
        torch.manual_seed(1)
        for task in TASKS:
            head = AnyHead(nn.Linear(7, 6), nn.Softplus(), nn.Linear(6, task.num_outputs)).double()
            model.heads._modules[model.heads._keys[task.name]] = head
    options = REGULARISERS[addition]
    penalty = None if options is None else DummyGradientNorm(model.heads, TASKS, ranks=ranks, **options)
    extra = ExtraDecoders(model.heads, decoders=2) if decoders else None
    objective = Objective(model, TASKS, penalty, 0.3, extra, ranks)
    method = build_method(name, BalancingConfig(level=level, lagged=addition == "+dgr"), 3, 0).double()
    optimizer = torch.optim.Adam([*objective.parameters()], lr=0.01, eps=1e-3)
    if method.learnt_parameters():
        optimizer.add_param_group({"params": method.learnt_parameters(), "lr": 0.05})
    method.attach(optimizer)
    update = Update(objective, method, optimizer, rho)
    for i in range(2):
        update(part(ranks, make_batch(12, seed=i)), part(ranks, make_batch(8, seed=10 + i)))
        method.end_epoch(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64) / (i + 1))
    return torch.cat([p.detach().flatten() for p in [*objective.parameters(), *method.parameters()]])


def part(ranks, batch):
    if ranks.world == 1:
        return batch
    mine = ranks.slice(len(batch.rows))
    counts = {t.name: int(t.valid(batch.targets[t.name]).sum()) / ranks.world for t in TASKS}
    targets = {name: value[mine] for name, value in batch.targets.items()}
    return replace(batch, rows=batch.rows[mine], images=batch.images[mine], targets=targets, counts=counts)


def compare_updates(out):
    found = {}
    ranks = joined()
    for name in METHODS:
        for level in ("parameters", "representation") if reads(name, "balancing.level") else ("parameters",):
            for addition in REGULARISERS if name in ("vanilla", "nash_mtl") else ("", "+dgr"):
                for rho, decoders in ((0.0, False), (0.1, True)) if addition == "+dgr" else ((0.0, False),):
                    case = (name, level, addition, rho, decoders)
                    here, alone = updated(ranks, *case), updated(Ranks(), *case)
                    found["/".join(map(str, case))] = float((here - alone).abs().max() / alone.abs().max())
    everywhere = ranks.gather(found)
    if ranks.is_first:
        Path(out).write_text(json.dumps(everywhere))


class Plain(nn.Sequential):
    """An encoder without BatchNorm."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 8, 3, stride=2), nn.GELU(), nn.Conv2d(8, 16, 3, stride=2), nn.GELU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        )  # fmt: skip


def train_plain(out, world):
    """`train` with an encoder without BatchNorm, batch 512 over the ranks; the last one is cut too."""
    import reprkit.models.build as build
    from reprkit.errors import Interrupted
    from reprkit.training import train
    from reprkit.training.trainer import Trainer

    build.build_encoder = lambda name, channels, dense: (Plain(), 64)
    for method in ("nash_mtl+dgr", "auto_lambda", "vanilla+dgr+sam+pta"):
        recipe = Recipe(
            methods=(method,),
            data=DataConfig(augment="crop_flip"),
            train=TrainConfig(epochs=1, batch_size=512 // world, optimizer="sgd", lr=0.05),
        )
        train(recipe, Path(out, method), progress=False)
    agreed, Trainer._agreed = Trainer._agreed, lambda self, stop: self.at.step == 4
    with contextlib.suppress(Interrupted):
        train(recipe, Path(out, "cut"), progress=False)
    Trainer._agreed = agreed
    train(recipe, Path(out, "cut"), progress=False)


if __name__ == "__main__":
    if sys.argv[1] == "updates":
        compare_updates(sys.argv[2])
    else:
        train_plain(sys.argv[2], int(sys.argv[3]))
