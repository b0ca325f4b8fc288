"""The metrics of fitted probes on the test samples, with bootstrap intervals of all of them at once.

    accuracy            share of samples whose class is right
    balanced_accuracy   mean recall of the classes that occur
    macro_f1            mean F1 of the classes that occur or are predicted
    log_loss            mean of -log p(class) in nats, p clipped at 2.2e-16
    ece                 expected calibration error: mean gap between confidence and accuracy over 15 equal bins
    recall[<class>]     recall of one class
    mae                 mean absolute error: in classes (ordinal tasks), or in units of the target
    within_one          share of samples at most one class off (ordinal tasks)
    quadratic_kappa     Cohen's kappa with weights (i - j)^2 (ordinal tasks); 1 is perfect, 0 is chance
    r2, rmse            coefficient of determination, and root mean squared error (regression)

Log-loss and calibration error are those of probes that model probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from reprkit.analysis.bootstrap import bootstrap_sums, percentile_interval
from reprkit.analysis.groups import Codes, count_units
from reprkit.analysis.probes.outcome import LOG_FLOOR, Outcome
from reprkit.tasks import Task

BINS = 15
"""Of the confidence, for the calibration error (C. Guo et al., ICML 2017)."""

MOST_RECALLS = 100
"""Classes up to which each one's recall is listed."""

MOST_COLUMNS = 1 << 14
"""Columns of terms that are resampled at a time; more only cost memory."""

Sums = dict[str, NDArray[np.float64]]
"""Term -> its sums over samples, one row a resample: [resamples, columns]."""


def metrics_of(task: Task, probabilistic: bool) -> tuple[str, ...]:
    """Names of the metrics that a probe of this task reports, headline first."""
    if not task.is_discrete:
        return ("r2", "mae", "rmse")
    names = ["accuracy", "balanced_accuracy", "macro_f1"]
    names += ["mae", "within_one", "quadratic_kappa"] * (task.kind == "ordinal")
    names += ["log_loss", "ece"] * probabilistic
    return (*names, *recalls_of(task))


def recalls_of(task: Task) -> dict[str, int]:
    """Metric name -> class index of every class's recall; none for tasks of very many classes."""
    if not task.is_discrete or task.num_outputs > MOST_RECALLS:
        return {}
    return {f"recall[{name}]": place for place, name in enumerate(task.class_names)}


def measure(
    task: Task,
    target: NDArray,
    outcomes: dict[str, Outcome],
    *,
    resamples: int,
    seed: int,
    groups: Codes | None = None,
) -> dict[str, dict[str, tuple[float, float, float]]]:
    """All metrics of all probes of a task on its test samples, with 95% percentile bootstrap intervals.

    Every metric is a function of sums over samples, so one product of the resample counts with a sparse table of
    per-sample terms serves all probes. They share the resamples: differences between probes are paired. Of an outcome
    of several models the metrics are averaged, on each resample.

    Args:
        task: the task.
        target: [n] test targets.
        outcomes: probe -> its outcome on these samples.
        resamples, seed: of the bootstrap.
        groups: [n] of the samples, which are then resampled whole.

    Returns:
        probe -> metric -> (value, low, high); NaN for what the samples do not define.
    """
    result: dict[str, dict[str, tuple[float, float, float]]] = {}
    places = recalls_of(task)
    # Groups are few, and are given Student's wider tails; samples are many.
    units = None if groups is None else count_units(groups, len(target))
    for name, sums in _resampled(task, target, outcomes, resamples, seed, groups):
        result[name] = {}
        for metric in metrics_of(task, outcomes[name].log_probabilities is not None):
            values = np.mean([from_sums(metric, each, place=places.get(metric)) for each in sums], axis=0)
            result[name][metric] = (float(values[0]), *percentile_interval(values[1:], n=units))
    return result


