"""Losses and scores of dense tasks against torchmetrics, NumPy and closed forms; what is missing changes nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt
from torch.nn import functional as F

from reprkit.errors import InputError
from reprkit.tasks import DENSE_KINDS, LOWER_IS_BETTER, Task, pixel_tasks

SIZES = {"segmentation": 4, "depth": 1, "disparity": 1, "normals": 3, "saliency": 1, "edges": 1}
TASKS = [Task(kind, kind, SIZES[kind]) for kind in DENSE_KINDS]
by_kind = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
H, W = 12, 18


def batch(task, seed=0, count=3, void=0.3, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    outputs = torch.randn(count, task.num_outputs, H, W, generator=g, dtype=dtype)
    missing = torch.rand(count, H, W, generator=g) < void
    if task.kind == "normals":
        targets = F.normalize(torch.randn(count, 3, H, W, generator=g, dtype=dtype), dim=1)
        targets[missing[:, None].expand(-1, 3, -1, -1)] = float("nan")
    elif task.is_discrete:
        targets = torch.randint(0, max(task.num_outputs, 2), (count, H, W), generator=g)
        targets[missing] = -1
    else:
        targets = torch.rand(count, H, W, generator=g, dtype=dtype) * 5 + 0.1
        targets[missing] = float("nan")
    return outputs, targets


def computed(task, *batches):
    scores = task.new_scores()
    for outputs, targets in batches:
        scores.update(outputs, targets)
    return scores.compute()


@by_kind
def test_what_is_missing_changes_nothing(task):
    outputs, targets = batch(task)
    valid = task.valid(targets)
    np.testing.assert_array_equal(task.valid(targets.numpy()), valid.numpy())
    moved = torch.where(valid[:, None], outputs, outputs + 7)
    assert float(task.loss(outputs, targets)) == float(task.loss(moved, targets))
    before, after = computed(task, (outputs, targets)), computed(task, (moved, targets))
    assert before == after
    outputs.requires_grad_()
    (slope,) = torch.autograd.grad(task.loss(outputs, targets), outputs)
    assert (slope[~valid[:, None].expand_as(slope)] == 0).all()
    assert torch.isfinite(slope).all()


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
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), cut=st.integers(1, 5))
def test_batches_in_any_partition_give_what_all_give(task, seed, cut):
    outputs, targets = batch(task, seed, count=6, dtype=torch.float32)
    if task.kind == "saliency":  # its loss is balanced batch by batch
        outputs[:], targets[:] = outputs[:1], targets[:1]
    whole = computed(task, (outputs, targets))
    first, second = task.new_scores(), task.new_scores()
    for i in range(cut):
        first.update(outputs[i : i + 1], targets[i : i + 1])
    second.update(outputs[cut:], targets[cut:])
    second.merge(first)
    parts = second.compute()
    assert set(parts) == set(whole)
    for name, value in whole.items():
        assert parts[name] == pytest.approx(value, rel=1e-12, nan_ok=True)


@by_kind
def test_losses_follow_their_formulas(task):
    outputs, targets = batch(task)
    valid = task.valid(targets).numpy()
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
    assert float(task.loss(outputs, targets)) == pytest.approx(each[valid].mean(), rel=1e-12)
    assert float(task.loss(outputs, targets, count=10.0)) == pytest.approx(each[valid].sum() / 10, rel=1e-12)
    heavy = Task("t", task.kind, task.num_outputs, weight=50.0)
    assert float(heavy.loss(outputs, targets)) == pytest.approx(50 * each[valid].mean(), rel=1e-12)


@by_kind
def test_coarse_outputs_are_resized_and_differentiate_twice(task):
    outputs, targets = batch(task)
    coarse = outputs[:, :, ::3, ::3].clone().requires_grad_()
    fine = F.interpolate(coarse, size=(H, W), mode="bilinear", align_corners=False)
    assert float(task.loss(coarse, targets)) == pytest.approx(float(task.loss(fine, targets)), rel=1e-12)
    fine_scores = computed(task, (fine.detach(), targets))
    assert computed(task, (coarse.detach(), targets)) == pytest.approx(fine_scores, rel=1e-6)
    assert torch.autograd.gradcheck(lambda x: task.loss(x, targets), (coarse,), eps=1e-7, atol=1e-6)
    (slope,) = torch.autograd.grad(task.loss(coarse, targets), coarse, create_graph=True)
    if slope.requires_grad:  # absolute errors have no second derivative
        (second,) = torch.autograd.grad(slope.square().sum(), coarse, allow_unused=True)
        assert second is None or torch.isfinite(second).all()


def test_normals_of_length_zero_have_finite_slopes():
    task = Task("normals", "normals", 3)
    _, targets = batch(task)
    outputs = torch.zeros(3, 3, H, W, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(task.loss(outputs, targets), outputs)
    assert torch.isfinite(slope).all()
    assert computed(task, (outputs, targets))["mean_angle"] == pytest.approx(90)


def test_segmentation_equals_torchmetrics():
    metrics = pytest.importorskip("torchmetrics.classification")
    task = TASKS[0]
    outputs, targets = batch(task, count=4)
    found = computed(task, (outputs[:2], targets[:2]), (outputs[2:], targets[2:]))
    predicted = outputs.argmax(1)
    jaccard = metrics.MulticlassJaccardIndex(task.num_outputs, ignore_index=-1)
    accuracy = metrics.MulticlassAccuracy(task.num_outputs, average="micro", ignore_index=-1)
    assert found["miou"] == pytest.approx(float(jaccard(predicted, targets)), abs=1e-6)
    assert found["pixel_accuracy"] == pytest.approx(float(accuracy(predicted, targets)), abs=1e-6)


def test_classes_that_never_occur_have_no_iou():
    task = Task("s", "segmentation", 10)
    targets = torch.zeros(1, 2, 2, dtype=torch.long)
    targets[0, 0] = 1
    outputs = F.one_hot(targets, 10).movedim(-1, 1).double()
    assert computed(task, (outputs, targets))["miou"] == 1


@pytest.mark.parametrize("kind", ["depth", "disparity"])
def test_depth_errors(kind):
    task = Task("d", kind, 1)
    outputs, targets = batch(task)
    x, y = outputs[:, 0].numpy(), targets.numpy()
    known = np.isfinite(y)
    error = np.abs(x - y)[known]
    found = computed(task, (outputs, targets))
    assert found["abs_error"] == pytest.approx(error.mean(), rel=1e-6)
    assert found["rel_error"] == pytest.approx((error / y[known]).mean(), rel=1e-6)


def test_angles():
    task = Task("normals", "normals", 3)
    outputs, targets = batch(task, count=5)
    x, y = outputs.numpy(), targets.numpy()
    cosine = (x / np.linalg.norm(x, axis=1, keepdims=True) * y).sum(1)
    angle = np.degrees(np.arccos(cosine[np.isfinite(cosine)].clip(-1, 1)))
    found = computed(task, (outputs, targets))
    assert found["mean_angle"] == pytest.approx(angle.mean(), rel=1e-6)
    assert found["median_angle"] == pytest.approx(np.median(angle), abs=0.05)
    for limit in (11.25, 22.5, 30):
        assert found[f"within_{limit:g}"] == pytest.approx((angle < limit).mean(), abs=1e-9)
    known = torch.where(targets.isnan(), 0.0, targets)
    assert computed(task, (3 * known, targets))["mean_angle"] < 1e-4  # exact where arccos would not be


def test_saliency_equals_torchmetrics_and_brute_force():
    metrics = pytest.importorskip("torchmetrics.classification")
    task = Task("s", "saliency", 1)
    outputs, targets = batch(task)
    found = computed(task, (outputs, targets))
    p, known = outputs[:, 0].sigmoid(), targets >= 0
    assert found["iou"] == pytest.approx(float(metrics.BinaryJaccardIndex(ignore_index=-1)(p, targets)), abs=1e-6)
    truth = targets[known].numpy() == 1
    best = 0
    for threshold in np.arange(1, 100) / 100:
        above = p[known].float().numpy() >= threshold
        best = max(best, 2 * (above & truth).sum() / (above.sum() + truth.sum()))
    assert found["max_f"] == pytest.approx(best, rel=1e-9)


def test_edges_by_brute_force():
    task = Task("e", "edges", 1)
    g = torch.Generator().manual_seed(3)
    size = (1, 150, 200)  # a diagonal of 250: a tolerance of 1.875 pixels
    targets = (torch.rand(size, generator=g) < 0.02).long()
    targets[:, :20] = -1
    outputs = torch.randn(1, *size, generator=g)
    truth, known, p = (targets == 1)[0].numpy(), (targets >= 0)[0].numpy(), outputs[0, 0].sigmoid().numpy()
    best = 0.0
    for threshold in np.arange(1, 100) / 100:
        predicted = (p >= threshold) & known
        if not predicted.any():
            continue
        precision = (distance_transform_edt(~truth)[predicted] <= 1.875).mean()
        recall = (distance_transform_edt(~predicted)[truth] <= 1.875).mean()
        best = max(best, 2 * precision * recall / max(precision + recall, 1e-9))
    assert computed(task, (outputs, targets))["odsf"] == pytest.approx(best, rel=1e-9)
    exact = torch.where(targets == 1, 5.0, -5.0)[:, None]
    assert computed(task, (exact, targets))["odsf"] == 1


@by_kind
def test_skill_rises_with_better_outputs(task):
    outputs, targets = batch(task, void=0.1)
    if task.kind == "segmentation":
        good = 9.0 * F.one_hot(targets.clamp(min=0), 4).movedim(-1, 1)
    elif task.is_discrete:
        good = torch.where(targets == 1, 5.0, -5.0)[:, None]
    else:
        good = targets.nan_to_num(1.0)
        good = good if task.kind == "normals" else good[:, None]
    bad, best = (task.skill(computed(task, (x, targets))) for x in (outputs, good))
    assert bad < best
    assert best == pytest.approx(1, abs=1e-4)
    assert task.higher_is_better == (task.metric not in LOWER_IS_BETTER)
    assert task.higher_is_better != (task.kind in ("depth", "disparity", "normals"))


@by_kind
def test_pixel_tasks_read_targets_and_outputs(task):
    outputs, targets = batch(task, void=0.2)
    rows = outputs[0].flatten(1).T.float().numpy()
    sampled = targets[0].flatten(1).T.numpy() if task.kind == "normals" else targets[0].flatten().numpy()
    made = pixel_tasks(task)
    assert [pixel.task.name for pixel in made] == (
        [f"normals.{axis}" for axis in "xyz"] if task.kind == "normals" else [task.kind]
    )
    valid = task.valid(targets)[0].flatten().numpy()
    for pixel in made:
        y, x = pixel.targets(sampled), pixel.outputs(rows)
        assert x.shape == (H * W, pixel.task.num_outputs)
        np.testing.assert_array_equal(pixel.task.valid(y), valid)
    if task.kind == "normals":
        lengths = sum(pixel.outputs(rows) ** 2 for pixel in made)
        np.testing.assert_allclose(lengths, 1, rtol=1e-5)
    elif task.is_discrete and task.num_outputs == 1:
        logits = torch.from_numpy(made[0].outputs(rows))
        torch.testing.assert_close(logits.softmax(1)[:, 1], torch.from_numpy(rows[:, 0]).sigmoid())


def test_pixel_regressions_are_standardised():
    from dataclasses import replace

    pixel = pixel_tasks(Task("d", "depth", 1))[0]
    pixel = replace(pixel, task=replace(pixel.task, mean=2.0, std=4.0))
    np.testing.assert_allclose(pixel.outputs(np.array([[2.0], [6.0]])), [[0.0], [1.0]])


def test_dense_tasks_round_trip_and_are_checked():
    task = Task("parts", "segmentation", 3, ("a", "b", "c"), weight=2.0)
    assert Task.from_json(task.to_json()) == task
    assert "weight" not in Task("s", "saliency", 1).to_json()
    for kind, outputs in (("normals", 1), ("depth", 2), ("edges", 2), ("segmentation", 1)):
        with pytest.raises(InputError):
            Task("t", kind, outputs)
    with pytest.raises(TypeError, match="no closed residual"):
        task.residual(torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.long))
