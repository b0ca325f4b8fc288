"""Nothing about the test split may choose anything, and nothing but z may be a feature.

Hyperparameters and fits are read off the results themselves, for every probe there is: whatever a change of the test
split moves beside the scores is a leak.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprkit.analysis import probe, universality
from reprkit.analysis.probes import Protocol, probe_with_predictions
from reprkit.data import digits
from reprkit.data.base import SPLITS
from reprkit.data.splits import hash_split, merge_groups
from reprkit.embeddings.arrays import split_by_id
from reprkit.errors import InputError
from reprkit.recipe import PROBES, ProbeConfig, UniversalityConfig
from reprkit.tasks import Task

CONFIG = ProbeConfig(bootstrap=50)
TASKS = (Task("kind", "classification", 4), Task("age", "ordinal", 5), Task("years", "regression", 1))
SIZES = {"train": 240, "val": 120, "test": 160}
CHOSEN = ["task", "probe", "metric", "n_train", "params", "val_value", "protocol_id"]
"""Columns that the test split must leave alone."""


def data(seed=0):
    """z and targets by split; targets are weakly predictable, so that validation has something to choose.

    `kind` also sets the distance from the origin of two features, which takes a predictor that is not linear.
    """
    rng = np.random.default_rng(seed)
    z, targets = {}, {task.name: {} for task in TASKS}
    directions = np.random.default_rng(99).normal(size=(3, 12))
    for split, n in SIZES.items():
        kind, age, years = rng.integers(4, size=n), rng.integers(5, size=n), rng.normal(40, 10, size=n)
        parts = np.stack([kind - 1.5, age - 2.0, (years - 40) / 10], axis=1)
        angle = rng.uniform(0, 2 * np.pi, n)
        circles = 4 * kind[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        z[split] = np.hstack([circles, parts @ directions + 2 * rng.normal(size=(n, 12))]).astype(np.float32)
        for name, values in zip(targets, (kind, age, years), strict=True):
            targets[name][split] = values
    return z, targets


@pytest.fixture(scope="module")
def probed(fake_embeddings):
    """Factory of probe results, with the changes that a test makes to z and targets."""

    def run(change=lambda z, targets: None, **options):
        z, targets = data()
        change(z, targets)
        return probe_with_predictions(fake_embeddings(z, targets, TASKS, **options), config=CONFIG, progress=False)

    return run


@pytest.fixture(scope="module")
def plain(probed):
    return probed()


def shuffle(split):
    def change(z, targets):
        order = np.random.default_rng(1).permutation(SIZES[split])
        for columns in targets.values():
            columns[split] = columns[split][order]

    return change


def replace_z(split):
    def change(z, targets):
        z[split] = (50 + 9 * np.random.default_rng(2).standard_cauchy(z[split].shape)).astype(np.float32)

    return change


def chosen(result):
    return result.frame[CHOSEN]


# Probes ---------------------------------------------------------------------------------------------------------------


def test_every_probe_chooses_something_here(plain):
    """Otherwise the tests below would hold for empty reasons."""
    probes = plain.frame[plain.frame.probe.isin(PROBES)]
    assert set(probes.probe) == set(PROBES)
    assert set(probes.task) == {task.name for task in TASKS}
    assert set(probes.probe[probes.params.str.len() <= len("{}")]) <= {"ncm"}  # which has nothing to choose
    assert probes.groupby(["probe", "task"]).val_value.count().eq(1).all()  # on the row of the metric that chose


def test_shuffled_test_targets_choose_nothing(plain, probed):
    shuffled = probed(shuffle("test"))
    pd.testing.assert_frame_equal(chosen(shuffled), chosen(plain))
    for task in TASKS:  # and no prediction moves
        pd.testing.assert_frame_equal(
            shuffled.predictions[task.name].drop(columns="target"), plain.predictions[task.name].drop(columns="target")
        )
    headline = (plain.frame.probe != "prior") & plain.frame.metric.isin(["accuracy", "r2"])
    assert (shuffled.frame.value[headline] < plain.frame.value[headline]).all()  # they were read, for the score


def test_other_test_embeddings_choose_nothing(plain, probed):
    pd.testing.assert_frame_equal(chosen(probed(replace_z("test"))), chosen(plain))


def test_missing_test_targets_choose_nothing(plain, probed):
    def half(z, targets):
        for task in TASKS:
            missing = -1 if task.is_discrete else np.nan
            targets[task.name]["test"] = np.where(np.arange(SIZES["test"]) % 2, targets[task.name]["test"], missing)

    pd.testing.assert_frame_equal(chosen(probed(half)), chosen(plain))


def test_a_test_sample_is_predicted_alone(plain, probed):
    """No statistic of the test split takes part: the others may become anything."""

    def others(z, targets):
        z["test"][80:] = 1e3 * np.random.default_rng(3).normal(size=(80, 14))

    changed = probed(others)
    for task in TASKS:
        kept, before = (result.predictions[task.name].iloc[:80] for result in (changed, plain))
        for name in set(before) - {"id", "target"}:
            np.testing.assert_allclose(kept[name], before[name], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("change", [shuffle, replace_z])
def test_val_does_choose_but_fits_nothing(plain, probed, change):
    """What validation decides changes with it, for every probe and task; so the comparisons above can fail."""
    changed = probed(change("val")).frame
    moved = changed.val_value.notna() & (changed.val_value != plain.frame.val_value)
    assert moved[changed.probe != "prior"].groupby([changed.probe, changed.task]).any().all()
    assert (changed.params != plain.frame.params).any()
    assert changed.n_train.equals(plain.frame.n_train)  # and never train + val


def test_models_are_fitted_to_train_alone(fake_embeddings):
    """With one candidate each, validation has nothing to choose, and so nothing to say about any prediction."""
    grids = {name: value for name, value in asdict(Protocol()).items() if isinstance(value, tuple)}
    assert len(grids) > 5
    protocol = Protocol(**{name: (value[len(value) // 2],) for name, value in grids.items()})
    stopped_on_val = ("mlp",)
    predictions = []
    for change in (lambda z, targets: None, shuffle("val"), replace_z("val")):
        z, targets = data()
        change(z, targets)
        file = fake_embeddings(z, targets, TASKS)
        predictions.append(probe_with_predictions(file, config=CONFIG, protocol=protocol, progress=False).predictions)
    first, *others = predictions
    for other in others:
        for task in TASKS:
            names = [name for name in first[task.name] if name not in stopped_on_val]
            assert len(names) >= len(PROBES) - len(stopped_on_val)
            pd.testing.assert_frame_equal(other[task.name][names], first[task.name][names], rtol=1e-5)


# Features -------------------------------------------------------------------------------------------------------------


def test_probes_read_nothing_but_z(plain, probed, fake_embeddings):
    """The encoder's own outputs, here the very answers, lie beside z in a file; ids may tell a class as well."""
    z, targets = data()
    answers = {
        task.name: {s: 100 * np.eye(task.num_outputs)[targets[task.name][s]] for s in SPLITS}
        for task in TASKS
        if task.is_discrete
    }
    ids = {s: np.array([f"{s}-{kind}-{i}" for i, kind in enumerate(targets["kind"][s])]) for s in SPLITS}
    told = probed(logits=answers, ids=ids, meta={"provenance": {"answers": "here"}}).frame
    assert "head" in set(told.probe)  # the encoder's own outputs have a row, and that alone
    pd.testing.assert_frame_equal(told[told.probe != "head"].reset_index(drop=True), plain.frame)

    read: set[str] = set()

    class Watched(fake_embeddings):  # the fixture is the class itself
        def __getattribute__(self, name):
            read.add(name)
            return super().__getattribute__(name)

    probe(Watched(z, targets, TASKS), config=CONFIG, progress=False)
    public = {name for name in read if not name.startswith("_")}
    arrays = {"z", "blocks", "targets", "ids", "logits"}  # the last for the row of the encoder's own head
    assert public <= arrays | {"num_rows", "dim", "splits", "tasks", "trained_tasks", "label", "seed", "path", "groups"}


