"""The comparison of encoders: pairing, refusals, trade-offs, seeds, words, pictures and the command."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, mean_absolute_error, r2_score

from reprkit.analysis import compare
from reprkit.analysis.bootstrap import bootstrap_sums, hierarchical_bootstrap
from reprkit.analysis.comparison.comparable import first_difference
from reprkit.analysis.comparison.compare import compare_encoders, compare_seeds
from reprkit.analysis.comparison.measures import apart, measured_rows
from reprkit.analysis.comparison.pairs import COLUMNS, adjust, paired_rows, unmatched
from reprkit.analysis.comparison.panel import Key, head_tables, make_panel, metrics_of, resampled_scores
from reprkit.analysis.comparison.pareto import dominates
from reprkit.analysis.comparison.seeds import collect_runs
from reprkit.analysis.figures.compare import differences_figure, heat_figure, pareto_figure
from reprkit.analysis.paired import paired_difference
from reprkit.analysis.stats import t_interval
from reprkit.analysis.universal.score import universality
from reprkit.cli import main
from reprkit.embeddings import Embeddings
from reprkit.errors import InputError
from reprkit.tasks import Task

FAST = {"probes": ["knn", "linear"], "parts": ["probes"], "progress": False}
AGE = Task("age", "ordinal", 5)
YEARS = Task("years", "regression", 1, mean=40.0, std=10.0)
N = 240


def tables(task, rng, skills, *, seeds=(0,), protocol="p", n=N):
    """Predictions of encoders that are right on about `skill` of the samples, rows shuffled for each."""
    target = rng.integers(task.num_outputs, size=n) if task.is_discrete else rng.normal(40, 10, n)
    ids = np.array([f"s{i:04d}" for i in range(n)])
    made = []
    for (encoder, skill), seed in itertools.product(skills.items(), seeds):
        if task.is_discrete:
            predicted = np.where(rng.random(n) < skill, target, rng.integers(task.num_outputs, size=n))
        else:
            predicted = target + rng.normal(0, 10 * (1 - skill), n)
        order = rng.permutation(n)
        frame = pd.DataFrame({"id": ids[order], "target": target[order], "knn": predicted[order]})
        made.append((encoder, seed, frame, {"knn": protocol}))
    return made


def two(toy, better=0.6, worse=2.5, **options):
    """A worse and a better encoder of the same samples."""
    shape = {"sizes": (300, 100, 300), "seed": 3, "dim": 8, **options}
    return toy(noise=worse, label="worse", **shape), toy(noise=better, label="better", **shape)


# --- paired differences -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [AGE, YEARS], ids=lambda task: task.kind)
def test_rows_are_those_of_paired_difference(task):
    made = tables(task, np.random.default_rng(0), {"a": 0.5, "b": 0.65, "c": 0.5})
    panel = make_panel(task, made)
    frame = adjust(pd.DataFrame(paired_rows(panel, resampled_scores(panel), ["a", "b", "c"], "a"), columns=COLUMNS))
    assert list(dict.fromkeys(frame["encoder"])) == ["b", "c"]
    for row in frame[frame["metric"].isin(["accuracy", "mae"])].itertuples():
        other = next(table for encoder, _, table, _ in made if encoder == row.encoder)
        expected = paired_difference(made[0][2], other, probe="knn", metric=row.metric)
        assert row.difference == pytest.approx(expected.difference)
        assert (row.low, row.high) == pytest.approx((expected.low, expected.high))
        assert row.n == N
        if row.metric == "accuracy":
            assert row.p_mcnemar == pytest.approx(expected.p_mcnemar)
            assert row.smallest_detectable == pytest.approx(expected.smallest_detectable)
    if task.is_discrete:
        first, second = (np.asarray(t[2].sort_values("id").eval("knn == target")) for t in made[:2])
        only = [int((x & ~y).sum()) for x, y in ((first, second), (second, first))]
        p = stats.binomtest(only[0], sum(only), 0.5).pvalue
        accuracy = frame[frame["metric"] == "accuracy"].set_index("encoder")
        assert accuracy.p_mcnemar["b"] == pytest.approx(p)
        assert accuracy.p_holm["b"] == pytest.approx(min(2 * p, 1))  # the smaller of two
        assert accuracy.p_holm["c"] == pytest.approx(max(accuracy.p_mcnemar["c"], 2 * p))


@pytest.mark.parametrize("task", [AGE, YEARS], ids=lambda task: task.kind)
def test_resampled_metrics_are_those_of_the_drawn_samples(task):
    panel = make_panel(task, tables(task, np.random.default_rng(1), {"a": 0.5, "b": 0.7}))
    scores = resampled_scores(panel, resamples=20, seed=4)
    counts = np.vstack([np.ones(N), bootstrap_sums(np.eye(N), 20, seed=4)])
    expected = {
        "accuracy": lambda y, p, w: np.average(y == p, weights=w),
        "balanced_accuracy": lambda y, p, w: balanced_accuracy_score(y, p, sample_weight=w),
        "mae": lambda y, p, w: mean_absolute_error(y, p, sample_weight=w),
        "r2": lambda y, p, w: r2_score(y, p, sample_weight=w),
    }
    for key, predicted in panel.predictions.items():
        assert set(scores[key]) == set(metrics_of(task))
        for metric, values in scores[key].items():
            assert values == pytest.approx([expected[metric](panel.target, predicted, w) for w in counts])


def test_holm_counts_within_a_task():
    p = [0.01, 0.02, 0.03, 0.02, np.nan]
    frame = pd.DataFrame({"task": ["a", "b", "a", "a", "a"], "name": list("xxyzw"), "p_mcnemar": p})
    np.testing.assert_allclose(adjust(frame)["p_holm"], [0.03, 0.02, 0.04, 0.04, np.nan])


def test_a_probe_of_several_models_averages_their_scores():
    rng = np.random.default_rng(6)
    made = tables(AGE, rng, {"a": 0.4, "b": 0.8})
    for i, (encoder, seed, table, _) in enumerate(made):
        several = {f"tree_rotated[{k}]": rng.permutation(table["knn"]) if k else table["knn"] for k in range(3)}
        made[i] = (encoder, seed, table.drop(columns="knn").assign(**several), {"tree_rotated": "p"})
    panel = make_panel(AGE, made)
    scores = resampled_scores(panel)
    by_metric = {row["metric"]: row for row in paired_rows(panel, scores, ["a", "b"], "a")}
    means = [
        np.mean([np.mean(table[f"tree_rotated[{k}]"] == table["target"]) for k in range(3)]) for _, _, table, _ in made
    ]
    assert (by_metric["accuracy"]["baseline_value"], by_metric["accuracy"]["value"]) == pytest.approx(tuple(means))
    rights = [panel.right(Key(name, 0, "tree_rotated", "p")).mean(axis=0) for name in "ab"]
    change = hierarchical_bootstrap((rights[1] - rights[0])[None])
    assert tuple(by_metric["accuracy"][k] for k in ("difference", "low", "high")) == pytest.approx(change)
    assert np.isnan(by_metric["accuracy"]["p_mcnemar"])


def test_less_error_is_better():
    panel = make_panel(YEARS, tables(YEARS, np.random.default_rng(2), {"a": 0.2, "b": 0.8}))
    rows = {row["metric"]: row for row in paired_rows(panel, resampled_scores(panel), ["a", "b"], "a")}
    assert rows["mae"]["difference"] < 0 < rows["r2"]["difference"]
    assert {row["reading"] for row in rows.values()} == {"better"}


def test_numbers_of_unlike_protocols_never_meet():
    rng = np.random.default_rng(3)
    made = tables(AGE, rng, {"a": 0.2, "b": 0.9, "c": 0.9})
    made[2] = (*made[2][:3], {"knn": "another"})
    panel = make_panel(AGE, made)
    rows = paired_rows(panel, resampled_scores(panel), ["a", "b", "c"], "a")
    assert {row["encoder"] for row in rows} == {"b"}
    assert [("c" in text, "protocol" in text) for text in unmatched(panel, ["a", "b", "c"], "a")] == [(True, True)]


def test_tables_of_other_samples_are_refused():
    made = tables(AGE, np.random.default_rng(4), {"a": 0.5, "b": 0.5})
    encoder, seed, table, protocols = made[1]
    with pytest.raises(InputError, match=r"task age: 7 test ids are only in a \(seed 0\)"):
        make_panel(AGE, [made[0], (encoder, seed, table.sort_values("id").iloc[7:], protocols)])
    changed = table.assign(target=np.where(table["id"] == "s0003", (table["target"] + 1) % 5, table["target"]))
    with pytest.raises(InputError, match="1 targets of a"):
        make_panel(AGE, [made[0], (encoder, seed, changed, protocols)])


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_planted_better_encoder_is_found(toy):
    frame = compare(*two(toy), **FAST)
    assert list(frame.columns) == list(COLUMNS)
    accuracy = frame[frame["metric"] == "accuracy"]
    assert set(zip(accuracy["task"], accuracy["name"], strict=True)) == set(
        itertools.product(["left", "right"], ["knn", "linear"])
    )
    assert (accuracy["reading"] == "better").all()
    assert (accuracy["p_holm"] < 1e-3).all()
    assert (accuracy["value"] > accuracy["baseline_value"]).all()
    assert (accuracy["difference"] > accuracy["smallest_detectable"]).all()
    swapped = compare(*two(toy), baseline="better", **FAST)
    assert (swapped.loc[swapped["metric"] == "accuracy", "reading"] == "worse").all()


def test_a_copy_is_not_distinguishable(toy):
    first, second = toy(label="one", sizes=(200, 80, 120)), toy(label="two", sizes=(200, 80, 120))
    result = compare_encoders(first, second, probes=["knn"], progress=False)
    frame = result.frame
    assert set(frame["kind"]) == {"probe", "universality", "geometry", "similarity"}
    probes = frame[frame["kind"] == "probe"]
    assert (probes["reading"] == "not distinguishable").all()
    assert (probes[["difference", "low", "high"]] == 0).all(axis=None)
    assert (probes.loc[probes["metric"] == "accuracy", ["p_mcnemar", "p_holm"]] == 1).all(axis=None)
    assert (frame.loc[frame["kind"].isin(["universality", "geometry"]), "difference"].abs() < 1e-9).all()
    assert not frame["reading"].isin(["apart", "higher", "lower"]).any()
    assert frame.loc[frame["kind"] == "similarity", "value"].to_numpy() == pytest.approx(1.0)
    assert result.sentences[0] == "Not distinguishable from one on any task: two."
    assert (result.pareto["front_share"] == 1).all()


def shuffled(fake, fake_embeddings, rng, **changes):
    """The same embeddings with the rows of every split in another order."""
    order = {split: rng.permutation(fake.num_rows(split)) for split in fake.splits}
    options = {
        "z": {split: fake.z(split)[rows] for split, rows in order.items()},
        "targets": {name: {s: fake.targets(s, name)[rows] for s, rows in order.items()} for name in fake.tasks},
        "tasks": list(fake.tasks.values()),
        "ids": {split: fake.ids(split)[rows] for split, rows in order.items()},
        "label": "shuffled",
    }
    return fake_embeddings(**{**options, **changes})


def test_the_order_of_rows_does_not_matter(toy, fake_embeddings):
    worse, better = two(toy, better=2.0)
    parts = {"probes": ["knn", "linear"], "parts": ["probes", "similarity"], "progress": False}
    straight = compare(worse, better, **parts)
    mixed = compare(worse, shuffled(better, fake_embeddings, np.random.default_rng(0), label="better"), **parts)
    numbers = ["value", "difference", "low", "high", "p_mcnemar"]
    assert straight["difference"].abs().max() > 0
    np.testing.assert_allclose(mixed[numbers].to_numpy(float), straight[numbers].to_numpy(float), atol=1e-6)


def test_universality_is_paired_where_rows_are_in_one_order(toy, fake_embeddings):
    worse, better = two(toy, better=1.0, worse=1.3)
    options = {"parts": ["universality"], "progress": False}
    paired = compare(worse, better, **options)
    kept = paired[paired["metric"].isin(["U_rel", "U_rel_tau", "gap", "L_star"])]
    assert len(kept) == 8
    assert (kept["interval"] == "dummies and samples").all()
    assert ((kept["low"] < kept["difference"]) & (kept["difference"] < kept["high"])).all()
    assert set(kept["reading"]) <= {"higher", "lower", "not distinguishable"}
    alone = universality(worse, progress=False).set_index("task")
    for row in kept[kept["metric"] == "U_rel"].itertuples():
        assert row.baseline_value == pytest.approx(alone.U_rel[row.task])
    mixed = compare(worse, shuffled(better, fake_embeddings, np.random.default_rng(0), label="better"), **options)
    assert mixed["low"].isna().all()
    assert set(mixed.loc[mixed["metric"] == "U_rel", "reading"]) <= {"apart", "overlap"}


def test_encoders_of_unlike_seeds_are_compared_all_the_same(toy):
    files = [toy(sizes=(150, 60, 90), label="same", seed=0) for _ in range(2)]
    files[1].seed, files[1].path = 1, "other.h5"
    frame = compare(*files, probes=["knn"], progress=False)
    assert set(frame["encoder"]) == {"same seed 1"}
    assert set(frame["kind"]) == {"probe", "universality", "geometry", "similarity"}


def test_missing_values_are_equal_to_each_other(toy, fake_embeddings):
    base = toy(sizes=(60, 30, 40), classes={"years": 3}, kinds={"years": "regression"}, label="a")
    targets = {"years": {s: base.targets(s, "years").copy() for s in base.splits}}
    targets["years"]["train"][:5] = np.nan
    files = [
        fake_embeddings({s: base.z(s) for s in base.splits}, targets, [base.tasks["years"]], label=label)
        for label in "ab"
    ]
    assert first_difference(*files, ["years"]) == ""
    targets = {"years": {**targets["years"], "train": np.nan_to_num(targets["years"]["train"])}}
    other = fake_embeddings({s: base.z(s) for s in base.splits}, targets, [base.tasks["years"]], label="c")
    assert "5 train targets differ" in first_difference(files[0], other, ["years"])


def rename(ids, split, **names):
    return {**ids, split: np.array([names.get(name.replace("-", "_"), name) for name in ids[split]])}


def test_refusals_name_the_first_difference(toy, fake_embeddings):
    first = toy(label="a", sizes=(60, 30, 40))
    rng = np.random.default_rng(0)
    ids = {split: first.ids(split) for split in first.splits}

    def refused(words, *, asked=None, **changes):
        other = shuffled(first, fake_embeddings, rng, **changes)
        with pytest.raises(InputError, match=words) as error:
            compare(first, other, tasks=asked, **FAST)
        assert "a.h5" in str(error.value)
        assert "shuffled.h5" in str(error.value)

    prints = {"dataset": "d", "split": "s", "transform": "t"}
    for name in prints:
        refused(f"their {name} fingerprints differ", meta={"fingerprints": {**prints, name: "other"}})
    foreign = {"fingerprints": {"dataset": "of rows in this order"}}  # a file made elsewhere is judged by its content
    straight = {
        "z": {s: first.z(s) for s in ids},
        "targets": {n: {s: first.targets(s, n) for s in ids} for n in first.tasks},
    }
    more = {"meta": foreign, **straight}
    refused(r"2 test ids are only in a\.h5 \(one is test-00000\)", **more,
            ids=rename(ids, "test", test_00000="x", test_00001="y"))  # fmt: skip
    swapped = rename(rename(ids, "test", test_00007="train-00003"), "train", train_00003="test-00007")
    refused("1 train ids of a.h5 are test ids of shuffled.h5", **more, ids=swapped)
    targets = {name: {s: np.array(y) for s, y in splits.items()} for name, splits in straight["targets"].items()}
    targets["right"]["val"][:3] = 1 - targets["right"]["val"][:3]
    refused(r"task right: 3 val targets differ \(the first is val-00000", **{**more, "targets": targets}, ids=ids)
    classes = [Task("left", "classification", 4), Task("right", "classification", 2)]
    refused("task left: 3 outputs in one, 4 outputs in the other", **more, tasks=classes, ids=ids)
    few = {s: first.z(s) for s in ("train", "test")}
    refused(r"30 val ids are only in a\.h5", meta=foreign, z=few, ids=ids)

    transformed = shuffled(first, fake_embeddings, rng, meta={"fingerprints": {**prints, "transform": "other"}})
    assert len(compare(first, transformed, different_transform=True, **FAST))
    fine = shuffled(first, fake_embeddings, rng, meta=foreign)
    assert len(compare(first, fine, **FAST))
    relabelled = fake_embeddings(
        **{**straight, "targets": targets}, tasks=list(first.tasks.values()), ids=ids, label="b"
    )
    assert set(compare(first, relabelled, tasks=["left"], **FAST)["task"]) == {"left"}  # the others were not asked for


def test_missing_targets_are_left_out_of_the_pairs(fake_embeddings, toy):
    base = toy(sizes=(200, 60, 120), classes={"a": 3})
    targets = {"a": {s: base.targets(s, "a").copy() for s in base.splits}}
    targets["a"]["test"][:20] = -1
    files = [
        fake_embeddings({s: base.z(s) for s in base.splits}, targets, [base.tasks["a"]], label=label) for label in "xy"
    ]
    frame = compare(*files, **FAST)
    assert (frame["n"] == 100).all()


def test_own_heads_are_compared_where_their_outputs_are_stored(toy, fake_embeddings):
    base = toy(sizes=(200, 60, 150), classes={"a": 3, "years": 4}, kinds={"years": "regression"}, dim=4)
    tasks = [base.tasks["a"], Task("years", "regression", 1, mean=2.0, std=0.5)]
    targets = {n: {s: base.targets(s, n) for s in base.splits} for n in base.tasks}
    truth = {"a": np.eye(3)[targets["a"]["test"]], "years": (targets["years"]["test"][:, None] - 2.0) / 0.5}
    wrong = {name: values[::-1] for name, values in truth.items()}
    files = [
        fake_embeddings(
            {s: base.z(s) for s in base.splits}, targets, tasks, label=label,
            logits={name: {"test": values} for name, values in logits.items()},
        )
        for label, logits in (("wrong", wrong), ("right", truth))
    ]  # fmt: skip
    frame = compare(*files, **FAST)
    heads = frame[frame["name"] == "head"].set_index(["task", "metric"])
    assert heads.value["a", "accuracy"] == 1
    assert heads.value["years", "r2"] == pytest.approx(1)
    assert heads.value["years", "mae"] == pytest.approx(0, abs=1e-6)
    assert (heads["reading"] == "better").all()
    assert (heads["protocol_id"] == "").all()
    without = compare(files[0], toy(sizes=(200, 60, 150), classes={"a": 3, "years": 4}, kinds={"years": "regression"},
                                    dim=4, label="none"), **FAST)  # fmt: skip
    assert "head" not in set(without["name"])


def test_names_that_are_unknown_are_refused(toy):
    files = two(toy, sizes=(80, 40, 60))
    for options, word in (
        ({"tasks": ["age"]}, "no task 'age'"), ({"baseline": "x"}, "baseline 'x'"), ({"parts": ["magic"]}, "magic"),
        ({"probes": ["tea_leaves"]}, "tea_leaves"), ({"view": "tree"}, "view 'tree'"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=word):
            compare(*files, **{**FAST, **options})
    with pytest.raises(InputError, match="two or more"):
        compare_encoders(files[0], **FAST)
    with pytest.raises(InputError, match="named twice"):
        compare(files[0], files[0], **FAST)


def test_heads_of_older_runs_are_read_from_their_outputs(toy, fake_embeddings):
    base = toy(sizes=(60, 30, 40), classes={"a": 3, "years": 3}, kinds={"years": "regression"})
    tasks = [base.tasks["a"], Task("years", "regression", 1, mean=2.0, std=0.5)]
    targets = {n: {s: base.targets(s, n).copy() for s in base.splits} for n in base.tasks}
    targets["a"]["test"][:7] = -1
    logits = {"a": {"test": np.eye(3)[targets["a"]["test"]]}, "years": {"test": np.ones((40, 1))}}
    made = head_tables(
        fake_embeddings({s: base.z(s) for s in base.splits}, targets, tasks, logits=logits), ["a", "years"]
    )
    assert len(made["a"]) == 33
    assert (made["a"]["head"] == made["a"]["target"]).all()
    assert (made["years"]["head"] == 2.5).all()


# --- trade-offs -------------------------------------------------------------------------------------------------------


@given(
    arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 3)), elements=st.sampled_from([0, 0.5, 1, np.nan]))
)
@settings(max_examples=150, deadline=None)
def test_dominance_by_brute_force(values):
    found = dominates(values)
    for i, j in itertools.product(range(len(values)), repeat=2):
        one, two = values[i], values[j]
        expected = all(a >= b for a, b in zip(one, two, strict=True)) and any(
            a > b for a, b in zip(one, two, strict=True)
        )
        assert found[i, j] == expected
    assert (dominates(np.stack([values, -values]))[0] == found).all()


def test_a_gain_has_its_price_in_words(toy, fake_embeddings):
    clear = toy(sizes=(300, 100, 300), dim=12, noise=0.5, label="balanced")
    rng = np.random.default_rng(0)
    blur = {s: clear.z(s) + rng.normal(0, 3, clear.z(s).shape) for s in clear.splits}
    targets = {n: {s: clear.targets(s, n) for s in clear.splits} for n in clear.tasks}
    files = []
    for label, shown in (("of left", "left"), ("of right", "right")):
        z = {s: np.hstack([blur[s], np.eye(3)[targets[shown][s]] * 20]) for s in clear.splits}
        files.append(fake_embeddings(z, targets, list(clear.tasks.values()), label=label))
    result = compare_encoders(*files, **FAST)
    assert result.sentences[0].startswith("of right gains on right (+")
    assert "at the price of left (−" in result.sentences[0]
    assert result.sentences[1].startswith("Not dominated, by values alone")
    assert result.pareto["on_front"].all()
    three = compare_encoders(*files, clear, baseline="balanced", **FAST)
    front = three.pareto[three.pareto["name"] == "linear"].drop_duplicates("encoder").set_index("encoder")
    assert front["front_share"].between(0, 1).all()
    linear = three.pareto[three.pareto["name"] == "linear"].pivot(index="encoder", columns="task", values="value")
    for encoder, row in linear.iterrows():
        beaten = [o for o, other in linear.iterrows() if (other >= row).all() and (other > row).any()]
        assert front.dominated_by[encoder] == "; ".join(beaten)
        assert front.on_front[encoder] == (not beaten)


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_hierarchical_bootstrap_of_one_seed_is_that_of_its_samples():
    values = np.random.default_rng(0).normal(size=(1, 80))
    scipy = stats.bootstrap((values[0],), np.mean, n_resamples=4000, method="percentile", rng=0).confidence_interval
    mean, low, high = hierarchical_bootstrap(values, resamples=4000)
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((scipy.low, scipy.high), abs=0.03)
    for wrong in (np.zeros(3), np.zeros((0, 3)), np.zeros((2, 0))):
        with pytest.raises(ValueError, match="seeds, samples"):
            hierarchical_bootstrap(wrong)


def test_hierarchical_bootstrap_nears_student_where_seeds_differ_and_samples_do_not():
    values = np.random.default_rng(1).normal(size=(4, 1)) + np.zeros((1, 50))
    assert hierarchical_bootstrap(values) == pytest.approx(t_interval(values[:, 0]))
    alike = np.zeros((4, 1)) + np.random.default_rng(2).normal(size=(1, 200))
    one = hierarchical_bootstrap(alike[:1])
    assert hierarchical_bootstrap(alike) == pytest.approx(one)


@pytest.mark.parametrize(("spread", "least_percentile"), [(0.0, 0.93), (4.0, 0.0)])
def test_hierarchical_bootstrap_covers_the_truth_over_three_seeds(spread, least_percentile):
    rng, trials, samples = np.random.default_rng(5), 300, 100
    held = {True: 0, False: 0}
    for trial in range(trials):
        effect = rng.normal(size=(1, samples)) + rng.normal(size=(3, samples))
        values = spread * rng.normal(size=(3, 1)) * np.sqrt((1 + 1 / 3) / samples * 3) + effect
        for percentile in held:
            _, low, high = hierarchical_bootstrap(values, resamples=200, seed=trial, percentile=percentile)
            held[percentile] += low <= 0 <= high
    assert held[False] / trials >= 0.93
    assert held[True] / trials >= least_percentile
    if spread:
        assert held[True] / trials < 0.88  # why it is not the default


def write_runs(folder, skills, *, seeds=(0, 1, 2), task=AGE, probe="knn", rng=None):
    """Runs as `reprkit run` leaves them, with predictions alone."""
    made = tables(task, rng or np.random.default_rng(7), skills, seeds=seeds)
    for encoder, seed, table, _ in made:
        run = folder / "runs" / encoder / f"seed{seed}"
        (run / "predictions").mkdir(parents=True)
        table.to_csv(run / "predictions" / f"{task.name}.csv", index=False)
        row = {"encoder": encoder, "seed": seed, "task": task.name, "probe": probe, "protocol_id": "p", "value": 0.5}
        pd.DataFrame([row | {"metric": metric} for metric in metrics_of(task)]).to_csv(run / "probes.csv", index=False)
        u = {"encoder": encoder, "seed": seed, "task": task.name, "head": "linear", "n": 9, "protocol_id": "u"}
        values = dict.fromkeys(["U_rel_tau", "gap", "L_star", "rms", "effective_rank", "grad_norm"], 1.0)
        pd.DataFrame([u | values | {"U_rel": 0.1 * seed + skills[encoder]}]).to_csv(
            run / "universality.csv", index=False
        )
        (run / "test_scores.json").write_text(json.dumps({"method": encoder, "seed": seed, "tasks": {}}))
    return made


def test_methods_are_compared_over_common_seeds(tmp_path):
    skills = {"vanilla": 0.4, "vanilla+dgr": 0.95, "zeta": 0.4}
    made = write_runs(tmp_path, skills)
    result = compare_seeds([tmp_path], progress=False)
    assert result.encoders == ("vanilla", "vanilla+dgr", "zeta")
    accuracy = result.frame[result.frame["metric"] == "accuracy"].set_index("encoder")
    right = {(e, s): t.sort_values("id").eval("knn == target").to_numpy(float) for e, s, t, _ in made}
    for encoder in ("vanilla+dgr", "zeta"):
        change = np.stack([right[encoder, s] - right["vanilla", s] for s in range(3)])
        row = accuracy.loc[encoder]
        assert (row.difference, row.low, row.high) == pytest.approx(hierarchical_bootstrap(change))
        assert (row.n_seeds, row.interval, row.n) == (3, "seeds and samples", N)
        own = result.seeds[result.seeds["encoder"] == encoder].sort_values("seed")
        assert own["difference"].to_numpy() == pytest.approx(change.mean(axis=1))
        assert np.isnan(row.p_mcnemar)
    assert accuracy.reading["vanilla+dgr"] == "better"
    u = result.frame[(result.frame["metric"] == "U_rel") & (result.frame["encoder"] == "vanilla+dgr")].iloc[0]
    assert (u.difference, u.low, u.high) == pytest.approx((0.55, 0.55, 0.55))
    assert u.reading == "higher"
    gone = compare_seeds([tmp_path / "runs" / name for name in ("vanilla", "vanilla+dgr")], progress=False)
    pd.testing.assert_frame_equal(gone.frame, result.frame[result.frame["encoder"] != "zeta"].reset_index(drop=True))
    assert compare_seeds([tmp_path], baseline="zeta", progress=False).baseline == "zeta"


def test_seeds_of_one_method_are_the_yardstick_of_similarity(tmp_path):
    write_runs(tmp_path, {"vanilla": 0.4, "b": 0.5})
    rng = np.random.default_rng(0)
    base = rng.normal(size=(N, 6))
    y = np.random.default_rng(7).integers(5, size=N)  # the targets that `tables` drew
    split = np.repeat(["train", "val", "test"], N // 3)
    for run in collect_runs([tmp_path]):
        z = base @ np.linalg.qr(rng.normal(size=(6, 6)))[0] if run.encoder == "vanilla" else rng.normal(size=(N, 6))
        with open(run.path / "embeddings.h5", "wb") as file:
            np.savez(file, z=z, y_age=y, y_other=y, ids=np.array([f"s{j:04d}" for j in range(N)]), split=split)
    rows = compare_seeds([tmp_path], tasks=["age"], parts=["similarity"], progress=False).frame
    cka = rows[rows["metric"] == "debiased_cka"].set_index(["encoder", "baseline"])
    assert cka.value["vanilla", "vanilla"] == pytest.approx(1, abs=1e-5)
    assert abs(cka.value["b", "b"]) < 0.2
    assert cka.n_seeds["b", "vanilla"] == 3
    assert cka.low["b", "vanilla"] < 0 < cka.high["b", "vanilla"]
    assert cka["low"].isna().sum() == 2


def test_few_seeds_are_said(tmp_path):
    write_runs(tmp_path, {"vanilla": 0.4, "b": 0.6}, seeds=(0, 1))
    for name in ("b/seed1", "vanilla/seed0"):
        (tmp_path / "runs" / name).rename(tmp_path / name.replace("/", "-"))
    apart_ = compare_seeds([tmp_path], progress=False)
    assert not len(apart_.frame)
    assert any("no seed in common" in note for note in apart_.notes)
    (tmp_path / "vanilla-seed0").rename(tmp_path / "runs" / "vanilla" / "seed0")
    one = compare_seeds([tmp_path], progress=False)
    row = one.frame[one.frame["metric"] == "accuracy"].iloc[0]
    assert (row.n_seeds, row.interval) == (1, "samples")
    assert np.isfinite(row.p_holm)
    assert any("one seed in common" in note for note in one.notes)


def test_folders_that_cannot_be_compared(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        compare_seeds([tmp_path / "none"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no finished runs"):
        compare_seeds([tmp_path / "empty"])
    write_runs(tmp_path / "one", {"vanilla": 0.4})
    with pytest.raises(InputError, match="all runs are of one method, vanilla"):
        compare_seeds([tmp_path / "one"])
    write_runs(tmp_path / "two", {"vanilla": 0.4})
    with pytest.raises(InputError, match="are both vanilla seed 0"):
        collect_runs([tmp_path / "one", tmp_path / "two"])
    assert len(collect_runs([tmp_path / "one", tmp_path / "one"])) == 3  # the same runs, named twice
    write_runs(tmp_path / "other", {"b": 0.4}, rng=np.random.default_rng(8))
    with pytest.raises(InputError, match="targets of vanilla"):
        compare_seeds([tmp_path / "one", tmp_path / "other"])
    with pytest.raises(InputError, match="baseline 'x'"):
        compare_seeds([tmp_path / "one", tmp_path / "other"], baseline="x")


# --- what is measured on one encoder ----------------------------------------------------------------------------------


def test_measured_values_are_compared_under_one_protocol_only():
    row = {"seed": 0, "task": "a", "name": "linear", "metric": "U_rel", "n": 5, "low": 0.1, "high": 0.2, "value": 0.15}
    values = pd.DataFrame(
        [
            {**row, "encoder": "x", "protocol_id": "1"},
            {**row, "encoder": "y", "protocol_id": "1", "low": 0.3, "high": 0.4, "value": 0.35},
            {**row, "encoder": "z", "protocol_id": "2"},
        ]
    )
    (found,) = measured_rows(values, "universality", ["x", "y", "z"], "x")
    assert (found["encoder"], found["reading"]) == ("y", "apart")
    assert found["difference"] == pytest.approx(0.2)
    assert apart(0, 2, 1, 3) == "overlap"
    assert apart(0, 1, np.nan, 3) == ""


# --- words, pictures, the command -------------------------------------------------------------------------------------


def panel_rows(skills, seeds=(0,)):
    rng, rows, seed_frames = np.random.default_rng(11), [], []
    for task in (AGE, Task("sex", "classification", 2)):
        panel = make_panel(task, tables(task, rng, skills, seeds=seeds))
        scores = resampled_scores(panel, resamples=100)
        rows += paired_rows(panel, scores, list(skills), next(iter(skills)))
        for key in panel.predictions:
            if key.encoder != next(iter(skills)):
                before = Key(next(iter(skills)), *key[1:])
                change = scores[key]["accuracy"][0] - scores[before]["accuracy"][0]
                seed_frames.append((task.name, "knn", "accuracy", key.encoder, before.encoder, key.seed, change))
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    columns = ["task", "name", "metric", "encoder", "baseline", "seed", "difference"]
    return frame[frame["metric"] == "accuracy"], pd.DataFrame(seed_frames, columns=columns)


def bars(axes):
    """encoder -> (x, low, high) of its horizontal whiskers, in the order drawn."""
    found = {}
    for container in axes.containers:
        line, _, collections = container.lines
        ends = collections[0].get_segments()[0]
        found.setdefault(container.get_label().lstrip("_"), []).append((line.get_xdata()[0], ends[0][0], ends[1][0]))
    return found


def test_pictures_show_what_the_rows_say():
    rows, seeds = panel_rows({"vanilla": 0.4, "vanilla+dgr": 0.9, "zeta": 0.4}, seeds=(0, 1))
    figure = differences_figure(rows, seeds, view="knn")
    for axes, task in zip(figure.axes, ("age", "sex"), strict=True):
        assert axes.get_title() == task
        for encoder, drawn in bars(axes).items():
            own = rows[(rows["task"] == task) & (rows["encoder"] == encoder)]
            assert np.array(drawn) == pytest.approx(100 * own[["difference", "low", "high"]].to_numpy())
        dots = [sorted(c.get_offsets()[:, 0]) for c in axes.collections if c.get_label() == "_seeds"]
        for found, (_, own) in zip(dots, seeds[seeds["task"] == task].groupby("encoder"), strict=True):
            assert found == pytest.approx(sorted(100 * own["difference"]))
        filled = {c.get_label(): c.lines[0].get_markerfacecolor() != "white" for c in axes.containers}
        assert filled == {"vanilla+dgr": True, "zeta": False}
    pareto = pareto_figure(rows)
    (axes,) = pareto.axes
    points = {c.get_label(): (c.lines[0].get_xdata()[0], c.lines[0].get_ydata()[0]) for c in axes.containers}
    for encoder, point in points.items():
        own = rows[rows["encoder"] == encoder].set_index("task")["difference"]
        assert point == pytest.approx((100 * own["age"], 100 * own["sex"]))
    texts = {text.get_text() for text in heat_figure(rows, view="knn").axes[0].texts}
    assert texts == {f"{100 * v:+.1f}" for v in rows.loc[rows["encoder"] == "vanilla+dgr", "difference"]}


def test_pictures_of_many_encoders():
    skills = {f"e{i:02d}": 0.4 + 0.03 * i for i in range(10)}
    rows, seeds = panel_rows(skills)
    figure = differences_figure(rows, seeds, view="knn")
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == list(skills)[1:]
    assert len(heat_figure(rows, view="knn").axes[0].texts) == 9
    named = {c.get_label() for c in pareto_figure(rows).axes[0].containers}
    points = rows.pivot(index="encoder", columns="task", values="difference")
    front = {e for i, e in enumerate(points.index) if not dominates(points.to_numpy())[:, i].any()}
    assert named == front - {"e00"}


def npz(path, rng, noise, n=600, **changes):
    y = np.random.default_rng(0).integers(0, 3, n)
    z = np.eye(3)[y] + noise * rng.normal(size=(n, 3))
    ids = np.array([f"s{i}" for i in range(n)])
    order = rng.permutation(n)
    values = {"z": z, "y_kind": y, "y_other": (y > 1).astype(int), "ids": ids, **changes}
    np.savez(path, **{name: value[order] for name, value in values.items()})
    return str(path)


def test_the_command_writes_what_it_found(tmp_path, capsys):
    rng = np.random.default_rng(1)
    files = [npz(tmp_path / f"{name}.npz", rng, noise) for name, noise in (("dim", 1.0), ("sharp", 0.2))]
    assert main(["compare", *files, "--probes", "knn", "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    for words in (
        "sharp minus dim",
        "kNN",
        "▲*",
        "detectable",
        "U_rel",
        "effective_rank",
        "CKA",
        "sharp gains on kind",
    ):
        assert words in text
    frame = pd.read_csv(tmp_path / "out" / "compare.csv")
    assert list(frame.columns) == list(COLUMNS)
    assert set(frame["kind"]) == {"probe", "universality", "geometry", "similarity"}
    assert {"name", "encoder", "task", "value", "on_front"} <= set(pd.read_csv(tmp_path / "out" / "pareto.csv"))
    report = (tmp_path / "out" / "compare.md").read_text(encoding="utf-8")
    assert "| kNN |" in report
    for name in ("differences", "heat", "pareto"):
        assert (tmp_path / "out" / "figures" / f"{name}.png").stat().st_size > 1000
        assert f"(figures/{name}.png)" in report


def test_the_same_result_gives_the_same_bytes(tmp_path, toy):
    result = compare_encoders(*two(toy), **FAST)
    paths = [result.write(tmp_path / name) for name in ("one", "two")]
    assert len(paths[0]) == 12
    assert all(one.read_bytes() == other.read_bytes() for one, other in zip(*paths, strict=True))


def test_the_command_compares_seeds(tmp_path, capsys):
    write_runs(tmp_path, {"vanilla": 0.4, "vanilla+dgr": 0.8})
    folders = [str(tmp_path / "runs" / name) for name in ("vanilla", "vanilla+dgr")]
    assert main(["compare", "--seeds", *folders, "--out", str(tmp_path / "out")]) == 0
    assert "Vanilla + DGR minus Vanilla" in capsys.readouterr().out
    assert set(pd.read_csv(tmp_path / "out" / "compare.csv")["interval"].dropna()) == {"seeds and samples", "seeds"}


def test_the_command_refuses_in_one_line(tmp_path, capsys):
    rng = np.random.default_rng(2)
    first, second = npz(tmp_path / "a.npz", rng, 1.0), npz(tmp_path / "b.npz", rng, 1.0, y_kind=np.arange(600) % 3)
    (tmp_path / "folder").mkdir()
    cases = [
        ([], "two or more"), ([first], "two or more"), ([first, "--seeds", str(tmp_path)], "or folders"),
        ([first, second], "task kind"), ([first, str(tmp_path / "c.npz")], "c.npz"),
        ([first, str(tmp_path / "folder")], "embeddings.h5"),
        (["--seeds", str(tmp_path / "folder")], "no finished runs"),
        ([first, second, "--parts", "x"], "part 'x'"), ([first, second, "--out", first], "--out"),
    ]  # fmt: skip
    for words, said in cases:
        assert main(["compare", *words]) == 2, words
        error = capsys.readouterr().err.strip()
        assert said in error
        assert "\n" not in error


def test_files_and_open_embeddings_are_alike(tmp_path):
    rng = np.random.default_rng(3)
    files = [npz(tmp_path / f"{name}.npz", rng, noise) for name, noise in (("a", 2.0), ("b", 0.5))]
    with Embeddings(files[0]) as first, Embeddings(files[1]) as second:
        pd.testing.assert_frame_equal(compare(first, second, **FAST), compare(*files, **FAST))
    by_path = compare(*files, baseline=files[1], **FAST)
    assert set(by_path["baseline"]) == {"b"}
