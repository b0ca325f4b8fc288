"""Ranks and decay of the spectrum against published values, analytic truths and the SVD."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reprkit.analysis.moments import sufficient_statistics
from reprkit.analysis.shape.estimates import Undefined
from reprkit.analysis.shape.spectrum import alpha_req, rankme, singular_values, stable_rank


@pytest.fixture(scope="module")
def gaussian() -> np.ndarray:
    torch.manual_seed(0)
    return torch.randn(1000, 1024).double().numpy()


@pytest.fixture(scope="module")
def gaussian_moments(gaussian):
    return sufficient_statistics(np.array_split(gaussian, 7))


def test_published_values(gaussian: np.ndarray, gaussian_moments) -> None:
    assert rankme(np.linalg.svd(gaussian, compute_uv=False)) == pytest.approx(814.357, abs=5e-4)
    assert rankme(singular_values(gaussian_moments)) == pytest.approx(814.357, abs=5e-4)
    assert gaussian_moments.effective_rank == pytest.approx(813.390, abs=5e-4)
    law = alpha_req(gaussian_moments.eigen[0])
    assert law.alpha == pytest.approx(0.148937, abs=5e-7)
    assert (law.first, law.last) == (11, 100)
    assert law == alpha_req(gaussian_moments.eigen[0])  # no state is kept between calls


def test_singular_values_from_moments(gaussian: np.ndarray, gaussian_moments) -> None:
    expected = np.linalg.svd(gaussian, compute_uv=False)
    found = singular_values(gaussian_moments)
    assert found.shape == expected.shape == (1000,)
    np.testing.assert_allclose(found, expected, rtol=1e-7)


@pytest.mark.parametrize("rank", [1, 4, 20])
def test_rankme_of_orthonormal_columns_is_their_number(rank: int) -> None:
    frame, _ = np.linalg.qr(np.random.default_rng(rank).normal(size=(200, rank)))
    z = frame @ np.eye(rank, 30)
    assert rankme(singular_values(sufficient_statistics([z])), epsilon=0) == pytest.approx(rank, rel=1e-9)
    assert rankme(singular_values(sufficient_statistics([z]))) == pytest.approx(rank, rel=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    exponent=st.floats(0.05, 4),
    count=st.integers(3, 300),
    scale=st.floats(1e-6, 1e6),
)
def test_alpha_of_an_exact_power_law(exponent: float, count: int, scale: float) -> None:
    law = alpha_req(scale * np.arange(1, count + 1) ** -exponent)
    assert law.alpha == pytest.approx(exponent, rel=1e-8)
    assert law.r2 == pytest.approx(1)
    assert law.last == min(count, 100)
    assert law.first == (11 if count >= 21 else 1)


def test_alpha_is_weighted_least_squares() -> None:
    values = np.sort(np.random.default_rng(0).gamma(1.0, size=60))[::-1]
    ranks = np.arange(11, 61)
    slope, intercept = np.polyfit(np.log(ranks), np.log(values[10:]), 1, w=np.sqrt(1 / ranks))
    left = np.log(values[10:]) - slope * np.log(ranks) - intercept
    around = np.log(values[10:]) - np.average(np.log(values[10:]), weights=1 / ranks)
    law = alpha_req(values)
    assert law.alpha == pytest.approx(-slope)
    assert law.r2 == pytest.approx(1 - (left**2 / ranks).sum() / (around**2 / ranks).sum())


def test_alpha_of_a_flat_spectrum_has_no_r2() -> None:
    law = alpha_req(np.full(50, 0.3))
    assert law.alpha == pytest.approx(0, abs=1e-12)
    assert np.isnan(law.r2)


def test_stable_rank_is_the_ratio_of_norms() -> None:
    z = np.random.default_rng(0).normal(size=(100, 12)) * np.arange(1, 13) + 4
    centred = z - z.mean(axis=0)
    expected = np.linalg.norm(centred) ** 2 / np.linalg.norm(centred, 2) ** 2
    assert stable_rank(sufficient_statistics([z]).eigen[0]) == pytest.approx(expected)


def test_nothing_to_measure() -> None:
    constant = sufficient_statistics([np.zeros((5, 3))])
    with pytest.raises(Undefined, match="zero"):
        rankme(singular_values(constant))
    with pytest.raises(Undefined, match="constant"):
        stable_rank(constant.eigen[0])
    with pytest.raises(Undefined, match="fewer than 3"):
        alpha_req([1.0, 0.5, 0.0])
