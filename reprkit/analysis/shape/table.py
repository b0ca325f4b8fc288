"""The geometry of a frozen representation, and the likeness of two: tidy tables of the metrics of `catalogue`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from reprkit.analysis.groups import some_groups
from reprkit.analysis.moments import SufficientStatistics, sufficient_statistics
from reprkit.analysis.rows import Rows, stratified_rows
from reprkit.analysis.shape.catalogue import METRICS
from reprkit.analysis.shape.estimates import Estimate, Undefined
from reprkit.analysis.shape.metric import Given, Metric, Pair
from reprkit.analysis.workspace import SPLITS, Workspace
from reprkit.errors import InputError

if TYPE_CHECKING:
    from reprkit.embeddings import Embeddings
    from reprkit.tasks import Task

SAMPLE_ROWS = 5000
"""Rows of which each is compared with every other."""

COLUMNS = ("encoder", "seed", "task", "trained_for", "split", "metric", "value", "low", "high", "n", "status")
"""Columns of `geometry`."""

PAIR_COLUMNS = ("encoder", "seed", "task", "other", "other_seed", *COLUMNS[4:])
"""Columns of `similarity`."""


def geometry(
    embeddings: Embeddings | Workspace,
    *,
    tasks: Sequence[str] | None = None,
    split: str = "train",
    label: str | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Measure size, rank, dimension and class structure of one encoder's embeddings, without fitting a probe.

    Metrics of `moments` stream over all rows once (once more for each task with missing targets); those that compare
    each row with every other take a sample of at most 5000, with the class shares kept, always the same for the same
    targets.

    Args:
        embeddings: an open embeddings file, or its workspace.
        tasks: names; the tasks the encoder was trained for by default. Real-valued targets have `logme` only.
        split: `train`, since the metrics are published for the data a head is fitted to, and covariances need rows.
            For a task that the encoder was trained on, this shows its fit, not its generalisation: compare with
            `test`.
        label: name of the encoder in the result, instead of the file's own.
        progress: show a bar on standard error, if that is a terminal.

    Returns:
        Rows with `COLUMNS`, one a metric, or one a task and metric (task "" where it needs none). trained_for: the task
        of an encoder trained for that one alone, else "". metric: a name of `catalogue.METRICS`; `leep:age` and
        `nce:age` use the outputs that the file holds of the head of age. low and high: 95% interval over rows (or
        their groups), of metrics that are means over rows; NaN for others. n: rows the value is made from. status:
        `ok`, which may be followed by `; ` and remarks; otherwise why value is NaN.

    Raises:
        InputError: an unknown task or split, a missing split, or z that is not finite.
    """
    workspace = Workspace.of(embeddings)
    names = _checked(workspace, split, tasks)
    common = {"encoder": label or workspace.label, "seed": workspace.seed, "split": split}
    common["trained_for"] = workspace.trained_tasks[0] if len(workspace.trained_tasks) == 1 else ""
    found = []
    with tqdm(total=2 + len(names), desc="geometry", leave=False, disable=None if progress else True) as bar:
        for given, valid in _givens(workspace, split, names):
            task = workspace.tasks.get(given.task)
            found += [common | {"task": given.task} | row for row in _measure(given, task, valid)]
            bar.update()
        found += [common | row for row in _measure_heads(workspace, split, names)]
        bar.update()
    return pd.DataFrame(found, columns=list(COLUMNS))


