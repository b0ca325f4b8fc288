"""The rows of a split that are known before anything is encoded: ids and targets, checked once, in one form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reprkit.embeddings.format import FLOAT_TARGET_DTYPE, INT_TARGET_DTYPE, MAX_ID_BYTES, SPLITS
from reprkit.errors import InputError
from reprkit.tasks import MISSING_CLASS, Task


@dataclass(frozen=True, eq=False)
class SplitRows:
    """Ids and targets of one split, in row order.

    Attributes:
        ids: N names, unique in the whole file.
        targets: task name -> N class indices (-1 = missing) or real values in their own unit (NaN = missing).
    """

    ids: Sequence[str] | np.ndarray
    targets: Mapping[str, Any] = field(default_factory=dict)


def check_ids(ids: Iterable[Any], what: str) -> np.ndarray:
    """Ids as UTF-8 bytes (dtype S); refuses what could not be stored and read back, and duplicates.

    Raises:
        InputError: naming the id at fault.
    """
    encoded = []
    for name in ids:
        try:
            raw = str(name).encode("utf-8")
        except UnicodeEncodeError:
            raise InputError(f"{what}: id {str(name)!r} is not valid Unicode; rename that sample") from None
        if not raw or b"\0" in raw or len(raw) > MAX_ID_BYTES:
            raise InputError(f"{what}: id {str(name)[:80]!r} is empty, holds a NUL or is over {MAX_ID_BYTES} bytes")
        encoded.append(raw)
    array = np.array(encoded, dtype="S")
    twice = _first_duplicate(array)
    if twice is not None:
        raise InputError(f"{what}: id '{twice.decode()}' occurs twice; every sample needs an id of its own")
    return array


def check_disjoint(ids: Mapping[str, np.ndarray], what: str) -> None:
    """Refuse an id (dtype S, unique in its split) that is in two splits: the test would not be one.

    Raises:
        InputError: naming the id and both splits.
    """
    twice = _first_duplicate(np.concatenate(list(ids.values())))
    if twice is not None:
        homes = " and ".join(split for split, names in ids.items() if (names == twice).any())
        raise InputError(f"{what}: id '{twice.decode()}' is in both {homes}; a sample belongs to one split")


def _first_duplicate(names: np.ndarray) -> bytes | None:
    ordered = np.sort(names)
    same = ordered[1:] == ordered[:-1]
    return bytes(ordered[np.argmax(same)]) if same.any() else None


def check_targets(task: Task, values: Any, rows: int, what: str) -> np.ndarray:
    """Targets of one task as int64 or float64 [rows], checked against the task.

    Raises:
        InputError: another length or type, a class that the task does not have, or an infinite value.
    """
    array = np.asarray(values)
    what = f"{what}: targets of task '{task.name}'"
    if array.shape != (rows,):
        raise InputError(f"{what} have shape {array.shape}, expected ({rows},)")
    if not task.is_discrete:
        if array.dtype.kind not in "fiu":
            raise InputError(f"{what} are {array.dtype}, expected real numbers")
        if np.isinf(array).any():
            raise InputError(f"{what} hold infinity; use NaN for a missing target")
        return array.astype(FLOAT_TARGET_DTYPE)
    if array.dtype.kind not in "biu":
        raise InputError(f"{what} are {array.dtype}, expected integer class indices")
    if rows and (array.min() < MISSING_CLASS or array.max() >= task.num_outputs):
        raise InputError(
            f"{what} run from {array.min()} to {array.max()}, expected 0 to {task.num_outputs - 1}, or -1 if missing"
        )
    return array.astype(INT_TARGET_DTYPE)


def check_split_names(names: Iterable[str], what: str) -> None:
    """Refuse split names other than train, val and test.

    Raises:
        InputError: naming the split.
    """
    for name in names:
        if name not in SPLITS:
            raise InputError(f"{what}: unknown split '{name}'; use {', '.join(SPLITS)}")
