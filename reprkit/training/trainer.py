"""The training loop: one encoder, from a recipe to a run folder.

A run folder holds `recipe.yaml environment.json identity.json metrics.jsonl last.safetensors best.safetensors
state.pt training.json`. Killed at any moment and started again with the same arguments, it ends with the same
checkpoints, bit for bit, and the same metrics but for their times: the order of samples and their augmentation depend
on (seed, epoch, step) alone, and `state.pt` holds the rest.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from reprkit.config import load_recipe, write_recipe
from reprkit.data import load_dataset
from reprkit.data.augment import make_augment
from reprkit.data.base import ImageDataset
from reprkit.environment import environment
from reprkit.errors import Failed, InputError, Interrupted
from reprkit.files import slug, working_in, write_json
from reprkit.interrupts import StopFlag, stop_flag
from reprkit.models import build_model, load_encoder_weights
from reprkit.models.split import Split
from reprkit.recipe import Recipe, run_folder
from reprkit.training.batches import Batch, BatchSource, epoch_order
from reprkit.training.board import Board
from reprkit.training.checkpoint import (
    load_state,
    read_header,
    save_checkpoint,
    save_state,
)
from reprkit.training.devices import autocast, choose_device
from reprkit.training.dgr import DummyGradientNorm
from reprkit.training.evaluation import evaluate
from reprkit.training.job import Job, differences, fingerprints

logger = logging.getLogger(__name__)

_CHECK_EVERY = 25  # steps between looks at the loss, so that a GPU is not made to wait at each


class TrainingFailed(Failed):
    """The loss became NaN or infinite; the last sound state is kept."""


def train(
    recipe: Recipe | str | Path,
    out: str | Path | None = None,
    *,
    method: str | None = None,
    seed: int | None = None,
    task: str = "",
    dataset: ImageDataset | None = None,
    progress: bool = True,
) -> Path:
    """Train one encoder and return its run folder; a folder that was interrupted is continued.

    The test split is not touched: `score_test_split` scores a finished folder.

    Args:
        recipe: a Recipe, or the path of a recipe file.
        out: run folder; None means where `reprkit run` would put it, below `runs/<recipe name>`.
        method: None means the recipe's only method.
        seed: None means the recipe's first seed.
        task: the task of a `single` encoder.
        dataset: the recipe's data set, where it is loaded already.
        progress: show a bar with the time left (never when the output is not a terminal).

    Raises:
        InputError: wrong settings or data, or a folder that holds a run of other settings.
        TrainingFailed: the loss is no longer a number.
        Interrupted: stopped by a signal, after saving.
    """
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe)
    if method is None:
        if len(recipe.methods) > 1:
            raise InputError(f"the recipe has {len(recipe.methods)} methods: name one of {', '.join(recipe.methods)}")
        method = recipe.methods[0]
    job = Job(recipe, method, recipe.seeds[0] if seed is None else seed, task)
    default = run_folder(Path("runs", slug(recipe.name)), method, job.seed, task=task)
    folder = Path(out) if out is not None else default
    if dataset is None:
        dataset = load_dataset(recipe.data)
    if task:
        dataset = dataset.with_tasks([task])
    with working_in(folder), _seeded(job.seed), stop_flag() as stop:
        Trainer(job, folder, dataset, progress).run(stop)
    if stop.requested:
        raise Interrupted(f"stopped; {folder} is finished, the same command goes on from there")
    return folder


@dataclass
class Progress:
    """Where training stands; everything here is saved and restored."""

    epoch: int = 0
    step: int = 0  # steps done inside the epoch
    best: float = -float("inf")
    log_bytes: int = 0  # length of metrics.jsonl at this moment
    seconds: float = 0.0  # spent in this epoch
    sums: dict[str, float] = field(default_factory=dict)  # of the losses and the penalty over this epoch


class Trainer:
    """Trains the encoder of one job in one folder."""

    def __init__(self, job: Job, folder: Path, dataset: ImageDataset, progress: bool = True) -> None:
        config = job.recipe.train
        self.job, self.folder, self.dataset = job, folder, dataset
        self.config = config
        self.device = choose_device(config.device)
        self.source = BatchSource(dataset, self.device, channels_last=config.precision == "bf16")
        self.augment = make_augment(job.recipe.data.augment)
        self.rows = {split: dataset.rows(split) for split in ("train", "val")}
        self.steps = len(self.rows["train"]) // config.batch_size
        if self.steps == 0:
            raise InputError(
                f"train.batch_size: {config.batch_size} is more than the {len(self.rows['train'])} training images"
            )
        self.show = progress
        self.at = Progress()
        self.board: Board | None = None
        self.model = build_model(job.recipe.model, dataset.tasks, dataset.image_shape[0])
        if job.recipe.model.weights:
            load_encoder_weights(self.model.encoder, job.recipe.model.weights)
        self.penalty = self._build_penalty()
        if config.precision == "bf16":
            self.model.to(memory_format=torch.channels_last)
        self.model.to(self.device)
        self.optimizer = _optimizer(self.model, job.recipe)
        total = config.epochs * self.steps
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda i: 0.5 * (1 + math.cos(math.pi * i / total)) if config.schedule == "cosine" else 1.0
        )

    def _build_penalty(self) -> DummyGradientNorm | None:
        if not self.job.method.endswith("+dgr"):
            return None
        options = asdict(self.job.recipe.dgr)
        options.pop("weight")
        penalty = DummyGradientNorm(self.model.heads, self.dataset.tasks, seed=self.job.seed, **options)
        return penalty.to(self.device)

    def run(self, stop: StopFlag) -> None:
        """Train to the end, or until `stop` is set."""
        if (self.folder / "training.json").is_file():
            self._check_same_run()
            return
        self._open()
        if self.config.tensorboard:
            self.board = Board(self.folder, self.at.epoch * self.steps)
        with self._bar() as bar:
            while self.at.epoch < self.config.epochs:
                self._epoch(bar, stop)
                if stop.requested and self.at.epoch < self.config.epochs:
                    raise self._interrupted()
        best = read_header(self.folder / "best.safetensors")
        write_json(
            self.folder / "training.json",
            {"epochs": self.at.epoch, "best_epoch": best["epoch"], "best_val_score": best["val_score"]},
        )

    def _epoch(self, bar: tqdm, stop: StopFlag) -> None:
        order = epoch_order(self.rows["train"], self.job.seed, self.at.epoch)
        size = self.config.batch_size
        started = saved = time.monotonic()
        self.model.train()
        kind = torch.float32 if self.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
        zero = torch.zeros((), dtype=kind, device=self.device)
        sums = {name: zero + value for name, value in self.at.sums.items()}
        while self.at.step < self.steps:
            rows = order[self.at.step * size : (self.at.step + 1) * size]
            terms = self._step(self.source.batch(rows, self.augment, (self.job.seed, self.at.epoch, self.at.step)))
            for name, value in terms.items():
                sums[name] = sums.get(name, zero) + value
            self.at.step += 1
            bar.update()
            now = time.monotonic()
            due = now - saved > self.config.save_every or stop.requested
            if due or self.at.step % _CHECK_EVERY == 0 or self.at.step == self.steps:
                self.at.sums = {name: float(value) for name, value in sums.items()}
                self._check_finite()
            if due and self.at.step < self.steps:
                self.at.seconds += now - started
                self._save_state()
                started = saved = now
                if stop.requested:
                    raise self._interrupted()
        self.at.seconds += time.monotonic() - started
        self._end_epoch(bar)

    def _step(self, batch: Batch) -> dict[str, Tensor]:
        """One update; returns the loss of every task and the penalty, detached."""
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.device, self.config.precision):
            z = self.model.encode(batch.images)
            outputs = {task.name: self.model.heads[task.name](z) for task in self.dataset.tasks}
        losses = {
            task.name: task.loss(outputs[task.name].float(), batch.targets[task.name]) for task in self.dataset.tasks
        }
        total = torch.stack(list(losses.values())).sum()
        terms = {f"loss/{name}": loss.detach() for name, loss in losses.items()}
        if self.penalty is not None:
            penalty = self.penalty(z, batch.targets)
            total = total + self.job.recipe.dgr.weight * penalty
            terms["penalty"] = penalty.detach()
        total.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.scheduler.step()
        return terms

    def _end_epoch(self, bar: tqdm) -> None:
        at, tasks = self.at, self.dataset.tasks
        means = {name: value / self.steps for name, value in at.sums.items()}
        self._log(
            {
                "epoch": at.epoch + 1,
                "step": (at.epoch + 1) * self.steps,
                "split": "train",
                "loss": {task.name: means[f"loss/{task.name}"] for task in tasks},
                **({"penalty": means["penalty"]} if "penalty" in means else {}),
                "images_per_second": round(self.steps * self.config.batch_size / max(at.seconds, 1e-9), 1),
                "seconds": round(at.seconds, 3),
            }
        )
        losses, scores = evaluate(self.model, self.source, self.rows["val"], self.config.precision)
        self._log(
            {
                "epoch": at.epoch + 1,
                "step": (at.epoch + 1) * self.steps,
                "split": "val",
                "loss": losses,
                "score": {name: None if np.isnan(score) else score for name, score in scores.items()},
            }
        )
        mean = float(np.nanmean(list(scores.values()))) if not np.all(np.isnan(list(scores.values()))) else -np.inf
        at.epoch, at.step, at.seconds, at.sums = at.epoch + 1, 0, 0.0, {}
        if mean > at.best or at.epoch == 1:
            at.best = mean
            self._save_checkpoint("best", mean)
        self._save_checkpoint("last", mean)
        self._save_state()
        text = " ".join(f"{name} {score:.3f}" for name, score in scores.items())
        bar.set_postfix_str(f"val {text}")
        if bar.disable:
            logger.info("%s: epoch %d/%d, val %s", self.job.title, at.epoch, self.config.epochs, text)

    def _open(self) -> None:
        """Start a folder, or take up where it was left."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state_file = self.folder / "state.pt"
        log = self.folder / "metrics.jsonl"
        if state_file.is_file():
            self._check_same_run()
            state = load_state(state_file)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scheduler.load_state_dict(state["scheduler"])
            if self.penalty is not None:
                self.penalty.load_state_dict(state["penalty"])
            torch.set_rng_state(state["rng"])
            if self.device.type == "cuda":
                torch.cuda.set_rng_state_all(state["cuda_rng"])
            self.at = Progress(**state["progress"])
            if log.is_file():
                with open(log, "r+b") as handle:
                    handle.truncate(self.at.log_bytes)
            logger.info("continuing %s at epoch %d", self.folder, self.at.epoch + 1)
            return
        if (self.folder / "identity.json").is_file():
            self._check_same_run()
        log.write_bytes(b"")
        write_recipe(replace(self.job.recipe, methods=(self.job.method,), seeds=(self.job.seed,), grid={}),
                     self.folder / "recipe.yaml")  # fmt: skip
        write_json(self.folder / "environment.json", {**environment(), "device": str(self.device)})
        write_json(self.folder / "identity.json", self._identity())

    def _identity(self) -> dict[str, Any]:
        return {**self.job.identity(), "fingerprints": fingerprints(self.dataset)}

    def _check_same_run(self) -> None:
        file = self.folder / "identity.json"
        try:
            there = json.loads(file.read_text())
        except (OSError, ValueError):
            raise InputError(
                f"{self.folder}: holds a run without a readable identity.json; choose another folder"
            ) from None
        different = list(differences(there, self._identity()))
        if different:
            raise InputError(
                f"{self.folder}: holds a run with another {', '.join(different[:4])}; choose another --out or delete it"
            )

    def _save_checkpoint(self, name: str, val_score: float) -> None:
        data = self.dataset
        meta: dict[str, Any] = {
            "recipe": self.job.portable_recipe(),
            "method": self.job.method,
            "seed": self.job.seed,
            "task": self.job.task,
            "tasks": [task.to_json() for task in data.tasks],
            "image_shape": list(data.image_shape),
            "epoch": self.at.epoch,
            "step": self.at.epoch * self.steps,
            "val_score": None if not np.isfinite(val_score) else val_score,
            "fingerprints": fingerprints(data),
        }  # fmt: skip
        save_checkpoint(self.folder / f"{name}.safetensors", self.model, meta)

    def _save_state(self) -> None:
        save_state(
            self.folder / "state.pt",
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "penalty": self.penalty.state_dict() if self.penalty is not None else {},
                "rng": torch.get_rng_state(),
                "cuda_rng": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
                "progress": asdict(self.at),
            },
        )

    def _check_finite(self) -> None:
        bad = [name for name, value in self.at.sums.items() if not np.isfinite(value)]
        if bad:
            mend = f"lower train.lr (now {self.config.lr:g})" + (" or dgr.weight" if self.penalty is not None else "")
            raise TrainingFailed(
                f"{bad[0]} became NaN or infinite in epoch {self.at.epoch + 1}; {mend}. "
                f"{self.folder} keeps the last sound state"
            )

    def _log(self, record: Mapping[str, Any]) -> None:
        with open(self.folder / "metrics.jsonl", "ab") as handle:
            handle.write((json.dumps(record) + "\n").encode())
            handle.flush()
            self.at.log_bytes = handle.tell()
        if self.board is not None:
            self.board.add(record)

    def _interrupted(self) -> Interrupted:
        return Interrupted(f"stopped in epoch {self.at.epoch + 1}; the same command continues {self.folder}")

    def _bar(self) -> tqdm:
        return tqdm(
            total=self.config.epochs * self.steps,
            initial=self.at.epoch * self.steps + self.at.step,
            desc=self.job.title,
            unit="step",
            leave=False,
            dynamic_ncols=True,
            disable=None if self.show else True,
        )


def _optimizer(model: Split, recipe: Recipe) -> torch.optim.Optimizer:
    config = recipe.train
    if config.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=config.lr, momentum=0.9, weight_decay=config.weight_decay)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch for the body and restore its random state afterwards; cuDNN picks repeatable kernels."""
    with torch.random.fork_rng(), torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        torch.manual_seed(seed)
        yield
