"""Encoders compared on the same test samples: paired probes, universality, geometry, likeness, and what is traded.

`compare` gives one tidy table of embeddings files; `compare_encoders` the same with notes, a Pareto view, `text` and
`write`; `compare_seeds` takes folders of runs and adds the training seed as a source of chance.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from reprkit.analysis.comparison.comparable import check_comparable
from reprkit.analysis.comparison.findings import Findings
from reprkit.analysis.comparison.measures import Member, similarity_rows
from reprkit.analysis.comparison.panel import make_panel
from reprkit.analysis.comparison.result import Comparison, assemble
from reprkit.analysis.comparison.seeds import compare_seeds
from reprkit.analysis.probes.protocol import choose_tasks, expand_probes
from reprkit.analysis.reporting.wording import listed
from reprkit.analysis.workspace import Workspace
from reprkit.embeddings import distinct_labels
from reprkit.errors import InputError

if TYPE_CHECKING:
    from reprkit.embeddings import Embeddings

__all__ = ["Comparison", "compare", "compare_encoders", "compare_seeds"]

PARTS = ("probes", "universality", "geometry", "similarity")
PROBES = ("knn", "linear", "svm", "tree")
Source = Any
"""An open `Embeddings`, a `Workspace` of one, or a path: of a file, or of a run folder that holds one."""


def compare(
    a: Source,
    b: Source,
    *more: Source,
    tasks: Iterable[str] | None = None,
    probes: Iterable[str] = PROBES,
    baseline: str | os.PathLike[str] | None = None,
    parts: Sequence[str] = PARTS,
    view: str | None = None,
    different_transform: bool = False,
    groups: str | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Compare encoders on the same test samples, paired: the table of `compare_encoders`.

    Args:
        a, b, more: open `Embeddings`, a `Workspace` of one, or paths of files or of run folders.
        tasks, probes, baseline, parts, view, different_transform, groups, progress: see `compare_encoders`.

    Returns:
        One row an encoder (against the baseline), task, predictor and metric; `docs/results.md` names the columns.

    Raises:
        InputError: files of unlike samples, or an unknown name.
    """
    return compare_encoders(
        a, b, *more, tasks=tasks, probes=probes, baseline=baseline, parts=parts, view=view,
        different_transform=different_transform, groups=groups, progress=progress,
    ).frame  # fmt: skip


def compare_encoders(
    *sources: Source,
    tasks: Iterable[str] | None = None,
    probes: Iterable[str] = PROBES,
    baseline: str | os.PathLike[str] | None = None,
    parts: Sequence[str] = PARTS,
    view: str | None = None,
    different_transform: bool = False,
    groups: str | None = None,
    progress: bool = True,
) -> Comparison:
    """Compare encoders by their embeddings of the same samples, each against the baseline.

    Probes and the encoders' own heads (`head`) are paired by the id of the test sample: difference with a 95% bootstrap
    interval, exact McNemar p, Holm's adjustment within a task, and the difference that the test set can resolve. Then
    come universality, geometry, and how alike the representations are. Intervals are over test samples: they say
    nothing about another training run (`compare_seeds` does). Numbers of unlike protocols are never compared.

    Args:
        sources: two or more.
        tasks: names; the tasks that all encoders were trained for by default, or all common ones if there is none.
        probes: which probes to fit; `svm` means both.
        baseline: label or path of the one that the others are compared with; the first by default.
        parts: any of `PARTS`.
        view: predictor of the Pareto view; `linear` by default, else the first there is.
        different_transform: accept images that were resized or normalised differently.
        groups: of files given by path, instead of what each says (see `Embeddings`).
        progress: show bars on standard error, if that is a terminal.

    Raises:
        InputError: fewer than two files, files of unlike samples, or an unknown name.
    """
    from tqdm import tqdm

    if len(sources) < 2:
        raise InputError("compare: give two or more embeddings files")
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise InputError(f"compare: part '{unknown[0]}' is unknown; choose from {', '.join(PARTS)}")
    expand_probes(probes)
    with ExitStack() as stack:
        files = [_open(source, stack, groups) for source in sources]
        labels = _labels(files)
        base = choose_baseline(baseline, files, labels)
        names = _tasks(files, tasks)
        check_comparable(files, names, different_transform=different_transform)
        members = [
            Member(label, 0, source if isinstance(source, Workspace) else file)
            for label, file, source in zip(labels, files, sources, strict=True)
        ]
        findings = Findings(names, tuple(probes), progress=progress)
        steps = len(files) * len(set(parts) - {"similarity"}) + ("similarity" in parts)
        with tqdm(total=steps, desc="compare", unit="step", leave=False, disable=None if progress else True) as bar:
            for member in members:
                findings.measure(member, parts, bar)
            if "similarity" in parts:
                bar.set_postfix_str("similarity")
                findings.rows += similarity_rows(members)
                bar.update()
        known = {name: files[0].tasks[name] for name in names}
    panels = [make_panel(known[name], findings.tables[name]) for name in names if name in findings.tables]
    return assemble(panels, labels, base, view, known, findings.measured(labels, base), findings.notes(base))


def _labels(files: Sequence[Embeddings]) -> list[str]:
    """A label of its own for each file: with the seed, the tasks it was trained for or the path, where it needs one."""
    labels = distinct_labels(files, across_seeds=True)
    return [
        f"{label} ({', '.join(file.trained_tasks)})" if labels.count(label) > 1 else label
        for label, file in zip(labels, files, strict=True)
    ]


def choose_baseline(asked: str | os.PathLike[str] | None, files: Sequence[Embeddings], labels: Sequence[str]) -> str:
    """The label of the baseline: the first, or the one whose label or path was asked for.

    Raises:
        InputError: there is none, or several.
    """
    if asked is None:
        return labels[0]
    wanted = str(asked)
    found = [
        label
        for file, label in zip(files, labels, strict=True)
        if wanted == label or Path(wanted) in (Path(file.path), Path(file.path).parent)
    ] or [label for file, label in zip(files, labels, strict=True) if file.label == wanted]
    if len(found) != 1:
        what = "names several files" if found else "is none of the files"
        raise InputError(f"baseline '{wanted}' {what}; give a path or one of {', '.join(labels)}")
    return found[0]


def _tasks(files: Sequence[Embeddings], asked: Iterable[str] | None) -> list[str]:
    """The tasks asked for, else those that all encoders were trained for, else all common ones."""
    wanted = None if asked is None else list(asked)
    common = [name for name in files[0].tasks if all(name in file.tasks for file in files)]
    if not common:
        check_comparable(files, ())  # names what is wrong, if the files are of different data
        raise InputError(
            f"{listed([str(file.path) for file in files])}: have no task in common; store the same targets"
        )
    trained = [name for name in common if all(name in file.trained_tasks for file in files)]
    for file in files if wanted is not None else ():
        choose_tasks(list(file.tasks), (), wanted, str(file.path))
    return choose_tasks(common, trained, wanted, str(files[0].path))


def _open(source: Source, stack: ExitStack, groups: str | None) -> Embeddings:
    from reprkit.embeddings import Embeddings

    if isinstance(source, Workspace):
        return source.embeddings
    if not isinstance(source, str | os.PathLike):
        return source
    path = Path(source)
    if path.is_dir():
        if not (path / "embeddings.h5").is_file():
            raise InputError(f"{path}: holds no embeddings.h5; give embeddings files, or folders of runs with --seeds")
        path = path / "embeddings.h5"
    return stack.enter_context(Embeddings(path, groups=groups))
