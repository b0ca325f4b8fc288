"""Adaptation: seen where an encoder was made to suit its training dummies, and not where it was not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax

from reprkit.analysis import universality
from reprkit.analysis.universal.adaptation import adaptation
from reprkit.analysis.universal.intervals import Counts
from reprkit.analysis.universal.study import Study
from reprkit.analysis.workspace import Workspace
from reprkit.embeddings import Embeddings, EmbeddingsWriter, SplitRows
from reprkit.embeddings.dummies import TrainingDummies
from reprkit.recipe import UniversalityConfig
from reprkit.tasks import Task

COLUMNS = ["L_dummy_seen", "adaptation", "adaptation_low", "adaptation_high"]
QUICK = UniversalityConfig(num_dummies=48, bootstrap=200)
DIM, CLASSES = 24, 4


def as_torch_draws(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Weights [M, out, in] of `nn.Linear`: uniform in +-1/sqrt(in)."""
    return (rng.uniform(-1, 1, size=shape) / np.sqrt(shape[-1])).astype(np.float32)


def linear_heads(seed: int, *, outputs: int = CLASSES, count: int = 3) -> TrainingDummies:
    drawn = as_torch_draws(np.random.default_rng(seed), count, outputs + 1, DIM)
    return TrainingDummies({"weight": drawn[:, :outputs], "bias": drawn[:, outputs, :outputs]})


def two_layer_heads(seed: int, *, outputs: int = CLASSES, hidden: int = 20, count: int = 3) -> TrainingDummies:
    rng = np.random.default_rng(seed)
    first, second = as_torch_draws(rng, count, hidden, DIM + 1), as_torch_draws(rng, count, outputs, hidden + 1)
    layers = {"first": first[:, :, :-1], "first_bias": first[:, :, -1]}
    return TrainingDummies(layers | {"second": second[:, :, :-1], "second_bias": second[:, :, -1]}, "relu")


def encoder(fake_embeddings, dummies: TrainingDummies, *, pull: float = 0.0, seed: int = 0, rows: int = 400):
    """Class clusters whose rows are pulled to where the first dummies' outputs are large for their class."""
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(99).normal(size=(CLASSES, DIM))
    z, y = {}, {}
    towards = 0.0
    if pull:
        weight = dummies.layers.get("weight")
        if weight is None:
            weight = np.einsum("mch,mhd->mcd", dummies.layers["second"], dummies.layers["first"])
        towards = weight.sum(axis=0) / np.linalg.norm(weight.sum(axis=0), axis=1, keepdims=True)
    for split in ("train", "val", "test"):
        y[split] = rng.integers(CLASSES, size=rows)
        z[split] = means[y[split]] + rng.normal(size=(rows, DIM))
        if pull:
            z[split] += pull * towards[y[split]]
    fake = fake_embeddings(z, {"kind": y}, [Task("kind", "classification", CLASSES)])
    fake.training_dummies = lambda task: dummies
    return fake


@pytest.mark.parametrize("make", [linear_heads, two_layer_heads])
def test_an_encoder_made_for_its_dummies_is_found_out(fake_embeddings, make) -> None:
    row = universality(encoder(fake_embeddings, make(1), pull=6.0), config=QUICK).iloc[0]
    assert row["adaptation_low"] > 0
    assert row["adaptation_low"] < row["adaptation"] < row["adaptation_high"]


@pytest.mark.parametrize("make", [linear_heads, two_layer_heads])
def test_the_interval_covers_zero_for_an_encoder_that_never_met_them(fake_embeddings, make) -> None:
    # 40 sets of three dummies on the same z: about 2 intervals may miss 0 by chance, and their mean may not.
    untouched = encoder(fake_embeddings, make(0))
    study, values, missed = Study(Workspace.of(untouched), ["kind"]), [], 0
    for seed in range(40):
        untouched.training_dummies = lambda task, seed=seed: make(seed)
        config = UniversalityConfig(num_dummies=48, bootstrap=100, seed=seed)
        row = adaptation(study, config, Counts(None, 100, seed))["kind"]
        values.append(row["adaptation"])
        missed += not row["adaptation_low"] <= 0 <= row["adaptation_high"]
    assert missed <= 5
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(40) + 0.01


