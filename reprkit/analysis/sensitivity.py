"""Sensitivity to the classifier: how far simple predictors differ on one representation.

The paper says of its Figure 3(a) that representations learned with DGR are "less sensitive to the choice of
classifiers". Here that is a number. Let a_p be the test accuracy of probe p (R2 for real targets), a_0 that of the
floor, which ignores the embedding, and a the mean of the a_p. The normalised scores

    s_p = (a_p - a_0) / (a - a_0)

say how much of what the average probe gains over guessing probe p gains: their mean is 1. Their standard deviation
over the probes is the sensitivity, 0 where every probe does equally well. It has no unit, stays the same if every probe
gains twice as much, and does not exist where the probes gain nothing. The mean stands below the bar and not the best:
the best of several noisy accuracies is too high on average, by more the closer they are. Sampling noise is taken off
(`dispersion`), so that a small test set does not make an encoder look sensitive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reprkit.analysis.bootstrap import bootstrap_means, percentile_interval
from reprkit.analysis.dispersion import UNKNOWN, Dispersion, dispersion, minus
from reprkit.analysis.groups import COLUMN as GROUP
from reprkit.analysis.groups import Codes, count_units, groups_of_table, some_groups, sum_groups
from reprkit.analysis.reporting.differences import UNCLEAR, pairs
from reprkit.analysis.reporting.headlines import FLOORS, HEAD
from reprkit.analysis.reporting.results import Results, predictions
from reprkit.analysis.reporting.seeds import over_seeds
from reprkit.errors import InputError
from reprkit.files import slug
from reprkit.tasks import Task

NO_HEADROOM = "no_headroom"
NO_CHOICE = (*FLOORS, HEAD, "tree_pca", "tree_rotated")
"""No classifiers to choose from: floors, the encoder's own head, and the tree on turned axes, which is its control."""

COLUMNS = [
    "encoder", "seed", "task", "value", "low", "high", "signed", "spread", "spread_low", "spread_high",
    "range", "regret", "mean", "floor", "best", "worst", "probes", "n_test", "status",
]  # fmt: skip
DIFFERENCE_COLUMNS = [
    "encoder", "seed", "task", "baseline", "value", "low", "high", "signed", "spread", "spread_low", "spread_high",
    "reading", "probes", "n_test", "status",
]  # fmt: skip
Predictions = Mapping[str, pd.DataFrame]


