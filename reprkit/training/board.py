"""The metrics of a training run in TensorBoard's format, beside `metrics.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reprkit.errors import InputError


class Board:
    """Writes records of `metrics.jsonl` as scalars under `FOLDER/tensorboard`.

    Args:
        folder: run folder.
        step: steps done already; events after it, from an attempt that was killed, are hidden.

    Raises:
        InputError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise InputError('train.tensorboard: TensorBoard is missing; pip install "reprkit[tensorboard]"') from None
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def add(self, record: Mapping[str, Any]) -> None:
        """Write every number of one record at its step."""
        for kind in ("loss", "score"):
            for task, value in record.get(kind, {}).items():
                if value is not None:
                    self._scalar(f"{kind}/{task}/{record['split']}", value, record["step"])
        for kind in ("penalty", "images_per_second"):
            if kind in record:
                self._scalar(f"{kind}/{record['split']}", record[kind], record["step"])
        self.writer.flush()

    def _scalar(self, name: str, value: float, step: int) -> None:
        self.writer.add_scalar(name, value, step)
