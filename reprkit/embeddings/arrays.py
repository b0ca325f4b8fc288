"""Embeddings that someone else made: one table of rows, checked and brought into the common form.

Ids, splits and targets are held in memory; z may stay on disk, behind a `Matrix`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reprkit.embeddings.columns import Column, read_names, read_target
from reprkit.embeddings.fingerprint import fingerprint_arrays
from reprkit.embeddings.format import SPLITS
from reprkit.embeddings.rows import check_ids, check_split_names, check_targets
from reprkit.embeddings.source import Matrix
from reprkit.errors import InputError
from reprkit.tasks import Task

SPLIT_RULE = "train 70 %, val 10 %, test 20 % by SHA-256 of the id"


class HeldMatrix:
    """A matrix in memory; float64 is rounded to float32 at once."""

    def __init__(self, values: Any) -> None:
        array = np.asarray(values)
        with np.errstate(over="ignore", invalid="ignore"):
            self._values = array.astype(np.float32, copy=False) if array.dtype.kind in "fiu" else array
        self.shape, self.dtype = array.shape, array.dtype

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Rows, copied."""
        return self._values[rows]

    def close(self) -> None:
        """Nothing to release."""


class ArraySource:
    """Rows of one table, seen split by split.

    Args:
        z: [N, D] numbers.
        targets: task name -> [N]; `columns.read_target` states what becomes of them.
        tasks: what the targets are; inferred where not given.
        ids: [N] unique names; row numbers if not given.
        split: [N] of `train`, `val`, `test`; if not given, `SPLIT_RULE`.
        marked: the targets state what they are; otherwise their values tell, and what cannot be a target is left
            out, with the reason in `meta["provenance"]["left_out"]`.
        what: names the table in error messages.
        meta: as of `Embeddings.meta`.
    """

    def __init__(
        self,
        z: Matrix,
        targets: Mapping[str, Column],
        *,
        tasks: Sequence[Task] = (),
        ids: Column | Sequence[Any] | None = None,
        split: Column | Sequence[Any] | None = None,
        marked: bool = True,
        what: str,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        check_matrix(z, what)
        self._z, rows = z, z.shape[0]
        names = read_names(np.arange(rows) if ids is None else ids, rows, f"{what}: ids")
        check_ids(names.tolist(), what)
        split_column = split_by_id(names) if split is None else read_names(split, rows, f"{what}: split")
        check_split_names(np.unique(split_column).tolist(), what)
        self._rows = {name: found for name in SPLITS if len(found := np.flatnonzero(split_column == name))}
        self._ids = names
        known = {task.name: task for task in tasks}
        if not targets:
            raise InputError(f"{what}: has no targets; add y_<task>, one number or class name a sample")
        if lacking := sorted(set(known) - set(targets)):
            raise InputError(f"{what}: has no targets for the task '{lacking[0]}', only for {sorted(targets)}")
        self.tasks: dict[str, Task] = {}
        self._targets: dict[str, np.ndarray] = {}
        left_out: dict[str, str] = {}
        train = self._rows.get("train", np.arange(rows))
        for name, column in targets.items():
            try:
                task, values = read_target(name, column, train=train, rows=rows, marked=marked, given=known.get(name))
                self._targets[name] = check_targets(task, values, rows, what)
                self.tasks[name] = task
            except InputError as error:
                reason = str(error) if str(error).startswith(what) else f"{what}: {error}"
                if marked:
                    raise InputError(reason) from None
                left_out[name] = reason.removeprefix(f"{what}: ").removeprefix(f"y_{name} ")
        if not self.tasks:
            reasons = "; ".join(f"{name} {reason}" for name, reason in left_out.items())
            raise InputError(f"{what}: no column can be a target ({reasons}); add a column y_<task> for each task")
        self.splits = tuple(self._rows)
        self.dim = z.shape[1]
        self.meta = self._describe(dict(meta or {}), "given" if split is not None else SPLIT_RULE, left_out)

    def _describe(self, meta: dict[str, Any], split_rule: str, left_out: dict[str, str]) -> dict[str, Any]:
        columns = [part for name in sorted(self._targets) for part in (name, self._targets[name])]
        lists = [part for name, rows in self._rows.items() for part in (name, self._ids[rows])]
        prints = {"dataset": fingerprint_arrays(self._ids, *columns), "split": fingerprint_arrays(*lists)}
        provenance: dict[str, Any] = {"split_rule": split_rule, **({"left_out": left_out} if left_out else {})}
        return {
            **meta,
            "fingerprints": {**prints, **meta.get("fingerprints", {})},
            "provenance": {**provenance, **meta.get("provenance", {})},
        }

    def num_rows(self, split: str) -> int:
        """Number of samples of `split`."""
        return len(self._rows[split])

    def read_z(self, split: str, start: int, stop: int) -> np.ndarray:
        """Rows of z: a new float32 [stop - start, D]."""
        return self._z.take(self._rows[split][start:stop])

    def read_logits(self, split: str, task: str, start: int, stop: int) -> np.ndarray | None:
        """None: plain tables come without the encoder's own outputs."""
        return None

    def ids(self, split: str) -> np.ndarray:
        """Sample ids: str [N]."""
        return self._ids[self._rows[split]]

    def targets(self, split: str, task: str) -> np.ndarray:
        """Targets: int64 or float64 [N]."""
        return self._targets[task][self._rows[split]]

    def unstored(self, split: str) -> dict[str, int]:
        """Nothing is missing: each reader has compared the sizes that it found."""
        return {}

    def close(self) -> None:
        """Release what z is read from."""
        self._z.close()


def check_matrix(z: Matrix, what: str) -> None:
    """Refuse what is no table of numbers.

    Raises:
        InputError: not numbers of shape [samples, features], or none.
    """
    if len(z.shape) != 2 or z.dtype.kind not in "fiu" or 0 in z.shape:
        raise InputError(f"{what}: z is {z.dtype} of shape {z.shape}; expected numbers of shape [samples, features]")


def split_by_id(ids: np.ndarray) -> np.ndarray:
    """`SPLIT_RULE`: the split of a sample depends on its id alone, not on the others nor on the order."""
    share = np.array([int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64 for name in ids])
    return np.where(share < 0.7, "train", np.where(share < 0.8, "val", "test"))
