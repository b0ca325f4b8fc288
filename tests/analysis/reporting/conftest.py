"""Result tables as a sweep writes them, with numbers that are made up but of the right shape."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from reprkit.analysis.style import write_csv
from reprkit.tasks import Task

TASKS = (
    Task("left", "classification", 3, ("a", "b", "c")),
    Task("sum", "ordinal", 5),
    Task("age", "regression", 1, unit="years"),
)
METHODS = ("single", "vanilla", "vanilla+dgr")
SAMPLES = 40


def make_frames(*, seeds=2, methods=METHODS, tasks=TASKS):
    rng = np.random.default_rng(0)
    targets = {
        t.name: rng.integers(t.num_outputs, size=SAMPLES) if t.is_discrete else rng.random(SAMPLES) for t in tasks
    }
    rows = {"probes": [], "universality": [], "tsne": [], "tsne_quality": [], "scores": []}
    for method in methods:
        for seed in range(seeds):
            key = {"encoder": method, "seed": seed}
            for task in tasks:
                better = 0.02 * method.endswith("dgr")
                for probe in ("prior", "knn", "linear"):
                    value = 0.3 if probe == "prior" else 0.8 + better + 0.01 * rng.normal()
                    common = {"n_test": SAMPLES, "n_train": 99, "params": "{}", "val_value": value, "status": "ok"}
                    for metric in (task.metric, "mae") if task.kind != "classification" else (task.metric,):
                        numbers = {"value": value, "low": value - 0.04, "high": value + 0.03}
                        row = {**key, "task": task.name, "probe": probe, "metric": metric, **numbers, **common}
                        rows["probes"].append({**row, "protocol_id": "p"})
                u = 0.3 + better + 0.01 * rng.normal()
                intervals = {
                    f"{c}{end}": u + step
                    for c in ("U_rel", "U_rel_tau", "gap", "U")
                    for end, step in (("", 0), ("_low", -0.02), ("_high", 0.03))
                }
                others = {"L_star": 0.4, "H_y": 1.1, "rms": 1.0 - 10 * better, "effective_rank": 9.0, "grad_norm": 2.0}
                rows["universality"].append(
                    {**key, "task": task.name, "head": "linear", "status": "ok", **intervals, **others,
                     "n": SAMPLES, "num_classes": task.num_outputs, "protocol_id": "u"}
                )  # fmt: skip
                score = {"metric": task.metric, "value": 0.8 + better + 0.01 * rng.normal(), "loss": 0.5, "n": SAMPLES}
                rows["scores"].append({**key, "task": task.name, **score, "epoch": 3, "checkpoint": "best"})
            for part in [t.name for t in tasks] if method == "single" else [""]:
                xy = rng.normal(size=(SAMPLES, 2))
                drawn = {"map": "tsne", "perplexity": 13.0}
                ids = [f"s{i}" for i in range(SAMPLES)]
                rows["tsne"].append(
                    pd.DataFrame({**key, "task": part, **drawn, "id": ids, "x": xy[:, 0], "y": xy[:, 1], **targets})
                )
                quality = {
                    **drawn,
                    "n": SAMPLES,
                    "kl": 0.7,
                    "knn_recall": 0.4,
                    "trustworthiness": 0.9,
                    "spearman": 0.5,
                    "status": "ok",
                }
                hits = {f"{k}_{t.name}": v for t in tasks if t.is_discrete for k, v in (("hit", 0.6), ("chance", 0.3))}
                rows["tsne_quality"].append({**key, "task": part, **quality, **hits})
    frames = {name: pd.DataFrame(found) for name, found in rows.items() if name != "tsne"}
    return SimpleNamespace(**frames, tsne=pd.concat(rows["tsne"], ignore_index=True), tasks={t.name: t for t in tasks})


def write_sweep(folder, frames, *, name="toy", tables=True):
    """The folder of a sweep with these frames; with `tables=False` they are written into the runs alone."""
    keys = frames.scores[["encoder", "seed"]].drop_duplicates().itertuples(index=False)
    names = ("probes", "universality", "tsne", "tsne_quality")
    for method, seed in keys:
        mine = {n: f[(f["encoder"] == method) & (f["seed"] == seed)] for n, f in vars(frames).items() if n != "tasks"}
        for part in sorted(set(mine["tsne"]["task"])):
            run = folder / "runs" / method / f"seed{seed}" / part
            run.mkdir(parents=True)
            wanted = {part} if part else set(frames.tasks)
            score = mine["scores"][mine["scores"]["task"].isin(wanted)]
            tasks = {
                r.task: {"metric": r.metric, "score": r.value, "loss": r.loss, "n": r.n} for r in score.itertuples()
            }
            record = {"method": method, "seed": seed, "tasks": tasks, "epoch": 3, "checkpoint": "best"}
            (run / "test_scores.json").write_text(json.dumps(record))
            penalty = {"penalty": 0.1} if "dgr" in method else {}
            lines = [
                {"epoch": epoch, "step": epoch * 9, "split": split, "loss": dict.fromkeys(sorted(wanted), 1.0 / epoch),
                 "score": dict.fromkeys(sorted(wanted), 1 - 0.5 / epoch), **penalty, "seconds": 1}
                for epoch in (1, 2, 3) for split in ("train", "val")
            ]  # fmt: skip
            (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            for n in names if not tables else ():
                frame = mine[n]
                write_csv(frame[frame["task"].isin([part] if n.startswith("tsne") else wanted)], run / f"{n}.csv")
    for n in names if tables else ():
        write_csv(getattr(frames, n), folder / f"{n}.csv")
    order = ", ".join(frames.tasks)
    (folder / "recipe.yaml").write_text(f"name: '{name}'\ndata:\n  name: digits\n  tasks: [{order}]\n")
    environment = {"reprkit": "0.1.0", "packages": {"numpy": "2.0"}, "command": ["reprkit", "run", "my recipe.yaml"]}
    (folder / "environment.json").write_text(json.dumps(environment))
    return folder


@pytest.fixture
def frames():
    return make_frames()


@pytest.fixture(scope="session")
def make():
    return make_frames


@pytest.fixture(scope="session")
def write():
    return write_sweep
