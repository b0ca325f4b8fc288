"""Does universality follow what a probe reaches? The paper's implicit claim as a test, over encoders."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from reprkit.analysis.reporting.differences import UNCLEAR
from reprkit.analysis.reporting.headlines import headline
from reprkit.analysis.reporting.results import Results
from reprkit.analysis.reporting.typeset import DASH, plain
from reprkit.errors import InputError

SCORES = ("U_rel", "U_rel_tau", "U")
"""Measures of universality that can be set against a probe."""

MARK_COLUMNS = ["encoder", "seed", "task", "head", "score", "probe", "metric", "x", "y", "control"]
TEST_COLUMNS = ["task", "score", "probe", "metric", "rho", "low", "high", "p_value", "n_encoders", "n_marks", "reading"]
FEWEST = 4
"""Encoders from which a rank correlation has an interval."""
LEVEL = 0.05
MOST_ENUMERATED = 8
DRAWS = 20_000


class RankCorrelation(NamedTuple):
    """Spearman's rho in [-1, 1], its 95% interval and two-sided p-value (NaN if not known), and the number of pairs."""

    rho: float
    low: float
    high: float
    p_value: float
    n: int


def spearman(x: ArrayLike, y: ArrayLike) -> RankCorrelation:
    """Spearman's rank correlation, ties sharing their mean rank.

    The interval is that of Fisher's z with the variance (1 + rho^2 / 2) / (n - 3) of Bonett and Wright, "Sample size
    requirements for estimating Pearson, Kendall and Spearman correlations" (Psychometrika 2000). A rho of 1, which has
    no z, is given that of the midpoint to the next lower value that n ranks can have, and the interval ends at 1. The
    p-value is that of permutations: all of them up to n = 8, else 20,000 from a fixed seed.

    Args:
        x, y: [n] finite values.

    Returns:
        NaN throughout for n < 3 or where all x or all y are equal; no interval for n < 4.
    """
    a, b = (_ranks(np.asarray(values, np.float64)) for values in (x, y))
    n = len(a)
    if n < 3 or not a.any() or not b.any():
        return RankCorrelation(np.nan, np.nan, np.nan, np.nan, n)
    scale = np.sqrt((a @ a) * (b @ b))
    rho = float(np.clip(a @ b / scale, -1, 1))
    if n <= MOST_ENUMERATED:
        orders = np.array(list(itertools.permutations(range(n))))
        p_value = float(np.mean(np.abs(b[orders] @ a) >= abs(a @ b) - 1e-9))
    else:
        rng = np.random.default_rng(0)
        drawn = rng.permuted(np.tile(b, (DRAWS, 1)), axis=1) @ a
        p_value = float((1 + np.sum(np.abs(drawn) >= abs(a @ b) - 1e-9)) / (1 + DRAWS))
    if n < FEWEST:
        return RankCorrelation(rho, np.nan, np.nan, p_value, n)
    most = 1 - 6 / (n * (n**2 - 1))
    z = np.arctanh(np.clip(rho, -most, most))
    half = 1.959963984540054 * np.sqrt((1 + rho**2 / 2) / (n - 3))
    low, high = np.tanh(z - half), np.tanh(z + half)
    return RankCorrelation(rho, -1.0 if rho <= -most else float(low), 1.0 if rho >= most else float(high), p_value, n)


