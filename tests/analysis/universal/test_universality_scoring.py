"""Losses and gradients of dummies against one-at-a-time references in NumPy, SciPy and PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from torch.nn import functional as F

from reprkit.analysis.moments import sufficient_statistics
from reprkit.analysis.rows import Rows
from reprkit.analysis.universal import scoring
from reprkit.analysis.universal.assignment import best_permutations, class_sums
from reprkit.analysis.universal.dummies import Dummies, View, draw_dummies
from reprkit.analysis.universal.gauges import all_logits, fit_temperatures, linear_permutations
from reprkit.analysis.universal.gradients import distances, gradient_norms
from reprkit.analysis.universal.optimal import Linear, Problem, polish
from reprkit.analysis.universal.scoring import (
    CrossEntropy,
    Request,
    SquaredError,
    dummy_losses,
    log_sum_exp_prefixes,
)
from reprkit.analysis.universal.targets import losses

N, D, M, K = 90, 12, 5, 6


@pytest.fixture(scope="module")
def z() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (2.5 * rng.normal(size=(N, D)) + rng.normal(size=D)).astype(np.float32)


@pytest.fixture(scope="module")
def mean(z: np.ndarray) -> np.ndarray:
    return z.mean(axis=0).astype(np.float64)


@pytest.fixture(scope="module")
def targets() -> dict[int, np.ndarray]:
    rng = np.random.default_rng(1)
    return {classes: rng.integers(-1, classes, size=N) for classes in (2, 4, 6)}


@pytest.fixture(params=["linear", "mlp"])
def head(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["gaussian", "paper"])
def dummies(head: str, request: pytest.FixtureRequest) -> Dummies:
    return draw_dummies(head, dim=D, outputs=K, count=M, seed=3, init=request.param)  # type: ignore[arg-type]


def forward(dummies: Dummies, m: int, z: np.ndarray) -> np.ndarray:
    """[N, K] logits of predictor m, layer by layer in float64."""
    z = z.astype(np.float64)
    if dummies.second is None:
        return z @ dummies.first[:, m].T + dummies.first_bias[:, m]
    hidden = np.maximum(z @ dummies.first[m].T + dummies.first_bias[m], 0)
    return hidden @ dummies.second[m].T + dummies.second_bias[m]


def seen(view: str, z: np.ndarray, mean: np.ndarray, rms: float) -> np.ndarray:
    return z.astype(np.float64) if view == "raw" else (z - mean) / rms


def run(z: np.ndarray, dummies: Dummies, requests: list[Request], mean: np.ndarray, rows: int, **options) -> list:
    blocks = [z[i : i + rows] for i in range(0, len(z), rows)]
    parts = list(dummy_losses(blocks, dummies, requests, mean=mean, **options))
    assert [part.start for part, _ in parts] == list(range(0, len(z), rows))
    return [np.concatenate([found[r] for _, found in parts], axis=1) for r in range(len(requests))]


@pytest.mark.parametrize("columns", [512, 2 * K])  # all predictors at a time, and a few
@pytest.mark.parametrize("rms", [2.4, 0.05])
def test_losses_equal_one_predictor_at_a_time(
    dummies: Dummies,
    z: np.ndarray,
    mean: np.ndarray,
    targets: dict[int, np.ndarray],
    rms: float,
    columns: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scoring, "COLUMNS", columns)
    rng = np.random.default_rng(2)
    views = {"raw": dummies.view(mean, None), "rms1": dummies.view(mean, rms)}
    requests, expected = [], []
    for classes, y in targets.items():
        for name, view in views.items():
            for tau in (None, rng.uniform(0.1, 3, size=M)):
                pi = np.stack([rng.permutation(classes) for _ in range(M)])
                requests.append(CrossEntropy(view, y, pi, tau))
                reference = np.zeros((M, N))
                for m in range(M):
                    logits = forward(dummies, m, seen(name, z, mean, rms))[:, :classes]
                    logs = log_softmax(logits * (1 if tau is None else tau[m]), axis=1)
                    reference[m] = np.where(y >= 0, -logs[np.arange(N), pi[m][y]], 0)
                expected.append(reference)
    for found, reference in zip(run(z, dummies, requests, mean, 32), expected, strict=True):
        np.testing.assert_allclose(found, reference, rtol=2e-5, atol=2e-5)
    for found, reference in zip(run(z, dummies, requests, mean, 32, dtype=np.float64), expected, strict=True):
        np.testing.assert_allclose(found, reference, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rows", [1, 13, 64])
@pytest.mark.parametrize("workers", [1, 2])
def test_streaming_equals_one_shot(
    head: str, z: np.ndarray, mean: np.ndarray, targets: dict[int, np.ndarray], rows: int, workers: int
) -> None:
    dummies = draw_dummies(head, dim=D, outputs=K, count=M, seed=0)  # type: ignore[arg-type]
    pi = np.stack([np.random.default_rng(m).permutation(4) for m in range(M)])
    requests = [CrossEntropy(dummies.view(mean, None), targets[4], pi)]
    whole = run(z, dummies, requests, mean, N, dtype=np.float64, workers=1)[0]
    found = run(z, dummies, requests, mean, rows, dtype=np.float64, workers=workers)[0]
    np.testing.assert_allclose(found, whole, rtol=1e-12, atol=1e-12)


def test_permutations_from_class_sums_equal_those_from_all_logits(
    z: np.ndarray, targets: dict[int, np.ndarray]
) -> None:
    for init in ("gaussian", "paper"):
        dummies = draw_dummies("linear", dim=D, outputs=K, count=40, seed=1, init=init)  # type: ignore[arg-type]
        statistics = sufficient_statistics([z[:50], z[50:]], {str(c): (y, c) for c, y in targets.items()})
        for rms in (None, statistics.rms):
            view = dummies.view(statistics.mean, rms)
            logits = all_logits(z, dummies, view, mean=statistics.mean)
            for classes, y in targets.items():
                reference = best_permutations(class_sums(logits[:classes], y))
                counts, sums = statistics.class_counts[str(classes)], statistics.class_sums[str(classes)]
                np.testing.assert_array_equal(linear_permutations(dummies, view, counts, sums), reference)


def test_temperatures_equal_a_scalar_optimiser() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(4, size=300)
    logits = rng.normal(size=(4, 6, 300)) * np.array([0.01, 0.1, 1, 5, 30, 1])[:, None]
    logits[targets, :, np.arange(300)] += 0.5 * np.array([0.01, 0.1, 1, 5, 30, -1])
    pi = np.tile(np.arange(4), (6, 1))
    found = fit_temperatures(logits, targets, pi)

    def loss(tau: float, m: int) -> float:
        return -log_softmax(tau * logits[:, m].T, axis=1)[np.arange(300), targets].mean()

    for m in range(5):
        best = minimize_scalar(lambda t, m=m: loss(np.exp(t), m), bounds=(-9, 9), method="bounded")
        assert loss(found[m], m) <= best.fun + 1e-9
        assert found[m] == pytest.approx(np.exp(best.x), rel=1e-2)
    assert found[5] == pytest.approx(np.exp(-9), rel=1e-4), "a misleading predictor is silenced"


@pytest.mark.parametrize("shift", [0.0, 55.0, 500.0, -3000.0])
def test_log_sum_exp_of_prefixes_is_stable(shift: float) -> None:
    logits = np.random.default_rng(0).normal(size=(5, 3, 7)) * 3 + shift
    logits[0] += 2 * abs(shift)
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 1e-6)):
        found = log_sum_exp_prefixes(logits.astype(dtype), {1, 2, 5})
        assert set(found) == {1, 2, 5}
        for size, values in found.items():
            np.testing.assert_allclose(values, np.logaddexp.reduce(logits[:size], axis=0), rtol=tolerance)
    assert log_sum_exp_prefixes(logits, set()) == {}


@pytest.mark.parametrize("rms", [None, 2.4])
def test_squared_errors_equal_one_predictor_at_a_time(
    dummies: Dummies, z: np.ndarray, mean: np.ndarray, rms: float | None
) -> None:
    rng = np.random.default_rng(4)
    y = np.where(rng.random(N) < 0.2, np.nan, rng.normal(size=N))
    slopes, offsets = rng.normal(size=(2, M))
    view = dummies.view(mean, rms)
    requests = [SquaredError(view, y), SquaredError(view, y, slopes, offsets)]
    plain, mapped = run(z, dummies, requests, mean, 32, dtype=np.float64)
    for m in range(M):
        output = forward(dummies, m, seen("raw" if rms is None else "rms1", z, mean, rms or 1.0))[:, 0]
        np.testing.assert_allclose(plain[m], np.nan_to_num((y - output) ** 2), rtol=1e-9)
        np.testing.assert_allclose(mapped[m], np.nan_to_num((y - slopes[m] * output - offsets[m]) ** 2), atol=1e-9)


def gradient_by_autograd(dummies: Dummies, m: int, rows: np.ndarray, y: np.ndarray, pi: np.ndarray | None) -> float:
    """Norm of the gradient of the mean loss of predictor m, its last layer's outputs taken in the order `pi`."""
    outputs = [0] if pi is None else pi
    if dummies.second is None:
        arrays = [dummies.first[outputs, m], dummies.first_bias[outputs, m]]
    else:
        arrays = [dummies.first[m], dummies.first_bias[m], dummies.second[m, outputs], dummies.second_bias[m, outputs]]
    parameters = [torch.tensor(array, requires_grad=True) for array in arrays]
    out = F.linear(torch.from_numpy(rows), *parameters[:2])
    if len(parameters) == 4:
        out = F.linear(out.relu(), *parameters[2:])
    if pi is None:
        valid = ~np.isnan(y)
        F.mse_loss(out[valid, 0], torch.from_numpy(y[valid])).backward()
    else:
        F.cross_entropy(out, torch.from_numpy(y), ignore_index=-1).backward()
    return float(torch.cat([p.grad.ravel() for p in parameters]).norm())


