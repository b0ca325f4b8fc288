"""Averages of `few_shot` over its draws: learning curves, the area under them, and the labels they take.

Two sources of chance are kept apart. Which samples were drawn: Student's interval over the draws; where a class is
small the draws overlap, which narrows it. Which samples the test split holds: the bootstrap interval of the mean over
the draws. Neither says anything of another training run: `seeds.over_seeds` does, over the rows of several seeds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reprkit.analysis.few_shot import ALL
from reprkit.analysis.stats import t_interval

KEYS = ["encoder", "seed", "task", "probe", "metric"]
CURVE_COLUMNS = [
    *KEYS, "shots", "value", "draws_low", "draws_high", "samples_low", "samples_high", "n_draws", "n_train", "n_test",
    "status", "protocol_id",
]  # fmt: skip
COLUMNS = [
    *KEYS, "area", "area_low", "area_high", "area_samples_low", "area_samples_high", "full", "full_low", "full_high",
    "labels", "labels_low", "labels_high", "labels_samples_low", "labels_samples_high", "least_shots", "most_shots",
    "n_draws", "n_test", "status", "protocol_id",
]  # fmt: skip


def learning_curves(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean over the draws of every point of every curve, with both intervals (95%).

    Args:
        frame: rows of `few_shot`.

    Returns:
        One row an encoder, seed, task, probe, metric and number of shots (0: all train samples, where there are no
        draws): value; draws_low, draws_high; samples_low, samples_high; n_draws, n_train, n_test, status, protocol_id.
    """
    rows = []
    for key, group in frame.groupby([*KEYS, "shots"], sort=False, dropna=False):
        value, low, high = t_interval(group["value"])
        first = group.iloc[0]
        ends = (low, high, first["samples_low"], first["samples_high"])
        counts = (int(group["value"].notna().sum()), first["n_train"], first["n_test"])
        rows.append((*key, value, *ends, *counts, first["status"], first["protocol_id"]))
    return pd.DataFrame(rows, columns=CURVE_COLUMNS)


def summarise_few_shot(frame: pd.DataFrame, *, share: float = 0.9) -> pd.DataFrame:
    """Area under every curve, and the labels a class at which it reaches a share of what all train samples give.

    - `area`: mean of the score along log2 of the shots, by trapezia: between the lowest and the highest score. Its
      interval over draws is Student's of the draws' own areas; that over samples joins the ends of the points, as if
      their errors were one: it is rather too wide.
    - `labels`: where the mean curve first reaches `share` * full, interpolated on the logarithm. Its intervals hold
      the shots at which an interval of the curve covers that score, which is taken as known; the upper end is infinite
      if the curve's lower end never gets there. A poor encoder has a low bar: read it beside `full`.

    Args:
        frame: rows of `few_shot`.
        share: of the reference.

    Returns:
        One row an encoder, seed, task, probe and metric: area, full (the reference, with its interval over test
        samples) and labels, with their intervals (`_low`, `_high`: over draws; `_samples_low`, `_samples_high`: over
        test samples); least_shots, most_shots, n_draws, n_test, protocol_id; status: ok; `not reached` (labels is
        NaN); `reached at once` (labels is the smallest size, an upper bound); `no_headroom` (the reference is not told
        apart from guessing, or `share` of it is no more than that: labels is NaN); else why there is no curve.
    """
    curves = learning_curves(frame)
    rows = []
    for key, group in curves.groupby(KEYS, sort=False, dropna=False):
        drawn = frame
        for name, value in zip(KEYS, key, strict=True):
            drawn = drawn[drawn[name] == value]
        rows.append(dict(zip(KEYS, key, strict=True)) | _summary(group, drawn, share))
    return pd.DataFrame(rows, columns=COLUMNS)


def crossing(shots: NDArray, values: NDArray, target: float) -> float:
    """Shots at which a curve first reaches `target`, linear in log2(shots) between its points; NaN if it does not.

    Args:
        shots: [n] rising; values: [n]; target: if the first value reaches it, the answer is the first of `shots`.
    """
    reached = np.flatnonzero(values >= target)
    if not len(reached):
        return float("nan")
    at = int(reached[0])
    if at == 0:
        return float(shots[0])
    before, after = values[at - 1], values[at]
    part = (target - before) / (after - before)
    return float(shots[at - 1] * (shots[at] / shots[at - 1]) ** part)


def _summary(curve: pd.DataFrame, drawn: pd.DataFrame, share: float) -> dict[str, Any]:
    reference = curve[curve["shots"] == ALL].iloc[0]
    points = curve[(curve["shots"] != ALL) & curve["value"].notna()].sort_values("shots")
    made: dict[str, Any] = {"protocol_id": reference["protocol_id"], "n_test": reference["n_test"]}
    made |= dict(
        zip(("full", "full_low", "full_high"), reference[["value", "samples_low", "samples_high"]], strict=True)
    )
    if not len(points):
        return made | {"status": reference["status"] if np.isnan(reference["value"]) else "no size fits every class"}
    shots = points["shots"].to_numpy(float)
    made |= {"least_shots": int(shots[0]), "most_shots": int(shots[-1]), "n_draws": int(points["n_draws"].iloc[0])}
    if len(shots) > 1:
        weights = _trapezia(np.log2(shots))
        table = drawn[drawn["shots"].isin(shots)].pivot(index="draw", columns="shots", values="value")
        areas = table.sort_index(axis=1).to_numpy() @ weights
        made |= dict(zip(("area", "area_low", "area_high"), t_interval(areas), strict=True))
        made |= {f"area_{end}": float(points[end] @ weights) for end in ("samples_low", "samples_high")}
    target, chance = share * reference["value"], shots[0] / points["n_train"].iloc[0]
    if target <= chance or reference["samples_low"] <= chance:
        return made | {"status": "no_headroom"}
    labels = crossing(shots, points["value"].to_numpy(), target)
    made["labels"] = labels
    for ends, low, high in (
        ("draws", "labels_low", "labels_high"),
        ("samples", "labels_samples_low", "labels_samples_high"),
    ):
        lower, upper = points[f"{ends}_low"].to_numpy(), points[f"{ends}_high"].to_numpy()
        if not np.isnan(lower).any():
            made |= {
                low: crossing(shots, upper, target),
                high: np.nan_to_num(crossing(shots, lower, target), nan=np.inf),
            }
    status = "not reached" if np.isnan(labels) else "reached at once" if labels == shots[0] else "ok"
    return made | {"status": status}


def _trapezia(x: NDArray) -> NDArray[np.float64]:
    """Weights [n] that give the mean of a piecewise linear function over the range of rising `x`."""
    steps = np.diff(x)
    return np.asarray((np.append(steps, 0) + np.insert(steps, 0, 0)) / 2 / steps.sum())
