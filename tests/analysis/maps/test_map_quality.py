"""What a map keeps, against brute force and scikit-learn."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn import manifold

from reprkit.analysis.maps import quality
from reprkit.analysis.maps.quality import (
    label_hit,
    map_quality,
    placed_hit,
    placed_recall,
    plane_neighbors,
    trustworthiness,
)
from reprkit.tasks import Task


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


@pytest.mark.parametrize("k", [1, 10, 40])
@pytest.mark.parametrize("block", [1, 1 << 22])
def test_trustworthiness_is_that_of_scikit_learn(blobs, monkeypatch, k, block):
    monkeypatch.setattr(quality, "RANK_BLOCK", block)
    z, _ = blobs(n=131, seed=4)
    z = z + 100  # far from the origin, where float32 products would cancel
    for points in (z[:, :2].astype(float), np.random.default_rng(0).normal(size=(131, 2))):
        expected = manifold.trustworthiness(z.astype(np.float64), points, n_neighbors=k)
        assert trustworthiness(z, plane_neighbors(points, k)) == pytest.approx(expected, abs=1e-12)


def test_trustworthiness_of_a_faithful_map_is_one_and_undefined_for_many_neighbours():
    points = np.random.default_rng(1).normal(size=(30, 2))
    assert trustworthiness(points, plane_neighbors(points, 14)) == 1
    assert np.isnan(trustworthiness(points, plane_neighbors(points, 15)))


def test_quality_has_the_trustworthiness_of_ten_neighbours(blob_map):
    z, _, made = blob_map
    expected = manifold.trustworthiness(z.astype(np.float64), made.points, n_neighbors=10)
    assert map_quality(z, made)["trustworthiness"] == pytest.approx(expected, abs=1e-12)


def test_hit_and_recall_of_new_samples_against_brute_force(blob_map):
    _, y, made = blob_map
    task, rng = Task("t", "classification", 5), np.random.default_rng(5)
    placed, targets = rng.normal(scale=10, size=(20, 2)), rng.integers(-1, 5, size=20)
    known = y.copy()
    known[::7] = -1
    old, new = np.flatnonzero(known >= 0), np.flatnonzero(targets >= 0)
    nearest = old[np.argsort(cdist(placed, made.points[old]), axis=1)[:, :10]]
    hit, chance = placed_hit(made.points, known, placed, targets, task)
    assert hit == pytest.approx((known[nearest[new]] == targets[new, None]).mean())
    assert chance == pytest.approx((known[old][:, None] == targets[new]).mean())
    neighbors = rng.permuted(np.tile(np.arange(len(y)), (20, 1)), axis=1)[:, :10]
    nearest = np.argsort(cdist(placed, made.points), axis=1)[:, :10]
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(neighbors, nearest, strict=True)])
    assert placed_recall(neighbors, made.points, placed) == pytest.approx(recall)
