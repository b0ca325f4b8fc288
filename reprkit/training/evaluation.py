"""Losses and scores of a model's own heads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from reprkit.data.base import ImageDataset
from reprkit.files import write_json
from reprkit.models.split import Split
from reprkit.training.batches import BatchSource
from reprkit.training.checkpoint import find_checkpoint, load_checkpoint
from reprkit.training.devices import autocast, choose_device


def score_test_split(folder: str | Path, dataset: ImageDataset, which: str = "best", device: str = "auto") -> Path:
    """Score a finished encoder's own heads on the test split; writes and returns `test_scores.json`.

    Args:
        folder: a run folder that `train` finished.
        dataset: the data set it was trained on.
        which: best or last checkpoint.
        device: auto, or a torch device name.
    """
    out = Path(folder) / "test_scores.json"
    model, meta = load_checkpoint(find_checkpoint(folder, which))
    dataset = dataset.with_tasks([record["name"] for record in meta["tasks"]])
    place = choose_device(device)
    rows = dataset.rows("test")
    losses, scores = evaluate(model.to(place), BatchSource(dataset, place), rows)
    tasks = {
        task.name: {
            "metric": task.metric,
            "score": None if np.isnan(scores[task.name]) else scores[task.name],
            "loss": losses[task.name],
            "n": int(task.valid(dataset.targets[task.name][rows]).sum()),
        }
        for task in dataset.tasks
    }
    keep = {name: meta[name] for name in ("method", "seed", "epoch", "val_score")}
    write_json(out, {**keep, "checkpoint": which, "tasks": tasks})
    return out


@torch.no_grad()
def evaluate(
    model: Split, source: BatchSource, rows: np.ndarray, precision: str = "float32", batch_size: int = 256
) -> tuple[dict[str, float], dict[str, float]]:
    """Mean loss and headline score of every task over `rows`, in eval mode; ranks share the batches.

    Returns:
        (losses, scores) by task name, on every rank; NaN scores where no target is valid.
    """
    model.eval()
    ranks = source.ranks
    collected: list[dict[str, np.ndarray]] = []
    for i, start in enumerate(range(0, len(rows), batch_size)):
        if i % ranks.world == ranks.rank:
            with autocast(source.device, precision):
                outputs = model(source.batch(rows[start : start + batch_size]).images)
            collected.append({name: value.float().cpu().numpy() for name, value in outputs.items()})
    parts = ranks.gather(collected)
    losses, scores = {}, {}
    if ranks.is_first:
        batches = [part[i] for i in range(len(parts[0])) for part in parts if i < len(part)]
        for task in source.dataset.tasks:
            outputs_all = np.concatenate([batch[task.name] for batch in batches])
            targets = source.dataset.targets[task.name][rows]
            losses[task.name] = float(task.loss(torch.from_numpy(outputs_all).double(), torch.from_numpy(targets)))
            scores[task.name] = task.score(outputs_all, targets)
    return ranks.from_first((losses, scores))
