"""Each method's own promise, checked from its definition: residuals, duality gaps, other solvers, other formulas."""

import importlib
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, nnls

from reprkit.training.balancing.active import SolverError
from reprkit.training.balancing.cagrad import cagrad
from reprkit.training.balancing.imtl_g import imtl_g
from reprkit.training.balancing.mgda import mgda
from reprkit.training.balancing.nash_mtl import nash_mtl
from reprkit.training.balancing.pcgrad import pcgrad

examples = settings(max_examples=60, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def jacobians(draw, max_tasks=6, spread=0.0):
    """J [K, P]: plain, of low rank, with repeated and opposed rows, nearly parallel, or nearly opposed."""
    rng = np.random.default_rng(draw(seeds))
    tasks = draw(st.integers(1, max_tasks))
    J = rng.normal(size=(tasks, draw(st.integers(1, tasks + 3))))
    kind = draw(st.sampled_from(["plain", "integers", "repeated", "parallel", "opposed"]))
    if kind == "integers":
        J = rng.integers(-2, 3, size=J.shape) + 0.0
    elif kind == "repeated":
        J = J[rng.integers(0, tasks, size=tasks)] * rng.choice([1.0, -1.0, 2.0], size=(tasks, 1))
    elif kind == "parallel":
        J = J[:1] + 1e-5 * J
    elif kind == "opposed":
        J = J[:1] * rng.choice([1.0, -1.0], size=(tasks, 1)) + 10 ** rng.uniform(-6, 0) * J
    J[np.abs(J).sum(axis=1) == 0] = 1.0
    return J * 10 ** rng.uniform(-spread, spread, size=(tasks, 1))


def gram(J):
    J = torch.as_tensor(J)
    return J @ J.T


def lengths(J):
    return np.linalg.norm(J, axis=1)


def slsqp(objective, tasks):
    """Least objective found over the simplex, from equal weights and from each corner."""
    best = np.inf
    for start in [np.full(tasks, 1 / tasks), *(0.9 * np.eye(tasks) + 0.1 / tasks)]:
        found = minimize(
            objective, start, method="SLSQP", bounds=[(0, 1)] * tasks,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1}, options={"ftol": 1e-14, "maxiter": 500},
        )  # fmt: skip
        w = np.maximum(found.x, 0)
        best = min(best, objective(w / w.sum()))
    return best


# PCGrad


def projected(J, orders):
    """PCGrad on vectors, as written in the paper."""
    total = np.zeros(J.shape[1])
    for i, order in enumerate(orders):
        g = J[i].copy()
        for j in order:
            if j != i and g @ J[j] < 0:
                g -= (g @ J[j]) / (J[j] @ J[j]) * J[j]
        total += g
    return total


@examples
@given(J=jacobians(spread=1), seed=st.integers(0, 999))
def test_pcgrad_equals_projecting_vectors(J, seed):
    draws = torch.rand(len(J), len(J), generator=torch.Generator().manual_seed(seed))
    w = pcgrad(gram(J), generator=torch.Generator().manual_seed(seed)).numpy()
    expected = projected(J, draws.argsort(dim=1).tolist())
    np.testing.assert_allclose(J.T @ w, expected, atol=1e-9 * (w @ lengths(J)))


def conflicting():
    """Four tasks in three dimensions for which every coordinate of the update depends on the orders."""
    return np.array([[1.0, 0.2, -0.3], [-0.8, 0.9, 0.1], [-0.3, -1.0, 0.5], [0.2, -0.4, -1.2]])


def test_pcgrad_orders_are_uniform_and_independent():
    J = conflicting()
    sums = []
    for i in range(4):
        others = [list(p) for p in permutations([j for j in range(4) if j != i])]
        each = [projected(J, [order if k == i else [] for k in range(4)]) - J.sum(0) for order in others]
        sums.append(np.array(each))
    mean = J.sum(0) + sum(s.mean(0) for s in sums)
    variance = sum(s.var(0) for s in sums)
    generator, G, draws = torch.Generator().manual_seed(0), gram(J), 4000
    updates = np.array([J.T @ pcgrad(G, generator=generator).numpy() for _ in range(draws)])
    assert variance.min() > 1e-3
    np.testing.assert_array_less(np.abs(updates.mean(0) - mean), 4 * np.sqrt(variance / draws))
    np.testing.assert_allclose(updates.var(0), variance, rtol=0.1)


