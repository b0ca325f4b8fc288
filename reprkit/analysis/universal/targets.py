"""The targets of one task as universality sees them: what counts, what is left out, and what guessing costs.

Losses are cross-entropy in nats for classes, and squared error in standardised units for real values: those are
standardised by the mean and standard deviation of the training rows, so that guessing the mean costs about 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.workspace import SPLITS, Workspace


@dataclass(frozen=True)
class Target:
    """One task's targets on every split.

    Attributes:
        name: of the task.
        discrete: True for class indices.
        outputs: K: number of classes, or 1 for real values.
        values: split -> [N] int64 class indices (-1: takes no part), or standardised float64 (NaN: takes no part).
        counts: [K] training rows of each class, or [1]: of all that have a value.
        problem: why the task cannot be measured, or nothing.
        remark: what a reader of its row must know, or nothing.
    """

    name: str
    discrete: bool
    outputs: int
    values: Mapping[str, NDArray]
    counts: NDArray[np.int64]
    problem: str = ""
    remark: str = ""

    @classmethod
    def of(cls, ws: Workspace, name: str, *, scored: NDArray[np.bool_] | None = None) -> Target:
        """Read the targets of a task; `scored` [N_test] leaves out test rows."""
        task = ws.tasks[name]
        values = {split: ws.targets(split, name) for split in SPLITS}
        if scored is not None:
            values["test"][~scored] = -1 if task.is_discrete else np.nan
        if task.is_discrete:
            return _discrete(name, task.num_outputs, values)
        return _real(name, values)

    def valid(self, split: str) -> NDArray[np.bool_]:
        """[N] rows that take part."""
        return valid(self.values[split])

    def count(self, split: str) -> int:
        """Number of rows that take part."""
        return int(self.valid(split).sum())

    @property
    def fitted(self) -> int:
        """Outputs of a trained predictor: the classes that occur in train, in order; or 1."""
        return int(np.count_nonzero(self.counts)) if self.discrete else 1

    def ranked(self, split: str) -> NDArray:
        """[N] targets in terms of the outputs of a trained predictor."""
        y = self.values[split]
        if not self.discrete:
            return y
        seen = self.counts > 0
        ranks = np.where(seen, np.cumsum(seen) - 1, -1)
        return np.where(y >= 0, ranks[np.maximum(y, 0)], -1)

    @property
    def guess(self) -> NDArray[np.float64]:
        """Scores [K'] of the best constant predictor over the fitted outputs: log frequencies, or the mean, 0."""
        seen = self.counts[self.counts > 0]
        return np.log(seen / seen.sum()) if self.discrete else np.zeros(1)


def _discrete(name: str, classes: int, values: dict[str, NDArray]) -> Target:
    """No trained predictor can foresee a class without a training row: such val and test rows are left out."""
    train = values["train"]
    counts = np.bincount(train[train >= 0], minlength=classes)
    unseen, left_out = np.flatnonzero(counts == 0), 0
    for split in ("val", "test"):
        bad = np.isin(values[split], unseen)
        values[split][bad] = -1
        left_out = int(bad.sum())
    remark = f"; left out {left_out} test rows of classes that train lacks" if left_out else ""
    few = "one class: the training rows hold no second one" if np.count_nonzero(counts) < 2 else ""
    return Target(name, True, classes, values, counts, few or _missing(values), remark)


def _real(name: str, values: dict[str, NDArray]) -> Target:
    known = values["train"][~np.isnan(values["train"])]
    mean, std = (float(known.mean()), float(known.std())) if len(known) else (0.0, 0.0)
    if not std > 1e-12 * abs(mean):
        few, std = "one value: the training rows hold no second one", 1.0
    else:
        few = ""
    values = {split: (y - mean) / std for split, y in values.items()}
    return Target(name, False, 1, values, np.array([len(known)]), few or _missing(values))


def _missing(values: Mapping[str, NDArray]) -> str:
    for split, words in (("val", "validation"), ("test", "test")):
        if not valid(values[split]).any():
            return f"no targets in the {words} rows"
    return ""


def valid(targets: NDArray) -> NDArray[np.bool_]:
    """[N] targets that exist."""
    return targets >= 0 if targets.dtype.kind in "iu" else ~np.isnan(targets)


def losses(scores: NDArray, targets: NDArray) -> NDArray[np.float64]:
    """[n] losses of a predictor's scores [K, n]: cross-entropy (integer targets) or squared error; 0 where missing."""
    out, rows = np.zeros(len(targets)), np.flatnonzero(valid(targets))
    if targets.dtype.kind in "iu":
        out[rows] = cross_entropies(scores[:, rows], targets[rows])
    else:
        out[rows] = (scores[0, rows] - targets[rows]) ** 2
    return out


def mean_loss(scores: NDArray, targets: NDArray) -> float:
    """Mean loss of scores [K, N] over the targets that exist."""
    return float(losses(scores, targets).sum() / np.count_nonzero(valid(targets)))


def cross_entropies(logits: NDArray, targets: NDArray) -> NDArray[np.float64]:
    """[N] losses in nats of logits [C, N] for class indices [N]."""
    peak = logits.max(axis=0)
    return np.log(np.exp(logits - peak).sum(axis=0)) + peak - logits[targets, np.arange(len(targets))]
