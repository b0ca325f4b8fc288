"""Uncertainty in closed form: McNemar, Holm, Student's and Wilson's intervals, what a test set can resolve at all.

Four sources of chance are kept apart: test samples (`bootstrap`, `mcnemar`, `wilson`), the probe's fit, the dummy draw,
and the encoder's training seed (`summarise_seeds`). An interval over one says nothing about the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from reprkit.analysis.groups import Codes, count_units
from reprkit.errors import InputError


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


def sample_interval(
    values: ArrayLike, groups: Codes | None = None, *, level: float = 0.95
) -> tuple[float, float, float]:
    """Mean of `values` [n] with Student's interval over samples, or over the groups they come in: mean, low, high.

    Over G groups the mean is a ratio of sums, whose squared error is G / (G - 1) times the sum over groups of (sum of
    deviations from the mean)^2 / n^2, with G - 1 degrees of freedom (W. G. Cochran, Sampling Techniques, 3rd ed., 9A).
    """
    if groups is None:
        return t_interval(values, level=level)
    x = np.asarray(values, np.float64)
    units = count_units(groups, len(x))
    mean = float(x.mean()) if len(x) else float("nan")
    if units < 2:
        return mean, float("nan"), float("nan")
    error = float(np.sqrt(units / (units - 1) * (np.bincount(groups, x - mean) ** 2).sum())) / len(x)
    half = float(stdtrit(units - 1, (1 + level) / 2)) * error
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