def test_coordinates_of_a_map_have_no_way_into_a_probe(plain):
    table = pd.DataFrame({"encoder": "fake", "seed": 0, "id": ["a", "b"], "x": [0.0, 1.0], "y": [1.0, 0.0]})
    with pytest.raises((InputError, AttributeError, TypeError)):
        probe(table, progress=False)
    for function in (probe, probe_with_predictions):
        takes = set(inspect.signature(function).parameters)
        assert takes <= {"source", "tasks", "config", "label", "protocol", "progress"}, "a new way in: test it"
    loaded = "import sys, reprkit.analysis.probes.suite; print([m for m in sys.modules if 'tsne' in m.lower()])"
    found = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


# Universality ---------------------------------------------------------------------------------------------------------

DUMMIES = UniversalityConfig(num_dummies=6, heads=("linear", "mlp"), bootstrap=20)
FITTED = ["task", "head", "C", "certificate", "tau_median", "star_family", "dummy_sha", "protocol_id"]


@pytest.fixture(scope="module")
def universal(fake_embeddings):
    def run(change=lambda z, targets: None):
        z, targets = data()
        change(z, targets)
        return universality(fake_embeddings(z, targets, TASKS), config=DUMMIES, progress=False)

    return run


@pytest.fixture(scope="module")
def measured(universal):
    return universal()