def test_pcgrad_draws_from_its_generator():
    G = gram(conflicting())
    made = torch.Generator().manual_seed(5)
    first, second = pcgrad(G, generator=made), pcgrad(G, generator=made)
    again = pcgrad(G, generator=torch.Generator().manual_seed(5))
    torch.manual_seed(5)
    assert torch.equal(first, again)
    assert torch.equal(first, pcgrad(G))
    assert not torch.equal(first, second)


# Nash-MTL


@examples
@given(seed=seeds, tasks=st.integers(1, 20), ratio=st.sampled_from([1.0, 1e3, 1e9]))
def test_nash_solves_its_equation(seed, tasks, ratio):
    rng = np.random.default_rng(seed)
    J = rng.normal(size=(tasks, tasks + 10)) * ratio ** rng.uniform(-0.5, 0.5, size=(tasks, 1))
    G = gram(J)
    w = nash_mtl(G, scale="nash").numpy()
    assert w.min() > 0
    assert np.abs(w * (G.numpy() @ w) - 1).max() <= 1e-8
    np.testing.assert_allclose(np.linalg.norm(J.T @ w), np.sqrt(tasks), rtol=1e-8)
    np.testing.assert_allclose(nash_mtl(G), w * tasks / w.sum(), rtol=1e-12)


@pytest.mark.parametrize("norms", [(22, 176, 2.8), (10, 100, 1), (1, 5, 0.2), (1e3, 1, 1), (1, 1e-15, 1e15)])
def test_nash_on_unbalanced_tasks(norms):
    J = np.random.default_rng(0).normal(size=(3, 2000))
    J *= (np.array(norms) / lengths(J))[:, None]
    G = gram(J)
    w = nash_mtl(G, scale="nash").numpy()
    residual = np.abs(w * (G.numpy() @ w) - 1).max()
    assert residual <= 1e-8


@examples
@given(J=jacobians(max_tasks=8, spread=1.5))
def test_nash_solves_its_equation_or_that_with_a_ridge(J):
    d = lengths(J)
    rows = J / d[:, None]
    v = nash_mtl(gram(J), scale="nash").numpy() * d
    assert v.min() > 0
    residual, with_ridge = (np.abs(v * (rows @ (rows.T @ v) + ridge * v) - 1).max() for ridge in (0, 1e-6))
    assert min(residual, with_ridge) <= 3e-8
    if residual > 3e-8:  # only where some convex combination all but vanishes
        assert np.linalg.norm(rows.T @ v) <= 2e-3 * v.sum()


def test_nash_of_a_vanishing_combination():
    J = np.array([[1.0, 0, 0], [-2.0, 0, 0], [0, 0, 1.0]])
    w = nash_mtl(gram(J)).numpy()
    np.testing.assert_allclose(w, [2, 1, 0], atol=5e-3)
    assert np.linalg.norm(J.T @ w) < 5e-3


def test_nash_raises_rather_than_return_something_else(monkeypatch):
    monkeypatch.setattr(importlib.import_module("reprkit.training.balancing.nash_mtl"), "TOLERANCE", -1.0)
    with pytest.raises(SolverError, match="did not converge") as caught:
        nash_mtl(torch.eye(3) + 0.1)
    assert 0 <= caught.value.residual < 1e-6


# IMTL-G


@examples
@given(J=jacobians(max_tasks=8, spread=1.5))
def test_imtl_g_has_equal_projections(J):
    w = imtl_g(gram(J)).numpy()
    d, u = lengths(J), J.T @ w
    projections = J @ u / d
    size = np.abs(w) @ d
    assert np.ptp(projections) <= 2e-6 * size
    assert projections.mean() >= -1e-9 * size
    assert np.abs(w).sum() <= 10 * len(J) * (1 + 1e-9)
    if w.sum() > 0.1 * np.abs(w).sum() * (1 + 1e-9):
        np.testing.assert_allclose(w.sum(), len(J), rtol=1e-9)


@examples
@given(seed=seeds, tasks=st.integers(1, 8))
def test_imtl_g_is_the_inverse_gramian_times_the_norms(seed, tasks):
    J = np.random.default_rng(seed).normal(size=(tasks, tasks + 4))
    w = np.linalg.solve(J @ J.T, lengths(J))
    w *= tasks / max(w.sum(), 0.1 * np.abs(w).sum())
    np.testing.assert_allclose(imtl_g(gram(J)), w, rtol=1e-6, atol=1e-8)


def test_imtl_g_is_bounded_and_not_flipped_where_weights_cancel():
    cancelled = 0
    for seed in range(300):
        J = np.random.default_rng(seed).normal(size=(3, 3)) * 10 ** np.random.default_rng(seed).uniform(-1, 1, (3, 1))
        raw = np.linalg.solve(J @ J.T, lengths(J))
        w = imtl_g(gram(J)).numpy()
        cancelled += raw.sum() < 0
        assert w @ raw > 0
        assert np.abs(w).sum() <= 30 * (1 + 1e-9)
    assert cancelled > 10


