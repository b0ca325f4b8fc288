"""What every method of the Gramian owes: one scale, no matter the order, the units or tasks without a gradient."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from reprkit.training.balancing.cagrad import cagrad
from reprkit.training.balancing.imtl_g import imtl_g
from reprkit.training.balancing.mgda import mgda
from reprkit.training.balancing.nash_mtl import nash_mtl
from reprkit.training.balancing.pcgrad import pcgrad


def seeded_pcgrad(G):
    return pcgrad(G, generator=torch.Generator().manual_seed(0))


METHODS = {
    "pcgrad": seeded_pcgrad,
    "cagrad": cagrad,
    "cagrad c=0.9": lambda G: cagrad(G, c=0.9),
    "imtl_g": imtl_g,
    "nash_mtl": nash_mtl,
    "mgda": mgda,
    "mgda l2": lambda G: mgda(G, normalise="l2"),
}
ORDERLESS = [name for name in METHODS if name != "pcgrad"]
all_methods = pytest.mark.parametrize("name", METHODS)
examples = settings(max_examples=40, deadline=None, derandomize=True)


@st.composite
def jacobians(draw, min_tasks=1, max_tasks=6, singular=True):
    """J [K, P] of any rank, gradients within a factor of 100 of each other."""
    tasks = draw(st.integers(min_tasks, max_tasks))
    rank = draw(st.integers(1, tasks)) if singular else tasks
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    J = rng.normal(size=(tasks, rank)) @ rng.normal(size=(rank, 8))
    J = J * 10 ** rng.uniform(-1, 1, size=(tasks, 1))
    assume(unit(J)[1] > 1e-3)  # at the edge of singular a weight may be anything
    return J


def unit(J):
    """Unit gradients and their smallest singular value but for exact zeros."""
    rows = J / np.linalg.norm(J, axis=1, keepdims=True)
    values = np.linalg.svd(rows, compute_uv=False)
    return rows, values[values > 1e-9].min()


def gram(J):
    J = torch.as_tensor(J)
    return J @ J.T


def update_error(J, w, expected):
    """|J'w - J'expected| relative to what J'w is a sum of."""
    J, w, expected = np.asarray(J), np.asarray(w), np.asarray(expected)
    size = np.abs(expected) @ np.linalg.norm(J, axis=1)
    return np.linalg.norm(J.T @ (w - expected)) / size


@all_methods
@examples
@given(tasks=st.integers(1, 6), power=st.sampled_from([-15, -6, 0, 0.3, 7, 15]), seed=st.integers(0, 2**32 - 1))
def test_identical_tasks_give_the_plain_sum(name, tasks, power, seed):
    g = np.random.default_rng(seed).normal(size=5) * 10.0**power
    w = METHODS[name](gram(np.tile(g, (tasks, 1))))
    np.testing.assert_allclose(w, 1, rtol=1e-6)


@pytest.mark.parametrize("name", ORDERLESS)
@examples
@given(J=jacobians(), seed=st.integers(0, 999))
def test_order_of_the_tasks_does_not_matter(name, J, seed):
    order = np.random.default_rng(seed).permutation(len(J))
    w, moved = METHODS[name](gram(J)), METHODS[name](gram(J[order]))
    assert update_error(J[order], moved, w[order]) < 2e-6
    if np.linalg.matrix_rank(J) == len(J):
        np.testing.assert_allclose(moved, w[order], rtol=1e-6, atol=1e-6 * float(w.abs().max()))


@examples
@given(J=jacobians(min_tasks=2, max_tasks=2))
def test_order_of_two_tasks_does_not_matter_to_pcgrad(J):
    np.testing.assert_allclose(pcgrad(gram(J[::-1].copy())), pcgrad(gram(J)).flip(0), rtol=1e-9)


@all_methods
@examples
@given(J=jacobians(), power=st.floats(-15, 15))
def test_common_scale_does_not_matter(name, J, power):
    w, scaled = METHODS[name](gram(J)), METHODS[name](gram(J * 10**power))
    assert torch.isfinite(scaled).all()
    assert update_error(J, scaled, w) < 2e-6


@pytest.mark.parametrize("name", ["imtl_g", "nash_mtl", "mgda", "mgda l2", "pcgrad"])
@examples
@given(J=jacobians(), power=st.integers(-15, 15))
def test_no_loss_rises(name, J, power):
    if name == "pcgrad":
        J = J[:2]
    J = J * 10.0**power
    w = METHODS[name](gram(J)).numpy()
    rows, _ = unit(J)
    assert (rows @ (J.T @ w)).min() >= -2e-6 * (np.abs(w) @ np.linalg.norm(J, axis=1))


