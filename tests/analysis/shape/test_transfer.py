"""Transferability scores against scikit-learn, against each other, and on labels drawn at random."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import ledoit_wolf, ledoit_wolf_shrinkage
from sklearn.linear_model import BayesianRidge
from sklearn.metrics import mutual_info_score

from reprkit.analysis.moments import SufficientStatistics, sufficient_statistics
from reprkit.analysis.shape import transfer
from reprkit.analysis.shape.collapse import discriminants
from reprkit.analysis.shape.estimates import Undefined


def moments_of(z: np.ndarray, y: np.ndarray) -> SufficientStatistics:
    return sufficient_statistics(np.array_split(z, 3), {"t": (y, int(y.max()) + 1)})


def clusters(n: int, dim: int, classes: int, *, signal: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=n)
    spread = np.linspace(0.3, 2, dim)
    return signal * rng.normal(size=(classes, dim))[y] + spread * rng.normal(size=(n, dim)) + 3, y


def logme_of(z: np.ndarray, y: np.ndarray) -> float:
    moments = moments_of(z, y)
    return transfer.logme(moments, moments.class_sums["t"], moments.class_counts["t"])


def ridge_evidence(z: np.ndarray, responses: np.ndarray) -> float:
    """Mean log evidence per row of scikit-learn's Bayesian ridge on centred z."""
    scores = []
    for y in responses:
        model = BayesianRidge(
            alpha_1=0, alpha_2=0, lambda_1=0, lambda_2=0, fit_intercept=False, compute_score=True,
            tol=1e-12, max_iter=20_000,
        )  # fmt: skip
        scores.append(model.fit(z - z.mean(axis=0), y).scores_[-1] / len(z))
    return float(np.mean(scores))


@pytest.mark.parametrize(("n", "dim"), [(300, 10), (60, 59), (40, 100)])
def test_logme_is_the_evidence_of_bayesian_ridge(n: int, dim: int) -> None:
    z, y = clusters(n, dim, 4, signal=0.8)
    assert logme_of(z, y) == pytest.approx(ridge_evidence(z, np.eye(4)[y].T), abs=2e-8)


def test_logme_of_a_real_target() -> None:
    z, _ = clusters(200, 12, 3, signal=0.0)
    rng = np.random.default_rng(1)
    y = z @ rng.normal(size=12) + rng.normal(size=200)
    y = (y - y.mean()) / y.std()
    moments = sufficient_statistics([z])
    found = transfer.logme(moments, (y @ (z - z.mean(axis=0)))[None], [y @ y])
    assert found == pytest.approx(ridge_evidence(z, y[None]), abs=2e-8)


def test_logme_without_signal_is_the_evidence_of_weights_of_zero() -> None:
    z, y = clusters(400, 3, 3, signal=0.0, seed=1)
    rest = np.bincount(y) / len(y)  # mean square of a one-hot column
    floor = np.mean(-0.5 * (np.log(2 * np.pi * rest) + 1))
    assert floor - 1e-9 < logme_of(z, y) < floor + 0.005


def test_logme_prefers_classes_that_can_be_read_off() -> None:
    z, y = clusters(300, 10, 3, signal=1.0)
    shuffled = np.random.default_rng(0).permutation(y)
    assert logme_of(z, y) > logme_of(z, shuffled) + 0.1
    absent = np.array([0, 2, 4])[y]
    assert logme_of(z, absent) == pytest.approx(logme_of(z, y))


def test_logme_undefined() -> None:
    z, y = clusters(30, 5, 3, signal=1.0)
    with pytest.raises(Undefined, match="constant"):
        logme_of(np.ones_like(z), y)
    with pytest.raises(Undefined, match="does not vary"):
        transfer.logme(moments_of(z, y), np.zeros((2, 5)), [0, 0])
    exact = z[:, 0] - z[:, 0].mean()
    with pytest.raises(Undefined, match="exact linear"):
        transfer.logme(moments_of(z, y), (exact @ (z - z.mean(axis=0)))[None], [exact @ exact])


@pytest.mark.parametrize(("n", "dim"), [(500, 8), (60, 40), (40, 80)])
def test_shrinkage_is_that_of_ledoit_and_wolf(n: int, dim: int) -> None:
    z, y = clusters(n, dim, 3, signal=0.5)
    assert transfer.ledoit_wolf_shrinkage(moments_of(z, y)) == pytest.approx(ledoit_wolf_shrinkage(z), rel=1e-9)


