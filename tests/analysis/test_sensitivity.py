from __future__ import annotations

import importlib
import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from reprkit.analysis import style
from reprkit.analysis.bootstrap import bootstrap_sums
from reprkit.analysis.dispersion import Dispersion, dispersion, minus
from reprkit.analysis.figures.sensitivity import sensitivity_figure
from reprkit.analysis.reporting.results import Run
from reprkit.analysis.reporting.seeds import OVER_SAMPLES, OVER_SEEDS
from reprkit.analysis.stats import t_interval
from reprkit.errors import InputError
from reprkit.tasks import Task

module = importlib.import_module("reprkit.analysis.sensitivity")  # the package's own name for it is the function
sensitivity, sensitivity_difference = module.sensitivity, module.sensitivity_difference
summarise_sensitivity = module.summarise_sensitivity
TASKS = {"t": Task("t", "classification", 10)}
PROBES = ("knn", "linear", "svm_rbf", "tree")


def scores(rng, n, accuracies, *, shared=0.7):
    """Right or wrong [n, P] of probes with given accuracies, which tend to fail on the same samples."""
    common, own = rng.normal(size=(n, 1)), rng.normal(size=(n, len(accuracies)))
    latent = np.sqrt(shared) * common + np.sqrt(1 - shared) * own
    from scipy.stats import norm

    return (latent < norm.ppf(accuracies)).astype(float)


def predictions(right, floor=0.1, *, rng=None, names=PROBES):
    """A table of predictions with these hits [n, P]; the floor's hits are drawn."""
    rng = rng or np.random.default_rng(0)
    n = len(right)
    target = rng.integers(10, size=n)
    columns = {"id": [f"s{i:05d}" for i in range(n)], "target": target}
    columns["prior"] = np.where(rng.random(n) < floor, target, (target + 1) % 10)
    for name, hit in zip(names, np.asarray(right).T, strict=False):
        columns[name] = np.where(hit > 0, target, (target + 3) % 10)
    return pd.DataFrame(columns)


def spread_of(x, *, seed=0, resamples=400):
    means = x.mean(axis=0)
    drawn = bootstrap_sums(x, resamples, seed=seed) / len(x)
    centre = [part - part.mean(axis=-1, keepdims=True) for part in (means, drawn, x)]
    return dispersion(*centre)


# ---- the estimate


