from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity, rbf_kernel
from sklearn.preprocessing import StandardScaler

from reprkit.analysis.rows import BLOCK_ROWS
from reprkit.analysis.workspace import Workspace, carve_by_id
from reprkit.errors import InputError
from reprkit.tasks import Task

SIZES = (2 * BLOCK_ROWS + 100, 150, BLOCK_ROWS + 7)


@pytest.fixture(scope="module")
def embeddings(toy):
    made = toy(dim=5, sizes=SIZES, classes={"left": 3, "age": 4}, kinds={"age": "regression"})
    for rows in made._z.values():
        rows += 3
    return made


@pytest.fixture(scope="module", params=["memory", "disk", "carved", "carved disk"])
def case(request, embeddings):
    """A workspace, and what is in it: split -> z, and split -> numbers of its rows in the split it was taken from."""
    source, places = embeddings, {}
    places = {split: np.arange(embeddings.num_rows(split)) for split in embeddings.splits}
    if "carved" in request.param:
        splits = ("train", "test")
        targets = {name: {s: embeddings.targets(s, name) for s in splits} for name in embeddings.tasks}
        z = {split: embeddings.z(split) for split in splits}
        source = type(embeddings)(z, targets, list(embeddings.tasks.values()))
        held = carve_by_id(embeddings.ids("train"))
        places = {"train": np.flatnonzero(~held), "val": np.flatnonzero(held), "test": places["test"]}
    home = {split: "train" if "carved" in request.param and split != "test" else split for split in places}
    workspace = Workspace(source, memory=0) if "disk" in request.param else Workspace(source)
    assert workspace.in_memory == ("disk" not in request.param)
    assert workspace.carved == ("carved" in request.param)
    return workspace, {split: embeddings.z(home[split])[rows] for split, rows in places.items()}, places, home


def test_rows_ids_and_targets_of_every_split(case, embeddings):
    workspace, z, places, home = case
    for split, rows in z.items():
        assert workspace.num_rows(split) == len(rows)
        np.testing.assert_array_equal(np.concatenate(list(workspace.blocks(split))), rows)
        assert max(map(len, workspace.blocks(split, 100))) <= 100
        np.testing.assert_array_equal(workspace.ids(split), embeddings.ids(home[split])[places[split]])
        for task in embeddings.tasks:
            expected = embeddings.targets(home[split], task)[places[split]]
            np.testing.assert_array_equal(workspace.targets(split, task), expected)
        some = np.arange(3, len(rows), 7)
        for indices in (some, np.arange(len(rows)), some[:0]):
            np.testing.assert_array_equal(workspace.rows(split, indices), rows[indices])
            parts = list(workspace.some_blocks(split, indices, 64))
            np.testing.assert_array_equal(np.concatenate([rows[:0], *parts]), rows[indices])
            assert all(0 < len(part) <= 64 for part in parts)


def test_all_of_a_streamed_split_is_not_for_the_asking(case):
    workspace, z, *_ = case
    if workspace.in_memory:
        np.testing.assert_array_equal(workspace.z("val"), z["val"])
    else:
        with pytest.raises(InputError, match=r"fake\.h5: split val is too large for memory"):
            workspace.z("val")


def test_standardised_rows_are_those_of_scikit_learn(case):
    workspace, z, *_ = case
    scaler = StandardScaler().fit(z["train"].astype(np.float64))
    np.testing.assert_allclose(workspace.mean, scaler.mean_, rtol=1e-6)
    np.testing.assert_allclose(workspace.scale, 1 / scaler.scale_, rtol=1e-6)
    for split, rows in z.items():
        indices = np.arange(1, len(rows), 3)
        expected = scaler.transform(rows[indices].astype(np.float64))
        np.testing.assert_allclose(workspace.standardised(split, indices), expected, atol=1e-5)
        centred = workspace.centred(split)
        assert centred.count == len(rows)
        found = np.concatenate([block for _, block in centred.blocks()])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, rows - z["train"].mean(axis=0, dtype=np.float64), atol=1e-5)


def test_statistics_and_the_eigenbasis_are_of_train(case):
    workspace, z, *_ = case
    statistics, eigen = workspace.statistics, workspace.correlation_eigen
    assert statistics.count == len(z["train"])
    np.testing.assert_allclose(statistics.scatter, len(z["train"]) * np.cov(z["train"].T, ddof=0), rtol=1e-5, atol=1e-3)
    assert set(statistics.class_sums) == {"left"}
    np.testing.assert_array_equal(statistics.class_counts["left"], np.bincount(workspace.targets("train", "left")))
    correlation = eigen.vectors * eigen.values @ eigen.vectors.T
    np.testing.assert_allclose(correlation, np.corrcoef(z["train"].T), atol=1e-5)
    assert workspace.gamma == pytest.approx(1 / 5)


def test_neighbours_are_the_nearest_train_rows(case):
    workspace, z, *_ = case
    similar = cosine_similarity(z["val"].astype(np.float64), z["train"].astype(np.float64))
    indices, cosines = workspace.neighbors("val", 4)
    np.testing.assert_allclose(cosines, -np.sort(-similar, axis=1)[:, :4], atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(similar, indices, axis=1), cosines, atol=1e-6)
    assert workspace.neighbors("val", 4)[0] is indices
    rows, bank = np.arange(0, len(z["val"]), 3), np.arange(5, len(z["train"]), 2)
    indices, cosines = workspace.neighbors("val", 4, rows=rows, bank=bank)
    within = similar[rows][:, bank]
    np.testing.assert_allclose(cosines, -np.sort(-within, axis=1)[:, :4], atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(within, indices, axis=1), cosines, atol=1e-6)


