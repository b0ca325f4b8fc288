"""The optimal predictors against scikit-learn, finite differences and problems with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from sklearn.linear_model import LogisticRegression, Ridge

from reprkit.analysis.moments import sufficient_statistics
from reprkit.analysis.rows import Rows
from reprkit.analysis.universal.optimal import Linear, Problem, choose_c, polish, principal
from reprkit.analysis.universal.perceptron import _Nets, choose_mlp
from reprkit.analysis.universal.ridge import choose_ridge, fit_ridge, regression_moments
from reprkit.analysis.universal.targets import cross_entropies, losses, mean_loss
from reprkit.analysis.workspace import Workspace
from reprkit.tasks import Task


def problem(n: int, dim: int, classes: int, seed: int = 0, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, dim)) * np.geomspace(3, 0.05, dim) + 1
    weights = np.random.default_rng(99).normal(size=(dim, classes))
    return z.astype(np.float32), ((z - 1) @ weights + noise * rng.gumbel(size=(n, classes))).argmax(axis=1)


def logistic(z: np.ndarray, y: np.ndarray, classes: int, *, streamed: bool = False) -> Problem:
    """The problem on centred rows, as a study poses it."""
    statistics = sufficient_statistics([z])
    centred = z - statistics.mean.astype(np.float32)
    rows = Rows.of(centred)
    if streamed:
        rows = Rows(*z.shape, stream=lambda size: (centred[i : i + size] for i in range(0, len(z), size)))
    return Problem(rows, y, classes, statistics.rms, principal(statistics))


def inside(of: Problem) -> np.ndarray:
    """[N, D] float64 rows x: centred, RMS 1."""
    return np.concatenate([block for _, block in of.rows.blocks()]).astype(np.float64) / of.rms


def objective(weights: np.ndarray, bias: np.ndarray, x: np.ndarray, y: np.ndarray, c: float) -> float:
    return float(cross_entropies(weights @ x.T + bias[:, None], y).mean() + (weights**2).sum() / (2 * c * len(y)))


@pytest.mark.parametrize("classes", [3, 5])
@pytest.mark.parametrize("c", [1e-3, 1e-1, 10.0])
def test_agrees_with_scikit_learn(classes: int, c: float) -> None:
    z, y = problem(500, 8, classes)
    posed = logistic(z, y, classes)
    x = inside(posed)
    found = polish(posed, c)
    model = LogisticRegression(C=c, tol=1e-9, max_iter=20_000).fit(x, y)
    ours = cross_entropies(found(x * posed.rms), y)
    theirs = cross_entropies(model.decision_function(x).T, y)
    assert ours.mean() == pytest.approx(theirs.mean(), abs=1e-5)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    assert found.objective <= objective(model.coef_, model.intercept_, x, y, c) + 1e-8


def test_two_classes_agree_with_scikit_learn_at_twice_c() -> None:
    # scikit-learn fits one weight vector w there; ours are +w/2 and -w/2, whose squares sum to half.
    z, y = problem(400, 6, 2)
    posed = logistic(z, y, 2)
    found = polish(posed, 0.1)
    model = LogisticRegression(C=0.2, tol=1e-10, max_iter=20_000).fit(inside(posed), y)
    np.testing.assert_allclose((found.weights[1] - found.weights[0]) * posed.rms, model.coef_[0], atol=1e-3)
    assert cross_entropies(found(inside(posed) * posed.rms), y).mean() == pytest.approx(
        float(np.logaddexp(0, -(2 * y - 1) * model.decision_function(inside(posed))).mean()), abs=1e-5
    )


@pytest.mark.parametrize("budget", [3, 6, 12, 500])
def test_certificate_bounds_the_distance_to_the_optimum(budget: int) -> None:
    z, y = problem(300, 10, 4)
    posed = logistic(z, y, 4)
    x = inside(posed)
    best = min(polish(posed, 0.5, polish(posed, 0.5)).objective for _ in range(1))
    early = polish(posed, 0.5, max_evaluations=budget)
    assert -1e-8 <= early.objective - best <= early.certificate + 1e-8
    assert early.objective == pytest.approx(objective(early.weights * posed.rms, early.bias, x, y, 0.5), rel=1e-12)
    slope = approx_fprime(early.bias, lambda b: objective(early.weights * posed.rms, b, x, y, 0.5), 1e-7)
    np.testing.assert_allclose(slope, 0, atol=1e-6)
    if budget == 500:
        assert early.certificate < 1e-7


def test_certificate_is_the_gradient_by_finite_differences() -> None:
    z, y = problem(80, 5, 3)
    posed = logistic(z, y, 3)
    fit = polish(posed, 1.0, max_evaluations=4)
    weights = fit.weights * posed.rms
    gradient = approx_fprime(
        weights.ravel(), lambda w: objective(w.reshape(weights.shape), fit.bias, inside(posed), y, 1.0), 1e-6
    )
    assert fit.certificate == pytest.approx((gradient**2).sum() * 1.0 * 80 / 2, rel=1e-3)


def test_missing_targets_take_no_part() -> None:
    z, y = problem(300, 6, 3)
    holed = np.where(np.arange(300) % 3 == 0, -1, y)
    posed = logistic(z, holed, 3)
    rows = np.flatnonzero(holed >= 0)
    assert posed.rows.array is not None
    alone = Problem(Rows.of(posed.rows.array[rows]), y[rows], 3, posed.rms, posed.eigen)
    found, reference = polish(posed, 0.3), polish(alone, 0.3)
    assert found.objective == pytest.approx(reference.objective, abs=1e-8)
    np.testing.assert_allclose(found.weights, reference.weights, atol=1e-4)


def test_warm_and_cold_starts_meet_in_memory_and_streamed() -> None:
    z, y = problem(300, 10, 4)
    posed = logistic(z, y, 4)
    cold = polish(posed, 1.0)
    assert polish(posed, 1.0, posed.fit(1e-3, None)).objective == pytest.approx(cold.objective, abs=1e-7)
    assert polish(logistic(z, y, 4, streamed=True), 1.0).objective == pytest.approx(cold.objective, abs=1e-5)


def test_threads_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    z, y = problem(6000, 100, 3)
    posed = logistic(z, y, 3)
    assert z.size > 1 << 19, "large enough for worker threads"
    threaded = polish(posed, 0.1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert polish(posed, 0.1).objective == pytest.approx(threaded.objective, rel=1e-9)
    assert threaded.objective == pytest.approx(
        objective(threaded.weights * posed.rms, threaded.bias, inside(posed), y, 0.1), rel=1e-12
    )


def chosen(posed: Problem, val: np.ndarray, val_y: np.ndarray) -> tuple[Linear, float, tuple]:
    """C by validation and the polished fit there, with its validation loss."""
    start, path = choose_c(posed, Rows.of(val), val_y)
    fit = polish(posed, start.c, start)
    return fit, mean_loss(fit(val), val_y), path


def test_separable_classes_stay_finite_and_validation_prefers_little_regularisation() -> None:
    y = np.repeat(np.arange(3), 40)
    x = 4 * np.eye(3)[y] + 0.1 * np.random.default_rng(0).normal(size=(120, 3))
    x -= x.mean(axis=0)
    fit, loss, _ = chosen(Problem(Rows.of(x[::2]), y[::2], 3, 1.0), x[1::2], y[1::2])
    assert loss < 1e-3
    assert fit.c >= 100
    assert np.isfinite(fit.weights).all()
    assert fit.certificate < 1e-6


def test_noise_is_regularised_to_the_prior() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 30)), rng.choice(3, size=400, p=[0.6, 0.3, 0.1])
    fit, loss, _ = chosen(Problem(Rows.of(x[:200]), y[:200], 3, 1.0), x[200:], y[200:])
    shares = np.bincount(y[:200]) / 200
    assert loss == pytest.approx(-np.log(shares)[y[200:]].mean(), abs=0.01)
    assert fit.c < 1e-2


def test_chosen_c_has_the_lowest_validation_loss_of_a_full_grid() -> None:
    z, y = problem(260, 20, 4, noise=2.0)
    posed = logistic(z[:160], y[:160], 4)
    val = z[160:] - sufficient_statistics([z[:160]]).mean.astype(np.float32)
    _, loss, path = chosen(posed, val, y[160:])
    grid = [mean_loss(polish(posed, 10.0**e)(val), y[160:]) for e in np.arange(-6, 4.01, 0.5)]
    assert loss <= min(grid) + 1e-4
    assert loss == pytest.approx(min(value for _, value in path), abs=1e-4)


def test_directions_without_variance_do_no_harm() -> None:
    rng = np.random.default_rng(0)
    z, y = problem(200, 4, 3)
    wide = np.concatenate([z, z @ rng.normal(size=(4, 2)).astype(np.float32), np.ones((200, 1), np.float32)], axis=1)
    fit = polish(logistic(wide, y, 3), 1e4)
    assert fit.certificate < 1e-6
    assert np.isfinite(fit.weights).all()


@pytest.mark.parametrize("holes", [False, True])
def test_ridge_agrees_with_scikit_learn(fake_embeddings, holes: bool) -> None:
    rng = np.random.default_rng(0)
    z = {
        split: (rng.normal(size=(n, 12)) * np.geomspace(5, 0.01, 12) + 3) for split, n in (("train", 200), ("test", 9))
    }
    y = rng.normal(size=200) + z["train"][:, 0]
    known = rng.random(200) < 0.7 if holes else np.ones(200, bool)
    y = np.where(known, (y - y[known].mean()) / y[known].std(), np.nan)
    z["val"] = z["test"]
    targets = {"t": {"train": y, "val": y[:9], "test": y[:9]}}
    ws = Workspace.of(fake_embeddings(z, targets, [Task("t", "regression", 1)]))
    moments = regression_moments(ws, {"t": y})["t"]
    rms = ws.statistics.rms
    centred = ws.centred("train").array
    assert centred is not None
    for c in (1e-4, 1.0, 1e4):
        fit = fit_ridge(moments, rms, c)
        model = Ridge(alpha=1 / c, tol=1e-12).fit(centred[known] / rms, y[known])
        np.testing.assert_allclose(fit.weights[0] * rms, model.coef_, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(fit(centred)[0], model.predict(centred / rms), atol=1e-5)
        error = ((y[known] - fit(centred[known])[0]) ** 2).mean()
        assert fit.objective == pytest.approx(error + (fit.weights**2).sum() * rms**2 / (c * known.sum()), rel=1e-6)
        assert fit.certificate < 1e-15


def test_ridge_certificate_bounds_the_distance_to_the_optimum(fake_embeddings, monkeypatch) -> None:
    import reprkit.analysis.universal.ridge as ridge

    rng = np.random.default_rng(1)
    z, y = rng.normal(size=(100, 5)), rng.normal(size=100)
    y = (y - y.mean()) / y.std()
    ws = Workspace.of(
        fake_embeddings({"train": z, "val": z, "test": z}, {"t": dict.fromkeys(("train", "val", "test"), y)},
                        [Task("t", "regression", 1)])
    )  # fmt: skip
    moments = regression_moments(ws, {"t": y})["t"]
    best = fit_ridge(moments, ws.statistics.rms, 0.1)
    solve = ridge._solutions
    monkeypatch.setattr(ridge, "_solutions", lambda *a: solve(*a) + 0.05 * rng.normal(size=(1, 5)))
    worse = fit_ridge(moments, ws.statistics.rms, 0.1)
    assert 1e-4 < worse.objective - best.objective <= worse.certificate


def test_ridge_is_chosen_on_val(toy) -> None:
    ws = Workspace.of(toy(classes={"years": 5}, kinds={"years": "regression"}, dim=60, sizes=(80, 40, 50), noise=2.0))
    y = {split: ws.targets(split, "years") for split in ("train", "val")}
    mean, std = y["train"].mean(), y["train"].std()
    y = {split: (values - mean) / std for split, values in y.items()}
    moments = regression_moments(ws, {"years": y["train"]})["years"]
    fit, loss = choose_ridge(moments, ws.statistics.rms, ws, y["val"])
    x = {split: ws.centred(split).array / ws.statistics.rms for split in ("train", "val")}
    grid = [
        ((Ridge(alpha=a).fit(x["train"], y["train"]).predict(x["val"]) - y["val"]) ** 2).mean()
        for a in np.geomspace(1e-6, 1e8, 57)
    ]
    assert loss == pytest.approx(min(grid), rel=1e-4)
    assert 1e-3 < fit.c < 1


def test_mlp_solves_what_no_linear_predictor_can() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, size=(1200, 2))
    y = ((x[:, 0] > 0) ^ (x[:, 1] > 0)).astype(np.int64)
    found = choose_mlp(x[:800], y[:800], x[800:], y[800:], 2, seed=0)
    again = choose_mlp(x[:800], y[:800], x[800:], y[800:], 2, seed=0)
    linear = chosen(Problem(Rows.of(x[:800]), y[:800], 2, 1.0), x[800:], y[800:])[1]
    assert found.val_loss < 0.15 < 0.6 < linear
    assert found.val_loss == min(found.restarts)
    assert found.val_loss == pytest.approx(cross_entropies(found.logits(x[800:]), y[800:]).mean(), rel=1e-5)
    assert found.restarts == again.restarts


def test_mlp_learns_real_values_that_no_linear_predictor_can() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, size=(1200, 2))
    y = 3 * np.abs(x[:, 0]) - 1.5
    found = choose_mlp(x[:800], y[:800], x[800:], y[800:], 1, seed=0)
    assert found.val_loss < 0.02 < 0.5 < y.var()
    assert found.val_loss == pytest.approx(((found.logits(x[800:])[0] - y[800:]) ** 2).mean(), rel=1e-4)


@pytest.mark.parametrize("real", [False, True])
def test_mlp_step_descends_along_the_gradient(real: bool) -> None:
    # Adam's first step is minus the learning rate times the sign of the gradient, so its signs are the gradient's.
    rng = np.random.RandomState(0)
    x, y = rng.standard_normal((40, 3)).astype(np.float32), rng.randint(3, size=40)
    if real:
        y = y.astype(np.float64)
    nets = _Nets(3, 1 if real else 3, rng)
    before = [value.copy() for value in nets.values]
    penalty = nets.penalty[2, 0, 0]

    def loss(values: list[np.ndarray]) -> float:
        nets.values = values
        logits = nets.forward(x)[1][2].astype(np.float64)
        squares = (values[0][2].astype(np.float64) ** 2).sum() + (values[2][2].astype(np.float64) ** 2).sum()
        return float(losses(logits, y).mean() + penalty / 2 * squares)

    slopes = []
    for index, where in ((0, (2, 5, 1)), (1, (2, 7, 0)), (2, (2, -1, 9)), (3, (2, -1, 0))):
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
