"""Rows that come in groups: nine copies of a sample know no more than the one, wherever an interval is made."""

from __future__ import annotations

import importlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from reprkit.analysis.bootstrap import (
    bootstrap_mean,
    bootstrap_means,
    bootstrap_sums,
    paired_bootstraps,
    percentile_interval,
    resample_counts,
)
from reprkit.analysis.comparison.compare import compare_encoders
from reprkit.analysis.comparison.measures import Member, similarity_rows, universality_drawn
from reprkit.analysis.controls import controls
from reprkit.analysis.groups import group_codes, group_names, number_groups, some_groups, sum_groups
from reprkit.analysis.paired import paired_difference
from reprkit.analysis.probes import probe_with_predictions, spread
from reprkit.analysis.probes.metrics import measure
from reprkit.analysis.probes.outcome import Outcome
from reprkit.analysis.probes.protocol import Protocol
from reprkit.analysis.shape.order import spearman_interval, triplet_accuracy
from reprkit.analysis.shape.ordinal import ordinal_alignment
from reprkit.analysis.shape.table import geometry
from reprkit.analysis.stats import sample_interval, t_interval
from reprkit.analysis.universal.pairs import universality_pair
from reprkit.analysis.universal.score import universality
from reprkit.analysis.workspace import Workspace
from reprkit.embeddings import Embeddings, EmbeddingsWriter, SplitRows
from reprkit.errors import InputError
from reprkit.recipe import ProbeConfig, UniversalityConfig
from reprkit.tasks import Task

few_shot = importlib.import_module("reprkit.analysis.few_shot").few_shot
differences = importlib.import_module("reprkit.analysis.reporting.differences")
sensitivity = importlib.import_module("reprkit.analysis.sensitivity")
CONFIG = ProbeConfig(probes=("ncm", "knn", "linear"), bootstrap=100)
DUMMIES = UniversalityConfig(num_dummies=4, bootstrap=50)
TIMES = 9


def rows_as_groups(file, times: int, *, label: str = "fake", splits: tuple[str, ...] = ("test",)):
    """The same file with every row of `splits` `times` times, as positions of an image of its own."""

    def many(split, values):
        return np.repeat(values, times if split in splits else 1, axis=0)

    logits = {name: {s: file.logits(s, name) for s in file.splits} for name in file.tasks}
    return type(file)(
        {s: many(s, file.z(s)) for s in file.splits},
        {name: {s: many(s, file.targets(s, name)) for s in file.splits} for name in file.tasks},
        list(file.tasks.values()),
        ids={
            s: np.array([f"{name}#0,{k}" for name in file.ids(s) for k in range(times if s in splits else 1)])
            for s in file.splits
        },
        logits={n: {s: many(s, v) for s, v in own.items() if v is not None} for n, own in logits.items()},
        groups="#",
        label=label,
    )


@pytest.fixture(scope="module")
def base(toy):
    sizes, classes = (120, 60, 80), {"kind": 3, "grade": 4, "size": 5}
    kinds = {"grade": "ordinal", "size": "regression"}
    made = toy(dim=6, sizes=sizes, classes=classes, kinds=kinds, noise=2.0)
    rng = np.random.default_rng(3)
    for split in made.splits:  # some targets are missing
        made._targets["kind"][split][rng.random(made.num_rows(split)) < 0.1] = -1
    made._logits = {"kind": {s: rng.normal(size=(made.num_rows(s), 3)) for s in made.splits}}
    return made


@pytest.fixture(scope="module")
def single(base):
    """Groups of one row."""
    return rows_as_groups(base, 1)


@pytest.fixture(scope="module")
def copied(base):
    """Groups of nine equal test rows; models see the same training rows as those of `single`."""
    return rows_as_groups(base, TIMES)


@pytest.fixture(scope="module")
def probed(single, copied):
    """The same probes, for single and for copied test rows."""
    return tuple(probe_with_predictions(file, config=CONFIG, progress=False) for file in (single, copied))


@pytest.fixture(scope="module")
def tables(probed):
    """Their predictions."""
    return tuple(result.predictions for result in probed)


# --- groups themselves ------------------------------------------------------------------------------------------------


def test_the_last_separator_counts():
    ids = ["a#1.png#0,5", "a#1.png#3,2", "a#2.png#0,5"]
    assert group_names(ids, "#", "f").tolist() == ["a#1.png", "a#1.png", "a#2.png"]
    assert group_names(ids, "", "f").tolist() == ids
    with pytest.raises(InputError, match=r"f\.h5: id 'b' has no '#'"):
        group_names(["a#1", "b"], "#", "f.h5")


