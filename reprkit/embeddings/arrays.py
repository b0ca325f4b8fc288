"""Embeddings held in memory: plain arrays of anyone's making, checked and brought into the common form."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reprkit.embeddings.fingerprint import fingerprint_arrays
from reprkit.embeddings.format import SPLITS
from reprkit.embeddings.rows import check_ids, check_split_names, check_targets
from reprkit.errors import InputError
from reprkit.tasks import MISSING_CLASS, Task

SPLIT_RULE = "train 70 %, val 10 %, test 20 % by SHA-256 of the id"


class ArraySource:
    """Rows of one table of arrays, seen split by split.

    Args:
        z: [N, D] numbers.
        targets: task name -> [N]. Integers are class indices (-1 = missing), floats real values (NaN = missing).
        tasks: what the targets are; inferred where not given.
        ids: [N] unique names; row numbers if not given.
        split: [N] of `train`, `val`, `test`; if not given, `SPLIT_RULE`.
        what: names the arrays in error messages.
        meta: as of `Embeddings.meta`.
    """

    def __init__(
        self,
        z: np.ndarray,
        targets: Mapping[str, np.ndarray],
        *,
        tasks: Sequence[Task] = (),
        ids: Sequence[Any] | np.ndarray | None = None,
        split: Sequence[str] | np.ndarray | None = None,
        what: str,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        z = np.asarray(z)
        if z.ndim != 2 or z.dtype.kind not in "fiu" or 0 in z.shape:
            raise InputError(
                f"{what}: z is {z.dtype} of shape {z.shape}; expected numbers of shape [samples, features]"
            )
        with np.errstate(over="ignore"):
            self._z = z.astype(np.float32, copy=False)
        names = _column(ids, len(z), "ids", what)
        check_ids(names.tolist(), what)
        split_column = split_by_id(names) if split is None else _column(split, len(z), "split", what)
        check_split_names(np.unique(split_column).tolist(), what)
        self._rows = {name: rows for name in SPLITS if len(rows := np.flatnonzero(split_column == name))}
        self._ids = names
        known = {task.name: task for task in tasks}
        if not targets or set(known) - set(targets):
            raise InputError(f"{what}: has targets for {sorted(targets)}; add an array y_<task> for each task")
        train = self._rows.get("train", np.arange(len(z)))
        self.tasks = {
            name: known.get(name) or infer_task(name, np.asarray(values), len(z), train, what)
            for name, values in targets.items()
        }
        self._targets = {name: check_targets(task, targets[name], len(z), what) for name, task in self.tasks.items()}
        self.splits = tuple(self._rows)
        self.dim = z.shape[1]
        self.meta = self._describe(dict(meta or {}), ruled=split is None)

    def _describe(self, meta: dict[str, Any], *, ruled: bool) -> dict[str, Any]:
        columns = [part for name in sorted(self._targets) for part in (name, self._targets[name])]
        lists = [part for name, rows in self._rows.items() for part in (name, self._ids[rows])]
        prints = {"dataset": fingerprint_arrays(self._ids, *columns), "split": fingerprint_arrays(*lists)}
        provenance = {"split_rule": SPLIT_RULE if ruled else "given"}
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
        return self._z[self._rows[split][start:stop]]

    def read_logits(self, split: str, task: str, start: int, stop: int) -> np.ndarray | None:
        """None: plain arrays come without the encoder's own outputs."""
        return None

    def ids(self, split: str) -> np.ndarray:
        """Sample ids: str [N]."""
        return self._ids[self._rows[split]]

    def targets(self, split: str, task: str) -> np.ndarray:
        """Targets: int64 or float64 [N]."""
        return self._targets[task][self._rows[split]]

    def unstored(self, split: str) -> dict[str, int]:
        """Nothing is missing in memory."""
        return {}

    def close(self) -> None:
        """Nothing to release."""


def _column(values: Any, rows: int, name: str, what: str) -> np.ndarray:
    column = np.arange(rows) if values is None else np.asarray(values)
    if column.shape != (rows,) or column.dtype.kind not in "USiu":
        raise InputError(f"{what}: {name} is {column.dtype} of shape {column.shape}; expected text of shape ({rows},)")
    try:
        return np.array([str(item, "utf-8") if isinstance(item, bytes) else str(item) for item in column.tolist()])
    except UnicodeDecodeError:
        raise InputError(f"{what}: {name} is not UTF-8 text; save it as str (dtype U)") from None


def split_by_id(ids: np.ndarray) -> np.ndarray:
    """`SPLIT_RULE`: the split of a sample depends on its id alone, not on the others nor on the order."""
    share = np.array([int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64 for name in ids])
    return np.where(share < 0.7, "train", np.where(share < 0.8, "val", "test"))


def infer_task(name: str, values: np.ndarray, rows: int, train: np.ndarray, what: str) -> Task:
    """Integers make a classification task, floats a regression task standardised on the training rows."""
    if values.shape != (rows,) or values.dtype.kind not in "biuf":
        raise InputError(
            f"{what}: y_{name} is {values.dtype} of shape {values.shape}; expected class indices (int) or real values "
            f"(float) of shape ({rows},)"
        )
    try:
        if values.dtype.kind == "f":
            known = values[train][np.isfinite(values[train])].astype(np.float64)
            spread = float(known.std()) if len(known) else 0.0
            mean = float(known.mean()) if len(known) else 0.0
            return Task(name, "regression", 1, mean=mean, std=spread if spread > 0 else 1.0)
        classes = int(values.max(initial=MISSING_CLASS)) + 1
        if classes > max(rows, 2):
            raise InputError(
                f"task '{name}': class index {classes - 1} for {rows} samples; number the classes 0 to C-1"
            )
        return Task(name, "classification", classes)
    except InputError as error:
        raise InputError(f"{what}: {error}") from None
