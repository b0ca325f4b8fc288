import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from reprkit.config import write_recipe
from reprkit.data.augment import normalise
from reprkit.embeddings import fingerprint_file
from reprkit.errors import InputError
from reprkit.recipe import DataConfig, DGRConfig, Recipe, TrainConfig
from reprkit.training import score_test_split, train
from reprkit.training.batches import BatchSource, epoch_order
from reprkit.training.checkpoint import load_checkpoint, load_state, read_header, save_state
from reprkit.training.trainer import TrainingFailed


def log(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_times(records):
    return [{k: v for k, v in r.items() if k not in ("seconds", "images_per_second")} for r in records]


def test_run_folder_and_reload(trained, small_digits):
    names = {p.name for p in trained.iterdir()}
    assert {
        "recipe.yaml",
        "environment.json",
        "metrics.jsonl",
        "best.safetensors",
        "last.safetensors",
        "state.pt",
    } <= names
    records = log(trained)
    assert [(r["epoch"], r["split"]) for r in records] == [(1, "train"), (1, "val"), (2, "train"), (2, "val")]
    assert records[2]["loss"]["left"] < records[0]["loss"]["left"]
    model, meta = load_checkpoint(trained / "last.safetensors")
    assert not model.training
    assert [t["name"] for t in meta["tasks"]] == ["left", "right", "sum"]
    scores = json.loads(score_test_split(trained, small_digits, "last").read_text())
    rows = small_digits.rows("test")
    images = normalise(torch.from_numpy(small_digits.images[rows]), small_digits.mean, small_digits.std)
    with torch.no_grad():
        predicted = model(images)["left"].argmax(1).numpy()
    assert scores["tasks"]["left"]["score"] == pytest.approx((predicted == small_digits.targets["left"][rows]).mean())


def test_training_is_repeatable_and_seeded(tmp_path, tiny, small_digits, trained):
    before = torch.get_rng_state()
    again = train(tiny, tmp_path / "again", dataset=small_digits)
    assert torch.equal(torch.get_rng_state(), before)
    for name in ("last.safetensors", "best.safetensors"):
        assert fingerprint_file(again / name) == fingerprint_file(trained / name)
    other = train(tiny, tmp_path / "other", seed=1, dataset=small_digits)
    assert fingerprint_file(other / "last.safetensors") != fingerprint_file(trained / "last.safetensors")


def test_dgr_trains_and_logs_its_penalty(tmp_path, tiny, small_digits, trained):
    folder = train(tiny, tmp_path / "dgr", method="vanilla+dgr", dataset=small_digits)
    assert all(r["penalty"] > 0 for r in log(folder) if r["split"] == "train")
    nothing = replace(tiny, dgr=DGRConfig(weight=0.0))
    off = train(nothing, tmp_path / "off", method="vanilla+dgr", dataset=small_digits)
    a, b = (load_checkpoint(f / "last.safetensors")[0].state_dict() for f in (off, trained))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-5, atol=1e-6)


def test_single_needs_a_task_and_learns_only_it(tmp_path, tiny, small_digits):
    with pytest.raises(InputError, match="--task"):
        train(tiny, tmp_path / "x", method="single", dataset=small_digits)
    with pytest.raises(InputError, match="leave --task out"):
        train(tiny, tmp_path / "x", method="vanilla", task="left", dataset=small_digits)
    quick = replace(tiny, train=TrainConfig(epochs=1))
    folder = train(quick, tmp_path / "single", method="single", task="sum", dataset=small_digits)
    assert [t["name"] for t in read_header(folder / "best.safetensors")["tasks"]] == ["sum"]


def test_a_folder_of_another_run_is_refused(trained, tiny, small_digits):
    with pytest.raises(InputError, match=r"train\.lr"):
        train(replace(tiny, train=replace(tiny.train, lr=0.5)), trained, dataset=small_digits)


def test_nan_loss_fails_and_keeps_the_sound_state(tmp_path, tiny, small_digits):
    wild = replace(tiny, train=TrainConfig(epochs=3, lr=1e20, optimizer="sgd"))
    with pytest.raises(TrainingFailed, match=r"train\.lr"):
        train(wild, tmp_path / "wild", dataset=small_digits)
    assert not (tmp_path / "wild" / "training.json").exists()


