from __future__ import annotations

import importlib
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import NearestCentroid

from reprkit.analysis import style
from reprkit.analysis.bootstrap import bootstrap_mean, bootstrap_sums
from reprkit.analysis.few_shot import ALL, FewShotProtocol, class_means, few_shot, logistic, nested_draws
from reprkit.analysis.few_shot_summary import crossing, learning_curves, summarise_few_shot
from reprkit.analysis.figures.few_shot import few_shot_figure
from reprkit.analysis.stats import t_interval
from reprkit.analysis.workspace import Workspace
from reprkit.errors import InputError

module = importlib.import_module("reprkit.analysis.few_shot")  # the package's own name for it is the function
CLASSES = {"left": 3, "order": 4, "age": 5}
KINDS = {"order": "ordinal", "age": "regression"}
SHOTS = (1, 2, 4, 8)


@pytest.fixture(scope="module")
def made(toy):
    """Tasks of uneven classes, some targets missing, and features of unlike scale, one of them constant."""
    base = toy(classes=CLASSES, kinds=KINDS, sizes=(300, 60, 200), noise=1.5, dim=12)
    rng = np.random.default_rng(5)
    scale, shift = 10.0 ** rng.integers(-2, 3, size=12), rng.normal(size=12)
    scale[3] = 0
    z = {split: base.z(split) * scale + shift for split in base.splits}
    targets = {name: {split: base.targets(split, name) for split in base.splits} for name in base.tasks}
    for split in ("train", "test"):
        left = targets["left"][split]
        left[(left == 2) & (rng.random(len(left)) < 0.7)] = -1
    return remake(base, z=z, targets=targets)


def remake(made, *, z=None, targets=None, order=None, **options):
    """The same file with other arrays, or the rows of each split in another order: order={split: indices}."""
    order = {split: np.arange(made.num_rows(split)) for split in made.splits} | (order or {})
    z = {split: (z or {}).get(split, made.z(split))[order[split]] for split in made.splits}
    kept = {
        name: {
            split: (targets or {}).get(name, {}).get(split, made.targets(split, name))[order[split]]
            for split in made.splits
        }
        for name in made.tasks
    }
    ids = {split: made.ids(split)[order[split]] for split in made.splits}
    return type(made)(z, kept, list(made.tasks.values()), ids=ids, label=options.get("label", made.label))


@pytest.fixture(scope="module")
def frame(made):
    return few_shot(made, shots=SHOTS, draws=3)


# ---- draws


labelled = st.lists(st.integers(-1, 3), min_size=12, max_size=60).filter(
    lambda y: min(Counter(k for k in y if k >= 0).values(), default=0) >= 2
)


@settings(max_examples=60, deadline=None)
@given(y=labelled, seed=st.integers(0, 5), shuffle=st.randoms(use_true_random=False))
def test_draws_are_nested_and_depend_on_ids_labels_and_seed_alone(y, seed, shuffle):
    targets = np.array(y)
    ids = np.array([f"image {i}" for i in range(len(y))])
    size = min(np.bincount(targets[targets >= 0])[np.unique(targets[targets >= 0])])
    drawn = nested_draws(ids, targets, size=size, draws=3, seed=seed)
    classes = np.unique(targets[targets >= 0])
    assert drawn.shape == (3, size, len(classes))
    assert (targets[drawn] == classes).all()
    assert all(len(set(one.ravel())) == one.size for one in drawn)  # no sample twice
    np.testing.assert_array_equal(nested_draws(ids, targets, size=size - 1, draws=3, seed=seed), drawn[:, :-1])
    np.testing.assert_array_equal(nested_draws(ids, targets, size=size, draws=5, seed=seed)[:3], drawn)
    order = np.arange(len(y))
    shuffle.shuffle(order)
    again = nested_draws(ids[order], targets[order], size=size, draws=3, seed=seed)
    np.testing.assert_array_equal(ids[order][again], ids[drawn])


def test_draws_differ_by_draw_and_seed_and_take_every_sample_equally_often():
    ids, targets = np.array([f"{i}" for i in range(40)]), np.repeat([0, 1], 20)
    drawn = nested_draws(ids, targets, size=5, draws=400)
    times = np.bincount(drawn.ravel(), minlength=40)
    assert abs(times - 100).max() < 4.5 * np.sqrt(400 * 0.25 * 0.75)
    assert len({tuple(sorted(one.ravel())) for one in drawn}) > 395
    assert not np.array_equal(drawn, nested_draws(ids, targets, size=5, draws=400, seed=1))