@pytest.mark.parametrize("rms", [None, 2.4])
def test_gradient_norms_equal_autograd(
    dummies: Dummies, z: np.ndarray, mean: np.ndarray, targets: dict[int, np.ndarray], rms: float | None
) -> None:
    rng = np.random.default_rng(8)
    view, y = dummies.view(mean, rms), targets[4]
    real = np.where(y < 0, np.nan, rng.normal(size=N))
    identity = np.tile(np.arange(4), (M, 1))
    permuted = np.stack([rng.permutation(4) for _ in range(M)])
    requests = [CrossEntropy(view, y, identity), CrossEntropy(view, y, permuted), SquaredError(view, real)]
    blocks = [z[:40], z[40:]]
    found = gradient_norms(blocks, dummies, requests, mean=mean, dtype=np.float64)
    single = gradient_norms(blocks, dummies, requests, mean=mean)
    rows = seen("raw" if rms is None else "rms1", z, mean, rms or 1.0)
    for m in range(M):
        expected = [
            gradient_by_autograd(dummies, m, rows, y, identity[m]),
            gradient_by_autograd(dummies, m, rows, y, permuted[m]),
            gradient_by_autograd(dummies, m, rows, real, None),
        ]
        assert [norms[m] for norms in found] == pytest.approx(expected, rel=1e-9)
        assert [norms[m] for norms in single] == pytest.approx(expected, rel=1e-4)