@given(st.lists(st.sampled_from("dacb"), min_size=1, max_size=12))
def test_numbers_are_in_the_order_of_first_rows(labels):
    order = list(dict.fromkeys(labels))
    codes = number_groups(labels)
    assert codes.tolist() == [order.index(label) for label in labels]
    values = np.arange(2 * len(labels)).reshape(-1, 2)
    expected = [[sum(v for v, o in zip(column, labels, strict=True) if o == g) for column in values.T] for g in order]
    np.testing.assert_array_equal(sum_groups(values, codes), expected)
    some = np.arange(1, len(labels), 2)
    np.testing.assert_array_equal(
        some_groups(codes, some), number_groups([labels[i] for i in some] or np.array([], str))
    )


def test_labels_separator_and_file(single, base):
    np.testing.assert_array_equal(group_codes(Workspace(single)), np.arange(80))
    assert group_codes(Workspace(base)) is None
    assert group_codes(Workspace(single), np.zeros(80)).max() == 0


# --- the bootstrap ----------------------------------------------------------------------------------------------------


def test_sums_of_whole_groups():
    rng = np.random.default_rng(0)
    codes, values = number_groups(rng.integers(7, size=40)), rng.normal(size=(40, 3))
    counts = np.concatenate(list(resample_counts(7, 90, 5)))
    np.testing.assert_allclose(bootstrap_sums(values, 90, seed=5, groups=codes), counts[:, codes] @ values)
    weights = counts[:, codes]
    expected = (weights @ values) / weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(bootstrap_means(values, 90, seed=5, groups=codes), expected)
    assert bootstrap_mean(values[:, 0], resamples=90, seed=5, groups=codes) == pytest.approx(
        paired_bootstraps(values, resamples=90, seed=5, groups=codes)[0]
    )
    assert np.isnan(bootstrap_sums(values, 9, groups=np.zeros(40, np.int64))).all()


def test_students_interval_over_groups():
    rng = np.random.default_rng(1)
    x = rng.normal(size=30)
    assert sample_interval(x, np.arange(30)) == pytest.approx(t_interval(x))
    assert sample_interval(np.repeat(x, 9), np.repeat(np.arange(30), 9)) == pytest.approx(t_interval(x))
    assert np.isnan(sample_interval(x, np.zeros(30, np.int64))[1:]).all()


def test_intervals_of_probes_and_few_shots_by_hand():
    """Of groups of unlike size: a resample's own number of rows divides, and few groups have Student's tails."""
    rng = np.random.default_rng(4)
    codes = np.repeat(np.arange(9), rng.integers(1, 12, size=9))
    truth, right = rng.integers(2, size=len(codes)), rng.random(len(codes)) < 0.6
    means = bootstrap_means(right[:, None].astype(float), 80, seed=3, groups=codes)[:, 0]
    expected = percentile_interval(means, n=9)
    outcome = {"a": Outcome(np.where(right, truth, 1 - truth), {}, 0.0, 1)}
    task = Task("t", "classification", 2)
    measured = measure(task, truth, outcome, resamples=80, seed=3, groups=codes)["a"]["accuracy"]
    assert measured == pytest.approx((right.mean(), *expected))
    scores, intervals = importlib.import_module("reprkit.analysis.few_shot")._scores(right[None], truth, 80, codes)
    assert scores["accuracy"] == pytest.approx([right.mean()])
    zero = bootstrap_means(right[:, None].astype(float), 80, groups=codes)[:, 0]
    assert intervals["accuracy"] == pytest.approx(percentile_interval(zero, n=9))


def test_errors_of_triplets_that_share_a_group():
    rng = np.random.default_rng(6)
    codes, z, y = number_groups(rng.integers(5, size=40)), rng.normal(size=(40, 2)), rng.integers(4, size=40)
    value, low, high = triplet_accuracy(z, y, triplets=300, groups=codes)
    drawn = np.random.default_rng(0).integers(40, size=(4 * 300 + 1000, 3))
    anchor, near, far = y[drawn].T
    drawn = drawn[(np.abs(anchor - near) < np.abs(anchor - far)) & (drawn[:, 0] != drawn[:, 1])][:300]
    close, wide = (np.linalg.norm(z[drawn[:, 0]] - z[drawn[:, i]], axis=1) for i in (1, 2))
    error = (close < wide) - value
    sets = [{codes[i] for i in triplet} for triplet in drawn]
    without = [error[[group not in own for own in sets]].mean() for group in range(5)]
    variance = 4 * np.var(without) - sum((len(own) - 1) * e**2 for own, e in zip(sets, error, strict=True)) / 300**2
    half = stats.t.ppf(0.975, 4) * np.sqrt(variance)
    assert (low, high) == pytest.approx((max(value - half, 0), min(value + half, 1)))