def from_sums(metric: str, sums: Sums, *, place: int | None = None) -> NDArray[np.float64]:
    """A metric [resamples] from the sums of its terms; `place` is the class of a recall."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if place is not None:
            return sums["right"][:, place] / sums["class"][:, place]
        return _FORMULAS[metric](sums)


def _balanced_accuracy(sums: Sums) -> NDArray[np.float64]:
    size = sums["class"]
    present = size > 0
    return (sums["right"] / np.where(present, size, 1)).sum(axis=1) / present.sum(axis=1)


def _macro_f1(sums: Sums) -> NDArray[np.float64]:
    size = sums["class"] + sums["guess"]
    present = size > 0
    return (2 * sums["right"] / np.where(present, size, 1)).sum(axis=1) / present.sum(axis=1)


def _quadratic_kappa(sums: Sums) -> NDArray[np.float64]:
    index = np.arange(sums["class"].shape[1])
    count = sums["count"][:, 0]
    cross = (sums["class"] @ index) * (sums["guess"] @ index) / count
    chance = (sums["class"] + sums["guess"]) @ index**2 - 2 * cross
    return 1 - sums["squared"][:, 0] / np.where(chance > 1e-9 * count, chance, np.nan)


def _r2(sums: Sums) -> NDArray[np.float64]:
    total, squares = sums["target"].T
    spread = squares - total**2 / sums["count"][:, 0]
    # Of equal values rounding alone may leave a spread.
    return np.where(spread > 1e-12 * squares, 1 - sums["squared"][:, 0] / spread, np.nan)


_FORMULAS: dict[str, Callable[[Sums], NDArray[np.float64]]] = {
    "accuracy": lambda sums: sums["right"].sum(axis=1) / sums["count"][:, 0],
    "balanced_accuracy": _balanced_accuracy,
    "macro_f1": _macro_f1,
    "mae": lambda sums: sums["absolute"][:, 0] / sums["count"][:, 0],
    "within_one": lambda sums: sums["near"][:, 0] / sums["count"][:, 0],
    "quadratic_kappa": _quadratic_kappa,
    "log_loss": lambda sums: sums["surprise"][:, 0] / sums["count"][:, 0],
    "ece": lambda sums: np.abs(sums["overconfidence"]).sum(axis=1) / sums["count"][:, 0],
    "r2": _r2,
    "rmse": lambda sums: np.sqrt(sums["squared"][:, 0] / sums["count"][:, 0]),
}


def _resampled(
    task: Task, target: NDArray, outcomes: dict[str, Outcome], resamples: int, seed: int, groups: Codes | None
) -> Iterator[tuple[str, list[Sums]]]:
    """Of each probe, the sums of its terms: over all samples in row 0, then over each resample; one a model."""
    shared = _shared_terms(task, target)
    terms = {
        name: [_terms(task, target, one, outcome.log_probabilities) for one in np.atleast_2d(outcome.test)]
        for name, outcome in outcomes.items()
    }
    width = max((sum(_width(own) for own in models) for models in terms.values()), default=1)
    several = max(1, MOST_COLUMNS // width)
    for start in range(0, len(terms), several):
        some = list(terms)[start : start + several]
        blocks = {("", 0, term): values for term, values in shared.items()}
        for name in some:
            for number, own in enumerate(terms[name]):
                blocks |= {(name, number, term): values for term, values in own.items()}
        table = sparse.hstack([sparse.csr_array(values) for values in blocks.values()], format="csr")
        ends = np.cumsum([values.shape[1] for values in blocks.values()])[:-1]
        sums = np.vstack([table.sum(axis=0), bootstrap_sums(table, resamples, seed=seed, groups=groups)])
        pieces = dict(zip(blocks, np.split(sums, ends, axis=1), strict=True))
        common = {term: pieces["", 0, term] for term in shared}
        for name in some:
            models = enumerate(terms[name])
            yield name, [common | {term: pieces[name, number, term] for term in own} for number, own in models]


def _shared_terms(task: Task, target: NDArray) -> dict[str, Any]:
    """Terms [n, columns] that depend on the targets alone."""
    terms = {"count": np.ones((len(target), 1))}
    if task.is_discrete:
        return {**terms, "class": _indicator(target, np.ones(len(target)), task.num_outputs)}
    centred = target - target.mean()  # leaves R2 as it is, and keeps the rounding of its spread small
    return {**terms, "target": np.stack([centred, centred**2], axis=1)}


def _terms(task: Task, target: NDArray, predicted: NDArray, log_p: NDArray | None) -> dict[str, Any]:
    """Terms [n, columns] of one model."""
    error = np.abs(predicted - target).astype(np.float64)[:, None]
    if not task.is_discrete:
        return {"absolute": error, "squared": error**2}
    right = (predicted == target).astype(np.float64)
    terms: dict[str, Any] = {
        "right": _indicator(target, right, task.num_outputs),
        "guess": _indicator(predicted, np.ones(len(target)), task.num_outputs),
    }
    if task.kind == "ordinal":
        terms |= {"absolute": error, "squared": error**2, "near": (error <= 1).astype(np.float64)}
    if log_p is not None:
        terms["surprise"] = -np.clip(log_p[np.arange(len(target)), target], LOG_FLOOR, 0.0)[:, None]
        confidence = np.exp(log_p[np.arange(len(target)), predicted])
        place = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
        terms["overconfidence"] = _indicator(place, confidence - right, BINS)
    return terms


def _indicator(column: NDArray, values: NDArray, columns: int) -> sparse.csr_array:
    """[n, columns] with each sample's value in its column; sparse, since there may be a thousand classes."""
    some = np.flatnonzero(values)
    return sparse.csr_array((values[some], (some, column[some])), shape=(len(column), columns))


def _width(terms: dict[str, Any]) -> int:
    return sum(int(values.shape[1]) for values in terms.values())