@given(
    seed=st.integers(0, 10_000),
    scale=st.floats(0.01, 30),
    shift=st.floats(-5, 5),
    c=st.floats(1e-3, 1e3),
    real=st.booleans(),
    init=st.sampled_from(["gaussian", "paper"]),
)
@settings(max_examples=60, deadline=None)
def test_gradient_and_distance_bound_the_gap_of_linear_dummies(
    seed: int, scale: float, shift: float, c: float, real: bool, init: str
) -> None:
    # Convexity: L(f) - L(f*) <= ||grad L(f)|| ||f - f*|| for any linear f*, whatever it was fitted on.
    rng = np.random.default_rng(seed)
    z = (scale * (rng.normal(size=(60, 5)) + shift)).astype(np.float32)
    mean = z[:30].mean(axis=0).astype(np.float64)
    dummies = draw_dummies("linear", dim=5, outputs=3, count=8, seed=seed, init=init)  # type: ignore[arg-type]
    view = dummies.view(mean, None)
    request: Request
    if real:
        y, pi = rng.normal(size=60), None
        request = SquaredError(view, y)
        star = Linear(rng.normal(size=(1, 5)) / scale, rng.normal(size=1))
    else:
        y = np.concatenate([np.arange(3), rng.integers(3, size=57)])
        pi = np.stack([rng.permutation(3) for _ in range(8)])
        request = CrossEntropy(view, y, pi)
        rms = float(np.sqrt(((z[:30] - mean) ** 2).mean()))
        star = polish(Problem(Rows.of(z[:30] - mean.astype(np.float32)), y[:30], 3, rms), c)
    found = run(z, dummies, [request], mean, 25, dtype=np.float64)[0].mean(axis=1)
    best = losses(star(z - mean), y).mean()
    [norms] = gradient_norms([z], dummies, [request], mean=mean, dtype=np.float64)
    assert (found - best <= norms * distances(dummies, pi, star, mean) * (1 + 1e-9) + 1e-9).all()


