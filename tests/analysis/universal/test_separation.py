"""Separation of classes: by hand, without chance distance, and where it does not exist."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ortho_group

from reprkit.analysis.moments import sufficient_statistics
from reprkit.analysis.universal.separation import class_separations


def separations(z: np.ndarray, y: np.ndarray, classes: int) -> np.ndarray:
    return class_separations(sufficient_statistics([z], {"t": (y, classes)}), "t")


@pytest.fixture(scope="module")
def clusters() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.choice(4, p=[0.4, 0.3, 0.2, 0.1], size=600)
    return rng.normal(size=(4, 5))[y] * 2 + rng.normal(size=(600, 5)) * (1 + y[:, None]), y


def test_by_hand(clusters: tuple[np.ndarray, np.ndarray]) -> None:
    z, y = clusters
    means = np.stack([z[y == c].mean(axis=0) for c in range(4)])
    spread = np.array([z[y == c].var(axis=0, ddof=1).sum() for c in range(4)])
    n = np.bincount(y)
    for c, found in enumerate(separations(z, y, 4)):
        apart = [((means[c] - means[k]) ** 2).sum() - spread[c] / n[c] - spread[k] / n[k] for k in range(4) if k != c]
        assert found == pytest.approx(max(min(apart), 0) / spread[c], rel=1e-9)


def test_ignores_scale_shift_rotation_and_unlabelled_rows(clusters: tuple[np.ndarray, np.ndarray]) -> None:
    z, y = clusters
    turned = 7 * z @ ortho_group.rvs(5, random_state=0) + 3
    np.testing.assert_allclose(separations(turned, y, 4), separations(z, y, 4), rtol=1e-9)
    more = np.concatenate([z, 50 + z[:40]]), np.concatenate([y, np.full(40, -1)])
    np.testing.assert_allclose(separations(*more, 4), separations(z, y, 4), rtol=1e-9)


def test_coinciding_classes_have_none_on_average() -> None:
    rng = np.random.default_rng(1)
    found = [separations(rng.normal(size=(60, 40)), np.arange(60) % 2, 2) for _ in range(200)]
    assert np.mean(found) < 0.02, "sample means alone would be 2 / 30 apart"


def test_what_does_not_exist_is_nan(clusters: tuple[np.ndarray, np.ndarray]) -> None:
    z, y = clusters
    rare = np.where(y == 3, np.where(np.arange(600) == np.flatnonzero(y == 3)[0], 3, 0), y)
    found = separations(z, rare, 6)
    assert np.isnan(found[[3, 4, 5]]).all()
    assert np.isfinite(found[:3]).all()
    assert np.isnan(separations(np.ones((9, 2)), np.arange(9) % 3, 3)).all()
    assert np.isnan(separations(z, y * 0, 2)).all()
    points = np.repeat(np.eye(3), 4, axis=0)
    assert np.isinf(separations(points, np.repeat(np.arange(3), 4), 3)).all()
