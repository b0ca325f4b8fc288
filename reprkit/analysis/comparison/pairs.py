"""Paired differences of probes and own heads: one row a task, predictor, metric and pair of encoders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from reprkit.analysis.bootstrap import seeds_and_samples
from reprkit.analysis.comparison.panel import Key, Panel, metrics_of
from reprkit.analysis.probes.protocol import HEAD
from reprkit.analysis.reporting.delta import LOWER_IS_BETTER
from reprkit.analysis.reporting.differences import reading
from reprkit.analysis.reporting.seeds import OVER_SAMPLES
from reprkit.analysis.stats import holm, mcnemar, smallest_detectable_difference
from reprkit.recipe import PROBES

COLUMNS = (
    "kind", "task", "name", "metric", "encoder", "baseline", "value", "baseline_value", "difference", "low", "high",
    "p_mcnemar", "p_holm", "smallest_detectable", "n", "n_seeds", "interval", "reading", "protocol_id",
)  # fmt: skip
"""Columns of every comparison; `name` is the probe, `head`, the architecture of the dummies, or empty."""

SEED_COLUMNS = ("task", "name", "metric", "encoder", "baseline", "seed", "difference")
OVER_BOTH = "seeds and samples"
POWER = 0.8
Z_LEVEL, Z_POWER = float(norm.ppf(0.975)), float(norm.ppf(POWER))


def paired_rows(
    panel: Panel, scores: Mapping[Key, Mapping[str, NDArray]], encoders: Sequence[str], baseline: str
) -> list[dict[str, Any]]:
    """Every encoder against the baseline, for every predictor and metric of a task.

    With several common training seeds a value is the mean over them and the interval that of `seeds_and_samples`;
    with one it is the percentile bootstrap over test samples, and the accuracy of a single model has an exact McNemar
    p-value as well. Where samples come in groups, groups are resampled and there is no p-value: McNemar's test needs
    independent samples.

    Args:
        panel: predictions of the task.
        scores: result of `resampled_scores` of it.
        encoders: labels, in the order of the rows.
        baseline: one of them.

    Returns:
        Rows of `COLUMNS` with kind "probe", p-values not yet adjusted. `smallest_detectable` is the difference that
        such a test finds with 80% power.
    """
    rows = []
    for encoder, keys in _pairs(panel, encoders, baseline):
        for metric in metrics_of(panel.task):
            row: dict[str, Any] = {
                "kind": "probe",
                "task": panel.task.name,
                "name": keys[0][0].predictor,
                "metric": metric,
            }
            row |= {"encoder": encoder, "baseline": baseline, "n": len(panel.target), "n_seeds": len(keys)}
            rows.append(row | _difference(panel, scores, keys, metric) | {"protocol_id": keys[0][0].protocol})
    return rows


def seed_rows(
    panel: Panel, scores: Mapping[Key, Mapping[str, NDArray]], encoders: Sequence[str], baseline: str
) -> list[dict[str, Any]]:
    """The differences of single training seeds behind `paired_rows`, of the headline metric: rows of `SEED_COLUMNS`."""
    metric, rows = metrics_of(panel.task)[0], []
    for encoder, keys in _pairs(panel, encoders, baseline):
        for before, after in keys:
            difference = float(scores[after][metric][0] - scores[before][metric][0])
            row = (panel.task.name, after.predictor, metric, encoder, baseline, after.seed, difference)
            rows.append(dict(zip(SEED_COLUMNS, row, strict=True)))
    return rows


def _pairs(panel: Panel, encoders: Sequence[str], baseline: str) -> Iterator[tuple[str, list[tuple[Key, Key]]]]:
    """Encoder, and the (baseline, encoder) keys of every seed, for each predictor and protocol that both have."""
    for predictor in predictors(panel):
        for encoder in encoders:
            if encoder == baseline:
                continue
            for protocol, seeds in common_seeds(panel, encoder, baseline, predictor).items():
                yield (
                    encoder,
                    [(Key(baseline, s, predictor, protocol), Key(encoder, s, predictor, protocol)) for s in seeds],
                )


def _difference(
    panel: Panel, scores: Mapping[Key, Mapping[str, NDArray]], keys: Sequence[tuple[Key, Key]], metric: str
) -> dict[str, Any]:
    """Values, difference, interval, p-value and reading over the (baseline, encoder) keys of each seed."""
    before, after = (np.stack([scores[pair[side]][metric] for pair in keys]) for side in (0, 1))
    change = after - before
    difference = float(change[:, 0].mean())
    _, low, high = seeds_and_samples(change[:, 0], change[:, 1:].mean(axis=0), n=panel.units)
    p, smallest = float("nan"), (high - low) / 2 * (1 + Z_POWER / Z_LEVEL)
    if metric == "accuracy" and len(keys) == 1 and panel.groups is None:
        first, second = (panel.right(key) for key in keys[0])
        if first.ndim == second.ndim == 1:
            p = mcnemar(first, second)
            smallest = smallest_detectable_difference(len(first), float((first != second).mean()), power=POWER)
    return {
        "value": float(after[:, 0].mean()), "baseline_value": float(before[:, 0].mean()), "difference": difference,
        "low": low, "high": high, "p_mcnemar": p, "p_holm": float("nan"), "smallest_detectable": smallest,
        "interval": OVER_BOTH if len(keys) > 1 else OVER_SAMPLES,
        "reading": reading(difference, low, high, lower_is_better=metric in LOWER_IS_BETTER),
    }  # fmt: skip


def predictors(panel: Panel) -> list[str]:
    """Predictors of a panel, probes in table order and the encoder's own head last."""
    found = {key.predictor for key in panel.predictions}
    order = [*PROBES, *sorted(found - {*PROBES, HEAD}), HEAD]
    return [name for name in order if name in found]


def common_seeds(panel: Panel, encoder: str, baseline: str, predictor: str) -> dict[str, list[int]]:
    """Protocol id -> seeds of which both encoders have predictions made under it."""
    seeds = {
        name: {(key.protocol, key.seed) for key in panel.predictions if key[0] == name and key.predictor == predictor}
        for name in (encoder, baseline)
    }
    found: dict[str, list[int]] = {}
    for protocol, seed in sorted(seeds[encoder] & seeds[baseline]):
        found.setdefault(protocol, []).append(seed)
    return found


def unmatched(panel: Panel, encoders: Sequence[str], baseline: str) -> list[str]:
    """Predictors that an encoder shares with the baseline by name only, in sentences."""
    told = []
    for predictor in predictors(panel):
        have = {key.encoder for key in panel.predictions if key.predictor == predictor}
        for encoder in encoders:
            if encoder == baseline or not {encoder, baseline} <= have:
                continue
            if not common_seeds(panel, encoder, baseline, predictor):
                told.append(
                    f"{panel.task.name}, {predictor}: {encoder} and {baseline} were measured under different protocols"
                    " or with different seeds and are not compared"
                )
    return told


def adjust(frame: pd.DataFrame) -> pd.DataFrame:
    """Fill `p_holm`: Holm's adjustment of all McNemar p-values of a task, over its predictors and encoders."""
    frame = frame.copy()
    for _, group in frame.groupby("task", sort=False):
        frame.loc[group.index, "p_holm"] = holm(group["p_mcnemar"])
    return frame
