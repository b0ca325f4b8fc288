"""From a job to what trains it: model, penalty, decoders, method and optimizer, on the device."""

from __future__ import annotations

from dataclasses import asdict

import torch

from reprkit.data.base import ImageDataset
from reprkit.models import build_model, load_encoder_weights
from reprkit.recipe import TrainConfig, split_method
from reprkit.training.balancing import build_method
from reprkit.training.job import Job
from reprkit.training.objective import ExtraDecoders, Objective
from reprkit.training.penalty import build_penalty
from reprkit.training.ranks import Ranks
from reprkit.training.update import Update


def build_update(job: Job, dataset: ImageDataset, ranks: Ranks, device: torch.device) -> Update:
    """The model of a job and all that trains it; draws the weights from torch's global generator.

    Raises:
        InputError: unknown method, or encoder weights that do not fit.
    """
    recipe, tasks = job.recipe, tuple(dataset.tasks)
    base, additions = split_method(job.method)
    model = build_model(recipe.model, tasks, dataset.image_shape[0])
    if recipe.model.weights:
        load_encoder_weights(model.encoder, recipe.model.weights)
    penalty = decoders = None
    if "dgr" in additions:
        penalty = build_penalty(model.heads, tasks, recipe.dgr, seed=job.seed, ranks=ranks)
    if "pta" in additions:
        decoders = ExtraDecoders(model.heads, seed=job.seed, **asdict(recipe.pta))
    if recipe.train.precision == "bf16":
        model.to(memory_format=torch.channels_last)
    if ranks.world > 1 and device.type == "cuda":
        torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    method = build_method(base, recipe.balancing, len(tasks), job.seed)
    for module in (model, penalty, decoders, method):
        if module is not None:
            module.to(device)
    objective = Objective(model, tasks, penalty, recipe.dgr.weight, decoders, ranks, device, recipe.train.precision)
    extra = [] if decoders is None else [p for p in decoders.parameters() if p.requires_grad]
    optimizer = _optimizer([*model.parameters(), *extra], recipe.train)
    if method.learnt_parameters():
        optimizer.add_param_group(
            {"params": method.learnt_parameters(), "lr": recipe.balancing.lr, "weight_decay": 0.0}
        )
    method.attach(optimizer)
    return Update(objective, method, optimizer, recipe.sam.rho if "sam" in additions else 0.0)


def _optimizer(parameters: list[torch.nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=config.lr, momentum=0.9, weight_decay=config.weight_decay)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, lr=config.lr, weight_decay=config.weight_decay)