def test_encoders_with_rows_in_another_order_share_draws_and_results(made, frame, monkeypatch):
    rng = np.random.default_rng(0)
    order = {split: rng.permutation(made.num_rows(split)) for split in made.splits}
    mixed = remake(made, order=order)
    seen = []

    def spy(ids, *arguments, **options):
        found = nested_draws(ids, *arguments, **options)
        seen.append(np.asarray(ids)[found])
        return found

    monkeypatch.setattr(module, "nested_draws", spy)
    again = few_shot(mixed, shots=SHOTS, draws=3)
    other = remake(made, z={split: rng.normal(size=(made.num_rows(split), 5)) for split in made.splits})
    few_shot(other, shots=SHOTS, draws=3)
    assert len(seen) == 4  # two tasks with classes, twice
    for one, two in zip(seen[:2], seen[2:], strict=True):
        np.testing.assert_array_equal(one, two)
    columns = ["task", "probe", "shots", "draw", "metric", "value", "n_train", "n_test", "status"]
    pd.testing.assert_frame_equal(again[columns], frame[columns], check_exact=False, rtol=0, atol=1.5 / 180)


# ---- what is fitted to what


def test_only_train_rows_are_fitted_and_val_is_never_read(made, frame):
    nothing = np.full_like(made.z("val"), np.nan)
    wrong = {name: {"val": made.targets("val", name) * 0} for name in made.tasks}
    pd.testing.assert_frame_equal(
        few_shot(remake(made, z={"val": nothing}, targets=wrong), shots=SHOTS, draws=3), frame
    )
    protocol = FewShotProtocol(shots=SHOTS, draws=3)
    other = remake(made, z={"test": made.z("test")[::-1] * 3})
    for name in ("left", "order"):
        first, second = (module._fit(Workspace.of(e), made.tasks[name], SHOTS, protocol) for e in (made, other))
        assert first.keys() == second.keys()
        for key in first:
            for (weights, bias), (weights_2, bias_2) in zip(first[key], second[key], strict=True):
                np.testing.assert_array_equal(weights, weights_2)
                np.testing.assert_array_equal(bias, bias_2)


def test_carved_val_rows_are_never_drawn(made):
    whole = type(made)(
        {s: made.z(s) for s in ("train", "test")},
        {name: {s: made.targets(s, name) for s in ("train", "test")} for name in made.tasks},
        list(made.tasks.values()),
    )
    ws = Workspace.of(whole)
    held = ~np.isin(whole.ids("train"), ws.ids("train"))
    assert 20 < held.sum() < 100
    spoilt = made.z("train").copy()
    spoilt[held] = 1e6
    other = type(made)(
        {"train": spoilt, "test": made.z("test")},
        {name: {s: made.targets(s, name) for s in ("train", "test")} for name in made.tasks},
        list(made.tasks.values()),
    )
    pd.testing.assert_frame_equal(few_shot(whole, shots=(1, 4), draws=2), few_shot(other, shots=(1, 4), draws=2))


@pytest.mark.parametrize("dim", [5, 60])
def test_logistic_of_nested_sets_is_scikit_learns(dim):
    """Both where the rows span fewer dimensions than there are, and where they do not."""
    rng = np.random.default_rng(dim)
    shots = rng.normal(size=(8, 3, dim)) + rng.normal(size=(3, dim))
    norm = 2.5
    fits = logistic(shots, SHOTS, norm=norm, c=2.0)
    for size, (weights, bias) in zip(SHOTS, fits, strict=True):
        x, y = shots[:size].reshape(-1, dim) / norm, np.tile(np.arange(3), size)
        model = LogisticRegression(C=2.0, tol=1e-10, max_iter=10000).fit(x, y)
        np.testing.assert_allclose(weights * norm, model.coef_, atol=2e-4)
        np.testing.assert_allclose(bias - bias.mean(), model.intercept_ - model.intercept_.mean(), atol=2e-4)