def test_order_of_copies():
    rng = np.random.default_rng(2)
    x, codes = rng.normal(size=(60, 2)), np.repeat(np.arange(60), TIMES)
    y = x[:, 0] + rng.normal(size=60)
    many = np.repeat(x, TIMES, axis=0), np.repeat(y, TIMES)
    assert spearman_interval(many[0][:, 0], many[1], groups=codes) == pytest.approx(spearman_interval(x[:, 0], y))

    def width(*arguments, **options):
        _, low, high = triplet_accuracy(*arguments, triplets=20_000, **options)
        return high - low

    assert width(x, y, groups=np.arange(60)) == pytest.approx(width(x, y), rel=0.15)
    assert width(*many, groups=codes) == pytest.approx(width(x, y), rel=0.2)
    assert width(*many) < 0.5 * width(x, y)


# --- every analysis ---------------------------------------------------------------------------------------------------


def test_probes(probed):
    once, many = probed
    assert {"prior", "head", "linear"} <= set(once.frame["probe"])
    pd.testing.assert_frame_equal(many.frame.drop(columns="n_test"), once.frame.drop(columns="n_test"))
    assert (many.frame["n_test"] == TIMES * once.frame["n_test"]).all()
    assert list(many.predictions["kind"])[:3] == ["id", "group", "target"]
    assert many.predictions["kind"]["group"].nunique() == len(once.predictions["kind"])


def test_protocols_tell_groups_apart(base, single):
    plain, grouped = (probe_with_predictions(file, config=CONFIG, progress=False) for file in (base, single))
    assert set(plain.frame["protocol_id"]).isdisjoint(grouped.frame["protocol_id"])
    assert "group" not in plain.predictions["kind"]
    pd.testing.assert_frame_equal(plain.frame[["value"]], grouped.frame[["value"]])
    assert Protocol(groups="").id == Protocol().id != Protocol(groups="#").id


def test_sensitivity(tables, single):
    once, many = tables
    numbers = ["value", "low", "high", "signed", "spread", "spread_low", "spread_high", "status"]
    found = [sensitivity.sensitivity(each, tasks=single.tasks) for each in tables]
    pd.testing.assert_frame_equal(found[1][numbers], found[0][numbers])
    ungrouped = {name: table.drop(columns="group") for name, table in once.items()}
    pd.testing.assert_frame_equal(sensitivity.sensitivity(ungrouped, tasks=single.tasks), found[0])
    assert set(found[0]["probes"]) == {"knn linear ncm", "knn linear"}  # the group is no probe
    other = {name: table.assign(knn=table["target"]) for name, table in once.items()}
    both = {name: table.assign(knn=table["target"]) for name, table in many.items()}
    pairs = [
        sensitivity.sensitivity_difference(a, b, tasks=single.tasks)[numbers]
        for a, b in zip(tables, (other, both), strict=True)
    ]
    pd.testing.assert_frame_equal(pairs[1], pairs[0])
    with pytest.raises(InputError, match="different groups"):
        sensitivity.sensitivity_difference(once, ungrouped, tasks=single.tasks)
    with pytest.raises(InputError, match="of one group are too few"):
        sensitivity.sensitivity({"kind": once["kind"].assign(group="a")}, tasks=single.tasks)


def test_few_shot(single, copied):
    once, many = (few_shot(file, tasks=["kind"], shots=(1, 2), draws=2) for file in (single, copied))
    pd.testing.assert_frame_equal(many.drop(columns="n_test"), once.drop(columns="n_test"))
    assert (once["samples_high"] > once["samples_low"]).all()


