"""Dumping frozen embeddings: a checkpoint and a data set in, one HDF5 file out.

The file has a row an image; with tasks that are labelled pixel by pixel, a row for each of some pixels of an image
(`reprkit.training.positions`).
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reprkit.config import data_root, parse_recipe
from reprkit.data import load_dataset
from reprkit.data.base import ImageDataset
from reprkit.embeddings import fingerprint_tensors
from reprkit.environment import versions
from reprkit.errors import InputError
from reprkit.recipe import EmbedConfig, Recipe
from reprkit.training.batches import BatchSource
from reprkit.training.checkpoint import find_checkpoint, load_checkpoint, read_header
from reprkit.training.devices import autocast, choose_device
from reprkit.training.dump import dump
from reprkit.training.job import fingerprints
from reprkit.training.penalty import training_dummies
from reprkit.training.positions import Positions, read_rows

logger = logging.getLogger(__name__)


def embed(
    checkpoint: str | Path,
    out: str | Path | None = None,
    *,
    data: str | Path | None = None,
    config: EmbedConfig | None = None,
    dataset: ImageDataset | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Path:
    """Write the frozen representation of every image, its targets and the model's own logits to an HDF5 file.

    Of an encoder of dense tasks the maps are read at `config.positions` pixels of every image: z is what bilinear
    upsampling of `model.features` would give there, logits that of the heads' outputs.

    The encoder runs in eval mode on images without augmentation; no buffer may move. An interrupted dump is
    continued from its `.partial` file and ends with the same bytes. Under torchrun the ranks share the batches, and the
    first writes the file, the same bytes again.

    Args:
        checkpoint: a checkpoint file, or a run folder (`config.checkpoint` picks best or last).
        out: the file to write; None means `embeddings.h5` beside the checkpoint.
        data: root of the data set; None means the one in the `recipe.yaml` beside the checkpoint.
        config: batch size, precision and number type on disk; None means the recipe's.
        dataset: the data set, where it is loaded already.
        device: auto, or a torch device name.
        progress: show a bar with the time left (never when the output is not a terminal).

    Returns:
        The path of the file.

    Raises:
        InputError: unreadable checkpoint or data, or representations that are not finite.
    """
    file = find_checkpoint(checkpoint)
    config = config or _recipe_of(file).embed
    file = find_checkpoint(checkpoint, config.checkpoint)
    model, meta = load_checkpoint(file)
    if dataset is None:
        wanted = _recipe_of(file).data
        root = str(data) if data is not None else data_root(file)
        dataset = load_dataset(replace(wanted, root=root) if root else wanted)
    trained = [record["name"] for record in meta["tasks"]]
    _check_data(file, meta, dataset)
    place = choose_device(device)
    positions = Positions.of(dataset, config.positions)
    images = replace(dataset, tasks=(), targets={})  # targets are no input
    source = BatchSource(images, place, channels_last=config.precision == "bf16")
    target = Path(out) if out is not None else file.parent / "embeddings.h5"
    fingerprint = fingerprint_tensors(model.state_dict())
    # Dummies of maps see the surroundings of a pixel, which its row does not hold.
    dummies = training_dummies(model.heads, meta) if positions is None else {}
    model.to(place)
    before = _buffers(model)

    def check_frozen() -> None:
        if any(not torch.equal(old, new) for old, new in zip(before, _buffers(model), strict=True)):
            raise RuntimeError(f"{file}: a buffer of the encoder moved while embedding; it is not frozen")

    return dump(
        target,
        dataset,
        lambda rows: _encode(model, source, rows, config.precision, positions),
        dim=model.dim,
        config=config,
        meta={
            "label": meta["method"],
            "seed": meta["seed"],
            "trained_tasks": trained,
            "config": meta["recipe"],
            "fingerprints": {"checkpoint": fingerprint, **fingerprints(dataset)},
            "provenance": {
                "dataset": dataset.name,
                "split_rule": dataset.split_rule,
                "epoch": meta["epoch"],
                "step": meta["step"],
                "val_score": meta["val_score"],
                "trained_on": meta["fingerprints"],
                "eval_mode": True,
                "layer": "encoder output",
                "precision": config.precision,
                "device": place.type,
                "versions": versions(),
            },
        },
        title=f"embed {meta['method']} seed {meta['seed']}",
        positions=positions,
        logits={record["name"]: record["num_outputs"] for record in meta["tasks"]},
        dummies=dummies,
        check=check_frozen,
        progress=progress,
    )


@torch.inference_mode()
def _encode(
    model: Any, source: BatchSource, rows: np.ndarray, precision: str, positions: Positions | None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Representation [B, D] (or [B * P, D] at P positions) and own outputs of some rows, float32 on the CPU."""
    model.eval()
    images = source.images(rows)
    with autocast(source.device, precision):
        z = model.encode(images)
        found = {"": model.features(z)} | {name: head(z) for name, head in model.heads.items()}
    if positions is not None:
        pixels, size = positions.pixels(source.dataset.ids[rows]), source.dataset.image_shape[1:]
        found = {name: read_rows(value, pixels, size) for name, value in found.items()}
    rest = {name: value.float().cpu().numpy() for name, value in found.items()}
    return rest.pop(""), rest


def _recipe_of(file: Path) -> Recipe:
    return parse_recipe(read_header(file)["recipe"], source=str(file))


def _buffers(model: nn.Module) -> list[Tensor]:
    return [buffer.detach().clone().cpu() for buffer in model.buffers()]


def _check_data(file: Path, meta: dict[str, Any], dataset: ImageDataset) -> None:
    shape = list(dataset.image_shape)
    if shape != meta["image_shape"]:
        raise InputError(f"{file}: was trained on images {meta['image_shape']}, {dataset.name} gives {shape}")
    there = {task.name for task in dataset.tasks}
    missing = [record["name"] for record in meta["tasks"] if record["name"] not in there]
    if missing:
        raise InputError(f"{file}: was trained for '{missing[0]}', which {dataset.name} does not have now")
    if meta["fingerprints"] != fingerprints(dataset):
        logger.warning(
            "%s was trained on other data, another split or other preprocessing than is embedded now: "
            "it may have seen test images",
            file,
        )
