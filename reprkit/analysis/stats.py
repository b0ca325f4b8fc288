"""Uncertainty and comparison: bootstrap, McNemar, Holm, seed intervals, what a test set can resolve at all.

Four sources of chance are kept apart: test samples (`bootstrap_*`, `mcnemar`, `wilson`), the probe's fit, the dummy
draw, and the encoder's training seed (`summarise_seeds`). An interval over one says nothing about the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from reprkit.analysis.linalg import single_thread_blas
from reprkit.errors import InputError

RESAMPLES_A_BLOCK = 64


def bootstrap_sums(values: Any, resamples: int, *, seed: int = 0) -> NDArray[np.float64]:
    """Sums of the columns of `values` [n, m] over bootstrap resamples of its rows: [resamples, m].

    The resamples depend on `n`, `resamples` and `seed` alone, so that columns given together or in separate calls are
    resampled alike: differences of them are paired. Any statistic that is a function of sums (a mean, a recall, R2)
    follows from these without touching the samples again. `values` may be a SciPy sparse array.
    """
    table = values if sparse.issparse(values) else np.asarray(values, np.float64)
    n = table.shape[0]
    sums = np.empty((resamples, table.shape[1]))
    start = 0
    with single_thread_blas():  # the last digit must not depend on the number of cores
        for counts in _resample_counts(n, resamples, seed):
            sums[start : start + len(counts)] = counts @ table
            start += len(counts)
    return sums


def bootstrap_mean(
    values: ArrayLike, *, weights: ArrayLike | None = None, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """(Weighted) mean of `values` [n] with its percentile bootstrap interval over samples: mean, low, high.

    All NaN if there are no values; a resample whose weights sum to zero is left out.
    """
    x = np.asarray(values, np.float64)
    w = np.ones_like(x) if weights is None else np.asarray(weights, np.float64)
    if not len(x) or not w.sum():
        return (float("nan"),) * 3
    sums = bootstrap_sums(np.stack([w * x, w], axis=1), resamples, seed=seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        low, high = percentile_interval(sums[:, 0] / sums[:, 1], level=level)
    return float((w * x).sum() / w.sum()), low, high


def paired_bootstrap(
    a: ArrayLike, b: ArrayLike, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """Mean of `b - a` over paired samples [n] with its percentile bootstrap interval: difference, low, high."""
    return bootstrap_mean(
        np.asarray(b, np.float64) - np.asarray(a, np.float64), resamples=resamples, level=level, seed=seed
    )


def paired_bootstraps(
    changes: ArrayLike, *, resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> list[tuple[float, float, float]]:
    """`paired_bootstrap` of every column of `changes` [n, m], the differences of m pairs on the same n samples.

    The resamples are drawn once for all columns, and are those that each column alone would have.

    Returns:
        For each column: difference, low, high.
    """
    table = np.asarray(changes, np.float64)
    means = bootstrap_sums(table, resamples, seed=seed) / len(table)
    return [
        (float(column.mean()), *percentile_interval(drawn, level=level))
        for column, drawn in zip(table.T, means.T, strict=True)
    ]


def percentile_interval(statistics: ArrayLike, *, level: float = 0.95) -> tuple[float, float]:
    """Central interval of resampled statistics that holds `level` of them; NaN entries are left out."""
    finite = np.asarray(statistics, np.float64)
    finite = finite[~np.isnan(finite)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mcnemar(a: ArrayLike, b: ArrayLike) -> float:
    """Exact two-sided McNemar p-value that two predictors are right equally often.

    Args:
        a, b: [n] booleans: was the first, the second predictor right on this sample? Only samples where just one of
            them is right count. 1.0 if there are none.
    """
    from scipy.stats import binomtest

    first, second = np.asarray(a, bool), np.asarray(b, bool)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    discordant = only_first + only_second
    return float(binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down adjusted p-values [m], in the given order; NaN entries stay NaN and are not counted."""
    p = np.asarray(p_values, np.float64)
    adjusted = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1.0)
    return adjusted