def test_universality_and_pairs(base, single, copied):
    ends = ["U_rel", "U_rel_low", "U_rel_high", "gap_low", "gap_high"]
    once, many = (universality(file, config=DUMMIES, progress=False) for file in (single, copied))
    pd.testing.assert_frame_equal(many[ends], once[ends], rtol=1e-3)
    ungrouped = universality(copied, config=DUMMIES, groups=np.arange(80 * TIMES), progress=False)
    assert not np.allclose(ungrouped["gap_low"], many["gap_low"], rtol=1e-3)
    plain = universality(base, config=DUMMIES, progress=False)
    assert set(plain["protocol_id"]).isdisjoint(once["protocol_id"])
    assert set(many["protocol_id"]) == set(once["protocol_id"])

    def against_noise(file, times):
        noisy = rows_as_groups(base, times, label="noisy")
        for split, z in noisy._z.items():
            shift = np.random.default_rng(0).normal(size=base.z(split).shape)
            z += np.repeat(shift, times if split == "test" else 1, axis=0)
        return universality_pair(file, noisy, tasks=["kind"], config=DUMMIES)[["difference", "low", "high"]]

    pairs = [against_noise(file, times) for file, times in ((single, 1), (copied, TIMES))]
    pd.testing.assert_frame_equal(pairs[1], pairs[0], rtol=1e-3)
    assert (pairs[0]["high"] > pairs[0]["low"] + 0.01).all()
    drawn = [universality_drawn(Workspace(file), ["kind"], "a", DUMMIES) for file in (single, copied)]
    assert len(drawn[0])
    for key, values in drawn[0].items():
        np.testing.assert_allclose(drawn[1][key], values, rtol=1e-3, atol=1e-4)


def test_ordinal_geometry_and_controls(single, copied):
    once, many = (ordinal_alignment(file).query("metric == 'direction_spearman'") for file in (single, copied))
    pd.testing.assert_frame_equal(
        *(frame[["value", "low", "high"]].reset_index(drop=True) for frame in (many, once)), rtol=1e-6
    )
    widths = []
    for file in (copied, type(copied)(copied._z, copied._targets, list(copied.tasks.values()), ids=copied._ids)):
        row = ordinal_alignment(file, tasks=["grade"]).query("metric == 'triplet_accuracy'").iloc[0]
        widths.append(row["high"] - row["low"])
    assert widths[0] > 2 * widths[1]
    once, many = (
        geometry(file, split="test", progress=False).query("metric == 'nce:kind'")[["value", "low", "high"]]
        for file in (single, copied)
    )
    assert once.notna().all(axis=None)
    pd.testing.assert_frame_equal(many.reset_index(drop=True), once.reset_index(drop=True), rtol=1e-4)
    found = [controls(f, tasks=["kind"], config=DUMMIES, probes=CONFIG, progress=False) for f in (single, copied)]
    prior = [each.probes.query("encoder == 'constant' and probe == 'prior'")[["low", "high"]] for each in found]
    pd.testing.assert_frame_equal(prior[1], prior[0])


def test_halves_of_a_map_hold_whole_groups(copied):
    """A direction is fitted to some groups and scored on all rows of the others."""
    rng = np.random.default_rng(0)
    points = np.repeat(rng.normal(size=(80, 2)), TIMES, axis=0)
    maps = pd.DataFrame({"id": copied.ids("test"), "x": points[:, 0], "y": points[:, 1]})
    found = ordinal_alignment(copied, tasks=["size"], maps=maps).query("space == 'map'").set_index("metric")
    assert found.loc["direction_spearman", "n"] % TIMES == 0
    assert 0 < found.loc["direction_spearman", "n"] < len(points)


def test_comparison(tables, single, copied, toy):
    once, many = tables
    target = once["kind"]["target"]
    other = once["kind"].assign(knn=np.where(np.arange(len(target)) % 3, target, 0))
    found = paired_difference(once["kind"], other, probe="knn")
    copies = other.loc[other.index.repeat(TIMES)].assign(id=many["kind"]["id"].to_numpy())
    again = paired_difference(many["kind"], copies, probe="knn")
    assert (again.difference, again.low, again.high) == pytest.approx((found.difference, found.low, found.high))
    assert np.isnan([again.p_mcnemar, again.smallest_detectable]).all()
    with pytest.raises(InputError, match="only one table"):
        paired_difference(once["kind"], other.drop(columns="group"), probe="knn")

    second = toy(dim=6, sizes=(120, 60, 80), classes={"kind": 3, "grade": 4, "size": 5}, noise=9.0, seed=1)
    second._targets, second.tasks = single._targets, single.tasks
    results = []
    for times in (1, TIMES):
        files = [single if times == 1 else copied]
        second._targets = {n: {s: single.targets(s, n) for s in single.splits} for n in single.tasks}
        files.append(rows_as_groups(second, times, label="other"))
        results.append(compare_encoders(*files, probes=["ncm"], tasks=["grade"], parts=["probes"], progress=False))
    assert all(result.frame["p_mcnemar"].isna().all() for result in results)
    assert all("no McNemar test" in " ".join(result.notes) for result in results)
    rows = [result.frame.query("metric == 'accuracy'").iloc[0] for result in results]
    for end in ("difference", "low", "high", "smallest_detectable"):
        assert rows[1][end] == pytest.approx(rows[0][end], rel=1e-6), end
    assert rows[1]["high"] > rows[1]["low"]


