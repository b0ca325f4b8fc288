"""DGR of dense heads: every form against a double backward, what it holds in memory, and what must not matter."""

import copy
import warnings
import weakref
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reprkit.errors import InputError
from reprkit.models.aspp import ASPPHead
from reprkit.models.mtan import AttentionHead
from reprkit.tasks import Task
from reprkit.training import conv_norms
from reprkit.training.conv_norms import Kernels, gram_pays, parameters_of, squared_norm
from reprkit.training.dgr import DummyGradientNorm
from reprkit.training.ranks import Ranks

TASKS = (
    Task("seg", "segmentation", 4), Task("depth", "depth", 1), Task("normals", "normals", 3),
    Task("edges", "edges", 1),
)  # fmt: skip
CHOICES = {"model": gram_pays, "always": lambda *_, **__: True, "never": lambda *_, **__: False}


@pytest.fixture(params=list(CHOICES))
def choice(request, monkeypatch):
    """Which convolutions take the Gram form."""
    monkeypatch.setattr(conv_norms, "gram_pays", CHOICES[request.param])
    return request.param


def targets_of(count=2, size=(12, 17), seed=0):
    g = torch.Generator().manual_seed(seed)
    targets = {
        "seg": torch.randint(-1, 4, (count, *size), generator=g),
        "depth": 5 * torch.rand(count, *size, generator=g, dtype=torch.float64),
        "normals": F.normalize(torch.randn(count, 3, *size, generator=g, dtype=torch.float64), dim=1),
        "edges": torch.randint(-1, 2, (count, *size), generator=g),
    }
    targets["depth"][:, :3] = float("nan")
    targets["normals"][0, :, :, :5] = float("nan")
    return targets


def aspp(dim=9, channels=6, rates=(1, 2), seed=0):
    torch.manual_seed(seed)
    return {task.name: ASPPHead(dim, task.num_outputs, channels, rates).double() for task in TASKS}


def map_of(count=2, dim=9, size=(4, 5), seed=1):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(count, dim, *size, generator=g, dtype=torch.float64).relu().requires_grad_()


def dgr(heads, **options):
    return DummyGradientNorm(heads, TASKS, **{"num_dummies": 2, **options}).double()


def double_backward(penalty, z, targets):
    """R by differentiating trainable copies of all dummies in one graph."""
    total = 0
    for heads in penalty.sets:
        for head, task in zip(heads, penalty.tasks, strict=True):
            head = copy.deepcopy(head).requires_grad_(True)
            loss = task.loss(head(z), targets[task.name])
            gradients = torch.autograd.grad(loss, list(head.parameters()), create_graph=True)
            total = total + torch.sqrt(sum((g**2).sum() for g in gradients)) ** penalty.power
    return total / len(penalty.sets)


def assert_same(penalty, z, targets):
    leaves = z if isinstance(z, tuple) else (z,)
    value, expected = penalty(z, targets), double_backward(penalty, z, targets)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    got = torch.autograd.grad(value, leaves)
    for a, b in zip(got, torch.autograd.grad(expected, leaves), strict=True):
        assert b.abs().max() > 0
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12 * float(b.abs().max()))


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize(
    ("size", "rates"),
    [((4, 5), (1, 2)), ((6, 3), (2, 4)), ((4, 5), (12, 24, 36)), ((1, 7), (1, 3)), ((5, 4), ())],
)
def test_aspp_equals_double_backward(choice, size, rates, power):
    """Also where rates are larger than the map in one direction or both."""
    assert_same(dgr(aspp(rates=rates), power=power), map_of(size=size), targets_of())


def test_aspp_in_channels_last_equals_double_backward(choice):
    z = map_of().detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    assert_same(dgr(aspp()), z, targets_of())


