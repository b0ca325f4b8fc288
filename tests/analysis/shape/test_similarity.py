"""CKA against the kernel form, in which every N x N matrix is written out, and neighbours against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ortho_group

from reprkit.analysis.rows import Rows
from reprkit.analysis.shape.estimates import Undefined
from reprkit.analysis.shape.similarity import above_chance, linear_cka, mutual_knn


def cka(x: np.ndarray, y: np.ndarray):
    return linear_cka(Rows.of(x), Rows.of(y))


def streamed(z: np.ndarray, rows: int) -> Rows:
    z = z.astype(np.float32)
    return Rows(len(z), z.shape[1], stream=lambda _: (z[i : i + rows] for i in range(0, len(z), rows)))


def hsic_unbiased(k: np.ndarray, m: np.ndarray) -> float:
    """HSIC_1 of Song et al. (2012), from kernel matrices."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    ones = np.ones(n)
    mixed = (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2)) - 2 / (n - 2) * ones @ k @ m @ ones
    return (np.trace(k @ m) + mixed) / (n * (n - 3))


@pytest.mark.parametrize(("n", "d", "e"), [(4, 3, 2), (50, 7, 12), (30, 64, 40)])
def test_feature_form_equals_kernel_form(n: int, d: int, e: int) -> None:
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, d)).astype(np.float32) + np.float32(2)
    y = (x[:, :1] + rng.normal(size=(n, e))).astype(np.float32)
    kernels = [z.astype(np.float64) @ z.T.astype(np.float64) for z in (x, y)]
    found = cka(x, y)

    h = [hsic_unbiased(a, b) for a, b in ((kernels[0],) * 2, kernels, (kernels[1],) * 2)]
    if min(h[0], h[2]) > 0:
        assert found.debiased == pytest.approx(h[1] / np.sqrt(h[0] * h[2]), rel=1e-6)
    centring = np.eye(n) - 1 / n
    k, m = (centring @ kernel @ centring for kernel in kernels)
    assert found.biased == pytest.approx(np.trace(k @ m) / np.linalg.norm(k) / np.linalg.norm(m), rel=1e-6)


def test_a_rotated_copy_is_the_same() -> None:
    x = np.random.default_rng(0).normal(size=(60, 20)) * np.arange(1, 21)
    found = cka(x, 5 * x @ ortho_group.rvs(20, random_state=1) - 3)
    assert found.debiased == pytest.approx(1, abs=1e-5)
    assert found.biased == pytest.approx(1, abs=1e-5)


def test_independent_representations() -> None:
    found = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        found.append(cka(rng.normal(size=(64, 512)), rng.normal(size=(64, 512))))
    debiased = np.array([each.debiased for each in found])
    assert abs(debiased.mean()) < 3 * debiased.std(ddof=1) / np.sqrt(len(debiased))
    assert debiased.std() < 0.05
    assert found[0].biased == pytest.approx(0.886, abs=0.01)


@pytest.mark.parametrize(("first", "second"), [(10, 10), (7, 30), (100, 3)])
def test_blocks_may_be_cut_differently(first: int, second: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(90, 8)), rng.normal(size=(90, 5))
    assert linear_cka(streamed(x, first), streamed(y, second)) == pytest.approx(cka(x, y), rel=1e-9)


def test_cka_undefined() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 4))
    with pytest.raises(Undefined, match="4 are needed"):
        cka(x[:3], x[:3])
    for constant in (np.zeros((20, 2)), np.full((20, 2), 0.1)):
        with pytest.raises(Undefined, match="constant"):
            cka(x, constant)
    with pytest.raises(ValueError, match="different samples"):
        cka(x, x[:10])
    with pytest.raises(Undefined, match="not positive"):  # a simplex: all rows equally alike
        cka(np.eye(20), x)


def test_mutual_neighbours_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 6)) + 4
    y = x[:, :3] + 0.5 * rng.normal(size=(80, 3))
    expected = np.zeros(80)
    sets = []
    for z in (x, y):
        centred = z - z.mean(axis=0)
        unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
        cosine = unit @ unit.T
        np.fill_diagonal(cosine, -2)
        sets.append([set(np.argsort(-row)[:5]) for row in cosine])
    expected = [len(a & b) / 5 for a, b in zip(*sets, strict=True)]
    np.testing.assert_allclose(mutual_knn(x, y, 5), expected)
    assert (mutual_knn(x, 3 * x + 8, 5) == 1).all()


def test_mutual_neighbours_of_independent_representations_are_at_chance() -> None:
    rng = np.random.default_rng(0)
    shared = mutual_knn(rng.normal(size=(1000, 8)), rng.normal(size=(1000, 8)))
    assert shared.mean() == pytest.approx(10 / 999, abs=0.003)
    assert above_chance(float(shared.mean()), 10 / 999) == pytest.approx(0, abs=0.003)
    assert above_chance(1.0, 0.3) == 1


def test_mutual_neighbours_undefined() -> None:
    x = np.random.default_rng(0).normal(size=(10, 3))
    with pytest.raises(Undefined, match="more than k = 10"):
        mutual_knn(x, x)
    with pytest.raises(Undefined, match="constant"):
        mutual_knn(x, np.full((10, 2), 0.1), 3)
