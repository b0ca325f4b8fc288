"""Differences of what is measured on each encoder alone (universality, geometry), and how alike two encoders are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reprkit.analysis.bootstrap import bootstrap_mean, percentile_interval
from reprkit.analysis.groups import Codes, some_groups
from reprkit.analysis.reporting.differences import reading
from reprkit.analysis.reporting.seeds import OVER_SAMPLES, OVER_SEEDS
from reprkit.analysis.rows import Rows
from reprkit.analysis.shape.estimates import Undefined
from reprkit.analysis.shape.similarity import above_chance, linear_cka, mutual_knn
from reprkit.analysis.stats import t_interval
from reprkit.analysis.universal.intervals import Counts
from reprkit.analysis.universal.measuring import measure
from reprkit.analysis.universal.score import DEFAULT, Head, fresh_dummies
from reprkit.analysis.universal.study import Study
from reprkit.analysis.workspace import Workspace, carve_by_id
from reprkit.recipe import UniversalityConfig

if TYPE_CHECKING:
    from reprkit.embeddings import Embeddings

MEASURED = ("U_rel", "U_rel_tau", "gap", "L_star", "rms", "effective_rank", "grad_norm")
"""Columns of universality that are compared: the relative scores, and what tells whether they may be believed."""

OVER_DUMMIES = "dummies and samples"
Drawn = dict[tuple[str, str, str, str], NDArray[np.float64]]
"""(encoder, task, name, metric) -> resamples of a score."""

MOST_ROWS = 10_000
"""Test rows on which two encoders are aligned; of more, about so many are chosen by a hash of their ids."""

NEIGHBOURS = 10
SIMILARITIES = ("debiased_cka", f"mutual_knn_{NEIGHBOURS}", f"mutual_knn_{NEIGHBOURS}_above_chance")
MOST_HELD = 8
"""Encoders whose rows are held at a time."""


def universality_values(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of `universality` as values: encoder, seed, task, name (head), metric, value, low, high, n, protocol_id."""
    parts = []
    for metric in MEASURED:
        part = frame[["encoder", "seed", "task", "n", "protocol_id"]].assign(
            name=frame["head"], metric=metric, value=frame[metric].astype(float)
        )
        for end in ("low", "high"):
            part[end] = frame.get(f"{metric}_{end}", pd.Series(np.nan, frame.index)).astype(float)
        parts.append(part[part["value"].notna()])
    return pd.concat(parts, ignore_index=True)


def universality_drawn(
    space: Workspace, tasks: Sequence[str], label: str, config: UniversalityConfig = DEFAULT
) -> Drawn:
    """Resamples of the scores of universality, paired between encoders whose test rows are in one order.

    The same dummies (for equal D), dummy draws and counts of test rows serve every encoder.
    """
    found: Drawn = {}
    study, counts = Study(space, tasks), Counts(space.group_codes("test"), config.bootstrap, config.seed)
    for head in config.heads if study.names else ():
        dummies = fresh_dummies(study, cast(Head, head), config)
        measured = measure(study, dummies, config, counts, names=study.names)
        for name, one in measured.items():
            scores = {"U_rel": one.relative("rms1"), "U_rel_tau": one.relative("tau")}
            scores |= {"gap": one.gap, "L_star": one.single("star")}
            found |= {(label, name, head, metric): score.resamples for metric, score in scores.items()}
    return found


def measured_rows(
    values: pd.DataFrame, kind: str, encoders: Sequence[str], baseline: str, *, drawn: Drawn | None = None
) -> list[dict[str, Any]]:
    """Every encoder against the baseline, where both were measured under one protocol.

    With several common seeds: the mean difference with Student's interval over them, read as `higher`, `lower` or `not
    distinguishable`. With one the interval of the difference is that of the paired resamples; where there are none, the
    reading tells whether the intervals of the two values are `apart` or `overlap`, which is stricter than a test.

    Args:
        values: encoder, seed, task, name, metric, value, low, high, n, protocol_id.
        kind: of the rows.
        encoders: labels, in the order of the rows.
        baseline: one of them.
        drawn: (encoder, task, name, metric) -> resamples, paired between encoders.
    """
    keys = ["task", "name", "metric", "protocol_id"]
    drawn = drawn or {}
    first = values[values["encoder"] == baseline]
    rows = []
    for encoder in encoders:
        if encoder == baseline:
            continue
        both = values[values["encoder"] == encoder].merge(first, on=[*keys, "seed"], suffixes=("", "_before"))
        for key, group in both.groupby(keys, sort=False):
            difference, low, high = t_interval(group["value"] - group["value_before"])
            before, after = (drawn.get((name, str(key[0]), str(key[1]), str(key[2]))) for name in (baseline, encoder))
            if len(group) == 1 and before is not None and after is not None:
                low, high = percentile_interval(after - before)
            if np.isfinite(low):
                interval = OVER_SEEDS if len(group) > 1 else OVER_DUMMIES
                says = reading(difference, low, high)
                says = {"better": "higher", "worse": "lower"}.get(says, says)
            else:
                interval = ""
                says = apart(*group[["low", "high", "low_before", "high_before"]].iloc[0])
            row = dict(zip(keys, key, strict=True)) | {"kind": kind, "encoder": encoder, "baseline": baseline}
            row |= {"value": group["value"].mean(), "baseline_value": group["value_before"].mean()}
            row |= {"difference": difference, "low": low, "high": high, "n": group["n"].iloc[0], "n_seeds": len(group)}
            rows.append(row | {"interval": interval, "reading": says})
    return rows


