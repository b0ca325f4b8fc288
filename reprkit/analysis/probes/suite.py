"""The probe suite: every probe on every task of one embeddings file, as one tidy table."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd

from reprkit.analysis.linalg import num_workers
from reprkit.analysis.probes.data import Moments, TaskData, cannot_be_probed
from reprkit.analysis.probes.discriminant import fit_lda, fit_ncm
from reprkit.analysis.probes.knn import fit_knn, usable_neighbors
from reprkit.analysis.probes.linear import fit_linear
from reprkit.analysis.probes.mlp import fit_mlp
from reprkit.analysis.probes.nystroem import shared_moments
from reprkit.analysis.probes.outcome import Outcome
from reprkit.analysis.probes.protocol import Protocol, choose_tasks, expand_probes
from reprkit.analysis.probes.svm import fit_svm_linear, fit_svm_rbf
from reprkit.analysis.probes.table import COLUMNS, prediction_table, task_rows
from reprkit.analysis.probes.tree import fit_tree, fit_tree_pca, fit_tree_rotated
from reprkit.analysis.probes.unfitted import own_head, prior
from reprkit.analysis.workspace import CARVE, Workspace
from reprkit.recipe import ProbeConfig

if TYPE_CHECKING:
    from reprkit.embeddings import Embeddings

Fit = Callable[[Workspace, TaskData, Protocol], Outcome]

FITS: dict[str, Fit] = {
    "ncm": fit_ncm,
    "lda": fit_lda,
    "knn": fit_knn,
    "linear": fit_linear,
    "svm_linear": fit_svm_linear,
    "svm_rbf": fit_svm_rbf,
    "tree": fit_tree,
    "tree_pca": fit_tree_pca,
    "tree_rotated": fit_tree_rotated,
    "mlp": fit_mlp,
}
CLASSES_ONLY = {"ncm", "lda"}
"""Probes that regression tasks do not have."""

SLOWEST_FIRST = ("tree_rotated", "tree", "mlp", "svm_rbf", "svm_linear", "linear", "tree_pca", "knn", "lda", "ncm")


@dataclass(frozen=True)
class ProbeResult:
    """All that the probes found out about one embeddings file.

    Attributes:
        frame: one row a task, probe and metric: encoder, seed, task, probe, metric, value, low, high (95% percentile
            bootstrap over test samples, or over the groups they come in), n_test, n_train, params (JSON), val_value (on
            the row of the metric that chose), status, protocol_id.
        predictions: task -> table of its test samples: id, group where they come in groups, target, and one column a
            probe. A probe of several models, whose metrics are averaged over them, has a column a model instead:
            `tree_rotated[0]`, `tree_rotated[1]` and so on; a paired test of its accuracy averages being right over them
            (`table.columns_by_probe`).
    """

    frame: pd.DataFrame
    predictions: dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Plan:
    """What is to be fitted to one file.

    Attributes:
        workspace: of the file.
        data: the tasks.
        skipped: task -> why nothing can be fitted to it; missing if it can.
        probes: in table order.
        protocol: grids and limits.
    """

    workspace: Workspace
    data: dict[str, TaskData]
    skipped: dict[str, str]
    probes: tuple[str, ...]
    protocol: Protocol

    @property
    def jobs(self) -> list[tuple[str, str]]:
        """(task, probe) of all fits, the slowest first."""
        fitted = [name for name in self.data if name not in self.skipped]
        order = [*(p for p in self.probes if p not in SLOWEST_FIRST), *SLOWEST_FIRST]
        return [(name, p) for p in order for name in fitted if p in self.probes_of(name)]

    def probes_of(self, task: str) -> tuple[str, ...]:
        """The probes that a task has."""
        discrete = self.data[task].task.is_discrete
        return tuple(name for name in self.probes if discrete or name not in CLASSES_ONLY)

    def fit(self, task: str, probe: str) -> Outcome:
        """One job. Single-threaded but for what tasks share; the result does not depend on the number of threads."""
        with quiet_single_thread():
            return FITS[probe](self.workspace, self.data[task], self.protocol)


def add_probe(name: str, fit: Fit, *, classes_only: bool = False) -> None:
    """Give the suite a probe of a name of its own; regression tasks do not have it if it is for classes only."""
    FITS[name] = fit
    if classes_only:
        CLASSES_ONLY.add(name)


def probe(
    source: Embeddings | Workspace,
    *,
    tasks: Iterable[str] | None = None,
    config: ProbeConfig | None = None,
    label: str | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Accuracy of simple predictors on frozen embeddings: the table of `probe_with_predictions`.

    Args:
        source, tasks, config, label, progress: see `probe_with_predictions`.

    Returns:
        `ProbeResult.frame`, one row a task, probe and metric.

    Raises:
        InputError: unknown probes or tasks, or a file without what the probes need.
    """
    return probe_with_predictions(source, tasks=tasks, config=config, label=label, progress=progress).frame