def test_similarity_of_copies_is_resampled_by_group(single, copied):
    def width(file, groups):
        rng = np.random.default_rng(0)
        noisy = type(file)({s: file.z(s) + rng.normal(size=file.z(s).shape) for s in file.splits}, file._targets,
                           list(file.tasks.values()), ids=file._ids, groups=groups, label="noisy")  # fmt: skip
        plain = type(file)(file._z, file._targets, list(file.tasks.values()), ids=file._ids, groups=groups)
        rows = similarity_rows([Member("a", 0, plain), Member("b", 0, noisy)])
        row = next(row for row in rows if row["metric"] == "mutual_knn_10")
        return row["high"] - row["low"]

    assert width(copied, "#") > 1.5 * width(copied, "")


def test_differences_of_runs_resample_groups(tables):
    once, many = tables
    rng = np.random.default_rng(0)
    change = rng.integers(-1, 2, size=len(once["kind"])).astype(np.int8)
    codes = number_groups(many["kind"]["group"])
    many_changes = np.repeat(change, TIMES)
    found = dict(
        differences._bootstraps(
            {0: (change, None), 1: (many_changes, None), 2: (many_changes, codes), 3: (change, None)}
        )
    )
    assert found[2] == pytest.approx(found[0])
    assert found[1][2] < found[2][2]
    assert found[3] == found[0]


# --- files ------------------------------------------------------------------------------------------------------------


def test_carving_takes_whole_groups(base):
    every = rows_as_groups(base, TIMES, splits=("train", "test"))
    carved = type(every)({s: every.z(s) for s in ("train", "test")}, every._targets, list(every.tasks.values()),
                         ids=every._ids, groups="#")  # fmt: skip
    space = Workspace(carved)
    names = {split: set(space.group_names(split).tolist()) for split in ("train", "val", "test")}
    assert names["val"]
    assert not names["train"] & names["val"]
    assert space.num_rows("val") == TIMES * len(names["val"])
    np.testing.assert_array_equal(np.unique(space.group_codes("val"), return_counts=True)[1], TIMES)


def test_groups_in_two_splits_are_refused(copied):
    ids = {**copied._ids, "test": np.array([name.replace("test-", "train-") for name in copied.ids("test")])}
    with pytest.raises(InputError, match=r"rows of 'train-00000' are in both train and test"):
        Workspace(type(copied)(copied._z, copied._targets, list(copied.tasks.values()), ids=ids, groups="#"))
    ids = {**copied._ids, "test": np.array([f"one#{i}" for i in range(80 * TIMES)])}
    with pytest.raises(InputError, match="all test rows are of one group"):
        Workspace(type(copied)(copied._z, copied._targets, list(copied.tasks.values()), ids=ids, groups="#"))


def test_files_say_and_readers_may_say(tmp_path, copied):
    def write(name, **meta):
        rows = {s: SplitRows(copied.ids(s), {"kind": copied.targets(s, "kind")}) for s in copied.splits}
        path = tmp_path / name
        with EmbeddingsWriter(path, splits=rows, tasks=[copied.tasks["kind"]], dim=6, meta={"label": "a", **meta}) as w:
            for split in copied.splits:
                w.append(split, copied.z(split))
            w.finish()
        return path

    plain, grouped = write("plain.h5"), write("grouped.h5", groups="#")
    with Embeddings(plain) as file:
        assert file.groups == ""
        assert "groups" not in file.meta
        assert Workspace(file).group_codes("test") is None
    with Embeddings(grouped) as file, Embeddings(plain, groups="#") as said, Embeddings(grouped, groups="") as not_so:
        assert file.groups == file.meta["groups"] == said.groups == "#"
        assert not_so.groups == ""
        config = ProbeConfig(probes=("ncm",), bootstrap=20)
        a, b = (probe_with_predictions(each, config=config, progress=False) for each in (file, said))
        pd.testing.assert_frame_equal(a.frame, b.frame)
        mark = spread._mark(said, spread.make_plan(said))
    assert spread._plan(str(plain), mark, {}, "#").workspace.groups == "#"
    spread._kept.clear()
    with pytest.raises(InputError, match="another file"):
        spread._plan(str(plain), mark, {})
    spread._kept.clear()
    (many,) = spread.probe_many([plain], config=config, groups="#", progress=False)
    pd.testing.assert_frame_equal(many.frame, b.frame)