def test_bound_is_attained_by_a_step_along_the_gradient() -> None:
    # Close to f, L is linear: for f* = f - step * grad L the bound becomes an equality.
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(200, 4)).astype(np.float32), rng.integers(3, size=200)
    dummies = draw_dummies("linear", dim=4, outputs=3, count=1, seed=0)
    mean, identity = z.mean(axis=0).astype(np.float64), np.arange(3)[None]
    logits = forward(dummies, 0, z)
    error = (softmax(logits, axis=1) - np.eye(3)[y]) / 200
    weights = dummies.first[:, 0] - 1e-3 * error.T @ z
    bias = dummies.first_bias[:, 0] - 1e-3 * error.sum(axis=0)
    near = Linear(weights, bias + weights @ mean)
    request = CrossEntropy(dummies.view(mean, None), y, identity)
    gap = losses(logits.T, y).mean() - losses(near(z - mean), y).mean()
    [norms] = gradient_norms([z], dummies, [request], mean=mean, dtype=np.float64)
    bound = norms[0] * distances(dummies, identity, near, mean)[0]
    assert gap <= bound
    assert gap == pytest.approx(bound, rel=1e-3)
    at = Linear(dummies.first[:, 0], dummies.first_bias[:, 0] + dummies.first[:, 0] @ mean)
    assert distances(dummies, identity, at, mean)[0] == pytest.approx(0, abs=1e-12)
    moved = Linear(at.weights[[1, 2, 0]], at.bias[[1, 2, 0]])
    assert distances(dummies, np.array([[1, 2, 0]]), moved, mean)[0] == pytest.approx(0, abs=1e-12)


def test_streams_of_dummies_are_nested(head: str) -> None:
    # Fewer predictors or outputs are a prefix: adding a task or a dummy changes no other.
    large = draw_dummies(head, dim=D, outputs=7, count=9, seed=4, init="paper")  # type: ignore[arg-type]
    small = draw_dummies(head, dim=D, outputs=3, count=4, seed=4, init="paper")  # type: ignore[arg-type]
    z = np.random.default_rng(0).normal(size=(5, D))
    for m in range(4):
        np.testing.assert_allclose(forward(large, m, z)[:, :3], forward(small, m, z), rtol=1e-10)
    assert large.first_few(4).digest(3) == small.digest(3)
    assert large.digest(3) != large.digest(4)
    assert small.digest(3) != draw_dummies(head, dim=D, outputs=3, count=4, seed=5, init="paper").digest(3)  # type: ignore[arg-type]


def test_weights_come_from_the_frozen_stream() -> None:
    # The values themselves are a promise: a score computed today must be computable in ten years.
    drawn = draw_dummies("linear", dim=4, outputs=2, count=2, seed=20240916)
    reference = np.random.RandomState([20240916, 1, 0]).standard_normal((2, 4)) / 2
    np.testing.assert_array_equal(drawn.first[:, 1], reference)
    assert drawn.digest(2) == "061b57ea017f86d3"


@pytest.mark.parametrize(("init", "deviation"), [("gaussian", 1.0), ("paper", 1 / np.sqrt(3))])
def test_law_of_the_weights(init: str, deviation: float) -> None:
    dummies = draw_dummies("mlp", dim=400, outputs=50, count=10, seed=0, init=init)  # type: ignore[arg-type]
    assert dummies.first.std() * np.sqrt(400) == pytest.approx(deviation, rel=0.02)
    assert dummies.second.std() * np.sqrt(64) == pytest.approx(deviation, rel=0.02)
    assert (dummies.first_bias == 0).all() == (init == "gaussian")


def test_view_of_a_constant_is_zero() -> None:
    dummies = draw_dummies("linear", dim=3, outputs=2, count=2, seed=0)
    view = dummies.view(np.ones(3), 0.0)
    assert isinstance(view, View)
    np.testing.assert_array_equal(dummies.logits(np.ones((4, 5)), view), 0)
