from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from reprkit.analysis.probes import PROBES, Protocol, probe, probe_with_predictions, suite
from reprkit.analysis.probes.metrics import metrics_of
from reprkit.analysis.probes.table import COLUMNS, PROBABILISTIC, columns_by_probe
from reprkit.analysis.workspace import carve_by_id
from reprkit.errors import InputError
from reprkit.recipe import ProbeConfig
from reprkit.tasks import Task

KINDS = {"order": "ordinal", "age": "regression"}
CLASSES = {"left": 3, "order": 4, "age": 5}
SMALL = ProbeConfig(bootstrap=100)
FOR_VALUES = tuple(name for name in PROBES if name not in ("ncm", "lda"))
BY_LOSS = ("lda", "linear", "mlp")


def probes_of(task):
    return FOR_VALUES if task == "age" else PROBES


@pytest.fixture(scope="module")
def made(toy):
    return toy(classes=CLASSES, kinds=KINDS, sizes=(160, 80, 100), noise=1.0)


@pytest.fixture(scope="module")
def result(made):
    return probe_with_predictions(made, config=SMALL)


def csv(frame):
    buffer = io.StringIO()
    frame.to_csv(buffer, index=False, float_format="%.6g", lineterminator="\n")
    return buffer.getvalue()


def copy_of(made, **changes):
    """The same file with some arrays changed: z={split: array}, targets={task: {split: array}}, splits=(...)."""
    splits = changes.get("splits", made.splits)
    z = {split: changes.get("z", {}).get(split, made.z(split)) for split in splits}
    targets = {
        name: {
            split: changes.get("targets", {}).get(name, {}).get(split, made.targets(split, name)) for split in splits
        }
        for name in made.tasks
    }
    ids = {split: made.ids(split) for split in splits} | changes.get("ids", {})
    return type(made)(z, targets, list(made.tasks.values()), label=made.label, ids=ids)