def agreement_marks(results: Results, *, score: str = "U_rel", probe: str = "linear") -> pd.DataFrame:
    """A mark an encoder, seed and task: a score of universality (x) and a probe's accuracy, or R² (y); then controls.

    Args:
        results: what `load_results` read.
        score: one of `SCORES`.
        probe: a probe of probes.csv.

    Returns:
        `MARK_COLUMNS`, with the first kind of head that was measured. A mark without x (no headroom, unresolved) or
        without y is left out.

    Raises:
        InputError: there is no universality, no such score or no such probe.
    """
    if not len(results.universality) or not len(results.probes):
        what = "probes.csv" if len(results.universality) else "universality.csv"
        raise InputError(f"{results.folder}: holds no {what}; measure the embeddings first")
    if score not in results.universality or score not in SCORES:
        known = ", ".join(name for name in SCORES if name in results.universality)
        raise InputError(f"--score: universality.csv of {results.folder} has no '{score}'; choose from {known}")
    probes = list(dict.fromkeys(headline(results.probes)["probe"].astype(str)))
    if probe not in probes:
        raise InputError(f"--probe: probes.csv of {results.folder} has no '{probe}'; choose from {', '.join(probes)}")
    head = results.universality["head"].iloc[0]
    keys = ["encoder", "seed", "task"]
    made = []
    for measured, probed, control in (
        (results.universality, results.probes, False), (results.control_universality, results.control_probes, True),
    ):  # fmt: skip
        if not len(measured) or not len(probed):
            continue
        x = measured.loc[measured["head"] == head, [*keys, "head", score]].rename(columns={score: "x"})
        y = headline(probed)
        y = y.loc[y["probe"] == probe, [*keys, "probe", "metric", "value"]].rename(columns={"value": "y"})
        both = x.merge(y, on=keys).assign(score=score, control=control)
        made.append(both[np.isfinite(both["x"].astype(float)) & np.isfinite(both["y"].astype(float))])
    return pd.concat(made, ignore_index=True)[MARK_COLUMNS]


def can_agree(results: Results, *, score: str = "U_rel", probe: str = "linear") -> bool:
    """True if at least three encoders were probed and measured, the fewest that a rank correlation needs."""
    measured, probed = results.universality, results.probes
    if not len(measured) or not len(probed) or score not in measured:
        return False
    both = set(measured.loc[measured[score].notna(), "encoder"]) & set(probed.loc[probed["probe"] == probe, "encoder"])
    return len(both) >= 3


def agreement_tests(marks: pd.DataFrame) -> pd.DataFrame:
    """Rank correlation of x and y over the encoders' means over seeds, a row a task.

    Seeds of one method are alike, so that an encoder counts once. Controls do not count: nothing was learnt there.

    Args:
        marks: result of `agreement_marks`.

    Returns:
        `TEST_COLUMNS`. `reading` is `follows` or `runs against` where the p-value is below 0.05, `not distinguishable`
        above it, empty for fewer than four encoders.
    """
    own = marks[~marks["control"].astype(bool)]
    rows = []
    for (task, score, probe, metric), group in own.groupby(["task", "score", "probe", "metric"], sort=False):
        means = group.groupby("encoder")[["x", "y"]].mean()
        found = spearman(means["x"], means["y"])
        says = "" if not np.isfinite(found.low) else "follows" if found.rho > 0 else "runs against"
        says = UNCLEAR if says and found.p_value >= LEVEL else says
        rows.append((task, score, probe, metric, *found, len(group), says))
    return pd.DataFrame(rows, columns=TEST_COLUMNS)


def correlation_text(test: pd.Series) -> str:
    """Such as `rho = 0.50 (0.10 to 0.80), p = 0.03, 17 encoders`."""
    count = f"{int(test['n_encoders'])} encoder{'s' if test['n_encoders'] != 1 else ''}"
    if not np.isfinite(test["rho"]):
        return f"no rank correlation: {count}"
    p_value = "p < 0.001" if test["p_value"] < 0.001 else f"p = {test['p_value']:.2g}"
    return f"rho = {rho_text(test)}, {p_value}, {count}"


def rho_text(test: pd.Series) -> str:
    """Such as `0.50 (0.10 to 0.80)`; a dash where there is none."""
    if not np.isfinite(test["rho"]):
        return DASH
    ends = f" ({plain(test['low'], 2)} to {plain(test['high'], 2)})" if np.isfinite(test["low"]) else ""
    return f"{plain(test['rho'], 2)}{ends}"


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks less their mean."""
    ranks = np.asarray(pd.Series(values).rank(), np.float64)
    return ranks - (len(ranks) + 1) / 2  # ties keep the sum of ranks