@pytest.mark.filterwarnings("ignore")  # NearestCentroid divides by zero at one sample a class
def test_every_score_is_that_of_a_fit_by_scikit_learn(made, frame):
    """Draws, standardisation, both predictors, the reference and both metrics, by other means."""
    unequal = 0
    z = {split: made.z(split).astype(np.float64) for split in ("train", "test")}
    mean, std = z["train"].mean(axis=0), z["train"].std(axis=0)
    varies = std > 1e-6
    x = {split: (rows - mean) / np.where(varies, std, 1) for split, rows in z.items()}
    norm = np.sqrt(varies.sum())
    for task in ("left", "order"):
        y, truth = made.targets("train", task), made.targets("test", task)
        classes, known = np.unique(y[y >= 0]), truth >= 0
        drawn = nested_draws(made.ids("train"), y, size=8, draws=3)
        sets = {(n, d): drawn[d, :n].ravel() for n in SHOTS for d in range(3)} | {(ALL, 0): np.flatnonzero(y >= 0)}
        for (n, d), rows in sets.items():
            means = NearestCentroid().fit(x["train"][rows], y[rows])
            line = LogisticRegression(tol=1e-10, max_iter=10000, class_weight="balanced")
            line.fit(x["train"][rows] / norm, y[rows])
            guesses = {"ncm": means.predict(x["test"]), "linear": line.predict(x["test"] / norm)}
            for probe, guess in guesses.items():
                own = frame[(frame.task == task) & (frame.probe == probe) & (frame.shots == n) & (frame.draw == d)]
                value = own.set_index("metric")["value"]
                wanted = ((guess == truth)[known].mean(), balanced_accuracy_score(truth[known], guess[known]))
                found = value[["accuracy", "balanced_accuracy"]].to_numpy()
                np.testing.assert_allclose(found, wanted, atol=0.02)
                unequal += not np.allclose(found, wanted, atol=1e-9)
                assert own.n_train.eq(len(rows)).all()
                assert own.n_test.eq(known.sum()).all()
        assert len(classes) == CLASSES[task]
    assert unequal <= 1  # a near tie at most


def test_class_means_are_nearest_centroids():
    rng = np.random.default_rng(0)
    shots, x = rng.normal(size=(4, 3, 6)), rng.normal(size=(50, 6))
    weights, bias = class_means(shots)
    distances = ((x[:, None] - shots.mean(axis=0)) ** 2).sum(axis=2)
    np.testing.assert_array_equal((x @ weights.T + bias).argmax(axis=1), distances.argmin(axis=1))


def test_class_means_of_all_rows_survive_a_large_common_offset(made):
    """Where float32 rounds the mean that is subtracted by a thousandth of a standard deviation."""
    z = {split: np.random.default_rng(0).normal(1e4, 1.0, size=(made.num_rows(split), 4)) for split in made.splits}
    ws = Workspace.of(remake(made, z=z))
    rows, target = ws.standardised("train", np.arange(300)), made.targets("train", "order")
    wanted = np.stack([rows[target == k].mean(axis=0) for k in range(4)])
    np.testing.assert_allclose(module._mean_of_all(ws, made.tasks["order"])[0], wanted, atol=1e-6)


def test_streamed_file_gives_the_same_numbers(made, frame):
    ws = Workspace.of(made, memory=0)
    assert not ws.in_memory
    streamed = few_shot(ws, shots=SHOTS, draws=3)
    pd.testing.assert_frame_equal(streamed, frame, check_exact=False, rtol=0, atol=0.5 / 200)


def test_scale_and_shift_of_the_embedding_change_nothing(made, frame):
    z = {split: made.z(split) * 64 + 0.5 for split in made.splits}
    moved = few_shot(remake(made, z=z), shots=SHOTS, draws=3)
    assert abs(moved["value"] - frame["value"]).max() <= 2.5 / 200  # float32 rounding may turn a near tie
    assert abs(moved["value"] - frame["value"]).mean() < 0.1 / 200


def test_constant_embedding_guesses(made):
    z = {split: np.ones((made.num_rows(split), 3)) for split in made.splits}
    found = few_shot(remake(made, z=z), tasks=["order"], shots=(1, 2), draws=2)
    balanced = found[found.metric == "balanced_accuracy"]
    np.testing.assert_allclose(balanced["value"], 0.25)
    assert summarise_few_shot(found)["status"].eq("no_headroom").all()


# ---- the table


