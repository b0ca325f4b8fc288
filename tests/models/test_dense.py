"""Dense models: shapes, weights that fit, groups of parameters, and DGR through them."""

import pytest
import torch
from torch import nn

from reprkit.errors import InputError
from reprkit.models import MTAN, ASPPHead, Split, build_encoder, build_model
from reprkit.models.build import PooledHead
from reprkit.recipe import METHODS, BalancingConfig, ModelConfig
from reprkit.tasks import Task
from reprkit.training.balancing import build_method
from reprkit.training.batches import Batch
from reprkit.training.dgr import DummyGradientNorm
from reprkit.training.objective import Objective

TASKS = (Task("seg", "segmentation", 4), Task("depth", "depth", 1), Task("normals", "normals", 3))
SMALL = {"head_channels": 4, "head_rates": (1, 2)}


def model_of(structure="split", encoder="resnet18", seed=0, tasks=TASKS):
    torch.manual_seed(seed)
    config = ModelConfig(encoder=encoder, structure=structure, **SMALL)
    return build_model(config, tasks, 3).double()


def batch_of(seed=0, size=(32, 48), count=2):
    g = torch.Generator().manual_seed(seed)
    targets = {
        "seg": torch.randint(-1, 4, (count, *size), generator=g),
        "depth": torch.rand(count, *size, generator=g, dtype=torch.float64),
        "normals": nn.functional.normalize(torch.randn(count, 3, *size, generator=g, dtype=torch.float64), dim=1),
    }
    targets["depth"][:, :3] = float("nan")
    return Batch(None, torch.randn(count, 3, *size, generator=g, dtype=torch.float64), targets)


@pytest.mark.parametrize(
    ("name", "dim", "shape"),
    [
        ("convnet", 128, (16, 24)), ("resnet18", 512, (8, 12)), ("resnet50", 2048, (8, 12)), ("swin_t", 768, (2, 3)),
    ],
)  # fmt: skip
def test_maps_have_their_stride_and_dim(name, dim, shape):
    encoder, found = build_encoder(name, dense=True)
    assert found == dim
    with torch.no_grad():
        assert encoder.eval()(torch.randn(2, 3, 64, 96)).shape == (2, dim, *shape)
        pooled, found = build_encoder(name)
        assert found == dim
        assert pooled.eval()(torch.randn(2, 3, 64, 96)).shape == (2, dim)


def test_dilation_is_torchvisions():
    from torchvision.models import resnet50

    theirs = resnet50(weights=None, replace_stride_with_dilation=[False, True, True]).eval()
    ours, _ = build_encoder("resnet50", dense=True)
    weights = {name: value for name, value in theirs.state_dict().items() if not name.startswith("fc.")}
    ours.load_state_dict(weights)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        y = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        for stage in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
            y = stage(y)
        torch.testing.assert_close(ours.eval()(x), y)


def test_aspp_equals_torchvisions_head():
    from torchvision.models.segmentation.deeplabv3 import DeepLabHead

    theirs, ours = DeepLabHead(6, 5, (2, 3)).eval(), ASPPHead(6, 5, rates=(2, 3)).eval()
    aspp = theirs[0]
    for branch, other in zip(ours.branches, aspp.convs[:3], strict=True):
        branch[0].load_state_dict(other[0].state_dict())
    ours.pool.weight.data.copy_(aspp.convs[3][1].weight)
    nn.init.zeros_(ours.pool.bias)
    ours.project[0].load_state_dict(aspp.project[0].state_dict())
    ours.refine[0].load_state_dict(theirs[1].state_dict())
    ours.out.load_state_dict(theirs[4].state_dict())
    z = torch.randn(2, 6, 7, 9)
    # BatchNorm with initial statistics divides by sqrt(1 + eps), which the pooled branch here does not.
    torch.testing.assert_close(ours(z), theirs(z), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("structure", ["split", "mtan"])
def test_a_batch_of_one_trains(structure):
    model = model_of(structure).train()
    outputs = model(torch.randn(1, 3, 32, 48, dtype=torch.float64))
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "seg": (1, 4, 4, 6), "depth": (1, 1, 4, 6), "normals": (1, 3, 4, 6),
    }  # fmt: skip