def probe_with_predictions(
    source: Embeddings | Workspace,
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
    Each task also has the rows `prior`, the floor, and `head`, the encoder's own, if the file holds its outputs.

    Args:
        source: an opened embeddings file with the splits train and test (without val, part of train stands in), or a
            workspace made of one.
        tasks: names of tasks; None takes those the encoder was trained for.
        config: which probes, how many resamples, the limit of the exact RBF SVM, and the memory for a file (a
            workspace has its own).
        label: name in the column `encoder`; None takes the file's.
        protocol: grids other than the default; `bootstrap` and `max_svm` still come from `config`.
        progress: show a bar on stderr (only if that is a terminal).

    Raises:
        InputError: unknown probes or tasks, or a file without what the probes need.
    """
    plan = make_plan(source, tasks=tasks, config=config, protocol=protocol)
    return assemble(plan, _run(plan, progress), label=label)


def make_plan(
    source: Embeddings | Workspace,
    *,
    tasks: Iterable[str] | None = None,
    config: ProbeConfig | None = None,
    protocol: Protocol | None = None,
) -> Plan:
    """Decide what is fitted to a file, without reading its embeddings; arguments as of `probe_with_predictions`."""
    settings = config or ProbeConfig()
    probes = expand_probes(settings.probes)
    workspace = Workspace.of(source, memory=settings.memory_mb << 20)
    names = choose_tasks(list(workspace.tasks), workspace.trained_tasks, tasks, workspace.source)
    rules = replace(
        protocol or Protocol(),
        bootstrap=settings.bootstrap,
        max_svm=settings.max_svm,
        carve=CARVE if workspace.carved else 0,
        groups=workspace.groups,
    )
    data = {name: TaskData.of(workspace, name) for name in names}
    skipped = {name: why for name, one in data.items() if (why := cannot_be_probed(one))}
    return Plan(workspace, data, skipped, probes, rules)


def assemble(plan: Plan, outcomes: dict[tuple[str, str], Outcome], *, label: str | None = None) -> ProbeResult:
    """The tables of a file from the outcomes of all its jobs."""
    rows, predictions = [], {}
    ids = plan.workspace.ids("test")
    for name, data in plan.data.items():
        found: dict[str, Outcome | None] = {"prior": None}
        if len(data.y["train"]) and len(data.y["test"]):
            found["prior"] = prior(data)
        head = own_head(plan.workspace, data) if len(data.y["test"]) else None
        found |= {"head": head} if head else {}
        found |= {probe: outcomes.get((name, probe)) for probe in plan.probes_of(name)}
        rows += task_rows(data, found, plan.skipped.get(name, ""), plan.protocol)
        predictions[name] = prediction_table(ids, data, found)
    workspace = plan.workspace
    common = {"encoder": label or workspace.label, "seed": workspace.seed, "protocol_id": plan.protocol.id}
    return ProbeResult(pd.DataFrame([common | row for row in rows], columns=list(COLUMNS)), predictions)


@contextmanager
def quiet_single_thread() -> Iterator[None]:
    """Hold every BLAS to one thread, and silence scikit-learn on many classes of few samples."""
    from sklearn import svm, tree  # noqa: F401  # loaded before the limit, which holds for loaded libraries only
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="sklearn")
        yield


def _run(plan: Plan, progress: bool) -> dict[tuple[str, str], Outcome]:
    """All jobs on worker threads."""
    from tqdm import tqdm

    outcomes: dict[tuple[str, str], Outcome] = {}
    jobs = plan.jobs
    with tqdm(total=len(jobs), desc="probes", unit="fit", leave=False, disable=None if progress else True) as bar:
        with quiet_single_thread():
            _share(plan)
            with ThreadPoolExecutor(_threads(plan)) as pool:
                futures = {pool.submit(FITS[p], plan.workspace, plan.data[t], plan.protocol): (t, p) for t, p in jobs}
                try:
                    for future in as_completed(futures):
                        outcomes[futures[future]] = future.result()
                        bar.set_postfix_str(" ".join(futures[future]), refresh=False)
                        bar.update()
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
    return outcomes


def _threads(plan: Plan) -> int:
    """Cores, but no more fits of a streamed file at a time than whose subsamples fit the memory for a file."""
    if plan.workspace.in_memory:
        return num_workers()
    bytes_of_fit = 8 * plan.protocol.subsample * plan.workspace.dim  # the rows and a copy, float32
    return max(1, min(num_workers(), plan.workspace.memory // bytes_of_fit))


def _share(plan: Plan) -> None:
    """Compute what tasks share on all cores, before the workers need it."""
    workspace, protocol = plan.workspace, plan.protocol
    complete = next((plan.data[name] for name, _ in plan.jobs if plan.data[name].complete), None)
    if complete is None:
        return
    if "knn" in plan.probes:
        most = max(usable_neighbors(protocol, workspace.num_rows("train")))
        for split in ("val", "test"):
            if split == "test" or workspace.num_rows("val") <= protocol.max_val:
                workspace.neighbors(split, most)
    if {"lda", "linear", "svm_linear"} & set(plan.probes):
        Moments.of(workspace, complete)
    if "svm_rbf" in plan.probes:
        if workspace.num_rows("train") <= protocol.max_svm:
            _ = workspace.kernels
        else:
            shared_moments(workspace, complete, protocol)
