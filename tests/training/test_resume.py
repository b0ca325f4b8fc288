"""Every method, interrupted in the middle of an epoch and taken up again, ends with the same bits."""

from dataclasses import replace

import pytest
import torch

from reprkit.embeddings import fingerprint_file
from reprkit.errors import InputError, Interrupted
from reprkit.recipe import METHODS, BalancingConfig, DataConfig, DGRConfig, TrainConfig
from reprkit.training import train
from reprkit.training.balancing import register
from reprkit.training.balancing.active import SolverError
from reprkit.training.checkpoint import load_state
from reprkit.training.job import Job
from reprkit.training.trainer import Trainer, TrainingFailed


@pytest.mark.parametrize("base", [name for name in METHODS if name != "single"])
@pytest.mark.parametrize("additions", ["", "+dgr+sam+pta"])
def test_interrupted_and_continued_gives_the_same_bits(base, additions, tmp_path, tiny, small_digits, monkeypatch):
    if additions == "" and base == "vanilla":
        pytest.skip("covered by the command line's test")
    recipe = replace(
        tiny,
        methods=(base + additions,),
        dgr=DGRConfig(control="random_direction"),
        balancing=BalancingConfig(update_every=2),
        train=TrainConfig(epochs=4, schedule="cosine", save_every=1e9),
    )
    whole = train(recipe, tmp_path / "whole", dataset=small_digits, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_agreed", lambda self, stop: self.at.epoch == 2 and self.at.step == 4)
        with pytest.raises(Interrupted):
            train(recipe, tmp_path / "cut", dataset=small_digits, progress=False)
    assert load_state(tmp_path / "cut" / "state.pt")["progress"]["step"] == 5
    torch.manual_seed(123)  # what the process draws meanwhile does not matter
    cut = train(recipe, tmp_path / "cut", dataset=small_digits, progress=False)
    for name in ("last.safetensors", "best.safetensors"):
        assert fingerprint_file(cut / name) == fingerprint_file(whole / name)
    a, b = (load_state(folder / "state.pt") for folder in (cut, whole))
    torch.testing.assert_close(a["method"], b["method"], rtol=0, atol=0)
    torch.testing.assert_close(a["optimizer"], b["optimizer"], rtol=0, atol=0)
    passes = [load_state(folder / "state.pt")["progress"]["passes"] for folder in (cut, whole)]
    assert passes[0] == passes[1]


@pytest.mark.parametrize(
    ("method", "options", "training", "data"),
    [
        ("auto_lambda+dgr", {"lagged": True}, {"optimizer": "sgd", "lr": 0.01}, {}),
        ("auto_lambda", {}, {"optimizer": "adamw", "weight_decay": 0.01}, {}),
        ("nash_mtl+dgr", {"level": "representation"}, {"precision": "bf16"}, {"augment": "crop_flip"}),
        ("graddrop", {"level": "representation"}, {"optimizer": "sgd", "lr": 0.01}, {"augment": "flip"}),
        ("mgda+sam", {"normalise": "loss+"}, {"optimizer": "adamw"}, {}),
    ],
)
def test_options_and_optimizers_resume_too(method, options, training, data, tmp_path, tiny, small_digits, monkeypatch):
    recipe = replace(
        tiny,
        methods=(method,),
        data=DataConfig(**data),
        balancing=BalancingConfig(**options),
        train=TrainConfig(epochs=2, save_every=1e9, schedule="cosine", **training),
    )
    whole = train(recipe, tmp_path / "whole", dataset=small_digits, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_agreed", lambda self, stop: self.at.epoch == 1 and self.at.step == 2)
        with pytest.raises(Interrupted):
            train(recipe, tmp_path / "cut", dataset=small_digits, progress=False)
    cut = train(recipe, tmp_path / "cut", dataset=small_digits, progress=False)
    assert fingerprint_file(cut / "last.safetensors") == fingerprint_file(whole / "last.safetensors")


def test_the_meta_split_is_held_out_and_large_enough(tmp_path, tiny, small_digits):
    recipe = replace(tiny, methods=("auto_lambda",))
    job = Job(recipe, "auto_lambda", 0)
    trainers = [Trainer(replace(job, seed=seed), tmp_path, small_digits, progress=False) for seed in (0, 1)]
    train_rows, meta_rows = trainers[0].rows["train"], trainers[0].rows["meta"]
    assert len(meta_rows) == 51
    assert set(train_rows) | set(meta_rows) == set(small_digits.rows("train"))
    assert not set(train_rows) & set(meta_rows)
    assert (trainers[1].rows["meta"] == meta_rows).all()
    few = replace(recipe, balancing=BalancingConfig(meta_fraction=0.001))
    with pytest.raises(InputError, match=r"balancing\.meta_fraction: 0\.001 of the training images is 1"):
        train(few, tmp_path / "few", dataset=small_digits)


def test_a_loss_that_bursts_in_the_last_step_is_noticed(tmp_path, tiny, small_digits):
    recipe = replace(tiny, train=TrainConfig(epochs=1, batch_size=512, optimizer="sgd", lr=1e38))
    with pytest.raises(TrainingFailed, match=r"validation loss.*became NaN or infinite in epoch 1; lower train\.lr"):
        train(recipe, tmp_path / "run", dataset=small_digits)
    assert not (tmp_path / "run" / "best.safetensors").exists()


def test_a_solver_that_gives_up_says_so(tmp_path, tiny, small_digits, monkeypatch):
    def gives_up(gram):
        raise SolverError("no equilibrium", 0.5)

    register("gives_up", gives_up)
    with pytest.raises(TrainingFailed, match=r"gives_up found no weights in epoch 1: no equilibrium \(residual 0\.5\)"):
        train(replace(tiny, methods=("gives_up",)), tmp_path / "run", dataset=small_digits)


def test_only_options_that_the_method_reads_tell_runs_apart(tmp_path, tiny, small_digits):
    recipe = replace(tiny, methods=("cagrad",), train=TrainConfig(epochs=1))
    folder = train(recipe, tmp_path / "run", dataset=small_digits, progress=False)
    same = replace(recipe, balancing=BalancingConfig(temperature=9.0, lr=0.5))
    assert train(same, folder, dataset=small_digits, progress=False) == folder
    with pytest.raises(InputError, match=r"balancing\.c"):
        train(replace(recipe, balancing=BalancingConfig(c=0.2)), folder, dataset=small_digits, progress=False)
    with pytest.raises(InputError, match=r"balancing\.level"):
        train(
            replace(recipe, balancing=BalancingConfig(level="representation")), folder, dataset=small_digits,
            progress=False,
        )  # fmt: skip


def test_a_level_that_no_method_has(tmp_path, tiny, small_digits):
    recipe = replace(tiny, methods=("dwa",), balancing=BalancingConfig(level="representation"))
    with pytest.raises(InputError, match="dwa has no level; these have: pcgrad"):
        train(recipe, tmp_path / "x", dataset=small_digits)
    assert not (tmp_path / "x").exists()


def test_a_folder_from_before_a_field_existed_is_continued(tmp_path):
    import json

    from reprkit.recipe import Recipe, TrainConfig
    from reprkit.training import train

    recipe = Recipe(methods=("vanilla",), train=TrainConfig(epochs=1, batch_size=512))
    folder = train(recipe, tmp_path / "run", progress=False)
    record = json.loads((folder / "identity.json").read_text())
    for section, field in (("data", "crop"), ("model", "structure")):
        del record[section][field]
    (folder / "identity.json").write_text(json.dumps(record))
    assert train(recipe, folder, progress=False) == folder
