"""Intrinsic dimension, silhouette, alignment and uniformity: known sets, and brute force over pairs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import ortho_group

from reprkit.analysis.shape import distances
from reprkit.analysis.shape.distances import alignment, silhouette, two_nn, uniformity
from reprkit.analysis.shape.estimates import Undefined


def manifold(dim: int, n: int = 3000, ambient: int = 20) -> np.ndarray:
    """Uniform rows in a rotated d-dimensional cube."""
    flat = np.random.default_rng(dim).uniform(size=(n, dim)) @ np.eye(dim, ambient)
    return flat @ ortho_group.rvs(ambient, random_state=0)


@pytest.mark.parametrize(("dim", "tolerance"), [(1, 0.05), (2, 0.1), (5, 0.4)])
def test_dimension_of_a_manifold(dim: int, tolerance: float) -> None:
    found = two_nn(manifold(dim))
    assert found.value == pytest.approx(dim, abs=tolerance)
    assert (found.rows, found.duplicates) == (3000, 0)


def test_dimension_of_a_circle_is_one() -> None:
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, size=2000)
    assert two_nn(np.stack([np.cos(angle), np.sin(angle)], axis=1)).value == pytest.approx(1, abs=0.06)


def test_dimension_by_brute_force() -> None:
    z = np.random.default_rng(0).normal(size=(300, 4))
    near = np.sort(cdist(z, z), axis=1)
    ratios = np.sort(near[:, 2] / near[:, 1])[:270]
    x, y = np.log(ratios), -np.log(1 - np.arange(270) / 300)
    assert two_nn(z).value == pytest.approx((x * y).sum() / (x * x).sum())


@pytest.mark.parametrize("offset", [100.0, 1e4])
def test_an_offset_does_not_change_the_dimension(offset: float) -> None:
    z = manifold(5, n=1500)
    assert two_nn(z + offset).value == pytest.approx(two_nn(z).value, rel=1e-6)


def test_duplicates_are_counted_and_left_out() -> None:
    z = manifold(3, n=500)
    found = two_nn(np.concatenate([z, z[:100], z[:50]]))
    assert (found.rows, found.duplicates) == (500, 150)
    assert found.value == pytest.approx(two_nn(z).value)


def test_dimension_undefined() -> None:
    with pytest.raises(Undefined, match="9 different rows"):
        two_nn(np.repeat(manifold(2, n=9), 4, axis=0))
    with pytest.raises(Undefined, match="equally far"):
        two_nn(np.eye(12))


def test_silhouette_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    y = np.array([0] * 30 + [2] * 20 + [3] * 9 + [7])
    z = rng.normal(size=(8, 4))[y] + rng.normal(size=(60, 4))
    far = cdist(z, z)
    expected = np.zeros(60)
    for i in range(59):
        own = (y == y[i]) & (np.arange(60) != i)
        a = far[i, own].mean()
        b = min(far[i, y == c].mean() for c in {0, 2, 3, 7} - {y[i]})
        expected[i] = (b - a) / max(a, b)
    np.testing.assert_allclose(silhouette(z, y), expected, atol=1e-9)
    np.testing.assert_allclose(silhouette(z + 1e6, y), expected, atol=1e-7)


def test_silhouette_of_collapsed_classes_is_one() -> None:
    y = np.repeat(np.arange(4), 5)
    np.testing.assert_allclose(silhouette(np.eye(4)[y] + 3, y), 1, atol=1e-6)


def test_silhouette_undefined() -> None:
    z = np.random.default_rng(0).normal(size=(6, 2))
    for y, message in (([1] * 6, "one class"), (range(6), "two rows")):
        with pytest.raises(Undefined, match=message):
            silhouette(z, np.array(y))
    with pytest.raises(Undefined, match="constant"):
        silhouette(np.full((6, 2), 0.1), np.array([0, 0, 0, 1, 1, 1]))


def test_alignment_and_uniformity_by_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    y = np.array([0] * 30 + [1] * 20 + [4])
    z = rng.normal(size=(51, 5)) + 1
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    square = cdist(unit, unit, "sqeuclidean")
    other = ~np.eye(51, dtype=bool)
    expected = [square[i, (y == y[i]) & other[i]].mean() for i in range(50)]
    found = alignment(z, y)
    np.testing.assert_allclose(found[:50], expected)
    assert np.isnan(found[50])
    for block in (512, 7):
        monkeypatch.setattr(distances, "BLOCK", block)
        assert uniformity(z) == pytest.approx(np.log(np.exp(-2 * square[other]).mean()))


def test_the_sphere_at_its_limits() -> None:
    one_way = np.full((10, 3), 2.0) * np.arange(1, 11)[:, None]
    assert uniformity(one_way) == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(alignment(one_way, np.zeros(10, int)), 0, atol=1e-12)
    assert uniformity(np.array([[1.0, 0], [-3, 0]])) == pytest.approx(-8)
    np.testing.assert_allclose(alignment(np.array([[1.0, 0], [-3, 0]]), np.zeros(2, int)), 4)
    # E exp(-2 |x - x'|^2) over the circle is exp(-4) I_0(4)
    angle = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    assert uniformity(circle) == pytest.approx(-4 + np.log(np.i0(4)), abs=0.005)


def test_the_sphere_undefined() -> None:
    with pytest.raises(Undefined, match="one row"):
        uniformity(np.ones((1, 2)))
    with pytest.raises(Undefined, match="two rows"):
        alignment(np.eye(3), np.arange(3))
