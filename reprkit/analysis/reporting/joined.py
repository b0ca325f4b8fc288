"""Results of several folders as one: methods of one data set may be trained apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import pandas as pd

from reprkit.analysis.reporting.results import Results, load_results, read_json
from reprkit.errors import InputError

CONTROLS = ("control_probes", "control_universality")


def load_folders(folders: str | Path | Sequence[str | Path]) -> Results:
    """Read one folder or several of the same data, split and tasks, and put their tables together.

    Recipe, environment and `folder` are those of the first; controls those of the first that has any, since they
    depend on the data alone.

    Raises:
        InputError: see `load_results`; or the data, split or tasks of two folders differ, or an encoder with one seed
            is in two of them.
    """
    paths = [folders] if isinstance(folders, str | Path) else list(folders)
    loaded = [load_results(path) for path in paths]
    first, *others = loaded
    for other in others:
        _check(first, other)
    if not others:
        return first
    values = {name: getattr(first, name) for name in (field.name for field in fields(Results))}
    for name, value in values.items():
        if isinstance(value, pd.DataFrame):
            found = [frame for one in loaded if len(frame := getattr(one, name))]
            found = found[:1] if name in CONTROLS else found
            values[name] = pd.concat(found, ignore_index=True) if found else value
    values["runs"] = tuple(run for one in loaded for run in one.runs)
    seen: dict[tuple[str, int, str], Path] = {}
    for run in values["runs"]:
        key = run.encoder, run.seed, run.task
        if key in seen:
            raise InputError(f"{run.path}: {run.encoder} with seed {run.seed} is also {seen[key]}; give one of the two")
        seen[key] = run.path
    return Results(**values)


def _check(first: Results, other: Results) -> None:
    """Refuse a folder whose numbers are not of the same samples and tasks."""
    names = [(one.recipe.get("data") or {}).get("name") for one in (first, other)]
    if names[0] != names[1]:
        raise InputError(f"{other.folder}: data set {names[1]}, but {first.folder} has {names[0]}; give folders of one")
    if set(first.tasks) != set(other.tasks):
        raise InputError(
            f"{other.folder}: tasks {', '.join(other.tasks)}, but {first.folder} has {', '.join(first.tasks)};"
            " give folders of the same tasks"
        )
    prints = [fingerprints(one) for one in (first, other)]
    for kind in ("dataset", "split"):
        if kind in prints[0] and kind in prints[1] and prints[0][kind] != prints[1][kind]:
            raise InputError(f"{other.folder}: another {kind} than {first.folder}; their numbers must not be compared")


def fingerprints(results: Results) -> dict[str, str]:
    """SHA-256 of the data set, its split and its transform, as the first run that knows them tells; else empty."""
    for run in results.runs:
        found = read_json(run.path / "identity.json").get("fingerprints")
        if isinstance(found, dict):
            return {str(kind): str(value) for kind, value in found.items()}
    return {}