def test_intervals_over_samples_are_bootstraps_of_the_mean_over_draws():
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=80)
    right = rng.random((4, 80)) < 0.7
    values, intervals = module._scores(right, truth, 200)
    np.testing.assert_allclose(values["accuracy"], right.mean(axis=1))
    assert intervals["accuracy"] == pytest.approx(bootstrap_mean(right.mean(axis=0), resamples=200)[1:])
    counts = bootstrap_sums(np.eye(80), 200)
    shares = right.mean(axis=0)
    recalls = [(counts[:, truth == k] @ shares[truth == k]) / counts[:, truth == k].sum(axis=1) for k in range(3)]
    assert intervals["balanced_accuracy"] == pytest.approx(tuple(np.quantile(np.mean(recalls, axis=0), [0.025, 0.975])))


def test_table_holds_every_draw_and_says_what_is_left_out(toy, made, frame):
    assert list(frame.columns) == module.COLUMNS
    own = frame[(frame.task == "order") & (frame.metric == "accuracy") & (frame.probe == "linear")]
    assert own.groupby("shots")["draw"].agg(list).to_dict() == {ALL: [0], **{n: [0, 1, 2] for n in SHOTS}}
    assert frame["protocol_id"].nunique() == 1
    assert frame[frame.task != "age"]["status"].eq("ok").all()
    age = frame[frame.task == "age"]
    assert list(age["probe"]) == ["ncm", "linear"]
    assert age["value"].isna().all()
    assert age["status"].str.startswith("skipped: shots are counted a class").all()

    rare = made.targets("train", "left").copy()
    rare[np.flatnonzero(rare == 1)[3:]] = -1
    order = made.targets("train", "order").copy()
    order[order == 2] = -1
    spoilt = few_shot(remake(made, targets={"left": {"train": rare}, "order": {"train": order}}), shots=SHOTS, draws=2)
    left = spoilt[(spoilt.task == "left") & (spoilt.metric == "accuracy") & (spoilt.probe == "ncm")]
    known = left.dropna(subset="value")
    assert sorted(set(known["shots"])) == [ALL, 1, 2]
    gone = left[left["value"].isna()]
    assert list(gone["shots"]) == [4, 8]
    assert gone["status"].eq("skipped: class 1 has 3 train samples").all()
    assert spoilt[spoilt.task == "order"]["status"].eq("1 of 4 classes are not in train").all()
    x = (made.z("train") - made.z("train").mean(axis=0)).astype(float), (made.z("test") - made.z("train").mean(axis=0))
    std = np.where(x[0].std(axis=0) > 1e-6, x[0].std(axis=0), 1)
    means = np.stack([(x[0] / std)[order == k].mean(axis=0) for k in (0, 1, 3)])
    away = ((x[1] / std)[:, None] - means) ** 2
    guess = np.array([0, 1, 3])[away.sum(axis=2).argmin(axis=1)]
    known = spoilt[(spoilt.task == "order") & (spoilt.shots == ALL) & (spoilt.probe == "ncm")].set_index("metric")
    assert known.loc["accuracy", "value"] == pytest.approx((guess == made.targets("test", "order")).mean(), abs=0.006)


def test_task_without_classes_or_test_targets_is_skipped(made):
    none = {"left": {"test": np.full(200, -1)}, "order": {"train": np.zeros(300, np.int64)}}
    found = few_shot(remake(made, targets=none), tasks=["left", "order"], shots=(1,), draws=1)
    assert found["value"].isna().all()
    status = found.groupby("task")["status"].agg(set).to_dict()
    assert status == {
        "left": {"skipped: no test sample has a target"},
        "order": {"skipped: train holds fewer than 2 classes"},
    }
    summary = summarise_few_shot(found)
    assert summary["status"].str.startswith("skipped").all()


@pytest.mark.parametrize(
    "options", [{"shots": ()}, {"shots": (0, 1)}, {"shots": (2, 2)}, {"draws": 0}, {"tasks": ["x"]}]
)
def test_wrong_options_are_refused_in_one_line(made, options):
    with pytest.raises(InputError) as raised:
        few_shot(made, **options)
    assert "\n" not in str(raised.value)


# ---- summaries


