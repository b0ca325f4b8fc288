"""Two-way bootstrap of losses over predictors and samples, streamed.

A resample draws predictors with replacement and weighs every sample by an independent Poisson(1) count, the limit of
drawing samples with replacement: the counts can be drawn block by block, and one product of a block of losses with its
counts serves all resamples. The same seed gives the same counts for every task and encoder with as many samples.

What a predictor and a sample have in common only with each other (the interaction) is counted three times (A. B. Owen,
The pigeonhole bootstrap, Annals of Applied Statistics 1, 2007): where it dominates, which takes tiny effects of both,
intervals are up to 1.7 times too wide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reprkit.analysis.bootstrap import student_factor


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of resampled values [B]; NaN (a resample that drew no sample) does not count."""
    tail = (1 - level) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return float(low), float(high)


def predictor_shares(rng: np.random.RandomState, drawn: int, resamples: int, *, of: int) -> np.ndarray:
    """[B, M] share of each of M predictors among `drawn` that are drawn with replacement; rows sum to 1.

    A percentile interval over few predictors is too narrow: the resamples vary by (M - 1) / M of the variance, about a
    mean whose own spread is estimated. Deviations from equal shares are therefore stretched so that the interval is
    Student's where predictors alone vary, and on the wide side where samples vary as well.
    """
    equal = 1 / of
    shares = rng.multinomial(drawn, np.full(of, equal), resamples) / drawn
    return equal + student_factor(of) * (shares - equal)


class TwoWayBootstrap:
    """Accumulates losses block by block; then gives means and their resamples.

    Args:
        predictors: M.
        resamples: B.
        seed: of the predictors' draws.
        views: names of the loss matrices [M, n] that each block brings.
        rows_per_unit: samples to each one that is drawn: 1, or the size of a group.
    """

    def __init__(
        self, predictors: int, resamples: int, seed: int, *, views: Sequence[str], rows_per_unit: float = 1.0
    ) -> None:
        rng = np.random.RandomState([seed, 1])
        self.shares = predictor_shares(rng, predictors, resamples, of=predictors)
        self.rows_per_unit = rows_per_unit
        self.count = 0
        self.weight = np.zeros(resamples)
        self.sums = {view: np.zeros(predictors) for view in views}
        self.weighted = {view: np.zeros((predictors, resamples)) for view in views}
        self.single: dict[str, tuple[float, np.ndarray]] = {}

    @staticmethod
    def sample_weights(resamples: int, seed: int) -> Callable[[int], np.ndarray]:
        """A function that draws the [n, B] float32 counts of the next n samples; block sizes do not matter."""
        rng = np.random.RandomState([seed, 2])
        return lambda rows: rng.poisson(1.0, (rows, resamples)).astype(np.float32)

    @staticmethod
    def group_weights(groups: np.ndarray, resamples: int, seed: int) -> Callable[[int], np.ndarray]:
        """Like `sample_weights`, with one count for all samples of a group: samples of a group come and go together.

        Groups numbered in the order in which they first appear, one a sample, give the counts of `sample_weights`.

        Args:
            groups: [N] numbers from 0; -1 is never drawn.
            resamples: B.
            seed: of the counts.
        """
        draw = TwoWayBootstrap.sample_weights(resamples, seed)
        total, place = int(groups.max(initial=-1)) + 1, 0
        counts = np.empty((total, resamples), dtype=np.uint8)
        for start in range(0, total, 4096):
            counts[start : start + 4096] = draw(len(counts[start : start + 4096]))

        def of_next(rows: int) -> np.ndarray:
            nonlocal place
            own = groups[place : place + rows]
            place += rows
            return counts[own].astype(np.float32) * (own >= 0)[:, None]

        return of_next

    def add(
        self,
        weights: np.ndarray,
        valid: np.ndarray,
        losses: Mapping[str, np.ndarray],
        single: Mapping[str, np.ndarray],
    ) -> None:
        """Add a block.

        Args:
            weights: [n, B] counts.
            valid: [n] samples that take part; all losses of the others must be 0.
            losses: view -> [M, n].
            single: name -> [n] losses of one predictor each.
        """
        self.count += int(valid.sum())
        self.weight += valid.astype(np.float32) @ weights
        for view, block in losses.items():
            self.sums[view] += block.sum(axis=1, dtype=np.float64)
            self.weighted[view] += block @ weights
        for name, values in single.items():
            total, resampled = self.single.get(name, (0.0, np.zeros(len(self.weight))))
            self.single[name] = total + float(values.sum()), resampled + values @ weights

    def dummy_losses(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """view -> [M] mean losses, and view -> [B] resampled means over predictors and samples."""
        means = {view: sums / self.count for view, sums in self.sums.items()}
        return means, {view: np.einsum("bm,mb->b", self.shares, self.per_predictor(view)) for view in self.sums}

    def per_predictor(self, view: str) -> np.ndarray:
        """[M, B] mean loss of each predictor on the samples of each resample."""
        return self._resampled(self.sums[view][:, None], self.weighted[view])

    def single_loss(self, name: str) -> tuple[float, np.ndarray]:
        """Mean loss of a single predictor, and its resamples [B] over samples."""
        total, resampled = self.single[name]
        return total / self.count, self._resampled(total, resampled)

    def _resampled(self, total: float | np.ndarray, weighted: np.ndarray) -> np.ndarray:
        """Resampled means; NaN where no sample was drawn, which happens with a handful of them.

        Their deviations are stretched as those of predictors' shares, so that few samples, or few groups of them, give
        Student's interval.
        """
        mean = total / self.count
        drawn = np.where(self.weight > 0, self.weight, np.nan)
        return mean + student_factor(round(self.count / self.rows_per_unit)) * (weighted / drawn - mean)


@dataclass(frozen=True)
class Counts:
    """How often each test row is drawn in each resample.

    Attributes:
        groups: [N] number of each row's group, -1 where it is never drawn; None if every row is its own.
        resamples: B.
        seed: of the counts.
    """

    groups: np.ndarray | None
    resamples: int
    seed: int

    def stream(self) -> Callable[[int], np.ndarray]:
        """A function that draws the [n, B] counts of the next n rows, from the first on."""
        if self.groups is None:
            return TwoWayBootstrap.sample_weights(self.resamples, self.seed)
        return TwoWayBootstrap.group_weights(self.groups, self.resamples, self.seed)

    @property
    def rows_per_unit(self) -> float:
        """Rows to each one that is drawn, on average."""
        if self.groups is None:
            return 1.0
        return float(np.count_nonzero(self.groups >= 0) / (self.groups.max() + 1))


class Lead:
    """By how much single predictors beat a reference on the same samples, in standard errors.

    Args:
        count: number of samples that take part.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.moments: dict[str, np.ndarray] = {}

    def add(self, view: str, lead: np.ndarray) -> None:
        """Add the loss of the reference minus that of M predictors, [M, n]; 0 for samples that take no part."""
        lead = lead.astype(np.float64)
        self.moments[view] = self.moments.get(view, 0.0) + np.stack([lead.sum(axis=1), (lead**2).sum(axis=1)])

    def largest_z(self) -> float:
        """The largest mean lead among all predictors and views, over its standard error."""
        largest = -np.inf
        for total, squares in self.moments.values():
            mean = total / self.count
            variance = np.maximum(squares / self.count - mean**2, 1e-12)
            largest = max(largest, float((mean / np.sqrt(variance / self.count)).max()))
        return largest