# MGDA


@examples
@given(J=jacobians(max_tasks=20))
def test_mgda_closes_the_duality_gap(J):
    w = mgda(gram(J)).numpy()
    assert w.min() >= 0
    np.testing.assert_allclose(w.sum(), len(J), rtol=1e-12)
    u, scale = J.T @ w / len(J), lengths(J).max()
    assert u @ u - (J @ u).min() <= 1e-6 * scale * max(np.linalg.norm(u), 1e-3 * scale)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(J=jacobians(max_tasks=5, spread=0.5))
def test_mgda_is_never_worse_than_slsqp(J):
    G = J @ J.T
    w = mgda(gram(J)).numpy() / len(J)
    best = slsqp(lambda w: w @ G @ w / np.trace(G), len(J)) * np.trace(G)
    assert w @ G @ w <= best * (1 + 1e-6) + 1e-12 * np.trace(G)


@pytest.mark.parametrize("seed", range(20))
def test_mgda_of_two_tasks_is_the_clipped_projection(seed):
    rng = np.random.default_rng(seed)
    J = rng.normal(size=(2, 3)) * 10 ** rng.uniform(-3, 3, size=(2, 1))
    (a, b), (_, c) = J @ J.T
    first = np.clip((c - b) / (a + c - 2 * b), 0, 1)
    np.testing.assert_allclose(mgda(gram(J)), [2 * first, 2 - 2 * first], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("apart", [None, 1e-7, 1e-5])
def test_mgda_on_scales_from_1e_6_to_1e6(apart):
    """Against non-negative least squares of the vectors themselves."""
    for seed in (*range(250), 739, 891, 2501):  # the last three once went in circles, within rounding
        rng = np.random.default_rng(seed)
        tasks = rng.integers(2, 7)
        d = 10 ** rng.uniform(-6, 6, size=tasks)
        rows = rng.normal(size=(tasks, 8))
        if apart is not None:  # repeated or opposed but for this
            rows = rows[rng.integers(0, tasks, size=tasks)] * rng.choice([-1.0, 1.0], size=(tasks, 1)) + apart * rows
        if apart == 1e-5:
            rows[-1] = rows[0]
        rows /= lengths(rows)[:, None]
        a = d.min() / d
        best, _ = nnls(np.vstack([rows.T, a]), np.append(np.zeros(8), 1.0))
        v = mgda(gram(rows * d[:, None])).numpy() * d
        best, v = best / (a @ best), v / (a @ v)
        shortest, length = np.linalg.norm(rows.T @ best), np.linalg.norm(rows.T @ v)
        assert length <= shortest * (1 + 1e-9) + 1e-6 * best.max()
        if apart is None:
            np.testing.assert_allclose(v, best, rtol=1e-5, atol=1e-6 * best.max())


@pytest.mark.parametrize("normalise", ["none", "l2", "loss", "loss+"])
def test_mgda_finds_the_shortest_vector_of_the_normalised_hull(normalise):
    rng = np.random.default_rng(0)
    J, losses = rng.normal(size=(4, 6)) * 10 ** rng.uniform(-1, 1, size=(4, 1)), rng.uniform(0.1, 3, size=4)
    d = lengths(J)
    n = {"none": np.ones(4), "l2": d, "loss": losses, "loss+": losses * d}[normalise]
    w = mgda(gram(J), normalise=normalise, losses=torch.as_tensor(losses)).numpy()
    np.testing.assert_allclose(w.sum(), 4, rtol=1e-12)
    share = w * n / (w * n).sum()
    H = J / n[:, None]
    u = H.T @ share
    assert u @ u > 1e-6 * (d / n).max() ** 2
    assert u @ u - (H @ u).min() <= 1e-9 * (u @ u)


@pytest.mark.parametrize("normalise", ["loss", "loss+"])
def test_mgda_needs_no_loss_of_a_task_without_a_gradient(normalise):
    J, losses = np.random.default_rng(0).normal(size=(3, 5)), torch.tensor([0.3, 2.0, 0.7])
    alone = mgda(gram(J), normalise=normalise, losses=losses)
    padded = np.insert(J, 1, 0.0, axis=0)
    w = mgda(gram(padded), normalise=normalise, losses=torch.tensor([0.3, 0.0, 2.0, 0.7]))
    np.testing.assert_allclose(w[[0, 2, 3]], alone, rtol=1e-9)


# CAGrad


def direction(J, c, rescale=0):
    w = cagrad(gram(J), c=c, rescale=rescale).numpy()
    return J.T @ w / len(J)


def dual(J, c):
    """F(w) = w'b + phi |J'w|: at every w an upper bound of min_k <g_k, d>."""
    g0 = J.mean(axis=0)
    return lambda w: w @ (J @ g0) + c * np.linalg.norm(g0) * np.linalg.norm(J.T @ w)


@examples
@given(J=jacobians(max_tasks=12), c=st.sampled_from([0.01, 0.4, 0.9, 1.0, 3.0]), seed=st.integers(0, 999))
def test_cagrad_closes_the_duality_gap(J, c, seed):
    d, g0 = direction(J, c), J.mean(axis=0)
    scale = lengths(J).max()
    assert np.linalg.norm(d - g0) <= c * np.linalg.norm(g0) + 1e-6 * scale
    simplex = np.vstack([np.eye(len(J)), np.random.default_rng(seed).dirichlet(np.ones(len(J)), size=20)])
    bound = min(dual(J, c)(w) for w in simplex)
    worst = (J @ d).min()
    assert worst <= bound + 1e-6 * scale**2
    assert worst >= (J @ g0).min() - 1e-6 * scale**2


@settings(max_examples=40, deadline=None, derandomize=True)
@given(J=jacobians(max_tasks=5), c=st.sampled_from([0.1, 0.4, 0.9]))
def test_cagrad_reaches_the_best_dual_value_that_slsqp_finds(J, c):
    J = J / lengths(J).max()
    phi = c * np.linalg.norm(J.mean(axis=0))
    best = slsqp(dual(J, c), len(J))
    worst = (J @ direction(J, c)).min()
    assert worst >= best - 1e-6 * (abs(best) + phi)  # SLSQP is above the optimum, and the optimum is `worst`


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("c", [0.4, 0.9])
def test_cagrad_of_two_tasks_against_a_grid(seed, c):
    rng = np.random.default_rng(seed)
    J = rng.normal(size=(2, 3)) * [[1.0], [10 ** rng.uniform(-3, 3)]]
    d = direction(J, c)
    grid = np.linspace(0, 1, 20001)
    values = [dual(J, c)(np.array([w, 1 - w])) for w in grid]
    scale = abs(min(values)) + c * np.linalg.norm(J.mean(axis=0)) * lengths(J).max()
    assert -1e-9 * scale <= min(values) - (J @ d).min() <= 1e-4 * scale
    np.testing.assert_allclose(np.linalg.norm(d - J.mean(0)), c * np.linalg.norm(J.mean(0)), rtol=1e-9)


def test_cagrad_where_the_hull_holds_zero():
    """The best direction is shorter than the search allows: the shortest that lifts the two opposed tasks to zero."""
    J = np.array([[1.0, 0.0], [-3.0, 0.0], [1.0, 6.0]])
    d = direction(J, 0.9)
    np.testing.assert_allclose(d, [0, 2], atol=1e-6)  # g0 = (-1/3, 2)
    w = cagrad(gram(J), c=0.9).numpy()
    assert np.abs(w).max() < 5


def test_cagrad_rescaling():
    J = np.random.default_rng(0).normal(size=(3, 5))
    plain = direction(J, 0.4)
    np.testing.assert_allclose(direction(J, 0.4, rescale=1), plain / 1.16, rtol=1e-12)
    np.testing.assert_allclose(direction(J, 0.4, rescale=2), plain / 1.4, rtol=1e-12)
    np.testing.assert_allclose(cagrad(gram(J), c=0.0), 1, rtol=1e-12)
    same = gram(np.tile(J[:1], (3, 1)))
    for rescale, expected in ((0, 1.4), (1, 1.4 / 1.16), (2, 1.0)):
        np.testing.assert_allclose(cagrad(same, c=0.4, rescale=rescale), expected, rtol=1e-6)


@pytest.mark.parametrize("method", [mgda, cagrad])
def test_the_simplex_solver_raises_rather_than_return_something_else(monkeypatch, method):
    """A solver that takes equal weights for the optimum is found out."""
    solver = importlib.import_module("reprkit.training.balancing.simplex")
    monkeypatch.setattr(solver, "_affine_minimum", lambda rows, a, c, phi: (1 / (a * len(a)), 1.0))
    with pytest.raises(SolverError, match="did not converge") as caught:
        method(torch.diag(torch.tensor([1.0, 2.0, 30.0], dtype=torch.float64)))
    assert caught.value.residual > 1e-3
