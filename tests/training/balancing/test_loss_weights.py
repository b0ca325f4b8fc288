"""Methods that weigh the losses, against closed forms and whole-graph derivatives."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch.func import functional_call
from training_models import TASKS, make_batch, make_model, shared_gradient, task_gradients

from reprkit.recipe import BalancingConfig
from reprkit.training.balancing import build_method
from reprkit.training.balancing.auto_lambda import AutoLambda
from reprkit.training.balancing.dwa import DWA, dwa_weights
from reprkit.training.balancing.gradnorm import GradNorm, gradnorm_slope
from reprkit.training.balancing.imtl_l import IMTLL
from reprkit.training.balancing.uncertainty import Uncertainty
from reprkit.training.objective import ExtraDecoders, Objective
from reprkit.training.update import Update
from reprkit.training.virtual import last_answers, virtual_step


def minimise(method, losses, steps=4000):
    optimizer = torch.optim.Adam(method.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        method.total(losses, torch.ones(3, dtype=torch.bool)).backward()
        optimizer.step()


def test_learnt_weights_start_at_vanilla_and_end_at_their_optimum():
    losses = torch.tensor([0.2, 1.0, 5.0])
    uncertainty, imtl = Uncertainty(3), IMTLL(3)
    for method in (uncertainty, imtl):
        torch.testing.assert_close(method.weights(losses), torch.ones(3))
        minimise(method, losses)
    # d/ds (L / (2 e^s) + s / 2) = 0 at e^s = L; d/ds (e^s L - s) = 0 at e^s L = 1
    torch.testing.assert_close(uncertainty.weights(losses), 1 / (2 * losses), rtol=1e-3, atol=0)
    torch.testing.assert_close(imtl.weights(losses), 1 / losses, rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", ["uncertainty", "imtl_l"])
def test_encoder_gets_the_weighted_gradient(name):
    batch, objective = make_batch(), Objective(make_model(), TASKS)
    rows, heads = task_gradients(objective, batch)
    method = build_method(name, BalancingConfig(), 3, 0).double()
    with torch.no_grad():
        method.s.copy_(torch.tensor([0.3, -1.0, 0.7]))
    terms = method.backward(objective, batch)
    weights = torch.stack([terms[f"weight/{task.name}"] for task in TASKS])
    torch.testing.assert_close(shared_gradient(objective), weights @ rows)
    for k, task in enumerate(TASKS):
        for p, g in zip(objective.own(task), heads[task.name], strict=True):
            torch.testing.assert_close(p.grad, weights[k] * g)


def test_dwa_follows_its_formula_from_the_third_epoch():
    method = DWA(3, temperature=2.0)
    first, second, third = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0.5, 2.0, 3.0]), torch.tensor([0.4, 1.0, 3.3])
    for losses in (first, second):
        torch.testing.assert_close(method.weights(losses), torch.ones(3))
        method.end_epoch(losses)
    ratio = [0.5 / 1, 2.0 / 2, 3.0 / 4]
    total = sum(math.exp(r / 2) for r in ratio)
    expected = torch.tensor([3 * math.exp(r / 2) / total for r in ratio])
    torch.testing.assert_close(method.weights(first), expected)
    method.end_epoch(third)
    torch.testing.assert_close(method.weights(first), dwa_weights(third, second))
    again = DWA(3)
    again.load_state_dict(method.state_dict())
    torch.testing.assert_close(again.weights(first), method.weights(first))


def test_dwa_weights_sum_to_k_flatten_with_temperature_and_survive_zero():
    last, before = torch.tensor([0.3, 0.9, 0.0]), torch.tensor([1.0, 1.0, 0.0])
    assert float(dwa_weights(last, before).sum()) == pytest.approx(3)
    torch.testing.assert_close(dwa_weights(last, before, 1e6), torch.ones(3), rtol=1e-5, atol=0)
    assert torch.isfinite(dwa_weights(last, before)).all()


def test_gradnorm_slope_is_the_derivative_with_fixed_targets():
    w = torch.tensor([0.5, 1.2, 1.3], dtype=torch.float64, requires_grad=True)
    norms, ratios = torch.tensor([3.0, 1.0, 0.2]).double(), torch.tensor([0.5, 0.9, 0.7]).double()
    g = w * norms
    target = (g.mean() * (ratios / ratios.mean()) ** 1.5).detach()
    (g - target).abs().sum().backward()
    torch.testing.assert_close(gradnorm_slope(w.detach(), norms, ratios, 1.5), w.grad)


def test_gradnorm_waits_an_epoch_then_levels_the_norms():
    objective, batch = Objective(make_model(batch_norm=False), TASKS), make_batch()
    method = GradNorm(3, alpha=0.0).double()
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.0)
    optimizer.add_param_group({"params": method.learnt_parameters(), "lr": 0.01})
    update = Update(objective, method, optimizer)
    update(batch)
    torch.testing.assert_close(method.w.detach(), torch.ones(3).double())
    losses = objective.losses(objective.encode(batch), batch)
    method.end_epoch(losses.heads)
    layer = objective.model.last_shared_weight()
    assert layer is objective.model.encoder[-1].weight
    norms = torch.stack([torch.autograd.grad(loss, layer, retain_graph=True)[0].norm() for loss in losses.trained])
    for _ in range(800):
        update(batch)
    levelled = method.w.detach() * norms
    assert float(method.w.detach().sum()) == pytest.approx(3)
    # The L1 distance with a constant step chatters around its minimum.
    assert float(levelled.max() / levelled.min()) < 1.2 < float(norms.max() / norms.min())


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("kind", list(OPTIMIZERS))
@pytest.mark.parametrize("steps", [0, 3])
def test_virtual_step_is_where_the_optimizer_goes(kind, steps):
    torch.manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(4, 3).double()), torch.nn.Parameter(torch.randn(5).double())]
    optimizer = OPTIMIZERS[kind](parameters)
    for _ in range(steps):
        for p in parameters:
            p.grad = torch.randn_like(p)
        optimizer.step()
    gradients = [torch.randn_like(p) for p in parameters]
    before = copy.deepcopy((parameters, optimizer.state_dict()))
    moved, answers = virtual_step(optimizer, parameters, gradients)
    for p, old in zip(parameters, before[0], strict=True):
        assert torch.equal(p, old)
    torch.testing.assert_close(optimizer.state_dict()["state"], before[1]["state"], rtol=0, atol=0)
    for p, g in zip(parameters, gradients, strict=True):
        p.grad = g
    optimizer.step()
    for p, m in zip(parameters, moved, strict=True):
        torch.testing.assert_close(p.detach(), m)
    for a, b in zip(answers, last_answers(optimizer, parameters), strict=True):
        torch.testing.assert_close(a, b)
    if kind == "sgd":
        assert all(bool((a == 0.1).all()) for a in answers)


def test_virtual_step_refuses_what_it_cannot_imitate():
    p = torch.nn.Parameter(torch.ones(1))
    with pytest.raises(TypeError, match="not RMSprop"):
        virtual_step(torch.optim.RMSprop([p]), [p], [torch.ones(1)])
    with pytest.raises(TypeError, match="SGD with nesterov"):
        AutoLambda(3).attach(torch.optim.SGD([p], lr=0.1, momentum=0.9, nesterov=True))
    with pytest.raises(TypeError, match="Adam with amsgrad"):
        AutoLambda(3).attach(torch.optim.Adam([p], amsgrad=True))


def test_what_never_had_a_gradient_does_not_outweigh_all_else():
    p = torch.nn.Parameter(torch.zeros(1000))
    optimizer = torch.optim.Adam([p], lr=0.01)
    gradient = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    gradient[:10] = 0
    _, (answer,) = virtual_step(optimizer, [p], [gradient])
    assert answer.max() < 200 * answer.median()


@pytest.mark.parametrize("name", ["uncertainty", "imtl_l", "gradnorm", "dwa"])
def test_batches_without_labels_do_not_move_a_task(name):
    """A task that no batch labels keeps its weight, and nothing overflows."""
    objective, batch = Objective(make_model(), TASKS), make_batch()
    method = build_method(name, BalancingConfig(), 3, 0).double()
    optimizer = torch.optim.SGD(objective.parameters(), lr=1e-3)
    if method.learnt_parameters():
        optimizer.add_param_group({"params": method.learnt_parameters(), "lr": 0.05})
    update = Update(objective, method, optimizer)
    method.end_epoch(torch.tensor([1.0, 1.0, 1.0]).double())
    empty = replace(batch, targets={**batch.targets, "a": torch.full((12,), -1)})
    for _ in range(50):
        terms = update(empty)
    assert float(terms["labelled/a"]) == 0
    assert float(terms["labelled/b"]) == 1
    if name in ("uncertainty", "imtl_l"):
        assert float(method.weights(torch.ones(3).double())[0]) == pytest.approx(1)
        assert float(method.weights(torch.ones(3).double())[1]) != pytest.approx(1, rel=0.01)
    if name == "gradnorm":
        free = method.w.detach() / method.w.detach()[0]
        assert torch.isfinite(free).all()


def meta_slope(objective, batch, meta, lr, weights):
    """d/dw of the meta loss after one SGD step on the weighted training loss, by a double backward."""
    names = [name for name, _ in objective.model.named_parameters()]
    parameters = list(objective.model.parameters())
    w = weights.clone().requires_grad_()

    def losses(values, of):
        outputs = functional_call(objective.model, dict(zip(names, values, strict=True)), (of.images,))
        return torch.stack([task.loss(outputs[task.name], of.targets[task.name]) for task in TASKS])

    gradients = torch.autograd.grad((w * losses(parameters, batch)).sum(), parameters, create_graph=True)
    moved = [p - lr * g for p, g in zip(parameters, gradients, strict=True)]
    return torch.autograd.grad(losses(moved, meta).sum(), w)[0]


def recorded(method):
    """Let the method's Adam record the slopes that it is given."""
    slopes, step = [], method.adam.step
    method.adam.step = lambda: (slopes.append(method.w.grad.clone()), step())
    return slopes


