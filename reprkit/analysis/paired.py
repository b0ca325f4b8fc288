"""Two encoders on the same test samples, from their tables of predictions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reprkit.analysis.bootstrap import paired_bootstrap
from reprkit.analysis.groups import COLUMN, Codes, groups_of_table
from reprkit.analysis.stats import mcnemar, smallest_detectable_difference
from reprkit.errors import InputError


@dataclass(frozen=True)
class PairedDifference:
    """Second minus first encoder on the same test samples; positive: the second is better (for `mae`: worse).

    Attributes:
        metric: `accuracy`, or `mae` for a regression target.
        difference, low, high: mean difference and its 95% bootstrap interval over samples.
        p_mcnemar: exact McNemar p-value; NaN for `mae`, and where samples come in groups: the test needs independent
            ones, and `low` and `high`, from resamples of groups, do not.
        discordant: share of samples on which just one is right; NaN for `mae`.
        smallest_detectable: difference that the test set finds with 80% power; NaN where p_mcnemar is.
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
        a, b: prediction tables with columns id, target and `probe`, and group where samples come in groups; rows in any
            order.
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
    target, groups, nan = first["target"].to_numpy(), groups_of_table(first), float("nan")
    if metric == "mae":
        error = [np.abs(table[probe].to_numpy(np.float64) - target) for table in (first, second)]
        difference, low, high = paired_bootstrap(*error, resamples=resamples, seed=seed, groups=groups)
        return PairedDifference(metric, difference, low, high, nan, nan, nan, len(target))
    right = [table[probe].to_numpy() == target for table in (first, second)]
    difference, low, high = paired_bootstrap(*right, resamples=resamples, seed=seed, groups=groups)
    discordant = float((right[0] != right[1]).mean())
    if groups is not None:
        return PairedDifference(metric, difference, low, high, nan, discordant, nan, len(target))
    detectable = smallest_detectable_difference(len(target), discordant)
    return PairedDifference(metric, difference, low, high, mcnemar(*right), discordant, detectable, len(target))


def paired_changes(a: pd.DataFrame, b: pd.DataFrame, *, probe: str) -> tuple[NDArray[np.int8], Codes | None]:
    """Right on the second minus right on the first of two prediction tables, sample by sample [n]: -1, 0 or 1.

    Samples are in the order of their ids, so that the columns of several pairs can be stacked. The second array holds
    their groups, if they come in groups.

    Raises:
        InputError: the tables hold different ids or targets, an id twice, or no such probe.
    """
    first, second = _matched(a, b, probe)
    right = [(table[probe].to_numpy() == table["target"].to_numpy()).astype(np.int8) for table in (first, second)]
    return np.asarray(right[1] - right[0]), groups_of_table(first)


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
    if (COLUMN in first) != (COLUMN in second):
        raise InputError("paired comparison: only one table says which groups its samples are in; probe both alike")
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
