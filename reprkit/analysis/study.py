"""What every head of a universality measurement shares: the rows, their statistics, and the best predictor found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from reprkit.analysis import linalg
from reprkit.analysis.moments import sufficient_statistics
from reprkit.analysis.optimal import Basis, Choice, choose_linear, cross_entropies
from reprkit.analysis.probes.data import carve_by_id
from reprkit.errors import InputError

if TYPE_CHECKING:
    from reprkit.embeddings import Embeddings

BLOCK_ROWS = 4096


def row_blocks(z: np.ndarray, rows: int = BLOCK_ROWS) -> Iterator[np.ndarray]:
    """Views of at most `rows` rows of an array, in order."""
    return (z[part] for part in linalg.row_slices(len(z), rows))


def stratified_rows(targets: np.ndarray, limit: int) -> np.ndarray:
    """Sorted indices of at most `limit` rows with a target, each class in its share; the same on every call."""
    valid = np.flatnonzero(targets >= 0)
    if len(valid) > limit:
        shuffled = np.random.RandomState(0).permutation(valid)
        by_class = shuffled[np.argsort(targets[shuffled], kind="stable")]
        valid = by_class[np.arange(limit) * len(by_class) // limit]
    return np.sort(valid)


def prior_losses(counts: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """[N] losses in nats of predicting the class frequencies `counts` [C]; 0 where a target is missing."""
    with np.errstate(divide="ignore"):
        surprise = np.log(counts.sum()) - np.log(counts)
    return np.where(targets >= 0, surprise[np.maximum(targets, 0)], 0.0)


@dataclass(frozen=True)
class Part:
    """Rows of one split: z [N, D], and per task the class indices [N] (-1: not to be used)."""

    z: np.ndarray
    targets: dict[str, np.ndarray]

    def take(self, rows: np.ndarray) -> Part:
        """Some of the rows."""
        return Part(self.z[rows], {name: y[rows] for name, y in self.targets.items()})


@dataclass(frozen=True)
class Star:
    """The predictor with the lowest validation loss: an estimate, from above, of the optimal one.

    Attributes:
        family: linear, mlp or prior.
        val_losses: [N_val] in nats; 0 where a target is missing.
        losses: [N_test], the same on the test split.
    """

    family: str
    val_losses: np.ndarray
    losses: np.ndarray


class Study:
    """Splits, training statistics and linear optima of some discrete tasks.

    Attributes:
        classes: task -> number of classes.
        train: all training rows; `fit` and `val` are what predictors are fitted and chosen on. They are the train and
            val splits; without a val split they are parts of train, four fifths and one fifth.
        test: the rows that are scored.
        statistics: of `train`.
        mean: [D], of `train`, rounded to float32: what float32 blocks are centred by.
        remarks: task -> what a reader of its row must know, or nothing.
        selection: where `val` comes from.
    """

    def __init__(self, embeddings: Embeddings, names: Sequence[str]) -> None:
        self.classes = {name: embeddings.tasks[name].num_outputs for name in names}
        self.train = self._load(embeddings, "train")
        self.test = self._load(embeddings, "test")
        counted = {name: (self.train.targets[name], count) for name, count in self.classes.items()}
        self.statistics = sufficient_statistics(row_blocks(self.train.z), counted)
        self.mean = self.statistics.mean.astype(np.float32).astype(np.float64)
        if "val" in embeddings.splits:
            self.selection, self.fit, self.val = "val", self.train, self._load(embeddings, "val")
        else:
            held = carve_by_id(embeddings.ids("train"))  # the same samples that the probes hold out
            self.selection = "a fifth of train"
            self.fit, self.val = self.train.take(np.flatnonzero(~held)), self.train.take(np.flatnonzero(held))
        self.counts = {
            name: np.bincount(y[y >= 0], minlength=self.classes[name]) for name, y in self.fit.targets.items()
        }
        self._linear: dict[str, Choice] = {}
        self.remarks = dict.fromkeys(names, "")
        for name in names:
            self._drop_unseen(name)

    def _load(self, embeddings: Embeddings, split: str) -> Part:
        z = embeddings.z(split)
        where = getattr(embeddings, "path", embeddings.label)
        if not len(z):
            raise InputError(f"{where}: split '{split}' has no rows; embed a larger one")
        if not all(np.isfinite(block.sum(dtype=np.float64)) for block in row_blocks(z)):
            raise InputError(f"{where}: the embeddings of split '{split}' hold NaN or infinity; embed them again")
        return Part(z, {name: embeddings.targets(split, name) for name in self.classes})

    def _drop_unseen(self, name: str) -> None:
        """No trained predictor can foresee a class without a training row: such val and test rows are left out."""
        unseen = np.flatnonzero(self.counts[name] == 0)
        for part in (self.val, self.test):
            bad = np.isin(part.targets[name], unseen)
            part.targets[name] = np.where(bad, -1, part.targets[name])
        if bad.any():
            self.remarks[name] = f"; left out {int(bad.sum())} test rows of classes that train lacks"

    def problem(self, name: str) -> str:
        """Why the task cannot be measured, or nothing."""
        if self.num_seen(name) < 2:
            return "one class: the training rows hold no second one"
        for part, split in ((self.val, "validation"), (self.test, "test")):
            if not (part.targets[name] >= 0).any():
                return f"no targets in the {split} rows"
        return ""

    def num_seen(self, name: str) -> int:
        """Number of classes that occur in the fit rows."""
        return int(np.count_nonzero(self.counts[name]))

    @cached_property
    def basis(self) -> Basis:
        """Principal components of the training rows."""
        return Basis.of(self.statistics)

    @cached_property
    def fit_x(self) -> np.ndarray:
        """[N_fit, r] components of the fit rows, float64."""
        return self.basis(self.fit.z)

    @cached_property
    def val_x(self) -> np.ndarray:
        """[N_val, r] components of the val rows, float64."""
        return self.basis(self.val.z)

    @cached_property
    def test_x(self) -> np.ndarray:
        """[N_test, r] components of the test rows, float64."""
        return self.basis(self.test.z)

    def ranks(self, name: str) -> np.ndarray:
        """[C] index of each class among those that occur in the fit rows, in order; -1 for the others."""
        seen = self.counts[name] > 0
        return np.where(seen, np.cumsum(seen) - 1, -1)

    def fitting_rows(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Components and class ranks of the fit rows and of the val rows that have a target."""
        rank, made = self.ranks(name), []
        for x, y in ((self.fit_x, self.fit.targets[name]), (self.val_x, self.val.targets[name])):
            rows = y >= 0
            made += [x if rows.all() else x[rows], rank[y[rows]]]
        return made[0], made[1], made[2], made[3]

    def linear(self, name: str) -> Choice:
        """The linear optimum of a task."""
        if name not in self._linear:
            rows = self.fitting_rows(name)
            self._linear[name] = choose_linear(*rows, self.num_seen(name), variances=self.basis.variances)
        return self._linear[name]

    def star(self, name: str, *, mlp_seed: int | None = None) -> Star:
        """The best of the constant predictor, the linear fit and, if a seed is given, two-layer predictors."""
        chosen = self.linear(name)
        predictors = {"linear": (chosen.fit.logits, chosen.val_loss)}
        if mlp_seed is not None and self.statistics.rms:  # a constant z leaves nothing to train on
            from reprkit.analysis.perceptron import choose_mlp

            found = choose_mlp(*self.fitting_rows(name), self.num_seen(name), seed=mlp_seed)
            predictors["mlp"] = (found.logits, found.val_loss)
        family = min(predictors, key=lambda key: predictors[key][1])
        val_y, test_y = self.val.targets[name], self.test.targets[name]
        constant = prior_losses(self.counts[name], val_y)
        if constant.sum() / np.count_nonzero(val_y >= 0) <= predictors[family][1]:
            return Star("prior", constant, prior_losses(self.counts[name], test_y))

        def losses(x: np.ndarray, y: np.ndarray) -> np.ndarray:
            out, rows = np.zeros(len(y)), np.flatnonzero(y >= 0)
            out[rows] = cross_entropies(predictors[family][0](x[rows]), self.ranks(name)[y[rows]])
            return out

        return Star(family, losses(self.val_x, val_y), losses(self.test_x, test_y))
