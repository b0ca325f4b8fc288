"""From a column that someone else made to a task and its targets.

A column named `y_<task>` states what it is: integers are class indices (-1 = missing), other numbers real values
(NaN = missing), true and false the classes 1 and 0, text the names of classes. Where a table has no such column,
every other column is read by its values: whole numbers of at most 20 different values, text, true and false are
classes named by their values, all other numbers are real values; free text (more than 1,000 different values, or
most of them different) is no target. Declared categories are classes, ordered ones an ordinal task.

Classes named by text are sorted, numbers by value. Text that is empty, `na`, `n/a`, `nan` or `null` is missing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reprkit.errors import InputError
from reprkit.tasks import MISSING_CLASS, Kind, Task

MISSING_TEXT = ("", "na", "n/a", "nan", "null")
MAX_INTEGER_CLASSES = 20
MAX_TEXT_CLASSES = 1000
PREFIX = "y_"


@dataclass(frozen=True, eq=False)
class Labels:
    """A column of names.

    Attributes:
        codes: integers [N] into `names`; -1 is missing.
        names: text, also of categories that no row has.
        ordered: whether the order of `names` means something.
    """

    codes: np.ndarray
    names: Sequence[str]
    ordered: bool = False


@dataclass(frozen=True)
class Unreadable:
    """A column of a kind that cannot be a target, named in words."""

    kind: str


Column = np.ndarray | Labels | Unreadable
"""Numbers (a masked array where some are missing), text, labels, or none of them."""


def choose_targets(columns: Mapping[str, Column]) -> tuple[dict[str, Column], bool]:
    """The columns of a table that are targets, by task name, and whether they are marked as such by `y_`."""
    marked = {name.removeprefix(PREFIX): column for name, column in columns.items() if name.startswith(PREFIX)}
    return (marked, True) if marked else (dict(columns), False)


def read_target(
    name: str, column: Column, *, train: np.ndarray, rows: int, marked: bool = True, given: Task | None = None
) -> tuple[Task, np.ndarray]:
    """The task that a column is, and its targets.

    Args:
        name: of the task.
        column: [N].
        train: indices of the training rows, on which real values are standardised.
        rows: N.
        marked: the column states what it is (`y_<task>`); otherwise its values tell.
        given: the task, where it is known.

    Raises:
        InputError: the column cannot be a target, or not of the given task.
    """
    if isinstance(column, Unreadable):
        raise InputError(f"y_{name} is {column.kind}; expected numbers or text")
    values = column.codes if isinstance(column, Labels) else column
    text = isinstance(column, np.ndarray) and column.dtype.kind in "US"
    if values.shape != (rows,) or (values.dtype.kind not in "biuf" and not text):
        raise InputError(
            f"y_{name} is {values.dtype} of shape {values.shape}; expected class indices (int), class names (text) or "
            f"real values (float) of shape ({rows},)"
        )
    if isinstance(column, np.ndarray):
        if text:
            column = _labels(*np.unique(as_text(column, f"y_{name}"), return_inverse=True))
        elif not marked:
            column = _by_value(column)
    if isinstance(column, Labels):
        return _classes(name, column, marked, given)
    if column.dtype.kind == "f" or (given is not None and not given.is_discrete):
        numbers = np.ma.filled(column.astype(np.float64), np.nan)
        return given or _real(name, numbers, train), numbers
    signed = column.astype(np.int64) if column.dtype.kind == "b" or np.ma.is_masked(column) else column
    indices = np.ma.filled(signed, MISSING_CLASS)
    return given or _indexed(name, indices, rows), indices


def read_names(column: Any, rows: int, what: str) -> np.ndarray:
    """Ids or splits: text, labels or whole numbers [N], none missing, as str [N].

    Raises:
        InputError: another length, a missing one, or what is no name.
    """
    if isinstance(column, Unreadable):
        raise InputError(f"{what} is {column.kind}; expected text")
    values = column.codes if isinstance(column, Labels) else column
    values = values if isinstance(values, np.ndarray) else np.asarray(values)
    if values.shape != (rows,) or values.dtype.kind not in "USiu":
        raise InputError(f"{what} is {values.dtype} of shape {values.shape}; expected text of shape ({rows},)")
    if np.ma.is_masked(values) or (isinstance(column, Labels) and values.min() < 0):
        raise InputError(f"{what} is missing in some rows; every row needs one")
    return np.array(column.names, str)[values] if isinstance(column, Labels) else as_text(values, what)


def as_text(values: np.ndarray, what: str) -> np.ndarray:
    """Text or whole numbers as str, of the same shape.

    Raises:
        InputError: bytes that are no UTF-8 text.
    """
    if values.dtype.kind == "S":
        try:
            return np.char.decode(values, "utf-8")
        except UnicodeDecodeError:
            raise InputError(f"{what} is not UTF-8 text; save it as str (dtype U)") from None
    return np.asarray(values).astype(str)


def is_missing(name: str) -> bool:
    """True for text that means "no label"."""
    return name.strip().lower() in MISSING_TEXT


def natural_key(name: str) -> tuple[Any, ...]:
    """Sort key: numbers by value and before words; digits inside words by value, too."""
    number = _number(name)
    if number is not None and math.isfinite(number):
        return (0, number, name)
    parts = re.split(r"([0-9]+)", name)
    return (1, tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part), name)


def read_cells(cells: Sequence[str]) -> np.ndarray:
    """A column of text as whole numbers (masked where missing), as real ones (NaN where missing), or as text."""
    known = [cell.strip() for cell in cells if not is_missing(cell)]
    if not known or any(_number(cell) is None for cell in known):
        return np.array(cells, dtype=str)
    gaps = np.array([is_missing(cell) for cell in cells])
    whole = all(re.fullmatch(r"[+-]?[0-9]{1,18}", cell) for cell in known)
    values = np.zeros(len(cells), np.int64) if whole else np.full(len(cells), np.nan)
    values[~gaps] = [int(cell) if whole else float(cell) for cell in known]
    return np.ma.array(values, mask=gaps) if whole and gaps.any() else values


def _number(cell: str) -> float | None:
    try:
        return None if "_" in cell else float(cell)  # Python reads 10_19 as 1019
    except ValueError:
        return None


def _labels(names: np.ndarray, codes: np.ndarray) -> Labels:
    return Labels(codes, names.tolist())


def _by_value(column: np.ndarray) -> np.ndarray | Labels:
    """Numbers of few whole values as labels; others as they are, as float64."""
    gaps = np.ma.getmaskarray(column) | (np.isnan(column) if column.dtype.kind == "f" else False)
    gaps = np.ma.filled(gaps, True)
    known = np.unique(np.ma.getdata(column)[~gaps])
    if column.dtype.kind == "b":
        names = [str(value) for value in known.tolist()]
    elif len(known) <= MAX_INTEGER_CLASSES and np.all(np.isfinite(known)) and np.all(known == np.round(known)):
        names = [str(int(value)) for value in known.tolist()]
    else:
        return np.where(gaps, np.nan, np.ma.getdata(column).astype(np.float64))
    codes = np.full(len(column), MISSING_CLASS, np.int64)
    codes[~gaps] = np.searchsorted(known, np.ma.getdata(column)[~gaps])
    return Labels(codes, names)


def _classes(name: str, labels: Labels, marked: bool, given: Task | None) -> tuple[Task, np.ndarray]:
    codes, names = np.asarray(labels.codes, np.int64), [text.strip() for text in labels.names]
    if len(codes) and (codes.min() < MISSING_CLASS or codes.max() >= len(names)):
        raise InputError(f"y_{name} has codes {codes.min()} to {codes.max()} for {len(names)} categories")
    here = [code for code in np.unique(codes).tolist() if code >= 0 and not is_missing(names[code])]
    if given is not None:
        classes = given.class_names
    elif labels.ordered:
        classes = tuple(dict.fromkeys(text for text in names if not is_missing(text)))
    else:
        classes = tuple(sorted({names[code] for code in here}, key=natural_key))
    index = {text: number for number, text in enumerate(classes)}
    strange = [names[code] for code in here if names[code] not in index]
    if strange:
        raise InputError(f"y_{name} has the label '{strange[0]}', which is no class of the given task")
    target = np.array([MISSING_CLASS, *(index.get(text, MISSING_CLASS) for text in names)], np.int64)[codes + 1]
    known = int((target != MISSING_CLASS).sum())
    if given is None and (len(classes) > max(10, known / 2) or (len(classes) > MAX_TEXT_CLASSES and not marked)):
        raise InputError(f"y_{name} looks like free text: {len(classes):,} different labels in {known:,} samples")
    kind: Kind = "ordinal" if labels.ordered else "classification"
    return given or Task(name, kind, len(classes), classes), target


def _real(name: str, values: np.ndarray, train: np.ndarray) -> Task:
    known = values[train][np.isfinite(values[train])]
    spread = float(known.std()) if len(known) else 0.0
    mean = float(known.mean()) if len(known) else 0.0
    return Task(name, "regression", 1, mean=mean, std=spread if spread > 0 else 1.0)


def _indexed(name: str, values: np.ndarray, rows: int) -> Task:
    classes = int(values.max(initial=MISSING_CLASS)) + 1
    if classes > max(rows, 2):
        raise InputError(
            f"task '{name}': class index {classes - 1} for {rows} samples; number the classes 0 to C-1, or name them"
        )
    return Task(name, "classification", classes)
