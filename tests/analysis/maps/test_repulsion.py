"""Repulsion on a grid against the sum over all pairs, and openTSNE's divergence and gradient."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline
from scipy.sparse import random_array

from reprkit.analysis.maps.repulsion import (
    LEAST_NODES,
    WIDEST,
    Divergence,
    Repulsion,
    node_spacing,
    spline,
    spline_power,
)

tsne = pytest.importorskip("openTSNE.tsne")
GRID = {"n_interpolation_points": 3, "min_num_intervals": 50, "ints_in_interval": 1}


def of_all_pairs(points):
    apart = points[:, None] - points
    kernel = 1 / (1 + (apart**2).sum(axis=2))
    return (kernel[..., None] ** 2 * apart).sum(axis=1), kernel.sum() - len(points)


def error(found, exact):
    return np.linalg.norm(found - exact) / np.linalg.norm(exact)


@pytest.mark.parametrize(
    ("spread", "of_forces", "of_sum"), [(1e-4, 2e-5, 1e-6), (1, 2e-3, 1e-4), (8, 0.03, 1e-3), (25, 0.05, 5e-3)]
)
def test_forces_and_their_sum(spread, of_forces, of_sum):
    points = spread * np.random.default_rng(0).normal(size=(1200, 2)) + [3 * spread, -spread]
    forces, total = Repulsion()(points)
    exact, sum_of_pairs = of_all_pairs(points)
    assert error(forces, exact) < of_forces
    assert abs(total / sum_of_pairs - 1) < of_sum


def test_nearer_to_the_sum_over_pairs_than_opentsne_on_a_wide_map():
    points = 25 * np.random.default_rng(1).normal(size=(1200, 2))
    exact, sum_of_pairs = of_all_pairs(points)
    theirs = np.zeros_like(points)
    total = tsne._tsne.estimate_negative_gradient_fft_2d(points, theirs, 3, 50, 1, dof=1)
    forces, ours = Repulsion()(points)
    assert error(forces, exact) < error(-theirs * total, exact)
    assert abs(ours - sum_of_pairs) < abs(total - sum_of_pairs)


def test_one_object_serves_maps_of_changing_size():
    rng, kept = np.random.default_rng(2), Repulsion()
    for spread in (0.1, 9, 9.1, 2, 20, 0.1):
        points = spread * rng.normal(size=(300, 2))
        again, total = Repulsion()(points)
        forces, same = kept(points)
        assert forces.tobytes() == again.tobytes()
        assert same == total


def test_threads_change_no_bit():
    points = 9 * np.random.default_rng(3).normal(size=(500, 2))
    one, two = (Repulsion()(points, workers=n)[0] for n in (1, 2))
    assert one.tobytes() == two.tobytes()


def test_points_on_one_spot():
    forces, total = Repulsion()(np.zeros((4, 2)))
    np.testing.assert_allclose(forces, 0, atol=1e-6)
    assert total == pytest.approx(12, rel=1e-5)


def test_a_point_does_not_repel_itself():
    """Few points on a wide map: interpolation makes a point's K with itself more than 1."""
    points = np.array([[0.0, 0], [40, 0], [17.3, 21.9]])
    forces, total = Repulsion()(points)
    exact, sum_of_pairs = of_all_pairs(points)
    np.testing.assert_allclose(forces, exact, atol=1e-6)
    assert total == pytest.approx(sum_of_pairs, abs=1e-5)


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-8, 1e4))
def test_nodes_are_as_wide_apart_as_allowed_within_a_step(span):
    spacing, allowed = node_spacing(span), min(WIDEST, span / LEAST_NODES)
    assert allowed / 2**0.25 * (1 - 1e-9) <= spacing <= allowed * (1 + 1e-9)


@given(st.floats(-0.5, 0.5))
def test_a_point_is_spread_by_the_b_spline_of_scipy(place):
    nodes = np.array([-1.0, 0, 1])
    expected = BSpline.basis_element([-1.5, -0.5, 0.5, 1.5], extrapolate=False)(place - nodes)
    np.testing.assert_allclose(spline(np.array(place)), np.nan_to_num(expected), atol=1e-15)


def test_what_spreading_and_reading_leave_of_a_wave():
    frequencies, aliases = np.linspace(-0.5, 0.5, 21), np.arange(-200, 201)[:, None]
    expected = (np.sinc(frequencies + aliases) ** 6).sum(axis=0)
    np.testing.assert_allclose(spline_power(frequencies), expected, rtol=1e-12)


def test_divergence_and_gradient_are_those_of_opentsne():
    """On a small map, where both grids are fine; the gradient there is not the small rest of two large forces."""
    rng = np.random.default_rng(4)
    points = rng.normal(size=(400, 2))
    affinities = random_array((400, 400), density=0.05, rng=rng, format="csr")
    affinities.data /= affinities.data.sum()
    kl, gradient = Divergence()(points, affinities, should_eval_error=True)
    theirs, expected = tsne.kl_divergence_fft(points, affinities, 1, GRID, should_eval_error=True)
    assert kl == pytest.approx(theirs, abs=1e-5)
    assert error(gradient, expected) < 1e-3
    assert Divergence()(points, affinities)[0] == 0
