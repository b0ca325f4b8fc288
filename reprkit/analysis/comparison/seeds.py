"""The comparison of methods over training seeds, from the folders that runs left behind."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.comparison.comparable import check_comparable
from reprkit.analysis.comparison.measures import Member, measured_rows, similarity_rows, universality_values
from reprkit.analysis.comparison.panel import Predictions, head_tables, make_panel
from reprkit.analysis.comparison.result import Comparison, assemble
from reprkit.analysis.probes.protocol import HEAD, expand_probes
from reprkit.analysis.reporting.results import Run, find_runs, predictions
from reprkit.errors import InputError
from reprkit.files import slug
from reprkit.tasks import Task

if TYPE_CHECKING:
    from reprkit.embeddings import Embeddings

TRACES = ("embeddings.h5", "probes.csv", "test_scores.json")
"""A folder that holds one of these is a run."""

VANILLA = "vanilla"


def compare_seeds(
    folders: Iterable[str | os.PathLike[str]],
    *,
    tasks: Iterable[str] | None = None,
    probes: Iterable[str] | None = None,
    baseline: str | None = None,
    parts: Sequence[str] = ("probes", "universality", "similarity"),
    view: str | None = None,
    different_transform: bool = False,
    progress: bool = True,
) -> Comparison:
    """Compare methods over their training seeds: probes, own heads and universality as the runs recorded them.

    The seeds that a method has in common with the baseline are paired: equal seeds mean equal starts and orders of
    samples. Intervals cover the choice of both seeds and test samples (`stats.seeds_and_samples`); with one common
    seed, that of test samples only. Nothing is fitted anew but geometry, if it is asked for.

    Args:
        folders: of `reprkit run`, of methods or of single runs, in any mixture.
        tasks: names; all of the runs by default.
        probes: which of the recorded probes; all by default. Own heads are always there.
        baseline: method that the others are compared with; vanilla by default, else the first.
        parts: any of probes, universality, geometry (needs the embeddings), similarity (needs them too).
        view, different_transform, progress: as for `compare_encoders`.

    Raises:
        InputError: no runs, a run that is there twice, one method only, or unlike test samples.
    """
    runs = collect_runs(folders)
    encoders = style.encoder_order(run.encoder for run in runs)
    base = baseline if baseline is not None else VANILLA if VANILLA in encoders else encoders[0]
    if base not in encoders:
        raise InputError(f"baseline '{base}' is none of the methods found: {', '.join(encoders)}")
    if len(encoders) < 2:
        raise InputError(f"{runs[0].path}: all runs are of one method, {encoders[0]}; name folders of two or more")
    chosen = None if probes is None else {*expand_probes(probes), HEAD}
    with ExitStack() as stack:
        records = [_Record(run, stack) for run in runs]
        known = {name: task for record in records for name, task in record.tasks.items()}
        names = _tasks(known, tasks)
        files = [record.file for record in records if record.file is not None]
        if files:
            check_comparable(
                files, [n for n in names if all(n in f.tasks for f in files)], different_transform=different_transform
            )
        tables: dict[str, list[Predictions]] = {}
        for record in records if "probes" in parts else ():
            for name, table, protocols in record.tables(names):
                wanted = {p: id for p, id in protocols.items() if chosen is None or p in chosen}
                tables.setdefault(name, []).append((record.run.encoder, record.run.seed, table, wanted))
        panels = [make_panel(known[name], tables[name]) for name in names if name in tables]
        others = _universality(records, names, encoders, base) if "universality" in parts else []
        others += _measured(records, names, encoders, base, parts, progress)
    return assemble(
        panels, encoders, base, view, {name: known[name] for name in names}, others, _notes(runs, encoders, base)
    )


def collect_runs(folders: Iterable[str | os.PathLike[str]]) -> list[Run]:
    """The runs in folders: of a sweep, of a run, or of any folder above runs.

    Raises:
        InputError: a folder is missing or holds no runs, or two runs are of one method, seed and task.
    """
    found: dict[tuple[str, int, str], Run] = {}
    for name in folders:
        folder = Path(name)
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; give folders that `reprkit run` wrote")
        if (folder / "pieces.json").is_file() or (folder / "runs").is_dir():
            runs = find_runs(folder)
        else:
            below = {path.parent for trace in TRACES for path in folder.rglob(trace)}
            runs = [run for path in sorted(below) for run in find_runs(path)]
        runs = [run for run in runs if any((run.path / trace).is_file() for trace in TRACES)]
        if not runs:
            raise InputError(f"{folder}: holds no finished runs; run it first")
        for run in runs:
            key = (run.encoder, run.seed, run.task or _only_task(run))
            if key in found and found[key].path.resolve() != run.path.resolve():
                what = f"{run.encoder} seed {run.seed}{f' task {key[2]}' if key[2] else ''}"
                raise InputError(f"{found[key].path} and {run.path} are both {what}; name one of them")
            found[key] = run
    if not found:
        raise InputError("compare: give one or more folders of runs")
    return list(found.values())


def _only_task(run: Run) -> str:
    """The task of a run that was recorded for one alone."""
    names = [path.stem for path in (run.path / "predictions").glob("*.csv")]
    return names[0] if len(names) == 1 else ""


class _Record:
    """What one run left behind."""

    def __init__(self, run: Run, stack: ExitStack) -> None:
        from reprkit.embeddings import Embeddings

        self.run = run
        path = run.path / "embeddings.h5"
        self.file: Embeddings | None = stack.enter_context(Embeddings(path)) if path.is_file() else None
        self.probes = _csv(run.path / "probes.csv")
        self.universality = _csv(run.path / "universality.csv")
        self._predictions = predictions(run)
        self.tasks = dict(self.file.tasks) if self.file is not None else self._guessed()
        self.own = [run.task] if run.task else list(self.file.trained_tasks if self.file is not None else self.tasks)

    def tables(self, names: Sequence[str]) -> list[tuple[str, pd.DataFrame, dict[str, str]]]:
        """Task, table and protocols of the recorded probes, then of the own heads, for the run's own tasks."""
        found, headless = [], []
        for name in (name for name in names if name in self.own):
            table, own = self._predictions.get(slug(name)), self.probes
            if table is not None and len(own):
                own = own[own["task"] == name]
                found.append((name, table, dict(zip(own["probe"], own["protocol_id"].astype(str), strict=True))))
            if table is None or HEAD not in table:
                headless.append(name)
        if self.file is not None and headless:  # runs of older versions kept the outputs alone
            found += [(name, table, {HEAD: ""}) for name, table in head_tables(self.file, headless).items()]
        return found

    def _guessed(self) -> dict[str, Task]:
        """Task records as far as the tables tell them, where the embeddings are gone."""
        guessed = {}
        for name, own in self.probes.groupby("task", sort=False) if len(self.probes) else ():
            metrics, table = set(own["metric"]), self._predictions.get(slug(str(name)))
            if "accuracy" not in metrics or table is None:
                guessed[str(name)] = Task(str(name), "regression", 1)
            else:
                kind = "ordinal" if "mae" in metrics else "classification"
                guessed[str(name)] = Task(str(name), kind, max(int(table["target"].max()) + 1, 2))  # type: ignore[arg-type]
        return guessed


