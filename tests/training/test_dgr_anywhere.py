"""DGR in a training loop that is not reprkit's: any head, any loss, and PyTorch's own machinery around it."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reprkit.errors import InputError
from reprkit.models.heads import LinearHead
from reprkit.tasks import Task
from reprkit.training import DummyGradientNorm

ROOT = Path(__file__).resolve().parents[2]
LOSSES = {"kind": nn.CrossEntropyLoss(), "age": lambda outputs, targets: F.mse_loss(outputs[:, 0], targets)}


class Attention(nn.Module):
    """Self-attention over four tokens, LayerNorm and dropout."""

    def __init__(self, outputs):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, dropout=0.5, batch_first=True)
        self.norm = nn.LayerNorm(4)
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(16, outputs)

    def forward(self, z):
        tokens = z.unflatten(1, (4, 4))
        tokens = self.norm(tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0])
        return self.out(self.drop(tokens).flatten(1))


class Own(nn.Module):
    """A parameter of its own."""

    def __init__(self, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(16, outputs))
        self.reset_parameters()

    def reset_parameters(self):
        nn.init.normal_(self.weight, std=0.1)

    def forward(self, z):
        return z @ self.weight


def convolutional(outputs):
    layers = nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(inplace=True)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(80, outputs))


def transformer(outputs):
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, activation="gelu")
    return nn.Sequential(nn.Unflatten(1, (4, 4)), layer, nn.Flatten(), nn.Linear(16, outputs))


KINDS = {
    "linear": lambda outputs: nn.Linear(16, outputs),
    "two layers": lambda outputs: nn.Sequential(nn.Linear(16, 8), nn.GELU(), nn.Linear(8, outputs)),
    "convolutional": convolutional,
    "attention": Attention,
    "transformer": transformer,
    "own": Own,
}


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU())


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(1)
    targets = {"kind": torch.randint(0, 4, (12,), generator=g), "age": torch.randn(12, generator=g)}
    return torch.randn(12, 6, generator=g), targets


def make_heads(kind="two layers"):
    torch.manual_seed(3)
    return {"kind": KINDS[kind](4), "age": KINDS[kind](1)}


def by_definition(penalty, losses, z, targets):
    """R by a double backward through trainable copies of the dummies, with unfused attention."""
    total = 0
    for heads in penalty.sets:
        for head, name in zip(heads, losses, strict=True):
            head = copy.deepcopy(head).requires_grad_(True).eval()
            with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
                loss = losses[name](head(z), targets[name])
            gradients = torch.autograd.grad(loss, list(head.parameters()), create_graph=True)
            total = total + torch.sqrt(sum((g**2).sum() for g in gradients))
    return total / len(penalty.sets)


@pytest.mark.parametrize("container", [dict, nn.ModuleDict])
@pytest.mark.parametrize("kind", KINDS)
def test_any_head_with_any_loss(kind, container, encoder, batch):
    images, targets = batch
    penalty = DummyGradientNorm(container(make_heads(kind)), LOSSES, num_dummies=2)
    z = encoder(images)
    value, expected = penalty(z, targets), by_definition(penalty, LOSSES, z, targets)
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=0)
    want, got = (torch.autograd.grad(r, z, retain_graph=True)[0] for r in (expected, value))
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3 * float(want.abs().max()))
    assert want.norm() > 0
    for dummy in (penalty.sets[0][0], penalty.sets[1][0]):
        old, new = (nn.utils.parameters_to_vector(head.parameters()) for head in (make_heads(kind)["kind"], dummy))
        assert not torch.equal(old, new)


def test_a_plain_loss_is_as_good_as_a_task(batch):
    targets = {"kind": batch[1]["kind"]}
    heads = {"kind": LinearHead(6, 4)}
    values = [
        DummyGradientNorm(heads, tasks)(batch[0], targets)
        for tasks in (
            [Task("kind", "classification", 4)], {"kind": Task("x", "classification", 4)}, {"kind": F.cross_entropy},
        )
    ]  # fmt: skip
    torch.testing.assert_close(values[1], values[0], rtol=0, atol=0)
    torch.testing.assert_close(values[2], values[0], rtol=1e-5, atol=0)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_three_lines_lower_r_and_leave_torch_alone(weight, batch):
    images, targets = batch
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU())
    heads = nn.ModuleDict(make_heads())
    penalty = DummyGradientNorm(heads, LOSSES)
    before = {name: value.clone() for name, value in penalty.state_dict().items()}
    optimizer = torch.optim.Adam([*encoder.parameters(), *heads.parameters()], lr=1e-2)
    state, values = torch.get_rng_state(), []
    for _ in range(20):
        optimizer.zero_grad()
        z = encoder(images)
        r = penalty(z, targets)
        (sum(loss(heads[name](z), targets[name]) for name, loss in LOSSES.items()) + weight * r).backward()
        optimizer.step()
        values.append(r.item())
    assert (values[-1] < values[0]) == (weight > 0)
    assert torch.equal(torch.get_rng_state(), state)
    after = penalty.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert encoder[1].num_batches_tracked == 20  # one forward a step


def test_one_task(encoder, batch):
    images, targets = batch
    heads, z = make_heads(), encoder(images)
    alone = [DummyGradientNorm(heads, {name: LOSSES[name]}, num_dummies=1) for name in LOSSES]
    both = DummyGradientNorm(heads, LOSSES, num_dummies=1)
    for k, one in enumerate(alone):
        one.sets[0][0].load_state_dict(both.sets[0][k].state_dict())
    torch.testing.assert_close(sum(one(z, targets) for one in alone), both(z, targets))


@pytest.mark.parametrize("kind", ["linear", "attention"])
def test_accumulated_batches_add_up_to_the_mean_of_their_penalties(kind, encoder, batch):
    images, targets = batch
    encoder.eval()  # batches do not share statistics
    penalty = DummyGradientNorm(make_heads(kind), LOSSES)
    for part in (slice(0, 6), slice(6, 12)):
        (penalty(encoder(images[part]), {name: y[part] for name, y in targets.items()}) / 2).backward()
    found = [p.grad.clone() for p in encoder.parameters()]
    encoder.zero_grad()
    halves = [
        penalty(encoder(images[part]), {name: y[part] for name, y in targets.items()})
        for part in (slice(0, 6), slice(6, 12))
    ]
    torch.stack(halves).mean().backward()
    for got, parameter in zip(found, encoder.parameters(), strict=True):
        torch.testing.assert_close(got, parameter.grad)


def test_a_scaled_loss_is_unscaled_to_the_same_gradient(encoder, batch):
    images, targets = batch
    penalty = DummyGradientNorm(make_heads(), LOSSES)
    penalty(encoder(images), targets).backward()
    expected = [p.grad.clone() for p in encoder.parameters()]
    encoder.zero_grad()
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    scaler.scale(penalty(encoder(images), targets)).backward()
    scaler.unscale_(optimizer)
    for parameter, want in zip(encoder.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, want, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", ["two layers", "attention"])
def test_autocast_and_16_bit_models_get_float32(kind, encoder, batch):
    images, targets = batch
    heads = nn.ModuleDict(make_heads(kind))
    exact = DummyGradientNorm(heads, LOSSES)
    z = encoder(images).detach()
    with torch.autocast("cpu", torch.bfloat16):
        value = exact(z.bfloat16(), targets)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, exact(z.bfloat16().float(), targets), rtol=0, atol=0)
    half = DummyGradientNorm(heads.bfloat16(), LOSSES)
    assert all(p.dtype == torch.float32 for p in half.parameters())
    moved = copy.deepcopy(exact).to(torch.bfloat16)
    for penalty in (half, moved):
        value = penalty(z.bfloat16(), targets)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, exact(z, targets), rtol=0.03, atol=0)
    assert all(p.dtype == torch.float64 for p in exact.double().parameters())


@pytest.mark.parametrize("kind", ["linear", "attention"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_a_graph_r_is_a_number(mode, kind, encoder, batch):
    images, targets = batch
    penalty = DummyGradientNorm(make_heads(kind), LOSSES)
    expected = penalty(encoder(images), targets)
    with mode():
        value = penalty(encoder(images), {name: y.clone() for name, y in targets.items()})
    assert not value.requires_grad
    torch.testing.assert_close(value, expected.detach())


def test_compiled_encoders_and_compiled_steps(encoder, batch):
    """The penalty itself stays as it is; what is around it is compiled (here without code generation)."""
    images, targets = batch
    encoder.eval()
    penalty = DummyGradientNorm(make_heads(), LOSSES)
    penalty(encoder(images), targets).backward()
    expected = encoder[0].weight.grad.clone()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    compiled = torch.compile(encoder, backend=backend)
    step = torch.compile(lambda x: 2 * penalty(encoder(x), targets), backend=backend)
    for run, factor in ((lambda: penalty(compiled(images), targets), 1), (lambda: step(images), 2)):
        encoder.zero_grad()
        graphs.clear()
        run().backward()
        assert graphs
        torch.testing.assert_close(encoder[0].weight.grad, factor * expected)
    torch.compiler.reset()


def test_state_travels(encoder, batch, tmp_path):
    images, targets = batch
    penalty = DummyGradientNorm(make_heads(), LOSSES, seed=5, control="random_direction")
    penalty(encoder(images), targets)  # the control's stream moves on
    torch.save(penalty.state_dict(), tmp_path / "penalty.pt")
    other = DummyGradientNorm(make_heads(), LOSSES, seed=6, control="random_direction")
    other.load_state_dict(torch.load(tmp_path / "penalty.pt", weights_only=True))
    z = encoder(images).detach().requires_grad_()
    slopes = [torch.autograd.grad(one(z, targets), z)[0] for one in (penalty, other)]
    torch.testing.assert_close(*slopes, rtol=0, atol=0)
    assert {p.device.type for p in penalty.to("meta").parameters()} == {"meta"}
    assert not list(filter(lambda p: p.requires_grad, penalty.parameters()))


class Forgetful(Own):
    def reset_parameters(self):
        if not hasattr(self, "drawn"):
            super().reset_parameters()
        self.drawn = True


class Bare(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 4))


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (nn.Identity(), "without parameters"),
        (nn.LazyLinear(4), "one batch"),
        (Bare(), "Bare.*no reset_parameters"),
        (Forgetful(4), "leaves 'weight' as it was"),
    ],
)
def test_heads_that_cannot_be_dummies_are_named(head, words):
    with pytest.raises(InputError, match=words):
        DummyGradientNorm({"kind": head}, {"kind": F.cross_entropy})


def test_names_that_do_not_fit(batch):
    with pytest.raises(InputError, match="'age' has no head; there are heads of kind"):
        DummyGradientNorm({"kind": nn.Linear(6, 4)}, LOSSES)
    penalty = DummyGradientNorm({"kind": nn.Linear(6, 4)}, {"kind": F.cross_entropy})
    with pytest.raises(InputError, match="no targets of task 'kind'; there are those of age"):
        penalty(batch[0], {"age": batch[1]["age"]})


WORKER = """
import sys
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from reprkit.training import DummyGradientNorm
from reprkit.training.ranks import Ranks

dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
torch.manual_seed(0)
encoder = nn.Sequential(nn.Linear(6, 16), nn.Tanh()).double()
heads = {"kind": nn.Sequential(nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 4)).double()}
images, kinds = torch.randn(8, 6).double(), torch.randint(0, 4, (8,))
alone = DummyGradientNorm(heads, {"kind": F.cross_entropy})
alone(encoder(images), {"kind": kinds}).backward()
expected = [p.grad.clone() for p in encoder.parameters()]
encoder.zero_grad()
wrapped = nn.parallel.DistributedDataParallel(encoder)
mine = slice(4 * rank, 4 * rank + 4)
together = DummyGradientNorm(heads, {"kind": F.cross_entropy}, ranks=Ranks(rank, world))
value = together(wrapped(images[mine]), {"kind": kinds[mine]})
value.backward()
torch.testing.assert_close(value, alone(encoder(images), {"kind": kinds}))
for p, want in zip(encoder.parameters(), expected, strict=True):
    torch.testing.assert_close(p.grad, want)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_distributed_data_parallel_gives_the_penalty_of_the_global_batch(tmp_path):
    (tmp_path / "worker.py").write_text(WORKER)
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(tmp_path / "worker.py")]
    done = subprocess.run(
        [sys.executable, *start],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