@pytest.mark.parametrize("change", [shuffle("test"), replace_z("test")], ids=["targets", "z"])
def test_the_test_split_fits_no_predictor_of_universality(measured, universal, change):
    changed = universal(change)
    pd.testing.assert_frame_equal(changed[FITTED], measured[FITTED])
    assert changed.C.notna().any()
    assert "mlp" in set(changed.star_family)
    assert (changed.L_dummy != measured.L_dummy).all()


def test_val_chooses_the_optimal_predictor(measured, universal):
    changed = universal(shuffle("val"))
    assert (changed.C.fillna(-1) != measured.C.fillna(-1)).any()
    assert changed.tau_median.equals(measured.tau_median)  # temperatures and permutations are of train


@pytest.mark.parametrize("reversed_half", [False, True])
def test_losses_of_two_halves_of_test_average_to_that_of_the_whole(universal, reversed_half):
    """Which they would not if a permutation, a temperature or L* were chosen on the samples it is scored on.

    With the labels of one half reversed it would clearly choose otherwise; U_rel is undefined there.
    """

    def prepared(rows):
        def change(z, targets):
            for task in TASKS[:2] if reversed_half else ():
                targets[task.name]["test"][80:] = task.num_outputs - 1 - targets[task.name]["test"][80:]
            z["test"] = z["test"][rows]
            for columns in targets.values():
                columns["test"] = columns["test"][rows]

        return change

    def losses(rows):
        frame = universal(prepared(rows))
        usable = frame.H_y - frame.L_star
        found = frame[["L_star", "L_dummy", "H_y"]].assign(
            rms1=frame.H_y - frame.U_rel * usable, tau=frame.H_y - frame.U_rel_tau * usable
        )
        return found.astype(float)

    whole, first, second = (losses(rows) for rows in (slice(None), slice(80), slice(80, None)))
    columns = ["L_star", "L_dummy", "H_y"] if reversed_half else list(whole)
    assert whole[columns].notna().all(axis=None)
    np.testing.assert_allclose((first[columns] + second[columns]) / 2, whole[columns], rtol=1e-5)


# Splits ---------------------------------------------------------------------------------------------------------------

copies = st.lists(
    st.tuples(st.sampled_from("abcdefghijkl"), st.sampled_from(["", "p", "q", "r"]), st.integers(0, 3)),
    min_size=1,
    max_size=50,
)


@given(copies)
@settings(max_examples=200)
def test_copies_never_cross_a_split(rows):
    """By content or by a given group, also along a chain of both, and whatever class each copy carries."""
    content, group, stratum = (list(column) for column in zip(*rows, strict=True))
    split = hash_split(merge_groups(content, group), np.array(stratum))
    for i in range(len(rows)):
        for j in range(i):
            if content[i] == content[j] or (group[i] and group[i] == group[j]):
                assert split[i] == split[j]


def test_no_handwritten_digit_is_drawn_in_two_splits(monkeypatch):
    """The canvases of the default data set are composed of the drawings of their own split only."""
    used, compose = [], digits.compose

    def recording(drawings, pool, count, stream):
        canvases, pairs = compose(drawings, pool, count, stream)
        used.append(set(pairs.ravel().tolist()))
        return canvases, pairs

    monkeypatch.setattr(digits, "compose", recording)
    assert set(digits.load_digits_pairs().split) == {0, 1, 2}
    assert len(used) == 3
    assert all(used)
    assert len(set.union(*used)) == sum(map(len, used))


@given(st.lists(st.text("abc01", min_size=1, max_size=4), min_size=1, max_size=40, unique=True), st.randoms())
def test_the_split_of_an_id_depends_on_nothing_else(ids, random):
    """So that an encoder's file with fewer rows, or in another order, never moves a sample from test to train."""
    whole = dict(zip(ids, split_by_id(np.array(ids)), strict=True))
    some = random.sample(ids, random.randint(1, len(ids)))
    assert [whole[name] for name in some] == split_by_id(np.array(some)).tolist()
