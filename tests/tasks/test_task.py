import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reprkit.errors import InputError
from reprkit.tasks import Task

TASKS = [Task("c", "classification", 4), Task("o", "ordinal", 3), Task("r", "regression", 1, mean=2.0, std=3.0)]


def batch(task, seed, size=8):
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(size, task.num_outputs, generator=generator, dtype=torch.float64)
    if task.is_discrete:
        targets = torch.randint(0, task.num_outputs, (size,), generator=generator)
        targets[0] = -1
    else:
        targets = torch.randn(size, generator=generator, dtype=torch.float64)
        targets[0] = float("nan")
    return outputs, targets


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.kind)
@given(seed=st.integers(0, 10_000))
def test_residual_is_the_derivative_of_the_loss(task, seed):
    outputs, targets = batch(task, seed)
    outputs.requires_grad_()
    (expected,) = torch.autograd.grad(task.loss(outputs, targets), outputs)
    torch.testing.assert_close(task.residual(outputs, targets), expected, rtol=1e-12, atol=1e-14)
    stacked = task.residual(torch.stack([outputs, 2 * outputs]), targets)
    torch.testing.assert_close(stacked[0], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.kind)
def test_missing_targets_take_no_part(task):
    outputs, targets = batch(task, 0)
    torch.testing.assert_close(task.loss(outputs, targets), task.loss(outputs[1:], targets[1:]))
    none = torch.full_like(targets, -1 if task.is_discrete else float("nan"))
    assert task.loss(outputs, none) == 0
    assert np.isnan(task.score(outputs.numpy(), none.numpy()))


def test_classification_loss_is_cross_entropy_in_nats():
    task = TASKS[0]
    assert float(task.loss(torch.zeros(5, 4), torch.arange(5) % 4)) == pytest.approx(np.log(4))


def test_regression_heads_predict_the_standardised_target():
    task = TASKS[2]
    outputs = torch.tensor([[1.0], [-1.0]])
    assert float(task.loss(outputs, torch.tensor([5.0, -1.0]))) == 0
    assert task.score(outputs.numpy(), np.array([5.0, -1.0])) == 1.0


def test_round_trip_keeps_unknown_fields_out():
    for task in TASKS:
        assert Task.from_json({**task.to_json(), "of_the_future": 1}) == task


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", "other", 3), "kind 'other'"),
        (("a", "classification", 1), "nothing to learn"),
        (("a", "ordinal", 3, ("x",)), "1 class names for 3"),
    ],
)
def test_wrong_tasks_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Task(*arguments)
