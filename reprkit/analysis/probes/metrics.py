"""The metrics of fitted probes on the test samples, with bootstrap intervals of all of them at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from reprkit.analysis.probes.outcome import Outcome
from reprkit.analysis.stats import bootstrap_sums, percentile_interval
from reprkit.tasks import Task

LOG_FLOOR = float(np.log(np.finfo(np.float64).eps))
"""Log-probabilities are clipped here, as by scikit-learn: a class never seen costs 36 nats and not infinity."""

Sums = dict[str, NDArray[np.float64]]
"""Term -> its sums over samples, one row a resample: [resamples, columns]."""


def metrics_of(task: Task, probabilistic: bool) -> tuple[str, ...]:
    """Names of the metrics that a probe of this task reports, headline first."""
    if not task.is_discrete:
        return ("r2", "mae")
    names = ["accuracy", "balanced_accuracy"]
    names += ["mae"] * (task.kind == "ordinal") + ["log_loss"] * probabilistic
    return tuple(names)


def measure(
    task: Task, target: NDArray, outcomes: dict[str, Outcome], *, resamples: int, seed: int
) -> dict[str, dict[str, tuple[float, float, float]]]:
    """All metrics of all probes of a task on its test samples, with 95% percentile bootstrap intervals.

    Every metric is a function of sums over samples, so one product of the resample counts with a sparse table of
    per-sample terms serves all probes. They share the resamples: differences between probes are paired.

    Args:
        task: the task.
        target: [n] test targets.
        outcomes: probe -> its outcome on these samples.
        resamples, seed: of the bootstrap.

    Returns:
        probe -> metric -> (value, low, high).
    """
    blocks = {("", term): values for term, values in _shared_terms(task, target).items()}
    for name, outcome in outcomes.items():
        blocks |= {(name, term): values for term, values in _terms(task, target, outcome).items()}
    table = sparse.hstack([sparse.csr_array(values) for values in blocks.values()], format="csr")
    ends = np.cumsum([values.shape[1] for values in blocks.values()])
    all_sums = np.vstack([table.sum(axis=0), bootstrap_sums(table, resamples, seed=seed)])
    pieces = dict(zip(blocks, np.split(all_sums, ends[:-1], axis=1), strict=True))

    result: dict[str, dict[str, tuple[float, float, float]]] = {}
    for name, outcome in outcomes.items():
        sums = {term: piece for (owner, term), piece in pieces.items() if owner in ("", name)}
        result[name] = {}
        for metric in metrics_of(task, outcome.log_probabilities is not None):
            values = from_sums(metric, sums)
            result[name][metric] = (float(values[0]), *percentile_interval(values[1:]))
    return result


def from_sums(metric: str, sums: Sums) -> NDArray[np.float64]:
    """A metric [resamples] from the sums of its terms."""
    count = sums["count"][:, 0]
    if metric == "accuracy":
        return sums["right"].sum(axis=1) / count
    if metric == "balanced_accuracy":  # mean recall of the classes that the resample holds
        size = sums["class"]
        present = size > 0
        return (sums["right"] / np.where(present, size, 1)).sum(axis=1) / present.sum(axis=1)
    if metric == "mae":
        return sums["absolute"][:, 0] / count
    if metric == "log_loss":
        return sums["surprise"][:, 0] / count
    total, squares = sums["target"].T
    spread = squares - total**2 / count
    with np.errstate(divide="ignore", invalid="ignore"):
        # Of equal values rounding alone may leave a spread.
        return np.where(spread > 1e-12 * squares, 1 - sums["squared"][:, 0] / spread, np.nan)


def _shared_terms(task: Task, target: NDArray) -> dict[str, Any]:
    """Terms [n, columns] that depend on the targets alone."""
    terms = {"count": np.ones((len(target), 1))}
    if task.is_discrete:
        return {**terms, "class": _indicator(target, np.ones(len(target)), task.num_outputs)}
    centred = target - target.mean()  # leaves R2 as it is, and keeps the rounding of its spread small
    return {**terms, "target": np.stack([centred, centred**2], axis=1)}


def _terms(task: Task, target: NDArray, outcome: Outcome) -> dict[str, Any]:
    """Terms [n, columns] of one probe."""
    error = np.abs(outcome.test - target).astype(np.float64)[:, None]
    if not task.is_discrete:
        return {"absolute": error, "squared": error**2}
    right = (outcome.test == target).astype(np.float64)
    terms: dict[str, Any] = {"absolute": error, "right": _indicator(target, right, task.num_outputs)}
    if outcome.log_probabilities is not None:
        chosen = outcome.log_probabilities[np.arange(len(target)), target]
        terms["surprise"] = -np.clip(chosen, LOG_FLOOR, 0.0)[:, None]
    return terms


def _indicator(target: NDArray, values: NDArray, classes: int) -> sparse.csr_array:
    """[n, classes] with `values` at each sample's class; sparse, since there may be a thousand classes."""
    return sparse.csr_array((values, (np.arange(len(target)), target)), shape=(len(target), classes))
