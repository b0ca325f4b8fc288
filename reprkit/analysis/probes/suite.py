"""The probe suite: every probe on every task of one embeddings file, as one tidy table."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reprkit.analysis.linalg import num_workers
from reprkit.analysis.probes.data import CARVE, Space, TaskData, load, source_of
from reprkit.analysis.probes.knn import fit_knn
from reprkit.analysis.probes.linear import fit_linear
from reprkit.analysis.probes.metrics import measure, metrics_of
from reprkit.analysis.probes.outcome import Outcome
from reprkit.analysis.probes.protocol import FLOOR, Protocol, choose_tasks, expand_probes
from reprkit.analysis.probes.svm import fit_svm_linear, fit_svm_rbf
from reprkit.analysis.probes.tree import fit_tree
from reprkit.recipe import ProbeConfig

if TYPE_CHECKING:
    from reprkit.embeddings import Embeddings

COLUMNS = (
    "encoder", "seed", "task", "probe", "metric", "value", "low", "high",
    "n_test", "n_train", "params", "val_value", "status", "protocol_id",
)  # fmt: skip
PROBABILISTIC = (FLOOR, "linear")
"""Probes that report log-loss: shares of neighbours and of leaves reach zero, where it is infinite."""

FITS: dict[str, Callable[[Space, TaskData, Protocol], Outcome]] = {
    "knn": fit_knn,
    "linear": fit_linear,
    "svm_linear": fit_svm_linear,
    "svm_rbf": fit_svm_rbf,
    "tree": fit_tree,
}
SLOWEST_FIRST = ("tree", "svm_rbf", "svm_linear", "linear", "knn")


@dataclass(frozen=True)
class ProbeResult:
    """All that the probes found out about one embeddings file.

    Attributes:
        frame: one row a task, probe and metric: encoder, seed, task, probe, metric, value, low, high (95% percentile
            bootstrap over test samples), n_test, n_train, params (JSON), val_value (on the row of the metric that
            chose), status, protocol_id.
        predictions: task -> table of its test samples: id, target, and one column a probe.
    """

    frame: pd.DataFrame
    predictions: dict[str, pd.DataFrame]


def probe(
    embeddings: Embeddings,
    *,
    tasks: Iterable[str] | None = None,
    config: ProbeConfig | None = None,
    label: str | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Accuracy of simple predictors on frozen embeddings: the table of `probe_with_predictions`."""
    return probe_with_predictions(embeddings, tasks=tasks, config=config, label=label, progress=progress).frame


def probe_with_predictions(
    embeddings: Embeddings,
    *,
    tasks: Iterable[str] | None = None,
    config: ProbeConfig | None = None,
    label: str | None = None,
    protocol: Protocol | None = None,
    progress: bool = True,
) -> ProbeResult:
    """Fit every probe to every task and score it on the test split.

    Models see train only, hyperparameters are chosen on val, and test is predicted once; `protocol.Protocol` states
    the rules and grids. The result depends on nothing but the file and the settings: not on the number of threads.

    Args:
        embeddings: an opened embeddings file with the splits train and test; without val, part of train stands in.
        tasks: names of tasks; None takes those the encoder was trained for.
        config: which probes, how many resamples, and the limit of the exact RBF SVM.
        label: name in the column `encoder`; None takes the file's.
        protocol: grids other than the default; `bootstrap` and `max_svm` still come from `config`.
        progress: show a bar on stderr (only if that is a terminal).

    Raises:
        InputError: unknown probes or tasks, or a file without what the probes need.
    """
    from sklearn import svm, tree  # noqa: F401  # loaded before the limit below, which holds for loaded libraries only
    from threadpoolctl import threadpool_limits

    settings = config or ProbeConfig()
    probes = expand_probes(settings.probes)
    names = choose_tasks(list(embeddings.tasks), embeddings.trained_tasks, tasks, source_of(embeddings))
    space, data, ids, carved = load(embeddings, names)
    rules = replace(
        protocol or Protocol(), bootstrap=settings.bootstrap, max_svm=settings.max_svm, carve=CARVE if carved else 0
    )
    skipped = {each.task.name: why for each in data if (why := cannot_be_probed(each))}
    with threadpool_limits(1, user_api="blas"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="sklearn")  # about many classes of few samples
        outcomes = _run(space, [each for each in data if each.task.name not in skipped], probes, rules, progress)

    rows: list[dict[str, Any]] = []
    predictions: dict[str, pd.DataFrame] = {}
    for each in data:
        found = {FLOOR: prior(each)} if len(each.y["train"]) and len(each.y["test"]) else {}
        found |= {name: outcomes[each.task.name, name] for name in probes if (each.task.name, name) in outcomes}
        rows += _rows(each, (FLOOR, *probes), found, skipped.get(each.task.name, ""), rules)
        table = {"id": ids[each.rows["test"]], "target": each.y["test"]}
        predictions[each.task.name] = pd.DataFrame(table | {name: outcome.test for name, outcome in found.items()})
    common = {"encoder": label or embeddings.label, "seed": int(embeddings.seed), "protocol_id": rules.id}
    return ProbeResult(pd.DataFrame([common | row for row in rows], columns=list(COLUMNS)), predictions)