def t_interval(values: ArrayLike, *, level: float = 0.95) -> tuple[float, float, float]:
    """Mean of a few independent runs with Student's interval: mean, low, high. NaN are left out.

    With fewer than two values the spread is unknown, so low and high are NaN, not the mean.
    """
    from scipy.stats import t

    x = np.asarray(values, np.float64)
    x = x[~np.isnan(x)]
    if not len(x):
        return (float("nan"),) * 3
    mean = float(x.mean())
    if len(x) < 2:
        return mean, float("nan"), float("nan")
    half = float(t.ppf((1 + level) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))
    return mean, mean - half, mean + half


def wilson(successes: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion (E. B. Wilson, 1927); NaN if n is 0."""
    from scipy.stats import norm

    if n == 0:
        return float("nan"), float("nan")
    z = float(norm.ppf((1 + level) / 2))
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def smallest_detectable_difference(n: int, discordant: float, *, power: float = 0.8, level: float = 0.95) -> float:
    """Smallest true difference of two accuracies that a paired test on `n` samples finds with the given power.

    The difference d of two predictors on the same samples has variance (discordant - d^2) / n, where `discordant` is
    the share of samples on which exactly one of them is right. Normal approximation, two-sided; solved for d.

    Returns:
        d in accuracy units; at most `discordant` (if even that is not found: NaN).
    """
    from scipy.stats import norm

    if n < 1 or not 0 <= discordant <= 1:
        raise ValueError("n must be positive and discordant a share between 0 and 1")
    # d sqrt(n) = z_level sqrt(p) + z_power sqrt(p - d^2): under the null the difference is 0, under the alternative d
    z_level, z_power = float(norm.ppf((1 + level) / 2)), float(norm.ppf(power))
    a, b, c = n + z_power**2, -2 * z_level * np.sqrt(n * discordant), (z_level**2 - z_power**2) * discordant
    root = (-b + np.sqrt(max(b * b - 4 * a * c, 0.0))) / (2 * a)
    return float(root) if root <= discordant else float("nan")


def summarise_seeds(
    frame: pd.DataFrame, *, by: Sequence[str], value: str = "value", level: float = 0.95
) -> pd.DataFrame:
    """Mean over training seeds, with Student's interval, of each group of rows.

    Args:
        frame: rows with the columns `by`, `seed` and `value`, one a seed in each group.
        by: columns that make a group, such as `["encoder", "task", "probe", "metric"]`.
        value: column to average.
        level: confidence level.

    Returns:
        One row a group, in order of first appearance: `by`, value, low, high, n_seeds (seeds with a value).

    Raises:
        InputError: a column is missing, or a group holds a seed twice.
    """
    missing = [column for column in (*by, "seed", value) if column not in frame]
    if missing:
        known = ", ".join(map(str, frame.columns))
        raise InputError(f"summarise_seeds: the table has no column {', '.join(missing)}; it has {known}")
    rows = []
    for key, group in frame.groupby(list(by), sort=False, dropna=False):
        if group["seed"].duplicated().any():
            raise InputError(f"summarise_seeds: {key} holds a seed twice; add the column that tells its rows apart")
        mean, low, high = t_interval(group[value], level=level)
        rows.append((*key, mean, low, high, int(group[value].notna().sum())))
    return pd.DataFrame(rows, columns=[*by, value, "low", "high", "n_seeds"])


@dataclass(frozen=True)
class PairedDifference:
    """Second minus first encoder on the same test samples; positive: the second is better (for `mae`: worse).

    Attributes:
        metric: `accuracy`, or `mae` for a regression target.
        difference, low, high: mean difference and its 95% bootstrap interval over samples.
        p_mcnemar: exact McNemar p-value; NaN for `mae`.
        discordant: share of samples on which just one is right; NaN for `mae`.
        smallest_detectable: difference that the test set finds with 80% power; NaN for `mae`.
        n: samples.
    """

    metric: str
    difference: float
    low: float
    high: float
    p_mcnemar: float
    discordant: float
    smallest_detectable: float
    n: int


def paired_difference(
    a: pd.DataFrame, b: pd.DataFrame, *, probe: str, metric: str = "accuracy", resamples: int = 2000, seed: int = 0
) -> PairedDifference:
    """Compare one probe's predictions on two encoders, sample by sample.

    Args:
        a, b: prediction tables with columns id, target and `probe`; rows in any order.
        probe: column to compare.
        metric: `accuracy` or `mae` (absolute difference of class indices or values).
        resamples: bootstrap resamples.
        seed: seed of the resamples.

    Raises:
        InputError: the tables hold different ids or targets, an id twice, or no such probe.
    """
    if metric not in ("accuracy", "mae"):
        raise InputError(f"paired comparison: metric '{metric}' has no per-sample value; choose accuracy or mae")
    first, second = _matched(a, b, probe)
    target = first["target"].to_numpy()
    if metric == "mae":
        error = [np.abs(table[probe].to_numpy(np.float64) - target) for table in (first, second)]
        difference, low, high = paired_bootstrap(*error, resamples=resamples, seed=seed)
        nan = float("nan")
        return PairedDifference(metric, difference, low, high, nan, nan, nan, len(target))
    right = [table[probe].to_numpy() == target for table in (first, second)]
    difference, low, high = paired_bootstrap(*right, resamples=resamples, seed=seed)
    discordant = float((right[0] != right[1]).mean())
    detectable = smallest_detectable_difference(len(target), discordant)
    return PairedDifference(metric, difference, low, high, mcnemar(*right), discordant, detectable, len(target))


def paired_changes(a: pd.DataFrame, b: pd.DataFrame, *, probe: str) -> NDArray[np.int8]:
    """Right on the second minus right on the first of two prediction tables, sample by sample [n]: -1, 0 or 1.

    Samples are in the order of their ids, so that the columns of several pairs can be stacked.

    Raises:
        InputError: the tables hold different ids or targets, an id twice, or no such probe.
    """
    first, second = _matched(a, b, probe)
    right = [(table[probe].to_numpy() == table["target"].to_numpy()).astype(np.int8) for table in (first, second)]
    return np.asarray(right[1] - right[0])


def _matched(a: pd.DataFrame, b: pd.DataFrame, probe: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables by id, checked to be of the same samples."""
    first, second = _by_id(a, probe, "first"), _by_id(b, probe, "second")
    if not first.index.equals(second.index):
        apart = len(first.index.symmetric_difference(second.index))
        raise InputError(
            f"paired comparison: {apart} ids are in one table only; compare encoders on one test split of one dataset"
        )
    if not np.array_equal(first["target"].to_numpy(), second["target"].to_numpy()):
        raise InputError("paired comparison: the same ids have different targets; compare the same task of one dataset")
    return first, second


def _by_id(table: pd.DataFrame, probe: str, which: str) -> pd.DataFrame:
    missing = [column for column in ("id", "target", probe) if column not in table]
    if missing:
        known = ", ".join(map(str, table.columns))
        raise InputError(f"paired comparison: the {which} table has no column {missing[0]}; it has {known}")
    if table["id"].duplicated().any():
        raise InputError(f"paired comparison: the {which} table holds an id twice; ids must be unique")
    if not len(table):
        raise InputError(f"paired comparison: the {which} table is empty; probe a split that has targets")
    return table.set_index("id").sort_index()


def _resample_counts(n: int, resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each of `n` samples is drawn, in blocks [<= RESAMPLES_A_BLOCK, n] of resamples."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, RESAMPLES_A_BLOCK):
        block = min(RESAMPLES_A_BLOCK, resamples - start)
        drawn = rng.integers(n, size=(block, n)) + n * np.arange(block)[:, None]
        yield np.bincount(drawn.ravel(), minlength=block * n).reshape(block, n).astype(np.float64)
