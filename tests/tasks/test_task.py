import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from task_batches import DENSE, VECTOR, batch, computed

from reprkit.errors import InputError
from reprkit.tasks import Task

by_vector_kind = pytest.mark.parametrize("task", VECTOR, ids=lambda task: task.kind)


@by_vector_kind
@given(seed=st.integers(0, 10_000), weight=st.floats(0.1, 50))
def test_residual_is_the_derivative_of_the_loss(task, seed, weight):
    task = Task(task.name, task.kind, task.num_outputs, mean=task.mean, std=task.std, weight=weight)
    outputs, targets = batch(task, seed, count=8)
    outputs.requires_grad_()
    (expected,) = torch.autograd.grad(task.loss(outputs, targets), outputs)
    torch.testing.assert_close(task.residual(outputs, targets), expected, rtol=1e-12, atol=1e-14)
    stacked = task.residual(torch.stack([outputs, 2 * outputs]), targets)
    torch.testing.assert_close(stacked[0], expected, rtol=1e-12, atol=1e-14)


@by_vector_kind
def test_missing_targets_take_no_part(task):
    outputs, targets = batch(task, count=20)
    valid = task.valid(targets)
    assert 0 < valid.sum() < 20
    torch.testing.assert_close(task.loss(outputs, targets), task.loss(outputs[valid], targets[valid]))
    assert computed(task, (outputs, targets)) == computed(task, (outputs[valid], targets[valid]))
    none = torch.full_like(targets, -1 if task.is_discrete else float("nan"))
    assert task.loss(outputs, none) == 0
    found = computed(task, (outputs, none))
    assert found["loss"] == 0
    assert np.isnan(found[task.metric])


def test_classification_loss_is_cross_entropy_in_nats():
    task = VECTOR[0]
    assert float(task.loss(torch.zeros(5, 4), torch.arange(5) % 4)) == pytest.approx(np.log(4))
    assert float(Task("c", "classification", 4, weight=2).loss(torch.zeros(5, 4), torch.arange(5) % 4)) == (
        pytest.approx(2 * np.log(4))
    )


def test_regression_heads_predict_the_standardised_target():
    task = VECTOR[2]
    outputs, targets = torch.tensor([[1.0], [-1.0]]), torch.tensor([5.0, -1.0])
    assert float(task.loss(outputs, targets)) == 0
    assert computed(task, (outputs, targets)) == {"loss": 0.0, "r2": 1.0}


@pytest.mark.parametrize("task", [*VECTOR, *DENSE], ids=lambda task: task.kind)
def test_records_of_older_and_newer_versions_are_read(task):
    assert Task.from_json({**task.to_json(), "of_the_future": 1}) == task
    assert "weight" not in task.to_json()  # so that fingerprints of old files stay
    heavy = Task(task.name, task.kind, task.num_outputs, weight=2.5)
    assert Task.from_json(heavy.to_json()) == heavy
    names = ("name", "kind", "num_outputs")
    assert Task.from_json({key: getattr(task, key) for key in names}).weight == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", "other", 3), "kind 'other'"),
        (("a", "classification", 1), "nothing to learn"),
        (("a", "segmentation", 1), "nothing to learn"),
        (("a", "ordinal", 3, ("x",)), "1 class names for 3"),
        (("a", "saliency", 1, ("x", "y", "z")), "has two, no and yes"),
        (("a", "normals", 1), "3 outputs, not 1"),
        (("a", "depth", 2), "1 outputs, not 2"),
        (("a", "edges", 2), "1 outputs, not 2"),
        (("a", "depth", 1, (), "m", 0.0, 1.0, 0.0), "weight 0.0 is not a positive"),
        (("a", "depth", 1, (), "m", 0.0, 1.0, float("nan")), "weight nan is not a positive"),
    ],
)
def test_wrong_tasks_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Task(*arguments)