def test_mtan_heads_on_a_tuple_of_maps_equal_double_backward(choice):
    torch.manual_seed(0)
    widths = [4, 6]
    heads = {
        task.name: AttentionHead(widths, ASPPHead(widths[-1], task.num_outputs, 5, (1, 2))).double() for task in TASKS
    }
    z = (map_of(dim=4, size=(8, 6)), map_of(dim=4, size=(8, 6), seed=2), map_of(dim=6), map_of(dim=6, seed=3))
    z = (*z[:2], *(F.pad(m, (0, -2)).detach().requires_grad_() for m in z[2:]))  # 4 x 3
    assert_same(dgr(heads), z, targets_of())


class Odd(nn.Module):
    """Everything that the Gram form must leave alone, or see once: strides, groups, a weight in two places."""

    def __init__(self, outputs):
        super().__init__()
        self.twice = nn.Conv2d(6, 6, 3, padding=1)
        self.tied = nn.Conv2d(6, 6, 1)
        self.grouped = nn.Conv2d(6, 6, 3, padding=1, groups=2)
        self.strided = nn.Conv2d(6, 6, 3, stride=2, padding=1)
        self.even = nn.Conv2d(6, 6, 2, padding=1)
        self.reflected = nn.Conv2d(6, 6, 3, padding=1, padding_mode="reflect")
        self.same = nn.Conv2d(6, 6, 3, padding="same", dilation=2)
        self.wide = nn.Conv2d(6, 6, (1, 5), padding=(0, 4), dilation=(1, 2))
        self.unused = nn.Conv2d(6, 6, 1)
        self.scale = nn.Parameter(torch.randn(6, 1, 1))
        self.out = nn.Conv2d(6, outputs, 1)

    def reset_parameters(self):
        nn.init.normal_(self.scale)

    def forward(self, z):
        self.unused(z)
        x = self.twice(self.twice(z).tanh()) + self.tied(z).tanh() * self.tied.weight.mean() * self.scale
        for layer in (self.grouped, self.reflected, self.same, self.wide, self.even, self.strided):
            x = layer(x).tanh() + (x if layer is self.wide else 0)
        return self.out(x)


def test_any_head_equals_double_backward(choice):
    torch.manual_seed(0)
    heads = {task.name: Odd(task.num_outputs).double() for task in TASKS}
    z, targets = map_of(dim=6), targets_of()
    penalty = dgr(heads)
    for head in penalty.sets.modules():
        if isinstance(head, Odd):
            head.unused.requires_grad_(False)
    expected = 0
    for dummies in penalty.sets:
        for head, task in zip(dummies, TASKS, strict=True):
            own = parameters_of(head)
            loss = task.loss(torch.func.functional_call(head, own, (z,)), targets[task.name])
            found = torch.autograd.grad(loss, list(own.values()), create_graph=True, allow_unused=True)
            expected = expected + sum((g**2).sum() for g in found if g is not None).sqrt() / 2
    value = penalty(z, targets)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    got, want = torch.autograd.grad(value, z)[0], torch.autograd.grad(expected, z)[0]
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12 * float(want.abs().max()))


def test_gradient_is_the_numeric_derivative(choice):
    penalty, z, targets = dgr(aspp()), map_of(), targets_of()
    slope = torch.autograd.grad(penalty(z, targets), z)[0]
    direction = torch.randn(z.shape, generator=torch.Generator().manual_seed(5), dtype=z.dtype)
    h = 1e-6
    with torch.no_grad():
        change = penalty(z + h * direction, targets) - penalty(z - h * direction, targets)
    torch.testing.assert_close((slope * direction).sum(), change / (2 * h), rtol=1e-6, atol=0)


def test_float32_keeps_four_digits(choice):
    penalty, z, targets = dgr(aspp(dim=40, channels=16)), map_of(dim=40), targets_of()
    exact = torch.autograd.grad(penalty(z, targets), z)[0]
    single = z.detach().float().requires_grad_()
    value = penalty.float()(single, targets)
    assert value.dtype == torch.float32
    rough = torch.autograd.grad(value, single)[0]
    assert (rough - exact).norm() / exact.norm() < 1e-4