def cannot_be_probed(data: TaskData) -> str:
    """Why no probe but the floor can be fitted to a task; empty if they can."""
    for split in ("train", "val", "test"):
        if not len(data.y[split]):
            return f"skipped: no {split} sample has a target"
    if len(np.unique(data.y["train"])) < 2:
        return f"skipped: one {'class' if data.task.is_discrete else 'value'} only in train"
    return ""


def prior(data: TaskData) -> Outcome:
    """The floor: the most frequent class of train (the lowest index of equal ones), or its mean value."""
    target, n = data.y["train"], len(data.y["test"])
    if not data.task.is_discrete:
        return Outcome(np.full(n, target.mean()), {}, float("nan"), len(target))
    counts = np.bincount(target, minlength=data.task.num_outputs)
    with np.errstate(divide="ignore"):
        log_p = np.log(counts / counts.sum())
    return Outcome(np.full(n, counts.argmax()), {}, float("nan"), len(target), np.tile(log_p, (n, 1)))


def _run(
    space: Space, data: list[TaskData], probes: tuple[str, ...], protocol: Protocol, progress: bool
) -> dict[tuple[str, str], Outcome]:
    """Fit all probes to all tasks on worker threads; every fit is single-threaded, hence reproducible."""
    from tqdm import tqdm

    jobs = [(each, name) for name in SLOWEST_FIRST if name in probes for each in data]
    outcomes: dict[tuple[str, str], Outcome] = {}
    with tqdm(total=len(jobs), desc="probes", unit="fit", leave=False, disable=None if progress else True) as bar:
        _share(space, data, probes, protocol)
        with ThreadPoolExecutor(num_workers()) as pool:
            futures = {pool.submit(FITS[name], space, each, protocol): (each.task.name, name) for each, name in jobs}
            try:
                for future in as_completed(futures):
                    outcomes[futures[future]] = future.result()
                    bar.set_postfix_str(" ".join(futures[future]), refresh=False)
                    bar.update()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return outcomes


def _share(space: Space, data: list[TaskData], probes: tuple[str, ...], protocol: Protocol) -> None:
    """Compute what tasks share on all cores, before the workers need it."""
    complete = next((each for each in data if each.complete), None)
    if complete is None:
        return
    n = len(complete.y["train"])
    if "knn" in probes:
        space.neighbors(complete, max([k for k in protocol.neighbors if k <= n], default=n))
    if "svm_rbf" in probes and n <= protocol.max_svm:
        space.kernel(complete.rows["train"])


def _rows(
    data: TaskData, probes: tuple[str, ...], outcomes: dict[str, Outcome], skipped: str, protocol: Protocol
) -> list[dict[str, Any]]:
    """Table rows of one task, without the columns that all rows share."""
    task, target = data.task, data.y["test"]
    scored = measure(task, target, outcomes, resamples=protocol.bootstrap, seed=protocol.seed) if outcomes else {}
    carved = (f"val is one train sample in {protocol.carve}",) if protocol.carve else ()
    rows = []
    for name in probes:
        outcome = outcomes.get(name)
        for metric in metrics_of(task, name in PROBABILISTIC):
            value, low, high = scored[name][metric] if outcome else (math.nan,) * 3
            remarks = (*outcome.remarks, *(carved if name != FLOOR else ())) if outcome else (skipped,)
            chose = outcome is not None and metric == (outcome.selected_by or task.metric)
            rows.append(
                {
                    "task": task.name,
                    "probe": name,
                    "metric": metric,
                    "value": value,
                    "low": low,
                    "high": high,
                    "n_test": len(target),
                    "n_train": outcome.n_train if outcome else len(data.y["train"]),
                    "params": json.dumps(outcome.params if outcome else {}, sort_keys=True, separators=(",", ":")),
                    "val_value": outcome.val_value if outcome and chose else math.nan,
                    "status": "; ".join(remarks) or "ok",
                }
            )
    return rows
