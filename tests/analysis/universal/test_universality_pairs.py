"""Paired differences: joined by id, narrower than unpaired ones, and of the right size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from reprkit.analysis import universality
from reprkit.analysis.universal.pairs import COLUMNS, MEASURES, universality_pair
from reprkit.analysis.workspace import Workspace
from reprkit.errors import InputError
from reprkit.recipe import UniversalityConfig
from reprkit.tasks import Task

QUICK = UniversalityConfig(num_dummies=16, bootstrap=200)


def changed(embeddings, *, z=lambda z, rng: z, order=None, label="other", seed=0, targets=None, tasks=None):
    """The same samples with another z, and the test rows in another order (or some of them)."""
    rng = np.random.default_rng(seed)
    rows = {s: np.arange(embeddings.num_rows(s)) for s in embeddings.splits}
    if order is not None:
        rows["test"] = order
    return type(embeddings)(
        {s: z(embeddings.z(s).astype(np.float64), rng)[rows[s]] for s in embeddings.splits},
        targets or {n: {s: embeddings.targets(s, n)[rows[s]] for s in embeddings.splits} for n in embeddings.tasks},
        tasks or list(embeddings.tasks.values()),
        ids={s: embeddings.ids(s)[rows[s]] for s in embeddings.splits},
        label=label,
    )


@pytest.fixture(scope="module")
def vanilla(toy):
    return toy(classes={"left": 3, "years": 4}, kinds={"years": "regression"}, noise=0.8, label="vanilla")


@pytest.fixture(scope="module")
def noisy(vanilla):
    return changed(vanilla, z=lambda z, rng: z + 1.2 * rng.normal(size=z.shape), label="noisy")


@pytest.fixture(scope="module")
def found(noisy, vanilla) -> pd.DataFrame:
    return universality_pair(noisy, vanilla, config=QUICK)


def test_differences_of_the_values(found: pd.DataFrame, noisy, vanilla) -> None:
    assert tuple(found.columns) == COLUMNS
    assert list(found["measure"]) == list(MEASURES) * 2
    assert set(found["status"]) == {"ok"}
    assert set(found["encoder"]) == {"noisy"}
    assert set(found["baseline"]) == {"vanilla"}
    assert set(found["n"]) == {300}
    a, b = (universality(side, config=QUICK).set_index("task") for side in (noisy, vanilla))
    for row in found.itertuples():
        assert row.value == pytest.approx(a.loc[row.task, row.measure], rel=1e-6)
        assert row.baseline_value == pytest.approx(b.loc[row.task, row.measure], rel=1e-6)
        assert row.difference == pytest.approx(row.value - row.baseline_value)
        assert row.low < row.difference < row.high
        assert row.protocol_id == a.loc[row.task, "protocol_id"]
    assert (found[found["measure"] == "U_rel"]["high"] < 0).all(), "noise costs universality, beyond doubt"


def test_order_of_rows_does_not_matter(found: pd.DataFrame, noisy, vanilla) -> None:
    turned = changed(vanilla, order=np.random.default_rng(5).permutation(300), label="vanilla")
    pd.testing.assert_frame_equal(universality_pair(noisy, turned, config=QUICK), found, rtol=1e-5, atol=1e-6)


def test_an_encoder_against_itself_is_exactly_zero(vanilla) -> None:
    same = universality_pair(Workspace.of(vanilla), vanilla, config=QUICK, labels=("a", "b"))
    np.testing.assert_array_equal(same[["difference", "low", "high"]], 0)
    assert set(same["encoder"]) | set(same["baseline"]) == {"a", "b"}


def test_swapping_the_two_changes_the_sign(found: pd.DataFrame, noisy, vanilla) -> None:
    back = universality_pair(vanilla, noisy, config=QUICK)
    np.testing.assert_allclose(back["difference"], -found["difference"])
    np.testing.assert_allclose(back["low"], -found["high"])


def test_only_common_rows_are_scored(noisy, vanilla) -> None:
    first, last = changed(noisy, order=np.arange(0, 220)), changed(vanilla, order=np.arange(80, 300)[::-1])
    part = np.arange(80, 220)
    reference = universality_pair(changed(noisy, order=part), changed(vanilla, order=part), config=QUICK)
    found = universality_pair(first, last, config=QUICK)
    assert set(found["n"]) == {140}
    pd.testing.assert_frame_equal(found, reference, rtol=1e-5, atol=1e-6)


def test_pairing_on_samples_narrows_the_interval(vanilla) -> None:
    # Nearly the same encoder: the losses of the two agree sample by sample.
    close = changed(vanilla, z=lambda z, rng: z + 0.02 * rng.normal(size=z.shape))
    config = replace(QUICK, num_dummies=64)
    pair = universality_pair(close, vanilla, config=config).set_index(["task", "measure"])
    alone = universality(vanilla, config=config).set_index("task")
    for task in ("left", "years"):
        width = pair.loc[(task, "U_rel"), "high"] - pair.loc[(task, "U_rel"), "low"]
        assert width < 0.25 * (alone.loc[task, "U_rel_high"] - alone.loc[task, "U_rel_low"])


@pytest.mark.slow
def test_interval_agrees_with_independent_repetitions(toy) -> None:
    whole = toy(classes={"left": 3}, sizes=(400, 150, 200 * 20), noise=0.8)
    noise = np.random.default_rng(1).normal(size=(200 * 20, 16))
    differences, widths = [], []
    for i in range(20):
        part = np.arange(200 * i, 200 * (i + 1))
        one = changed(whole, order=part)
        other = changed(whole, order=part, z=lambda z, rng: z + 0.8 * noise[: len(z)])
        row = universality_pair(other, one, config=replace(QUICK, num_dummies=64, seed=i)).iloc[0]
        differences.append(row["difference"])
        widths.append(row["high"] - row["low"])
    assert np.mean(widths) / (2 * 1.96 * np.std(differences, ddof=1)) == pytest.approx(1, abs=0.45)


def test_groups_widen_the_interval(vanilla, noisy) -> None:
    def pixels(embeddings):
        repeated = changed(embeddings, order=np.repeat(np.arange(300), 6))
        repeated._ids["test"] = np.array([f"i{i // 6}#{i % 6}" for i in range(1800)])
        return repeated

    config = replace(QUICK, num_dummies=64)
    single = universality_pair(pixels(noisy), pixels(vanilla), config=config)
    grouped = universality_pair(pixels(noisy), pixels(vanilla), config=replace(config, groups="#"))
    np.testing.assert_allclose(grouped["difference"], single["difference"])
    assert ((grouped["high"] - grouped["low"]) > 1.1 * (single["high"] - single["low"])).all()


def test_what_has_no_value_has_a_status(vanilla) -> None:
    empty = changed(vanilla, z=lambda z, rng: np.zeros_like(z), label="empty")
    found = universality_pair(empty, vanilla, config=QUICK).set_index(["task", "measure"])
    assert found.loc[("left", "U_rel"), "status"] == "no_headroom against ok"
    assert np.isnan(found.loc[("left", "U_rel"), "difference"])
    assert np.isnan(found.loc[("left", "U_rel"), "value"])
    assert found.loc[("left", "U_rel"), "baseline_value"] > 0
    assert found.loc[("left", "gap"), "status"] == "ok"
    targets = {n: {s: vanilla.targets(s, n) for s in vanilla.splits} for n in vanilla.tasks}
    targets["left"]["train"] = np.where(targets["left"]["train"] == 2, 1, targets["left"]["train"])
    lacking = universality_pair(changed(vanilla, targets=targets), vanilla, tasks=["left"], config=QUICK)
    assert set(lacking["status"]) == {"the training splits lack different classes"}


def test_tasks_that_both_were_trained_for(vanilla) -> None:
    single = changed(vanilla)
    single.trained_tasks = ("years",)
    assert set(universality_pair(vanilla, single, config=QUICK)["task"]) == {"years"}
    assert set(universality_pair(single, vanilla, config=QUICK)["task"]) == {"years"}


def test_what_cannot_be_paired_is_one_clear_line(vanilla, toy) -> None:
    other = changed(vanilla)
    other._ids = {s: np.array([f"x{name}" for name in vanilla.ids(s)]) for s in vanilla.splits}
    with pytest.raises(InputError, match=r"other\.h5 and vanilla\.h5 have no test sample in common"):
        universality_pair(other, vanilla, config=QUICK)
    targets = {n: {s: vanilla.targets(s, n)[::-1] for s in vanilla.splits} for n in vanilla.tasks}
    with pytest.raises(InputError, match=r"task 'left' is not the same in other\.h5 and vanilla\.h5"):
        universality_pair(changed(vanilla, targets=targets), vanilla, config=QUICK)
    wider = [Task("left", "classification", 5), vanilla.tasks["years"]]
    with pytest.raises(InputError, match="task 'left' is not the same"):
        universality_pair(changed(vanilla, tasks=wider), vanilla, config=QUICK)
    with pytest.raises(InputError, match=r"vanilla\.h5: has no task 'right'"):
        universality_pair(toy(label="two"), vanilla, tasks=["right"], config=QUICK)
