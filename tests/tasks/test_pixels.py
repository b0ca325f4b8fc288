"""Dense tasks at single pixels."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from task_batches import DENSE, VECTOR, H, W, batch

from reprkit.tasks import Task, pixel_tasks


@pytest.mark.parametrize("task", DENSE, ids=lambda task: task.kind)
def test_pixel_tasks_read_targets_and_outputs(task):
    outputs, targets = batch(task, void=0.2)
    rows = outputs[0].flatten(1).T.float().numpy()
    sampled = targets[0].flatten(1).T.numpy() if task.kind == "normals" else targets[0].flatten().numpy()
    made = pixel_tasks(replace(task, weight=5.0))
    assert [pixel.task.name for pixel in made] == (
        [f"normals.{axis}" for axis in "xyz"] if task.kind == "normals" else [task.kind]
    )
    valid = task.valid(targets)[0].flatten().numpy()
    for pixel in made:
        y, x = pixel.targets(sampled), pixel.outputs(rows)
        assert x.shape == (H * W, pixel.task.num_outputs)
        assert not pixel.task.is_dense
        assert pixel.task.weight == 1
        np.testing.assert_array_equal(pixel.task.valid(y), valid)
    if task.kind == "normals":
        np.testing.assert_array_equal(np.stack([p.targets(sampled) for p in made], 1), sampled)
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        np.testing.assert_allclose(np.concatenate([p.outputs(rows) for p in made], 1), unit, rtol=1e-5)
    elif task.num_outputs == 1 and task.is_discrete:
        logits = torch.from_numpy(made[0].outputs(rows))
        torch.testing.assert_close(logits.softmax(1)[:, 1], torch.from_numpy(rows[:, 0]).sigmoid())
    else:
        np.testing.assert_array_equal(made[0].outputs(rows), rows)


def test_pixel_regressions_are_standardised():
    pixel = pixel_tasks(Task("d", "depth", 1, unit="m"))[0]
    pixel = replace(pixel, task=replace(pixel.task, mean=2.0, std=4.0))
    assert pixel.task.unit == "m"
    np.testing.assert_allclose(pixel.outputs(np.array([[2.0], [6.0]])), [[0.0], [1.0]])


def test_class_names_are_kept():
    assert pixel_tasks(Task("s", "segmentation", 2, ("floor", "wall")))[0].task.classes == ("floor", "wall")
    assert pixel_tasks(Task("s", "saliency", 1))[0].task.classes == ("no", "yes")
    assert pixel_tasks(Task("s", "saliency", 1, ("back", "front")))[0].task.classes == ("back", "front")


def test_tasks_of_whole_images_have_no_pixels():
    with pytest.raises(TypeError, match="not labelled pixel by pixel"):
        pixel_tasks(VECTOR[0])