def headline(frame, **where):
    for column, value in where.items():
        frame = frame[frame[column] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def test_table_has_a_row_for_every_task_probe_and_metric(result):
    frame = result.frame
    assert list(frame.columns) == list(COLUMNS)
    found = frame.groupby(["task", "probe"], sort=False)["metric"].agg(tuple)
    for task in CLASSES:
        assert list(frame.loc[frame["task"] == task, "probe"].unique()) == ["prior", *probes_of(task)]
    for (task, name), names in found.items():
        if task == "age":
            assert names == ("r2", "mae", "rmse")
        else:
            middle = ("mae", "within_one", "quadratic_kappa") if task == "order" else ()
            last = ("log_loss", "ece") if name in PROBABILISTIC else ()
            recalls = tuple(f"recall[{c}]" for c in range(CLASSES[task]))
            assert names == ("accuracy", "balanced_accuracy", "macro_f1", *middle, *last, *recalls)
    skewed = frame["metric"].isin(["ece", "rmse"])
    assert (frame["low"] <= frame["value"] + 1e-12)[~skewed].all()
    assert (frame["value"] <= frame["high"] + 1e-12)[~skewed].all()
    assert (frame["low"] < frame["high"]).mean() > 0.9
    assert frame["n_test"].eq(100).all()
    assert frame["n_train"].eq(160).all()
    assert frame["protocol_id"].nunique() == 1
    assert frame["encoder"].eq("fake").all()


def test_probes_beat_the_floor_and_val_value_stands_where_it_chose(result):
    frame = result.frame
    for task, metric in (("left", "accuracy"), ("order", "accuracy"), ("age", "r2")):
        floor = headline(frame, task=task, probe="prior", metric=metric)
        for name in probes_of(task):
            row = headline(frame, task=task, probe=name, metric=metric)
            assert row["value"] > floor["value"] + 0.05, (task, name)
            json.loads(row["params"])
    chose = frame[frame["val_value"].notna()].groupby(["task", "probe"])["metric"].agg(list)
    for (task, name), names in chose.items():
        assert names == ["r2" if task == "age" else "log_loss" if name in BY_LOSS else "accuracy"]
    assert len(chose) == sum(len(probes_of(task)) for task in CLASSES)  # none for the floor, which chooses nothing


def test_metrics_equal_those_of_scikit_learn(result, made):
    for task in ("left", "order"):
        table = result.predictions[task]
        np.testing.assert_array_equal(table["id"], made.ids("test"))
        np.testing.assert_array_equal(table["target"], made.targets("test", task))
        majority = np.bincount(made.targets("train", task)).argmax()
        assert (table["prior"] == majority).all()
        for name in ("prior", *PROBES):
            models = [table[column] for column in columns_by_probe(table)[name]]
            assert len(models) == (5 if name == "tree_rotated" else 1)
            truth = table["target"]
            recalls = [
                metrics.recall_score(truth, guess, average=None, labels=range(CLASSES[task])) for guess in models
            ]
            expected = {
                "accuracy": [metrics.accuracy_score(truth, guess) for guess in models],
                "balanced_accuracy": [metrics.balanced_accuracy_score(truth, guess) for guess in models],
                "macro_f1": [metrics.f1_score(truth, guess, average="macro") for guess in models],
                "mae": [metrics.mean_absolute_error(truth, guess) for guess in models],
                "within_one": [metrics.accuracy_score(abs(truth - guess) <= 1, guess == guess) for guess in models],
                "quadratic_kappa": [metrics.cohen_kappa_score(truth, guess, weights="quadratic") for guess in models],
            }
            expected |= {f"recall[{c}]": [one[c] for one in recalls] for c in range(CLASSES[task])}
            assert set(expected) >= set(metrics_of(made.tasks[task], False))
            for metric in metrics_of(made.tasks[task], False):
                value = headline(result.frame, task=task, probe=name, metric=metric)["value"]
                assert value == pytest.approx(np.mean(expected[metric])), (name, metric)
    table = result.predictions["age"]
    for name in ("prior", *FOR_VALUES):
        models = [table[column] for column in columns_by_probe(table)[name]]
        for metric, function in (
            ("r2", metrics.r2_score),
            ("mae", metrics.mean_absolute_error),
            ("rmse", metrics.root_mean_squared_error),
        ):
            row = headline(result.frame, task="age", probe=name, metric=metric)
            assert row["value"] == pytest.approx(np.mean([function(table["target"], guess) for guess in models]))


def test_the_encoders_own_head_is_a_row_of_its_own(made):
    rng = np.random.default_rng(0)
    logits = {"left": {"test": rng.normal(size=(100, 3))}, "age": {"test": rng.normal(size=(100, 1))}}
    tasks = [
        Task("left", "classification", 3),
        Task("order", "ordinal", 4),
        Task("age", "regression", 1, mean=2, std=3),
    ]
    targets = {name: {split: made.targets(split, name).copy() for split in made.splits} for name in made.tasks}
    targets["left"]["test"][:20] = -1
    made_too = type(made)({s: made.z(s) for s in made.splits}, targets, tasks, logits=logits)
    found = probe_with_predictions(made_too, config=ProbeConfig(probes=("ncm",), bootstrap=50))
    truth, own = targets["left"]["test"][20:], logits["left"]["test"][20:]
    probabilities = np.exp(own) / np.exp(own).sum(axis=1, keepdims=True)
    frame = found.frame[found.frame["probe"] == "head"]
    assert set(frame["task"]) == {"left", "age"}
    assert frame["status"].eq("ok").all()
    assert frame["n_train"].eq(0).all()
    assert frame["val_value"].isna().all()
    row = headline(frame, task="left", metric="accuracy")
    assert row["value"] == pytest.approx((own.argmax(axis=1) == truth).mean())
    row = headline(frame, task="left", metric="log_loss")
    assert row["value"] == pytest.approx(metrics.log_loss(truth, probabilities))
    values = logits["age"]["test"][:, 0] * 3 + 2
    row = headline(frame, task="age", metric="r2")
    assert row["value"] == pytest.approx(metrics.r2_score(targets["age"]["test"], values))
    np.testing.assert_allclose(found.predictions["age"]["head"], values)
    assert list(found.predictions["left"]) == ["id", "target", "prior", "head", "ncm"]
    assert list(found.predictions["order"]) == ["id", "target", "prior", "ncm"]


def test_same_bytes_whatever_the_number_of_threads(made, result, monkeypatch):
    for workers in (1, 3):
        monkeypatch.setattr("reprkit.analysis.probes.suite.num_workers", lambda workers=workers: workers)
        monkeypatch.setattr("reprkit.analysis.linalg.num_workers", lambda workers=workers: workers)
        again = probe_with_predictions(made, config=SMALL)
        assert csv(again.frame) == csv(result.frame)
        for task, table in again.predictions.items():
            assert csv(table) == csv(result.predictions[task])


def test_every_fit_runs_on_single_threaded_blas(made, monkeypatch):
    """Sums of a threaded product may depend on how many threads there are."""
    from threadpoolctl import threadpool_info

    seen = []

    def spy(workspace, data, protocol):
        seen.extend(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")
        return suite.fit_knn(workspace, data, protocol)

    monkeypatch.setitem(suite.FITS, "knn", spy)
    probe(made, config=ProbeConfig(probes=("knn",), bootstrap=10))
    assert set(seen) == {1}


def test_a_probe_asked_for_alone_gives_the_same_rows(made, result):
    frame = probe(made, tasks=["left"], config=ProbeConfig(probes=("trees", "knn", "svm"), bootstrap=100))
    names = ["prior", "knn", "svm_linear", "svm_rbf", "tree", "tree_pca", "tree_rotated"]
    assert list(dict.fromkeys(frame["probe"])) == names
    alone = probe(made, tasks=["left"], config=ProbeConfig(probes=("tree",), bootstrap=100))
    assert list(dict.fromkeys(alone["probe"])) == ["prior", "tree"]
    expected = result.frame[(result.frame["task"] == "left") & result.frame["probe"].isin(frame["probe"])]
    assert csv(frame) == csv(expected)


# The test split must have no way into a model.


def test_test_labels_choose_nothing(made, result):
    rng = np.random.default_rng(0)
    shuffled = {name: {"test": rng.permutation(made.targets("test", name))} for name in made.tasks}
    other = probe_with_predictions(copy_of(made, targets=shuffled), config=SMALL)
    untouched = ["task", "probe", "metric", "n_train", "params", "val_value", "status", "protocol_id"]
    pd.testing.assert_frame_equal(other.frame[untouched], result.frame[untouched])
    for task, table in other.predictions.items():
        pd.testing.assert_frame_equal(table.drop(columns="target"), result.predictions[task].drop(columns="target"))
    beaten = headline(other.frame, task="left", probe="linear", metric="accuracy")["value"]
    assert beaten < headline(result.frame, task="left", probe="linear", metric="accuracy")["value"] - 0.2


def test_test_embeddings_choose_nothing(made, result):
    changed = made.z("test").copy()
    changed[50:] = 100 * changed[50:] + 7
    other = probe_with_predictions(copy_of(made, z={"test": changed}), config=SMALL)
    untouched = ["task", "probe", "metric", "n_train", "params", "val_value", "status"]
    pd.testing.assert_frame_equal(other.frame[untouched], result.frame[untouched])
    for task, table in other.predictions.items():
        pd.testing.assert_frame_equal(table[:50], result.predictions[task][:50], rtol=1e-6)


def test_val_labels_choose_but_do_not_fit(made, result):
    """Reversed val labels may change what is chosen, never the majority class or the samples fitted to."""
    wrong = {"left": {"val": (made.targets("val", "left") + 1) % 3}}
    other = probe(copy_of(made, targets=wrong), tasks=["left"], config=SMALL)
    expected = result.frame[result.frame["task"] == "left"]
    assert headline(other, probe="prior", metric="accuracy")["value"] == headline(
        expected, probe="prior", metric="accuracy")["value"]  # fmt: skip
    assert headline(other, probe="linear", metric="accuracy")["n_train"] == 160
    assert (
        headline(other, probe="linear", metric="log_loss")["params"] == '{"C":1e-05}'
    )  # fitting hurts, so least of it


# Targets that are missing, unseen, or all the same.


def test_missing_targets_are_as_if_those_rows_were_not_there(made):
    rng = np.random.default_rng(2)
    targets, keep = {}, {}
    for split in made.splits:
        keep[split] = np.sort(rng.permutation(made.num_rows(split))[: made.num_rows(split) * 3 // 4])
    for name in ("left", "age"):
        gone = -1 if made.tasks[name].is_discrete else np.nan
        targets[name] = {}
        for split in made.splits:
            values = np.full(made.num_rows(split), gone)
            values[keep[split]] = made.targets(split, name)[keep[split]]
            targets[name][split] = values
    config = ProbeConfig(probes=("knn", "tree"), bootstrap=50)  # the scaler does see rows whose target is missing
    found = probe_with_predictions(copy_of(made, targets=targets), tasks=["left", "age", "order"], config=config)
    without = copy_of(
        made,
        z={split: made.z(split)[rows] for split, rows in keep.items()},
        targets={name: {s: made.targets(s, name)[rows] for s, rows in keep.items()} for name in made.tasks},
        ids={split: made.ids(split)[rows] for split, rows in keep.items()},
    )
    expected = probe_with_predictions(without, tasks=["left", "age"], config=config)
    for task in ("left", "age"):
        assert csv(found.frame[found.frame["task"] == task]) == csv(expected.frame[expected.frame["task"] == task])
        pd.testing.assert_frame_equal(found.predictions[task], expected.predictions[task])
    assert found.frame[found.frame["task"] == "order"]["n_train"].eq(160).all()  # other tasks keep all their rows
    everything = probe(copy_of(made, targets=targets), tasks=["left", "age"], config=SMALL)
    assert everything["value"].notna().all()


def test_a_class_that_train_does_not_hold_counts_as_an_error(made):
    train, test = made.targets("train", "left").copy(), made.targets("test", "left")
    train[train == 1] = -1
    result = probe_with_predictions(
        copy_of(made, targets={"left": {"train": train}}), tasks=["left"], config=ProbeConfig(bootstrap=50)
    )
    table = result.predictions["left"]
    unseen = (test == 1).mean()
    for name in ("prior", *PROBES):
        assert not (table[columns_by_probe(table)[name]] == 1).any(axis=None)
        assert headline(result.frame, probe=name, metric="accuracy")["value"] <= 1 - unseen
        assert headline(result.frame, probe=name, metric="recall[1]")["value"] == 0
    for name in ("prior", *BY_LOSS):
        loss = headline(result.frame, probe=name, metric="log_loss")["value"]
        assert unseen * 36 < loss < 36.05
    assert np.isfinite(result.frame["val_value"].dropna()).all()


def test_one_class_in_train_is_a_status_and_not_a_crash(made):
    train = {"left": {"train": np.full(160, 1)}, "age": {"train": np.full(160, 2.0)}}
    frame = probe(copy_of(made, targets=train), config=SMALL)
    for task, what in (("left", "class"), ("age", "value")):
        part = frame[(frame["task"] == task) & (frame["probe"] != "prior")]
        assert part["status"].eq(f"skipped: one {what} only in train").all()
        assert part[["value", "low", "high", "val_value"]].isna().all(axis=None)
        assert set(part["probe"]) == set(probes_of(task))
        assert (
            headline(frame, task=task, probe="prior", metric="accuracy" if task == "left" else "r2")["status"] == "ok"
        )
    assert frame.loc[frame["task"] == "order", "value"].notna().all()


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_task_without_targets_in_a_split_is_skipped(made, split):
    gone = {"left": {split: np.full(made.num_rows(split), -1)}}
    result = probe_with_predictions(copy_of(made, targets=gone), tasks=["left"], config=SMALL)
    part = result.frame[result.frame["probe"] != "prior"]
    assert part["status"].eq(f"skipped: no {split} sample has a target").all()
    assert part["value"].isna().all()
    floor = result.frame[result.frame["probe"] == "prior"]
    assert floor["value"].notna().all() == (split == "val")
    assert set(part["probe"]) == set(PROBES)
    assert len(result.predictions["left"]) == (0 if split == "test" else 100)


@pytest.mark.parametrize("constant", [0.0, 3.0])
def test_from_a_collapsed_representation_every_probe_reads_one_answer(made, constant):
    z = {split: np.full((made.num_rows(split), 16), constant) for split in made.splits}
    result = probe_with_predictions(copy_of(made, z=z), config=SMALL)
    assert result.frame["value"].notna().all()
    for task, table in result.predictions.items():
        assert (table.drop(columns=["id", "target"]).nunique() == 1).all(), task
    assert headline(result.frame, task="age", probe="linear", metric="r2")["value"] < 0.01


def test_a_handful_of_samples_in_one_dimension_is_enough_to_run(fake_embeddings):
    rng = np.random.default_rng(0)
    sizes = {"train": 4, "val": 2, "test": 2}
    z = {split: rng.normal(size=(n, 1)) for split, n in sizes.items()}
    targets = {
        "left": {split: np.arange(n) % 2 for split, n in sizes.items()},
        "age": {split: rng.normal(size=n) for split, n in sizes.items()},
    }
    tiny = fake_embeddings(z, targets, [Task("left", "classification", 2), Task("age", "regression", 1)])
    frame = probe(tiny, config=SMALL)
    assert set(frame["probe"]) == {"prior", *PROBES}
    assert frame["value"].notna().all()


# Files that lack a split.


def test_without_a_val_split_part_of_train_stands_in_for_it(made, result):
    foreign = copy_of(made, splits=("train", "test"))
    held_out = carve_by_id(made.ids("train"))
    assert 0 < held_out.sum() < 80
    explicit = copy_of(
        made,
        z={"train": made.z("train")[~held_out], "val": made.z("train")[held_out]},
        targets={
            name: {
                "train": made.targets("train", name)[~held_out],
                "val": made.targets("train", name)[held_out],
            }
            for name in made.tasks
        },
    )
    found, expected = probe(foreign, config=SMALL), probe(explicit, config=SMALL)
    same = [column for column in COLUMNS if column not in ("status", "protocol_id")]
    pd.testing.assert_frame_equal(found[same], expected[same])
    assert found.loc[found["probe"] != "prior", "status"].str.endswith("val is one train sample in 5").all()
    assert set(found["protocol_id"]) != set(result.frame["protocol_id"])


def test_carving_depends_on_ids_alone():
    ids = np.array([f"image-{i}.png" for i in range(2000)])
    held_out = carve_by_id(ids)
    assert held_out.mean() == pytest.approx(0.2, abs=0.03)
    order = np.random.default_rng(0).permutation(2000)
    np.testing.assert_array_equal(carve_by_id(ids[order]), held_out[order])


# Wrong input.


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"splits": ("train", "val")}, r"fake\.h5: has no test split"),
        ({"splits": ("val", "test")}, r"fake\.h5: has no train split"),
        ({"z": {"val": np.full((80, 16), np.nan)}}, r"fake\.h5: split val holds NaN"),
        ({"targets": {"left": {"test": np.full(100, 3)}}}, r"'left' has a target outside 0\.\.2 in test"),
        ({"targets": {"left": {"train": np.full(160, -2)}}}, r"'left' has a target outside 0\.\.2 in train"),
        ({"targets": {"age": {"train": np.full(160, np.inf)}}}, "'age' has an infinite target in train"),
    ],
)
def test_a_file_that_cannot_be_probed_says_why(made, changes, says):
    with pytest.raises(InputError, match=says):
        probe(copy_of(made, **changes), config=SMALL)


