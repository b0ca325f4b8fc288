"""Real-valued tasks: the affine gauge and the ridge optimum by hand, and what must not change them."""

from __future__ import annotations

import importlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from reprkit.analysis import universality
from reprkit.analysis.universal.dummies import draw_dummies
from reprkit.analysis.universal.gauges import linear_maps, sampled_maps
from reprkit.analysis.universal.ridge import regression_moments
from reprkit.analysis.workspace import Workspace
from reprkit.recipe import UniversalityConfig

module = importlib.import_module("reprkit.analysis.universal.score")
QUICK = UniversalityConfig(num_dummies=16, bootstrap=100)
RELATIVE = ["U_rel", "U_rel_low", "U_rel_high", "L_star", "H_y", "tau_median"]


@pytest.fixture(scope="module")
def ages(toy):
    """A task of real values, 0 to 4 plus noise, beside one of classes."""
    return toy(classes={"age": 5, "right": 2}, kinds={"age": "regression"}, noise=0.9)


@pytest.fixture(scope="module")
def result(ages) -> pd.DataFrame:
    return universality(ages, config=QUICK)


def changed(embeddings, *, z=lambda z: z, y=lambda split, y: y):
    """The same embeddings with another z or other ages."""
    fake = type(embeddings)
    targets = {name: {s: embeddings.targets(s, name) for s in embeddings.splits} for name in embeddings.tasks}
    targets["age"] = {split: y(split, values) for split, values in targets["age"].items()}
    rows = {split: z(embeddings.z(split).astype(np.float64)) for split in embeddings.splits}
    return fake(rows, targets, list(embeddings.tasks.values()))


def standardised(embeddings) -> dict[str, np.ndarray]:
    y = {split: embeddings.targets(split, "age") for split in embeddings.splits}
    return {split: (values - y["train"].mean()) / y["train"].std() for split, values in y.items()}


def test_by_hand(ages, result: pd.DataFrame) -> None:
    row, y = result.iloc[0], standardised(ages)
    train, test = ages.z("train").astype(np.float64), ages.z("test").astype(np.float64)
    dummies = draw_dummies("linear", dim=16, outputs=2, count=16, seed=QUICK.seed)
    raw, mapped = [], []
    for m in range(16):
        on_train, on_test = train @ dummies.first[0, m], test @ dummies.first[0, m]
        raw.append(((y["test"] - on_test) ** 2).mean())
        slope, offset = np.polyfit(on_train, y["train"], 1)
        mapped.append(((y["test"] - slope * on_test - offset) ** 2).mean())
    assert row["status"] == "ok"
    assert row["L_dummy"] == pytest.approx(np.mean(raw), rel=1e-5)
    assert row["L_dummy_sd"] == pytest.approx(np.std(raw, ddof=1), rel=1e-5)
    assert row["H_y"] == pytest.approx((y["test"] ** 2).mean(), rel=1e-9)
    assert row["gap"] == pytest.approx(row["L_dummy"] - row["L_star"])
    assert row["U"] == pytest.approx(1 / row["gap"])
    assert row["U_rel"] == pytest.approx((row["H_y"] - np.mean(mapped)) / (row["H_y"] - row["L_star"]), rel=1e-5)
    assert row["U_rel_tau"] == row["U_rel"]
    assert row["dummy_sha"] == dummies.digest(1)
    assert np.isnan(row["num_classes"])
    mean, rms = train.mean(axis=0), row["rms"]
    model = Ridge(alpha=1 / row["C"]).fit((train - mean) / rms, y["train"])
    best = ((y["test"] - model.predict((test - mean) / rms)) ** 2).mean()
    assert row["L_star"] == pytest.approx(best, rel=1e-5)
    assert row["grad_norm"] == pytest.approx(
        np.mean([
            2 / len(test) * np.linalg.norm(np.append(test, np.ones((len(test), 1)), 1).T @ (test @ w - y["test"]))
            for w in dummies.first[0]
        ]), rel=1e-4,
    )  # fmt: skip