def test_batch_larger_than_the_data_is_refused(tmp_path, tiny, small_digits):
    with pytest.raises(InputError, match="batch_size"):
        train(replace(tiny, train=TrainConfig(batch_size=1000)), tmp_path / "x", dataset=small_digits)


def test_order_depends_on_seed_and_epoch_alone():
    rows = np.arange(100, 200)
    assert sorted(epoch_order(rows, 0, 0)) == list(rows)
    assert (epoch_order(rows, 0, 0) == epoch_order(rows, 0, 0)).all()
    assert (epoch_order(rows, 0, 0) != epoch_order(rows, 0, 1)).any()
    assert (epoch_order(rows, 0, 0) != epoch_order(rows, 1, 0)).any()


def test_a_batch_holds_its_rows(small_digits):
    source = BatchSource(small_digits, torch.device("cpu"))
    rows = small_digits.rows("test")[3:40]
    batch = source.batch(rows)
    assert batch.images.dtype == torch.float32
    assert len(batch.images) == len(rows)
    for name, targets in batch.targets.items():
        assert targets.tolist() == small_digits.targets[name][rows].tolist()


def test_bf16_trains(tmp_path, tiny, small_digits):
    recipe = replace(tiny, train=TrainConfig(epochs=1, precision="bf16"))
    folder = train(recipe, tmp_path / "bf16", method="vanilla+dgr", dataset=small_digits)
    assert all(np.isfinite(v) for r in log(folder) for v in r["loss"].values())


@pytest.mark.parametrize("kind", ["KILL", "INT"])
def test_killed_and_continued_gives_the_same_bits(tmp_path, kind):
    """A run killed in the middle of an epoch ends with the checkpoints of an undisturbed one."""
    recipe = Recipe(
        methods=("vanilla+dgr",),
        data=DataConfig(augment="crop_flip"),
        dgr=DGRConfig(control="random_direction"),
        train=TrainConfig(epochs=2, save_every=0.3, schedule="cosine"),
    )
    write_recipe(recipe, tmp_path / "recipe.yaml")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    arguments = [sys.executable, "-m", "reprkit", "train", str(tmp_path / "recipe.yaml"), "--out"]
    process = subprocess.Popen([*arguments, str(cut)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (cut / "state.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.4)
    process.send_signal(getattr(signal, f"SIG{kind}"))
    code = process.wait(60)
    assert code == (-9 if kind == "KILL" else 130)
    assert not (cut / "training.json").exists()
    stopped = load_state(cut / "state.pt")["progress"]
    assert stopped["step"] > 0 or stopped["epoch"] > 0
    for folder in (cut, whole):
        assert subprocess.run([*arguments, str(folder)], capture_output=True).returncode == 0
    for name in ("last.safetensors", "best.safetensors"):
        assert fingerprint_file(cut / name) == fingerprint_file(whole / name)
    assert without_times(log(cut)) == without_times(log(whole))


def test_damaged_state_is_named(tmp_path, tiny, small_digits):
    folder = train(replace(tiny, train=TrainConfig(epochs=1)), tmp_path / "run", dataset=small_digits)
    os.remove(folder / "training.json")
    (folder / "state.pt").write_bytes((folder / "state.pt").read_bytes()[:1000])
    with pytest.raises(InputError, match=r"state\.pt: damaged"):
        train(replace(tiny, train=TrainConfig(epochs=1)), folder, dataset=small_digits)


def test_state_holds_only_tensors_and_plain_values(trained, tmp_path):
    state = load_state(trained / "state.pt")
    save_state(tmp_path / "copy.pt", state)
    assert load_state(tmp_path / "copy.pt")["progress"] == state["progress"]
    for wrong in (np.float64(1), {1, 2}, object()):
        with pytest.raises(TypeError, match=r"state\.x\.y"):
            save_state(tmp_path / "wrong.pt", {"x": {"y": wrong}})
    assert not (tmp_path / "wrong.pt").exists()


def test_tensorboard_is_an_extra(tmp_path, tiny, small_digits, trained):
    recipe = replace(tiny, train=replace(tiny.train, tensorboard=True))
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match=r"reprkit\[tensorboard\]"):
            train(recipe, tmp_path / "board", dataset=small_digits)
        return
    folder = train(recipe, tmp_path / "board", dataset=small_digits)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    written = [event.value for event in events.Scalars("loss/left/val")]
    assert written == pytest.approx([r["loss"]["left"] for r in log(folder) if r["split"] == "val"], rel=1e-6)
