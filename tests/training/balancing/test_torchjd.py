"""Agreement with torchjd, once its scales are turned into ours."""

import numpy as np
import pytest
import torch

from reprkit.training.balancing.cagrad import cagrad
from reprkit.training.balancing.imtl_g import imtl_g
from reprkit.training.balancing.mgda import mgda
from reprkit.training.balancing.nash_mtl import nash_mtl
from reprkit.training.balancing.pcgrad import pcgrad

aggregation = pytest.importorskip("torchjd.aggregation")
seeds = pytest.mark.parametrize("seed", range(20))


def problem(seed, tasks=None, spread=1.0):
    rng = np.random.default_rng(seed)
    tasks = tasks or rng.integers(2, 6)
    J = rng.normal(size=(tasks, 8)) * 10 ** rng.uniform(-spread, spread, size=(tasks, 1))
    J = torch.as_tensor(J)
    return J, J @ J.T


@seeds
def test_pcgrad_of_two_tasks(seed):
    _, G = problem(seed, tasks=2)
    np.testing.assert_allclose(pcgrad(G), aggregation.PCGradWeighting()(G), rtol=1e-6)


@seeds
def test_imtl_g(seed):
    _, G = problem(seed)
    theirs = aggregation.IMTLGWeighting()(G)
    if theirs.sum() <= 0.1 * theirs.abs().sum():
        pytest.skip("weights cancel: another scale by design")
    np.testing.assert_allclose(imtl_g(G), theirs * len(G) / theirs.sum(), rtol=1e-6, atol=1e-7)


@seeds
@pytest.mark.parametrize("c", [0.4, 0.8])
def test_cagrad_direction(seed, c):
    pytest.importorskip("cvxpy")
    J, G = problem(seed, spread=0.5)
    ours = J.T @ cagrad(G, c=c, rescale=0) / len(G)
    theirs = J.T @ aggregation.CAGradWeighting(c=c)(G)
    assert (ours - theirs).norm() <= 1e-3 * theirs.norm()


@seeds
def test_mgda_objective(seed):
    _, G = problem(seed, spread=0.3)
    ours, theirs = mgda(G) / len(G), aggregation.MGDAWeighting(epsilon=1e-5, max_iters=2000)(G)
    best = ours @ G @ ours
    assert best <= (theirs @ G @ theirs) * (1 + 1e-9)
    assert theirs @ G @ theirs - best <= 1e-3 * G.diagonal().max()


@seeds
def test_nash_direction_where_their_solver_converges(seed):
    pytest.importorskip("cvxpy")
    pytest.importorskip("ecos")
    J, G = problem(seed, tasks=3, spread=0.1)
    theirs = aggregation.NashMTL(n_tasks=3, max_norm=0.0, optim_niter=100)(J)
    projections = J @ theirs  # w with G w = 1 / w, if they found it
    if float((J.T @ (1 / projections) - theirs).norm()) > 1e-3 * theirs.norm():
        pytest.skip("torchjd's solver did not converge")
    np.testing.assert_allclose(J.T @ nash_mtl(G, scale="nash"), theirs, rtol=1e-2, atol=2e-3)
