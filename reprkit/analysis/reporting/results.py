"""The result files of a sweep or of one run, read back as frames. Whatever is missing is empty."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.reporting.training_log import COLUMNS as CURVE_COLUMNS
from reprkit.analysis.reporting.training_log import read_curves
from reprkit.errors import InputError
from reprkit.tasks import Task

FRAMES = (
    "probes", "sensitivity", "few_shot", "universality", "geometry", "ordinal", "tsne", "tsne_quality",
)  # fmt: skip
CONTROLS = {"control_probes": "controls/probes.csv", "control_universality": "controls/universality.csv"}
"""Frames of the controls, and where a sweep keeps them."""
SCORE_COLUMNS = ["encoder", "seed", "task", "metric", "headline", "value", "loss", "n", "epoch", "checkpoint"]
KEYS = {"encoder": "string", "task": "string", "trained_for": "string", "id": "string"}


@dataclass(frozen=True)
class Run:
    """One trained encoder: its label, seed, task (empty unless trained for one alone) and folder."""

    encoder: str
    seed: int
    task: str
    path: Path


@dataclass(frozen=True)
class Results:
    """Everything a report tells.

    Attributes:
        folder: the sweep or run folder.
        recipe, environment: as read; empty if missing.
        probes, sensitivity, few_shot, universality, geometry, ordinal, tsne, tsne_quality: frames of all encoders.
        control_probes, control_universality: frames of the controls.
        scores: the models' own heads on the test split, a row a task with its headline metric: encoder, seed, task,
            metric, value, loss, n, epoch, checkpoint.
        all_scores: the same with a row for every metric of a task, and `headline` to tell that of `scores`.
        curves: frame of `read_curves`.
        selection: settings tried on validation and which was kept, as the sweep wrote them.
        tasks: task records by name.
        runs: the runs found.
    """

    folder: Path
    recipe: Mapping[str, Any]
    environment: Mapping[str, Any]
    probes: pd.DataFrame
    sensitivity: pd.DataFrame
    few_shot: pd.DataFrame
    universality: pd.DataFrame
    geometry: pd.DataFrame
    ordinal: pd.DataFrame
    tsne: pd.DataFrame
    tsne_quality: pd.DataFrame
    control_probes: pd.DataFrame
    control_universality: pd.DataFrame
    scores: pd.DataFrame
    all_scores: pd.DataFrame
    curves: pd.DataFrame
    selection: pd.DataFrame
    tasks: Mapping[str, Task] = field(default_factory=dict)
    runs: tuple[Run, ...] = ()

    @property
    def encoders(self) -> list[str]:
        """Labels of all encoders with a result, in the order in which figures and tables list them."""
        frames = (self.scores, self.probes, self.universality, self.tsne, self.curves)
        return style.encoder_order(pd.concat([f["encoder"] for f in frames if len(f)]) if any(map(len, frames)) else [])

    @property
    def seeds(self) -> list[int]:
        """All training seeds with a result."""
        frames = (self.scores, self.probes, self.universality, self.tsne, self.curves)
        return sorted({int(seed) for frame in frames for seed in frame.get("seed", ())})


def load_results(folder: str | Path) -> Results:
    """Read a sweep folder (with `runs/`), or the folder of one run.

    Tables of the sweep are preferred; where one is missing, those of its runs are put together.

    Raises:
        InputError: the folder does not exist, holds no results, or a file in it cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the folder that `reprkit run` wrote")
    runs = find_runs(folder)
    frames = {name: _frame(folder, runs, name) for name in FRAMES}
    frames |= {name: _csv(folder / path) for name, path in CONTROLS.items()}
    every = _scores(runs)
    scores = every[every["headline"]].drop(columns="headline").reset_index(drop=True)
    metrics = [(run.encoder, run.seed, path) for run in runs if (path := run.path / "metrics.jsonl").is_file()]
    curves = read_curves(metrics) if metrics else pd.DataFrame(columns=CURVE_COLUMNS)
    if not len(scores) and not len(curves) and not any(map(len, frames.values())):
        raise InputError(
            f"{folder}: holds no results (no probes.csv, universality.csv, tsne.csv or runs/); run it first"
        )
    results = Results(
        folder=folder,
        recipe=read_yaml(folder / "recipe.yaml"),
        environment=read_json(folder / "environment.json"),
        **frames,  # type: ignore[arg-type]  # names of frames alone
        scores=scores,
        all_scores=every,
        curves=curves,
        selection=_csv(folder / "selection.csv"),
        runs=tuple(runs),
    )
    return Results(**{**vars(results), "tasks": _tasks(results)})