def similarity(
    first: Embeddings | Workspace,
    second: Embeddings | Workspace,
    *,
    split: str = "test",
    labels: tuple[str, str] | None = None,
) -> pd.DataFrame:
    """Compare two encoders on the same samples: linear CKA (debiased, biased) and mutual nearest neighbours.

    CKA streams over all rows; neighbours are those within one sample of at most 5000 rows.

    Args:
        first, second: open embeddings files with the same ids in the same order, or their workspaces.
        split: `test` by default, which neither encoder was trained on.
        labels: names of the encoders in the result, instead of the files' own.

    Returns:
        Rows with `PAIR_COLUMNS`, one a metric; task is "". See `geometry`.

    Raises:
        InputError: an unknown split, other samples in the second file, or z that is not finite.
    """
    both = Workspace.of(first), Workspace.of(second)
    for workspace in both:
        _checked(workspace, split, ())
    if not np.array_equal(both[0].ids(split), both[1].ids(split)):
        raise InputError(
            f"{both[1].source}: split {split} holds other samples than {both[0].source}, or in another order; "
            "embed the same dataset with both encoders"
        )
    total = both[0].num_rows(split)
    chosen = stratified_rows(np.zeros(total, np.int64), SAMPLE_ROWS)
    pair = Pair(
        (_all_rows(both[0], split), _all_rows(both[1], split)),
        (both[0].rows(split, chosen), both[1].rows(split, chosen)),
    )
    names = labels or (both[0].label, both[1].label)
    common = {"encoder": names[0], "seed": both[0].seed, "task": "", "other": names[1], "other_seed": both[1].seed}
    rows = {"pair": total, "pair_rows": len(chosen)}
    found = [
        common | {"split": split} | _row(metric.name, partial(metric.compute, pair), rows[metric.needs], total)
        for metric in METRICS.values()
        if metric.needs in rows
    ]
    return pd.DataFrame(found, columns=list(PAIR_COLUMNS))


def _checked(workspace: Workspace, split: str, tasks: Sequence[str] | None) -> list[str]:
    if split not in SPLITS:
        raise InputError(f"{workspace.source}: split '{split}' is unknown; choose from {', '.join(SPLITS)}")
    if not workspace.num_rows(split):
        raise InputError(f"{workspace.source}: split {split} has no rows; choose another")
    trained = [name for name in workspace.trained_tasks if name in workspace.tasks] or list(workspace.tasks)
    names = list(dict.fromkeys(trained if tasks is None else tasks))
    for name in names:
        if name not in workspace.tasks:
            raise InputError(f"{workspace.source}: has no task '{name}'; choose from {', '.join(workspace.tasks)}")
    return names


def _givens(workspace: Workspace, split: str, names: Sequence[str]) -> Iterator[tuple[Given, int]]:
    """What is known of all rows, then of those of each task; and their number."""
    total, tasks = workspace.num_rows(split), workspace.tasks
    targets = {name: workspace.targets(split, name) for name in names}
    chosen = {name: _sample(tasks[name], y) for name, y in targets.items()}
    chosen[""] = stratified_rows(np.zeros(total, np.int64), SAMPLE_ROWS)
    union = np.unique(np.concatenate(list(chosen.values())))
    rows = workspace.rows(split, union)  # one pass over the file for all samples
    moments = _moments(workspace, split, targets)

    def sample(name: str) -> NDArray[np.float64]:
        return rows[np.searchsorted(union, chosen[name])].astype(np.float64)

    yield Given(moments[""], sample("")), total
    for name, y in targets.items():
        known = moments.get(name)
        if known is None:
            yield Given(moments[""], sample(name), name), 0
        elif tasks[name].is_discrete:
            yield Given(known, sample(name), name, y[chosen[name]]), known.count
        else:
            products, squares = _products(workspace, split, known.mean, y)
            yield Given(known, sample(name), name, products=products, squares=squares), known.count


def _sample(task: Task, targets: NDArray) -> NDArray[np.int64]:
    if not task.is_discrete:
        return np.empty(0, np.int64)
    many = task.num_outputs > SAMPLE_ROWS  # more classes than a stratified draw has places: draw without regard to them
    return stratified_rows(np.minimum(targets, 0) if many else targets, SAMPLE_ROWS)


def _moments(workspace: Workspace, split: str, targets: dict[str, NDArray]) -> dict[str, SufficientStatistics]:
    """Moments of all rows under "", and of the labelled rows of each task that has any: shared where they agree."""
    found: dict[str, SufficientStatistics] = {}
    masks = {"": np.ones(workspace.num_rows(split), bool)}
    masks |= {name: np.asarray(workspace.tasks[name].valid(y)) for name, y in targets.items()}
    for name, mask in masks.items():
        alike = [other for other in masks if np.array_equal(masks[other], mask)]
        if name in found or not mask.any():
            continue
        if mask.all() and split == "train":
            moments = workspace.statistics
        else:
            classes = {
                other: (targets[other][mask], workspace.tasks[other].num_outputs)
                for other in alike
                if other and workspace.tasks[other].is_discrete
            }
            moments = sufficient_statistics(_kept(workspace, split, mask), classes)
        found |= dict.fromkeys(alike, moments)
    return found


