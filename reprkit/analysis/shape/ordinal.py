"""Ordinal alignment: does a representation lay ordered classes out in their order?

Shin, Do and Son (ECCV 2024) read "aligned by age order" off a map (Figure 3b). Here it is measured, where the samples
are (space `z`) and on their map (space `map`), so that a figure can carry the same numbers:

    centroid_spearman    rank correlation of the distances between class means with the differences of their values
                         (1: always in order), and its p-value over all orders of the classes (Mantel, 1967)
    first_axis_share     share of the variance between class means that lies on its first axis: 1 on a line, whatever
                         the order along it
    triplet_accuracy     share of triplets (a, b, c) with |y_a - y_b| < |y_a - y_c| in which b lies closer to a than c
                         does; chance is 0.5
    direction_spearman   rank correlation of y with the best linear direction, on samples that had no part in it;
                         Spearman's own, so that C equal classes reach sqrt(1 - 1 / C^2) at most

Distances are Euclidean, so that no number changes under rotation, shift or scaling of z. Noise of the class means
lengthens the distances of rare classes; its expectation is subtracted, as in the unbiased distances of Walther et al.,
NeuroImage 2016.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reprkit.analysis.groups import Codes, some_groups
from reprkit.analysis.linalg import single_thread_blas
from reprkit.analysis.rows import stratified_rows
from reprkit.analysis.shape.order import (
    NOTHING,
    Triple,
    centroid_gram,
    first_axis_share,
    mantel,
    spearman_interval,
    triplet_accuracy,
    weighted_spearman,
)
from reprkit.analysis.workspace import Workspace, carve_by_id
from reprkit.errors import InputError

if TYPE_CHECKING:
    from reprkit.embeddings import Embeddings
    from reprkit.tasks import Task

COLUMNS = ("encoder", "seed", "task", "space", "metric", "value", "low", "high", "p_value", "n", "status")
METRICS = ("centroid_spearman", "first_axis_share", "triplet_accuracy", "direction_spearman")

BINS = 8
"""Quantile bins that stand for classes of a regression target: the most for which every order can be tried."""

SAMPLES = 5000
"""Test samples, stratified, of which distances in z are taken."""

RIDGE = tuple(10.0 ** (i / 2) for i in range(4, -13, -1))
"""Penalties of the ridge direction, strongest first, in units of the mean variance of the features."""


def ordinal_alignment(
    embeddings: Embeddings | Workspace,
    *,
    tasks: Sequence[str] | None = None,
    maps: pd.DataFrame | None = None,
    label: str | None = None,
) -> pd.DataFrame:
    """Measure how well the order of ordinal and regression targets shows in the test split of an embeddings file.

    The ridge direction is fitted on train, its penalty chosen on val, and scored on test. On a map it is the least
    squares direction of one half of the samples (by a hash of their ids), scored on the other half. Where samples come
    in groups, halves hold whole groups and intervals are over groups.

    Args:
        embeddings: an open embeddings file, or its workspace.
        tasks: names; those the encoder was trained for by default. Classification tasks are left out: they have no
            order.
        maps: coordinates of `tsne` of the test split, columns id, x and y; rows of other encoders (by `encoder`,
            `seed` and `task`, where there) are left aside.
        label: name of the encoder; None takes the file's.

    Returns:
        One row a task, space and metric of `METRICS`: encoder, seed, task, space (`z` or `map`), metric, value in
        [-1, 1] (correlations) or [0, 1], low and high (95% over samples; NaN for the two centroid metrics), p_value
        (of `centroid_spearman`; NaN for the others), n (samples), status: `ok`, maybe with a remark after `; `, or a
        sentence that says why the value is NaN.

    Raises:
        InputError: an unknown task, a file without train or test split, or maps without coordinates of this encoder.
    """
    ws = Workspace.of(embeddings)
    asked = tasks if tasks is not None else [name for name in ws.trained_tasks if name in ws.tasks] or list(ws.tasks)
    unknown = [name for name in asked if name not in ws.tasks]
    if unknown:
        raise InputError(f"{ws.source}: has no task '{unknown[0]}'; choose from {', '.join(ws.tasks)}")
    encoder = label or ws.label
    on_map = None if maps is None else _own_map(maps, ws, encoder)
    rows: list[dict[str, Any]] = []
    for task in (ws.tasks[name] for name in asked if ws.tasks[name].kind in ("ordinal", "regression")):
        spaces = {"z": _in_z(ws, task)}
        if on_map is not None:
            spaces["map"] = _on_map(ws, task, *on_map)
        for space, found in spaces.items():
            key = {"encoder": encoder, "seed": ws.seed, "task": task.name, "space": space}
            rows += [{**key, **row} for row in found]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _in_z(ws: Workspace, task: Task) -> list[dict[str, Any]]:
    target = ws.targets("test", task.name)
    rows = stratified_rows(target, max(SAMPLES, task.num_outputs))
    scored = task.valid(target)
    scores = _ridge_scores(ws, task)
    if scores is None:
        scores, scored = np.zeros(0), np.zeros(0, np.int64)
    codes = ws.group_codes("test")
    direction = _Direction(scores[scored], target[scored], some_groups(codes, scored))
    return _measure(task, ws.rows("test", rows), target[rows], some_groups(codes, rows), direction)


def _on_map(ws: Workspace, task: Task, rows: NDArray[np.int64], points: NDArray) -> list[dict[str, Any]]:
    target = ws.targets("test", task.name)[rows]
    valid = np.flatnonzero(task.valid(target))
    points, target, rows = points[valid], target[valid], rows[valid]
    names = ws.group_names("test")
    fit = carve_by_id((ws.ids("test") if names is None else names)[rows], 2)
    codes = some_groups(ws.group_codes("test"), rows)
    design = np.column_stack([np.ones(len(points)), points])
    solution = np.linalg.lstsq(design[fit], target[fit].astype(np.float64), rcond=None)[0]
    direction = _Direction(design[~fit] @ solution, target[~fit], some_groups(codes, ~fit))
    return _measure(task, points, target, codes, direction)


class _Direction(NamedTuple):
    """Places of some samples along a direction, their targets, and the groups they come in."""

    scores: NDArray
    y: NDArray
    codes: Codes | None


def _measure(
    task: Task, points: NDArray, y: NDArray, codes: Codes | None, direction: _Direction
) -> list[dict[str, Any]]:
    """The rows of one task in one space; `codes` are the groups that samples come in."""
    groups, values, remarks = _classes(task, y)
    counts = np.bincount(groups, minlength=len(values))
    problem = _problem(points, counts)
    found: dict[str, Triple] = dict.fromkeys(METRICS, NOTHING)
    p_value = float("nan")
    if not problem:
        kept = np.flatnonzero(counts >= 2)
        if left := int(task.is_discrete) * (len(values) - len(kept)):
            remarks += f"; {left} of {len(values)} classes without two samples"
        gram = centroid_gram(points, groups, len(values))[np.ix_(kept, kept)]
        squared = np.diag(gram)[:, None] + np.diag(gram) - 2 * gram
        rho, p_value = mantel(squared, values[kept])
        found = {
            "centroid_spearman": (rho, math.nan, math.nan),
            "first_axis_share": (first_axis_share(gram, counts[kept]), math.nan, math.nan),
            "triplet_accuracy": triplet_accuracy(points, y, groups=codes),
            "direction_spearman": spearman_interval(direction.scores, direction.y, groups=direction.codes),
        }
    return [
        {
            "metric": metric,
            **dict(zip(("value", "low", "high"), found[metric], strict=True)),
            "p_value": p_value if metric == "centroid_spearman" else math.nan,
            "n": len(direction.scores) if metric == "direction_spearman" else len(points),
            "status": problem or ("ok" + remarks if found[metric][0] == found[metric][0] else _UNDEFINED[metric]),
        }
        for metric in METRICS
    ]


_UNDEFINED = {
    "centroid_spearman": "all class means are equally far apart",
    "first_axis_share": "the class means differ by no more than their noise",
    "triplet_accuracy": "no triplet of targets has an order",
    "direction_spearman": "no direction: targets or their predictions are constant, or train or val has none",
}


def _problem(points: NDArray, counts: NDArray) -> str:
    """Why nothing can be measured, or nothing."""
    filled = int((counts >= 2).sum())
    if filled < 3:
        return f"{filled} classes with two test samples or more: an order needs three"
    centred = points - points.mean(axis=0, dtype=np.float64)
    if np.sqrt((centred**2).mean()) <= 1e-6 * np.abs(points).max():  # what is left is the rounding of float32
        return "the representation is constant"
    return ""


def _classes(task: Task, y: NDArray) -> tuple[NDArray[np.int64], NDArray[np.float64], str]:
    """Class index [n] of every sample, the value [C] of every class, and a remark if classes are quantile bins."""
    if task.is_discrete:
        return y, np.arange(task.num_outputs, dtype=np.float64), ""
    places = np.searchsorted(np.sort(y), y, side="left")  # equal values fall into one bin
    _, groups = np.unique(places * BINS // max(len(y), 1), return_inverse=True)
    sizes = np.bincount(groups)
    return groups, np.bincount(groups, y) / sizes, f"; classes are {len(sizes)} quantile bins"


def _ridge_scores(ws: Workspace, task: Task) -> NDArray[np.float64] | None:
    """Places [N_test] along the ridge direction; None if train or val has no two different targets.

    The covariance is that of all train rows, also where some lack a target.
    """
    y, val_y = (ws.targets(split, task.name).astype(np.float64) for split in ("train", "val"))
    known, val_known = (task.valid(ws.targets(split, task.name)) for split in ("train", "val"))
    if any(len(np.unique(targets)) < 2 for targets in (y[known], val_y[val_known])):
        return None
    residual = np.where(known, y - y[known].mean(), 0.0)
    with single_thread_blas():
        moments, start = np.zeros(ws.dim), 0
        for block in ws.blocks("train"):
            moments += residual[start : start + len(block)] @ block  # the residuals sum to 0: no need to centre
            start += len(block)
        values, vectors = ws.statistics.eigen
        unit = values.mean() or 1.0
        weights = vectors @ ((vectors.T @ moments)[:, None] / (values[:, None] + unit * np.array(RIDGE)))
        on_val = np.concatenate([block @ weights for block in ws.blocks("val")])[val_known]
        merits = [weighted_spearman(scores, val_y[val_known], np.ones((1, len(scores))))[0] for scores in on_val.T]
        chosen = weights[:, int(np.argmax(np.nan_to_num(merits, nan=-2.0)))]
        return np.concatenate([block @ chosen for block in ws.blocks("test")])


def _own_map(maps: pd.DataFrame, ws: Workspace, encoder: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Test rows [n] that are on the encoder's map, and their coordinates [n, 2]."""
    missing = [column for column in ("id", "x", "y") if column not in maps]
    if missing:
        raise InputError(f"ordinal alignment: maps has no column {missing[0]}; pass the table of `tsne`")
    task = ws.trained_tasks[0] if len(ws.trained_tasks) == 1 else ""
    own = np.ones(len(maps), bool)
    for column, value in (("encoder", encoder), ("seed", ws.seed), ("task", task)):
        if column in maps:
            own &= (maps[column] == value).to_numpy()
    table = maps[own]
    row_of = {name: row for row, name in enumerate(ws.ids("test").astype(str).tolist())}
    names = table["id"].astype(str).tolist()
    if not names or not all(name in row_of for name in names) or len(set(names)) < len(names):
        raise InputError(
            f"ordinal alignment: maps has no coordinates of encoder '{encoder}' (seed {ws.seed}) for samples of the "
            f"test split of {ws.source}, one each; map that split of this file"
        )
    return np.array([row_of[name] for name in names]), table[["x", "y"]].to_numpy(np.float64)
