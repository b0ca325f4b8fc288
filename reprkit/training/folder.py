"""The files of one training: what a run folder holds, how it is taken up again, and whose it is.

`recipe.yaml environment.json identity.json metrics.jsonl last.safetensors best.safetensors state.pt training.json
cost.json`. Each is written whole or not at all, but for the lines of `metrics.jsonl`, which `state.pt` knows the length
of.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reprkit.config import write_recipe
from reprkit.data.base import ImageDataset
from reprkit.environment import environment
from reprkit.errors import InputError
from reprkit.files import write_json
from reprkit.models import Model
from reprkit.recipe import Recipe
from reprkit.training.checkpoint import load_state, read_header, save_checkpoint, save_state
from reprkit.training.job import Job, differences, fingerprints

logger = logging.getLogger(__name__)


class TrainingFolder:
    """One job's folder. Of several processes only the first one calls it.

    Args:
        path: the folder; it need not be there yet.
        job: what is trained.
        dataset: on what.
        processes: how many share each batch.
    """

    def __init__(self, path: Path, job: Job, dataset: ImageDataset, processes: int) -> None:
        self.path, self.job, self.dataset, self.processes = path, job, dataset, processes

    @property
    def is_finished(self) -> bool:
        """True if training ended there."""
        return (self.path / "training.json").is_file()

    def open(self, device: str) -> dict[str, Any] | None:
        """Make the folder ready for training on `device`, and return the state in it, if there is one.

        Raises:
            InputError: it holds a run of other settings.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        state_file, log = self.path / "state.pt", self.path / "metrics.jsonl"
        if state_file.is_file():
            self.check_same_run()
            state = load_state(state_file)
            if log.is_file():
                with open(log, "r+b") as handle:
                    handle.truncate(state["progress"]["log_bytes"])
            logger.info("continuing %s at epoch %d", self.path, state["progress"]["epoch"] + 1)
            return state
        if (self.path / "identity.json").is_file():
            self.check_same_run()
        log.write_bytes(b"")
        write_recipe(self.job.own_recipe(), self.path / "recipe.yaml")
        write_json(self.path / "environment.json", {**environment(), "device": device})
        write_json(self.path / "identity.json", self._identity())
        return None

    def check_same_run(self) -> None:
        """Refuse a folder of other settings, data or number of processes.

        Raises:
            InputError: that it is, or that nothing tells.
        """
        try:
            there = json.loads((self.path / "identity.json").read_text())
        except (OSError, ValueError):
            raise InputError(
                f"{self.path}: holds a run without a readable identity.json; choose another folder"
            ) from None
        usual = Recipe().to_json()
        there |= {name: {**usual[name], **there[name]} for name in ("data", "model") if name in there}  # of before
        different = list(differences(there, self._identity()))
        if different:
            raise InputError(
                f"{self.path}: holds a run with another {', '.join(different[:4])}; choose another --out or delete it"
            )

    def log(self, record: Mapping[str, Any]) -> int:
        """Append a line to `metrics.jsonl`; returns its length in bytes after that."""
        with open(self.path / "metrics.jsonl", "ab") as handle:
            handle.write((json.dumps(record) + "\n").encode())
            handle.flush()
            return handle.tell()

    def save_checkpoint(self, name: str, model: Model, *, epoch: int, step: int, val_score: float) -> None:
        """Write `<name>.safetensors`: the weights after `epoch`, and all it takes to use them elsewhere."""
        data = self.dataset
        meta: dict[str, Any] = {
            "recipe": self.job.portable_recipe(),
            "method": self.job.method,
            "seed": self.job.seed,
            "task": self.job.task,
            "tasks": [task.to_json() for task in data.tasks],
            "image_shape": list(data.image_shape),
            "epoch": epoch,
            "step": step,
            "val_score": None if not np.isfinite(val_score) else val_score,
            "fingerprints": fingerprints(data),
        }  # fmt: skip
        save_checkpoint(self.path / f"{name}.safetensors", model, meta)

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Write `state.pt`: all that training goes on from."""
        save_state(self.path / "state.pt", state)

    def finish(self, epochs: int, cost: Mapping[str, Any]) -> None:
        """Write `cost.json`, and `training.json`, which says that training ended."""
        best = read_header(self.path / "best.safetensors")
        write_json(self.path / "cost.json", dict(cost))
        write_json(
            self.path / "training.json",
            {"epochs": epochs, "best_epoch": best["epoch"], "best_val_score": best["val_score"]},
        )

    def _identity(self) -> dict[str, Any]:
        several = {"processes": self.processes} if self.processes > 1 else {}
        return {**self.job.identity(), **several, "fingerprints": fingerprints(self.dataset)}