def _kept(workspace: Workspace, split: str, mask: NDArray[np.bool_]) -> Iterator[NDArray]:
    start = 0
    for block in workspace.blocks(split):
        inside = mask[start : start + len(block)]
        start += len(block)
        yield block if inside.all() else block[inside]


def _products(
    workspace: Workspace, split: str, mean: NDArray[np.float64], targets: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(Z - mean)' y [1, D] and y'y [1] of the standardised target; zeros if it is constant."""
    valid = ~np.isnan(targets)
    y = targets[valid] - targets[valid].mean()
    y /= y.std() if y.std() > 1e-12 * np.abs(targets[valid]).max() else np.inf
    products, start = np.zeros((1, len(mean))), 0
    for block in _kept(workspace, split, valid):
        products += y[start : start + len(block)] @ (block - mean)
        start += len(block)
    return products, np.array([y @ y])


def _measure(given: Given, task: Task | None, valid: int) -> Iterator[dict[str, Any]]:
    """The metrics of one task (or of none) from its `valid` rows."""
    for metric in METRICS.values():
        if metric.needs not in ("moments", "rows") or not _applies(metric, task):
            continue
        if not valid:
            yield _row(metric.name, _no_targets, 0, 0)
            continue
        n = len(given.sample) if metric.needs == "rows" else valid
        row = _row(metric.name, partial(metric.compute, given), n, valid)
        if task and task.is_discrete and not np.isnan(row["value"]):
            absent = int((given.moments.class_counts[task.name] == 0).sum())
            row["status"] += f"; {absent} of {task.num_outputs} classes have no rows" if absent else ""
        yield row


def _measure_heads(workspace: Workspace, split: str, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What the head of each trained task tells of each other task."""
    for source in filter(workspace.tasks.__contains__, workspace.trained_tasks):
        others = [name for name in names if name != source and workspace.tasks[name].is_discrete]
        logits = _head_outputs(workspace, split, source) if workspace.tasks[source].is_discrete else None
        if logits is None:
            continue
        for name in others:
            targets = workspace.targets(split, name)
            valid = np.flatnonzero(targets >= 0)
            own = logits if len(valid) == len(logits) else logits[valid]
            groups = some_groups(workspace.group_codes(split), valid)
            for metric in METRICS.values():
                if metric.needs == "head":
                    compute = partial(metric.compute, own, targets[valid], groups) if len(valid) else _no_targets
                    yield {"task": name} | _row(f"{metric.name}:{source}", compute, len(valid), len(valid))


def _applies(metric: Metric, task: Task | None) -> bool:
    if task is None or metric.task == "none":
        return task is None and metric.task == "none"
    return metric.task == "any" or task.is_discrete


def _row(name: str, compute: Callable[[], Estimate], n: int, total: int) -> dict[str, Any]:
    """Name, value, interval, rows and status of one metric made from `n` of `total` rows."""
    nan = float("nan")
    try:
        found = compute()
    except Undefined as reason:
        return {"metric": name, "value": nan, "low": nan, "high": nan, "n": n, "status": str(reason)}
    used = n if found.n is None else found.n
    remarks = ["ok", found.remark, f"a sample of {n} of {total} rows" if n < total else ""]
    status = "; ".join(filter(None, remarks))
    return {"metric": name, "value": found.value, "low": found.low, "high": found.high, "n": used, "status": status}


def _no_targets() -> Estimate:
    raise Undefined("no row has a target")


def _head_outputs(workspace: Workspace, split: str, task: str) -> NDArray[np.float32] | None:
    """Logits [N, C] of the encoder's own head, in the order of the split's rows; None if the file has none."""
    mask = workspace.mask(split)
    logits = workspace.embeddings.logits(split if mask is None else "train", task)
    return logits if mask is None or logits is None else np.asarray(logits[mask])


def _all_rows(workspace: Workspace, split: str) -> Rows:
    return Rows(workspace.num_rows(split), workspace.dim, stream=lambda rows: workspace.blocks(split, rows))
