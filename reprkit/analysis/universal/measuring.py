"""The passes over val and test that universality is made of, and the scores that follow, each with its resamples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from reprkit.analysis.universal.dummies import Dummies
from reprkit.analysis.universal.gauges import Gauge, fit_gauge, make_views
from reprkit.analysis.universal.intervals import Counts, Lead, TwoWayBootstrap, interval
from reprkit.analysis.universal.scoring import dummy_losses
from reprkit.analysis.universal.study import Star, Study
from reprkit.recipe import UniversalityConfig

MAX_CERTIFICATE = 1e-4
"""A linear fit whose training objective may be this far (nats, or squared units) from its optimum has failed."""

BEATEN = 4.0
"""Standard errors, paired on val, by which a dummy must beat L* before the optimiser counts as failed. There are
hundreds of dummies to look at, so that 2 would be chance."""


@dataclass(frozen=True)
class Score:
    """A number and its resamples [B]."""

    value: float
    resamples: np.ndarray

    def interval(self) -> tuple[float, float]:
        """Ends of the 95% interval."""
        return interval(self.resamples)

    def __sub__(self, other: Score) -> Score:
        return Score(self.value - other.value, self.resamples - other.resamples)

    def __truediv__(self, other: Score) -> Score:
        with np.errstate(divide="ignore", invalid="ignore"):
            return Score(float(np.divide(self.value, other.value)), self.resamples / other.resamples)


@dataclass(frozen=True)
class Measured:
    """What one task's dummies and best predictor lost on the test rows.

    Attributes:
        gauge: what train decided about each dummy.
        star: the best predictor.
        boot: losses on test: views `raw`, `rms1` and, for classes, `tau`; single losses `star` and `prior`.
        beaten: True if an untrained dummy is clearly better than the star on val.
    """

    gauge: Gauge
    star: Star
    boot: TwoWayBootstrap
    beaten: bool

    def single(self, name: str) -> Score:
        """Mean loss of the `star` or the `prior`."""
        return Score(*self.boot.single_loss(name))

    def dummy(self, view: str) -> Score:
        """Mean loss over dummies; without a `tau` of its own (real values) that is `rms1`."""
        means, resampled = self.boot.dummy_losses()
        view = view if view in means else "rms1"
        return Score(float(means[view].mean()), resampled[view])

    @property
    def gap(self) -> Score:
        """L_dummy - L*, on raw z."""
        return self.dummy("raw") - self.single("star")

    @property
    def headroom(self) -> Score:
        """H(y) - L*."""
        return self.single("prior") - self.single("star")

    def relative(self, view: str) -> Score:
        """(H(y) - L_dummy) / (H(y) - L*) on the view `rms1` or `tau`."""
        return (self.single("prior") - self.dummy(view)) / self.headroom

    @property
    def status(self) -> str:
        """`ok`, `unresolved`, `no_headroom` or `optimiser_failed`: see `universality`."""
        if self.beaten or not self.star.linear.certificate <= MAX_CERTIFICATE:
            return "optimiser_failed"
        if self.headroom.interval()[0] <= 0:
            return "no_headroom"
        return "ok" if self.gap.interval()[0] > 0 else "unresolved"


def measure(
    study: Study,
    dummies: Dummies,
    config: UniversalityConfig,
    counts: Counts,
    *,
    names: Sequence[str],
    done: Callable[[], object] = lambda: None,
) -> dict[str, Measured]:
    """Fit gauges and stars on train, judge the stars on val, and score everything on test: task -> what was found.

    Args:
        study: the rows and targets.
        dummies: M predictors with enough outputs for every task.
        config: number of resamples and seed.
        counts: how often each test row is drawn in each resample; rows of a group count as one when a dummy is said to
            beat the star.
        names: tasks to measure.
        done: called after each task's star is found.
    """
    views = make_views(study, dummies)
    gauges = {name: fit_gauge(study, dummies, views, name) for name in names}

    def passes(split: str) -> Iterator[tuple[slice, dict[tuple[str, str], np.ndarray]]]:
        wanted = {
            (name, view): request
            for name in names
            for view, request in gauges[name].requests(views, study.targets[name].values[split]).items()
        }
        for where, losses in dummy_losses(study.ws.blocks(split), dummies, list(wanted.values()), mean=study.ws.mean):
            yield where, dict(zip(wanted, losses, strict=True))

    stars = {}
    for name in names:
        stars[name] = study.star(name, mlp_seed=config.seed if dummies.head == "mlp" else None)
        done()
    predictors = {name: star.predictor for name, star in stars.items()}

    on_val = study.losses(predictors, "val")
    lead = {name: Lead(study.targets[name].count("val")) for name in names}
    for where, losses in passes("val"):
        for (name, view), values in losses.items():
            lead[name].add(view, on_val[name][where] - values)

    star_losses = study.losses(predictors, "test")
    prior_losses = study.losses({name: study.guess(name) for name in names}, "test")
    boots: dict[str, TwoWayBootstrap] = {}
    draw = counts.stream()
    for where, losses in passes("test"):
        weights = draw(where.stop - where.start)
        for name in names:
            own = {view: values for (task, view), values in losses.items() if task == name}
            if name not in boots:
                boots[name] = TwoWayBootstrap(
                    dummies.count, config.bootstrap, config.seed, views=list(own), rows_per_unit=counts.rows_per_unit
                )
            single = {"star": star_losses[name][where], "prior": prior_losses[name][where]}
            boots[name].add(weights, study.targets[name].valid("test")[where], own, single)
    limit = BEATEN * np.sqrt(counts.rows_per_unit)
    return {
        name: Measured(gauges[name], stars[name], boots[name], bool(lead[name].largest_z() > limit)) for name in names
    }