def apart(low: float, high: float, other_low: float, other_high: float) -> str:
    """Whether two intervals are `apart` or `overlap`; empty if one is unknown."""
    if not np.isfinite([low, high, other_low, other_high]).all():
        return ""
    return "overlap" if low <= other_high and other_low <= high else "apart"


class Member(NamedTuple):
    """An encoder of one training seed."""

    encoder: str
    seed: int
    file: Embeddings | Workspace


def similarity_rows(members: Sequence[Member], baseline: str | None = None) -> list[dict[str, Any]]:
    """How alike encoders are on the test samples.

    Debiased linear CKA (1: equal up to rotation and scale, about 0: independent) and the share of the 10 nearest
    neighbours that both have in common, plain and corrected for chance. `baseline` of a row is the other encoder of
    the pair; there is no difference to read. Two encoders are compared seed by seed, and those of one label across
    seeds: the yardstick for the others. One pair has a bootstrap interval of the plain share over samples, several
    common seeds have Student's interval over them, and seeds of one label have none, since their pairs overlap.

    Args:
        members: encoders, one a label and seed.
        baseline: label that the others are compared with; None compares all with one another.
    """

    @lru_cache(maxsize=MOST_HELD)
    def rows_of(number: int) -> NDArray[np.float32]:
        return aligned_rows(Workspace.of(members[number].file))

    groups = aligned_groups(Workspace.of(members[0].file)) if members else None
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for i, j in combinations(range(len(members)), 2):
        one, two = members[i], members[j]
        if two.encoder == baseline:
            i, j, one, two = j, i, two, one
        wanted = baseline in (None, one.encoder) and one.seed == two.seed
        if wanted if one.encoder != two.encoder else True:
            found.setdefault((two.encoder, one.encoder), []).append(_alike(rows_of(i), rows_of(j), groups))
    rows = []
    for (encoder, other), values in found.items():
        for metric in SIMILARITIES:
            row: dict[str, Any] = {
                "kind": "similarity",
                "task": "",
                "metric": metric,
                "encoder": encoder,
                "baseline": other,
            }
            row |= {"n": values[0]["n"], "n_seeds": len(values)}
            if len(values) == 1:
                rows.append(row | values[0][metric])
                continue
            mean, low, high = t_interval([value[metric]["value"] for value in values])
            over = {"low": low, "high": high, "interval": OVER_SEEDS} if encoder != other else {}
            rows.append(row | {"value": mean} | over)
    return rows


def _alike(first: NDArray, second: NDArray, groups: Codes | None) -> dict[str, Any]:
    """n, and value (and interval) of every similarity of two representations of the same rows, in the same groups."""
    found: dict[str, Any] = {"n": len(first)}
    try:
        cka = linear_cka(Rows.of(first), Rows.of(second)).debiased
        value, low, high = bootstrap_mean(mutual_knn(first, second, NEIGHBOURS), groups=groups)
    except Undefined as reason:
        return found | {name: {"value": np.nan, "reading": f"undefined: {reason}"} for name in SIMILARITIES}
    corrected = above_chance(value, NEIGHBOURS / (len(first) - 1))
    shared = {"value": value, "low": low, "high": high, "interval": OVER_SAMPLES}
    return found | dict(zip(SIMILARITIES, ({"value": cka}, shared, {"value": corrected}), strict=True))


def aligned_rows(space: Workspace, most: int = MOST_ROWS) -> NDArray[np.float32]:
    """Test embeddings in the order of their ids, at most about `most` of them: the same samples for every file."""
    order = _aligned_order(space, most)
    return space.rows("test", np.sort(order))[np.argsort(np.argsort(order))]


def aligned_groups(space: Workspace, most: int = MOST_ROWS) -> Codes | None:
    """Groups of the rows that `aligned_rows` gives; None if every row is its own."""
    return some_groups(space.group_codes("test"), _aligned_order(space, most))


def _aligned_order(space: Workspace, most: int) -> NDArray[np.int64]:
    ids = space.ids("test")
    order = np.argsort(ids)
    return order[carve_by_id(ids[order], -(-len(ids) // most))] if len(ids) > most else order
