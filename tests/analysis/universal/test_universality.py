"""The score as a whole: what must not change it, what it must say about hopeless cases, and what it must not hide."""

from __future__ import annotations

import importlib
import itertools
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax, softmax
from scipy.stats import ortho_group

from reprkit.analysis import universality
from reprkit.analysis.universal.dummies import draw_dummies
from reprkit.analysis.universal.measuring import MAX_CERTIFICATE
from reprkit.analysis.universal.optimal import choose_c
from reprkit.analysis.universal.study import Study
from reprkit.analysis.workspace import Workspace, carve_by_id
from reprkit.errors import InputError
from reprkit.recipe import UniversalityConfig
from reprkit.tasks import Task

module = importlib.import_module("reprkit.analysis.universal.score")
QUICK = UniversalityConfig(num_dummies=16, bootstrap=100)
SCORES = ["gap", "U", "U_rel", "U_rel_tau", "L_star", "L_dummy", "H_y"]
FREE_OF_SCALE = [
    "U_rel", "U_rel_low", "U_rel_high", "U_rel_tau", "U_rel_tau_low", "U_rel_tau_high", "L_star", "grad_norm_rms1",
]  # fmt: skip


def moved(embeddings, change, **options):
    """The same embeddings with another z."""
    fake = type(embeddings)
    z = {split: change(embeddings.z(split).astype(np.float64)) for split in embeddings.splits}
    targets = {name: {s: embeddings.targets(s, name) for s in embeddings.splits} for name in embeddings.tasks}
    return fake(z, targets, list(embeddings.tasks.values()), **options)


def relabelled(embeddings, change):
    """The same embeddings with other targets: `change(task, split, targets)`."""
    fake = type(embeddings)
    z = {split: embeddings.z(split) for split in embeddings.splits}
    targets = {
        name: {s: change(name, s, embeddings.targets(s, name)) for s in embeddings.splits} for name in embeddings.tasks
    }
    return fake(z, targets, list(embeddings.tasks.values()))


@pytest.fixture(scope="module")
def clusters(toy):
    embeddings = toy(noise=0.9, label="vanilla")
    embeddings.seed = 3
    return embeddings


@pytest.fixture(scope="module")
def result(clusters) -> pd.DataFrame:
    return universality(clusters, config=QUICK)


def test_columns_and_order(result: pd.DataFrame) -> None:
    assert tuple(result.columns) == module.COLUMNS
    assert list(result["task"]) == ["left", "right"]
    assert set(result["encoder"]) == {"vanilla"}
    assert set(result["seed"]) == {3}
    assert set(result["status"]) == {"ok"}
    assert set(result["star_family"]) == {"linear"}
    assert list(result["num_classes"]) == [3, 2]
    assert set(result["n"]) == {300}
    seen = ["L_dummy_seen", "adaptation", "adaptation_low", "adaptation_high"]
    assert result[seen].isna().all().all(), "this file keeps no dummies of training"
    assert not result.drop(columns=["status", *seen]).isna().any().any()


def test_the_function_is_not_hidden_by_its_module() -> None:
    analysis = importlib.import_module("reprkit.analysis")
    importlib.reload(module)
    assert callable(analysis.universality)
    assert not isinstance(analysis.universality, type(module))
    with pytest.raises(AttributeError, match="nothing"):
        analysis.nothing  # noqa: B018


def losses_by_enumeration(logits: np.ndarray, targets: np.ndarray) -> dict[tuple[int, ...], float]:
    """Mean cross-entropy under each relabelling."""
    logs = log_softmax(logits, axis=1)
    rows = np.arange(len(targets))
    return {pi: -logs[rows, np.array(pi)[targets]].mean() for pi in itertools.permutations(range(logits.shape[1]))}


def honest_losses(dummies, train: np.ndarray, fit_y: np.ndarray, test: np.ndarray, y: np.ndarray) -> list[float]:
    """Loss of each linear dummy on test under the permutation that is best on train."""
    losses = []
    for m in range(dummies.count):
        weights = dummies.first[:, m].T
        on_train = losses_by_enumeration(train @ weights, fit_y)
        losses.append(losses_by_enumeration(test @ weights, y)[min(on_train, key=on_train.__getitem__)])
    return losses


