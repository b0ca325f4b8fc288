"""t-SNE: same bytes for any thread count, the same samples for every encoder, and maps that mean something."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from reprkit.analysis.tsne import (
    align,
    embed_in_plane,
    initial_points,
    label_hit,
    map_quality,
    select_ids,
    tsne_with_quality,
)
from reprkit.errors import InputError
from reprkit.recipe import TsneConfig
from reprkit.tasks import Task

QUICK = TsneConfig(samples=80, perplexity=15, iterations=120)


def blobs(n=150, classes=5, dim=12, seed=0, spread=0.6):
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=n)
    return (4 * rng.normal(size=(classes, dim))[y] + spread * rng.normal(size=(n, dim))).astype(np.float32), y


@pytest.fixture(scope="module")
def blob_map():
    z, y = blobs()
    return z, y, embed_in_plane(z, perplexity=20, iterations=150)


def test_same_bits_for_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(sys.modules["reprkit.analysis.tsne"], "EARLY_ITERATIONS", 15)
    z, _ = blobs()
    one, two = (embed_in_plane(z, perplexity=20, iterations=15, n_jobs=n) for n in (1, 2))
    assert one.points.tobytes() == two.points.tobytes()
    assert one.kl == two.kl


def test_power_of_two_scale_changes_no_bit(blob_map):
    z, _, made = blob_map
    assert made.points.tobytes() == embed_in_plane(z * 8, perplexity=20, iterations=150).points.tobytes()


def test_map_keeps_clusters_and_beats_a_random_plane(blob_map):
    z, y, made = blob_map
    distance = cdist(made.points, made.points)
    np.fill_diagonal(distance, np.inf)
    assert (y[distance.argmin(axis=1)] == y).mean() > 0.97
    quality = map_quality(z, made)
    assert quality["knn_recall"] > 0.4
    assert quality["spearman"] > 0.3


def test_quality_agrees_with_brute_force(blob_map):
    z, y, made = blob_map
    near, far = cdist(z.astype(float), z.astype(float)), cdist(made.points, made.points)
    np.fill_diagonal(near, np.inf)
    np.fill_diagonal(far, np.inf)
    first, second = np.argsort(near, axis=1)[:, :10], np.argsort(far, axis=1)[:, :10]
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(first, second, strict=True)])
    assert map_quality(z, made)["knn_recall"] == pytest.approx(recall)
    hit, chance = label_hit(made.points, y, Task("t", "classification", 5))
    assert hit == pytest.approx((y[second] == y[:, None]).mean())
    same = y[:, None] == y[None]
    assert chance == pytest.approx((same.sum() - len(y)) / (len(y) * (len(y) - 1)))


def test_label_hit_leaves_missing_labels_out():
    points = np.array([[0.0, 0], [0, 1], [0, 0.5], [9, 9], [9, 8]])
    hit, _ = label_hit(points, np.array([0, 0, -1, 1, 1]), Task("t", "classification", 2))
    everyone_is_a_neighbour = (1 + 1 + 1 + 1) / (4 * 3)
    assert hit == pytest.approx(everyone_is_a_neighbour)


@pytest.mark.parametrize("shape", [(40, 6), (10, 30), (20, 1)])
def test_start_is_the_principal_plane(shape):
    z = np.random.default_rng(1).normal(size=shape)
    points = initial_points(z)
    assert points.std(axis=0)[0] == pytest.approx(1e-4)
    centred = z - z.mean(axis=0)
    left, values, right = np.linalg.svd(centred, full_matrices=False)
    for axis in range(min(2, shape[1])):
        expected = left[:, axis] * values[axis] * np.sign(right[axis, np.abs(right[axis]).argmax()])
        assert points[:, axis] / points[:, 0].std() == pytest.approx(
            expected / (left[:, 0] * values[0]).std(), abs=1e-8
        )
    assert points[:, 1].std() > 0  # even where z has one dimension only: points on a line would stay there


@pytest.mark.parametrize(
    ("z", "words"),
    [
        (np.full((30, 4), 3.0), "constant"),
        (np.full((30, 4), 3.0) + 1e-7 * np.random.default_rng(0).normal(size=(30, 4)), "constant"),
        (np.ones((3, 4)), "3 samples"),
        (np.ones((0, 4)), "0 samples"),
    ],
)
def test_nothing_to_map_is_said_not_raised(z, words):
    made = embed_in_plane(z)
    assert words in made.status
    assert not made.points.any()
    assert np.isnan(made.kl)
    assert np.isnan(list(map_quality(z, made).values())).all()


def test_few_distinct_points_are_said():
    made = embed_in_plane(np.repeat(np.eye(4), 10, axis=0), iterations=20)
    assert "4 distinct embeddings among 40" in made.status
    assert np.isfinite(made.points).all()


def test_perplexity_is_lowered_for_few_samples():
    z, _ = blobs(n=16)
    made = embed_in_plane(z, perplexity=30, iterations=20)
    assert made.perplexity == 5
    assert np.isfinite(made.points).all()


def test_nan_is_refused():
    z, _ = blobs(n=20)
    z[3, 1] = np.nan
    with pytest.raises(InputError, match="NaN"):
        embed_in_plane(z)


def test_without_opentsne_scikit_learn_draws(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "openTSNE", None)
    z, y = blobs(n=60)
    made = embed_in_plane(z, perplexity=10, iterations=60)
    assert "openTSNE is not installed" in caplog.text
    assert made.status.startswith("ok (by scikit-learn")
    assert np.isfinite(made.points).all()
    assert np.isfinite(made.kl)


def test_frames_have_the_promised_columns_and_one_sample_set(toy):
    classes = {"left": 3, "right": 2, "age": 4}
    kinds = {"age": "regression"}
    whole = toy(classes=classes, kinds=kinds, label="vanilla", sizes=(10, 5, 200))
    alone = toy(classes=classes, kinds=kinds, label="single", trained_tasks=["right"], sizes=(10, 5, 200))
    frame, quality = tsne_with_quality(whole, config=QUICK)
    assert list(frame) == ["encoder", "seed", "task", "id", "x", "y", "left", "right", "age"]
    assert len(frame) == 80
    assert set(frame["encoder"]) == {"vanilla"}
    assert set(frame["task"]) == {""}
    rows = {name: row for row, name in enumerate(whole.ids("test"))}
    order = [rows[name] for name in frame["id"]]
    assert (frame["left"].to_numpy() == whole.targets("test", "left")[order]).all()
    assert {"n", "perplexity", "kl", "knn_recall", "spearman", "status", "hit_left", "hit_right"} <= set(quality)
    assert "hit_age" not in quality
    assert quality["status"].tolist() == ["ok"]
    other, _ = tsne_with_quality(alone, config=QUICK)
    assert other["id"].tolist() == frame["id"].tolist()
    assert set(other["task"]) == {"right"}


def test_given_ids_are_mapped_in_their_order_and_must_exist(toy):
    embeddings = toy(sizes=(10, 5, 60))
    ids = [f"test-{i:05d}" for i in (7, 3, 50, 21, 4, 9, 33)]
    frame, _ = tsne_with_quality(embeddings, config=QUICK, ids=ids)
    assert frame["id"].tolist() == ids
    with pytest.raises(InputError, match="test-99999"):
        tsne_with_quality(embeddings, ids=["test-99999"])
    with pytest.raises(InputError, match="no split 'dev'"):
        tsne_with_quality(embeddings, split="dev")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-1, 4), min_size=1, max_size=60), st.integers(0, 70), st.integers(0, 2**31))
def test_selection_is_stratified_nested_and_free_of_row_order(labels, n, seed):
    labels = np.array(labels)
    ids = np.array([f"id{i}" for i in range(len(labels))])
    chosen = select_ids(ids, labels, n)
    assert len(chosen) == len(set(chosen)) == min(n, len(ids))
    shuffle = np.random.default_rng(seed).permutation(len(ids))
    assert select_ids(ids[shuffle], labels[shuffle], n) == chosen
    assert set(chosen) <= set(select_ids(ids, labels, n + 1))
    index = [int(name[2:]) for name in chosen]
    for label in np.unique(labels):
        share = (labels == label).sum() * min(n, len(ids)) / len(ids)
        assert abs((labels[index] == label).sum() - share) <= 2.5  # the merge is even to within a few samples


def test_selection_takes_names_and_real_values():
    ids = [f"id{i}" for i in range(100)]
    assert len(select_ids(ids, np.array(["a", "b"] * 50), 10)) == 10
    values = np.linspace(0, 1, 100)
    values[::10] = np.nan
    chosen = [int(name[2:]) for name in select_ids(ids, values, 40)]
    assert 2 <= np.isnan(values[chosen]).sum() <= 6
    assert 0.4 < np.nanmedian(values[chosen]) < 0.6


def test_alignment_undoes_rotation_and_reflection():
    reference = np.random.default_rng(2).normal(size=(30, 2))
    turn = np.array([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]]) @ np.diag([1, -1])
    moved = (reference - 5) @ turn
    assert align(moved, reference) == pytest.approx(reference - reference.mean(axis=0))


def test_import_is_light():
    heavy = ("openTSNE", "torch", "matplotlib", "sklearn")
    code = f"import sys, reprkit.analysis.tsne; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
