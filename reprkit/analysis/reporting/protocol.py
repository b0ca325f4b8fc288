"""What a report compared, on what and how, and how to repeat it: rows of words from the files of the folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.reporting.headlines import FLOORS, HEAD, PROBE_NAMES
from reprkit.analysis.reporting.joined import fingerprints
from reprkit.analysis.reporting.results import Results
from reprkit.analysis.reporting.wording import listed, plural, span
from reprkit.tasks import Task

SHOWN_DIGITS = 12
"""So much of each SHA-256 is printed; the embeddings files hold all of it."""


def compared_rows(results: Results) -> list[tuple[str, str]]:
    """What was compared, on what, with which protocol: (name, words). What the folder does not tell has no row."""
    recipe, described = results.recipe, _described(results.environment)
    prints = fingerprints(results)
    rows = [
        ("Encoders", listed([style.display(name) for name in results.encoders])),
        ("Training seeds", ", ".join(map(str, results.seeds))),
        ("Data", described.get("data") or str((recipe.get("data") or {}).get("name") or "")),
        ("Split", described.get("split", "")),
        ("Tasks", "; ".join(task_words(results.tasks))),
        ("Fingerprints", ", ".join(f"{kind} {value[:SHOWN_DIGITS]}" for kind, value in prints.items())),
        ("Model", _model(recipe.get("model") or {})),
        ("Training", _training(recipe, results.encoders)),
        ("Checkpoint", _checkpoint(results)),
        ("Probes", _probes(results)),
        ("Universality", _universality(results)),
        ("Intervals", _intervals(results)),
    ]
    return [(name, words) for name, words in rows if words]


def task_words(tasks: Mapping[str, Task]) -> list[str]:
    """Each task with its size; components such as `normals.x` are told with the task that they are parts of."""
    parts = {name: [other for other in tasks if other.startswith(f"{name}.")] for name in tasks}
    inner = {part for found in parts.values() for part in found}
    told = []
    for name, task in tasks.items():
        if name in inner:
            continue
        size = task_size(task)
        if parts[name]:
            axes = listed([part.removeprefix(f"{name}.") for part in parts[name]])
            size += f", measured as {axes}, each a regression"
        told.append(f"{name} ({size})")
    return told


def task_size(task: Task) -> str:
    """Such as `10 classes`, `regression, in years`, `of every pixel`."""
    if task.kind == "regression":
        return f"regression{f', in {task.unit}' if task.unit else ''}"
    if task.is_dense and task.kind != "segmentation":
        return "of every pixel"
    return f"{task.num_outputs} {'ordered ' if task.kind == 'ordinal' else ''}classes"


def repeat_commands(results: Results) -> list[tuple[str, str]]:
    """(what it does, command line) of each step that repeats the results, to be typed in the folder of the report."""
    environment = results.environment
    pins = [f"{name}=={version}" for name, version in (environment.get("packages") or {}).items() if version]
    found = [("As it was started", started_with(environment))]
    if pins:
        own = [f"{title} {environment[name]}" for name, title in (("python", "Python"), ("reprkit", "reprkit"))
               if environment.get(name)]  # fmt: skip
        beside = f", beside {listed(own)}" if own else ""
        found.append((f"The same versions{beside}", f"python -m pip install {' '.join(pins)}"))
    if results.recipe:
        found.append(("The same run, from the recipe beside this report", "reprkit run recipe.yaml --out ../again"))
    return [*found, ("This report, its figures and tables, from the numbers beside it", "reprkit report .")]


def started_with(environment: Mapping[str, Any]) -> str:
    """The command that made the results, as a shell would take it; where it is not known, the usual one."""
    command = environment.get("command")
    if isinstance(command, list) and command:
        words = [str(part) for part in command]
        started = ["python", "-m", "reprkit"] if words[0] == "__main__.py" else words[:1]
        return shlex.join([*started, *words[1:]])
    return str(command) if command else "reprkit run recipe.yaml"


def _described(environment: Mapping[str, Any]) -> dict[str, str]:
    """What the run said of its data: the first line, and how it was split."""
    lines = environment.get("data")
    if not isinstance(lines, list) or not lines:
        return {}
    split = next((str(line).strip() for line in lines if str(line).strip().startswith("split: ")), "")
    return {"data": str(lines[0]), "split": split.removeprefix("split: ")}


def _model(model: Mapping[str, Any]) -> str:
    if not model.get("encoder"):
        return ""
    structure = {"split": "a head a task", "mtan": "MTAN"}.get(str(model.get("structure")), "")
    start = f"started from {model['weights']}" if model.get("weights") else "started from random weights"
    return ", ".join(part for part in (str(model["encoder"]), structure, start) if part)


def _training(recipe: Mapping[str, Any], encoders: Sequence[str]) -> str:
    train = recipe.get("train") or {}
    if not train:
        return ""
    parts = [
        plural(int(train["epochs"]), "epoch") if train.get("epochs") else "",
        f"batches of {train['batch_size']}" if train.get("batch_size") else "",
        f"{train['optimizer']}, learning rate {train.get('lr'):g}" if train.get("optimizer") else "",
        f"{train['schedule']} schedule" if train.get("schedule") else "",
        str(train.get("precision") or ""),
    ]
    dgr = recipe.get("dgr") or {}
    if dgr and any("dgr" in style.split_label(name)[1] for name in encoders):
        dummies = plural(int(dgr.get("num_dummies", 0)), "dummy").replace("dummys", "dummies")
        parts.append(f"DGR: weight {dgr.get('weight'):g}, {dummies} a task, power {dgr.get('power')}")
    if recipe.get("grid"):
        parts.append("settings chosen from a grid on validation scores")
    return "; ".join(part for part in parts if part)


def _checkpoint(results: Results) -> str:
    kinds = [str(kind) for kind in results.scores["checkpoint"].dropna().unique()]
    if len(kinds) != 1:
        return ""
    which = {"best": "the epoch of the best validation score", "last": "the last epoch"}.get(kinds[0], kinds[0])
    n = results.scores["n"].dropna()
    return f"{which}; own heads scored on the test split" + (f", {span(n)} samples" if len(n) else "")


def _probes(results: Results) -> str:
    probes = results.probes
    if not len(probes) or "n_train" not in probes:
        return ""
    names = [PROBE_NAMES.get(str(name), str(name)) for name in dict.fromkeys(probes["probe"])
             if name not in (*FLOORS, HEAD)]  # fmt: skip
    trained = probes.loc[~probes["probe"].isin([*FLOORS, HEAD]), "n_train"].dropna()
    size = f"{span(trained)} training samples" if len(trained) else "training samples"
    return (
        f"{listed(names)} on frozen embeddings; fitted on {size}, settings chosen on validation samples, scored once on"
        f" {span(probes['n_test'].dropna())} test samples{_protocol(probes)}"
    )


def _universality(results: Results) -> str:
    frame = results.universality
    if not len(frame) or not {"head", "n"} <= set(frame):
        return ""
    heads = listed([str(head) for head in dict.fromkeys(frame["head"])])
    count = f"{span(frame['num_dummies'].dropna())} " if "num_dummies" in frame else ""
    size = f"; scored on {span(frame['n'].dropna())} test samples" if frame["n"].notna().any() else ""
    return f"{count}fresh {heads} heads; the best head fitted on train, chosen on validation{size}{_protocol(frame)}"


def _protocol(frame: pd.DataFrame) -> str:
    if "protocol_id" not in frame:
        return ""
    found = [str(one) for one in frame["protocol_id"].dropna().unique()]
    return f" (protocol {', '.join(found)})" if 0 < len(found) <= 3 else ""


def _intervals(results: Results) -> str:
    kind = "Student's, over training seeds" if len(results.seeds) > 1 else "bootstrap, over test samples of one seed"
    return f"95%; {kind}; differences are paired; not corrected for their number"