def test_only_valid_pixels_matter(choice):
    """An image without labels changes nothing and gets no gradient; the order of the images is free."""
    penalty, z, targets = dgr(aspp()), map_of(count=3), targets_of(count=3)
    void = {name: t.clone() for name, t in targets.items()}
    for t in void.values():
        t[2] = float("nan") if t.is_floating_point() else -1
    value = penalty(z, void)
    torch.testing.assert_close(value, penalty(z[:2], {n: t[:2] for n, t in targets.items()}), rtol=1e-12, atol=0)
    slope = torch.autograd.grad(value, z)[0]
    assert slope[:2].abs().max() > 0
    assert slope[2].abs().max() < 1e-12 * slope.abs().max()
    order = torch.tensor([2, 0, 1])
    turned = penalty(z[order], {n: t[order] for n, t in targets.items()})
    torch.testing.assert_close(turned, penalty(z, targets), rtol=1e-12, atol=0)


def test_no_valid_pixel_gives_zero(choice):
    z = map_of()
    targets = {n: torch.full_like(t, float("nan") if t.is_floating_point() else -1) for n, t in targets_of().items()}
    value = dgr(aspp())(z, targets)
    assert value == 0
    assert torch.equal(torch.autograd.grad(value, z)[0], torch.zeros_like(z))


def test_dummies_are_fixed_functions(choice):
    """Neither training mode, nor dropout, nor BatchNorm's batch statistics: and no buffer moves."""
    penalty, z, targets = dgr(aspp()).train(), map_of(), targets_of()
    before, state = copy.deepcopy(penalty.state_dict()), torch.get_rng_state()
    first = penalty(z, targets)
    assert torch.equal(first, penalty(z, targets))
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in penalty.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in penalty.parameters())


@dataclass(eq=False)
class Saved:
    tensor: torch.Tensor


def most_saved(penalty, z, targets):
    """Most bytes that graphs hold at once, those that they hold in the end, and the value."""
    alive, most = weakref.WeakSet(), 0

    def pack(tensor):
        nonlocal most
        kept = Saved(tensor)
        alive.add(kept)
        most = max(most, sum(s.tensor.nbytes for s in alive))
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        value = penalty(z, targets)
    return most, sum(s.tensor.nbytes for s in alive), value


def test_one_dummy_at_a_time_is_in_memory(choice):
    z, targets = map_of(), targets_of()
    one, after_one, _ = most_saved(dgr(aspp(), num_dummies=1), z, targets)
    six, after_six, value = most_saved(dgr(aspp(), num_dummies=6), z, targets)
    assert six < 1.05 * one
    assert after_one == after_six == z.nbytes  # the gradient that the value carries
    value.backward()
    assert z.grad is not None
    with pytest.raises(RuntimeError, match="second time"):
        value.backward()


def test_a_second_derivative_is_refused():
    z = map_of()
    (slope,) = torch.autograd.grad(dgr(aspp())(z, targets_of()), z, create_graph=True)
    with pytest.raises(RuntimeError):
        slope.sum().backward()


class Smooth(nn.Sequential):
    def __init__(self, outputs):
        super().__init__(nn.Conv2d(9, 8, 3, padding=2, dilation=2), nn.Tanh(), nn.Conv2d(8, outputs, 1))


def test_finite_difference_agrees_for_smooth_dense_heads():
    torch.manual_seed(0)
    tasks = TASKS[:1]
    heads = {task.name: Smooth(task.num_outputs).double() for task in tasks}
    z, targets = map_of(), targets_of()
    slopes = []
    for options in ({}, {"estimator": "finite_difference", "step": 1e-5}):
        penalty = DummyGradientNorm(heads, tasks, power=2, **options).double()
        slopes.append(torch.autograd.grad(penalty(z, targets), z)[0])
    assert F.cosine_similarity(slopes[0].flatten(), slopes[1].flatten(), dim=0) > 0.9999
    assert (slopes[1].norm() / slopes[0].norm()).item() == pytest.approx(1, abs=1e-2)


