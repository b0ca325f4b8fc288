"""Probes of several files, spread over the processes of this machine or of a cluster that joblib can reach.

A job is one probe of one task of one file. Workers open the files themselves, by path, and keep what the jobs of a file
share; only predictions travel. The result does not depend on who does what.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from reprkit.analysis.probes.outcome import Outcome
from reprkit.analysis.probes.protocol import Protocol
from reprkit.analysis.probes.suite import Plan, ProbeResult, assemble, make_plan, probe_with_predictions
from reprkit.errors import Failed, InputError
from reprkit.recipe import ProbeConfig

if TYPE_CHECKING:
    from reprkit.embeddings import Embeddings

Path = str | os.PathLike[str]

_one_at_a_time = threading.Lock()  # the limit on BLAS threads belongs to the process
_kept: dict[str, tuple[Any, Plan]] = {}


def probe_many(
    paths: Sequence[Path],
    *,
    tasks: Iterable[str] | None = None,
    config: ProbeConfig | None = None,
    protocol: Protocol | None = None,
    labels: Sequence[str] | None = None,
    jobs: int | None = None,
    groups: str | None = None,
    progress: bool = True,
) -> list[ProbeResult]:
    """`probe_with_predictions` of several files, with the same results.

    With one process, files are probed one after the other on threads. Each of several processes holds a file of its
    own in memory, up to `config.memory_mb`. On a cluster (`with joblib.parallel_config(backend="dask"): ...`) the files
    must be found under the same absolute paths everywhere.

    Args:
        paths: embeddings files.
        tasks: names of tasks; a file that lacks some of them, which another one has, is probed on the others. None
            takes those each encoder was trained for.
        config, protocol, progress: as of `probe_with_predictions`.
        labels: names in the column `encoder`; None takes those of the files, told apart by path.
        groups: of all files, instead of what each says (see `Embeddings`).
        jobs: processes; None means those of the open `joblib.parallel_config(...)`, else 1.

    Returns:
        One result a file, in order.

    Raises:
        InputError: as of `probe_with_predictions`; or a worker finds another file under a path.
        Failed: a worker was killed.
    """
    import joblib

    from reprkit.embeddings import Embeddings, distinct_labels

    wanted = None if tasks is None else list(tasks)
    with ExitStack() as stack:
        files = [stack.enter_context(Embeddings(path, groups=groups)) for path in paths]
        names = list(labels) if labels is not None else distinct_labels(files)
        own = [own_tasks(file, files, wanted) for file in files]
        options: dict[str, Any] = {"config": config, "protocol": protocol}
        if joblib.effective_n_jobs(jobs) == 1:
            return [
                probe_with_predictions(file, tasks=some, label=name, progress=progress, **options)
                for file, some, name in zip(files, own, names, strict=True)
            ]
        plans = [make_plan(file, tasks=some, **options) for file, some in zip(files, own, strict=True)]
        calls = [
            (number, os.path.abspath(path), _mark(file, plan), {"tasks": list(plan.data), **options}, groups, *job)
            for number, (path, file, plan) in enumerate(zip(paths, files, plans, strict=True))
            for job in plan.jobs
        ]
        found: list[dict[tuple[str, str], Outcome]] = [{} for _ in files]
        for number, job, outcome in _spread(calls, jobs, progress):
            found[number][job] = outcome
        each = zip(plans, found, names, strict=True)
        return [assemble(plan, outcomes, label=name) for plan, outcomes, name in each]


def own_tasks(file: Embeddings, files: Sequence[Embeddings], tasks: Sequence[str] | None) -> list[str] | None:
    """Those of `tasks` that `file` has; also those that no file has, and all if it has none: they are refused."""
    if tasks is None:
        return None
    anywhere = {name for each in files for name in each.tasks}
    return [name for name in tasks if name in file.tasks or name not in anywhere] or list(tasks)


def _spread(calls: list[tuple], jobs: int | None, progress: bool) -> Iterable[tuple[int, tuple[str, str], Outcome]]:
    """Results in the order in which they come, under a bar with the time left."""
    import joblib
    from joblib.parallel import get_active_backend
    from tqdm import tqdm

    backend, _ = get_active_backend()
    unordered = getattr(backend, "supports_return_generator", False)
    options = {"return_as": "generator_unordered"} if unordered else {}
    parallel = joblib.Parallel(n_jobs=jobs, batch_size=1, **options)
    with tqdm(total=len(calls), desc="probes", unit="fit", leave=False, disable=None if progress else True) as bar:
        try:
            for result in parallel(joblib.delayed(_do)(*call) for call in calls):
                bar.set_postfix_str(" ".join(result[1]), refresh=False)
                bar.update()
                yield result
        except BrokenProcessPool:
            raise Failed(
                "a worker process was killed, most likely for want of memory: use fewer jobs, or a lower memory_mb"
            ) from None


def _do(
    number: int, path: str, mark: tuple, options: dict[str, Any], groups: str | None, task: str, probe: str
) -> tuple[int, tuple[str, str], Outcome]:
    """In a worker: one job."""
    with _one_at_a_time:
        return number, (task, probe), _plan(path, mark, options, groups).fit(task, probe)


def _plan(path: str, mark: tuple, options: dict[str, Any], groups: str | None = None) -> Plan:
    """The plan of a file, kept for the next job of this worker; that of another file is let go."""
    from reprkit.embeddings import Embeddings

    key = (path, mark)
    if "key" not in _kept or _kept["key"][0] != key:
        _kept.clear()
        file = Embeddings(path, groups=groups)
        plan = make_plan(file, **options)
        if _mark(file, plan) != mark:
            raise InputError(f"{path}: a worker found another file there than this process; give them the same files")
        _kept["key"] = (key, plan)
    return _kept["key"][1]


def _mark(file: Embeddings, plan: Plan) -> tuple:
    """What tells one file and protocol from another, without reading the embeddings."""
    fingerprints = tuple(sorted(file.fingerprints.items()))
    return plan.protocol.id, tuple(plan.data), file.comparable_key(), fingerprints
