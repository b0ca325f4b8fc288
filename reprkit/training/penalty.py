"""The one rule by which a recipe and a seed become DGR's dummy heads; whoever needs them again follows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from reprkit.config import parse_recipe
from reprkit.embeddings.dummies import TrainingDummies
from reprkit.models.heads import LinearHead, MLPHead
from reprkit.recipe import DGRConfig
from reprkit.tasks import Task
from reprkit.training.dgr import DummyGradientNorm
from reprkit.training.ranks import Ranks


def build_penalty(
    heads: Mapping[str, nn.Module], tasks: Sequence[Task], config: DGRConfig, *, seed: int, ranks: Ranks | None = None
) -> DummyGradientNorm:
    """The penalty of a training run; its dummies depend on the shapes of the heads, `config` and `seed` alone."""
    options = asdict(config)
    options.pop("weight")
    return DummyGradientNorm(heads, tasks, seed=seed, ranks=ranks, **options)


def training_dummies(heads: Mapping[str, nn.Module], meta: Mapping[str, Any]) -> dict[str, TrainingDummies]:
    """The dummies that a checkpoint's encoder was trained against: task -> heads.

    Empty without DGR. A task whose dummies are neither linear nor two layers with ReLU between is left out.

    Args:
        heads: task name -> head of the checkpoint.
        meta: its header.
    """
    if "dgr" not in str(meta["method"]).split("+")[1:]:
        return {}
    tasks = [Task.from_json(record) for record in meta["tasks"]]
    config = parse_recipe(meta["recipe"], source="checkpoint").dgr
    # Neither the estimator nor the control draws weights; the finite difference would only repeat its warning.
    penalty = build_penalty(heads, tasks, replace(config, estimator="exact"), seed=int(meta["seed"]))
    groups = zip(*penalty.sets, strict=True)  # a set is a list of heads, one a task
    found = {task.name: _stacked(list(group)) for task, group in zip(tasks, groups, strict=True)}
    return {name: dummies for name, dummies in found.items() if dummies is not None}


def _stacked(heads: Sequence[nn.Module]) -> TrainingDummies | None:
    first = heads[0]
    if isinstance(first, LinearHead):
        return TrainingDummies(_layer([head.out for head in heads], "weight", "bias"))
    if isinstance(first, MLPHead) and first.activation == "relu":
        hidden = _layer([head.hidden for head in heads], "first", "first_bias")
        return TrainingDummies(hidden | _layer([head.out for head in heads], "second", "second_bias"), "relu")
    return None


def _layer(layers: Sequence[Any], weight: str, bias: str) -> dict[str, np.ndarray]:
    stacked = {weight: [layer.weight for layer in layers], bias: [layer.bias for layer in layers]}
    return {name: torch.stack(values).detach().float().cpu().numpy() for name, values in stacked.items()}