def table(curves, *, reference=0.95, classes=4, sample=0.02):
    """Rows of `few_shot` of one task: curves {draw: {shots: value}}, and a reference."""
    common = {"encoder": "e", "seed": 0, "task": "t", "probe": "linear", "metric": "accuracy", "n_test": 99}
    common |= {"status": "ok", "protocol_id": "p"}
    rows = []
    points = [(n, d, v) for d, curve in curves.items() for n, v in curve.items()]
    means = {n: np.mean([v for m, _, v in points if m == n]) for n, _, _ in points}
    for n, d, v in points:
        ends = {"samples_low": means[n] - sample, "samples_high": means[n] + sample}
        rows.append(common | {"shots": n, "draw": d, "value": v, "n_train": n * classes} | ends)
    ends = {"samples_low": reference - sample, "samples_high": reference + sample}
    rows.append(common | {"shots": ALL, "draw": 0, "value": reference, "n_train": 500} | ends)
    return pd.DataFrame(rows, columns=module.COLUMNS)


def line(a, b, shots=(1, 2, 4, 8, 16, 32, 64)):
    return {n: a + b * np.log2(n) for n in shots}


def test_labels_and_area_of_a_line_are_known_in_closed_form():
    shifts = (-0.03, 0.0, 0.06)
    frame = table({d: line(0.3 + s, 0.09) for d, s in enumerate(shifts)}, reference=0.9)
    (row,) = summarise_few_shot(frame).to_dict("records")
    _, down, up = t_interval(shifts)
    bar = 0.9 * 0.9
    for name, shift in (("", 0.01), ("_low", up), ("_high", down), ("_samples_low", 0.03), ("_samples_high", -0.01)):
        wanted = 2 ** ((bar - 0.3 - shift) / 0.09)
        assert row[f"labels{name}"] == pytest.approx(wanted if wanted <= 64 else np.inf), name
    middle = 0.3 + 0.09 * 3
    assert (row["area"], row["area_low"], row["area_high"]) == pytest.approx(
        (middle + 0.01, middle + down, middle + up)
    )
    assert (row["area_samples_low"], row["area_samples_high"]) == pytest.approx((middle - 0.01, middle + 0.03))
    assert (row["full"], row["full_low"], row["full_high"]) == pytest.approx((0.9, 0.88, 0.92))
    assert (row["status"], row["least_shots"], row["most_shots"], row["n_draws"]) == ("ok", 1, 64, 3)
    half = summarise_few_shot(frame, share=0.5).iloc[0]
    assert half["labels"] == pytest.approx(2 ** ((0.45 - 0.31) / 0.09))


def test_labels_that_are_never_or_at_once_reached_say_so():
    far = summarise_few_shot(table({d: line(0.3 + 0.01 * d, 0.05) for d in range(3)})).iloc[0]
    assert np.isnan(far["labels"])
    assert (far["status"], far["labels_high"]) == ("not reached", np.inf)
    near = summarise_few_shot(table({0: line(0.88, 0.01)})).iloc[0]
    assert (near["labels"], near["status"]) == (1.0, "reached at once")
    assert np.isnan(near["labels_low"])  # one draw says nothing of others
    useless = summarise_few_shot(table({0: line(0.25, 0.001)}, reference=0.26)).iloc[0]
    assert (useless["status"], np.isnan(useless["labels"])) == ("no_headroom", True)
    barely = summarise_few_shot(table({0: line(0.25, 0.001)}, reference=0.275)).iloc[0]  # 0.9 of it is below 1 / 4
    assert barely["status"] == "no_headroom"
    lone = summarise_few_shot(table({0: {1: 0.5}}, reference=0.9)).iloc[0]
    assert np.isnan(lone["area"])


@settings(max_examples=100, deadline=None)
@given(
    steps=st.lists(st.floats(0.001, 0.2), min_size=2, max_size=7), start=st.floats(0, 0.5), share=st.floats(0.01, 0.99)
)
def test_a_rising_curve_passes_the_crossing_at_its_target(steps, start, share):
    values = start + np.cumsum(steps)
    shots = 2.0 ** np.arange(len(values))
    target = values[0] + share * (values[-1] - values[0])
    at = crossing(shots, values, target)
    assert np.interp(np.log2(at), np.log2(shots), values) == pytest.approx(target)
    assert np.isnan(crossing(shots, values, values[-1] + 0.01))
    assert crossing(shots, values, values[0]) == shots[0]
    assert crossing(shots, values, values[-1]) == pytest.approx(shots[-1])


