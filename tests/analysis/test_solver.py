"""The solver against scikit-learn's optima, in memory and streamed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC, LinearSVR

from reprkit.analysis import solver
from reprkit.analysis.rows import Rows
from reprkit.analysis.solver import Eigen, cross_entropy, fit_linear, log_softmax, squared_hinge, squared_tube


@pytest.fixture(scope="module")
def problem():
    """Centred correlated rows of unlike scale, classes, values, and the rows that have either."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(400, 6)) @ rng.normal(size=(6, 6)) * [1, 10, 0.1, 1, 3, 1]
    z -= z.mean(axis=0)
    z = z.astype(np.float32)
    scale = 1 / z.std(axis=0, dtype=np.float64)
    scores = z * scale @ rng.normal(size=(6, 3))
    y = (scores + rng.gumbel(size=scores.shape)).argmax(axis=1)
    value = scores[:, 0] + rng.normal(size=400)
    known = rng.random(400) < 0.8
    return z, scale, np.where(known, y, -1), np.where(known, value, np.nan), known


def streamed(z, size=37):
    return Rows(len(z), z.shape[1], stream=lambda _: (z[i : i + size] for i in range(0, len(z), size)))


def eigen_of(problem):
    z, scale, *_ = problem
    return Eigen.of(np.cov((z * scale).T, ddof=0))


@pytest.mark.parametrize("rows", [Rows.of, streamed])
@pytest.mark.parametrize("c", [1e-3, 1.0, 100.0])
def test_logistic_regression_is_that_of_scikit_learn(problem, rows, c):
    z, scale, y, _, known = problem
    expected = LogisticRegression(C=c, tol=1e-10, max_iter=10000).fit((z * scale)[known], y[known])
    options = {"count": known.sum(), "scale": scale, "eigen": eigen_of(problem), "dtype": np.float64}
    found = fit_linear(rows(z), cross_entropy(y), 3, c, gradient=1e-9, **options)
    assert found.converged
    np.testing.assert_allclose(found.weights / scale, expected.coef_, atol=1e-5)
    np.testing.assert_allclose(found.bias - found.bias.mean(), expected.intercept_, atol=1e-5)
    log_p = log_softmax(found.scores(rows(z))).T
    np.testing.assert_allclose(log_p, expected.predict_log_proba(z * scale), atol=1e-4)
    rough = fit_linear(rows(z), cross_entropy(y), 3, c, count=known.sum(), scale=scale, eigen=eigen_of(problem))
    assert rough.converged  # in float32
    assert rough.objective == pytest.approx(found.objective, abs=1e-5)


@pytest.mark.parametrize("rows", [Rows.of, streamed])
@pytest.mark.parametrize("c", [1e-3, 1e-1, 1.0])
def test_linear_svm_is_that_of_liblinear(problem, rows, c):
    z, scale, y, value, known = problem
    x = (z * scale)[known]
    options = {"count": known.sum(), "scale": scale, "eigen": eigen_of(problem), "penalise_bias": True}
    expected = LinearSVC(C=c, tol=1e-9, dual=False, max_iter=20000).fit(x, y[known])
    found = fit_linear(rows(z), squared_hinge(y), 3, c, **options)
    assert found.converged
    np.testing.assert_allclose(found.weights / scale, expected.coef_, atol=1e-3)
    np.testing.assert_allclose(found.bias, expected.intercept_, atol=1e-3)
    tube = LinearSVR(C=c, epsilon=0.1, loss="squared_epsilon_insensitive", dual=False, tol=1e-9, max_iter=20000)
    tube.fit(x, value[known])
    found = fit_linear(rows(z), squared_tube(value, 0.1), 1, c, **options)
    np.testing.assert_allclose(found.weights[0] / scale, tube.coef_, atol=1e-3)
    np.testing.assert_allclose(found.bias, tube.intercept_, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_losses_have_the_gradients_they_claim(seed):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(3, 12)) * 2
    y = rng.integers(-1, 3, size=12)
    value = np.where(y < 0, np.nan, scores[1] + rng.normal(size=12))
    part = slice(2, 9)
    for loss, width in ((cross_entropy(y), 3), (squared_hinge(y), 3), (squared_tube(value, 0.1), 1)):
        point = scores[:width, part]
        gradient = point.copy()
        total = loss(gradient, part)
        numeric = np.empty_like(point)
        for place in np.ndindex(point.shape):
            step = np.zeros_like(point)
            step[place] = 1e-6
            numeric[place] = (loss(point + step, part) - loss(point - step, part)) / 2e-6
        np.testing.assert_allclose(gradient, numeric, atol=1e-7)
        assert not gradient[:, y[part] < 0].any()
        assert total >= 0


