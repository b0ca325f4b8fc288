"""Losses of dense tasks against NumPy and numerical derivatives; what is missing changes nothing."""

import numpy as np
import pytest
import torch
from task_batches import DENSE, H, W, batch, computed
from torch.nn import functional as F

from reprkit.tasks import Task

by_kind = pytest.mark.parametrize("task", DENSE, ids=lambda task: task.kind)


def reference(task, outputs, targets, valid):
    """[valid pixels] losses, from the formulas."""
    x, y = outputs.numpy(), targets.numpy()
    if task.kind == "segmentation":
        logs = x - np.log(np.exp(x).sum(1, keepdims=True))
        each = -np.take_along_axis(logs, y.clip(0)[:, None], 1)[:, 0]
    elif task.kind == "normals":
        each = np.abs(x / np.linalg.norm(x, axis=1, keepdims=True) - np.nan_to_num(y)).sum(1)
    elif task.is_discrete:
        p = 1 / (1 + np.exp(-x[:, 0]))
        share = (y[valid] == 0).mean()
        positive, negative = (0.95, 0.05) if task.kind == "edges" else (share, 1 - share)
        each = np.where(y == 1, -positive * np.log(p), -negative * np.log(1 - p))
    else:
        each = np.abs(x[:, 0] - np.nan_to_num(y))
    return each[valid]


@by_kind
def test_losses_follow_their_formulas(task):
    outputs, targets = batch(task)
    each = reference(task, outputs, targets, task.valid(targets).numpy())
    assert float(task.loss(outputs, targets)) == pytest.approx(each.mean(), rel=1e-12)
    assert float(task.loss(outputs, targets, count=10.0)) == pytest.approx(each.sum() / 10, rel=1e-12)
    heavy = Task("t", task.kind, task.num_outputs, weight=50.0)
    assert float(heavy.loss(outputs, targets)) == pytest.approx(50 * each.mean(), rel=1e-12)
    assert computed(heavy, (outputs, targets))["loss"] == pytest.approx(50 * each.mean(), rel=1e-12)


@by_kind
def test_what_is_missing_changes_nothing(task):
    outputs, targets = batch(task)
    valid = task.valid(targets)
    np.testing.assert_array_equal(task.valid(targets.numpy()), valid.numpy())
    assert valid.shape == (3, H, W)
    assert 0 < valid.sum() < valid.numel()
    moved = torch.where(valid[:, None], outputs, outputs + 7)
    assert float(task.loss(outputs, targets)) == float(task.loss(moved, targets))
    assert computed(task, (outputs, targets)) == computed(task, (moved, targets))
    outputs.requires_grad_()
    (slope,) = torch.autograd.grad(task.loss(outputs, targets), outputs)
    assert (slope[~valid[:, None].expand_as(slope)] == 0).all()
    assert torch.isfinite(slope).all()


@pytest.mark.parametrize("task", [task for task in DENSE if not task.is_discrete], ids=lambda task: task.kind)
def test_what_is_infinite_is_missing(task):
    outputs, targets = batch(task)
    infinite = torch.where(targets.isnan(), float("inf"), targets)
    assert torch.equal(task.valid(infinite), task.valid(targets))
    assert float(task.loss(outputs, infinite)) == float(task.loss(outputs, targets))
    assert computed(task, (outputs, infinite)) == computed(task, (outputs, targets))


def test_a_normal_with_one_component_missing_is_missing():
    task = Task("normals", "normals", 3)
    _, targets = batch(task, void=0)
    targets[0, 1, 2, 3] = float("nan")
    assert (~task.valid(targets)).nonzero().tolist() == [[0, 2, 3]]


@by_kind
def test_nothing_valid_gives_zero_loss_with_a_graph_and_no_scores(task):
    outputs, targets = batch(task, void=1.1)
    outputs.requires_grad_()
    loss = task.loss(outputs, targets)
    assert loss.item() == 0
    (slope,) = torch.autograd.grad(loss, outputs)
    assert (slope == 0).all()
    found = computed(task, (outputs, targets))
    assert found.pop("loss") == 0
    assert np.isnan(list(found.values())).all()


@by_kind
def test_coarse_outputs_are_resized_and_differentiate_twice(task):
    outputs, targets = batch(task)
    coarse = outputs[:, :, ::3, ::3].clone().requires_grad_()
    fine = F.interpolate(coarse, size=(H, W), mode="bilinear", align_corners=False).detach()
    assert task.loss(coarse, targets).item() == pytest.approx(task.loss(fine, targets).item(), rel=1e-12)
    assert computed(task, (coarse, targets)) == pytest.approx(computed(task, (fine, targets)), rel=1e-12)
    assert torch.autograd.gradcheck(lambda x: task.loss(x, targets), (coarse,), eps=1e-7, atol=1e-6)
    if task.kind in ("depth", "disparity"):
        return  # the slope of an absolute error is piecewise constant
    some = coarse[:1, :, :2, :3].detach().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: task.loss(x, targets[:1]), (some,), eps=1e-6, atol=1e-5)


@by_kind
def test_outputs_of_16_bits_are_widened(task):
    outputs, targets = batch(task)
    narrow = outputs[:, :, ::3, ::3].bfloat16()
    loss = task.loss(narrow, targets)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(task.loss(narrow.double(), targets)), rel=1e-6)
    exact = computed(task, (narrow.float(), targets))
    assert computed(task, (narrow, targets)) == exact


def test_normals_of_length_zero_have_finite_slopes():
    task = Task("normals", "normals", 3)
    _, targets = batch(task)
    outputs = torch.zeros(3, 3, H, W, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(task.loss(outputs, targets), outputs)
    assert torch.isfinite(slope).all()
    assert computed(task, (outputs, targets))["mean_angle"] == pytest.approx(90)


@by_kind
def test_there_is_no_residual(task):
    with pytest.raises(TypeError, match="no closed residual"):
        task.residual(*batch(task))