def test_curves_are_means_with_students_interval(frame):
    curves = learning_curves(frame)
    own = frame[(frame.task == "left") & (frame.probe == "ncm") & (frame.shots == 4) & (frame.metric == "accuracy")]
    (point,) = curves[
        (curves.task == "left") & (curves.probe == "ncm") & (curves.shots == 4) & (curves.metric == "accuracy")
    ].to_dict("records")
    assert (point["value"], point["draws_low"], point["draws_high"]) == pytest.approx(t_interval(own["value"]))
    assert (point["samples_low"], point["n_draws"], point["n_train"]) == (own["samples_low"].iloc[0], 3, 12)
    assert point["samples_low"] < point["value"] < point["samples_high"]


def test_more_labels_help_and_a_better_encoder_needs_fewer(toy):
    easy, hard = (
        few_shot(toy(classes={"left": 4}, noise=noise, sizes=(400, 10, 800)), draws=8) for noise in (1.0, 3.0)
    )
    first, second = (summarise_few_shot(f)[lambda d: d.metric == "accuracy"].set_index("probe") for f in (easy, hard))
    for probe in ("ncm", "linear"):
        assert first.loc[probe, "area_low"] > second.loc[probe, "area_high"]
    curve = learning_curves(hard)[lambda d: (d.metric == "accuracy") & (d.probe == "ncm") & (d.shots != ALL)]
    assert (np.diff(curve["value"]) > -0.01).all()
    assert curve["value"].iloc[-1] > curve["value"].iloc[0] + 0.2


# ---- figure


def many(frame, encoders, seeds=1):
    return pd.concat(
        [frame.assign(encoder=e, seed=s, value=frame["value"] + 0.01 * s) for e in encoders for s in range(seeds)],
        ignore_index=True,
    )


def test_figure_shows_the_means_the_bands_and_the_reference(frame):
    figure = few_shot_figure(many(frame, ["vanilla", "vanilla+dgr"]))
    assert [axes.get_title() for axes in figure.axes] == ["left", "order", "", ""]
    axes = figure.axes[0]
    curves = learning_curves(frame)
    own = curves[(curves.task == "left") & (curves.probe == "ncm") & (curves.metric == "accuracy")]
    rising = own[own.shots != ALL].sort_values("shots")
    (drawn,) = [each for each in axes.lines if each.get_label() == "vanilla"]
    np.testing.assert_allclose(drawn.get_xdata(), SHOTS)
    np.testing.assert_allclose(drawn.get_ydata(), rising["value"])
    (band,) = [each for each in axes.collections if each.get_label() == "_band vanilla"]
    ends = band.get_paths()[0].vertices
    for n, low, high in rising[["shots", "draws_low", "draws_high"]].itertuples(index=False):
        assert set(np.round(ends[ends[:, 0] == n, 1], 9)) >= {round(low, 9), round(high, 9)}
    (all_rows,) = [c for c in axes.containers if c.get_label() == "_all vanilla"]
    segment = all_rows.lines[2][0].get_segments()[0]
    reference = own[own.shots == ALL].iloc[0]
    assert segment[0, 0] > max(SHOTS)
    assert segment[:, 1] == pytest.approx([reference["samples_low"], reference["samples_high"]])
    assert [t.get_text() for t in figure.axes[2].get_xticklabels()] == [*map(str, SHOTS), "all"]
    assert figure.axes[2].get_xscale() == "log"
    assert "over draws" in figure._supxlabel.get_text()


def test_figure_of_several_seeds_says_so_and_of_many_encoders_leaves_bands_out(frame):
    figure = few_shot_figure(many(frame, ["vanilla"], seeds=3), probes=["linear"], metric="balanced_accuracy")
    assert "seeds" in figure._supxlabel.get_text()
    assert len(figure.axes) == 2
    figure = few_shot_figure(many(frame, list(style.METHOD_NAMES) + ["vanilla+dgr"]), probes=["ncm"])
    assert "12 of 14 encoders" in figure._supxlabel.get_text()
    assert not [c for c in figure.axes[0].collections if c.get_label().startswith("_band")]
    with pytest.raises(InputError):
        few_shot_figure(frame[frame.shots == ALL])
