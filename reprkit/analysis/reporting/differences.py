"""Paired differences between encoders, and what may be said of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reprkit.analysis import style
from reprkit.analysis.bootstrap import paired_bootstraps
from reprkit.analysis.groups import COLUMN as GROUP
from reprkit.analysis.groups import Codes, group_names
from reprkit.analysis.paired import paired_changes
from reprkit.analysis.reporting.delta import LOWER_IS_BETTER
from reprkit.analysis.reporting.headlines import FLOORS, headline
from reprkit.analysis.reporting.results import Results, Run, predictions
from reprkit.analysis.reporting.seeds import OVER_SAMPLES, OVER_SEEDS
from reprkit.analysis.stats import t_interval
from reprkit.errors import InputError
from reprkit.files import slug

OWN_HEAD = "own head"
COLUMNS = [
    "task", "encoder", "baseline", "predictor", "metric", "difference", "low", "high", "n_seeds", "interval", "reading",
]  # fmt: skip
UNCLEAR = "not distinguishable"
MOST_ENTRIES = 4_000_000
"""Entries of a table that is bootstrapped in one pass; it bounds the memory."""

ENDS = ("low", "high", "low_other", "high_other")


def pairs(encoders: Iterable[str], baseline: str = "vanilla") -> list[tuple[str, str]]:
    """Which encoder is compared with which: each with `baseline`, and each `x+dgr`, `x+sam`, ... with its own `x`."""
    known = list(encoders)
    found = [(name, baseline) for name in known if name != baseline and baseline in known]
    found += [(name, base) for name in known if (base := style.split_label(name)[0]) != name]
    return [pair for pair in dict.fromkeys(found) if pair[1] in known and pair[0] != pair[1]]


def closest(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """One pair an encoder: with its own method where there is one, else the first."""
    kept: dict[str, str] = {}
    for encoder, other in pairs:
        if encoder not in kept or other == style.split_label(encoder)[0]:
            kept[encoder] = other
    return [(name, kept[name]) for name in style.encoder_order(kept)]


def reading(difference: float, low: float, high: float, *, lower_is_better: bool = False) -> str:
    """`better`, `worse`, or `not distinguishable` if the interval covers 0; empty without an interval."""
    if not np.isfinite([difference, low, high]).all():
        return ""
    if low <= 0 <= high:
        return UNCLEAR
    return "better" if (difference > 0) != lower_is_better else "worse"


def differences(results: Results, *, baseline: str = "vanilla") -> pd.DataFrame:
    """Paired differences of the headline metric, of the models' own heads and of every probe.

    With two or more common seeds: the mean over seeds of (encoder - baseline), with Student's 95% interval. With one:
    the difference of that seed, with a 95% bootstrap interval over paired test samples where per-sample predictions
    are kept (accuracy only); it says nothing about another training run.

    Returns:
        task, encoder, baseline, predictor (`own head` or a probe), metric, difference, low, high, n_seeds, interval
        (`seeds`, `samples` or empty), reading.
    """
    heads = results.scores.assign(probe=OWN_HEAD)[["encoder", "seed", "task", "probe", "metric", "value"]]
    probes = (
        headline(results.probes)
        if "metric" in results.probes
        else results.probes.assign(probe="", metric="", value=0.0)
    )
    ladder = probes.loc[~probes["probe"].isin(FLOORS), list(heads.columns)]
    rows = pd.concat([frame for frame in (heads, ladder) if len(frame)] or [heads], ignore_index=True)
    by_sample = _SamplePairs(results)
    paired: dict[int, tuple[NDArray[np.int8], Codes | None]] = {}
    made: list[dict[str, Any]] = []
    for encoder, other in pairs(results.encoders, baseline):
        mine, theirs = rows[rows["encoder"] == encoder], rows[rows["encoder"] == other]
        both = mine.merge(theirs, on=["seed", "task", "probe", "metric"], suffixes=("", "_other"))
        both["change"] = both["value"] - both["value_other"]
        both = both[both["change"].notna()]
        for (task, predictor, metric), group in both.groupby(["task", "probe", "metric"], sort=False):
            difference, low, high = t_interval(group["change"])
            interval = OVER_SEEDS if len(group) > 1 else ""
            if len(group) == 1 and metric == "accuracy":
                seed = int(group["seed"].iloc[0])
                found = by_sample(str(encoder), str(other), seed, str(task), str(predictor))
                if found is not None:
                    paired[len(made)] = found
            key = (task, encoder, other, predictor, metric)
            row = (*key, difference, low, high, len(group), interval, "")
            made.append(dict(zip(COLUMNS, row, strict=True)))
    for number, interval_of in _bootstraps(paired):
        made[number] |= dict(zip(("difference", "low", "high"), interval_of, strict=True), interval=OVER_SAMPLES)
    for one in made:
        worse_if_higher = str(one["metric"]) in LOWER_IS_BETTER
        one["reading"] = reading(one["difference"], one["low"], one["high"], lower_is_better=worse_if_higher)
    return pd.DataFrame(made, columns=COLUMNS)


def _bootstraps(
    columns: Mapping[int, tuple[NDArray[np.int8], Codes | None]],
) -> Iterator[tuple[int, tuple[float, float, float]]]:
    """Difference, low and high of each column of per-sample changes; those of one length and groups in few passes."""
    alike: dict[tuple[int, bytes], list[int]] = {}
    for number, (changes, groups) in columns.items():
        alike.setdefault((len(changes), b"" if groups is None else groups.tobytes()), []).append(number)
    for (size, _), numbers in alike.items():
        step = max(1, MOST_ENTRIES // max(size, 1))
        for start in range(0, len(numbers), step):
            some = numbers[start : start + step]
            table = np.stack([columns[n][0] for n in some], axis=1)
            yield from zip(some, paired_bootstraps(table, groups=columns[some[0]][1]), strict=True)


def universality_differences(universality: pd.DataFrame, *, baseline: str = "vanilla") -> pd.DataFrame:
    """Differences of U_rel and U_rel_tau between encoders, seed by seed.

    Returns:
        The columns of `differences`, with the head as predictor and U_rel or U_rel_tau as metric. With one common seed
        there is no interval of the difference; the reading then tells whether the two intervals are `apart` or
        `overlap`, which is stricter than a test of the difference.
    """
    made: list[dict[str, Any]] = []
    for encoder, other in pairs(dict.fromkeys(universality["encoder"].astype(str)), baseline):
        keys = ["seed", "task", "head"]
        mine, theirs = (universality[universality["encoder"] == name] for name in (encoder, other))
        both = mine.merge(theirs, on=keys, suffixes=("", "_other"))
        for metric in ("U_rel", "U_rel_tau"):
            known = both[both[metric].notna() & both[f"{metric}_other"].notna()]
            for (task, head), group in known.groupby(["task", "head"], sort=False):
                difference, low, high = t_interval(group[metric] - group[f"{metric}_other"])
                says, interval = reading(difference, low, high), OVER_SEEDS if len(group) > 1 else ""
                says = {"better": "higher", "worse": "lower"}.get(says, says)
                if len(group) == 1:
                    says = _apart(*(group[f"{metric}_{end}"].iloc[0] for end in ENDS if f"{metric}_{end}" in group))
                key = (task, encoder, other, head, metric)
                made.append(dict(zip(COLUMNS, (*key, difference, low, high, len(group), interval, says), strict=True)))
    return pd.DataFrame(made, columns=COLUMNS)


def _apart(*ends: float) -> str:
    """Whether two intervals (low, high, low, high) are `apart` or `overlap`; empty if one is not known."""
    if len(ends) != 4 or not np.isfinite(ends).all():
        return ""
    return "overlap" if ends[0] <= ends[3] and ends[2] <= ends[1] else "apart"


class _SamplePairs:
    """Paired samples, from the prediction files and logits that the runs kept."""

    def __init__(self, results: Results) -> None:
        self.runs = results.runs
        self.tables: dict[tuple[Run, str], Mapping[str, pd.DataFrame]] = {}

    def __call__(
        self, encoder: str, other: str, seed: int, task: str, predictor: str
    ) -> tuple[NDArray[np.int8], Codes | None] | None:
        """`paired_changes`, or None if predictions are missing or do not match."""
        read: Callable[[Run], Mapping[str, pd.DataFrame]] = predictions
        if predictor == OWN_HEAD:
            read = head_predictions
        first, second = (self._table(name, seed, task, predictor, read) for name in (other, encoder))
        if first is None or second is None or predictor not in first or predictor not in second:
            return None
        try:
            return paired_changes(first, second, probe=predictor)
        except InputError:
            return None

    def _table(
        self, encoder: str, seed: int, task: str, predictor: str, read: Callable[[Run], Mapping[str, pd.DataFrame]]
    ) -> pd.DataFrame | None:
        for run in self.runs:
            if (run.encoder, run.seed) == (encoder, seed) and run.task in ("", task):
                key = (run, "head" if predictor == OWN_HEAD else "probes")
                if key not in self.tables:
                    self.tables[key] = read(run)
                for name in (task, slug(task)):  # prediction files carry the slug, heads the name
                    if name in self.tables[key]:
                        return self.tables[key][name]
        return None


def head_predictions(run: Run) -> dict[str, pd.DataFrame]:
    """What a model's own heads predict on the test split, from the logits in its embeddings file: id, target, own head.

    Empty if the file is missing or holds no logits; discrete tasks only, without missing targets.
    """
    from reprkit.embeddings import Embeddings

    path = run.path / "embeddings.h5"
    if not path.is_file():
        return {}
    tables = {}
    try:
        with Embeddings(path) as embeddings:
            if "test" not in embeddings.splits:
                return {}
            ids = embeddings.ids("test")
            for name in embeddings.trained_tasks:
                task, logits = embeddings.tasks[name], embeddings.logits("test", name)
                if logits is None or not task.is_discrete:
                    continue
                target = embeddings.targets("test", name)
                frame = pd.DataFrame({"id": ids.astype(str), "target": target, OWN_HEAD: logits.argmax(axis=1)})
                if embeddings.groups:
                    frame[GROUP] = group_names(ids, embeddings.groups, str(path))
                tables[name] = frame[task.valid(target)]
    except (InputError, OSError):
        return {}
    return tables
