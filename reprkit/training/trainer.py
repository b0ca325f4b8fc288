"""The training loop: one encoder, from a recipe to a run folder (see `folder` for what that holds).

Killed at any moment and started again with the same arguments, a run ends with the same checkpoints, bit for bit, and
the same metrics but for their times: the order of samples and their augmentation depend on (seed, epoch, step) alone,
and `state.pt` holds the rest. Under torchrun every process runs this loop on its part of each batch (see `ranks`), and
the first one writes.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from reprkit.config import load_recipe
from reprkit.data import load_dataset
from reprkit.data.augment import make_augment
from reprkit.data.base import ImageDataset
from reprkit.errors import Failed, InputError, Interrupted
from reprkit.files import slug, working_in
from reprkit.interrupts import StopFlag, stop_flag
from reprkit.recipe import Recipe, run_folder
from reprkit.training.balancing.active import SolverError
from reprkit.training.balancing.jacobian import NotFinite
from reprkit.training.batches import Batch, BatchSource, epoch_order, read_ahead
from reprkit.training.board import Board
from reprkit.training.build import build_update
from reprkit.training.cost import PASSES, PassCounter, peak_memory, reset_peak_memory
from reprkit.training.devices import choose_device
from reprkit.training.evaluation import evaluate
from reprkit.training.folder import TrainingFolder
from reprkit.training.job import Job
from reprkit.training.ranks import Ranks, joined
from reprkit.training.schedules import schedule_factor

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
    ranks = joined()
    with _seeded(job.seed), stop_flag() as stop:
        with working_in(folder) if ranks.is_first else nullcontext():
            Trainer(job, folder, dataset, progress, ranks).run(stop)
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
    sums: dict[str, float] = field(default_factory=dict)  # of what steps log over this epoch
    seconds_before: float = 0.0  # spent in earlier epochs
    passes: dict[str, int] = field(default_factory=dict)  # see `cost.PassCounter`


class Trainer:
    """Trains the encoder of one job in one folder."""

    def __init__(
        self, job: Job, folder: Path, dataset: ImageDataset, progress: bool = True, ranks: Ranks | None = None
    ) -> None:
        config = job.recipe.train
        self.job, self.folder, self.dataset = job, folder, dataset
        self.config = config
        self.ranks = ranks or Ranks()
        self.files = TrainingFolder(folder, job, dataset, self.ranks.world)
        self.device = choose_device(config.device)
        self.source = BatchSource(dataset, self.device, config.precision == "bf16", self.ranks)
        self.augment = make_augment(job.recipe.data.augment, dataset.tasks, job.recipe.data.crop)
        self.rows = {split: dataset.rows(split) for split in ("train", "val")}
        self.show = progress and self.ranks.is_first
        self.at = Progress()
        self.board: Board | None = None
        self.update = build_update(job, dataset, self.ranks, self.device)
        self.model, self.optimizer = self.update.objective.model, self.update.optimizer
        if self.update.method.needs_meta:
            self.rows |= _hold_out(self.rows["train"], job.recipe.balancing.meta_fraction)
            if len(self.rows["meta"]) < 2 * self.ranks.world:
                raise InputError(
                    f"balancing.meta_fraction: {job.recipe.balancing.meta_fraction:g} of the training images is "
                    f"{len(self.rows['meta'])}; each process needs at least 2"
                )
        self.batch_size = config.batch_size * self.ranks.world
        self.steps = len(self.rows["train"]) // self.batch_size
        if self.steps == 0:
            several = f" x {self.ranks.world} processes" if self.ranks.world > 1 else ""
            raise InputError(
                f"train.batch_size: {config.batch_size}{several} is more than the {len(self.rows['train'])} "
                "training images"
            )
        decoders = self.update.objective.decoders
        self.passes = PassCounter(self.model.encoder, [*self.model.heads.values(), *(decoders or [])])
        total = config.epochs * self.steps
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda i: schedule_factor(config.schedule, min(i / total, 1.0))
        )

    def run(self, stop: StopFlag) -> None:
        """Train to the end, or until `stop` is set."""
        if self.ranks.from_first(self.ranks.is_first and self.files.is_finished):
            if self.ranks.is_first:
                self.files.check_same_run()
            return
        self._open()
        if self.config.tensorboard and self.ranks.is_first:
            self.board = Board(self.folder, self.at.epoch * self.steps)
        reset_peak_memory(self.device)
        with self._bar() as bar:
            while self.at.epoch < self.config.epochs:
                self._epoch(bar, stop)
                if self._agreed(stop) and self.at.epoch < self.config.epochs:
                    raise self._interrupted()
        if self.ranks.is_first:
            self.files.finish(self.at.epoch, self._cost())

    def _epoch(self, bar: tqdm, stop: StopFlag) -> None:
        order = epoch_order(self.rows["train"], self.job.seed, self.at.epoch)
        size = self.batch_size
        started = saved = time.monotonic()
        self.model.train()
        kind = torch.float32 if self.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
        zero = torch.zeros((), dtype=kind, device=self.device)
        sums = {name: zero + value for name, value in self.at.sums.items()}
        seed = (self.job.seed, self.at.epoch)
        reads = (
            partial(self.source.part, order[i * size : (i + 1) * size], self.augment, (*seed, i))
            for i in range(self.at.step, self.steps)
        )
        for batch in read_ahead(reads):
            terms = self._step(batch)
            stopping = self._agreed(stop)
            for name, value in terms.items():
                sums[name] = sums.get(name, zero) + value
            self.at.step += 1
            bar.update()
            now = time.monotonic()
            due = stopping or (self.ranks.is_first and now - saved > self.config.save_every)
            common = self.at.step % _CHECK_EVERY == 0 or self.at.step == self.steps  # on all ranks
            if due or common:
                self.at.sums = {name: float(value) for name, value in sums.items()}
                sound = all(map(math.isfinite, self.at.sums.values()))
                if not sound and (common or self.ranks.world == 1):
                    raise self._not_finite(self.at.sums)
                due = due and sound
            if due and self.at.step < self.steps:
                self.at.seconds += now - started
                self._save_state()
                started = saved = now
                if stopping:
                    raise self._interrupted()
        self.at.seconds += time.monotonic() - started
        self._end_epoch(bar)

    def _step(self, batch: Batch) -> dict[str, Tensor]:
        """One update; returns what is logged: each task's loss and weight, and the penalty."""
        meta = self._meta_batch() if self.update.method.needs_meta else None
        try:
            with self.passes.on():
                terms = self.update(batch, meta)
        except NotFinite as error:
            raise self._failed(str(error)) from error
        except (SolverError, np.linalg.LinAlgError) as error:
            raise TrainingFailed(
                f"{self.job.method} found no weights in epoch {self.at.epoch + 1}: {error}. "
                f"Try another balancing.level or method; {self.folder} keeps the last sound state"
            ) from error
        self.scheduler.step()
        if self.ranks.world > 1:
            values = torch.stack([value.double() for value in terms.values()])
            self.ranks.average([values])
            terms = dict(zip(terms, values, strict=True))
        return terms

    def _meta_batch(self) -> Batch:
        """Held-out training images, in passes of their own."""
        rows, world = self.rows["meta"], self.ranks.world
        size = min(self.batch_size, len(rows) // world * world)
        count = self.at.epoch * self.steps + self.at.step
        turn, place = divmod(count, len(rows) // size)
        order = epoch_order(rows, self.job.seed, turn)
        return self.source.part(order[place * size : (place + 1) * size], self.augment, (self.job.seed, count, 1, 1))

    def _agreed(self, stop: StopFlag) -> bool:
        """Whether any rank was asked to stop: all stop at the same step."""
        if self.ranks.world == 1:
            return stop.requested
        return bool(self.ranks.total(torch.tensor(float(stop.requested))) > 0)

    def _end_epoch(self, bar: tqdm) -> None:
        at, tasks = self.at, self.dataset.tasks
        means = {name: value / self.steps for name, value in at.sums.items()}
        losses = {t.name: at.sums[f"loss/{t.name}"] / max(at.sums[f"labelled/{t.name}"], 1) for t in tasks}
        weights = {task.name: means[f"weight/{task.name}"] for task in tasks if f"weight/{task.name}" in means}
        self.update.method.end_epoch(torch.tensor(list(losses.values())))
        self._log(
            {
                "epoch": at.epoch + 1,
                "step": (at.epoch + 1) * self.steps,
                "split": "train",
                "loss": losses,
                **({"weight": weights} if weights else {}),
                **({"penalty": means["penalty"]} if "penalty" in means else {}),
                "images_per_second": round(self.steps * self.batch_size / max(at.seconds, 1e-9), 1),
                "seconds": round(at.seconds, 3),
            }
        )
        found = evaluate(self.model, self.source, self.rows["val"], self.config.precision)
        if not all(map(math.isfinite, found.losses.values())):
            raise self._not_finite({f"validation loss/{name}": loss for name, loss in found.losses.items()})
        self._log(
            {
                "epoch": at.epoch + 1,
                "step": (at.epoch + 1) * self.steps,
                "split": "val",
                "loss": found.losses,
                "score": {name: None if np.isnan(score) else score for name, score in found.scores.items()},
            }
        )
        mean = -np.inf if np.isnan(found.skill) else found.skill
        at.seconds_before += at.seconds
        at.epoch, at.step, at.seconds, at.sums = at.epoch + 1, 0, 0.0, {}
        names = ["best", "last"] if mean > at.best or at.epoch == 1 else ["last"]
        at.best = mean if "best" in names else at.best
        if self.ranks.is_first:
            for name in names:
                self.files.save_checkpoint(name, self.model, epoch=at.epoch, step=at.epoch * self.steps, val_score=mean)
        self._save_state()
        text = " ".join(f"{name} {score:.3f}" for name, score in found.scores.items())
        bar.set_postfix_str(f"val {text}")
        if bar.disable and self.ranks.is_first:
            logger.info("%s: epoch %d/%d, val %s", self.job.title, at.epoch, self.config.epochs, text)

    def _cost(self) -> dict[str, Any]:
        steps, seconds = self.config.epochs * self.steps, self.at.seconds_before
        megabytes, kind = peak_memory(self.device)
        passes = Counter(self.at.passes) + self.passes.counts
        return {
            "steps": steps,
            "seconds": round(seconds, 3),
            "seconds_per_step": seconds / steps,
            "images_per_second": round(steps * self.batch_size / max(seconds, 1e-9), 1),
            **{name: round(passes[name] / steps, 4) for name in PASSES},
            "parameters_shared": sum(p.numel() for p in self.update.objective.shared()),
            "peak_memory_mb": round(megabytes, 1),
            "memory": kind,
            "processes": self.ranks.world,
            "threads": torch.get_num_threads(),
            "device": self.device.type,
        }

    def _open(self) -> None:
        """Start a folder, or take up where it was left."""
        state = self.ranks.from_first(self.files.open(str(self.device)) if self.ranks.is_first else None)
        if state is None:
            return
        for name, part in self._parts().items():
            part.load_state_dict(state.get(name, {}))
        torch.set_rng_state(state["rng"])
        if self.device.type == "cuda" and self.ranks.world == 1:
            torch.cuda.set_rng_state_all(state["cuda_rng"])
        self.at = Progress(**state["progress"])

    def _parts(self) -> dict[str, Any]:
        """Everything with a state, by its name in `state.pt`."""
        objective = self.update.objective
        parts: dict[str, Any] = {
            "model": self.model,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "method": self.update.method,
            "penalty": objective.penalty,
            "decoders": objective.decoders,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def _save_state(self) -> None:
        if not self.ranks.is_first:
            return
        progress = {**asdict(self.at), "passes": dict(Counter(self.at.passes) + self.passes.counts)}
        self.files.save_state(
            {
                **{name: part.state_dict() for name, part in self._parts().items()},
                "rng": torch.get_rng_state(),
                "cuda_rng": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
                "progress": progress,
            }
        )

    def _log(self, record: Mapping[str, Any]) -> None:
        if not self.ranks.is_first:
            return
        self.at.log_bytes = self.files.log(record)
        if self.board is not None:
            self.board.add(record)

    def _not_finite(self, values: Mapping[str, float]) -> TrainingFailed:
        bad = next(name for name, value in values.items() if not math.isfinite(value))
        return self._failed(f"{bad} became NaN or infinite")

    def _failed(self, what: str) -> TrainingFailed:
        mend = f"lower train.lr (now {self.config.lr:g})"
        if self.update.objective.penalty is not None:
            mend += " or dgr.weight"
        return TrainingFailed(f"{what} in epoch {self.at.epoch + 1}; {mend}. {self.folder} keeps the last sound state")

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


def _hold_out(rows: np.ndarray, fraction: float) -> dict[str, np.ndarray]:
    """Training rows split into `train` and `meta`, the same for every seed."""
    order = np.random.default_rng(0).permutation(rows)
    size = max(1, round(fraction * len(rows)))
    return {"meta": np.sort(order[:size]), "train": np.sort(order[size:])}


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch for the body and restore its random state afterwards; cuDNN picks repeatable kernels."""
    with torch.random.fork_rng(), torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        torch.manual_seed(seed)
        yield