def test_definition_two_to_the_letter(clusters, result: pd.DataFrame) -> None:
    # Raw z, one dummy at a time, all permutations enumerated: chosen on train, scored on test.
    train, test = clusters.z("train").astype(np.float64), clusters.z("test").astype(np.float64)
    for row in result.itertuples():
        fit_y, y = clusters.targets("train", row.task), clusters.targets("test", row.task)
        dummies = draw_dummies("linear", dim=16, outputs=row.num_classes, count=16, seed=QUICK.seed)
        losses = honest_losses(dummies, train, fit_y, test, y)
        optimistic = [min(losses_by_enumeration(test @ dummies.first[:, m].T, y).values()) for m in range(16)]
        assert row.dummy_sha == dummies.digest(row.num_classes)
        assert row.L_dummy == pytest.approx(np.mean(losses), rel=1e-6)
        assert row.L_dummy_sd == pytest.approx(np.std(losses, ddof=1), rel=1e-5)
        assert row.L_dummy >= np.mean(optimistic) - 1e-6
        assert row.gap == pytest.approx(row.L_dummy - row.L_star)
        assert pytest.approx(1 / row.gap) == row.U
        assert (row.U_low, row.U_high) == (pytest.approx(1 / row.gap_high), pytest.approx(1 / row.gap_low))


def test_unequal_classes_and_a_common_offset_have_permutations_of_their_own(toy) -> None:
    # The offset gives each output a constant on raw z, which counts more for frequent classes: there the best
    # permutation differs from that on centred z.
    merged = relabelled(toy(classes={"left": 5}), lambda task, split, y: np.array([0, 0, 0, 1, 2])[y])
    embeddings = moved(merged, lambda z: z + 2)
    row = universality(embeddings, config=QUICK).iloc[0]
    train, test = (embeddings.z(split).astype(np.float64) for split in ("train", "test"))
    fit_y, y = embeddings.targets("train", "left"), embeddings.targets("test", "left")
    dummies = draw_dummies("linear", dim=16, outputs=5, count=16, seed=QUICK.seed)
    mean = train.mean(axis=0)
    raw = honest_losses(dummies, train, fit_y, test, y)
    relative = honest_losses(dummies, (train - mean) / row["rms"], fit_y, (test - mean) / row["rms"], y)
    assert row["L_dummy"] == pytest.approx(np.mean(raw), rel=1e-6)
    assert row["U_rel"] == pytest.approx((row["H_y"] - np.mean(relative)) / (row["H_y"] - row["L_star"]), rel=1e-5)


def test_relative_score_by_hand(clusters, result: pd.DataFrame) -> None:
    train, test = clusters.z("train").astype(np.float64), clusters.z("test").astype(np.float64)
    mean = train.mean(axis=0)
    rms = np.sqrt(np.mean((train - mean) ** 2))
    for row in result.itertuples():
        y, fit_y = clusters.targets("test", row.task), clusters.targets("train", row.task)
        dummies = draw_dummies("linear", dim=16, outputs=row.num_classes, count=16, seed=QUICK.seed)
        losses = honest_losses(dummies, (train - mean) / rms, fit_y, (test - mean) / rms, y)
        entropy = -np.log(np.bincount(fit_y) / len(fit_y))[y].mean()
        assert row.H_y == pytest.approx(entropy)
        assert row.rms == pytest.approx(rms)
        expected = (entropy - np.mean(losses)) / (entropy - row.L_star)
        assert row.U_rel == pytest.approx(expected, rel=1e-5)
        assert row.U_rel_tau > row.U_rel - 0.01
        assert row.L_star < entropy


def test_the_theorem_bounds_the_gap(result: pd.DataFrame) -> None:
    assert (result["bound"] >= result["gap"]).all()
    np.testing.assert_allclose(result["looseness"], result["bound"] / result["gap"])
    np.testing.assert_allclose(result["U_bound"], 1 / result["bound"])


