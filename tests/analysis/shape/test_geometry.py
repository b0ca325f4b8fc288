"""The table of one encoder: what it holds, that streaming and missing targets change nothing, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from reprkit.analysis.moments import sufficient_statistics
from reprkit.analysis.shape.catalogue import METRICS
from reprkit.analysis.shape.metric import Given
from reprkit.analysis.shape.table import COLUMNS, PAIR_COLUMNS, geometry, similarity
from reprkit.analysis.shape.transfer import logme
from reprkit.analysis.workspace import Workspace, carve_by_id
from reprkit.errors import InputError
from reprkit.tasks import Task

OF_NONE = [m.name for m in METRICS.values() if m.needs in ("moments", "rows") and m.task == "none"]
OF_CLASSES = [m.name for m in METRICS.values() if m.needs in ("moments", "rows") and m.task != "none"]


def values(frame: pd.DataFrame, task: str = "") -> dict[str, float]:
    return dict(frame[frame["task"] == task].set_index("metric")["value"])


def same(first: pd.DataFrame, second: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(first, second, rtol=1e-6)


def split_evenly(z: np.ndarray, targets: dict[str, np.ndarray], tasks: list[Task], make, **options: Any):
    """The same rows as train and as test."""
    splits = ("train", "val", "test")
    labels = {name: dict.fromkeys(splits, y) for name, y in targets.items()}
    return make(dict.fromkeys(splits, z), labels, tasks, **options)


def test_one_row_a_task_and_metric(toy) -> None:
    embeddings = toy(label="m")
    embeddings.seed = 3
    found = geometry(embeddings, progress=False)
    assert tuple(found.columns) == COLUMNS
    expected = [("", name) for name in OF_NONE] + [(t, name) for t in ("left", "right") for name in OF_CLASSES]
    assert list(zip(found["task"], found["metric"], strict=True)) == expected
    assert (found["encoder"] == "m").all()
    assert (found["seed"] == 3).all()
    assert (found["split"] == "train").all()
    assert found["status"].str.startswith("ok").all()
    assert np.isfinite(found["value"]).all()
    assert (found["n"] == 400).all()
    assert (geometry(toy(), label="mine", tasks=["right"])["encoder"] == "mine").all()
    assert set(geometry(toy(), tasks=["right"])["task"]) == {"", "right"}
    status = found.set_index(["task", "metric"])["status"]
    assert status["", "alpha_req"] == "ok; fitted to eigenvalues 1 to 16"
    assert status["left", "h_score"] == f"ok; labels at random give {2 * 16 / 399:.3g}"
    assert status["right", "nc2_norms"] == "ok; always 0 for two classes"


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_values_are_those_of_the_split(toy, split: str) -> None:
    embeddings = toy()
    found = geometry(embeddings, split=split)
    z, y = embeddings.z(split), embeddings.targets(split, "left")
    plain, labelled = Given.of_arrays(z.astype(float)), Given.of_arrays(z.astype(float), y)
    for name in OF_NONE:
        assert values(found)[name] == pytest.approx(METRICS[name].compute(plain).value, rel=1e-9)
    for name in OF_CLASSES:
        assert values(found, "left")[name] == pytest.approx(METRICS[name].compute(labelled).value, rel=1e-9)


def test_streaming_changes_nothing(toy) -> None:
    embeddings = toy(sizes=(900, 100, 100))
    streamed = Workspace.of(embeddings, memory=0)
    assert not streamed.in_memory
    same(geometry(streamed), geometry(embeddings))


def test_missing_targets_leave_rows_out(toy, fake_embeddings) -> None:
    full = toy(kinds={"right": "regression"})
    z, left, right = full.z("train"), full.targets("train", "left"), full.targets("train", "right")
    tasks = list(full.tasks.values())
    keep = np.arange(400) % 3 > 0
    gaps = {"left": np.where(keep, left, -1), "right": np.where(keep, right, np.nan)}
    found = geometry(split_evenly(z, gaps, tasks, fake_embeddings))
    subset = geometry(split_evenly(z[keep], {"left": left[keep], "right": right[keep]}, tasks, fake_embeddings))
    whole = geometry(split_evenly(z, {"left": left, "right": right}, tasks, fake_embeddings))
    same(found[found["task"] != ""], subset[subset["task"] != ""])
    same(found[found["task"] == ""], whole[whole["task"] == ""])
    assert set(found.loc[found["task"] == "left", "n"]) == {int(keep.sum())}


def test_each_task_may_miss_other_targets(toy) -> None:
    embeddings = toy(classes={"a": 3, "b": 3, "c": 2})
    labels = embeddings._targets
    labels["a"]["train"][::3] = -1
    labels["b"]["train"][1::2] = -1
    found = geometry(embeddings)
    for task in ("a", "b", "c"):
        y = embeddings.targets("train", task)
        alone = Given.of_arrays(embeddings.z("train")[y >= 0].astype(float), y[y >= 0])
        for name in OF_CLASSES:
            assert values(found, task)[name] == pytest.approx(METRICS[name].compute(alone).value, rel=1e-9)


def test_a_real_target_has_logme_alone(toy) -> None:
    found = geometry(toy(kinds={"left": "regression"}))
    own = found[found["task"] == "left"]
    assert list(own["metric"]) == ["logme"]
    assert own["value"].iloc[0] > -0.5 * (np.log(2 * np.pi) + 1)  # weights of zero on a standardised target
    embeddings = toy(kinds={"left": "regression"})
    embeddings._targets["left"]["train"] = embeddings._targets["left"]["train"] * 1000 + 5
    again = geometry(embeddings)
    assert values(again, "left")["logme"] == pytest.approx(own["value"].iloc[0], rel=1e-9)


def test_a_real_target_over_several_blocks(toy) -> None:
    embeddings = toy(sizes=(9000, 10, 10), dim=4, kinds={"left": "regression"})
    z, y = embeddings.z("train").astype(float), embeddings.targets("train", "left")
    y = (y - y.mean()) / y.std()
    expected = logme(sufficient_statistics([z]), (y @ (z - z.mean(axis=0)))[None], [y @ y])
    assert values(geometry(embeddings, tasks=["left"]), "left")["logme"] == pytest.approx(expected, rel=1e-7)


def test_large_splits_are_sampled_and_say_so(toy, monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = toy()
    whole = geometry(embeddings).set_index(["task", "metric"])
    monkeypatch.setitem(geometry.__globals__, "SAMPLE_ROWS", 150)
    found = geometry(embeddings).set_index(["task", "metric"])
    for task, name in found.index:
        row = found.loc[(task, name)]
        if METRICS[name].needs == "rows":
            assert row["n"] == 150
            assert row["status"] == "ok; a sample of 150 of 400 rows"
        else:
            pd.testing.assert_series_equal(row, whole.loc[(task, name)])
    assert found.loc[("left", "silhouette"), "value"] == pytest.approx(
        whole.loc[("left", "silhouette"), "value"], abs=0.05
    )
    pd.testing.assert_frame_equal(found, geometry(embeddings).set_index(["task", "metric"]))


def logits_for(embeddings, task: str, strength: float) -> dict[str, np.ndarray]:
    classes = embeddings.tasks[task].num_outputs
    return {s: (strength * np.eye(classes)[embeddings.targets(s, task)]).astype(np.float32) for s in embeddings.splits}


def test_heads_against_the_labels_of_other_tasks(toy) -> None:
    embeddings = toy(classes={"a": 3, "b": 2, "c": 2})
    embeddings._targets["b"]["train"] = (embeddings._targets["a"]["train"] > 0).astype(int)  # a tells all of b
    embeddings._targets["b"]["train"][:40] = -1
    embeddings._logits["a"] = logits_for(embeddings, "a", 20.0)
    found = geometry(embeddings)
    heads = found[found["metric"].str.contains(":")].set_index(["task", "metric"])
    assert list(heads.index) == [(task, f"{name}:a") for task in ("b", "c") for name in ("leep", "nce")]
    assert heads.loc[("b", "nce:a"), "value"] == 0
    assert heads.loc[("b", "leep:a"), "value"] == pytest.approx(0, abs=1e-6)
    assert heads.loc[("b", "nce:a"), "n"] == 360
    row = heads.loc[("c", "nce:a")]
    assert row["value"] == pytest.approx(-np.log(2), abs=0.02)
    assert row["low"] < row["value"] < row["high"]


def test_heads_follow_rows_that_were_carved_out(toy, fake_embeddings) -> None:
    full = toy(sizes=(500, 100, 100))
    y = full.targets("train", "left")
    labels = {"left": {"train": y, "test": full.targets("test", "left")}}
    labels["right"] = {s: (each > 0).astype(int) for s, each in labels["left"].items()}
    z = {s: full.z(s) for s in ("train", "test")}
    logits = {"left": {s: (9 * np.eye(3)[each]).astype(np.float32) for s, each in labels["left"].items()}}
    carved = fake_embeddings(z, labels, list(full.tasks.values()), logits=logits)
    held_out = int(carve_by_id(carved.ids("train")).sum())
    for split, rows in (("train", 500 - held_out), ("val", held_out), ("test", 100)):
        found = geometry(carved, split=split).set_index(["task", "metric"])
        assert found.loc[("right", "nce:left"), "value"] == 0
        assert found.loc[("right", "nce:left"), "n"] == rows


CASES = {
    "constant": (np.full((40, 6), 0.1), np.arange(40) % 3),
    "zero": (np.zeros((40, 6)), np.arange(40) % 3),
    "one class": (np.random.default_rng(0).normal(size=(40, 6)), np.full(40, 1)),
    "absent class": (np.random.default_rng(0).normal(size=(40, 6)), np.arange(40) % 2 * 2),
    "no labels": (np.random.default_rng(0).normal(size=(40, 6)), np.full(40, -1)),
    "fewer rows than features": (np.random.default_rng(0).normal(size=(12, 50)), np.arange(12) % 3),
    "two rows": (np.random.default_rng(0).normal(size=(2, 6)), np.arange(2)),
    "one row": (np.random.default_rng(0).normal(size=(1, 6)), np.zeros(1, int)),
    "one feature": (np.random.default_rng(0).normal(size=(40, 1)), np.arange(40) % 3),
    "a class of one row": (np.random.default_rng(0).normal(size=(40, 6)), np.array([0, 2] + [1] * 38)),
    "all rows alike but one": (np.eye(40)[:, :6] * (np.arange(40) == 3)[:, None], np.arange(40) % 3),
    "a simplex": (np.eye(6)[np.arange(40) % 3], np.arange(40) % 3),
    "some zero rows": (np.random.default_rng(0).normal(size=(40, 6)) * (np.arange(40) > 3)[:, None], np.arange(40) % 3),
    "far away": (np.random.default_rng(0).normal(size=(40, 6)) + 1e7, np.arange(40) % 3),
    "huge": (np.random.default_rng(0).normal(size=(40, 6)) * 1e18, np.arange(40) % 3),
    "tiny": (np.random.default_rng(0).normal(size=(40, 6)) * 1e-18, np.arange(40) % 3),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("error")
def test_degenerate_input_is_explained(case: str, fake_embeddings) -> None:
    z, y = CASES[case]
    logits = {"u": dict.fromkeys(("train", "val", "test"), np.zeros((len(z), 2), np.float32))}
    tasks = [Task("t", "classification", 3), Task("u", "classification", 2), Task("r", "regression", 1)]
    targets = {"t": y, "u": np.maximum(y, 0) % 2, "r": np.where(y < 0, np.nan, 2.0 * y)}
    found = geometry(split_evenly(z, targets, tasks, fake_embeddings, logits=logits))
    assert len(found) == len(OF_NONE) + 2 * len(OF_CLASSES) + 1 + 2
    fine = found["status"].str.match("ok(;|$)")
    assert np.isfinite(found.loc[fine, "value"]).all()
    assert found.loc[~fine, "value"].isna().all()
    assert (found.loc[~fine, "status"].str.len() > 5).all()
    for row in found[fine].to_dict("records"):
        metric = METRICS[row["metric"].partition(":")[0]]
        assert metric.low - 1e-9 <= row["value"] <= metric.high + 1e-9
    own = found[found["task"] == "t"].set_index("metric")["status"]
    if case in ("constant", "one class", "no labels"):
        expected = {"constant": "constant", "one class": "one class", "no labels": "no row has a target"}[case]
        assert (
            own[["nc1", "cdnv", "fisher_ratio", "h_score", "h_score_regularised", "logme"]].str.contains(expected).all()
        )
    if case == "one class":
        assert found.set_index("task").loc["r", "status"] == "the target does not vary"
    if case == "two rows":
        assert own[["nc1", "cdnv", "h_score", "silhouette", "alignment"]].eq("no class has two rows").all()
    if case == "absent class":
        assert own["nc1"] == "ok; 1 of 3 classes have no rows"
    if case == "some zero rows":
        assert found.set_index(["task", "metric"]).loc[("", "uniformity"), "status"] == "ok; 4 zero rows left out"
        assert found.set_index(["task", "metric"]).loc[("", "two_nn"), "status"] == "ok; 3 duplicates left out"


def test_two_encoders_on_the_same_samples(toy, fake_embeddings, monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = toy(label="one"), toy(seed=1)
    splits = first.splits
    z = {s: first.z(s)[:, ::-1] * 3 + 2 for s in splits}
    tasks = list(first.tasks.values())
    twin = fake_embeddings(z, first._targets, tasks, label="twin", seed=4)
    found = similarity(first, twin)
    assert tuple(found.columns) == PAIR_COLUMNS
    assert list(found["metric"]) == ["cka", "cka_biased", "mutual_knn", "mutual_knn_above_chance"]
    assert found[["encoder", "seed", "task", "other", "other_seed", "split"]].drop_duplicates().values.tolist() == [
        ["one", 0, "", "twin", 4, "test"]
    ]
    np.testing.assert_allclose(found["value"], 1, atol=1e-5)
    assert (found["n"] == 300).all()

    against = similarity(first, other, split="val", labels=("a", "b"))
    assert (against["n"] == 150).all()
    assert against["value"].lt(0.5).all()
    same(similarity(Workspace.of(first, memory=0), other, split="val", labels=("a", "b")), against)
    monkeypatch.setitem(geometry.__globals__, "SAMPLE_ROWS", 100)
    sampled = similarity(first, other, split="val", labels=("a", "b")).set_index("metric")
    assert sampled["n"].tolist() == [150, 150, 100, 100]
    assert sampled["status"].str.contains("a sample of 100 of 150 rows").tolist() == [False, False, True, True]
    assert sampled.loc["mutual_knn", "status"] == "ok; k = 10; a sample of 100 of 150 rows"
    pd.testing.assert_series_equal(sampled["value"][:2], against.set_index("metric")["value"][:2])


def test_encoders_that_cannot_be_compared(toy, fake_embeddings) -> None:
    first = toy()
    with pytest.raises(InputError, match="holds other samples than fake.h5, or in another order"):
        similarity(first, toy(sizes=(400, 150, 299)))
    with pytest.raises(InputError, match="split 'all' is unknown"):
        similarity(first, first, split="all")
    constant = fake_embeddings({s: np.ones((first.num_rows(s), 3)) for s in first.splits}, first._targets, [])
    found = similarity(first, constant)
    assert found["value"].isna().all()
    assert (found["status"] == "a representation is constant").all()


def test_refusals(toy) -> None:
    with pytest.raises(InputError, match="no task 'hat'; choose from left, right"):
        geometry(toy(), tasks=["hat"])
    with pytest.raises(InputError, match="split 'dev' is unknown"):
        geometry(toy(), split="dev")
    broken = toy()
    broken.z("train")[3, 2] = np.nan
    with pytest.raises(InputError, match="fake.h5: split train holds NaN"):
        geometry(broken)


def test_more_classes_than_places_in_the_sample(toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(geometry.__globals__, "SAMPLE_ROWS", 30)
    found = geometry(toy(classes={"name": 60}, dim=4)).set_index(["task", "metric"])
    assert found.loc[("name", "silhouette"), "n"] == 30
    assert found.loc[("name", "nc1"), "n"] == 400