def test_another_activation_is_refused():
    with pytest.raises(InputError, match="ASPPHead"):
        dgr(aspp(), activation="gelu")


def test_finite_difference_holds_no_graph_behind():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        penalty = dgr(aspp(), estimator="finite_difference")
    z = map_of()
    _, after, value = most_saved(penalty, z, targets_of())
    assert after == z.nbytes
    value.backward()
    assert z.grad.isfinite().all()


def test_random_direction_keeps_the_norm_on_every_map():
    torch.manual_seed(0)
    heads = {task.name: AttentionHead([4], ASPPHead(4, task.num_outputs, 5, (1,))).double() for task in TASKS}
    z, targets = (map_of(dim=4), map_of(dim=4, seed=2)), targets_of()
    real, control = dgr(heads), dgr(heads, control="random_direction")
    values = real(z, targets), control(z, targets)
    torch.testing.assert_close(*values)
    true, noise = (torch.cat([g.flatten() for g in torch.autograd.grad(v, z)]) for v in values)
    torch.testing.assert_close(true.norm(), noise.norm())
    assert F.cosine_similarity(true, noise, dim=0).abs() < 0.5


class Twin(Ranks):
    """The first of two ranks that hold the same batch: means over ranks are this one's values."""

    def __init__(self):
        super().__init__(0, 2)
        self.__dict__["calls"] = []

    def mean_through(self, x):
        self.calls.append(x.shape)
        return x


def test_ranks_average_every_gradient_before_the_norm():
    z, targets, ranks = map_of(), targets_of(), Twin()
    alone, two = dgr(aspp()), dgr(aspp(), ranks=ranks)
    values = alone(z, targets), two(z, targets)
    torch.testing.assert_close(*values, rtol=1e-12, atol=0)
    a, b = (torch.autograd.grad(v, z)[0] for v in values)
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)
    assert sorted(ranks.calls) == sorted(p.shape for p in two.parameters())


def test_mean_is_taken_of_the_gradients():
    head, z, task = aspp()["seg"].eval(), map_of(), TASKS[0]

    def loss(outputs):
        return task.loss(outputs, targets_of()["seg"])

    plain = squared_norm(head, (z,), loss)
    torch.testing.assert_close(squared_norm(head, (z,), loss, mean=lambda g: 3 * g), 9 * plain)


def test_kernels_are_formed_once_for_all_heads(monkeypatch):
    """Three heads with four first layers: the Gram matrix of the map once, K once a dilation that meets the map."""
    monkeypatch.setattr(conv_norms, "gram_pays", lambda *_, shared, **__: shared)
    formed = []
    monkeypatch.setattr(conv_norms._Gram, "forward", staticmethod(_counted(conv_norms._Gram.forward, formed)))
    kernels = Kernels((map_of(),))
    for head in list(aspp(rates=(1, 2, 12)).values())[:3]:
        squared_norm(head.eval(), kernels.maps, lambda y: y.square().mean(), kernels)
    assert len(formed) == 1
    assert len(kernels.leaves) == 1 + 3  # the map; K of the 1x1 and of rate 12 (its middle tap), of rates 1 and 2


def _counted(function, calls):
    def wrapped(*args):
        calls.append(args)
        return function(*args)

    return wrapped


def test_the_model_of_costs():
    wide = {"inputs": 2048, "outputs": 256}
    assert gram_pays(384, taps=9, shared=True, **wide)  # two images of 96 x 128
    assert gram_pays(384, taps=1, shared=True, **wide)
    assert not gram_pays(4000, taps=1, shared=True, **wide)  # more products than the gradient
    assert gram_pays(4000, taps=9, shared=True, **wide)
    assert not gram_pays(4100, taps=9, shared=True, **wide)  # 64 MiB
    assert not gram_pays(4000, taps=9, shared=True, itemsize=8, **wide)
    assert gram_pays(384, 256, 256, 9, shared=False)
    assert not gram_pays(384, 1280, 256, 1, shared=False)
