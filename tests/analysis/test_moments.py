"""Geometry from streamed statistics against direct computation in NumPy and SciPy, and its invariances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from reprkit.analysis.moments import PIECE, entropy, mean_and_variance, sufficient_statistics


def blocks_of(z: np.ndarray, rows: int) -> list[np.ndarray]:
    return [z[i : i + rows] for i in range(0, len(z), rows)]


def stats_of(z: np.ndarray, **options):
    return sufficient_statistics(blocks_of(np.asarray(z, dtype=np.float32), 64), **options)


@pytest.fixture(scope="module")
def z() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(300, 8)) @ rng.normal(size=(8, 20)) + 3 + 0.1 * rng.normal(size=(300, 20))).astype(
        np.float32
    )


def test_agrees_with_direct_formulas(z: np.ndarray) -> None:
    y = np.random.default_rng(1).integers(-1, 3, size=len(z))
    found = sufficient_statistics(blocks_of(z, 37), {"t": (y, 4)})
    exact = z.astype(np.float64)
    centred = exact - exact.mean(axis=0)
    singular = np.linalg.svd(centred, compute_uv=False)
    shares = singular / singular.sum()
    cosines = (exact / np.linalg.norm(exact, axis=1, keepdims=True)) @ (
        exact / np.linalg.norm(exact, axis=1, keepdims=True)
    ).T
    variances = np.linalg.eigvalsh(np.cov(exact.T))

    assert found.count == 300
    assert found.dim == 20
    np.testing.assert_allclose(found.mean, exact.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.scatter, centred.T @ centred, rtol=1e-9, atol=1e-9)
    assert found.rms == pytest.approx(np.sqrt(np.mean(centred**2)), rel=1e-12)
    assert found.mean_norm == pytest.approx(np.linalg.norm(exact, axis=1).mean(), rel=1e-12)
    assert found.anisotropy == pytest.approx(cosines[~np.eye(300, dtype=bool)].mean(), rel=1e-10)
    assert found.effective_rank == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-9)
    assert found.participation_ratio == pytest.approx(variances.sum() ** 2 / (variances**2).sum(), rel=1e-9)
    np.testing.assert_array_equal(found.class_counts["t"], [(y == c).sum() for c in range(4)])
    for c in range(3):
        np.testing.assert_allclose(found.class_sums["t"][c], centred[y == c].sum(axis=0), atol=1e-9)
        assert found.class_squares["t"][c] == pytest.approx((centred[y == c] ** 2).sum(), rel=1e-10)
    np.testing.assert_array_equal(found.class_sums["t"][3], 0)


def test_between_share_is_the_variance_explained_by_classes(z: np.ndarray) -> None:
    y = np.random.default_rng(2).integers(3, size=len(z))
    exact = z.astype(np.float64) + y[:, None]
    found = sufficient_statistics(blocks_of(exact, 50), {"t": (y, 3)})
    means = np.stack([exact[y == c].mean(axis=0) for c in range(3)])[y]
    expected = ((means - exact.mean(axis=0)) ** 2).sum() / ((exact - exact.mean(axis=0)) ** 2).sum()
    assert found.between_share("t") == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rows", [1, 7, 300, 1000])
@pytest.mark.parametrize("workers", [1, 2])
def test_streaming_equals_one_shot(z: np.ndarray, rows: int, workers: int) -> None:
    y = np.random.default_rng(1).integers(4, size=len(z))
    whole = sufficient_statistics([z], {"t": (y, 4)}, workers=1)
    found = sufficient_statistics(blocks_of(z, rows), {"t": (y, 4)}, workers=workers)
    for name in ("mean", "scatter", "unit_sum"):
        np.testing.assert_allclose(getattr(found, name), getattr(whole, name), rtol=1e-11, atol=1e-9)
    np.testing.assert_allclose(found.class_sums["t"], whole.class_sums["t"], rtol=1e-11, atol=1e-9)
    assert found.effective_rank == pytest.approx(whole.effective_rank, rel=1e-10)


@pytest.mark.parametrize("rank", [1, 3, 10])
def test_effective_rank_of_an_orthonormal_frame_is_its_rank(rank: int) -> None:
    # Rows +v_1, -v_1, +v_2, ... have mean 0 and equal singular values.
    frame = ortho_group.rvs(16, random_state=0)[:rank]
    found = sufficient_statistics([np.concatenate([frame, -frame])])
    assert found.effective_rank == pytest.approx(rank, rel=1e-9)
    assert found.participation_ratio == pytest.approx(rank, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-10, 10), seed=st.integers(0, 99))
def test_ranks_ignore_scale_shift_and_rotation(scale: float, shift: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(60, 6)) * np.arange(1, 7)
    moved = scale * (z @ ortho_group.rvs(6, random_state=seed)) + shift
    before, after = sufficient_statistics([z]), sufficient_statistics([moved])
    assert after.effective_rank == pytest.approx(before.effective_rank, rel=1e-6)
    assert after.participation_ratio == pytest.approx(before.participation_ratio, rel=1e-6)
    assert after.rms == pytest.approx(scale * before.rms, rel=1e-6)


def test_a_large_common_offset_costs_no_precision(z: np.ndarray) -> None:
    moved = z.astype(np.float64) + 1e6
    before, after = sufficient_statistics([z.astype(np.float64)]), sufficient_statistics(blocks_of(moved, 64))
    assert after.effective_rank == pytest.approx(before.effective_rank, rel=1e-5)
    np.testing.assert_allclose(after.scatter, before.scatter, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 3.7, -1e6])
def test_a_constant_has_no_size_and_no_rank(value: float) -> None:
    found = stats_of(np.full((50, 4), value))
    assert found.rms == 0
    assert found.effective_rank == 0
    assert found.participation_ratio == 0
    assert not found.eigen[0].any()


def test_rounding_noise_about_a_constant_is_not_a_representation() -> None:
    z = np.full((50, 4), 1000, dtype=np.float32)
    z[::3, 1:] = np.nextafter(np.float32(1000), np.float32(2000))
    found = sufficient_statistics([z])
    assert found.rms == 0
    assert found.effective_rank == 0
    z[0] += 1
    assert sufficient_statistics([z]).rms > 0


def test_eigenvectors_diagonalise_the_covariance(z: np.ndarray) -> None:
    found = stats_of(z)
    values, vectors = found.eigen
    assert (np.diff(values) <= 0).all()
    np.testing.assert_allclose(vectors.T @ (found.scatter / found.count) @ vectors, np.diag(values), atol=1e-9)


def test_no_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="no rows"):
        sufficient_statistics([np.empty((0, 3), dtype=np.float32)])


@given(st.integers(1, 50))
def test_entropy_of_a_uniform_law_is_the_log_of_its_size(size: int) -> None:
    assert entropy(np.append(np.full(size, 1 / size), 0.0)) == pytest.approx(np.log(size), abs=1e-12)


def test_a_block_is_cut_into_pieces_that_keep_their_targets() -> None:
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(2 * PIECE + 100, 3)), rng.integers(0, 3, 2 * PIECE + 100)
    whole = sufficient_statistics([z], {"t": (y, 3)})
    sums = [(z[y == c] - z.mean(axis=0)).sum(axis=0) for c in range(3)]
    np.testing.assert_allclose(whole.class_sums["t"], sums, atol=1e-9)
    np.testing.assert_allclose(whole.scatter, np.cov(z.T, bias=True) * len(z), rtol=1e-9, atol=1e-9)


def test_mean_and_variance_in_pieces(z: np.ndarray) -> None:
    many = np.concatenate([z] * (PIECE // 200))  # more rows than a piece
    for blocks in ([many], blocks_of(many, 37)):
        mean, variance = mean_and_variance(blocks)
        np.testing.assert_allclose(mean, many.astype(np.float64).mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(variance, many.astype(np.float64).var(axis=0), rtol=1e-10)
    far = (z.astype(np.float64) + 1e6).astype(np.float32)
    np.testing.assert_allclose(mean_and_variance([far])[1], far.astype(np.float64).var(axis=0), rtol=1e-9)
    assert (mean_and_variance([np.full((5, 3), 0.1, np.float32)])[1] == 0).all()
    with pytest.raises(ValueError, match="no rows"):
        mean_and_variance([])