def test_shrinkage_at_the_edges() -> None:
    isotropic = np.concatenate([np.eye(4), -np.eye(4)])
    assert transfer.ledoit_wolf_shrinkage(sufficient_statistics([isotropic])) == ledoit_wolf_shrinkage(isotropic) == 0
    with pytest.raises(Undefined, match="constant"):
        transfer.ledoit_wolf_shrinkage(sufficient_statistics([np.ones((5, 2))]))


@pytest.mark.parametrize(("n", "dim"), [(500, 8), (60, 80)])
def test_regularised_h_score_by_its_definition(n: int, dim: int) -> None:
    z, y = clusters(n, dim, 4, signal=0.7)
    covariance, share = ledoit_wolf(z)
    outer = np.stack([z[y == c].mean(axis=0) for c in range(4)])[y] - z.mean(axis=0)
    expected = (1 - share) * np.trace(np.linalg.solve(covariance, outer.T @ outer / n))
    assert transfer.regularised_h_score(moments_of(z, y), "t") == pytest.approx(expected)


def test_random_labels_inflate_the_h_score_but_not_the_regularised_one() -> None:
    plain, regularised = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        moments = moments_of(rng.normal(size=(100, 64)), np.arange(100) % 5)
        shares, rank = discriminants(moments, "t")
        plain.append(transfer.h_score(shares))
        regularised.append(transfer.regularised_h_score(moments, "t"))
    error = np.std(plain) / np.sqrt(30)
    assert np.mean(plain) == pytest.approx(4 * 64 / 99, abs=4 * error)  # (C - 1) rank / (N - 1)
    assert np.mean(regularised) < 0.2
    many = moments_of(np.random.default_rng(0).normal(size=(20_000, 8)), np.arange(20_000) % 5)
    assert transfer.regularised_h_score(many, "t") < 0.01


def test_h_score_with_fewer_rows_than_features_is_at_its_limit() -> None:
    shares, _ = discriminants(moments_of(np.random.default_rng(0).normal(size=(20, 50)), np.arange(20) % 4), "t")
    assert transfer.h_score(shares) == pytest.approx(3)


LABELS = st.integers(2, 6).flatmap(
    lambda n: st.lists(st.tuples(st.integers(0, n), st.integers(0, 3)), min_size=1, max_size=60)
)


@settings(max_examples=60, deadline=None)
@given(LABELS)
def test_nce_is_information_minus_entropy_and_leep_of_one_hot_outputs(labels: list[tuple[int, int]]) -> None:
    source, y = np.array(labels).T
    counts = np.bincount(y)[np.bincount(y) > 0] / len(y)
    entropy = -(counts * np.log(counts)).sum()
    found = transfer.nce(source, y)
    assert found.mean() == pytest.approx(mutual_info_score(source, y) - entropy, abs=1e-12)
    np.testing.assert_allclose(transfer.leep(np.eye(source.max() + 1)[source], y), found, atol=1e-12)
    assert (found <= 0).all()


def test_leep_by_its_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    theta = transfer.probabilities(rng.normal(size=(50, 4)))
    np.testing.assert_allclose(theta.sum(axis=1), 1)
    y = rng.integers(3, size=50)
    expected = []
    for i in range(50):
        total = 0.0
        for s in range(4):
            total += theta[y == y[i], s].sum() / theta[:, s].sum() * theta[i, s]
        expected.append(np.log(total))
    np.testing.assert_allclose(transfer.leep(theta, y), expected)
    monkeypatch.setattr(transfer, "BLOCK_ROWS", 7)
    np.testing.assert_allclose(transfer.leep(theta, y), expected)
    np.testing.assert_allclose(transfer.probabilities(np.log(theta)), theta)


def test_leep_survives_outputs_that_underflow() -> None:
    theta = transfer.probabilities(np.array([[800.0, 0, -900], [0, 900, 0], [700, 0, 0]], np.float32))
    assert theta.dtype == np.float32
    assert np.isfinite(transfer.leep(theta, np.array([0, 1, 1]))).all()
