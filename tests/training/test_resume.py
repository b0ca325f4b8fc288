"""Every method, interrupted in the middle of an epoch and taken up again, ends with the same bits."""

from dataclasses import replace

import pytest
import torch

from reprkit.embeddings import fingerprint_file
from reprkit.errors import InputError, Interrupted
from reprkit.recipe import METHODS, BalancingConfig, DGRConfig, TrainConfig
from reprkit.training import train
from reprkit.training.checkpoint import load_state
from reprkit.training.trainer import Trainer


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
