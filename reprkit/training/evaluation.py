"""Losses and scores of a model's own heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reprkit.data.base import ImageDataset
from reprkit.files import write_json
from reprkit.models import Model
from reprkit.tasks import Scores, Task
from reprkit.training.batches import BatchSource, read_ahead
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
    found = evaluate(model.to(place), BatchSource(dataset, place), rows)
    tasks = {
        task.name: {
            "metric": task.metric,
            "score": found.scores[task.name],
            "loss": found.losses[task.name],
            "n": len(rows) if task.is_dense else int(task.valid(dataset.targets[task.name][rows]).sum()),
            "metrics": found.metrics[task.name],
            "task": task.to_json(),
        }
        for task in dataset.tasks
    }
    keep = {name: meta[name] for name in ("method", "seed", "epoch", "val_score")}
    write_json(out, {**keep, "checkpoint": which, "tasks": _json(tasks)})
    return out


@dataclass(frozen=True)
class Evaluation:
    """What a model's own heads are worth on some rows.

    Attributes:
        losses: task name -> mean loss over valid targets.
        metrics: task name -> metric -> value, pooled over the rows; NaN where no target is valid.
        scores: task name -> the headline metric.
        skill: mean over tasks of `Task.skill`, by which the best epoch is chosen; NaN if no task has one.
    """

    losses: dict[str, float]
    metrics: dict[str, dict[str, float]]
    scores: dict[str, float]
    skill: float


@torch.no_grad()
def evaluate(
    model: Model, source: BatchSource, rows: np.ndarray, precision: str = "float32", batch_size: int | None = None
) -> Evaluation:
    """Losses and metrics of every task over `rows`, in eval mode; ranks share the batches, all get the result.

    Args:
        model: encoder and heads.
        source: of the batches.
        rows: row numbers.
        precision: of the forward pass: float32 | bf16.
        batch_size: images a pass; None means up to 256, fewer where images are large.
    """
    model.eval()
    ranks, tasks = source.ranks, source.dataset.tasks
    size = batch_size or evaluation_batch(source.dataset)
    collected: list[dict[str, Scores]] = []
    mine = range(size * ranks.rank, len(rows), size * ranks.world)
    for batch in read_ahead(partial(source.batch, rows[start : start + size]) for start in mine):
        with autocast(source.device, precision):
            outputs = model(batch.images)
        counted = {task.name: task.new_scores() for task in tasks}
        for task in tasks:
            counted[task.name].update(outputs[task.name], batch.targets[task.name])
        collected.append(counted)
    parts = ranks.gather(collected)
    found = None
    if ranks.is_first:
        total = {task.name: task.new_scores() for task in tasks}
        for counted in (part[i] for i in range(len(parts[0])) for part in parts if i < len(part)):
            for name, scores in counted.items():
                total[name].merge(scores)
        found = _evaluation(tasks, {name: scores.compute() for name, scores in total.items()})
    result = ranks.from_first(found)
    assert result is not None
    return result


def evaluation_batch(dataset: ImageDataset) -> int:
    """Images of one forward pass without a graph: 256 of up to 128 x 128 pixels, fewer of larger ones."""
    return max(1, min(256, (256 * 128 * 128) // int(np.prod(dataset.image_shape[1:]))))


def _evaluation(tasks: Sequence[Task], metrics: dict[str, dict[str, float]]) -> Evaluation:
    losses = {name: values.pop("loss") for name, values in metrics.items()}
    skills = np.array([task.skill(metrics[task.name]) for task in tasks])
    skill = float("nan") if np.isnan(skills).all() else float(np.nanmean(skills))
    return Evaluation(losses, metrics, {task.name: metrics[task.name][task.metric] for task in tasks}, skill)


def _json(value: Any) -> Any:
    """NaN becomes null."""
    if isinstance(value, dict):
        return {name: _json(item) for name, item in value.items()}
    return None if isinstance(value, float) and np.isnan(value) else value
