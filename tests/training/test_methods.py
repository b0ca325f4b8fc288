"""Every method, alone and with every addition, on a small float64 model: gradients against whole-graph backwards."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from training_models import TASKS, make_batch, make_model, shared_gradient, task_gradients

from reprkit.recipe import METHODS, BalancingConfig, reads
from reprkit.tasks import Task
from reprkit.training.balancing import build_method, cagrad, imtl_g, mgda, nash_mtl, pcgrad
from reprkit.training.balancing.jacobian import NotFinite, gramian
from reprkit.training.batches import Batch
from reprkit.training.dgr import DummyGradientNorm
from reprkit.training.objective import ExtraDecoders, Objective, still
from reprkit.training.update import Update

LEVELS = [
    (name, level)
    for name in METHODS
    for level in (("parameters", "representation") if reads(name, "balancing.level") else ("parameters",))
]


@pytest.fixture
def objective():
    return Objective(make_model(), TASKS)


@pytest.fixture
def batch():
    return make_batch()


def build(name, level="parameters", k=3, **options):
    return build_method(name, BalancingConfig(level=level, **options), k, seed=0).double()


def run(name, objective, batch, level="parameters", optimizer=None, **options):
    method = build(name, level, len(objective.tasks), **options)
    optimizer = optimizer or torch.optim.SGD(objective.parameters(), lr=0.1, momentum=0.9)
    method.attach(optimizer)
    for p in objective.parameters():
        p.grad = None
    terms = method.backward(objective, batch, make_batch(8, seed=5, tasks=objective.tasks))
    return method, terms


def buffers(model):
    return {name: value.clone() for name, value in model.named_buffers()}


@pytest.mark.parametrize(("name", "level"), LEVELS)
@pytest.mark.parametrize("additions", [(), ("dgr",), ("pta",), ("dgr", "pta")])
def test_every_trainable_parameter_gets_a_finite_gradient(name, level, additions, batch):
    model = make_model()
    penalty = DummyGradientNorm(model.heads, TASKS) if "dgr" in additions else None
    decoders = ExtraDecoders(model.heads, decoders=2).double() if "pta" in additions else None
    objective = Objective(model, TASKS, penalty, 0.1, decoders)
    run(name, objective, batch, level)
    assert len(objective.parameters()) == len(list(model.parameters())) + (0 if decoders is None else 24)
    for p in objective.parameters():
        assert p.grad is not None
        assert torch.isfinite(p.grad).all()
        assert p.grad.abs().sum() > 0


@pytest.mark.parametrize(("name", "level"), LEVELS)
def test_identical_tasks_give_the_vanilla_update(name, level):
    tasks = tuple(Task(n, "classification", 4) for n in "abc")
    model = make_model(tasks=tasks)
    for task in "bc":
        model.heads[task].load_state_dict(model.heads["a"].state_dict())
    batch = make_batch(tasks=tasks)
    batch = replace(batch, targets=dict.fromkeys("abc", batch.targets["a"]))
    objective = Objective(model, tasks)
    rows, _ = task_gradients(objective, batch)
    run(name, objective, batch, level)
    # Auto-lambda has made one step on its weights by then.
    tolerance = 2e-3 if name == "auto_lambda" else 1e-6
    torch.testing.assert_close(shared_gradient(objective), rows.sum(0), rtol=tolerance, atol=1e-9)
    for task in tasks:
        torch.testing.assert_close(
            model.heads["a"].out.weight.grad, model.heads[task.name].out.weight.grad, rtol=tolerance, atol=1e-9
        )


WEIGHTINGS = {
    "pcgrad": None,
    "cagrad": partial(cagrad, c=0.4),
    "imtl": imtl_g,
    "nash_mtl": nash_mtl,
    "mgda": mgda,
}


@pytest.mark.parametrize("name", [n for n in WEIGHTINGS if n != "pcgrad"])
def test_parameter_level_is_the_weighted_sum_of_whole_graph_gradients(name, objective, batch):
    rows, heads = task_gradients(objective, batch)
    weights = WEIGHTINGS[name](rows @ rows.T)
    _, terms = run(name, objective, batch)
    torch.testing.assert_close(shared_gradient(objective), weights @ rows, rtol=1e-8, atol=1e-12)
    for k, task in enumerate(TASKS):
        assert float(terms[f"weight/{task.name}"]) == pytest.approx(float(weights[k]), rel=1e-5)
        for p, g in zip(objective.own(task), heads[task.name], strict=True):
            torch.testing.assert_close(p.grad, g)
    run(name, objective, batch, weight_heads=True)
    for k, task in enumerate(TASKS):
        for p, g in zip(objective.own(task), heads[task.name], strict=True):
            torch.testing.assert_close(p.grad, g * weights[k], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", [n for n in WEIGHTINGS if n != "pcgrad"])
def test_representation_level_balances_the_gradients_of_z(name, objective, batch):
    slopes = []
    for task in TASKS:
        z = objective.encode(batch).detach().requires_grad_()
        slopes.append(torch.autograd.grad(objective.loss(task, z, batch)[0], z)[0].flatten())
    slopes = torch.stack(slopes)
    weights = WEIGHTINGS[name](slopes @ slopes.T)
    z = objective.encode(batch)
    losses = objective.losses(z, batch).trained
    expected = torch.autograd.grad((weights * losses).sum(), objective.shared())
    run(name, objective, batch, "representation")
    torch.testing.assert_close(
        shared_gradient(objective), torch.cat([g.flatten() for g in expected]), rtol=1e-8, atol=1e-12
    )


@pytest.mark.parametrize(("name", "level"), LEVELS)
def test_the_penalty_adds_its_gradient_to_any_method(name, level, batch):
    """With and without R, the encoder's gradients differ by lambda grad R, and the heads' by nothing."""
    if name == "auto_lambda":
        pytest.skip("its weights see R through the virtual step")
    model = make_model(batch_norm=False)
    penalty = DummyGradientNorm(model.heads, TASKS)
    plain, with_r = Objective(model, TASKS), Objective(model, TASKS, penalty, 0.3)
    run(name, plain, batch, level)
    before, heads = shared_gradient(plain), [p.grad.clone() for p in model.heads.parameters()]
    run(name, with_r, batch, level)
    pull = torch.autograd.grad(penalty(model.encode(batch.images), batch.targets), with_r.shared())
    torch.testing.assert_close(
        shared_gradient(with_r) - before, 0.3 * torch.cat([g.flatten() for g in pull]), rtol=1e-7, atol=1e-10
    )
    for p, g in zip(model.heads.parameters(), heads, strict=True):
        torch.testing.assert_close(p.grad, g)


def test_methods_differ_on_a_real_batch(batch):
    updates = {}
    for name, level in LEVELS:
        if name in ("vanilla", "uncertainty", "dwa", "imtl_l", "gradnorm"):
            continue  # at their start these are Vanilla, which `single` stands for
        objective = Objective(make_model(), TASKS)
        run(name, objective, batch, level)
        updates[name, level] = shared_gradient(objective)
    for i, (a, x) in enumerate(updates.items()):
        for b, y in list(updates.items())[:i]:
            assert not torch.allclose(x, y, rtol=1e-5), (a, b)


def test_a_task_without_a_label_in_the_batch(objective, batch):
    for name, level in LEVELS:
        empty = replace(batch, targets={**batch.targets, "a": torch.full((12,), -1)})
        run(name, objective, empty, level)
        assert torch.isfinite(shared_gradient(objective)).all(), name
        assert shared_gradient(objective).abs().sum() > 0, name
        assert all(float(p.grad.abs().sum()) == 0 for p in objective.own(TASKS[0])), name


def test_a_gradient_that_is_no_number_names_its_task(objective, batch):
    bad = replace(batch, targets={**batch.targets, "c": torch.full((12,), float("inf"), dtype=torch.float64)})
    with pytest.raises(NotFinite, match="task 'c'"):
        run("nash_mtl", objective, bad)


def test_gramian_in_float64_of_float32_rows():
    rows = torch.randn(4, 100_001, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1e4], [1], [1], [1e-4]])
    exact = rows.double() @ rows.double().T
    scale = exact.diagonal().sqrt()
    assert ((gramian(rows) - exact).abs() / (scale[:, None] * scale)).max() < 1e-13
    torch.testing.assert_close(gramian(rows.double(), block=1000), exact, rtol=1e-12, atol=1e-12)


def test_identical_float32_rows_look_identical():
    rows = torch.randn(1, 100_001, generator=torch.Generator().manual_seed(0)).expand(5, -1).contiguous()
    for weighting in (cagrad, imtl_g, mgda, nash_mtl, pcgrad):
        torch.testing.assert_close(weighting(gramian(rows)), torch.ones(5).double(), rtol=1e-6, atol=1e-6)


def test_random_weightings_keep_drawing_under_sam(batch):
    """SAM's second pass must not rewind torch's generator under a weighting that draws from it."""
    from reprkit.training.balancing import register

    register("random", lambda gram: torch.rand(len(gram)))
    objective = Objective(make_model(), TASKS)
    optimizer = torch.optim.SGD(objective.parameters(), lr=1e-3)
    update = Update(objective, build("random"), optimizer, rho=0.05)
    torch.manual_seed(0)
    assert len({float(update(batch)["weight/a"]) for _ in range(4)}) == 4


class Counting(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, gram):
        self.calls += 1
        return self.calls * torch.ones(len(gram))


def test_every_encoder_has_its_own_copy_of_a_registered_weighting(objective, batch):
    from reprkit.training.balancing import register

    register("counting", Counting())
    first, second = build("counting"), build("counting")
    assert float(first.backward(objective, batch)["weight/a"]) == 1
    assert float(first.backward(objective, batch)["weight/a"]) == 2
    assert float(second.backward(objective, batch)["weight/a"]) == 1
    second.load_state_dict(first.state_dict())
    assert float(second.backward(objective, batch)["weight/a"]) == 3


def test_update_every_keeps_the_weights_in_between(objective, batch):
    method = build("nash_mtl", update_every=3)
    seen = [method.backward(objective, replace_images(batch, i))["weight/a"].item() for i in range(7)]
    assert seen[0] == seen[1] == seen[2] != seen[3] == seen[4] == seen[5] != seen[6]
    fresh = build("nash_mtl", update_every=3)
    fresh.load_state_dict(method.state_dict())
    again = replace_images(batch, 9)
    assert fresh.backward(objective, again)["weight/a"] == method.backward(objective, again)["weight/a"]


def replace_images(batch, seed):
    images = torch.randn(batch.images.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return replace(batch, images=images)


def test_weights_in_between_cost_one_encoder_backward_and_are_used(objective, batch):
    rows, _ = task_gradients(objective, batch)
    method = build("mgda", update_every=2)
    method.backward(objective, replace_images(batch, 1))
    method.backward(objective, batch)
    torch.testing.assert_close(shared_gradient(objective), method.current @ rows, rtol=1e-8, atol=1e-12)


def test_pcgrad_draws_are_its_own_and_resume(objective, batch):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    method, _ = run("pcgrad", objective, batch)
    assert torch.equal(torch.get_rng_state(), before)
    other = build("pcgrad")
    other.load_state_dict(method.state_dict())
    g = torch.tensor([[1.0, -0.9, -0.2], [-0.9, 1.0, -0.1], [-0.2, -0.1, 1.0]], dtype=torch.float64)
    draws = [method.weighting(g) for _ in range(8)]
    assert all(torch.equal(a, other.weighting(g)) for a in draws)
    assert len({tuple(d.tolist()) for d in draws}) > 1
    assert any(
        torch.allclose(d, pcgrad(g, generator=torch.Generator().manual_seed(i))) for d in draws for i in range(9)
    )


@pytest.mark.parametrize("name", ["nash_mtl", "cagrad", "vanilla"])
def test_bf16_gradients_are_close_to_float32(name):
    model = make_model().float()
    batch = make_batch()
    batch = Batch(batch.rows, batch.images.float(), batch.targets)
    found = []
    for precision in ("float32", "bf16"):
        objective = Objective(model, TASKS, DummyGradientNorm(model.heads, TASKS), 0.1, precision=precision)
        method = build_method(name, BalancingConfig(), 3, 0)
        method.backward(objective, batch)
        found.append(shared_gradient(objective))
    assert torch.nn.functional.cosine_similarity(*found, dim=0) > 0.99


def test_any_callable_from_gramian_to_weights_is_a_method(objective, batch):
    from reprkit.training.balancing import register

    register("twice", lambda gram: 2 * torch.ones(len(gram)))
    rows, _ = task_gradients(objective, batch)
    run("twice", objective, batch)
    torch.testing.assert_close(shared_gradient(objective), 2 * rows.sum(0), rtol=1e-8, atol=1e-12)
    with pytest.raises(ValueError, match="other than"):
        register("vanilla", torch.ones_like)
    torchjd = pytest.importorskip("torchjd.aggregation")
    for kind in (torchjd.AlignedMTLWeighting, torchjd.IMTLGWeighting, torchjd.PCGradWeighting):
        name = kind.__name__.lower()
        register(name, kind())
        torch.manual_seed(0)
        expected = kind()(rows @ rows.T) @ rows
        torch.manual_seed(0)
        run(name, objective, batch)
        torch.testing.assert_close(shared_gradient(objective), expected, rtol=1e-4, atol=1e-8)


def test_single_task_works_with_every_method(batch):
    objective = Objective(make_model(tasks=TASKS[:1]), TASKS[:1])
    rows, _ = task_gradients(objective, batch)
    for name, level in LEVELS:
        run(name, objective, batch, level)
        tolerance = 2e-3 if name == "auto_lambda" else 1e-6
        torch.testing.assert_close(shared_gradient(objective), rows[0], rtol=tolerance, atol=1e-9)


@pytest.mark.parametrize("addition", ["", "sam"])
@pytest.mark.parametrize("name", list(METHODS))
def test_batch_norm_moves_as_in_one_pass(name, addition, batch):
    model = make_model()
    reference = make_model()
    reference.encode(batch.images)
    objective = Objective(model, TASKS)
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.01)
    method = build(name)
    method.attach(optimizer)
    state = torch.get_rng_state()
    Update(objective, method, optimizer, 0.05 if addition else 0.0)(batch, make_batch(8, seed=3))
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(buffers(model).values(), buffers(reference).values(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", ["vanilla", "nash_mtl", "auto_lambda"])
def test_sam_takes_the_gradient_at_the_perturbed_point(name, batch):
    model = make_model(batch_norm=False)
    objective = Objective(model, TASKS)
    start = [p.detach().clone() for p in model.parameters()]
    losses = objective.losses(objective.encode(batch), batch).trained
    slopes = torch.autograd.grad(losses.sum(), list(model.parameters()))
    norm = torch.sqrt(sum((g**2).sum() for g in slopes))
    meta = make_batch(8, seed=3)
    shifted = make_model(batch_norm=False)
    with torch.no_grad():
        for p, g in zip(shifted.parameters(), slopes, strict=True):
            p.add_(0.3 * g / norm)
    there = Objective(shifted, TASKS)
    gradients = []
    for target in (there, objective):
        optimizer = torch.optim.SGD(target.parameters(), lr=1.0)
        method = build(name)
        method.attach(optimizer)
        if target is there:
            method.backward(there, batch, meta)
            gradients += [p.grad.clone() for p in shifted.parameters()]
        else:
            terms = Update(target, method, optimizer, 0.3)(batch, meta)
    assert float(terms["loss/a"]) == pytest.approx(float(losses[0].detach()))
    for p, old, g in zip(model.parameters(), start, gradients, strict=True):
        torch.testing.assert_close(p, old - g, rtol=1e-9, atol=1e-12)


def test_still_restores_buffers_even_while_a_graph_needs_them(batch):
    model = make_model()
    z = model.encode(batch.images)
    after = buffers(model)
    with still(model):
        model.encode(batch.images * 3)
    z.sum().backward()
    for name, value in buffers(model).items():
        assert torch.equal(value, after[name])


@pytest.mark.parametrize("frozen", [False, True])
def test_pseudo_tasks_share_the_loss(frozen, batch):
    model = make_model()
    extra = ExtraDecoders(model.heads, decoders=3, frozen=frozen, seed=4).double()
    objective = Objective(model, TASKS, decoders=extra)
    z = objective.encode(batch)
    found = objective.losses(z, batch)
    for k, task in enumerate(TASKS):
        heads = [model.heads[task.name], *extra.of(task.name)]
        each = torch.stack([task.loss(head(z), batch.targets[task.name]) for head in heads])
        torch.testing.assert_close(found.trained[k], each.mean())
        torch.testing.assert_close(found.heads[k], each[0])
        assert len(set(each.tolist())) == 4
    before = [p.clone() for p in extra.parameters()]
    optimizer = torch.optim.SGD([*model.parameters(), *(p for p in extra.parameters() if p.requires_grad)], lr=0.1)
    Update(objective, build("vanilla"), optimizer)(batch)
    moved = [not torch.equal(a, b) for a, b in zip(before, extra.parameters(), strict=True)]
    assert not any(moved) if frozen else all(moved)
    assert np.isfinite(found.trained.detach().numpy()).all()
