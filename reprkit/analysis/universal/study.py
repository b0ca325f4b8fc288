"""What every head of a universality measurement shares: the rows, their moments, and the best predictor found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.rows import Rows, stratified_rows
from reprkit.analysis.universal.optimal import Linear, Problem, choose_c, polish, principal
from reprkit.analysis.universal.ridge import Moments, choose_ridge, regression_moments
from reprkit.analysis.universal.targets import Target, losses, mean_loss, valid
from reprkit.analysis.workspace import Workspace

SUBSAMPLE = 1 << 16
"""Training rows of a streamed file on which C and two-layer predictors are chosen; of its val rows as many."""

Predictor = Callable[[NDArray], NDArray[np.float64]]
"""Centred rows [n, D] -> scores [K, n]."""


@dataclass(frozen=True)
class Star:
    """The predictor with the lowest validation loss: an estimate, from above, of the optimal one.

    Attributes:
        family: linear, mlp or prior.
        predictor: of centred rows.
        linear: the linear fit, chosen or not; its C and its certificate are reported.
    """

    family: str
    predictor: Predictor
    linear: Linear


class Study:
    """Targets, moments and optimal predictors of some tasks of one file.

    Attributes:
        ws: the rows.
        targets: task -> its targets.
        scored: [N_test] test rows that may be scored; None for all.
    """

    def __init__(self, ws: Workspace, names: Sequence[str], *, scored: NDArray[np.bool_] | None = None) -> None:
        self.ws = ws
        self.targets = {name: Target.of(ws, name, scored=scored) for name in names}
        self._linear: dict[str, tuple[Linear, float]] = {}

    @property
    def names(self) -> list[str]:
        """Tasks that can be measured."""
        return [name for name, target in self.targets.items() if not target.problem]

    def remark(self, name: str, head: str) -> str:
        """What a reader of a task's row must know, or nothing."""
        chosen = ["C"] * self.targets[name].discrete + ["mlp"] * (head == "mlp")
        total = self.ws.num_rows("train")
        if self.ws.in_memory or total <= SUBSAMPLE or not chosen:
            return self.targets[name].remark
        return f"{self.targets[name].remark}; {' and '.join(chosen)} chosen on {SUBSAMPLE} of {total} train rows"

    @property
    def selection(self) -> str:
        """What predictors are chosen on."""
        return "a fifth of train" if self.ws.carved else "val"

    @property
    def rms(self) -> float:
        """Of the centred train rows."""
        return self.ws.statistics.rms

    @cached_property
    def moments(self) -> dict[str, Moments]:
        """Task -> second moments of its training rows and values, for the real-valued ones that can be measured."""
        real = {name: self.targets[name].values["train"] for name in self.names if not self.targets[name].discrete}
        return regression_moments(self.ws, real) if real else {}

    def star(self, name: str, *, mlp_seed: int | None = None) -> Star:
        """The best of the constant predictor, the linear fit and, if a seed is given, two-layer predictors."""
        target, (linear, loss) = self.targets[name], self.linear(name)
        found: dict[str, tuple[Predictor, float]] = {"linear": (linear, loss)}
        if mlp_seed is not None and self.rms:  # a constant z leaves nothing to train on
            found["mlp"] = self._two_layers(name, mlp_seed)
        family = min(found, key=lambda key: found[key][1])
        if self._guess_loss(target) <= found[family][1]:
            return Star("prior", self.guess(name), linear)
        return Star(family, found[family][0], linear)

    def linear(self, name: str) -> tuple[Linear, float]:
        """The linear optimum of a task, and its validation loss."""
        if name not in self._linear:
            self._linear[name] = self._fit_linear(name)
        return self._linear[name]

    def guess(self, name: str) -> Linear:
        """The best constant predictor: the training frequencies, or the training mean."""
        target = self.targets[name]
        return Linear(np.zeros((target.fitted, self.ws.dim)), target.guess)

    def losses(self, predictors: Mapping[str, Predictor], split: str) -> dict[str, NDArray[np.float64]]:
        """Task -> [N] losses of its predictor on a split, 0 where a target is missing: one pass."""
        y = {name: self.targets[name].ranked(split) for name in predictors}
        found = {name: np.zeros(len(values)) for name, values in y.items()}
        for where, block in self.ws.centred(split).blocks():
            for name, predictor in predictors.items():
                found[name][where] = losses(predictor(block), y[name][where])
        return found

    def _fit_linear(self, name: str) -> tuple[Linear, float]:
        target = self.targets[name]
        if not self.rms:
            return self.guess(name), self._guess_loss(target)
        if not target.discrete:
            return choose_ridge(self.moments[name], self.rms, self.ws, target.values["val"])
        eigen = principal(self.ws.statistics)
        rows, y = self._sample("train", name)
        val_rows, val_y = self._sample("val", name)
        start, _ = choose_c(Problem(rows, y, target.fitted, self.rms, eigen), val_rows, val_y)
        whole = Problem(self.ws.centred("train"), target.ranked("train"), target.fitted, self.rms, eigen)
        fit = polish(whole, start.c, start)
        return fit, mean_loss(np.concatenate([fit(block) for _, block in val_rows.blocks()], axis=1), val_y)

    def _two_layers(self, name: str, seed: int) -> tuple[Predictor, float]:
        """Trained on principal components; its first layer is then turned back to centred z."""
        from reprkit.analysis.universal.perceptron import choose_mlp

        values, vectors = self.ws.statistics.eigen
        components = vectors[:, : np.count_nonzero(values)] / self.rms

        def inputs(split: str) -> tuple[NDArray, NDArray]:
            rows, y = self._sample(split, name)
            known = np.flatnonzero(valid(y))
            x = [(block.astype(np.float64) @ components).astype(np.float32) for _, block in rows.blocks()]
            return np.concatenate(x)[known], y[known]

        found = choose_mlp(*inputs("train"), *inputs("val"), self.targets[name].fitted, seed=seed)
        return replace(found, first=(found.first @ components.T).astype(np.float32)).logits, found.val_loss

    def _sample(self, split: str, name: str) -> tuple[Rows, NDArray]:
        """Centred rows and ranked targets of a split: all of them, or a subsample of a streamed one."""
        y = self.targets[name].ranked(split)
        if self.ws.in_memory or len(y) <= SUBSAMPLE:
            return self.ws.centred(split), y
        chosen = stratified_rows(y, SUBSAMPLE)
        return Rows.of(self.ws.rows(split, chosen) - self.ws.mean.astype(np.float32)), y[chosen]

    def _guess_loss(self, target: Target) -> float:
        y = target.ranked("val")
        return mean_loss(np.repeat(target.guess[:, None], len(y), axis=1), y)
