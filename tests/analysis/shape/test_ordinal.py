"""Ordinal alignment against enumeration, chance and invariance: what is in order scores 1, what is shuffled 0."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.linear_model import Ridge

from reprkit.analysis.shape.order import (
    centroid_gram,
    first_axis_share,
    mantel,
    spearman_interval,
    triplet_accuracy,
    weighted_spearman,
)
from reprkit.analysis.shape.ordinal import COLUMNS, METRICS, RIDGE, ordinal_alignment
from reprkit.analysis.workspace import Workspace
from reprkit.errors import InputError
from reprkit.tasks import Task

CLASSES = 7
AGE, YEARS, KIND = Task("age", "ordinal", CLASSES), Task("years", "regression", 1), Task("kind", "classification", 3)
SIZES = {"train": 400, "val": 150, "test": 300}
seeds = st.integers(0, 10**6)


def on_a_curve(t, rng, noise=0.05):
    """Rows [n, 10] near a gently bent arc, at places t in [0, 1]."""
    arc = np.stack([np.sin(2 * t), np.cos(2 * t), 0.3 * t**2], axis=1)
    basis = np.linalg.qr(np.random.default_rng(99).normal(size=(10, 10)))[0][:3]
    return arc @ basis + noise * rng.normal(size=(len(t), 10))


@pytest.fixture(scope="module")
def faces(fake_embeddings):
    """Factory: `order` says which place along the curve each class has; `change` maps rows of z."""

    def make(order=range(CLASSES), *, seed=0, noise=0.05, change=lambda z: z, sizes=SIZES, tasks=(AGE, YEARS), **more):
        rng = np.random.default_rng(seed)
        z, targets = {}, {task.name: {} for task in tasks}
        for split, n in sizes.items():
            age = rng.integers(CLASSES, size=n)
            z[split] = change(on_a_curve(np.asarray(order)[age] / (CLASSES - 1), rng, noise))
            for task in tasks:
                targets[task.name][split] = {"age": age, "years": 10.0 * age + rng.uniform(0, 10, n), "kind": age % 3}[
                    task.name
                ]
        return fake_embeddings(z, targets, tasks, **more)

    return make


def values(frame, task="age", space="z"):
    return frame[(frame.task == task) & (frame.space == space)].set_index("metric")["value"]


# The whole table ------------------------------------------------------------------------------------------------------


def test_classes_in_order_on_a_curve_are_found_in_order(faces):
    frame = ordinal_alignment(faces())
    assert tuple(frame.columns) == COLUMNS
    assert list(frame.metric) == [*METRICS, *METRICS]
    assert list(frame.task.unique()) == ["age", "years"]
    rows = frame[frame.task == "age"].set_index("metric")
    assert rows.status.eq("ok").all()
    assert rows.value["centroid_spearman"] > 0.99
    assert rows.p_value["centroid_spearman"] == pytest.approx(2 / 5040)  # the order and its reversal
    assert rows.value["triplet_accuracy"] > 0.95
    assert rows.value["direction_spearman"] > 0.95
    assert 0.6 < rows.value["first_axis_share"] < 1
    assert frame.p_value.notna().equals(frame.metric == "centroid_spearman")
    for metric in ("triplet_accuracy", "direction_spearman"):
        assert rows.low[metric] <= rows.value[metric] <= rows.high[metric] <= 1
    years = frame[frame.task == "years"]
    assert years.status.eq("ok; classes are 8 quantile bins").all()
    assert (years.value > 0.6).all()


def test_a_straight_line_has_one_axis(faces):
    line = np.random.default_rng(0).normal(size=10)
    found = values(ordinal_alignment(faces(noise=0.0, change=lambda z: z[:, :1] * line)))
    assert found["first_axis_share"] == pytest.approx(1)


def test_permuted_class_indices_lose_the_order(faces):
    mixed = ordinal_alignment(faces([0, 4, 1, 5, 2, 6, 3]))
    found = values(mixed)
    assert found["centroid_spearman"] < 0.2
    assert mixed[mixed.metric == "centroid_spearman"].p_value.iloc[0] > 0.2
    assert found["triplet_accuracy"] < 0.75  # members of one class are still near each other
    assert abs(found["direction_spearman"]) < 0.7
    assert found["first_axis_share"] == pytest.approx(values(ordinal_alignment(faces()))["first_axis_share"], abs=0.05)


def test_targets_that_say_nothing_are_at_chance(faces):
    found = ordinal_alignment(faces([0] * CLASSES, noise=1.0)).set_index(["task", "metric"])
    for task in ("age", "years"):
        assert found.low[task, "triplet_accuracy"] < 0.5 < found.high[task, "triplet_accuracy"]
        assert found.low[task, "direction_spearman"] < 0 < found.high[task, "direction_spearman"]
        assert found.p_value[task, "centroid_spearman"] > 0.05


@pytest.mark.parametrize("name", ["rotation", "scale", "shift"])
def test_invariances(faces, name):
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(10, 10)))[0]
    change = {"rotation": lambda z: z @ turn, "scale": lambda z: 1e-3 * z, "shift": lambda z: z + 5}[name]
    plain, changed = ordinal_alignment(faces(noise=0.3)), ordinal_alignment(faces(noise=0.3, change=change))
    np.testing.assert_allclose(changed["value"], plain["value"], atol=2e-4)
    np.testing.assert_allclose(changed["p_value"], plain["p_value"], equal_nan=True)


def test_the_same_numbers_on_a_map(faces):
    file = faces(noise=0.3)
    rows = np.random.default_rng(1).permutation(SIZES["test"])[:200]
    points = on_a_curve(file.targets("test", "age")[rows] / (CLASSES - 1), np.random.default_rng(2))[:, :2]
    table = pd.DataFrame({"encoder": "fake", "seed": 0, "id": file.ids("test")[rows], "x": points[:, 0]})
    table["y"] = points[:, 1]
    other = table.assign(encoder="another", x=0.0, y=0.0)
    frame = ordinal_alignment(file, maps=pd.concat([other, table]))
    assert list(frame.space.unique()) == ["z", "map"]
    assert frame[frame.space == "z"].reset_index(drop=True).equals(ordinal_alignment(file))
    mapped = frame[(frame.space == "map") & (frame.task == "age")].set_index("metric")
    assert mapped.value["triplet_accuracy"] == triplet_accuracy(points, file.targets("test", "age")[rows])[0]
    assert mapped.value["direction_spearman"] > 0.9
    assert mapped.n["centroid_spearman"] == 200
    assert 60 < mapped.n["direction_spearman"] < 140  # the half that had no part in the fit
    shuffled = ordinal_alignment(file, maps=table.sample(frac=1, random_state=0))
    np.testing.assert_allclose(shuffled[frame.space == "map"].p_value, frame[frame.space == "map"].p_value)


def test_a_map_of_something_else_is_refused(faces):
    file = faces()
    table = pd.DataFrame({"id": file.ids("test")[:50], "x": 0.0, "y": 0.0})
    with pytest.raises(InputError, match="no column y"):
        ordinal_alignment(file, maps=table[["id", "x"]])
    with pytest.raises(InputError, match="no coordinates of encoder 'fake' .seed 0."):
        ordinal_alignment(file, maps=table.assign(encoder="another"))
    with pytest.raises(InputError, match="no coordinates"):
        ordinal_alignment(file, maps=table.assign(id=[f"elsewhere-{i}" for i in range(50)]))
    with pytest.raises(InputError, match="one each"):
        ordinal_alignment(file, maps=pd.concat([table, table]))
    flat = ordinal_alignment(file, maps=table)
    assert flat[flat.space == "map"].status.eq("the representation is constant").all()


def test_only_ordered_tasks_are_measured_and_only_those_asked_for(faces):
    file = faces(tasks=(KIND, AGE, YEARS), trained_tasks=["kind", "age"])
    assert list(ordinal_alignment(file).task.unique()) == ["age"]
    assert list(ordinal_alignment(file, tasks=["kind", "years"], label="mine")[["task", "encoder"]].iloc[0]) == [
        "years",
        "mine",
    ]
    nothing = ordinal_alignment(file, tasks=["kind"])
    assert nothing.empty
    assert tuple(nothing.columns) == COLUMNS
    with pytest.raises(InputError, match="fake.h5: has no task 'size'; choose from kind, age, years"):
        ordinal_alignment(file, tasks=["size"])


def test_degenerate_input_says_why_there_is_no_value(faces, fake_embeddings):
    def statuses(file, **options):
        frame = ordinal_alignment(file, tasks=["age"], **options)
        assert frame.value.isna().all()
        assert frame[["low", "high", "p_value"]].isna().all(axis=None)
        return set(frame.status)

    assert statuses(faces(change=np.zeros_like)) == {"the representation is constant"}
    rounding = np.random.default_rng(1).integers(2, size=(1000, 10)) * np.spacing(np.float32(100))
    assert statuses(faces(change=lambda z: 100 + rounding[: len(z)])) == {"the representation is constant"}
    rng = np.random.default_rng(0)
    z = {split: rng.normal(size=(60, 4)) for split in SIZES}
    for labels, filled in ((np.arange(60) % 2, 2), (np.full(60, -1), 0), (np.r_[np.zeros(58), 1, 2], 1)):
        file = fake_embeddings(z, {"age": dict.fromkeys(SIZES, labels)}, [AGE])
        assert statuses(file) == {f"{filled} classes with two test samples or more: an order needs three"}
    years = fake_embeddings(z, {"years": dict.fromkeys(SIZES, np.full(60, np.nan))}, [YEARS])
    assert ordinal_alignment(years).value.isna().all()
    points = pd.DataFrame({"id": years.ids("test"), "x": 1.0, "y": 2.0})
    assert ordinal_alignment(years, maps=points).value.isna().all()


def test_an_empty_class_is_left_out_and_said(fake_embeddings):
    age = np.random.default_rng(0).choice([0, 1, 2, 5, 6, -1], size=100)
    age[0] = 4  # one sample of class 4, none of class 3
    line = age[:, None] * np.random.default_rng(0).normal(size=10)
    file = fake_embeddings(dict.fromkeys(SIZES, line), {"age": dict.fromkeys(SIZES, age)}, [AGE])
    frame = ordinal_alignment(file, tasks=["age"])
    assert frame.status.eq("ok; 2 of 7 classes without two samples").all()
    assert values(frame)["centroid_spearman"] == pytest.approx(1)  # of the distances between 0, 1, 2, 5, 6


def test_no_direction_without_two_targets_to_fit(faces):
    file = faces()
    file._targets["age"]["val"] = np.full(SIZES["val"], -1)
    frame = ordinal_alignment(file, tasks=["age"]).set_index("metric")
    assert np.isnan(frame.value["direction_spearman"])
    assert frame.status["direction_spearman"].startswith("no direction")
    assert frame.status["triplet_accuracy"] == "ok"


def test_streaming_from_disk_changes_nothing(faces):
    file = faces(noise=0.3, sizes={"train": 5000, "val": 100, "test": 4500})
    streamed = ordinal_alignment(Workspace.of(file, memory=0))
    pd.testing.assert_frame_equal(streamed, ordinal_alignment(Workspace.of(file)), rtol=1e-6)


# The direction --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_the_direction_is_the_ridge_regression_that_val_chose(faces, seed):
    file = faces(noise=2.0, seed=seed, sizes={"train": 40, "val": 60, "test": 300})
    train, val, test = (file.z(split).astype(np.float64) for split in SIZES)
    unit = len(train) * train.var(axis=0).mean()
    best, expected = -2.0, 0.0
    for penalty in RIDGE:
        model = Ridge(alpha=penalty * unit).fit(train, file.targets("train", "age"))
        merit = stats.spearmanr(model.predict(val), file.targets("val", "age")).statistic
        if merit > best + 1e-12:
            best, expected = merit, stats.spearmanr(model.predict(test), file.targets("test", "age")).statistic
    assert values(ordinal_alignment(file))["direction_spearman"] == pytest.approx(expected, abs=1e-6)


def test_rows_without_a_target_do_not_pull_the_direction(faces):
    file = faces(noise=1.0)
    far = np.random.default_rng(0).random(SIZES["train"]) < 0.3
    file._targets["age"]["train"][far] = -1
    before = values(ordinal_alignment(file))["direction_spearman"]
    file._z["train"][far] += 0.5  # moves the mean of all rows and widens the covariance in one direction
    assert values(ordinal_alignment(file))["direction_spearman"] == pytest.approx(before, abs=0.02)


def test_test_targets_do_not_touch_the_direction(faces):
    """Spearman is linear in the scored ranks: reversed test targets must give exactly the negative."""
    file = faces(noise=0.6)
    before = values(ordinal_alignment(file))["direction_spearman"]
    file._targets["age"]["test"] = CLASSES - 1 - file._targets["age"]["test"]
    assert values(ordinal_alignment(file))["direction_spearman"] == pytest.approx(-before)


@given(seeds, st.integers(3, 40), st.integers(2, 6))
@settings(max_examples=40, deadline=None)
def test_repeated_samples_and_ties_are_ranked_as_scipy_does(seed, n, levels):
    rng = np.random.default_rng(seed)
    x, y, counts = rng.normal(size=n).round(1), rng.integers(levels, size=n), rng.integers(3, size=(2, n))
    found = weighted_spearman(x, y, counts.astype(np.float64))
    for repeats, value in zip(counts, found, strict=True):
        a, b = np.repeat(x, repeats), np.repeat(y, repeats)
        if len(a) > 1 and np.ptp(a) > 0 and np.ptp(b) > 0:
            assert value == pytest.approx(stats.spearmanr(a, b).statistic)
        else:
            assert not abs(value) <= 1 or value == pytest.approx(0)


def test_spearman_interval_agrees_with_scipy():
    rng = np.random.default_rng(0)
    x = rng.normal(size=150)
    y = (x + rng.normal(size=150)).round()
    value, low, high = spearman_interval(x, y, resamples=3000)
    drawn = stats.bootstrap(
        (x, y), lambda a, b: stats.spearmanr(a, b).statistic, paired=True, vectorized=False, n_resamples=1500, rng=1,
        method="percentile",
    ).confidence_interval  # fmt: skip
    assert value == pytest.approx(stats.spearmanr(x, y).statistic)
    assert (low, high) == pytest.approx((drawn.low, drawn.high), abs=0.015)


# Class means ----------------------------------------------------------------------------------------------------------


def test_the_noise_of_class_means_is_taken_out():
    """Twelve equal classes of 2 to 60 rows in 40 dimensions: plain distances rank them by their size."""
    rng = np.random.default_rng(0)
    sizes = np.array([2, 3, 4, 6, 9, 13, 18, 24, 31, 39, 49, 60])
    groups = np.repeat(np.arange(12), sizes)
    grams = np.mean([centroid_gram(rng.normal(size=(len(groups), 40)), groups, 12) for _ in range(300)], axis=0)
    squared = np.diag(grams)[:, None] + np.diag(grams) - 2 * grams
    noise = 40 / sizes
    plain = squared + np.where(np.eye(12), 0, noise[:, None] + noise)
    assert plain.max() > 20
    assert np.abs(squared).max() < 1.0  # each of 300 means has a standard error of at most 0.6


def test_centroid_gram_against_plain_means():
    rng = np.random.default_rng(1)
    z, groups = rng.normal(size=(51, 6)) + 100, np.append(rng.integers(4, size=50), 5)
    gram = centroid_gram(z, groups, 6)
    for a, b in itertools.product(range(4), repeat=2):
        first, second = z[groups == a], z[groups == b]
        expected = (first.mean(0) - z.mean(0)) @ (second.mean(0) - z.mean(0))
        expected -= (a == b) * first.var(axis=0, ddof=1).sum() / len(first)
        assert gram[a, b] == pytest.approx(expected)
    assert np.isnan(gram[4:]).all()  # of no row, and of one: its noise is not known


def test_first_axis_share_is_that_of_the_weighted_means():
    rng = np.random.default_rng(2)
    means, counts = rng.normal(size=(5, 8)), np.array([3, 9, 4, 4, 20])
    repeated = np.repeat(means, counts, axis=0)
    variances = np.linalg.svd(repeated - repeated.mean(axis=0), compute_uv=False) ** 2
    gram = (means - 7) @ (means - 7).T
    assert first_axis_share(gram, counts) == pytest.approx(variances[0] / variances.sum())
    assert np.isnan(first_axis_share(-np.eye(5), counts))


# Mantel ---------------------------------------------------------------------------------------------------------------


@given(seeds, st.integers(3, 5), st.booleans())
@settings(max_examples=30, deadline=None)
def test_mantel_equals_brute_force(seed, classes, tied):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(classes, 2))
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    distances = distances.round() if tied else distances
    numbers = np.arange(classes) if tied else rng.normal(size=classes)
    pairs = np.triu_indices(classes, 1)
    rho, p = mantel(distances, numbers)
    if np.ptp(distances[pairs]) == 0:
        assert np.isnan([rho, p]).all()
        return
    wanted = np.abs(numbers[:, None] - numbers)[pairs]
    every = [
        stats.spearmanr(distances[np.ix_(order, order)][pairs], wanted).statistic
        for order in itertools.permutations(range(classes))
    ]
    spread = [stats.rankdata(values).std() for values in (distances[pairs], wanted)]
    assert rho == pytest.approx(every[0] * spread[0] / spread[1])
    assert -1 - 1e-12 <= rho <= 1 + 1e-12
    assert p == pytest.approx(np.mean(np.array(every) >= every[0] - 1e-9))


@pytest.mark.parametrize("classes", [3, 7])
def test_mantel_is_one_exactly_in_order_although_many_differences_tie(classes):
    places = np.arange(classes) + 0.01 * np.random.default_rng(7).normal(size=classes)
    rho, p = mantel(np.abs(places[:, None] - places), np.arange(classes))
    assert (rho, p) == (pytest.approx(1), pytest.approx(2 / math.factorial(classes)))
    places[[0, 1]] = places[[1, 0]]
    assert mantel(np.abs(places[:, None] - places), np.arange(classes))[0] < 0.9


def test_sampled_p_agrees_with_the_exact_one(monkeypatch):
    rng = np.random.default_rng(3)
    points = np.arange(7)[:, None] + 1.5 * rng.normal(size=(7, 2))
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    rho, exact = mantel(distances, np.arange(7))
    monkeypatch.setattr("reprkit.analysis.shape.order.ENUMERATED", 0)
    assert mantel(distances, np.arange(7), permutations=20000) == (rho, pytest.approx(exact, abs=0.01))
    assert mantel(distances, np.arange(7), permutations=99, seed=1)[1] >= 1 / 100


@pytest.mark.parametrize("classes", [6, 12])
def test_p_is_uniform_where_there_is_no_order(classes):
    """400 arrangements without order: the share of p-values up to a is a, within 4 standard errors."""
    rng = np.random.default_rng(classes)
    p = []
    for trial in range(400):
        points = rng.normal(size=(classes, 3))
        distances = np.linalg.norm(points[:, None] - points, axis=2)
        p.append(mantel(distances, np.arange(classes), permutations=199, seed=trial)[1])
    for level in (0.05, 0.2, 0.5, 0.8):
        assert np.mean(np.array(p) <= level + 1e-9) == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) / 400))


# Triplets -------------------------------------------------------------------------------------------------------------


def every_triplet(z, y):
    """Accuracy over all ordered triplets, by definition."""
    right, count = 0.0, 0
    for a, b, c in itertools.permutations(range(len(z)), 3):
        if abs(y[a] - y[b]) < abs(y[a] - y[c]):
            near, far = np.linalg.norm(z[a] - z[b]), np.linalg.norm(z[a] - z[c])
            right, count = right + (near < far) + 0.5 * (near == far), count + 1
    return right / count


@pytest.mark.parametrize("kind", ["classes", "values", "ties"])
def test_triplets_agree_with_full_enumeration(kind):
    rng = np.random.default_rng(4)
    y = rng.normal(size=25) if kind == "values" else rng.integers(4, size=25)
    z = np.column_stack([y + rng.normal(size=25), rng.normal(size=25)])
    z = z.round() if kind == "ties" else z
    expected = every_triplet(z, y)
    value, low, high = triplet_accuracy(z, y, triplets=200_000)
    assert value == pytest.approx(expected, abs=4 * 0.5 / np.sqrt(200_000))
    assert low < expected < high
    assert triplet_accuracy(z, y, seed=1) != triplet_accuracy(z, y, seed=2)


def test_triplet_interval_is_of_samples_and_not_of_triplets():
    """The width follows the number of samples, and hardly the number of triplets."""
    rng = np.random.default_rng(5)

    def width(n, triplets):
        y = rng.integers(5, size=n)
        _, low, high = triplet_accuracy(y[:, None] + 2 * rng.normal(size=(n, 3)), y, triplets=triplets)
        return high - low

    few, many = width(100, 20_000), width(1600, 20_000)
    assert few / many == pytest.approx(4, rel=0.35)
    assert width(100, 80_000) == pytest.approx(few, rel=0.35)


def test_no_triplet_is_in_order_among_equal_targets():
    assert np.isnan(triplet_accuracy(np.random.default_rng(6).normal(size=(30, 2)), np.ones(30))).all()
