"""DGR against a double backward through the whole network, and what it must leave alone."""

import copy
import warnings

import pytest
import torch
from torch import nn

from reprkit.models import build_model
from reprkit.models.heads import LinearHead, MLPHead
from reprkit.recipe import ModelConfig
from reprkit.tasks import Task
from reprkit.training.dgr import DummyGradientNorm, safe_sqrt

TASKS = (Task("a", "classification", 4), Task("b", "ordinal", 7), Task("c", "regression", 1, mean=2.0, std=3.0))


def batch(size=6, image=8, seed=0):
    g = torch.Generator().manual_seed(seed)
    targets = {
        "a": torch.randint(0, 4, (size,), generator=g),
        "b": torch.randint(0, 7, (size,), generator=g),
        "c": 5 * torch.randn(size, generator=g, dtype=torch.float64),
    }
    targets["a"][0] = -1
    targets["c"][1] = float("nan")
    return torch.randn(size, 3, image, image, generator=g, dtype=torch.float64), targets


def network(hidden=64, activation="relu", seed=0):
    torch.manual_seed(seed)
    model = build_model(ModelConfig("convnet", hidden), TASKS, 3).double()
    if activation != "relu":
        for head in model.heads.values():
            head.activation, head.act = activation, {"gelu": nn.GELU, "tanh": nn.Tanh}[activation]()
    return model.train()


def whole_graph(penalty, model, images, targets):
    """The penalty by differentiating encoder and trainable copies of the dummies in one graph."""
    z = model.encode(images)
    total = 0
    for heads in penalty.sets:
        for head, task in zip(heads, penalty.tasks, strict=True):
            head = copy.deepcopy(head).requires_grad_(True)
            loss = task.loss(head(z), targets[task.name])
            gradients = torch.autograd.grad(loss, list(head.parameters()), create_graph=True)
            total = total + torch.sqrt(sum((g**2).sum() for g in gradients)) ** penalty.power
    return total / len(penalty.sets)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("num_dummies", [1, 3])
@pytest.mark.parametrize(("hidden", "activation"), [(64, "relu"), (64, "gelu"), (64, "tanh"), (0, "relu"), (3, "relu")])
def test_equals_whole_graph_double_backward(power, num_dummies, hidden, activation):
    model = network(hidden, activation)
    images, targets = batch()
    penalty = DummyGradientNorm(model.heads, TASKS, num_dummies=num_dummies, power=power, seed=3)
    expected = whole_graph(penalty, model, images, targets)
    want = torch.autograd.grad(expected, model.shared_parameters())
    value = penalty(model.encode(images), targets)
    got = torch.autograd.grad(value, model.shared_parameters())
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_generic_heads_equal_the_closed_form():
    """A head wrapped so that no closed form applies goes through a double backward and must agree."""
    model = network()
    images, targets = batch()
    z = model.encode(images).detach().requires_grad_()
    closed = DummyGradientNorm(model.heads, TASKS, seed=1)
    generic = copy.deepcopy(closed)
    for k, heads in enumerate(generic.sets):
        generic.sets[k] = nn.ModuleList(nn.Sequential(head) for head in heads)
    a, b = closed(z, targets), generic(z, targets)
    torch.testing.assert_close(a, b, rtol=1e-10, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(r, z)[0] for r in (a, b)), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("batch_size", [4, 300])
def test_gram_and_direct_forms_agree(batch_size):
    """A large batch takes the direct product, a small one the Gram matrix; both equal the double backward."""
    model = network()
    images, targets = batch(batch_size, image=2)
    penalty = DummyGradientNorm(model.heads, TASKS, seed=1)
    torch.testing.assert_close(
        penalty(model.encode(images), targets), whole_graph(penalty, model, images, targets), rtol=1e-10, atol=0
    )


def test_float32_keeps_five_digits():
    model = network()
    images, targets = batch(16)
    penalty = DummyGradientNorm(model.heads, TASKS)
    z = model.encode(images).detach().requires_grad_()
    exact = torch.autograd.grad(penalty(z, targets), z)[0]
    z32 = z.detach().float().requires_grad_()
    single = torch.autograd.grad(penalty(z32, targets), z32)[0]
    assert (single - exact).norm() / exact.norm() < 1e-5


def train_steps(model, penalty, weight, steps=2):
    images, targets = batch()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        z = model.encode(images)
        loss = sum(task.loss(model.heads[task.name](z), targets[task.name]) for task in TASKS)
        if penalty is not None:
            loss = loss + weight * penalty(z, targets)
        loss.backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("control", ["none", "random_direction"])
def test_leaves_everything_but_the_encoder_gradient_as_vanilla_does(control):
    """With weight 0 the whole run is Vanilla's: buffers, head gradients, dummies and random state do not move."""
    plain, regularised = network(), network()
    penalty = DummyGradientNorm(regularised.heads, TASKS, control=control)
    dummies = copy.deepcopy(dict(penalty.named_parameters()))
    state = torch.get_rng_state()
    train_steps(plain, None, 0.0)
    train_steps(regularised, penalty, 0.0)
    assert torch.equal(torch.get_rng_state(), state)
    for (name, a), b in zip(plain.state_dict().items(), regularised.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12, msg=name)
    for name, value in penalty.named_parameters():
        assert torch.equal(value, dummies[name])
        assert not value.requires_grad
        assert value.grad is None
    weighted = network()
    images, targets = batch()
    z = weighted.encode(images)
    penalty(z, targets).backward()
    assert all(p.grad is None for head in weighted.heads.values() for p in head.parameters())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in weighted.shared_parameters())