def test_intervals_and_bounds(result: pd.DataFrame) -> None:
    for name in ("gap", "U", "U_rel"):
        assert (result[f"{name}_low"] < result[name]).all()
        assert (result[name] < result[f"{name}_high"]).all()
    assert (result["bound"] >= result["gap"]).all()
    np.testing.assert_allclose(result["looseness"], result["bound"] / result["gap"])
    np.testing.assert_allclose(result["U_bound"], 1 / result["bound"])
    assert (result["U_bound"] <= result["U"]).all()


@given(factor=st.floats(0.001, 1000), shift=st.floats(-1e4, 1e4), sign=st.sampled_from([1, -1]))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_affine_changes_of_the_target_leave_the_relative_score(
    ages, result: pd.DataFrame, factor: float, shift: float, sign: int
) -> None:
    moved = changed(ages, y=lambda _, y: sign * factor * y + shift)
    found = universality(moved, tasks=["age"], config=QUICK)
    pd.testing.assert_frame_equal(found[RELATIVE], result[:1][RELATIVE], rtol=1e-5, atol=1e-6)
    if sign > 0:
        np.testing.assert_allclose(found["gap"], result["gap"][:1], rtol=1e-5)


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_scale_and_shift_of_z_leave_the_relative_score(ages, scale: float, head: str) -> None:
    config = replace(QUICK, heads=(head,), num_dummies=6, bootstrap=40)
    before = universality(ages, tasks=["age"], config=config)
    after = universality(changed(ages, z=lambda z: scale * (z + 1)), tasks=["age"], config=config)
    tolerance = 1e-5 if head == "linear" else 3e-3  # the mlp's L* comes from stochastic float32 training
    pd.testing.assert_frame_equal(after[RELATIVE], before[RELATIVE], rtol=tolerance, atol=tolerance)
    assert not np.isclose(after["gap"], before["gap"], rtol=0.01).any(), "the literal gap depends on the scale"


def test_a_dummy_along_the_target_has_all_the_information(ages, monkeypatch: pytest.MonkeyPatch) -> None:
    y = standardised(ages)
    fake = type(ages)
    z = {split: np.column_stack([ages.z(split), 7 * values - 2]) for split, values in y.items()}
    targets = {"age": {split: ages.targets(split, "age") for split in ages.splits}}

    def informed(*args, **options):
        drawn = draw_dummies(*args, **options)
        first = np.zeros_like(drawn.first)
        first[0, :, -1] = np.linspace(-3, 3, 16)
        return replace(drawn, first=first)

    monkeypatch.setattr(module, "draw_dummies", informed)
    row = module.universality(fake(z, targets, [ages.tasks["age"]]), config=QUICK).iloc[0]
    assert row["L_star"] < 1e-3
    assert row["U_rel"] == pytest.approx(1, abs=1e-3)
    assert row["gap"] > 1, "taken to the letter, the outputs are far from the target"