def test_losses_are_those_of_their_formulas():
    scores = np.array([[2.0, 0.0], [-1.0, 0.5]])
    y, part = np.array([0, 0]), slice(0, 2)
    assert cross_entropy(y)(scores.copy(), part) == pytest.approx(np.log1p(np.exp(-3)) + np.log1p(np.exp(0.5)))
    assert squared_hinge(y)(scores.copy(), part) == pytest.approx(0 + 0 + 1 + 1.5**2)
    assert squared_tube(np.array([1.0, 0.05]), 0.1)(scores[:1].copy(), part) == pytest.approx(0.9**2)


@pytest.mark.parametrize("budget", [2, 5, 12, 40])
def test_certificate_bounds_the_distance_to_the_optimum(problem, budget):
    """Where the bias is penalised too, however early the fit stops."""
    z, scale, y, _, known = problem
    options = {"count": known.sum(), "scale": scale, "penalise_bias": True, "dtype": np.float64}
    best = fit_linear(Rows.of(z), squared_hinge(y), 3, 0.1, gradient=1e-11, **options)
    early = fit_linear(Rows.of(z), squared_hinge(y), 3, 0.1, gradient=0, max_evaluations=budget, **options)
    assert -1e-12 <= early.objective - best.objective <= early.certificate
    assert early.evaluations <= budget + 25


def test_preconditioner_and_warm_start_save_passes_and_change_nothing(problem):
    z, scale, y, _, known = problem
    options = {"count": known.sum(), "scale": scale, "gradient": 1e-7, "dtype": np.float64}
    plain = fit_linear(Rows.of(z), cross_entropy(y), 3, 10.0, **options)
    quick = fit_linear(Rows.of(z), cross_entropy(y), 3, 10.0, eigen=eigen_of(problem), curvature=0.2, **options)
    near = fit_linear(Rows.of(z), cross_entropy(y), 3, 8.0, eigen=eigen_of(problem), curvature=0.2, **options)
    warm = fit_linear(
        Rows.of(z), cross_entropy(y), 3, 10.0, eigen=eigen_of(problem), curvature=0.2, start=near, **options
    )
    assert warm.evaluations < quick.evaluations < plain.evaluations
    for other in (quick, warm):
        np.testing.assert_allclose(other.weights, plain.weights, atol=1e-4)


def test_threads_do_not_change_a_bit(problem, monkeypatch):
    rng = np.random.default_rng(1)
    z = rng.normal(size=(9000, 64)).astype(np.float32)
    y = rng.integers(4, size=9000)
    assert z.size > 1 << 19  # else one thread is used anyway
    one, three = (fit_linear(Rows.of(z), cross_entropy(y), 4, 1e-2, count=9000, workers=w) for w in (1, 3))
    np.testing.assert_array_equal(one.weights, three.weights)
    np.testing.assert_array_equal(one.bias, three.bias)


def test_stops_where_it_is_told_to(problem):
    z, scale, y, _, known = problem
    options = {"count": known.sum(), "scale": scale}
    coarse = fit_linear(Rows.of(z), cross_entropy(y), 3, 1.0, gradient=1e-2, **options)
    fine = fit_linear(Rows.of(z), cross_entropy(y), 3, 1.0, **options)
    loose = fit_linear(Rows.of(z), cross_entropy(y), 3, 1.0, relative=1e-3, **options)
    assert coarse.evaluations < fine.evaluations
    assert loose.evaluations < fine.evaluations
    assert coarse.gradient < 1e-2
    assert fine.gradient < solver.GRADIENT
    unfinished = fit_linear(Rows.of(z), cross_entropy(y), 3, 1.0, max_evaluations=1, **options)
    assert not unfinished.converged


def test_collapsed_rows_leave_the_bias():
    y = np.array([0, 0, 0, 1])
    found = fit_linear(Rows.of(np.zeros((4, 3))), cross_entropy(y), 2, 1.0, count=4, eigen=Eigen.of(np.zeros((3, 3))))
    np.testing.assert_allclose(log_softmax(found.bias[:, None])[:, 0], np.log([0.75, 0.25]), atol=1e-4)
    assert not found.weights.any()