def find_runs(folder: Path) -> list[Run]:
    """The runs of a sweep: those its `pieces.json` names, else all below `runs/<method>/seed<k>[/<task>]`.

    A folder with neither is taken as a run itself.
    """
    listed = read_json(folder / "pieces.json", list) if (folder / "pieces.json").is_file() else []
    if listed:
        try:
            return [Run(str(p["encoder"]), int(p["seed"]), str(p["task"]), folder / p["folder"]) for p in listed]
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{folder / 'pieces.json'}: not a list of runs; run the recipe again") from None
    top = folder / "runs"
    if not top.is_dir():
        encoder, seed, task = _identity(folder, folder.name, 0)
        return [Run(encoder, seed, task, folder)]
    runs = []
    for seed_folder in sorted(top.glob("*/seed*")):
        number = seed_folder.name.removeprefix("seed")
        if not seed_folder.is_dir() or not number.isdigit():
            continue
        for path in [seed_folder, *sorted(p for p in seed_folder.iterdir() if p.is_dir())]:
            if any(
                (path / name).is_file() for name in ("metrics.jsonl", "test_scores.json", "embeddings.h5", "probes.csv")
            ):
                encoder, seed, _ = _identity(path, seed_folder.parent.name, int(number))
                runs.append(Run(encoder, seed, "" if path == seed_folder else path.name, path))
    order = style.encoder_order(run.encoder for run in runs)
    return sorted(runs, key=lambda run: (order.index(run.encoder), run.seed, run.task))


def predictions(run: Run) -> dict[str, pd.DataFrame]:
    """Per-sample predictions of a run, by the slug of the task: columns id, (group,) target and one a probe."""
    files = sorted((run.path / "predictions").glob("*.csv"))
    return {path.stem: pd.read_csv(path, dtype={"id": "string", "group": "string"}) for path in files}


def _identity(path: Path, encoder: str, seed: int) -> tuple[str, int, str]:
    """Label, seed and task of a run as its own files tell them, else as its folder does."""
    if (path / "test_scores.json").is_file():
        record = read_json(path / "test_scores.json")
        return str(record.get("method", encoder)), int(record.get("seed", seed)), ""
    for name in FRAMES:
        if (path / f"{name}.csv").is_file():
            frame = _csv(path / f"{name}.csv")
            if len(frame) and {"encoder", "seed"} <= set(frame):
                return str(frame["encoder"].iloc[0]), int(frame["seed"].iloc[0]), ""
    return encoder, seed, ""


def _frame(folder: Path, runs: list[Run], name: str) -> pd.DataFrame:
    whole = folder / f"{name}.csv"
    paths = [whole] if whole.is_file() else [run.path / f"{name}.csv" for run in runs]
    frames = [_csv(path) for path in paths]
    frames = [frame for frame in frames if len(frame)]
    if not frames:
        return pd.DataFrame(columns=["encoder", "seed", "task"])
    joined = pd.concat(frames, ignore_index=True)
    return joined.assign(task=joined["task"].fillna("")) if "task" in joined else joined


