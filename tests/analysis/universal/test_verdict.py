"""The collapse verdict speaks when shrinkage explains an improvement, and is silent otherwise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from reprkit.analysis import collapse_check, universality
from reprkit.recipe import UniversalityConfig


def row(encoder: str, task: str = "left", head: str = "linear", seed: int = 0, **values) -> dict:
    base = {
        "encoder": encoder, "seed": seed, "task": task, "head": head, "status": "ok", "n": 100, "gap": 2.0,
        "grad_norm": 3.0, "U_rel": 0.3, "U_rel_high": 0.32, "L_star": 0.3, "H_y": 2.3, "rms": 1.0, "effective_rank": 40,
    }  # fmt: skip
    return base | values


def verdict(*rows: dict, **options) -> list[str]:
    return collapse_check(pd.DataFrame(rows), **options)


def test_shrinkage_explains_an_improvement() -> None:
    found = verdict(
        row("vanilla"),
        row("vanilla", task="right"),
        row("vanilla+dgr", gap=1.5, rms=1 / 3.1, effective_rank=12),
        row("vanilla+dgr", task="right", gap=1.8, rms=1 / 3.1, effective_rank=12),
    )
    assert found == [
        "Vanilla + DGR: U rose on left, right but RMS fell 3.1x and effective rank fell from 40 to 12: "
        "improvement explained by shrinkage"
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"grad_norm": 1.0, "rms": 0.5}, "the dummy gradient norm fell on left but RMS fell 2x"),
        ({"gap": 1.0, "L_star": 1.3}, "U rose on left but the optimal loss rose from 0.300 to 1.300"),
        (
            {"gap": 1.0, "grad_norm": 1.0, "rms": 0.0, "U_rel": np.nan},
            "U rose and the dummy gradient norm fell on left but RMS fell to 0",
        ),
    ],
)
def test_each_cause_has_its_words(change: dict, words: str) -> None:
    assert verdict(row("vanilla"), row("new", **change)) == [f"new: {words}: improvement explained by shrinkage"]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"gap": 1.0},
        {"gap": 1.0, "rms": 0.8},
        {"gap": 2.5, "rms": 0.1, "effective_rank": 2},
        {"gap": 1.0, "rms": 0.1, "U_rel": 0.5},
    ],
    ids=["equal", "better at full size", "hardly smaller", "smaller but no better", "U_rel rose too"],
)
def test_silent_without_suspicion(change: dict) -> None:
    assert verdict(row("vanilla"), row("new", **change)) == []


def test_collapse_is_named() -> None:
    found = verdict(row("vanilla"), row("new", status="no_headroom", U_rel=np.nan, gap=0.1, rms=0.0))
    assert found == ["new: no usable information is left on left: the representation has collapsed for it"]


def test_seeds_are_averaged_and_heads_named() -> None:
    rows = [row("base", seed=s, head=h) for s in (0, 1) for h in ("linear", "mlp")]
    rows += [row("new", seed=s, head="linear", gap=g, rms=0.4) for s, g in ((0, 0.9), (1, 1.1))]
    rows += [row("new", seed=s, head="mlp", gap=g, rms=0.4) for s, g in ((0, 1.0), (1, 3.0))]
    assert verdict(*rows) == [
        "new (linear heads): U rose on left but RMS fell 2.5x: improvement explained by shrinkage"
    ]


def test_baseline_is_vanilla_unless_named() -> None:
    rows = [row("single", rms=9.0, gap=9.0), row("vanilla"), row("other", rms=0.1, gap=1.0)]
    assert [line.split(":")[0] for line in verdict(*rows)] == ["other"]
    assert [line.split(":")[0] for line in verdict(*rows, baseline="single")] == ["Vanilla", "other"]


def test_an_addition_is_compared_with_its_own_method() -> None:
    rows = [row("vanilla", rms=0.3), row("nash_mtl"), row("nash_mtl+dgr", gap=1.5, rms=0.3)]
    assert [line.split(":")[0] for line in verdict(*rows)] == ["Nash-MTL + DGR"]
    assert verdict(*rows, baseline="vanilla") == []


def test_nothing_measured_gives_no_verdict() -> None:
    assert verdict(row("vanilla", gap=np.nan)) == []
    assert verdict(row("vanilla")) == []


def test_catches_a_real_encoder_that_only_shrank(toy) -> None:
    plain = toy(noise=0.9, label="vanilla")
    targets = {name: {s: plain.targets(s, name) for s in plain.splits} for name in plain.tasks}
    small = type(plain)({s: plain.z(s) / 10 for s in plain.splits}, targets, list(plain.tasks.values()), label="small")
    config = UniversalityConfig(num_dummies=8, bootstrap=50)
    frame = pd.concat([universality(plain, config=config), universality(small, config=config)])
    lines = collapse_check(frame)
    assert lines
    for line in lines:
        assert line.startswith("small: ")
        assert "the dummy gradient norm fell on" in line
        assert line.endswith("but RMS fell 10x: improvement explained by shrinkage")


def test_catches_shrinkage_of_real_values(toy) -> None:
    plain = toy(classes={"age": 5}, kinds={"age": "regression"}, noise=0.9, label="vanilla")
    targets = {name: {s: plain.targets(s, name) for s in plain.splits} for name in plain.tasks}
    small = type(plain)({s: plain.z(s) / 10 for s in plain.splits}, targets, list(plain.tasks.values()), label="small")
    config = UniversalityConfig(num_dummies=8, bootstrap=50)
    lines = collapse_check(pd.concat([universality(plain, config=config), universality(small, config=config)]))
    assert lines == [
        "small: U rose and the dummy gradient norm fell on age but RMS fell 10x: improvement explained by shrinkage"
    ]


def dgr(task: str = "left", *, head: str = "linear", seed: int = 0, **values) -> dict:
    return row("vanilla+dgr", task, head, seed, **({"adaptation": 0.12, "adaptation_low": 0.05} | values))


def test_adaptation_to_the_fixed_dummies_is_named() -> None:
    rows = [row("vanilla", task) for task in ("left", "right")]
    assert verdict(*rows, dgr(), dgr("right", adaptation=0.08)) == [
        "Vanilla + DGR: the dummies of its training fit better than fresh ones on left (by 0.12), right (by 0.08), and "
        "fresh ones gained nothing: adaptation to the fixed dummies"
    ]
    assert len(verdict(*rows, dgr(), dgr(head="mlp"))) == 1, "once, whatever the heads measured"
    assert verdict(*rows, dgr(U_rel=0.5)) == [], "fresh dummies gained as well"
    assert verdict(*rows, dgr(adaptation_low=-0.01)) == [], "it may be chance"
    assert verdict(*rows, dgr(), dgr(seed=1, adaptation_low=-0.2)) == [], "seeds are averaged"
    assert verdict(row("vanilla", adaptation=np.nan, adaptation_low=np.nan)) == []


def test_a_class_that_is_lost_is_named() -> None:
    rows = [row("vanilla", separation=0.4, closest_class="3"), row("vanilla", "age", separation=np.nan)]
    lost = row("new", separation=0.05, closest_class="7")
    assert verdict(*rows, lost) == [
        "new: class 7 of left has moved into its neighbour: the least separation of a class fell from 0.4 to 0.05"
    ]
    assert verdict(*rows, row("new", separation=0.2, closest_class="7"), row("new", "age", separation=np.nan)) == []
    assert len(verdict(*rows, row("new", separation=0.0, closest_class="7", status="no_headroom", U_rel=np.nan))) == 1
    assert "class 7 of" in verdict(*rows, row("new", separation=0.0, closest_class=7.0))[0], "as read from a table"
    assert (
        verdict(row("vanilla", separation=0.0, closest_class="3"), row("new", separation=0.0, closest_class="3")) == []
    )


def test_catches_a_real_class_that_moved_into_another(toy) -> None:
    plain = toy(classes={"left": 4}, noise=0.5, label="vanilla")
    targets = {name: {s: plain.targets(s, name) for s in plain.splits} for name in plain.tasks}
    mean = {c: plain.z("train")[targets["left"]["train"] == c].mean(axis=0) for c in range(4)}
    z = {s: plain.z(s) + (targets["left"][s] == 2)[:, None] * (0.9 * (mean[1] - mean[2])) for s in plain.splits}
    merged = type(plain)(z, targets, list(plain.tasks.values()), label="merged")
    config = UniversalityConfig(num_dummies=8, bootstrap=50)
    frame = pd.concat([universality(plain, config=config), universality(merged, config=config)])
    told = [line for line in collapse_check(frame) if "neighbour" in line]
    assert len(told) == 1
    assert told[0].startswith(("merged: class 1 of left", "merged: class 2 of left"))
    turned = type(plain)({s: 3 * plain.z(s)[:, ::-1] for s in plain.splits}, targets, list(plain.tasks.values()))
    again = pd.concat([universality(plain, config=config), universality(turned, config=config)])
    assert again["separation"].nunique() == 1 or np.allclose(*again["separation"])
    assert set(again["closest_class"]) == {frame["closest_class"].iloc[0]}