def test_maps_from_moments_equal_least_squares(ages) -> None:
    rng = np.random.default_rng(0)
    holed = changed(ages, y=lambda _, y: np.where(rng.random(len(y)) < 0.3, np.nan, y))
    ws = Workspace.of(holed)
    y = ws.targets("train", "age")
    known = ~np.isnan(y)
    y = (y - y[known].mean()) / y[known].std()
    moments = regression_moments(ws, {"age": y})["age"]
    dummies = draw_dummies("linear", dim=16, outputs=3, count=5, seed=0, init="paper")
    for rms in (None, ws.statistics.rms):
        slopes, offsets = linear_maps(dummies, dummies.view(ws.mean, rms), moments)
        rows = ws.z("train")[known].astype(np.float64)
        rows = rows if rms is None else (rows - ws.mean) / rms
        outputs = dummies.first[0] @ rows.T + dummies.first_bias[0][:, None]
        expected = np.array([np.polyfit(f, y[known], 1) for f in outputs])
        np.testing.assert_allclose(np.column_stack([slopes, offsets]), expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(np.column_stack(sampled_maps(outputs, y[known])), expected, rtol=1e-6, atol=1e-8)
    constant = sampled_maps(np.full((2, 9), 3.0), np.arange(9.0))
    np.testing.assert_allclose(constant, [[0, 0], [4, 4]])


def test_missing_values_are_left_out(ages) -> None:
    rng = np.random.default_rng(1)
    holed = changed(ages, y=lambda _, y: np.where(rng.random(len(y)) < 0.2, np.nan, y))
    keep = {split: ~np.isnan(holed.targets(split, "age")) for split in holed.splits}
    fake = type(ages)
    short = fake(
        {s: holed.z(s)[keep[s]] for s in holed.splits},
        {"age": {s: holed.targets(s, "age")[keep[s]] for s in holed.splits}},
        [holed.tasks["age"]],
    )
    for heads in (("linear",), ("mlp",)):
        config = replace(QUICK, heads=heads)
        found, reference = universality(holed, config=config).iloc[0], universality(short, config=config).iloc[0]
        assert found["n"] == keep["test"].sum()
        assert found["H_y"] == pytest.approx(reference["H_y"], rel=1e-12)
        assert found["L_dummy"] == pytest.approx(reference["L_dummy"], rel=1e-5)
        assert found["L_star"] == pytest.approx(reference["L_star"], abs=0.01)


def test_tasks_do_not_influence_each_other(ages, result: pd.DataFrame) -> None:
    alone = pd.concat([universality(ages, tasks=[name], config=QUICK) for name in ("age", "right")], ignore_index=True)
    pd.testing.assert_frame_equal(alone, result, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_constant_representation_has_no_headroom(ages, value: float) -> None:
    config = replace(QUICK, heads=("linear", "mlp"))
    found = universality(changed(ages, z=lambda z: np.full_like(z, value)), tasks=["age"], config=config)
    assert set(found["status"]) == {"no_headroom"}
    assert set(found["star_family"]) == {"prior"}
    np.testing.assert_allclose(found["L_star"], found["H_y"])
    assert found["U_rel"].isna().all()


def test_noise_has_no_headroom(ages) -> None:
    rng = np.random.default_rng(0)
    found = universality(changed(ages, y=lambda _, y: rng.permutation(y)), tasks=["age"], config=QUICK)
    assert found["status"][0] == "no_headroom"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda split, y: y * 0 + 4.25, "one value: the training rows hold no second one"),
        (lambda split, y: y * np.nan if split == "test" else y, "no targets in the test rows"),
        (lambda split, y: y * np.nan if split == "val" else y, "no targets in the validation rows"),
        (lambda split, y: y * np.nan if split == "train" else y, "one value: the training rows hold no second one"),
    ],
)
def test_nothing_to_measure_is_a_status(ages, spoil, words: str) -> None:
    found = universality(changed(ages, y=spoil), config=QUICK)
    assert list(found["status"]) == [words, "ok"]
    assert found.loc[0, ["gap", "U_rel", "L_star", "bound"]].isna().all()


def test_two_layer_heads_find_what_is_not_linear(ages) -> None:
    bent = changed(ages, y=lambda _, y: np.abs(y - 2))
    found = universality(bent, tasks=["age"], config=replace(QUICK, heads=("linear", "mlp")))
    linear, mlp = found.iloc[0], found.iloc[1]
    assert mlp["star_family"] == "mlp"
    assert mlp["L_star"] < linear["L_star"] - 0.1
    assert np.isnan(mlp["bound"])
    assert np.isnan(mlp["C"])


def test_mlp_dummies_by_hand(ages) -> None:
    row = universality(ages, tasks=["age"], config=replace(QUICK, heads=("mlp",), num_dummies=4)).iloc[0]
    y, mean = standardised(ages), ages.z("train").mean(axis=0, dtype=np.float64)
    dummies = draw_dummies("mlp", dim=16, outputs=1, count=4, seed=QUICK.seed)

    def outputs(split: str, m: int) -> np.ndarray:
        x = (ages.z(split) - mean) / row["rms"]
        return np.maximum(x @ dummies.first[m].T, 0) @ dummies.second[m][0]

    mapped = []
    for m in range(4):
        slope, offset = np.polyfit(outputs("train", m), y["train"], 1)
        mapped.append(((y["test"] - slope * outputs("test", m) - offset) ** 2).mean())
    assert row["U_rel"] == pytest.approx((row["H_y"] - np.mean(mapped)) / (row["H_y"] - row["L_star"]), rel=1e-4)