def _scores(runs: list[Run]) -> pd.DataFrame:
    """Every metric of every task of every run; the headline first, then by name."""
    rows = []
    for run in runs:
        record = read_json(run.path / "test_scores.json")
        for task, one in (record.get("tasks") or {}).items():
            headline = one.get("metric", "accuracy")
            values = {
                headline: one.get("score"),
                **{m: v for m, v in (one.get("metrics") or {}).items() if m != headline},
            }
            row = {"encoder": run.encoder, "seed": run.seed, "task": task, "loss": one.get("loss"), "n": one.get("n")}
            row |= {"epoch": record.get("epoch"), "checkpoint": record.get("checkpoint")}
            rows += [{**row, "metric": m, "headline": m == headline, "value": v} for m, v in values.items()]
    frame = pd.DataFrame(rows, columns=SCORE_COLUMNS).drop_duplicates(["encoder", "seed", "task", "metric"])
    numbers = {name: pd.to_numeric(frame[name]) for name in ("value", "loss")}
    return frame.assign(**numbers, headline=frame["headline"].astype(bool))


def _tasks(results: Results) -> dict[str, Task]:
    """Task records from an embeddings file of the runs, or their test scores; else as far as the tables tell them."""
    from reprkit.embeddings import Embeddings

    frames = (results.scores, results.probes, results.universality, results.curves)
    names = list(dict.fromkeys(str(name) for frame in frames for name in frame["task"] if name))
    wanted = (results.recipe.get("data") or {}).get("tasks") or []
    names = [name for name in wanted if name in names] + [name for name in names if name not in wanted]
    scored = _scored_tasks(results.runs)
    scored = {name: scored[name] for name in wanted if name in scored} | scored
    known: dict[str, Task] = {}
    for run in results.runs:
        if known and set(names) <= set(known) | set(scored):
            break
        try:
            with Embeddings(run.path / "embeddings.h5") as embeddings:
                known |= embeddings.tasks
        except (InputError, OSError):
            continue
    known |= {name: task for name, task in scored.items() if name not in known}  # tasks of pixels come first
    known = dict(sorted(known.items(), key=lambda one: (_place(one[0], list(known)), "." in one[0])))
    guessed = {name: _guess(name, results) for name in names if name not in known}
    order = [*known, *guessed] if set(names) <= set(known) else names
    return {name: (known | guessed)[name] for name in order}


def _place(name: str, order: list[str]) -> int:
    """Where a task stands: normals and their components (`normals.x`, ...) where the first of them does."""
    family = name.split(".")[0] if name.split(".")[0] in order else name
    return next(i for i, other in enumerate(order) if other == family or other.startswith(f"{family}."))


def _scored_tasks(runs: tuple[Run, ...]) -> dict[str, Task]:
    """Task records that the test scores carry."""
    found: dict[str, Task] = {}
    for run in runs:
        for name, one in (read_json(run.path / "test_scores.json").get("tasks") or {}).items():
            if name not in found and "task" in one:
                found[name] = Task.from_json(one["task"])
    return found


def _guess(name: str, results: Results) -> Task:
    probes = results.probes
    metrics = set(probes.loc[probes["task"] == name, "metric"]) if "metric" in probes else set()
    if metrics and "accuracy" not in metrics:
        return Task(name, "regression", 1)
    targets = results.tsne.get(name, pd.Series(dtype=float)).dropna()
    count = int(targets.max()) + 1 if len(targets) else 2
    if "num_classes" in results.universality:
        sizes = results.universality.loc[results.universality["task"] == name, "num_classes"].dropna()
        count = max([count, *sizes.astype(int)])
    return Task(name, "ordinal" if "mae" in metrics else "classification", max(count, 2))


def _csv(path: Path) -> pd.DataFrame:
    if not path.is_file():
        return pd.DataFrame()
    try:
        return pd.read_csv(path, dtype=KEYS, keep_default_na=True)
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (ValueError, pd.errors.ParserError) as error:
        raise InputError(f"{path}: not a result table ({str(error).splitlines()[0]}); make it anew") from None


def read_json(path: Path, kind: type = dict) -> Any:
    """A JSON file that holds one object (or a `kind`); empty if it is missing or holds something else.

    Raises:
        InputError: it is not valid JSON.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else kind()
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); make it anew") from None
    return value if isinstance(value, kind) else kind()


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds one mapping; empty if it is missing or holds something else.

    Raises:
        InputError: it is not valid YAML.
    """
    import yaml

    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML ({str(error).splitlines()[0]}); make it anew") from None
    return value if isinstance(value, dict) else {}