@all_methods
@examples
@given(J=jacobians(max_tasks=4), where=st.lists(st.integers(0, 4), min_size=1, max_size=2))
def test_tasks_without_a_gradient_take_no_part(name, J, where):
    if name == "pcgrad":
        J = J[:2]  # the orders drawn depend on the number of tasks
    G = gram(J).numpy()
    alone, mask = METHODS[name](torch.as_tensor(G)).numpy(), np.ones(len(J), bool)
    for place in where:
        place = min(place, len(mask))
        G, mask = np.insert(np.insert(G, place, 0.0, axis=0), place, 0.0, axis=1), np.insert(mask, place, False)
    for square in (0.0, 1e-310):  # subnormal is as good as zero
        G[~mask, ~mask] = square
        w = METHODS[name](torch.as_tensor(G)).numpy()
        np.testing.assert_allclose(w[mask], alone, rtol=1e-12)
        np.testing.assert_array_equal(w[~mask], 1)


@all_methods
@pytest.mark.parametrize("tasks", [1, 2, 5])
def test_no_gradient_at_all_gives_ones(name, tasks):
    np.testing.assert_array_equal(METHODS[name](torch.zeros(tasks, tasks)), np.ones(tasks))


@all_methods
def test_one_task_is_its_gradient(name):
    for square in (1e-30, 0.04, 1.0, 1e30):
        np.testing.assert_allclose(METHODS[name](torch.tensor([[square]], dtype=torch.float64)), 1, rtol=1e-12)


@all_methods
@examples
@given(J=jacobians(min_tasks=2), seed=st.integers(0, 999))
def test_gradients_of_very_different_lengths(name, J, seed):
    lengths = 10 ** np.random.default_rng(seed).uniform(-6, 6, size=(len(J), 1))
    w = METHODS[name](gram(J * lengths))
    assert w.shape == (len(J),)
    assert torch.isfinite(w).all()


@pytest.mark.parametrize("name", ["imtl_g", "nash_mtl", "mgda", "mgda l2"])
@pytest.mark.parametrize("ratio", [1.0, 3.0, 1e3])
def test_opposed_gradients_give_no_update(name, ratio):
    J = np.array([[0.6, 0.8], [-0.6 * ratio, -0.8 * ratio]])
    w = METHODS[name](gram(J)).numpy()
    np.testing.assert_allclose(w, [2 * ratio / (1 + ratio), 2 / (1 + ratio)], rtol=1e-6)
    np.testing.assert_allclose(J.T @ w, 0, atol=1e-9)


@all_methods
def test_orthogonal_gradients_of_one_length_are_summed(name):
    J = 3 * torch.eye(4, dtype=torch.float64)
    w = METHODS[name](J @ J.T)
    if "cagrad" in name:  # d = (1 + c) g0, divided by 1 + c
        np.testing.assert_allclose(J.T @ w, 3 * np.ones(4), rtol=1e-6)
    np.testing.assert_allclose(w, 1, rtol=1e-6)


@all_methods
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtype_is_kept(name, dtype):
    J = torch.tensor([[1.0, 0.5], [-0.5, 2.0], [0.25, -0.5]], dtype=torch.float64)
    G = J @ J.T
    w = METHODS[name](G.to(dtype).requires_grad_())
    assert w.dtype == dtype
    assert not w.requires_grad
    tolerance = {torch.float64: 0, torch.float32: 1e-3}.get(dtype)
    if tolerance is not None and name != "mgda":  # rank 2, 0 in the hull: MGDA's weights move with the noise
        np.testing.assert_allclose(w.double(), METHODS[name](G), rtol=tolerance, atol=tolerance)


@all_methods
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_gramian_that_is_not_finite_is_refused(name, bad):
    G = torch.eye(3)
    G[0, 1] = bad
    with pytest.raises(ValueError, match="not finite"):
        METHODS[name](G)


@all_methods
def test_what_is_no_gramian_is_refused(name):
    with pytest.raises(ValueError, match="square"):
        METHODS[name](torch.ones(2, 3))
    with pytest.raises(ValueError, match="negative diagonal"):
        METHODS[name](torch.diag(torch.tensor([1.0, -1.0])))


def test_options_are_checked():
    G = torch.eye(2)
    for wrong in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="c must be"):
            cagrad(G, c=wrong)
    with pytest.raises(ValueError, match="rescale"):
        cagrad(G, rescale=3)
    with pytest.raises(ValueError, match="scale must be"):
        nash_mtl(G, scale="mean")
    with pytest.raises(ValueError, match="normalise must be"):
        mgda(G, normalise="l1")
    for losses in (None, torch.ones(3)):
        with pytest.raises(ValueError, match="needs the losses"):
            mgda(G, normalise="loss", losses=losses)
    for wrong in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="losses of 0 or more"):
            mgda(G, normalise="loss+", losses=torch.tensor([1.0, wrong]))