def _csv(path: Path) -> pd.DataFrame:
    if not path.is_file():
        return pd.DataFrame()
    try:
        return pd.read_csv(path, dtype={"encoder": "string", "task": "string"})
    except (ValueError, pd.errors.ParserError) as error:
        raise InputError(f"{path}: not a result table ({str(error).splitlines()[0]}); make it anew") from None


def _tasks(known: dict[str, Task], asked: Iterable[str] | None) -> list[str]:
    names = list(dict.fromkeys(asked)) if asked is not None else list(known)
    for name in names:
        if name not in known:
            raise InputError(f"the runs have no task '{name}'; choose from {', '.join(known)}")
    return names


def _universality(
    records: Sequence[_Record], names: Sequence[str], encoders: Sequence[str], baseline: str
) -> list[dict[str, Any]]:
    frames = [
        record.universality.assign(encoder=record.run.encoder, seed=record.run.seed)
        for record in records
        if len(record.universality)
    ]
    if not frames:
        return []
    frame = pd.concat(frames, ignore_index=True)
    return measured_rows(universality_values(frame[frame["task"].isin(names)]), "universality", encoders, baseline)


def _measured(
    records: Sequence[_Record],
    names: Sequence[str],
    encoders: Sequence[str],
    baseline: str,
    parts: Sequence[str],
    progress: bool,
) -> list[dict[str, Any]]:
    """Geometry and similarity of the runs that still have embeddings of all tasks in one encoder."""
    from tqdm import tqdm

    from reprkit.analysis.shape.table import geometry

    whole = [(record.run, record.file) for record in records if record.file is not None and len(record.own) > 1]
    rows = []
    if "geometry" in parts:
        frames = []
        for run, file in tqdm(whole, desc="geometry", unit="run", leave=False, disable=None if progress else True):
            frame = geometry(file, tasks=list(names), label=run.encoder, progress=False)
            frames.append(frame.assign(seed=run.seed, name="", protocol_id=""))
        if frames:
            values = pd.concat(frames, ignore_index=True)
            rows += measured_rows(values[values["value"].notna()], "geometry", encoders, baseline)
    if "similarity" in parts:
        members = [Member(run.encoder, run.seed, file) for run, file in whole]
        rows += similarity_rows(members, baseline)
    return rows


def _notes(runs: Sequence[Run], encoders: Sequence[str], baseline: str) -> list[str]:
    seeds = {name: {run.seed for run in runs if run.encoder == name} for name in encoders}
    told = []
    for name in encoders:
        common = len(seeds[name] & seeds[baseline])
        if name == baseline:
            continue
        if not common:
            told.append(f"{name} has no seed in common with {baseline} and is not compared")
        elif common == 1:
            told.append(
                f"{name} has one seed in common with {baseline}: its intervals cover the choice of test samples only,"
                " and another training run may differ by more"
            )
        elif common == 2:
            told.append(
                f"{name} has two seeds in common with {baseline}, which cannot establish much: with one degree of"
                " freedom an interval over seeds is 12.7 standard errors wide to each side"
            )
    return [f"{sentence}." for sentence in told]