@pytest.mark.parametrize("structure", ["split", "mtan"])
def test_every_parameter_is_in_one_group(structure):
    model = model_of(structure)
    assert isinstance(model, MTAN if structure == "mtan" else Split)
    groups = [model.shared_parameters(), *(model.task_parameters(task.name) for task in TASKS)]
    ids = [id(p) for group in groups for p in group]
    assert len(ids) == len(set(ids))
    assert set(ids) == {id(p) for p in model.parameters()}
    assert any(model.last_shared_weight() is p for p in model.shared_parameters())


def test_mtan_shares_the_backbone_alone():
    split, mtan = model_of("split"), model_of("mtan")
    assert {n for n, _ in split.encoder.named_parameters()} == {n for n, _ in mtan.encoder.named_parameters()}
    mtan.encoder.load_state_dict(split.encoder.state_dict())
    x = torch.randn(2, 3, 32, 48, dtype=torch.float64)
    split.eval(), mtan.eval()
    z = mtan.encode(x)
    assert [tuple(m.shape[1:]) for m in z] == [(64, 8, 12)] * 2 + [(128, 4, 6)] * 2 + [(256, 4, 6)] * 2 + [
        (512, 4, 6)
    ] * 2
    torch.testing.assert_close(mtan.features(z), split.encode(x))


@pytest.mark.parametrize("name", list(METHODS))
@pytest.mark.parametrize("structure", ["split", "mtan"])
def test_every_method_trains_every_parameter(structure, name):
    model = model_of(structure).train()
    objective = Objective(model, TASKS, DummyGradientNorm(model.heads, TASKS, num_dummies=1).double(), 0.1)
    method = build_method(name, BalancingConfig(), len(TASKS), 0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    if method.learnt_parameters():
        optimizer.add_param_group({"params": method.learnt_parameters()})
    method.attach(optimizer)
    # A graph that dropout zeroes by chance would hide a group that never trains.
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    method.backward(objective, batch_of(), batch_of(1) if method.needs_meta else None)
    # The bias of a convolution before BatchNorm in training mode moves nothing.
    idle = ("masks.", ".bias")
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        if not (idle[0] in parameter_name and parameter_name.endswith(idle[1])):
            assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("structure", ["split", "mtan"])
def test_dgr_equals_a_double_backward_through_the_whole_graph(structure, power):
    model, batch = model_of(structure).eval(), batch_of()
    penalty = DummyGradientNorm(model.heads, TASKS, num_dummies=2, power=power).double()
    shared = model.shared_parameters()
    ours = torch.autograd.grad(penalty(model.encode(batch.images), batch.targets), shared)
    total = torch.zeros((), dtype=torch.float64)
    for heads in penalty.sets:
        for head, task in zip(heads, TASKS, strict=True):
            parameters = [p.requires_grad_() for p in head.parameters()]
            loss = task.loss(head(model.encode(batch.images)), batch.targets[task.name])
            slopes = torch.autograd.grad(loss, parameters, create_graph=True)
            squared = sum((g**2).sum() for g in slopes)
            total = total + (squared if power == 2 else squared.sqrt()) / len(penalty.sets)
            for p in parameters:
                p.requires_grad_(False)
    for mine, theirs in zip(ours, torch.autograd.grad(total, shared), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-12)


def test_a_label_of_the_image_beside_dense_tasks():
    tasks = (*TASKS, Task("room", "classification", 3))
    model = model_of(tasks=tasks)
    assert isinstance(model.heads["room"], PooledHead)
    assert model(torch.randn(2, 3, 32, 48, dtype=torch.float64))["room"].shape == (2, 3)


@pytest.mark.parametrize(
    ("config", "tasks", "message"),
    [
        (ModelConfig(encoder="mobilenet_v2"), TASKS, "no feature map"),
        (ModelConfig(encoder="swin_t", structure="mtan"), TASKS, "use split"),
        (ModelConfig(encoder="resnet18", structure="mtan"), (Task("c", "classification", 3),), "use split"),
    ],
)
def test_what_does_not_go_together_is_refused(config, tasks, message):
    with pytest.raises(InputError, match=message):
        build_model(config, tasks, 3)


@pytest.mark.parametrize("name", ["resnet18", "swin_t"])
def test_torchvision_weights_fit_the_dense_encoder(name, tmp_path):
    from torchvision import models

    from reprkit.models import load_encoder_weights

    theirs = getattr(models, name)(weights=None)
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    encoder, _ = build_encoder(name, dense=True)
    load_encoder_weights(encoder, tmp_path / "w.pth")
    for key, value in encoder.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[key])