@pytest.mark.parametrize("lagged", [False, True])
def test_auto_lambda_slope_is_that_of_the_meta_loss(lagged):
    objective, batch, meta = Objective(make_model(batch_norm=False), TASKS), make_batch(), make_batch(10, seed=7)
    lr, weights = 0.1, torch.tensor([1.2, 0.7, 1.0]).double()
    method = AutoLambda(3, lagged=lagged).double()
    with torch.no_grad():
        method.w.copy_(weights)
    optimizer = torch.optim.SGD(objective.parameters(), lr=lr)
    method.attach(optimizer)
    expected = meta_slope(objective, batch, meta, lr, weights)
    slopes = recorded(method)
    Update(objective, method, optimizer)(batch, meta)
    torch.testing.assert_close(slopes[0], expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_auto_lambda_lowers_the_meta_loss_through_adams_step(kind):
    """A step along the slope of the weights lowers the meta loss after Adam's own step."""
    objective, batch, meta = Objective(make_model(batch_norm=False), TASKS), make_batch(), make_batch(10, seed=7)
    parameters = objective.parameters()
    optimizer = OPTIMIZERS[kind](parameters)
    for i in range(5):  # some history of moments
        Update(objective, build_method("vanilla", BalancingConfig(), 3, 0), optimizer)(make_batch(12, seed=20 + i))
    method = AutoLambda(3).double()
    method.attach(optimizer)
    slopes = recorded(method)
    rows = [
        torch.autograd.grad(objective.loss(task, objective.encode(batch), batch)[0], parameters, allow_unused=True)
        for task in TASKS
    ]

    def after(weights):
        gradients = [
            sum(w * (g if g is not None else torch.zeros_like(p)) for w, g in zip(weights, column, strict=True))
            for p, column in zip(parameters, zip(*rows, strict=True), strict=True)
        ]
        values, _ = virtual_step(optimizer, parameters, gradients)
        names = {id(p): name for name, p in objective.model.named_parameters()}
        place = {names[id(p)]: v for p, v in zip(parameters, values, strict=True)}
        with torch.no_grad():
            return float(objective.at(place, lambda: objective.losses(objective.encode(meta), meta).trained.sum()))

    start = torch.ones(3).double()
    base = after(start)
    method.backward(objective, batch, meta)
    direction = -slopes[0] / slopes[0].norm()
    assert after(start + 0.05 * direction) < base < after(start - 0.05 * direction)


def test_auto_lambda_builds_no_graph_in_its_side_passes_and_runs_them_on_held_out_images(monkeypatch):
    objective, batch, meta = Objective(make_model(), TASKS), make_batch(), make_batch(10, seed=7)
    method = AutoLambda(3).double()
    method.attach(torch.optim.SGD(objective.parameters(), lr=0.1))
    seen = []
    plain = Objective.encode

    def encode(self, one):
        z = plain(self, one)
        seen.append((len(one.rows), z.requires_grad))
        return z

    monkeypatch.setattr(Objective, "encode", encode)
    method.backward(objective, batch, meta)
    assert seen == [(12, True), (10, True), (12, False), (12, False)]


def test_auto_lambda_in_bf16_learns_what_it_learns_in_float32():
    batch, meta = make_batch(), make_batch(10, seed=7)
    batch, meta = (replace(b, images=b.images.float()) for b in (batch, meta))
    slopes = []
    for precision in ("float32", "bf16"):
        objective = Objective(make_model(batch_norm=False).float(), TASKS, precision=precision)
        method = AutoLambda(3)
        method.attach(torch.optim.SGD(objective.parameters(), lr=0.1))
        found = recorded(method)
        method.backward(objective, batch, meta)
        slopes.append(found[0])
    assert torch.nn.functional.cosine_similarity(*slopes, dim=0) > 0.95


def test_auto_lambda_judges_by_the_heads_that_predict():
    model = make_model(batch_norm=False)
    extra = ExtraDecoders(model.heads, decoders=2, frozen=True).double()
    objective, batch = Objective(model, TASKS, decoders=extra), make_batch()
    z = objective.encode(batch)
    alone = Objective(model, TASKS).losses(z, batch).trained
    torch.testing.assert_close(objective.predicted(z, batch), alone)
    assert objective.predicted(z, batch).requires_grad
    assert not torch.allclose(objective.losses(z, batch).trained, alone)


def test_auto_lambda_moves_its_weights_and_keeps_its_adam():
    objective, batch, meta = Objective(make_model(), TASKS), make_batch(), make_batch(10, seed=7)
    method = AutoLambda(3, meta_lr=0.01).double()
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-3)
    method.attach(optimizer)
    update = Update(objective, method, optimizer)
    for _ in range(3):
        update(batch, meta)
    assert ((method.w - 1).abs() > 5e-3).all()
    other = AutoLambda(3, meta_lr=0.01).double()
    other.load_state_dict(copy.deepcopy(method.state_dict()))
    other.attach(optimizer)
    twin = copy.deepcopy(objective.model)
    method.backward(objective, batch, meta)
    objective.model.load_state_dict(twin.state_dict())
    other.backward(objective, batch, meta)
    assert torch.equal(method.w, other.w)


def test_a_meta_loss_without_labels_leaves_the_weights():
    objective, batch, meta = Objective(make_model(), TASKS), make_batch(), make_batch(10, seed=7)
    empty = {"a": torch.full((10,), -1), "b": torch.full((10,), -1), "c": torch.full((10,), math.nan).double()}
    method = AutoLambda(3).double()
    method.attach(torch.optim.SGD(objective.parameters(), lr=0.1))
    method.backward(objective, batch, replace(meta, targets=empty))
    torch.testing.assert_close(method.w.detach(), torch.ones(3).double())