def test_streamed_neighbours_are_those_in_memory_in_several_passes(embeddings):
    held, streamed = Workspace(embeddings), Workspace(embeddings, memory=0)
    assert streamed.num_rows("test") > BLOCK_ROWS  # as many queries as are asked at a time
    for found, expected in zip(streamed.neighbors("test", 5), held.neighbors("test", 5), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_kernel_is_that_of_scikit_learn(toy):
    made = toy(dim=4, sizes=(60, 20, 20))
    for memory in (0, 1 << 20):
        workspace = Workspace(made, memory=memory)
        x = StandardScaler().fit_transform(made.z("train").astype(np.float64))
        np.testing.assert_allclose(workspace.kernels["train"], rbf_kernel(x, gamma=0.25), atol=1e-5)
        assert workspace.kernels is workspace.kernels


def test_kernels_of_val_and_test_are_held_if_they_are_small(toy):
    made = toy(dim=4, sizes=(60, 30, 31))
    workspace = Workspace(made)
    scaler = StandardScaler().fit(made.z("train").astype(np.float64))
    x, val = (scaler.transform(made.z(split).astype(np.float64)) for split in ("train", "val"))
    np.testing.assert_allclose(workspace.kernels["val"], rbf_kernel(val, x, gamma=0.25), atol=1e-5)
    assert set(workspace.kernels) == {"train", "val"}


def test_a_constant_feature_is_centred_and_not_blown_up(fake_embeddings):
    rng = np.random.default_rng(0)
    z = {split: rng.normal(size=(999, 3)).astype(np.float32) for split in ("train", "val", "test")}
    for rows in z.values():
        rows[:, 1] = 0.1
    targets = {"t": {split: np.zeros(999, int) for split in z}}
    workspace = Workspace(fake_embeddings(z, targets, [Task("t", "classification", 2)]))
    assert workspace.scale[1] == 1
    assert np.abs(workspace.standardised("test", np.arange(999))[:, 1]).max() < 1e-6
    same = {split: np.full((20, 3), 7.0, np.float32) for split in z}
    targets = {"t": {split: np.zeros(20, int) for split in z}}
    collapsed = Workspace(fake_embeddings(same, targets, [Task("t", "classification", 2)]))
    assert collapsed.gamma == 1.0
    assert not collapsed.standardised("train", np.arange(20)).any()


def test_what_is_shared_is_made_once_and_holds_up_nothing_else(toy):
    workspace, made, other = Workspace(toy(sizes=(40, 10, 10))), [], threading.Event()

    def slow():
        assert other.wait(5)  # until another key was made meanwhile
        made.append(1)
        return object()

    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(workspace.keep("key", slow))) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    assert workspace.keep("other", lambda: 7) == 7
    other.set()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(found) == 4
    assert len(set(map(id, found))) == 1


def test_a_workspace_of_a_workspace_is_itself(embeddings):
    workspace = Workspace(embeddings)
    assert Workspace.of(workspace) is workspace
    assert Workspace.of(embeddings, memory=0).memory == 0
    assert (workspace.label, workspace.seed, workspace.dim) == ("fake", 0, 5)
    assert workspace.trained_tasks == ("left", "age")


def changed(made, **changes):
    z = {split: changes.get("z", {}).get(split, made.z(split)) for split in changes.get("splits", made.splits)}
    targets = {name: {split: made.targets(split, name).copy() for split in z} for name in made.tasks}
    for name, value in changes.get("first", {}).items():
        targets[name]["train"][0] = value
    return type(made)(z, targets, list(made.tasks.values()))


@pytest.mark.parametrize("memory", [0, 1 << 20])
def test_what_is_wrong_with_a_file(toy, memory):
    made = toy(sizes=(40, 10, 10), classes={"left": 3, "age": 4}, kinds={"age": "regression"})
    for splits, says in ((("train",), "no test split to score on"), (("val", "test"), "no train split to fit on")):
        with pytest.raises(InputError, match=rf"fake\.h5: has {says}"):
            Workspace(changed(made, splits=splits), memory=memory)
    broken = Workspace(changed(made, z={"val": np.full((10, 16), np.inf)}), memory=memory)
    with pytest.raises(InputError, match=r"fake\.h5: split val holds NaN or infinite embeddings"):
        list(broken.blocks("val"))
    for task, value, says in (
        ("left", 3, r"outside 0\.\.2"), ("left", -2, r"outside 0\.\.2"), ("age", np.inf, "infinite target"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=rf"fake\.h5: task '{task}' has an? .*{says}.* in train"):
            Workspace(changed(made, first={task: value}), memory=memory).targets("train", task)


def test_carving_depends_on_ids_alone():
    ids = np.array([f"image-{i}.png" for i in range(2000)])
    held_out = carve_by_id(ids)
    assert held_out.mean() == pytest.approx(0.2, abs=0.03)
    order = np.random.default_rng(0).permutation(2000)
    np.testing.assert_array_equal(carve_by_id(ids[order]), held_out[order])
