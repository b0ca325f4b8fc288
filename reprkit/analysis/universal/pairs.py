"""The difference in universality between two encoders, over the same test samples.

A sample that is hard for one encoder is mostly hard for the other. Resampling both with the same counts takes what they
have in common out of the difference; intervals of the two scores side by side would count it twice. Dummies cannot be
shared in this way (the coordinates of two encoders have nothing to do with each other): each encoder meets its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reprkit.analysis.groups import group_names
from reprkit.analysis.universal.intervals import Counts
from reprkit.analysis.universal.measuring import Measured, Score, measure
from reprkit.analysis.universal.score import DEFAULT, Head, fresh_dummies, protocol_id, task_names
from reprkit.analysis.universal.study import Study
from reprkit.analysis.workspace import Workspace
from reprkit.errors import InputError
from reprkit.recipe import UniversalityConfig

if TYPE_CHECKING:
    from reprkit.embeddings import Embeddings

COLUMNS = (
    "encoder", "seed", "task", "baseline", "baseline_seed", "head", "measure", "value", "baseline_value",
    "difference", "low", "high", "n", "status", "protocol_id",
)  # fmt: skip

MEASURES = ("U_rel", "U_rel_tau", "gap")


def universality_pair(
    embeddings: Embeddings | Workspace,
    baseline: Embeddings | Workspace,
    *,
    tasks: Sequence[str] | None = None,
    config: UniversalityConfig = DEFAULT,
    labels: tuple[str, str] | None = None,
) -> pd.DataFrame:
    """Differences `embeddings` - `baseline` of U_rel, U_rel_tau and the gap, one row per task, head and measure.

    Test rows are joined by id, whatever their order; a row that only one file has is scored in neither. The same
    samples and seed give the same resamples of samples for every pair. Everything else is as in `universality`.

    Args:
        embeddings, baseline: two open files, or their workspaces.
        tasks: names; those that both encoders were trained for by default.
        config: dummies, heads and resamples; `config.groups`, or else what the files say, resamples groups of samples.
        labels: names of the two in the result, instead of the files' own.

    Returns:
        Rows with `COLUMNS`. encoder, seed; baseline, baseline_seed: the two files. measure: `U_rel`, `U_rel_tau` or
        `gap`. value, baseline_value: on the rows that both have, n of them. low, high: 95% interval of the difference
        over dummies and samples. status: `ok`, or the statuses of the two where one has no such value: then the
        difference is NaN.

    Raises:
        InputError: no common test samples, or a task that is unknown or whose kind, size or targets differ.
    """
    spaces = Workspace.of(embeddings), Workspace.of(baseline)
    names = task_names(spaces[0], tasks)
    if tasks is None:
        names = [name for name in names if name in spaces[1].trained_tasks]
    config = replace(config, groups=config.groups or spaces[0].groups or spaces[1].groups)
    codes = _joined(spaces, config.groups)
    for name in task_names(spaces[1], names):
        _check_targets(spaces, codes, name)
    studies = [Study(ws, names, scored=own >= 0) for ws, own in zip(spaces, codes, strict=True)]
    problems = {name: _problem(studies, codes, name) for name in names}
    measured = [name for name in names if not problems[name]]
    shown = labels or (spaces[0].label, spaces[1].label)
    rows: list[dict[str, Any]] = []
    for head in config.heads:
        found = [_measure(*side, cast(Head, head), config, measured) for side in zip(studies, codes, strict=True)]
        for name in names:
            common = {
                "encoder": shown[0], "seed": spaces[0].seed, "task": name, "head": head,
                "baseline": shown[1], "baseline_seed": spaces[1].seed, "n": studies[0].targets[name].count("test"),
                "protocol_id": protocol_id(studies[0], cast(Head, head), config),
            }  # fmt: skip
            for what in MEASURES:
                row = (
                    {"status": problems[name]} if problems[name] else _difference(found[0][name], found[1][name], what)
                )
                rows.append({**common, "measure": what, **row})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _joined(spaces: tuple[Workspace, Workspace], groups: str) -> list[NDArray[np.int64]]:
    """For each file, what every test row is resampled with: equal numbers mark a common sample (or its group)."""
    ids = [np.asarray(ws.ids("test")).astype(str) for ws in spaces]
    common = np.intersect1d(ids[0], ids[1])
    if not len(common):
        raise InputError(
            f"{spaces[0].source} and {spaces[1].source} have no test sample in common; embed the same data"
        )
    owners = group_names(common, groups, spaces[0].source)
    number = dict(zip(common.tolist(), np.unique(owners, return_inverse=True)[1].tolist(), strict=True))
    return [np.array([number.get(name, -1) for name in own.tolist()], dtype=np.int64) for own in ids]


def _check_targets(spaces: tuple[Workspace, Workspace], codes: list[NDArray[np.int64]], name: str) -> None:
    """A pair needs the same truth."""
    first, second = (ws.tasks[name] for ws in spaces)
    truths = []
    for ws, own in zip(spaces, codes, strict=True):
        rows = np.flatnonzero(own >= 0)
        truths.append(ws.targets("test", name)[rows[np.argsort(np.asarray(ws.ids("test")).astype(str)[rows])]])
    same = np.array_equal(truths[0], truths[1], equal_nan=not first.is_discrete)
    if (first.kind, first.num_outputs) != (second.kind, second.num_outputs) or not same:
        raise InputError(
            f"task '{name}' is not the same in {spaces[0].source} and {spaces[1].source}; embed the same data"
        )


def _problem(studies: list[Study], codes: list[NDArray[np.int64]], name: str) -> str:
    """Why the two cannot be compared on a task, or nothing."""
    targets = [study.targets[name] for study in studies]
    for target in targets:
        if target.problem:
            return target.problem
    scored = [np.sort(own[target.valid("test")]) for own, target in zip(codes, targets, strict=True)]
    return "" if np.array_equal(scored[0], scored[1]) else "the training splits lack different classes"


def _measure(
    study: Study, codes: NDArray[np.int64], head: Head, config: UniversalityConfig, names: list[str]
) -> dict[str, Measured]:
    if not names:
        return {}
    return measure(
        study,
        fresh_dummies(study, head, config),
        config,
        Counts(codes, config.bootstrap, config.seed),
        names=names,
    )


def _difference(first: Measured, second: Measured, what: str) -> dict[str, Any]:
    failed = ("optimiser_failed",) if what == "gap" else ("optimiser_failed", "no_headroom")
    sides = (first, second)
    usable = [side.status not in failed for side in sides]
    scores = [_score(side, what) for side in sides]
    row: dict[str, Any] = {
        "value": scores[0].value if usable[0] else np.nan,
        "baseline_value": scores[1].value if usable[1] else np.nan,
    }
    if not all(usable):
        return row | {"status": f"{first.status} against {second.status}"}
    difference = scores[0] - scores[1]
    low, high = difference.interval()
    return row | {"difference": difference.value, "low": low, "high": high, "status": "ok"}


def _score(found: Measured, what: str) -> Score:
    return found.gap if what == "gap" else found.relative("rms1" if what == "U_rel" else "tau")