def test_unknown_names_say_which_there_are(made):
    with pytest.raises(
        InputError, match=r"probe.probes: \['forest'\] should be some of ncm, lda, knn, .*, mlp, svm, trees"
    ):
        probe(made, config=ProbeConfig(probes=("forest",)))
    with pytest.raises(InputError, match="has no task 'mood'; choose from left, order, age"):
        probe(made, tasks=["mood"])
    with pytest.raises(InputError, match="no task to evaluate"):
        probe(made, tasks=[])


def test_the_tasks_of_a_file_are_those_its_encoder_was_trained_for(toy):
    single = toy(sizes=(40, 20, 20), trained_tasks=["right"], label="single", seed=7)
    single.seed = 3
    config = ProbeConfig(probes=(), bootstrap=10)
    frame = probe(single, config=config)
    assert set(frame["task"]) == {"right"}
    assert set(frame["seed"]) == {3}
    assert set(probe(single, tasks=["left", "right", "left"], config=config)["task"]) == {"left", "right"}
    assert set(probe(single, config=config, label="mine")["encoder"]) == {"mine"}


def test_protocol_id_changes_with_any_setting():
    changed = [
        Protocol(version=1),
        Protocol(neighbors=(1,)),
        Protocol(linear_c=(1.0,)),
        Protocol(prunings=(0.1,)),
        Protocol(bootstrap=10),
        Protocol(max_svm=10),
        Protocol(carve=5),
        Protocol(max_fit=10),
    ]
    assert len({protocol.id for protocol in (Protocol(), *changed)}) == len(changed) + 1
    assert Protocol().id == Protocol().id
