"""The cost account against the passes that each method is known to make."""

import json
from dataclasses import replace

import pytest
import torch

from reprkit.recipe import BalancingConfig, TrainConfig
from reprkit.training import train
from reprkit.training.cost import PASSES, PassCounter, peak_memory, reset_peak_memory

K = 3
PASSES_OF = {  # encoder forwards, encoder backwards, head forwards, head backwards
    "vanilla": (1, 1, K, K),
    "vanilla+dgr": (1, 1, K, K),
    "vanilla+sam": (2, 2, 2 * K, 2 * K),
    "vanilla+pta": (1, 1, 4 * K, 4 * K),
    "nash_mtl": (1, K, K, K),
    "nash_mtl+dgr": (1, K + 1, K, K),
    "graddrop+sam": (2, K + 1, 2 * K, 2 * K),
    "auto_lambda": (4, 3, 4 * K, 3 * K),
}


@pytest.mark.parametrize("method", list(PASSES_OF))
def test_every_run_counts_its_passes(method, tmp_path, tiny, small_digits):
    recipe = replace(tiny, methods=(method,), train=TrainConfig(epochs=2))
    cost = json.loads((train(recipe, tmp_path / "run", dataset=small_digits) / "cost.json").read_text())
    assert tuple(cost[name] for name in PASSES) == PASSES_OF[method]
    assert cost["steps"] == 2 * (7 if method == "auto_lambda" else 8)
    assert cost["seconds"] > 0
    assert cost["seconds_per_step"] == pytest.approx(cost["seconds"] / cost["steps"], rel=1e-2)
    assert cost["parameters_shared"] > 0
    assert cost["peak_memory_mb"] > 50
    assert cost["memory"] == "resident"
    assert cost["processes"] == 1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (BalancingConfig(level="representation"), (1, 1, K, K)),
        (BalancingConfig(update_every=4), (1, (K + 3) / 4, K, K)),
    ],
)
def test_options_that_save_passes(options, expected, tmp_path, tiny, small_digits):
    recipe = replace(tiny, methods=("mgda",), balancing=options, train=TrainConfig(epochs=1))
    cost = json.loads((train(recipe, tmp_path / "run", dataset=small_digits) / "cost.json").read_text())
    assert tuple(cost[name] for name in PASSES) == expected


def test_lagged_auto_lambda_saves_a_backward_of_the_training_batch(tmp_path, tiny, small_digits):
    recipe = replace(
        tiny, methods=("auto_lambda",), balancing=BalancingConfig(lagged=True), train=TrainConfig(epochs=1)
    )
    cost = json.loads((train(recipe, tmp_path / "run", dataset=small_digits) / "cost.json").read_text())
    assert (cost["encoder_forwards"], cost["encoder_backwards"]) == (4, 2)


def test_counting_only_where_it_is_on():
    encoder, head = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU()), torch.nn.Linear(4, 2)
    counter = PassCounter(encoder, [head])
    x = torch.randn(5, 3)
    head(encoder(x)).sum().backward()
    assert not counter.counts
    with counter.on():
        z = encoder(x)
        torch.autograd.grad(z, encoder[0].weight, torch.ones_like(z), retain_graph=True)
        head(z).sum().backward()
        with torch.no_grad():
            head(encoder(x))
    assert dict(counter.counts) == {
        "encoder_forwards": 2, "encoder_backwards": 2, "head_forwards": 2, "head_backwards": 1
    }  # fmt: skip


def test_peak_memory_forgets_what_was_before():
    cpu = torch.device("cpu")
    large = torch.ones(64 << 20)
    high, kind = peak_memory(cpu)
    del large
    reset_peak_memory(cpu)
    assert kind == "resident"
    assert peak_memory(cpu)[0] < high - 150