def test_constructing_leaves_the_random_state_and_seeds_differ():
    model = network()
    state = torch.get_rng_state()
    first = DummyGradientNorm(model.heads, TASKS, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    again, other = DummyGradientNorm(model.heads, TASKS, seed=0), DummyGradientNorm(model.heads, TASKS, seed=1)
    a, b, c = (torch.cat([p.flatten() for p in d.parameters()]) for d in (first, again, other))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert not torch.equal(first.sets[0][0].hidden.weight, first.sets[1][0].hidden.weight)
    assert not torch.equal(first.sets[0][0].hidden.weight, model.heads["a"].hidden.weight)


def gradient_of(z, targets, heads, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        penalty = DummyGradientNorm(heads, TASKS, power=2, **options)
    return torch.autograd.grad(penalty(z, targets), z)[0]


def cosine_to_exact(activation, step, seed):
    torch.manual_seed(seed)
    heads = {task.name: MLPHead(512, task.num_outputs) for task in TASKS}
    _, targets = batch(64, seed=seed)
    z = torch.randn(64, 512).relu().requires_grad_()
    same = {"activation": activation, "seed": seed}
    exact = gradient_of(z, targets, heads, **same)
    difference = gradient_of(z, targets, heads, estimator="finite_difference", step=step, **same)
    return float((exact * difference).sum() / exact.norm() / difference.norm()), float(difference.norm() / exact.norm())


@pytest.mark.parametrize("activation", ["gelu", "tanh", "linear"])
def test_finite_difference_agrees_for_smooth_dummies(activation):
    cosine, ratio = cosine_to_exact(activation, 1e-3, seed=0)
    assert cosine > 0.999
    assert ratio == pytest.approx(1, abs=0.02)


def test_finite_difference_does_not_agree_for_relu_dummies():
    """The published estimator's direction is noise once a hidden unit switches within the step."""
    runs = [cosine_to_exact("relu", 1e-2, seed) for seed in range(4)]
    assert max(abs(cosine) for cosine, _ in runs) < 0.8
    assert min(ratio for _, ratio in runs) > 2


def test_finite_difference_with_relu_warns():
    with pytest.warns(UserWarning, match="noise"):
        DummyGradientNorm(network().heads, TASKS, estimator="finite_difference")


def test_random_direction_has_the_norm_but_not_the_direction():
    model = network()
    images, targets = batch()
    z = model.encode(images).detach().requires_grad_()
    real = DummyGradientNorm(model.heads, TASKS)
    control = DummyGradientNorm(model.heads, TASKS, control="random_direction")
    value = control(z, targets)
    torch.testing.assert_close(value, real(z, targets))
    g = torch.autograd.grad(real(z, targets), z)[0]
    r = torch.autograd.grad(value, z)[0]
    torch.testing.assert_close(r.norm(), g.norm())
    assert abs(float((g * r).sum() / g.norm() ** 2)) < 0.5
    second = torch.autograd.grad(control(z, targets), z)[0]
    assert not torch.equal(r, second)
    resumed = DummyGradientNorm(model.heads, TASKS, control="random_direction")
    resumed.load_state_dict(control.state_dict())
    torch.testing.assert_close(
        torch.autograd.grad(resumed(z, targets), z)[0], torch.autograd.grad(control(z, targets), z)[0]
    )


def test_no_valid_target_gives_zero_and_finite_gradients():
    model = network()
    images, targets = batch()
    missing = {name: torch.full_like(t, -1 if name != "c" else float("nan")) for name, t in targets.items()}
    z = model.encode(images).detach().requires_grad_()
    value = DummyGradientNorm(model.heads, TASKS)(z, missing)
    assert value == 0
    assert torch.equal(torch.autograd.grad(value, z)[0], torch.zeros_like(z))


def test_stays_float32_under_autocast():
    model = network().float()
    images, targets = batch()
    penalty = DummyGradientNorm(model.heads, TASKS)
    with torch.autocast("cpu", torch.bfloat16):
        z = model.encode(images.float()).bfloat16()
        value = penalty(z, targets)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, penalty(z.float(), targets), rtol=0, atol=0)


def test_options_are_checked():
    heads = {task.name: LinearHead(4, task.num_outputs) for task in TASKS}
    with pytest.raises(ValueError, match="power"):
        DummyGradientNorm(heads, TASKS, power=3)
    with pytest.raises(ValueError, match="num_dummies"):
        DummyGradientNorm(heads, TASKS, num_dummies=0)


def test_safe_sqrt_has_zero_slope_at_zero():
    x = torch.tensor([0.0, 4.0], requires_grad=True)
    (slope,) = torch.autograd.grad(safe_sqrt(x).sum(), x)
    assert slope.tolist() == [0.0, 0.25]


def test_dummies_share_no_numbers_with_a_model_of_the_same_seed():
    """Both would begin with the same draws if the dummies were seeded as the model is."""
    torch.manual_seed(0)
    model = build_model(ModelConfig("convnet"), TASKS, 1)
    dummies = DummyGradientNorm(model.heads, TASKS, seed=0)
    ours = torch.cat([p.flatten() for p in model.parameters() if p.dim() > 1])
    for head in dummies.sets[0]:
        theirs = head.hidden.weight.flatten()
        n = min(len(ours), len(theirs), 5000)
        assert abs(torch.corrcoef(torch.stack([ours[:n], theirs[:n]]))[0, 1]) < 0.2
        assert abs(torch.corrcoef(torch.stack([ours[:288], theirs[:288]]))[0, 1]) < 0.3
