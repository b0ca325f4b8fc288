"""Embeddings that no training made: what an encoder must beat before its representation means anything.

`pixels` is the image itself, made small; `random_init` the recipe's encoder before its first step. Both go through the
same writer as trained encoders, with the same ids, targets and splits, so that every analysis reads them alike.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from reprkit.data.base import ImageDataset
from reprkit.embeddings import fingerprint_tensors
from reprkit.environment import versions
from reprkit.models import build_model
from reprkit.recipe import EmbedConfig, Recipe
from reprkit.training.batches import BatchSource
from reprkit.training.devices import choose_device
from reprkit.training.dump import Encode, dump
from reprkit.training.job import fingerprints
from reprkit.training.positions import PATCH, WINDOW, Positions, read_patches, read_rows

MAX_SIDE = 32
"""Pixels: images of a larger side are averaged down to it."""


def embed_controls(
    dataset: ImageDataset,
    recipe: Recipe,
    folder: str | Path,
    *,
    seed: int | None = None,
    config: EmbedConfig | None = None,
    device: str | None = None,
    progress: bool = True,
) -> dict[str, Path]:
    """Write `pixels.h5` and `random_init.h5` into `folder`; what is interrupted is continued.

    Pixels are the normalised images, average-pooled to at most 32 x 32, flattened channel by channel: float32
    [channels * height * width]. The random encoder has exactly the weights that training with this recipe and seed
    starts from (pretrained `model.weights` are not loaded), and runs in eval mode: BatchNorm with its initial
    statistics, mean 0 and variance 1.

    With dense tasks both are read at the positions of the encoders' files. `pixels` is then the window of 16 x 16
    pixels around each, averaged to 8 x 8, where the image is continued by its mirror image; a random encoder's map is
    read as a trained one's.

    Args:
        dataset: images, targets and splits.
        recipe: names the encoder; its images are those of `dataset`.
        folder: where the files go.
        seed: of the random encoder; None means the recipe's first.
        config: batch size and number type on disk; None means the recipe's.
        device: auto, or a torch device name; None means the recipe's.
        progress: show a bar (never when the output is not a terminal).

    Returns:
        `pixels` and `random_init` -> path of the file.
    """
    config = config or recipe.embed
    seed = recipe.seeds[0] if seed is None else seed
    place = choose_device(device or recipe.train.device)
    positions = Positions.of(dataset, config.positions)
    source = BatchSource(replace(dataset, tasks=(), targets={}), place)
    random, dim, digest = _untrained(recipe, dataset, seed, source, positions)
    channels, height, width = dataset.image_shape
    parts: dict[str, tuple[Encode, int, dict[str, str], str]] = {
        "pixels": (
            _pixels(source),
            channels * min(height, MAX_SIDE) * min(width, MAX_SIDE),
            {},
            f"pixels, average-pooled to at most {MAX_SIDE} x {MAX_SIDE}",
        ),
        "random_init": (random, dim, {"checkpoint": digest}, "untrained encoder output"),
    }
    if positions is not None:
        layer = (
            f"{WINDOW} x {WINDOW} pixels around each position, average-pooled to {PATCH} x {PATCH}, mirrored borders"
        )
        parts["pixels"] = (_patches(source, positions), channels * PATCH * PATCH, {}, layer)
    return {
        name: dump(
            Path(folder) / f"{name}.h5",
            dataset,
            encode,
            dim=width,
            config=config,
            meta=_meta(name, dataset, recipe, seed, prints, layer),
            title=f"embed {name}",
            positions=positions,
            progress=progress,
        )
        for name, (encode, width, prints, layer) in parts.items()
    }


def _pixels(source: BatchSource) -> Encode:
    def encode(rows: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        images = source.images(rows)
        sides = [min(side, MAX_SIDE) for side in images.shape[2:]]
        return F.adaptive_avg_pool2d(images, sides).flatten(1).cpu().numpy(), {}  # type: ignore[arg-type]

    return encode


def _patches(source: BatchSource, positions: Positions) -> Encode:
    def encode(rows: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        pixels = positions.pixels(source.dataset.ids[rows])
        return read_patches(source.images(rows), pixels).cpu().numpy(), {}

    return encode


def _untrained(
    recipe: Recipe, dataset: ImageDataset, seed: int, source: BatchSource, positions: Positions | None
) -> tuple[Encode, int, str]:
    """The encoder that training starts from, its D, and the digest of its tensors."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = build_model(recipe.model, dataset.tasks, dataset.image_shape[0])
    digest = fingerprint_tensors(model.state_dict())
    model.to(source.device).eval()

    @torch.inference_mode()
    def encode(rows: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        z = model.features(model.encode(source.images(rows)))
        if positions is not None:
            z = read_rows(z, positions.pixels(dataset.ids[rows]), dataset.image_shape[1:])
        return z.float().cpu().numpy(), {}

    return encode, model.dim, digest


def _meta(
    name: str, dataset: ImageDataset, recipe: Recipe, seed: int, prints: dict[str, str], layer: str
) -> dict[str, Any]:
    return {
        "label": name,
        "seed": seed,
        "trained_tasks": [task.name for task in dataset.tasks],
        "config": {
            "model": recipe.to_json()["model"] | {"weights": None},
            "data": recipe.to_json()["data"] | {"root": None},
        },
        "fingerprints": {**prints, **fingerprints(dataset)},
        "provenance": {
            "dataset": dataset.name,
            "split_rule": dataset.split_rule,
            "eval_mode": True,
            "layer": layer,
            "versions": versions(),
        },
    }