def sensitivity(
    predictions: Predictions,
    *,
    tasks: Mapping[str, Task],
    probes: Sequence[str] | None = None,
    label: str = "",
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> pd.DataFrame:
    """Spread over the probes of one encoder's scores, on every task.

    Args:
        predictions: task (or its file name) -> id, target, and one column a probe with the floor among them: of
            `ProbeResult.predictions` or `results.predictions`. Rows in any order; whole groups are resampled where a
            column `group` names them.
        tasks: task records by name; tasks without a table are left out.
        probes: columns to compare; None takes all but those of `NO_CHOICE`. Numbers compare only over the same probes.
        label, seed: of the encoder, for the table.
        resamples: of the test samples, the same for all encoders on the same samples.
        level: of the intervals.

    Returns:
        One row a task: encoder, seed, task; `value`, low, high: the sensitivity; `signed`: the same, but negative where
        the probes differ less than chance would make them, for averages over seeds; `spread`, spread_low, spread_high:
        the standard deviation between the probes in accuracy (or R2), likewise freed of noise; `range` (best - worst)
        and `regret` (range / (best - floor)) as observed, which chance widens; `mean` over the probes; `floor`; the
        names `best`, `worst`, `probes`; n_test; status: ok, or no_headroom, where the interval of the mean gain
        reaches 0 and `value` is NaN.

    Raises:
        InputError: a table lacks a column, holds an id twice, has fewer than two probes or two samples.
    """
    rows = []
    for task, table in _tables(predictions, tasks):
        ladder = _Ladder.of(table, task, probes)
        means = bootstrap_means(ladder.samples, resamples, groups=ladder.groups)
        relative, spread = ladder.relative(means, level), ladder.spread(means, level)
        scores, floor = ladder.means[:-1], ladder.means[-1]
        best, worst = int(scores.argmax()), int(scores.argmin())
        extent = scores[best] - scores[worst]
        regret = extent / (scores[best] - floor) if relative else np.nan
        known = relative or UNKNOWN
        numbers = (*known.ends, known.signed, *spread.ends, extent, regret, scores.mean(), floor)
        names = (ladder.probes[best], ladder.probes[worst], " ".join(ladder.probes))
        status = "ok" if relative else NO_HEADROOM
        rows.append((label, seed, task.name, *numbers, *names, len(ladder.samples), status))
    return pd.DataFrame(rows, columns=COLUMNS)


def sensitivity_difference(
    a: Predictions,
    b: Predictions,
    *,
    tasks: Mapping[str, Task],
    probes: Sequence[str] | None = None,
    labels: tuple[str, str] = ("", ""),
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> pd.DataFrame:
    """Sensitivity of the second encoder minus that of the first, on the same test samples.

    Args:
        a, b: predictions of the first and of the second encoder; tasks that only one holds are left out.
        labels: of the first and of the second.
        tasks, probes, seed, resamples, level: as in `sensitivity`.

    Returns:
        One row a task: encoder (the second), seed, task, baseline (the first); `value`, low, high: the difference,
        negative if the second is less sensitive; `signed`: that of the signed values, for averages over seeds; spread,
        spread_low, spread_high: that of the spreads in accuracy; reading (of `value`): less sensitive, more sensitive
        or not distinguishable; probes, n_test, status.

    Raises:
        InputError: as `sensitivity`, or the tables hold different ids, targets or probes.
    """
    rows = []
    theirs = {task.name: table for task, table in _tables(b, tasks)}
    for task, table in _tables(a, tasks):
        if task.name not in theirs:
            continue
        first, second = _Ladder.of(table, task, probes), _Ladder.of(theirs[task.name], task, probes)
        _check_paired(first, second, task.name)
        both = np.hstack([first.samples, second.samples])
        means = np.hsplit(bootstrap_means(both, resamples, groups=first.groups), 2)
        before, after = (
            (one.relative(own, level), one.spread(own, level)) for one, own in zip((first, second), means, strict=True)
        )
        new, old = after[0] or UNKNOWN, before[0] or UNKNOWN
        value = minus(new, old)
        status = "ok" if before[0] and after[0] else NO_HEADROOM
        key = (labels[1], seed, task.name, labels[0])
        spread = minus(after[1], before[1])
        rows.append(
            (*key, *value, new.signed - old.signed, *spread, reading(*value), " ".join(first.probes), len(both), status)
        )
    return pd.DataFrame(rows, columns=DIFFERENCE_COLUMNS)


def reading(difference: float, low: float, high: float) -> str:
    """What a difference says: `less sensitive`, `more sensitive`, `not distinguishable`; empty if it is not known."""
    if not np.isfinite([difference, low, high]).all():
        return ""
    return UNCLEAR if low <= 0 <= high else "less sensitive" if difference < 0 else "more sensitive"


def summarise_sensitivity(frame: pd.DataFrame) -> pd.DataFrame:
    """One row an encoder (and baseline) and task, from `sensitivity` or `sensitivity_difference` of one or more seeds.

    Of several seeds: their mean and Student's interval, from `signed`: averages of values that stop at 0 would lie too
    high. Of one: its own value and interval over samples.

    Returns:
        encoder, (baseline,) task, value, low, high, n_seeds, interval, as `seeds.over_seeds`. A sensitivity, not a
        difference, is cut at 0; where that would leave an interval of no width, the mean of the seeds' own upper ends
        is its upper end.
    """
    by = [name for name in ("encoder", "baseline", "task") if name in frame]
    own, table = over_seeds(frame, by=by), over_seeds(frame, by=by, value="signed")
    numbers = ["value", "low", "high"]
    table[numbers] = table[numbers].where(table["n_seeds"] > 1, own[numbers])
    if "baseline" not in by:
        highs = frame.groupby(by, sort=False)["high"].mean().to_numpy()
        table["high"] = table["high"].mask(table["high"] <= 0, highs)
        table[numbers] = table[numbers].clip(lower=0.0)
    return table


def run_sensitivity(results: Results, *, resamples: int = 2000) -> pd.DataFrame:
    """`sensitivity` of every run of a results folder that kept its predictions; one row an encoder, seed and task."""
    frames = [
        sensitivity(tables, tasks=results.tasks, label=encoder, seed=seed, resamples=resamples)
        for (encoder, seed), tables in _by_encoder(results).items()
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=COLUMNS)


def run_sensitivity_differences(results: Results, *, baseline: str = "vanilla", resamples: int = 2000) -> pd.DataFrame:
    """`sensitivity_difference` of the pairs that `differences` compares, seed by seed."""
    tables, frames = _by_encoder(results), []
    for encoder, other in pairs(results.encoders, baseline):
        for seed in sorted({seed for name, seed in tables if name == encoder and (other, seed) in tables}):
            two = tables[other, seed], tables[encoder, seed]
            options: dict[str, Any] = {"tasks": results.tasks, "labels": (other, encoder), "seed": seed}
            frames.append(sensitivity_difference(*two, resamples=resamples, **options))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=DIFFERENCE_COLUMNS)


@dataclass(frozen=True)
class _Ladder:
    """Scores of the probes, then of the floor, on each test sample [n, P + 1], in the order of the ids; its groups."""

    probes: tuple[str, ...]
    samples: NDArray[np.float64]
    ids: NDArray
    target: NDArray
    groups: Codes | None

    @classmethod
    def of(cls, table: pd.DataFrame, task: Task, probes: Sequence[str] | None) -> _Ladder:
        where = f"sensitivity, task '{task.name}'"
        names = sorted(set(map(str, table)) - {"id", "target", GROUP, *NO_CHOICE}) if probes is None else probes
        floor = next((name for name in FLOORS if name in table), FLOORS[0])
        for name in ("id", "target", *names, floor):
            if name not in table:
                raise InputError(f"{where}: the predictions have no column {name}; probe the embeddings again")
        if len(names) < 2:
            raise InputError(f"{where}: a spread needs two probes or more, found {len(names)}; probe with more of them")
        ids = table["id"].to_numpy(str)
        if len(np.unique(ids)) < len(ids):
            raise InputError(f"{where}: the predictions hold an id twice; ids must be unique")
        order = np.argsort(ids)
        groups = some_groups(groups_of_table(table), order)
        if count_units(groups, len(ids)) < 2:
            what = f"{len(ids)} test samples" + ("" if groups is None else " of one group")
            raise InputError(f"{where}: {what} are too few; probe a split that has more targets")
        target = table["target"].to_numpy()[order]
        guessed = table[[*names, floor]].to_numpy()[order]
        if task.is_discrete:
            samples = (guessed == target[:, None]).astype(np.float64)
        else:  # their mean is R2
            samples = 1.0 - (guessed - target[:, None]) ** 2 / (float(target.var()) or 1.0)
        return cls(tuple(names), samples, ids[order], target, groups)

    @property
    def means(self) -> NDArray[np.float64]:
        return np.asarray(self.samples.mean(axis=0))

    @cached_property
    def influence(self) -> NDArray[np.float64]:
        """What each independent unit adds to the means: samples, or of a group its deviation in units of a mean one."""
        if self.groups is None:
            return self.samples
        sums = sum_groups(self.samples - self.means, self.groups)
        return np.asarray(sums * (len(sums) / len(self.samples)) + self.means)

    def spread(self, resampled: NDArray, level: float) -> Dispersion:
        """Of the mean scores themselves."""
        return dispersion(_centred(self.means), _centred(resampled), _centred(self.influence), level=level)

    def relative(self, resampled: NDArray, level: float) -> Dispersion | None:
        """Of the normalised scores; None if the mean gain over the floor is not told apart from 0."""
        gain = float(_gain(self.means))
        if gain <= 0 or percentile_interval(_gain(resampled), level=level)[0] <= 0:
            return None
        vector = _centred(self.means) / gain

        def error(scores: NDArray) -> NDArray[np.float64]:
            """Of the vector, to first order: a resample whose own gain is near 0 must not count for all the others."""
            return (_centred(scores) - vector * _gain(scores)[:, None]) / gain

        return dispersion(vector, vector + error(resampled), error(self.influence), level=level)


def _centred(scores: NDArray) -> NDArray[np.float64]:
    """Scores [..., P + 1] of the probes minus their mean: [..., P]."""
    return np.asarray(scores[..., :-1] - scores[..., :-1].mean(axis=-1, keepdims=True))


def _gain(scores: NDArray) -> NDArray[np.float64]:
    """Mean over the probes minus the floor: [...]."""
    return np.asarray(scores[..., :-1].mean(axis=-1) - scores[..., -1])


def _check_paired(first: _Ladder, second: _Ladder, task: str) -> None:
    where = f"sensitivity, task '{task}'"
    if first.probes != second.probes:
        names = " and ".join(", ".join(one.probes) for one in (first, second))
        raise InputError(f"{where}: the encoders have different probes ({names}); name those that both have")
    if not np.array_equal(first.ids, second.ids):
        raise InputError(f"{where}: the encoders were probed on different samples; compare on one test split")
    codes = [np.empty(0, np.int64) if one.groups is None else one.groups for one in (first, second)]
    if not np.array_equal(codes[0], codes[1]):
        raise InputError(f"{where}: the encoders have their samples in different groups; probe both alike")
    if not np.array_equal(first.target, second.target):
        raise InputError(f"{where}: the same ids have different targets; compare the same task of one data set")


def _tables(found: Predictions, tasks: Mapping[str, Task]) -> list[tuple[Task, pd.DataFrame]]:
    """Tasks with their table, in the order of `tasks`; files carry the slug of a task's name."""
    known = [(task, found.get(name, found.get(slug(name)))) for name, task in tasks.items()]
    return [(task, table) for task, table in known if table is not None]


def _by_encoder(results: Results) -> dict[tuple[str, int], dict[str, pd.DataFrame]]:
    """(encoder, seed) -> the predictions of all its runs: `single` has one a task."""
    tables: dict[tuple[str, int], dict[str, pd.DataFrame]] = {}
    for run in results.runs:
        if found := predictions(run):
            tables.setdefault((run.encoder, run.seed), {}).update(found)
    return tables