def test_bound_by_hand(clusters, result: pd.DataFrame) -> None:
    study = Study(Workspace.of(clusters), ["left", "right"])
    train, test = clusters.z("train").astype(np.float64), clusters.z("test").astype(np.float64)
    for row in result.itertuples():
        fit_y, y = clusters.targets("train", row.task), clusters.targets("test", row.task)
        best = study.linear(row.task)[0]
        best_bias = best.bias - best.weights @ study.ws.mean
        dummies = draw_dummies("linear", dim=16, outputs=row.num_classes, count=16, seed=QUICK.seed)
        bounds = []
        for m in range(16):
            on_train = losses_by_enumeration(train @ dummies.first[:, m].T, fit_y)
            weights = dummies.first[list(min(on_train, key=on_train.__getitem__)), m]
            error = (softmax(test @ weights.T, axis=1) - np.eye(row.num_classes)[y]) / len(y)
            gradient = np.append((error.T @ test).ravel(), error.sum(axis=0))
            bounds.append(np.linalg.norm(gradient) * np.linalg.norm(np.append(weights - best.weights, -best_bias)))
        assert row.bound == pytest.approx(np.mean(bounds), rel=1e-4)


def test_intervals_hold_their_values(result: pd.DataFrame) -> None:
    for name in ("gap", "U", "U_rel", "U_rel_tau"):
        assert (result[f"{name}_low"] < result[name]).all()
        assert (result[name] < result[f"{name}_high"]).all()


def test_interval_of_the_gap_agrees_with_independent_repetitions(toy) -> None:
    # Many fresh test sets and dummies: the spread of the gap is what one two-way interval estimates.
    whole = toy(sizes=(400, 150, 200 * 24), noise=0.9)
    gaps, widths = [], []
    for i in range(24):
        part = slice(200 * i, 200 * (i + 1))
        rows = {"train": slice(None), "val": slice(None), "test": part}
        targets = {name: {s: whole.targets(s, name)[rows[s]] for s in whole.splits} for name in whole.tasks}
        one = type(whole)({s: whole.z(s)[rows[s]] for s in whole.splits}, targets, list(whole.tasks.values()))
        row = universality(one, config=replace(QUICK, seed=i), tasks=["left"]).iloc[0]
        gaps.append(row["gap"])
        widths.append(row["gap_high"] - row["gap_low"])
    assert np.mean(widths) / (2 * 1.96 * np.std(gaps, ddof=1)) == pytest.approx(1, abs=0.4)


@pytest.mark.parametrize("scale", [1e-3, 7.3, 1e4])
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_relative_scores_ignore_the_scale(clusters, scale: float, head: str) -> None:
    config = replace(QUICK, heads=(head,), num_dummies=6, bootstrap=40)
    before = universality(clusters, config=config)
    after = universality(moved(clusters, lambda z: scale * z), config=config)
    tolerance = 1e-6 if head == "linear" else 2e-3  # the mlp's L* comes from stochastic float32 training
    pd.testing.assert_frame_equal(before[FREE_OF_SCALE], after[FREE_OF_SCALE], rtol=tolerance, atol=tolerance)
    assert after["rms"].iloc[0] == pytest.approx(scale * before["rms"].iloc[0], rel=1e-6)
    assert after["effective_rank"].iloc[0] == pytest.approx(before["effective_rank"].iloc[0], rel=1e-6)


def test_shift_leaves_relative_scores(clusters) -> None:
    before = universality(clusters, config=QUICK)
    after = universality(moved(clusters, lambda z: z + 30), config=QUICK)
    pd.testing.assert_frame_equal(before[FREE_OF_SCALE], after[FREE_OF_SCALE], rtol=1e-4, atol=1e-5)


