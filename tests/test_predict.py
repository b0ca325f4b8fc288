"""`reprkit predict`: pictures and arrays of what a model's own heads say."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from reprkit.cli import main
from reprkit.data.base import ImageDataset
from reprkit.models import build_model
from reprkit.predict import predict
from reprkit.recipe import DataConfig, ModelConfig, Recipe
from reprkit.tasks import Task
from reprkit.training.checkpoint import load_checkpoint, save_checkpoint
from reprkit.training.job import Job, fingerprints

TASKS = (
    Task("room", "classification", 3, ("bath", "bed", "hall")),
    Task("area", "segmentation", 4),
    Task("depth", "depth", 1, unit="m"),
    Task("normals", "normals", 3),
    Task("edges", "edges", 1),
)
SIZE, COUNT = (16, 24), 30


@pytest.fixture(scope="module")
def scenes():
    rng = np.random.default_rng(0)
    targets = {
        "room": rng.integers(-1, 3, COUNT),
        "area": rng.integers(-1, 4, (COUNT, *SIZE)).astype(np.int8),
        "depth": np.where(rng.random((COUNT, *SIZE)) < 0.1, np.nan, 2.0).astype(np.float32),
        "normals": np.broadcast_to(np.float32([0, 0, 1])[:, None, None], (COUNT, 3, *SIZE)).copy(),
        "edges": rng.integers(0, 2, (COUNT, *SIZE)).astype(np.int8),
    }
    split = np.repeat(np.uint8([0, 1, 2]), COUNT // 3)
    images = rng.integers(0, 256, (COUNT, 3, *SIZE)).astype(np.uint8)
    ids, half = np.array([f"scene-{i}" for i in range(COUNT)]), (0.5, 0.5, 0.5)
    return ImageDataset("rooms", TASKS, images, targets, ids, split, half, half, "d", "s", "t", "in thirds")


def write_run(folder, scenes):
    """A run folder whose encoder is untrained."""
    recipe = Recipe(
        methods=("vanilla",),
        data=DataConfig(name="rooms", image_size=SIZE),
        model=ModelConfig(encoder="convnet", head_channels=4, head_rates=(1,)),
    )
    torch.manual_seed(0)
    meta = {"recipe": Job(recipe, "vanilla", 0).portable_recipe(), "method": "vanilla", "seed": 0, "task": ""}
    meta |= {"tasks": [task.to_json() for task in scenes.tasks], "image_shape": [3, *SIZE], "epoch": 1, "step": 1}
    meta |= {"val_score": None, "fingerprints": fingerprints(scenes)}
    folder.mkdir()
    save_checkpoint(folder / "best.safetensors", build_model(recipe.model, scenes.tasks, 3), meta)
    return folder


@pytest.fixture
def run(tmp_path, scenes, monkeypatch):
    """A run of all tasks."""
    import reprkit.data

    monkeypatch.setattr(reprkit.data, "load_dataset", lambda config: scenes)
    return write_run(tmp_path / "run", scenes)


@pytest.fixture
def depth_run(tmp_path, scenes, monkeypatch):
    """A run of one task."""
    import reprkit.data

    monkeypatch.setattr(reprkit.data, "load_dataset", lambda config: scenes)
    return write_run(tmp_path / "depth", scenes.with_tasks(["depth"]))


def one_line(capsys):
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_arrays_are_what_the_heads_say(run, scenes, capsys):
    assert main(["predict", str(run)]) == 0
    assert capsys.readouterr().out.split() == [str(run / "panels" / name) for name in ("test-1.png", "test.npz")]
    found = np.load(run / "panels" / "test.npz")
    rows = [20, 21, 23, 24, 25, 26, 28, 29]  # eight of ten, spread evenly
    assert list(found["ids"]) == [f"scene-{row}" for row in rows]
    assert (found["images"] == scenes.images[rows]).all()
    model, _ = load_checkpoint(run / "best.safetensors")
    with torch.no_grad():
        outputs = model((torch.from_numpy(scenes.images[rows]).float() / 255 - 0.5) / 0.5)
    large = {
        name: F.interpolate(value, SIZE, mode="bilinear", align_corners=False).numpy()
        for name, value in outputs.items()
        if value.ndim == 4
    }
    length = np.linalg.norm(large["normals"], axis=1, keepdims=True)
    wanted = {
        "room": outputs["room"].numpy(),
        "area": large["area"].argmax(1),
        "depth": large["depth"][:, 0],
        "normals": large["normals"] / length,
        "edges": 1 / (1 + np.exp(-large["edges"][:, 0])),
    }
    for name, values in wanted.items():
        assert found[f"{name}.prediction"] == pytest.approx(values, abs=1e-4)
        np.testing.assert_array_equal(found[f"{name}.truth"], scenes.targets[name][rows])


def test_ids_and_splits_are_chosen(depth_run):
    paths = predict(depth_run / "best.safetensors", out=depth_run / "mine", split="train", ids=["scene-7", "scene-2"])
    assert [path.name for path in paths] == ["train-1.png", "train.npz"]
    assert list(np.load(paths[-1])["ids"]) == ["scene-7", "scene-2"]
    every = predict(depth_run, split="val", samples=99)
    assert list(np.load(every[-1])["ids"]) == [f"scene-{i}" for i in range(10, 20)]
    assert [path.name for path in every] == ["val-1.png", "val-2.png", "val.npz"]
    first = every[0].read_bytes()
    fewer = predict(depth_run, split="val", samples=3)
    assert not every[1].exists()  # no page of the longer call is left
    assert fewer[0].read_bytes() != first
    assert predict(depth_run, split="val", samples=99)[0].read_bytes() == first


def test_labels_of_images_are_told_in_words(trained, tmp_path, small_digits, monkeypatch):
    import reprkit.analysis.figures.panels as panels
    import reprkit.data

    seen = {}
    draw = panels.panel_figures
    monkeypatch.setattr(reprkit.data, "load_dataset", lambda config: small_digits)
    monkeypatch.setattr(
        panels, "panel_figures", lambda i, layers, t: seen.update(layers=layers, t=t) or draw(i, layers, t)
    )
    paths = predict(trained, out=tmp_path, samples=4)
    found = np.load(paths[-1])
    assert not seen["layers"]
    assert len(seen["t"]) == 4
    for i, text in enumerate(seen["t"]):
        name, *words = text.splitlines()
        assert name == found["ids"][i]
        assert [line.split(":")[0] for line in words] == ["left", "right", "sum"]
        for line in words:
            task = line.split(":")[0]
            said, truth = found[f"{task}.prediction"][i].argmax(), found[f"{task}.truth"][i]
            assert line.startswith(f"{task}: {said} (")
            assert line.endswith(f"truth {truth}") == (said != truth)


def test_wrong_input_gives_one_line(run, tmp_path, capsys, scenes, monkeypatch):
    import reprkit.data

    cases = {
        ("--ids", "scene-3"): "no test image 'scene-3'; it has 10, such as 'scene-20'",
        ("--samples", "0"): "--samples: 0",
        ("--samples", "2", "--ids", "a"): "not allowed",
        ("--split", "all"): "--split",
        ("--out", str(run / "best.safetensors")): "--out",
        ("--device", "abacus"): "abacus",
    }
    for words, told in cases.items():
        assert main(["predict", str(run), *words]) == 2
        assert told in one_line(capsys)
    assert main(["predict", str(tmp_path)]) == 2
    assert "best.safetensors" in one_line(capsys)
    monkeypatch.setattr(reprkit.data, "load_dataset", lambda config: scenes.with_tasks(["room", "depth"]))
    assert main(["predict", str(run)]) == 2
    assert "does not have 'area'" in one_line(capsys)
    assert not (run / "panels").exists()


def test_data_option_reaches_the_loader(depth_run, scenes, monkeypatch):
    import reprkit.data

    roots = []
    monkeypatch.setattr(reprkit.data, "load_dataset", lambda config: roots.append(config.root) or scenes)
    predict(depth_run, samples=1)
    (depth_run / "recipe.yaml").write_text("data: {name: rooms, root: THERE}")
    predict(depth_run, samples=1)
    predict(depth_run, samples=1, data="HERE")
    assert roots == [None, "THERE", "HERE"]