def test_variance_is_the_mean_product_of_different_samples():
    """The U-statistic: pairs of different samples carry no noise of their own."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(14, 5))
    d = x - x.mean(axis=1, keepdims=True)
    pairs = [d[i] @ d[j] for i, j in itertools.permutations(range(14), 2)]
    assert spread_of(x).variance == pytest.approx(np.mean(pairs) / 4)


@pytest.mark.parametrize("accuracies", [(0.6,) * 4, (0.6, 0.62, 0.66, 0.7)])
def test_variance_between_probes_is_unbiased_where_the_plain_one_is_not(accuracies):
    rng = np.random.default_rng(1)
    true = np.var(accuracies, ddof=1)
    found, plain = [], []
    for _ in range(600):
        x = scores(rng, 200, accuracies)
        found.append(spread_of(x, resamples=2).variance)
        plain.append(x.mean(axis=0).var(ddof=1))
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - true) < 3 * error
    assert np.mean(plain) - true > 8 * error


def test_known_spread_is_recovered():
    accuracies = (0.5, 0.6, 0.7, 0.8)
    x = scores(np.random.default_rng(2), 40000, accuracies)
    found = sensitivity({"t": predictions(x)}, tasks=TASKS, resamples=300).iloc[0]
    assert found["spread"] == pytest.approx(np.std(accuracies, ddof=1), abs=0.005)
    assert found["value"] == pytest.approx(
        np.std(accuracies, ddof=1) / 0.55, abs=0.012
    )  # mean 0.65 over a floor of 0.1
    assert found["low"] < found["value"] < found["high"]
    assert found["range"] == pytest.approx(0.3, abs=0.01)
    assert found["regret"] == pytest.approx(0.3 / 0.7, abs=0.015)
    assert (found["best"], found["worst"], found["status"]) == ("tree", "knn", "ok")
    assert found["n_test"] == 40000


def coverage(accuracies, n, trials, *, floor=0.1):
    """Shares of trials in which the truth lies below and above the interval: of the spread, and of the sensitivity."""
    rng = np.random.default_rng(3)
    spread = np.std(accuracies, ddof=1)
    truth = {"spread": spread, "value": spread / (np.mean(accuracies) - floor)}
    missed = {name: np.zeros(2) for name in truth}
    for _ in range(trials):
        x = scores(rng, n, accuracies)
        found = sensitivity({"t": predictions(x, floor, rng=rng)}, tasks=TASKS, resamples=400).iloc[0]
        for name, low, high in (("spread", "spread_low", "spread_high"), ("value", "low", "high")):
            missed[name] += truth[name] < found[low], truth[name] > found[high]
    return {name: counts / trials for name, counts in missed.items()}


def test_intervals_cover_the_truth():
    for share in coverage((0.60, 0.63, 0.66, 0.72), 400, 80).values():
        assert share.sum() <= 0.1
    for low, high in coverage((0.7,) * 4, 400, 60).values():  # equal probes: the interval reaches down to 0
        assert low <= 0.06
        assert high == 0


@pytest.mark.slow
@pytest.mark.parametrize("accuracies", [(0.60, 0.63, 0.66, 0.72), (0.5, 0.7, 0.7, 0.7), (0.90, 0.93, 0.94, 0.94)])
@pytest.mark.parametrize("n", [400, 1500])
def test_intervals_cover_the_truth_in_93_to_97_of_100(accuracies, n):
    for share in coverage(accuracies, n, 1000).values():
        assert 0.03 - 0.01 <= share.sum() <= 0.07 + 0.005  # at 1000 trials a share of 0.05 is known to 0.014


def difference_coverage(first, second, n, trials):
    rng = np.random.default_rng(4)
    truth = np.std(second, ddof=1) / (np.mean(second) - 0.1) - np.std(first, ddof=1) / (np.mean(first) - 0.1)
    missed = np.zeros(2)
    for _ in range(trials):
        x = scores(rng, n, (*first, *second))
        a = predictions(x[:, :4], rng=rng)
        b = a.assign(**{k: np.where(hit, a["target"], -1) for k, hit in zip(PROBES, x[:, 4:].T, strict=True)})
        found = sensitivity_difference({"t": a}, {"t": b}, tasks=TASKS, resamples=400).iloc[0]
        missed += truth < found["low"], truth > found["high"]
    return missed / trials


def test_interval_of_a_difference_covers_the_truth():
    assert difference_coverage((0.60, 0.63, 0.66, 0.72), (0.60, 0.68, 0.75, 0.80), 400, 60).sum() <= 0.1


@pytest.mark.slow
def test_interval_of_a_difference_covers_the_truth_in_93_to_97_of_100():
    for pair in (((0.60, 0.63, 0.66, 0.72), (0.60, 0.68, 0.75, 0.80)), ((0.6, 0.65, 0.7, 0.75),) * 2):
        assert 0.02 <= difference_coverage(*pair, 1000, 1000).sum() <= 0.075


def test_identical_probes_have_no_spread_at_all():
    x = np.repeat(scores(np.random.default_rng(0), 100, (0.7,)), 4, axis=1)
    found = sensitivity({"t": predictions(x)}, tasks=TASKS).iloc[0]
    assert found[["value", "low", "high", "signed", "spread", "spread_high", "range", "regret"]].eq(0).all()
    assert found["status"] == "ok"


def test_probes_equal_by_count_alone_have_an_interval_from_zero():
    """Two probes right equally often on different samples: no direction of its own, yet not known to be equal."""
    x = np.zeros((100, 2))
    x[:70, 0] = x[30:, 1] = 1
    found = spread_of(x)
    assert found.value == found.low == 0
    assert found.variance < 0
    assert found.signed == -np.sqrt(-found.variance)
    assert 0.1 < found.high < 0.2  # one standard error is 0.055


# ---- invariances


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000))
def test_order_of_rows_and_columns_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    table = predictions(scores(rng, 60, (0.6, 0.7, 0.7, 0.8)))
    columns = rng.permutation(table.columns)
    mixed = table.sample(frac=1, random_state=seed)[columns]
    options = {"tasks": TASKS, "resamples": 50}
    pd.testing.assert_frame_equal(sensitivity({"t": mixed}, **options), sensitivity({"t": table}, **options))
    other = predictions(scores(rng, 60, (0.6, 0.7, 0.7, 0.8)))
    wanted = sensitivity_difference({"t": table}, {"t": other}, **options)
    pd.testing.assert_frame_equal(sensitivity_difference({"t": mixed}, {"t": other}, **options), wanted)


def test_samples_that_tell_nothing_of_the_probes_change_the_spread_but_not_the_sensitivity():
    """Samples on which all are right, the floor too, shrink every gain alike."""
    rng = np.random.default_rng(0)
    table = predictions(scores(rng, 30000, (0.5, 0.6, 0.7, 0.8)))
    easy = table.assign(id="x" + table["id"], **dict.fromkeys(("prior", *PROBES), table["target"]))
    first, second = (
        sensitivity({"t": t}, tasks=TASKS, resamples=100).iloc[0] for t in (table, pd.concat([table, easy]))
    )
    assert second["spread"] == pytest.approx(first["spread"] / 2, rel=0.01)
    assert second["value"] == pytest.approx(first["value"], rel=0.01)


def test_real_targets_are_compared_by_r2_whatever_their_unit():
    rng = np.random.default_rng(0)
    target = rng.normal(40, 12, size=300)
    table = pd.DataFrame({"id": np.arange(300), "target": target, "prior": 40.0})
    for name, noise in zip(PROBES, (4, 5, 6, 8), strict=True):
        table[name] = target + noise * rng.normal(size=300)
    tasks = {"age": Task("age", "regression", 1)}
    found = sensitivity({"age": table}, tasks=tasks).iloc[0]
    r2 = [r2_score(table["target"], table[name]) for name in PROBES]
    assert found["mean"] == pytest.approx(np.mean(r2))
    assert found["floor"] == pytest.approx(r2_score(table["target"], table["prior"]))
    assert found["range"] == pytest.approx(max(r2) - min(r2))
    assert 0 < found["low"] < found["value"] < found["high"] < np.std(r2, ddof=1) / np.mean(r2) * 2
    scaled = table.assign(**{name: table[name] * 30 - 7 for name in ("target", "prior", *PROBES)})
    again = sensitivity({"age": scaled}, tasks=tasks).iloc[0]
    for name in ("value", "low", "high", "spread", "mean"):
        assert again[name] == pytest.approx(found[name])


# ---- the tables


def test_probes_that_gain_nothing_have_no_sensitivity():
    x = scores(np.random.default_rng(0), 300, (0.1, 0.1, 0.12, 0.1))
    table = predictions(x)
    found = sensitivity({"t": table}, tasks=TASKS).iloc[0]
    assert found["status"] == "no_headroom"
    assert np.isnan(found[["value", "low", "high", "signed", "regret"]].astype(float)).all()
    assert found["spread_high"] > 0
    both = sensitivity_difference({"t": table}, {"t": table}, tasks=TASKS).iloc[0]
    assert (both["status"], both["reading"]) == ("no_headroom", "")
    assert np.isnan(both["value"])
    assert both["spread"] == 0


def test_resamples_without_gain_do_not_spoil_the_interval():
    """Few samples and little to gain: in some resamples the probes gain exactly nothing."""
    rng = np.random.default_rng(0)
    known = 0
    for _ in range(40):
        found = sensitivity({"t": predictions(scores(rng, 20, (0.3, 0.35, 0.4, 0.4)), rng=rng)}, tasks=TASKS).iloc[0]
        if found["status"] == "ok":
            known += 1
            assert np.isfinite(found[["value", "low", "high"]].astype(float)).all()
    assert known > 5


def test_difference_is_that_of_the_values_and_turns_its_sign_with_the_encoders():
    rng = np.random.default_rng(5)
    x = scores(rng, 2000, (0.5, 0.6, 0.7, 0.8, 0.64, 0.65, 0.66, 0.67))
    a = predictions(x[:, :4])
    b = a.assign(**{k: np.where(hit, a["target"], -1) for k, hit in zip(PROBES, x[:, 4:].T, strict=True)})
    options = {"tasks": TASKS, "seed": 3}
    there = sensitivity_difference({"t": a}, {"t": b}, labels=("A", "B"), **options).iloc[0]
    back = sensitivity_difference({"t": b}, {"t": a}, labels=("B", "A"), **options).iloc[0]
    assert (there["encoder"], there["baseline"], there["seed"]) == ("B", "A", 3)
    values = [sensitivity({"t": t}, tasks=TASKS).iloc[0] for t in (a, b)]
    for name in ("value", "signed", "spread"):
        assert there[name] == pytest.approx(values[1][name] - values[0][name])
    for low, high in (("low", "high"), ("spread_low", "spread_high")):
        assert (there[low], there[high]) == pytest.approx((-back[high], -back[low]))
    assert (there["reading"], back["reading"]) == ("less sensitive", "more sensitive")
    same = sensitivity_difference({"t": a}, {"t": a}, tasks=TASKS).iloc[0]
    assert same[["value", "low", "high"]].to_numpy(float) == pytest.approx(0, abs=0.003)  # the same samples
    assert same["reading"] == "not distinguishable"


def test_pairing_makes_the_interval_of_a_difference_narrower():
    rng = np.random.default_rng(6)
    x = scores(rng, 800, (0.5, 0.6, 0.7, 0.8))
    other = np.where(rng.random((800, 1)) < 0.9, x, scores(rng, 800, (0.5, 0.6, 0.7, 0.8)))
    one, two = spread_of(x), spread_of(other)
    _, low, high = minus(one, two)
    alone = Dispersion(two.value, two.low, two.high, two.variance, spread_of(other, seed=9).along)
    _, wide_low, wide_high = minus(one, alone)
    assert high - low < 0.6 * (wide_high - wide_low)


def test_unpaired_or_incomplete_tables_are_refused_in_one_line():
    table = predictions(scores(np.random.default_rng(0), 50, (0.6, 0.7, 0.7, 0.8)))
    wrong = {
        "column tree": ({"t": table}, {"probes": ["knn", "tree"]}, table.drop(columns="tree")),
        "column prior": ({"t": table}, {}, table.drop(columns="prior")),
        "two probes": ({"t": table}, {}, table[["id", "target", "prior", "knn"]]),
        "id twice": ({"t": table}, {}, table.assign(id="a")),
        "different probes": ({"t": table}, {}, table.drop(columns="tree")),
        "different samples": ({"t": table}, {}, table.assign(id="x" + table["id"])),
        "different targets": ({"t": table}, {}, table.assign(target=1)),
        "too few": ({"t": table}, {}, table[:1]),
    }
    for message, (good, options, bad) in wrong.items():
        with pytest.raises(InputError, match=message) as raised:
            sensitivity_difference(good, {"t": bad}, tasks=TASKS, resamples=20, **options)
        assert "\n" not in str(raised.value)
        assert "'t'" in str(raised.value)
    others = table.assign(head=table["target"], tree_pca=0, tree_rotated=1)  # no classifiers to choose from
    pd.testing.assert_frame_equal(sensitivity({"t": others}, tasks=TASKS), sensitivity({"t": table}, tasks=TASKS))
    common = sensitivity_difference(
        {"t": table}, {"t": table.drop(columns="tree")}, tasks=TASKS, probes=["knn", "linear"], resamples=20
    )
    assert common["probes"].tolist() == ["knn linear"]
    assert not len(sensitivity({"other": table}, tasks=TASKS))
    assert not len(sensitivity_difference({"t": table}, {}, tasks=TASKS))


class Folder:
    """As much of `Results` as is read here: runs that kept predictions, some of them one a task."""

    def __init__(self, path, tables, tasks):
        self.tasks, self.runs = tasks, []
        for (encoder, seed, task), found in tables.items():
            run = path / f"{encoder}-{seed}-{task}"
            (run / "predictions").mkdir(parents=True)
            for name, table in found.items():
                table.to_csv(run / "predictions" / f"{name}.csv", index=False)
            self.runs.append(Run(encoder, seed, task, run))
        self.encoders = style.encoder_order(run.encoder for run in self.runs)


def test_run_folders_are_read_with_all_their_runs(tmp_path):
    from reprkit.files import slug

    odd = "old / young"
    tasks = {"t": TASKS["t"], odd: Task(odd, "classification", 10)}
    rng = np.random.default_rng(0)
    first = predictions(scores(rng, 120, (0.5, 0.6, 0.7, 0.8)))
    second = predictions(scores(rng, 120, (0.5, 0.6, 0.7, 0.8)))
    third = first.assign(tree=first["knn"])
    tables = {
        ("single", 0, "t"): {"t": first},
        ("single", 0, odd): {slug(odd): second},
        ("vanilla", 0, ""): {"t": third, slug(odd): second},
        ("vanilla", 1, ""): {"t": first, slug(odd): second},
    }
    results = Folder(tmp_path, tables, tasks)
    frame = module.run_sensitivity(results, resamples=50)
    keys = [("single", 0, "t"), ("single", 0, odd), ("vanilla", 0, "t"), ("vanilla", 0, odd)]
    keys += [("vanilla", 1, "t"), ("vanilla", 1, odd)]
    assert list(frame[["encoder", "seed", "task"]].itertuples(index=False, name=None)) == keys
    whole = sensitivity({"t": third, odd: second}, tasks=tasks, label="vanilla", resamples=50)
    pd.testing.assert_frame_equal(frame[2:4].reset_index(drop=True), whole)
    changes = module.run_sensitivity_differences(results, resamples=50)
    assert list(changes["encoder"]) == ["single", "single"]
    assert list(changes["baseline"]) == ["vanilla", "vanilla"]
    assert changes["seed"].eq(0).all()
    assert changes.set_index("task").loc[odd, "value"] == 0
    paired = sensitivity_difference({"t": third}, {"t": first}, tasks=tasks, resamples=50).iloc[0]
    assert changes.set_index("task").loc["t", "low"] == pytest.approx(paired["low"])


def test_summary_over_seeds_is_students_of_the_signed_values():
    columns = ("encoder", "seed", "task", "value", "low", "high", "signed")
    rows = [
        ("a", 0, "t", 0.03, 0.0, 0.06, 0.03), ("a", 1, "t", 0.0, 0.0, 0.04, -0.01),
        ("a", 2, "t", 0.05, 0.02, 0.07, 0.05),
        ("b", 0, "t", 0.02, 0.01, 0.03, 0.02),
        ("c", 0, "t", 0.0, 0.0, 0.02, -0.02), ("c", 1, "t", 0.0, 0.0, 0.04, -0.02),
    ]  # fmt: skip
    table = summarise_sensitivity(pd.DataFrame(rows, columns=columns)).set_index("encoder")
    mean, low, high = t_interval([0.03, -0.01, 0.05])
    ends = ["value", "low", "high"]
    assert table.loc["a", ends].to_numpy(float) == pytest.approx([mean, max(low, 0), high])
    assert table.loc["b", ends].to_numpy(float) == pytest.approx([0.02, 0.01, 0.03])
    assert table.loc["c", ends].to_numpy(float) == pytest.approx([0, 0, 0.03])  # no false certainty of 0
    assert list(table["interval"]) == [OVER_SEEDS, OVER_SAMPLES, OVER_SEEDS]
    changes = pd.DataFrame(rows[:3], columns=columns).assign(baseline="z", signed=[-0.1, -0.2, -0.3])
    assert summarise_sensitivity(changes)["value"].tolist() == pytest.approx([-0.2])


# ---- figure


def test_figure_shows_probes_mean_spread_and_the_number():
    rng = np.random.default_rng(0)
    accuracies = {"vanilla": (0.5, 0.6, 0.7, 0.8), "vanilla+dgr": (0.64, 0.65, 0.66, 0.67)}
    tables = {name: predictions(scores(rng, 900, a)) for name, a in accuracies.items()}
    frame = pd.concat([sensitivity({"t": t}, tasks=TASKS, label=name) for name, t in tables.items()])
    rows = [
        ("t", encoder, 0, probe, "accuracy", (table[probe] == table["target"]).mean())
        for encoder, table in tables.items()
        for probe in ("prior", *PROBES)
    ]
    probes = pd.DataFrame(rows, columns=["task", "encoder", "seed", "probe", "metric", "value"])
    figure = sensitivity_figure(frame, probes)
    (axes,) = figure.axes
    assert axes.get_title() == "t"
    drawn = {each.get_label(): each for each in axes.lines}
    for encoder, table in tables.items():
        own = frame[frame.encoder == encoder].iloc[0]
        for probe in PROBES:
            assert drawn[f"_{probe} {encoder}"].get_xdata()[0] == pytest.approx(
                (table[probe] == table["target"]).mean()
            )
        assert drawn[f"_mean {encoder}"].get_xdata()[0] == pytest.approx(own["mean"])
        (band,) = next(c for c in axes.containers if c.get_label() == f"_{encoder}")
        assert band.get_width() == pytest.approx(2 * own["spread"])
        assert band.get_x() == pytest.approx(own["mean"] - own["spread"])
        text = f"{100 * own['value']:.1f}% ({100 * own['low']:.1f}\N{EN DASH}{100 * own['high']:.1f})"
        assert text in [t.get_text() for t in axes.texts]
    assert not [label for label in drawn if label.startswith("_prior")]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["Vanilla", "+ DGR"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["kNN", "Linear", "RBF SVM", "Tree"]
    assert "test samples" in figure._supxlabel.get_text()
    gone = frame.assign(value=np.nan, low=np.nan, high=np.nan, signed=np.nan)
    assert "no headroom" in [t.get_text() for t in sensitivity_figure(gone, probes).axes[0].texts]
    with pytest.raises(InputError):
        sensitivity_figure(frame[:0], probes)