def test_rotation_moves_the_score_within_the_dummies_interval_and_not_at_all_if_they_rotate(
    clusters, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotation = ortho_group.rvs(16, random_state=1)
    turned = moved(clusters, lambda z: z @ rotation)
    before, free = universality(clusters, config=QUICK), universality(turned, config=QUICK)
    assert (free["U_rel"] > before["U_rel_low"]).all()
    assert (free["U_rel"] < before["U_rel_high"]).all()
    np.testing.assert_allclose(free["L_star"], before["L_star"], atol=1e-5)

    def turning(*args, **options):
        drawn = draw_dummies(*args, **options)
        return replace(drawn, first=drawn.first @ rotation)

    monkeypatch.setattr(module, "draw_dummies", turning)
    bound = module.universality(turned, config=QUICK)
    names = [*SCORES, "U_rel_low", "U_rel_high", "grad_norm", "grad_norm_rms1"]
    pd.testing.assert_frame_equal(bound[names], before[names], rtol=1e-4, atol=1e-5)


def test_names_of_classes_do_not_matter(clusters, result: pd.DataFrame) -> None:
    names = {"left": np.array([2, 0, 1]), "right": np.array([1, 0])}
    after = universality(relabelled(clusters, lambda task, _, y: names[task][y]), config=QUICK)
    pd.testing.assert_frame_equal(after[SCORES], result[SCORES], rtol=1e-7, atol=1e-7)


def test_ordinal_tasks_use_all_permutations(toy) -> None:
    plain = universality(toy(noise=0.9), config=QUICK)
    ordinal = universality(toy(noise=0.9, kinds={"left": "ordinal"}), config=QUICK)
    pd.testing.assert_frame_equal(plain[SCORES], ordinal[SCORES])


def test_tasks_do_not_influence_each_other(clusters, result: pd.DataFrame) -> None:
    alone = universality(clusters, tasks=["right"], config=QUICK)
    pd.testing.assert_frame_equal(
        alone[[*SCORES, "U_rel_low"]], result.iloc[1:][[*SCORES, "U_rel_low"]].reset_index(drop=True), rtol=1e-6
    )
    assert alone["dummy_sha"][0] == result["dummy_sha"][1]
    assert alone["protocol_id"][0] == result["protocol_id"][1]


def test_same_input_same_output(clusters, result: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(universality(clusters, config=QUICK), result, rtol=0, atol=0)


def test_more_signal_means_more_universal(toy) -> None:
    # Class means far apart in every direction: an arbitrary predictor separates them; noise hides them.
    scores = [universality(toy(noise=noise), config=QUICK)["U_rel"].mean() for noise in (0.05, 0.7, 2.5)]
    assert scores[0] > scores[1] > scores[2]


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_constant_representation_has_no_headroom(clusters, value: float) -> None:
    found = universality(
        moved(clusters, lambda z: np.full_like(z, value)), config=replace(QUICK, heads=("linear", "mlp"))
    )
    assert set(found["status"]) == {"no_headroom"}
    assert set(found["star_family"]) == {"prior"}
    assert found[["U_rel", "U_rel_tau", "U_rel_low", "U_rel_tau_high"]].isna().all().all()
    np.testing.assert_allclose(found["L_star"], found["H_y"])
    assert (found["rms"] == 0).all()
    assert (found["effective_rank"] == 0).all()


def test_a_nearly_constant_representation_is_not_called_universal_by_u_rel(clusters) -> None:
    # The paper's score prefers the shrunken representation; U_rel is the same for both.
    plain, shrunk = universality(clusters, config=QUICK), universality(moved(clusters, lambda z: z / 50), config=QUICK)
    wide = universality(moved(clusters, lambda z: 20 * z), config=QUICK)
    assert (shrunk["U"] > 5 * wide["U"]).all()
    np.testing.assert_allclose(shrunk["U_rel"], wide["U_rel"], atol=1e-5)
    np.testing.assert_allclose(plain["U_rel"], wide["U_rel"], atol=1e-5)


def test_a_shrinking_representation_reaches_the_prior_floor(clusters) -> None:
    row = universality(moved(clusters, lambda z: 1e-6 * z), config=QUICK).iloc[0]
    assert pytest.approx(1 / (np.log(3) - row["L_star"]), rel=1e-4) == row["U"]


def test_shuffled_labels_have_no_headroom(clusters) -> None:
    rng = np.random.default_rng(0)
    found = universality(relabelled(clusters, lambda task, split, y: rng.permutation(y)), config=QUICK)
    assert set(found["status"]) == {"no_headroom"}
    assert found["U_rel"].isna().all()


def test_headroom_that_may_be_chance_is_none(toy) -> None:
    found = pd.concat([universality(toy(noise=9, sizes=(400, 150, 60), seed=s), config=QUICK) for s in range(5)])
    lucky = found[(found["H_y"] - found["L_star"] > 0.001) & (found["status"] == "no_headroom")]
    assert len(lucky), "the best predictor did better than guessing, but not beyond doubt"
    assert lucky["U_rel"].isna().all()


def test_unresolved_gap_is_printed_but_not_inverted(clusters, monkeypatch: pytest.MonkeyPatch) -> None:
    # Dummies that are themselves the optimal predictor: the gap is a tie.
    first = universality(clusters, config=QUICK).iloc[0]
    study = Study(Workspace.of(clusters), ["left"])
    fit, _ = study.linear("left")
    weights, bias = fit.weights, fit.bias - fit.weights @ study.ws.mean

    def optimal(*args, **options):
        drawn = draw_dummies(*args, **options)
        jitter = 1e-3 * drawn.first / np.abs(drawn.first).max()
        return replace(drawn, first=weights[:, None] + jitter, first_bias=np.repeat(bias[:, None], 16, axis=1))

    monkeypatch.setattr(module, "draw_dummies", optimal)
    row = module.universality(clusters, tasks=["left"], config=QUICK).iloc[0]
    assert row["status"] == "unresolved"
    assert np.isnan(row["U"])
    assert abs(row["gap"]) < 0.01
    assert row["gap_low"] <= 0
    assert row["L_star"] == first["L_star"]
    assert np.isfinite(row["U_rel"])


def test_failed_optimiser_is_reported(clusters, monkeypatch: pytest.MonkeyPatch) -> None:
    optimal = importlib.import_module("reprkit.analysis.universal.optimal")
    fit = optimal.fit_linear

    def lazy(*args, **options):
        return fit(*args, **{**options, "max_evaluations": 2})

    monkeypatch.setattr(optimal, "fit_linear", lazy)
    found = universality(clusters, config=QUICK)
    assert set(found["status"]) == {"optimiser_failed"}
    assert (found["certificate"] > MAX_CERTIFICATE).all()
    assert found[["U", "U_rel", "U_rel_tau"]].isna().all().all()
    assert found["gap"].notna().all()


def test_a_dummy_that_beats_the_optimum_is_an_optimiser_failure(clusters, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = Study(Workspace.of(clusters), ["left"]).linear("left")[0].weights

    def informed(*args, **options):
        drawn = draw_dummies(*args, **options)
        first = drawn.first.copy()
        first[:, 5] = weights
        return replace(drawn, first=first)

    monkeypatch.setattr(module, "draw_dummies", informed)
    monkeypatch.setattr(
        importlib.import_module("reprkit.analysis.universal.study"),
        "choose_c",
        partial(choose_c, exponents=(-6, -6)),
    )
    assert module.universality(clusters, tasks=["left"], config=QUICK).iloc[0]["status"] == "optimiser_failed"


def test_missing_targets_are_left_out(clusters) -> None:
    rng = np.random.default_rng(0)

    def hole(task: str, split: str, y: np.ndarray) -> np.ndarray:
        return np.where(rng.random(len(y)) < 0.2, -1, y) if task == "left" else y

    holed = relabelled(clusters, hole)
    found = universality(holed, config=QUICK)
    keep = {s: holed.targets(s, "left") >= 0 for s in holed.splits}
    fake = type(clusters)
    short = fake(
        {s: holed.z(s)[keep[s]] for s in holed.splits},
        {"left": {s: holed.targets(s, "left")[keep[s]] for s in holed.splits}},
        [holed.tasks["left"]],
    )
    assert found["n"][0] == keep["test"].sum()
    assert found["n"][1] == 300
    # Without the rows, the normalisation moves a little: raw scores agree closely, H_y exactly.
    reference = universality(short, config=QUICK)
    assert found["H_y"][0] == pytest.approx(reference["H_y"][0], rel=1e-12)
    assert found["L_dummy"][0] == pytest.approx(reference["L_dummy"][0], rel=1e-6)
    assert found["L_star"][0] == pytest.approx(reference["L_star"][0], abs=0.01)


def test_a_class_missing_in_test_is_fine(clusters) -> None:
    def without(task: str, split: str, y: np.ndarray) -> np.ndarray:
        return np.where((y == 2) & (split == "test"), -1, y)

    found = universality(relabelled(clusters, without), config=QUICK)
    assert found["status"][0] == "ok"
    assert found["num_classes"][0] == 3


def test_a_class_missing_in_train_is_left_out_and_said(clusters) -> None:
    def without(task: str, split: str, y: np.ndarray) -> np.ndarray:
        return np.where((task == "left") & (y == 1) & (split == "train"), 0, y)

    embeddings = relabelled(clusters, without)
    lost = int((embeddings.targets("test", "left") == 1).sum())
    found = universality(embeddings, config=replace(QUICK, heads=("linear", "mlp")))
    left = found[found["task"] == "left"]
    assert set(left["status"]) == {f"ok; left out {lost} test rows of classes that train lacks"}
    assert set(left["n"]) == {300 - lost}
    assert left["bound"].isna().all(), "a predictor that never names a class is infinitely far away"
    assert np.isfinite(left[SCORES].to_numpy(dtype=float)).all()


def test_one_class_in_train_is_a_status(clusters) -> None:
    found = universality(relabelled(clusters, lambda task, s, y: y * 0 if task == "left" else y), config=QUICK)
    assert found["status"][0].startswith("one class")
    assert np.isnan(found["gap"][0])
    assert found["status"][1] == "ok"


def test_no_targets_in_test_is_a_status(clusters) -> None:
    found = universality(
        relabelled(clusters, lambda task, s, y: y * 0 - 1 if (task, s) == ("left", "test") else y), config=QUICK
    )
    assert found["status"][0] == "no targets in the test rows"


def test_without_val_a_fifth_of_train_selects(clusters, result: pd.DataFrame) -> None:
    fake = type(clusters)
    splits = ("train", "test")
    short = fake(
        {s: clusters.z(s) for s in splits},
        {name: {s: clusters.targets(s, name) for s in splits} for name in clusters.tasks},
        list(clusters.tasks.values()),
    )
    found = universality(short, config=QUICK)
    assert set(found["status"]) == {"ok"}
    assert found["protocol_id"][0] != result["protocol_id"][0]
    np.testing.assert_allclose(found["L_star"], result["L_star"], atol=0.08)
    np.testing.assert_allclose(found["L_dummy"], result["L_dummy"], atol=0.02)
    held = carve_by_id(clusters.ids("train"))
    by_hand = fake(
        {"train": clusters.z("train")[~held], "val": clusters.z("train")[held], "test": clusters.z("test")},
        {
            name: {
                "train": clusters.targets("train", name)[~held],
                "val": clusters.targets("train", name)[held],
                "test": clusters.targets("test", name),
            }
            for name in clusters.tasks
        },
        list(clusters.tasks.values()),
    )
    same = universality(by_hand, config=QUICK)
    pd.testing.assert_frame_equal(same.drop(columns="protocol_id"), found.drop(columns="protocol_id"))


def test_mlp_heads(clusters) -> None:
    found = universality(clusters, config=replace(QUICK, heads=("linear", "mlp"), init="paper"))
    assert list(found["head"]) == ["linear", "mlp", "linear", "mlp"]
    linear, mlp = found[found["head"] == "linear"], found[found["head"] == "mlp"]
    assert (mlp["L_star"].to_numpy() < linear["L_star"].to_numpy() + 0.02).all()
    assert set(mlp["star_family"]) <= {"linear", "mlp"}
    assert set(found["init"]) == {"paper"}
    assert found["protocol_id"].nunique() == 2
    assert mlp[["bound", "looseness", "U_bound"]].isna().all().all(), "two-layer predictors are not convex"


def test_mlp_dummy_loss_by_hand(clusters) -> None:
    row = universality(clusters, tasks=["right"], config=replace(QUICK, heads=("mlp",), num_dummies=4)).iloc[0]
    z, y = clusters.z("test").astype(np.float64), clusters.targets("test", "right")
    dummies = draw_dummies("mlp", dim=16, outputs=2, count=4, seed=QUICK.seed)
    literal = []
    for m in range(4):
        logs = log_softmax(np.maximum(z @ dummies.first[m].T, 0) @ dummies.second[m].T, axis=1)
        literal.append(min(-logs[np.arange(300), y].mean(), -logs[np.arange(300), 1 - y].mean()))
    assert np.mean(literal) - 1e-6 <= row["L_dummy"] < np.mean(literal) + 0.02


def test_protocol_names_the_settings(clusters, result: pd.DataFrame) -> None:
    other = universality(clusters, config=replace(QUICK, seed=1))
    assert other["protocol_id"][0] != result["protocol_id"][0]
    assert other["dummy_sha"][0] != result["dummy_sha"][0]
    assert universality(clusters, config=QUICK, label="mine")["encoder"].unique().tolist() == ["mine"]


def test_a_real_embeddings_object_gives_the_same(clusters, result: pd.DataFrame) -> None:
    from reprkit.embeddings import Embeddings

    real = Embeddings.from_arrays(
        np.concatenate([clusters.z(s) for s in clusters.splits]),
        {name: np.concatenate([clusters.targets(s, name) for s in clusters.splits]) for name in clusters.tasks},
        tasks=list(clusters.tasks.values()),
        split=np.concatenate([[s] * clusters.num_rows(s) for s in clusters.splits]),
        label="vanilla",
        meta={"seed": 3},
    )
    pd.testing.assert_frame_equal(universality(real, config=QUICK), result)


def test_single_encoders_are_judged_on_their_own_task(toy) -> None:
    assert list(universality(toy(trained_tasks=["right"]), config=QUICK)["task"]) == ["right"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rows", [1, 4])
def test_a_tiny_test_split_gives_wide_intervals_and_no_warnings(toy, rows: int) -> None:
    found = universality(toy(sizes=(60, 20, rows)), config=QUICK, progress=False)
    assert set(found["n"]) == {rows}
    assert set(found["status"]) <= {"ok", "no_headroom", "unresolved"}
    assert np.isfinite(found[["gap", "gap_low", "gap_high"]].to_numpy(dtype=float)).all()


def test_wrong_input_is_one_clear_line(clusters, fake_embeddings) -> None:
    with pytest.raises(InputError, match=r"vanilla\.h5: has no task 'age'; it has left, right"):
        universality(clusters, tasks=["age"])
    with pytest.raises(InputError, match=r"universality.heads: \['tree'\]"):
        universality(clusters, config=UniversalityConfig(heads=("tree",)))
    with pytest.raises(InputError, match="at least 2"):
        universality(clusters, config=UniversalityConfig(num_dummies=1))
    task, z = Task("t", "classification", 2), np.random.default_rng(0).normal(size=(20, 3))
    y = np.arange(20) % 2
    with pytest.raises(InputError, match="no test split"):
        universality(fake_embeddings({"train": z}, {"t": {"train": y}}, [task]))
    bad = z.copy()
    bad[3, 1] = np.nan
    both = {"t": {"train": y, "test": y}}
    with pytest.raises(InputError, match=r"fake\.h5: split test holds NaN"):
        universality(fake_embeddings({"train": z, "test": bad}, both, [task]))
    with pytest.raises(InputError, match="no test split"):
        universality(fake_embeddings({"train": z, "test": z[:0]}, {"t": {"train": y, "test": y[:0]}}, [task]))
