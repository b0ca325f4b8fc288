"""GradDrop against a loop over elements, and its promises."""

import importlib

import numpy as np
import pytest
import torch

from reprkit.training.balancing.graddrop import graddrop


def jacobian(*shape, seed=0, dtype=torch.float32):
    J = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    J[0, ..., 0] = 0
    J[:, ..., 1] = 0
    J[:, ..., 2] = J[:, ..., 2].abs()
    J[:, ..., 3] = -J[:, ..., 3].abs()
    return J


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def one_element(g, signs, u, leak):
    """The paper's Algorithm 1 for one element: `g` [K] is masked by the signs of `signs` [K]."""
    size = sum(abs(s) for s in signs)
    if size == 0:
        return leak * sum(g)
    p = 0.5 * (1 + sum(signs) / size)
    return sum((leak + (1 - leak) * ((p > u) * (s > 0) + (p < u) * (s < 0))) * x for x, s in zip(g, signs, strict=True))


@pytest.mark.parametrize("leak", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(3, 40), (1, 7), (5, 4, 3, 6)])
def test_equals_a_loop_over_elements(monkeypatch, leak, shape):
    monkeypatch.setattr(importlib.import_module("reprkit.training.balancing.graddrop"), "CHUNK", 16)
    J = jacobian(*shape)
    update = graddrop(J, generator=seeded(), leak=leak)
    draws, flat = seeded(), J.reshape(len(J), -1).double()
    u = torch.cat([torch.rand(part.shape[1], generator=draws) for part in flat.split(16, dim=1)]).tolist()
    expected = [one_element(flat[:, i].tolist(), flat[:, i].tolist(), u[i], leak) for i in range(flat.shape[1])]
    assert update.shape == J.shape[1:]
    assert update.dtype == J.dtype
    np.testing.assert_allclose(update.flatten(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("leak", [0.0, 0.3])
def test_representation_form_equals_a_loop_over_features(leak):
    J, z = jacobian(3, 6, 5, seed=1).double(), torch.randn(6, 5, generator=seeded(2)).double()
    update = graddrop(J, generator=seeded(), leak=leak, activation=z)
    u = torch.rand(5, generator=seeded()).tolist()
    expected = torch.empty(6, 5)
    for f in range(5):
        signs = (z[:, f].sign() * J[:, :, f]).sum(1).tolist()
        for b in range(6):
            expected[b, f] = one_element(J[:, b, f].tolist(), signs, u[f], leak)
    np.testing.assert_allclose(update, expected, rtol=1e-6, atol=1e-12)


def test_ranks_that_reduce_agree_with_one_that_has_all_samples():
    J, z = jacobian(3, 8, 2, 4, seed=1), torch.randn(8, 2, 4, generator=seeded(2))
    whole = graddrop(J, generator=seeded(), activation=z)
    sums = [(z[half].sign() * J[:, half]).sum(1) for half in (slice(0, 4), slice(4, 8))]
    parts = [
        graddrop(J[:, half], generator=seeded(), activation=z[half], reduce=lambda s, other=other: s + other)
        for half, other in ((slice(0, 4), sums[1]), (slice(4, 8), sums[0]))
    ]
    np.testing.assert_allclose(torch.cat(parts), whole, rtol=1e-6)


@pytest.mark.parametrize("tasks", [1, 2, 3])
@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e15])
def test_identical_tasks_give_exactly_k_times_the_gradient(tasks, scale):
    g = scale * torch.randn(500, 9, generator=seeded(3))
    assert torch.equal(graddrop(g.expand(tasks, 500, 9), generator=seeded()), tasks * g)
    z = torch.randn(500, 9, generator=seeded(4))
    assert torch.equal(graddrop(g.expand(tasks, 500, 9), generator=seeded(), activation=z), tasks * g)


def test_agreement_is_never_dropped_even_at_the_ends_of_the_draw(monkeypatch):
    g = torch.tensor([[1.0, -1.0, 0.0], [2.0, -3.0, 0.0]])
    for end in (0.0, 1 - 2**-24):
        monkeypatch.setattr(torch, "rand", lambda *size, end=end, **_: torch.full(size[0], end))
        assert torch.equal(graddrop(g), g.sum(0))


def test_full_leak_is_the_sum():
    J, z = jacobian(4, 6, 5), torch.randn(6, 5, generator=seeded(2))
    for activation in (None, z):
        np.testing.assert_allclose(graddrop(J, leak=1.0, activation=activation), J.sum(0), rtol=1e-5, atol=1e-6)


def test_expectation():
    """E u = P (positive part) + (1 - P) (negative part), with U uniform in each element on its own."""
    J = torch.randn(3, 6, generator=seeded(1))
    positive, negative = J.clamp(min=0).sum(0), J.clamp(max=0).sum(0)
    p = 0.5 * (1 + J.sum(0) / J.abs().sum(0))
    updates = graddrop(J[:, None].expand(3, 20_000, 6), generator=seeded())
    error = (updates.mean(0) - (p * positive + (1 - p) * negative)).abs()
    assert (error <= 5 * updates.std(0) / 20_000**0.5).all()
    assert (updates.std(0)[(p > 0.05) & (p < 0.95)] > 0).all()
    assert (
        np.abs(np.corrcoef(updates[:, (p > 0.05) & (p < 0.95)].T) - np.eye(int(((p > 0.05) & (p < 0.95)).sum()))).max()
        < 0.05
    )


def test_the_generator_decides():
    J = torch.randn(3, 100, generator=seeded(1))
    made = seeded()
    first, second = graddrop(J, generator=made), graddrop(J, generator=made)
    torch.manual_seed(0)
    assert torch.equal(first, graddrop(J, generator=seeded()))
    assert torch.equal(first, graddrop(J))
    assert not torch.equal(first, second)


def test_gradients_are_left_alone():
    J = torch.randn(3, 10, generator=seeded(1))
    before = J.clone()
    graddrop(J, leak=0.5)
    graddrop(J[:, None], activation=torch.ones(1, 10))
    assert torch.equal(J, before)


def test_wrong_use():
    J = torch.ones(2, 4, 3)
    for leak in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="leak"):
            graddrop(J, leak=leak)
    with pytest.raises(ValueError, match="does not fit"):
        graddrop(J, activation=torch.ones(3, 4))
    with pytest.raises(ValueError, match="needs activation"):
        graddrop(J, reduce=lambda s: s)
