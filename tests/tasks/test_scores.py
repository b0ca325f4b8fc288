"""Scores against torchmetrics, NumPy and brute force; batches add up to what all gives at once."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt
from task_batches import DENSE, VECTOR, batch, computed
from torch.nn import functional as F

from reprkit.tasks import LOWER_IS_BETTER, Task

by_kind = pytest.mark.parametrize("task", [*VECTOR, *DENSE], ids=lambda task: task.kind)
METRICS = {
    "classification": ["accuracy"], "ordinal": ["accuracy"], "regression": ["r2"],
    "segmentation": ["miou", "pixel_accuracy"], "depth": ["abs_error", "rel_error"],
    "disparity": ["abs_error", "rel_error"], "saliency": ["iou", "max_f"], "edges": ["odsf"],
    "normals": ["mean_angle", "median_angle", "within_11.25", "within_22.5", "within_30"],
}  # fmt: skip


@by_kind
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(0, 7), max_size=4), order=st.randoms())
def test_batches_in_any_partition_and_order_give_what_all_give(task, seed, cuts, order):
    outputs, targets = batch(task, seed, count=7)
    whole = computed(task, (outputs, targets))
    assert whole["loss"] == pytest.approx(task.loss(outputs, targets).item(), rel=1e-12)
    bounds = [0, *sorted(cuts), 7]  # empty batches too
    parts = []
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        parts.append(task.new_scores())
        parts[-1].update(outputs[start:stop], targets[start:stop])
    order.shuffle(parts)
    merged = [task.new_scores(), task.new_scores()]
    for total in merged:
        for part in parts:
            total.merge(copy.deepcopy(part))
    found = merged[0].compute()
    assert found == pytest.approx(whole, rel=1e-12, nan_ok=True)
    np.testing.assert_array_equal(list(found.values()), list(merged[1].compute().values()))  # bit for bit


@by_kind
def test_metrics_and_their_direction(task):
    outputs, targets = batch(task, count=20)
    found = computed(task, (outputs, targets))
    assert list(found) == ["loss", *METRICS[task.kind]]
    assert all(type(value) is float for value in found.values())
    assert task.metric == METRICS[task.kind][0]
    assert task.higher_is_better == (task.metric not in LOWER_IS_BETTER)
    assert task.higher_is_better != (task.kind in ("depth", "disparity", "normals"))
    assert list(task.new_scores().compute()) == list(found)
    assert computed(task, (outputs.numpy(), targets.numpy())) == found


@by_kind
def test_skill_rises_with_better_outputs(task):
    outputs, targets = batch(task, void=0.1, count=20)
    if task.num_outputs > 1 and task.is_discrete:
        good = 9.0 * F.one_hot(targets.clamp(min=0), task.num_outputs).movedim(-1, 1)
    elif task.is_discrete:
        good = torch.where(targets == 1, 5.0, -5.0)[:, None]
    else:
        good = (targets.nan_to_num(1.0) - task.mean) / task.std
        good = good if task.kind == "normals" else good[:, None]
    bad, best = (task.skill(computed(task, (x, targets))) for x in (outputs, good))
    assert bad < best
    assert best == pytest.approx(1, abs=1e-9)


def test_skill_by_hand():
    assert Task("d", "depth", 1).skill({"abs_error": 3.0, "rel_error": 0.2}) == 0.8
    assert Task("d", "disparity", 1).skill({"abs_error": 3.0, "rel_error": 1.5}) == -0.5
    assert Task("n", "normals", 3).skill({"mean_angle": 22.5}) == 0.75
    assert Task("s", "segmentation", 3).skill({"miou": 0.4, "pixel_accuracy": 0.9}) == 0.4
    assert Task("s", "saliency", 1).skill({"iou": 0.4, "max_f": 0.9}) == 0.4


def test_scores_of_different_tasks_do_not_mix():
    with pytest.raises(ValueError, match="another task"):
        DENSE[0].new_scores().merge(VECTOR[0].new_scores())


def test_vector_scores():
    metrics = pytest.importorskip("torchmetrics")
    task = VECTOR[0]
    outputs, targets = batch(task, count=200)
    accuracy = metrics.classification.MulticlassAccuracy(4, average="micro", ignore_index=-1)
    assert computed(task, (outputs, targets))["accuracy"] == pytest.approx(float(accuracy(outputs, targets)), rel=1e-6)
    task = VECTOR[2]
    outputs, targets = batch(task, count=200)
    known = ~targets.isnan()
    r2 = metrics.R2Score()(outputs[known, 0] * 3 + 2, targets[known])
    assert computed(task, (outputs, targets))["r2"] == pytest.approx(float(r2), rel=1e-6)


def test_r2_far_from_zero_in_batches_and_of_a_constant():
    task = Task("year", "regression", 1, mean=1990.0, std=5.0)
    g = torch.Generator().manual_seed(0)
    truth = (1990 + 5 * torch.randn(5000, generator=g)).float()
    outputs = ((truth - 1990) / 5 + 0.3 * torch.randn(5000, generator=g))[:, None]
    y, p = truth.double(), outputs[:, 0].double() * 5 + 1990
    exact = 1 - ((y - p) ** 2).sum().item() / ((y - y.mean()) ** 2).sum().item()
    halves = ((outputs[2000:], truth[2000:]), (outputs[:2000], truth[:2000]))
    assert computed(task, *halves)["r2"] == pytest.approx(exact, rel=1e-12)
    assert np.isnan(computed(task, (torch.zeros(7, 1), torch.full((7,), 0.1)))["r2"])


def test_segmentation_equals_torchmetrics():
    metrics = pytest.importorskip("torchmetrics.classification")
    task = DENSE[0]
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
    outputs[0, 7, 1, 1] = 2  # predicted, though never true: an IoU of 0
    assert computed(task, (outputs, targets))["miou"] == pytest.approx((1 + 1 / 2 + 0) / 3)


@pytest.mark.parametrize("kind", ["depth", "disparity"])
def test_depth_errors(kind):
    task = Task("d", kind, 1, weight=3.0)
    outputs, targets = batch(task)
    targets[0, 0, :5] = 0
    x, y = outputs[:, 0].numpy(), targets.numpy()
    known = np.isfinite(y)
    error = np.abs(x - y)
    found = computed(task, (outputs, targets))
    assert found["abs_error"] == pytest.approx(error[known].mean(), rel=1e-12)
    assert found["rel_error"] == pytest.approx((error[y > 0] / y[y > 0]).mean(), rel=1e-12)
    assert np.isnan(computed(task, (outputs, targets * 0))["rel_error"])


@pytest.mark.parametrize("count", [4, 5])
def test_angles(count):
    task = Task("normals", "normals", 3)
    outputs, targets = batch(task, count=count)
    x, y = outputs.numpy(), targets.numpy()
    cosine = (x / np.linalg.norm(x, axis=1, keepdims=True) * y).sum(1)
    angle = np.degrees(np.arccos(cosine[np.isfinite(cosine)].clip(-1, 1)))
    found = computed(task, (outputs, targets))
    assert found["mean_angle"] == pytest.approx(angle.mean(), rel=1e-9)
    for limit in (11.25, 22.5, 30):
        assert found[f"within_{limit:g}"] == pytest.approx((angle < limit).mean(), abs=1e-12)
    known = torch.where(targets.isnan(), 0.0, targets)
    assert computed(task, (3 * known, targets))["mean_angle"] < 1e-6  # exact where arccos would not be
    assert computed(task, (-known, targets))["mean_angle"] == pytest.approx(180)


@given(st.lists(st.floats(0, 180), min_size=1, max_size=12))
def test_median_angle_is_exact_to_a_hundredth_of_a_degree(angles):
    task = Task("normals", "normals", 3)
    a = torch.tensor(angles, dtype=torch.float64).deg2rad()
    targets = torch.stack([a.sin(), 0 * a, a.cos()])[None, :, None]
    outputs = torch.zeros_like(targets)
    outputs[:, 2] = 4.0
    assert computed(task, (outputs, targets))["median_angle"] == pytest.approx(np.median(angles), abs=0.00501)


def test_predictions_that_are_no_numbers_do_not_pass_for_good():
    task = Task("normals", "normals", 3)
    outputs, targets = batch(task)
    found = computed(task, (outputs * float("nan"), targets))
    assert np.isnan(found["mean_angle"])
    assert found["within_30"] == 0
    for kind in ("saliency", "edges"):
        task = Task(kind, kind, 1)
        outputs, targets = batch(task)
        assert computed(task, (outputs * float("nan"), targets))[task.metric] == 0


def test_saliency_equals_torchmetrics_and_brute_force():
    metrics = pytest.importorskip("torchmetrics.classification")
    task = Task("s", "saliency", 1)
    outputs, targets = batch(task)
    found = computed(task, (outputs[:1], targets[:1]), (outputs[1:], targets[1:]))
    p, known = outputs[:, 0].sigmoid(), targets >= 0
    assert found["iou"] == pytest.approx(float(metrics.BinaryJaccardIndex(ignore_index=-1)(p, targets)), abs=1e-6)
    truth = targets[known].numpy() == 1
    best = 0
    for threshold in np.arange(1, 100) / 100:
        above = p[known].numpy() >= threshold
        best = max(best, 2 * (above & truth).sum() / (above.sum() + truth.sum()))
    assert found["max_f"] == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("size", [(150, 200), (30, 40), (180, 240)])  # tolerances of 1.875, 0.375, 2.25
def test_edges_by_distance_transforms(size):
    task = Task("e", "edges", 1)
    g = torch.Generator().manual_seed(3)
    targets = (torch.rand(3, *size, generator=g) < torch.tensor([0.02, 0.001, 0])[:, None, None]).long()
    targets[:, : size[0] // 7] = -1
    outputs = torch.randn(3, 1, *size, generator=g)
    reach, sums = 0.0075 * np.hypot(*size), np.zeros((99, 4))
    for y, p in zip(targets.numpy(), outputs[:, 0].double().sigmoid().numpy(), strict=True):
        truth, known = y == 1, y >= 0
        to_truth = distance_transform_edt(~truth) if truth.any() else np.full(size, np.inf)
        for i in range(99):
            predicted = (p >= (i + 1) / 100) & known
            to_predicted = distance_transform_edt(~predicted) if predicted.any() else np.full(size, np.inf)
            right, found = (to_truth[predicted] <= reach).sum(), (to_predicted[truth] <= reach).sum()
            sums[i] += right, predicted.sum(), found, truth.sum()
    precision, recall = sums[:, 0] / sums[:, 1].clip(1), sums[:, 2] / sums[:, 3]
    best = (2 * precision * recall / (precision + recall).clip(1e-9)).max()
    assert 0 < best < 1
    assert computed(task, (outputs, targets))["odsf"] == pytest.approx(best, rel=1e-9)


def test_edges_next_to_their_place_count_up_to_the_tolerance():
    task = Task("e", "edges", 1)
    targets = torch.zeros(1, 240, 320, dtype=torch.long)  # a diagonal of 400: a tolerance of 3 pixels
    targets[:, :, 100] = 1
    for shift, expected in ((0, 1.0), (3, 1.0), (-3, 1.0), (4, 0.0)):
        outputs = torch.where(targets.roll(shift, 2) == 1, 5.0, -5.0)[:, None]
        assert computed(task, (outputs, targets))["odsf"] == expected


def test_predictions_without_a_target_find_no_edge():
    task = Task("e", "edges", 1)
    targets = torch.zeros(1, 240, 320, dtype=torch.long)
    targets[:, :, 100] = 1
    outputs = torch.where(targets.roll(1, 2) == 1, 5.0, -5.0)[:, None]
    assert computed(task, (outputs, targets))["odsf"] == 1
    targets[:, :, 101] = -1
    assert computed(task, (outputs, targets))["odsf"] == pytest.approx(0)
