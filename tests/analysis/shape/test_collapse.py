"""Neural collapse and discriminant ratios: a simplex by construction, and the definitions written out in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import eigh

from reprkit.analysis.moments import SufficientStatistics, sufficient_statistics
from reprkit.analysis.shape import collapse
from reprkit.analysis.shape.collapse import Classes, discriminants, fisher_ratio
from reprkit.analysis.shape.estimates import Undefined
from reprkit.analysis.shape.transfer import h_score


def moments_of(z: np.ndarray, y: np.ndarray, classes: int | None = None) -> SufficientStatistics:
    return sufficient_statistics(np.array_split(z, 3), {"t": (y, classes or int(y.max()) + 1)})


def classes_of(z: np.ndarray, y: np.ndarray, classes: int | None = None) -> Classes:
    return Classes.of(moments_of(z, y, classes), "t")


def simplex(classes: int, dim: int, seed: int = 0) -> np.ndarray:
    """Vertices [C, D] of a rotated simplex, off the origin."""
    rng = np.random.default_rng(seed)
    frame, _ = np.linalg.qr(rng.normal(size=(dim, classes)))
    return 3.0 * (np.eye(classes) - 1 / classes) @ frame.T + rng.normal(size=dim)


@pytest.fixture(scope="module")
def uneven() -> tuple[np.ndarray, np.ndarray]:
    """Overlapping Gaussian classes of unequal size."""
    rng = np.random.default_rng(3)
    y = rng.choice(4, size=500, p=[0.5, 0.3, 0.15, 0.05])
    mixing = rng.normal(size=(9, 9))
    return (rng.normal(size=(4, 9))[y] + rng.normal(size=(500, 9))) @ mixing + 7, y


@pytest.mark.parametrize("classes", [2, 3, 8])
def test_a_simplex_is_full_collapse(classes: int) -> None:
    y = np.repeat(np.arange(classes), np.arange(classes) + 2)  # unequal sizes
    z = simplex(classes, 12)[y]
    found = classes_of(z, y)
    assert collapse.nc1(found) == pytest.approx(0, abs=1e-12)
    assert collapse.nc2_norms(found) == pytest.approx(0, abs=1e-12)
    assert collapse.nc2_angles(found) == pytest.approx(0, abs=1e-12)
    assert collapse.cdnv(found) == pytest.approx(0, abs=1e-12)
    shares, rank = discriminants(moments_of(z, y), "t")
    assert rank == classes - 1
    assert h_score(shares) == pytest.approx(classes - 1)
    with pytest.raises(Undefined, match="does not vary within"):
        fisher_ratio(shares)


def test_against_the_definitions(uneven: tuple[np.ndarray, np.ndarray]) -> None:
    z, y = uneven
    means = np.stack([z[y == c].mean(axis=0) for c in range(4)])
    within = sum((z[y == c] - means[c]).T @ (z[y == c] - means[c]) for c in range(4)) / len(z)
    centred = means - means.mean(axis=0)
    between = centred.T @ centred / 4
    lengths = np.linalg.norm(centred, axis=1)
    pairs = [(a, b) for a in range(4) for b in range(4) if a != b]
    spread = [((z[y == c] - means[c]) ** 2).sum(axis=1).mean() for c in range(4)]

    found = classes_of(z, y)
    assert collapse.nc1(found) == pytest.approx(np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / 4)
    assert collapse.nc2_norms(found) == pytest.approx(lengths.std() / lengths.mean())
    cosines = [abs(centred[a] @ centred[b] / lengths[a] / lengths[b] + 1 / 3) for a, b in pairs]
    assert collapse.nc2_angles(found) == pytest.approx(np.mean(cosines))
    ratios = [(spread[a] + spread[b]) / (2 * ((means[a] - means[b]) ** 2).sum()) for a, b in pairs]
    assert collapse.cdnv(found) == pytest.approx(np.mean(ratios))
    np.testing.assert_allclose(found.variances, spread)


def test_discriminants_are_those_of_the_generalised_eigenproblem(uneven: tuple[np.ndarray, np.ndarray]) -> None:
    z, y = uneven
    means = np.stack([z[y == c].mean(axis=0) for c in range(4)])
    inner = z - means[y]
    outer = means[y] - z.mean(axis=0)
    ratios = eigh(outer.T @ outer, inner.T @ inner, eigvals_only=True)[::-1][:3]
    shares, rank = discriminants(moments_of(z, y), "t")
    assert rank == 9
    np.testing.assert_allclose(shares, ratios / (1 + ratios))
    assert h_score(shares) == pytest.approx((ratios / (1 + ratios)).sum())
    assert fisher_ratio(shares) == pytest.approx(np.trace(np.linalg.solve(inner.T @ inner, outer.T @ outer)))
    assert fisher_ratio(shares) == pytest.approx(ratios.sum())


def test_blocks_of_many_classes_agree(monkeypatch: pytest.MonkeyPatch, uneven: tuple[np.ndarray, np.ndarray]) -> None:
    found = classes_of(*uneven)
    whole = collapse.cdnv(found), collapse.nc2_angles(found)
    monkeypatch.setattr(collapse, "CLASS_ROWS", 3)
    assert (collapse.cdnv(found), collapse.nc2_angles(found)) == pytest.approx(whole)


def test_absent_classes_do_not_count(uneven: tuple[np.ndarray, np.ndarray]) -> None:
    z, y = uneven
    gaps = np.array([0, 2, 5, 6])[y]
    for metric in (collapse.nc1, collapse.nc2_norms, collapse.nc2_angles, collapse.cdnv):
        assert metric(classes_of(z, gaps, 9)) == pytest.approx(metric(classes_of(z, y)))
    np.testing.assert_allclose(discriminants(moments_of(z, gaps, 9), "t")[0], discriminants(moments_of(z, y), "t")[0])


def test_without_classes_to_compare(uneven: tuple[np.ndarray, np.ndarray]) -> None:
    z, y = uneven
    with pytest.raises(Undefined, match="one class"):
        classes_of(z, np.zeros_like(y), 3)
    with pytest.raises(Undefined, match="no class has two rows"):
        classes_of(z[:5], np.arange(5))
    with pytest.raises(Undefined, match="constant"):
        classes_of(np.full_like(z, 0.1), y)
    with pytest.raises(ValueError, match="labelled rows"):
        classes_of(z, np.where(y == 1, -1, y), 4)


def test_equal_class_means() -> None:
    z = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    same = classes_of(z, np.array([0, 0, 1, 1]))
    for metric in (collapse.nc1, collapse.nc2_norms):
        with pytest.raises(Undefined, match="same mean"):
            metric(same)
    with pytest.raises(Undefined, match="same mean"):
        collapse.cdnv(same)
    with pytest.raises(Undefined, match="no direction"):
        collapse.nc2_angles(same)
    on_the_mean = classes_of(np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]]), np.array([0, 1, 2, 2]))
    with pytest.raises(Undefined, match="no direction"):
        collapse.nc2_angles(on_the_mean)
    assert collapse.nc2_norms(on_the_mean) == pytest.approx(np.sqrt(0.5))