def test_loss_of_the_seen_dummies_by_hand(fake_embeddings) -> None:
    import itertools

    dummies = linear_heads(3)
    file = encoder(fake_embeddings, dummies)
    row = universality(file, config=QUICK).iloc[0]
    expected = []
    for m in range(3):
        weight, bias = dummies.layers["weight"][m], dummies.layers["bias"][m]
        logs = {s: log_softmax(file.z(s).astype(np.float64) @ weight.T + bias, axis=1) for s in ("train", "test")}
        loss = {
            pi: [-logs[s][np.arange(400), np.array(pi)[file.targets(s, "kind")]].mean() for s in logs]
            for pi in itertools.permutations(range(CLASSES))
        }
        expected.append(min(loss.values())[1])
    assert row["L_dummy_seen"] == pytest.approx(np.mean(expected), rel=1e-5)


def test_fresh_dummies_follow_the_law_of_the_seen_ones(fake_embeddings) -> None:
    # Many "seen" dummies have the same mean loss as the fresh ones.
    for make in (linear_heads, two_layer_heads):
        many = make(0, count=400)
        row = universality(encoder(fake_embeddings, many), config=QUICK).iloc[0]
        assert row["adaptation_low"] < 0 < row["adaptation_high"]
        assert row["adaptation_high"] - row["adaptation_low"] < 0.15


def test_columns_are_on_every_row_and_change_no_other(fake_embeddings) -> None:
    with_dummies = encoder(fake_embeddings, two_layer_heads(0))
    without = encoder(fake_embeddings, two_layer_heads(0))
    without.training_dummies = lambda task: None
    config = UniversalityConfig(num_dummies=8, bootstrap=40, heads=("linear", "mlp"))
    a, b = universality(with_dummies, config=config), universality(without, config=config)
    assert a[COLUMNS].notna().all().all()
    assert (a[COLUMNS].nunique() == 1).all()
    assert b[COLUMNS].isna().all().all()
    pd.testing.assert_frame_equal(a.drop(columns=COLUMNS), b.drop(columns=COLUMNS))
    streamed = universality(Workspace.of(with_dummies, memory=0), config=config)
    np.testing.assert_allclose(streamed[COLUMNS], a[COLUMNS], rtol=1e-5)


def test_real_values_and_a_real_file(fake_embeddings, tmp_path) -> None:
    rng = np.random.default_rng(0)
    tasks = [Task("age", "regression", 1), Task("kind", "classification", CLASSES)]
    z = {
        split: rng.normal(size=(n, DIM)).astype(np.float32) for split, n in (("train", 200), ("val", 80), ("test", 90))
    }
    rows = {}
    for split, values in z.items():
        age = values[:, 0] + 0.3 * rng.normal(size=len(values))
        ids = [f"{split}{i}" for i in range(len(values))]
        rows[split] = SplitRows(ids, {"age": age, "kind": rng.integers(CLASSES, size=len(values))})
    dummies = {"age": linear_heads(0, outputs=1)}
    with EmbeddingsWriter(tmp_path / "e.h5", splits=rows, tasks=tasks, dim=DIM, dummies=dummies) as writer:
        for split, values in z.items():
            writer.append(split, values)
        writer.finish()
    with Embeddings(tmp_path / "e.h5") as embeddings:
        found = universality(embeddings, config=QUICK).set_index("task")
    y = {split: part.targets["age"] for split, part in rows.items()}
    standard = (y["test"] - y["train"].mean()) / y["train"].std()
    layers = dummies["age"].layers
    outputs = z["test"] @ layers["weight"][:, 0].T + layers["bias"][:, 0]
    assert found.loc["age", "L_dummy_seen"] == pytest.approx(((standard[:, None] - outputs) ** 2).mean(), rel=1e-5)
    assert found.loc["kind", COLUMNS].isna().all()
