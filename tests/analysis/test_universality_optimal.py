"""The optimal predictors against scikit-learn, finite differences and problems with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from sklearn.linear_model import LogisticRegression

from reprkit.analysis.moments import sufficient_statistics
from reprkit.analysis.optimal import Basis, LinearFit, choose_linear, cross_entropies, fit_linear
from reprkit.analysis.perceptron import _Nets, choose_mlp


def problem(n: int, dim: int, classes: int, seed: int = 0, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, dim)) * np.geomspace(3, 0.05, dim) + 1
    weights = np.random.default_rng(99).normal(size=(dim, classes))
    return z.astype(np.float32), ((z - 1) @ weights + noise * rng.gumbel(size=(n, classes))).argmax(axis=1)


def objective(weights: np.ndarray, bias: np.ndarray, x: np.ndarray, y: np.ndarray, c: float) -> float:
    return float(cross_entropies(weights @ x.T + bias[:, None], y).mean() + (weights**2).sum() / (2 * c * len(y)))


@pytest.mark.parametrize("classes", [3, 5])
@pytest.mark.parametrize("c", [1e-3, 1e-1, 10.0])
def test_agrees_with_scikit_learn(classes: int, c: float) -> None:
    z, y = problem(500, 8, classes)
    basis = Basis.of(sufficient_statistics([z]))
    x = basis(z)
    found = fit_linear(x, y, classes, c, variances=basis.variances)
    raw = (z - basis.mean) / sufficient_statistics([z]).rms
    model = LogisticRegression(C=c, tol=1e-9, max_iter=20_000).fit(raw, y)
    ours = cross_entropies(found.logits(x), y)
    theirs = cross_entropies(model.decision_function(raw).T, y)
    assert ours.mean() == pytest.approx(theirs.mean(), abs=1e-5)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    assert found.objective <= objective(model.coef_, model.intercept_, raw, y, c) + 1e-8


def test_two_classes_agree_with_scikit_learn_at_twice_c() -> None:
    # scikit-learn fits one weight vector w there; ours are +w/2 and -w/2, whose squares sum to half.
    z, y = problem(400, 6, 2)
    x = Basis.of(sufficient_statistics([z]))(z)
    found = fit_linear(x, y, 2, 0.1)
    model = LogisticRegression(C=0.2, tol=1e-10, max_iter=20_000).fit(x, y)
    np.testing.assert_allclose(found.weights[1] - found.weights[0], model.coef_[0], atol=1e-3)
    assert cross_entropies(found.logits(x), y).mean() == pytest.approx(
        float(np.logaddexp(0, -(2 * y - 1) * model.decision_function(x)).mean()), abs=1e-5
    )


@pytest.mark.parametrize("budget", [3, 6, 12, 500])
def test_certificate_bounds_the_distance_to_the_optimum(budget: int) -> None:
    z, y = problem(300, 10, 4)
    x = Basis.of(sufficient_statistics([z]))(z)
    best = fit_linear(x, y, 4, 0.5, tolerance=1e-14)
    early = fit_linear(x, y, 4, 0.5, max_evaluations=budget)
    assert early.objective - best.objective <= early.certificate + 1e-12
    assert early.objective == pytest.approx(objective(early.weights, early.bias, x, y, 0.5), rel=1e-12)
    gradient = approx_fprime(early.bias, lambda b: objective(early.weights, b, x, y, 0.5), 1e-7)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)
    if budget == 500:
        assert early.certificate < 1e-8


def test_certificate_is_the_gradient_by_finite_differences() -> None:
    z, y = problem(80, 5, 3)
    x = Basis.of(sufficient_statistics([z]))(z)
    fit = fit_linear(x, y, 3, 1.0, max_evaluations=4)
    gradient = approx_fprime(
        fit.weights.ravel(), lambda w: objective(w.reshape(fit.weights.shape), fit.bias, x, y, 1.0), 1e-6
    )
    assert fit.certificate == pytest.approx((gradient**2).sum() * 1.0 * 80 / 2, rel=1e-3)


def test_warm_and_cold_starts_meet() -> None:
    z, y = problem(300, 10, 4)
    x = Basis.of(sufficient_statistics([z]))(z)
    other = fit_linear(x, y, 4, 1e-3)
    warm, cold = fit_linear(x, y, 4, 1.0, start=other), fit_linear(x, y, 4, 1.0)
    assert warm.objective == pytest.approx(cold.objective, abs=1e-8)


def test_threads_and_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    z, y = problem(6000, 100, 3)
    x = Basis.of(sufficient_statistics([z]))(z)
    assert x.size > 1 << 19, "large enough for worker threads"
    threaded = fit_linear(x, y, 3, 0.1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert fit_linear(x, y, 3, 0.1).objective == pytest.approx(threaded.objective, rel=1e-9)
    assert threaded.objective == pytest.approx(objective(threaded.weights, threaded.bias, x, y, 0.1), rel=1e-12)


def test_separable_classes_stay_finite_and_validation_prefers_little_regularisation() -> None:
    y = np.repeat(np.arange(3), 40)
    x = 4 * np.eye(3)[y] + 0.1 * np.random.default_rng(0).normal(size=(120, 3))
    x -= x.mean(axis=0)
    chosen = choose_linear(x[::2], y[::2], x[1::2], y[1::2], 3)
    assert chosen.val_loss < 1e-3
    assert chosen.fit.c >= 100
    assert np.isfinite(chosen.fit.weights).all()
    assert chosen.fit.certificate < 1e-6


def test_noise_is_regularised_to_the_prior() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 30)), rng.choice(3, size=400, p=[0.6, 0.3, 0.1])
    chosen = choose_linear(x[:200], y[:200], x[200:], y[200:], 3)
    shares = np.bincount(y[:200]) / 200
    assert chosen.val_loss == pytest.approx(-np.log(shares)[y[200:]].mean(), abs=0.01)
    assert chosen.fit.c < 1e-2


def test_chosen_c_has_the_lowest_validation_loss_of_a_full_grid() -> None:
    z, y = problem(260, 20, 4, noise=2.0)
    x = Basis.of(sufficient_statistics([z[:160]]))(z)
    chosen = choose_linear(x[:160], y[:160], x[160:], y[160:], 4)
    grid = [fit_linear(x[:160], y[:160], 4, 10.0**e).logits(x[160:]) for e in np.arange(-6, 4.01, 0.5)]
    assert chosen.val_loss <= min(cross_entropies(logits, y[160:]).mean() for logits in grid) + 1e-4
    assert chosen.val_loss == pytest.approx(min(loss for _, loss in chosen.path), abs=1e-4)


def test_basis_keeps_distances_and_drops_empty_directions() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(200, 4)) @ rng.normal(size=(4, 4)) + 5
    exact = np.concatenate([z, z @ rng.normal(size=(4, 2))], axis=1)
    statistics = sufficient_statistics([exact])
    basis = Basis.of(statistics)
    x = basis(exact)
    assert x.shape == (200, 4)
    np.testing.assert_allclose(
        x @ x.T, (exact - exact.mean(axis=0)) @ (exact - exact.mean(axis=0)).T / statistics.rms**2, atol=1e-6
    )
    np.testing.assert_allclose(x.var(axis=0), basis.variances, rtol=1e-8)


def test_a_constant_leaves_only_the_bias() -> None:
    y = np.array([0, 0, 0, 1])
    fit = fit_linear(np.empty((4, 0)), y, 2, 1.0)
    assert isinstance(fit, LinearFit)
    assert fit.objective == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))


def test_mlp_solves_what_no_linear_predictor_can() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, size=(1200, 2))
    y = ((x[:, 0] > 0) ^ (x[:, 1] > 0)).astype(np.int64)
    found = choose_mlp(x[:800], y[:800], x[800:], y[800:], 2, seed=0)
    again = choose_mlp(x[:800], y[:800], x[800:], y[800:], 2, seed=0)
    assert found.val_loss < 0.15 < 0.6 < choose_linear(x[:800], y[:800], x[800:], y[800:], 2).val_loss
    assert found.val_loss == min(found.restarts)
    assert found.val_loss == pytest.approx(cross_entropies(found.logits(x[800:]), y[800:]).mean(), rel=1e-5)
    assert found.restarts == again.restarts


def test_mlp_step_descends_along_the_gradient() -> None:
    # Adam's first step is minus the learning rate times the sign of the gradient, so its signs are the gradient's.
    rng = np.random.RandomState(0)
    x, y = rng.standard_normal((40, 3)).astype(np.float32), rng.randint(3, size=40)
    nets = _Nets(3, 3, rng)
    before = [value.copy() for value in nets.values]
    penalty = nets.penalty[2, 0, 0]

    def loss(values: list[np.ndarray]) -> float:
        nets.values = values
        logits = nets.forward(x)[1][2].astype(np.float64)
        squares = (values[0][2].astype(np.float64) ** 2).sum() + (values[2][2].astype(np.float64) ** 2).sum()
        return float(cross_entropies(logits, y).mean() + penalty / 2 * squares)

    slopes = []
    for index, where in ((0, (2, 5, 1)), (1, (2, 7, 0)), (2, (2, 1, 9)), (3, (2, 2, 0))):
        up, down = [v.astype(np.float64) for v in before], [v.astype(np.float64) for v in before]
        up[index][where] += 1e-5
        down[index][where] -= 1e-5
        slopes.append((index, where, (loss(up) - loss(down)) / 2e-5))
    nets.values = [value.copy() for value in before]
    nets.step(x, y)
    for index, where, slope in slopes:
        assert nets.means[index][where] == pytest.approx(0.1 * slope, rel=1e-3, abs=1e-6)
        moved = nets.values[index][where] - before[index][where]
        assert np.sign(moved) == -np.sign(slope) or abs(slope) < 1e-6
