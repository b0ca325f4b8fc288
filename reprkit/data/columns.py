"""From a column of text to a task: which kind it is, its classes, its numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reprkit.errors import InputError
from reprkit.tasks import MISSING_CLASS, VECTOR_KINDS, Kind, Task

MISSING_CELLS = ("", "na", "n/a", "nan", "null")
"""Cells that mean "no label", whatever their case and surrounding blanks."""

MAX_INTEGER_CLASSES = 20
MAX_TEXT_CLASSES = 1000


@dataclass(frozen=True)
class Column:
    """One label column, read.

    Attributes:
        task: its task.
        target: int64 [N] class indices or float64 [N] values.
        notes: what a reader should know about it.
    """

    task: Task
    target: np.ndarray
    notes: tuple[str, ...]


def is_missing(cells: Sequence[str]) -> np.ndarray:
    """Boolean [N]: cells without a label."""
    return np.array([cell.strip().lower() in MISSING_CELLS for cell in cells], dtype=bool)


def infer_kind(cells: Sequence[str]) -> Kind | None:
    """The kind of a label column, from its cells; None if it looks like free text or holds nothing.

    Numbers: whole ones with at most 20 different values are classes, all others regression. Everything else
    (words, true/false) is classes, unless there are more than 1,000 different ones or most rows differ.
    """
    present = [cell.strip() for cell, gap in zip(cells, is_missing(cells), strict=True) if not gap]
    distinct = set(present)
    if not distinct:
        return None
    try:
        numbers = {to_number(cell) for cell in distinct}
    except ValueError:
        free_text = len(distinct) > MAX_TEXT_CLASSES or len(distinct) > max(10, len(present) / 2)
        return None if free_text else "classification"
    whole = all(number.is_integer() for number in numbers)
    return "classification" if whole and len(numbers) <= MAX_INTEGER_CLASSES else "regression"


def read_column(
    name: str, cells: Sequence[str], kind: str, train: np.ndarray, lines: Sequence[int], source: str
) -> Column:
    """Turn a column of text into a task and its targets.

    Classes are those of the training rows, in numeric or natural order ("5-9" before "10-14"); a class that
    only other rows have cannot be learnt, so those labels count as missing.

    Args:
        name: the column.
        cells: [N] text.
        kind: classification | ordinal | regression.
        train: boolean [N], training rows.
        lines: [N] line numbers in the file, for messages.
        source: path of the file, for messages.

    Raises:
        InputError: unknown kind, a cell that is no number in a regression column, fewer than two classes, or
            no training label.
    """
    if kind not in VECTOR_KINDS:
        raise InputError(f"data.kinds: '{kind}' for column '{name}' is not one of {', '.join(VECTOR_KINDS)}")
    gap = is_missing(cells)
    if not (train & ~gap).any():
        raise InputError(f"{source}: column '{name}' has no label in the training split; leave it out of data.tasks")
    if kind == "regression":
        return Column(Task(name, "regression", 1), _numbers(name, cells, gap, lines, source), ())
    labels = _canonical([cell.strip() for cell in cells])
    classes = sorted({label for label, used in zip(labels, train & ~gap, strict=True) if used}, key=natural_key)
    if len(classes) < 2:
        raise InputError(
            f"{source}: column '{name}' has one class only ('{classes[0]}') in the training split, nothing to learn; "
            "leave it out of data.tasks"
        )
    index = {label: i for i, label in enumerate(classes)}
    target = np.array(
        [MISSING_CLASS if g else index.get(label, MISSING_CLASS) for label, g in zip(labels, gap, strict=True)],
        dtype=np.int64,
    )
    notes = []
    unseen = {label for label, g in zip(labels, gap, strict=True) if not g and label not in index}
    if unseen:
        count = int(((target == MISSING_CLASS) & ~gap).sum())
        shown = ", ".join(sorted(unseen, key=natural_key)[:5])
        notes.append(f"{name}: {count:,} val/test labels never seen in training count as missing ({shown})")
    if kind == "ordinal":
        notes.append(f"{name}: order of classes {_shortened(classes)}")
    return Column(
        Task(name, "ordinal" if kind == "ordinal" else "classification", len(classes), tuple(classes)),
        target,
        tuple(notes),
    )


def to_number(cell: str) -> float:
    """The number in a cell.

    Raises:
        ValueError: there is none; `10_19` is a range here, not Python's way to write 1019.
    """
    if "_" in cell:
        raise ValueError(cell)
    return float(cell)


def natural_key(label: str) -> tuple[object, ...]:
    """Sort key: numbers by value and before words; digits inside words by value, too."""
    try:
        number = to_number(label)
    except ValueError:
        number = np.nan
    if np.isfinite(number):
        return (0, number, label)
    parts = re.split(r"(\d+)", label)
    return (1, tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part), label)


def _canonical(labels: list[str]) -> list[str]:
    """Write whole numbers one way, so that a column that pandas once turned into floats ("3.0") reads as "3"."""
    return [label[:-2] if re.fullmatch(r"-?\d+\.0", label) else label for label in labels]


def _numbers(name: str, cells: Sequence[str], gap: np.ndarray, lines: Sequence[int], source: str) -> np.ndarray:
    values = np.full(len(cells), np.nan)
    for row in np.flatnonzero(~gap).tolist():
        try:
            values[row] = to_number(cells[row])
        except ValueError:
            values[row] = np.inf
        if not np.isfinite(values[row]):
            raise InputError(
                f"{source}, line {lines[row]}: '{cells[row]}' in column '{name}' is not a finite number; "
                f"mend the cell, or set data.kinds {name}: classification"
            )
    return values


def _shortened(classes: Sequence[str], most: int = 8) -> str:
    shown = list(classes) if len(classes) <= most else [*classes[: most - 1], "...", classes[-1]]
    return " < ".join(shown)
