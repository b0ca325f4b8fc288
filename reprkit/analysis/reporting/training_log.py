"""What training runs logged, epoch by epoch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from reprkit.errors import InputError

PENALTY = "penalty"
"""Quantity of the DGR penalty, which belongs to no task."""

COLUMNS = ["encoder", "seed", "task", "quantity", "split", "epoch", "value"]


def read_curves(runs: Sequence[tuple[str, int, Path]]) -> pd.DataFrame:
    """The metrics of training runs as one row an epoch, split and quantity.

    Args:
        runs: (encoder, seed, path of metrics.jsonl).

    Returns:
        Columns encoder, seed, task, quantity (loss, score or penalty), split, epoch, value; several records of an
        epoch are averaged. An unfinished last line, left by a kill, is skipped.

    Raises:
        InputError: another line is not a JSON object.
    """
    rows: list[tuple[Any, ...]] = []
    for encoder, seed, path in runs:
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
                epoch, split = int(record["epoch"]), str(record["split"])
            except (ValueError, KeyError, TypeError):
                if number == len(lines):
                    break
                raise InputError(f"{path}: line {number} is not a metrics record; delete that line") from None
            for quantity in ("loss", "score"):
                for task, value in (record.get(quantity) or {}).items():
                    rows.append((encoder, seed, task, quantity, split, epoch, _number(value)))
            if record.get("penalty") is not None:
                rows.append((encoder, seed, "", PENALTY, split, epoch, _number(record["penalty"])))
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.groupby(COLUMNS[:-1], sort=False)["value"].mean().reset_index()


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
