"""Metrics against scikit-learn and torchmetrics, and their intervals against metrics recomputed on each resample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from torchmetrics.functional.classification import (
    multiclass_calibration_error,
    multiclass_cohen_kappa,
    multiclass_f1_score,
    multiclass_recall,
)

from reprkit.analysis.bootstrap import bootstrap_sums
from reprkit.analysis.probes.metrics import MOST_COLUMNS, MOST_RECALLS, measure, metrics_of
from reprkit.analysis.probes.outcome import Outcome
from reprkit.tasks import Task

ORDINAL = Task("a", "ordinal", 4, ("low", "some", "more", "most"))


def quantiles(values):
    return pytest.approx(np.nanquantile(values, [0.025, 0.975]))


def expected_of(truth, guess, probabilities, classes):
    """Every metric of an ordinal task, the long way round."""
    present = [c for c in range(classes) if (truth == c).any()]
    confidence = probabilities[np.arange(len(guess)), guess]
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = [abs((confidence - (guess == truth))[bins == b].sum()) for b in range(15)]
    with np.errstate(invalid="ignore"):
        kappa = metrics.cohen_kappa_score(truth, guess, weights="quadratic", labels=range(classes))
    return {
        "accuracy": metrics.accuracy_score(truth, guess),
        "balanced_accuracy": np.mean([(guess[truth == c] == c).mean() for c in present]),
        "macro_f1": metrics.f1_score(truth, guess, average="macro"),
        "mae": metrics.mean_absolute_error(truth, guess),
        "within_one": np.mean(abs(truth - guess) <= 1),
        "quadratic_kappa": kappa,
        "log_loss": metrics.log_loss(truth, probabilities, labels=range(classes)),
        "ece": sum(gaps) / len(truth),
        **{
            f"recall[{name}]": (guess[truth == c] == c).mean() if c in present else np.nan
            for c, name in enumerate(ORDINAL.classes)
        },
    }


@pytest.fixture(scope="module")
def sample():
    """Targets, of which many resamples lack the last class, and probabilities that know something of them."""
    rng = np.random.default_rng(0)
    target = np.append(rng.integers(3, size=59), 3)
    scores = rng.normal(size=(60, 4)) + 1.5 * (np.arange(4) == target[:, None])
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return target, probabilities


def test_intervals_are_those_of_metrics_recomputed_on_each_resample(sample):
    target, probabilities = sample
    outcome = Outcome(probabilities.argmax(1), {}, 0.5, 10, np.log(probabilities))
    found = measure(ORDINAL, target, {"linear": outcome}, resamples=80, seed=3)["linear"]
    assert tuple(found) == metrics_of(ORDINAL, True)
    counts = bootstrap_sums(np.eye(60), 80, seed=3).astype(int)
    assert 10 < (counts[:, -1] == 0).sum() < 70
    each = [
        expected_of(*(np.repeat(part, drawn, axis=0) for part in (target, outcome.test, probabilities)), 4)
        for drawn in counts
    ]
    whole = expected_of(target, outcome.test, probabilities, 4)
    for metric, (value, low, high) in found.items():
        assert value == pytest.approx(whole[metric]), metric
        assert (low, high) == quantiles([one[metric] for one in each]), metric


def test_several_models_are_averaged_on_each_resample(sample):
    target, probabilities = sample
    rng = np.random.default_rng(1)
    models = np.stack([probabilities.argmax(1), rng.permutation(probabilities.argmax(1)), rng.integers(4, size=60)])
    outcomes = {"tree": Outcome(models[0], {}, 0.5, 10), "tree_rotated": Outcome(models, {}, 0.5, 10)}
    found = measure(ORDINAL, target, outcomes, resamples=20, seed=3)
    alone = measure(ORDINAL, target, {"tree": outcomes["tree"]}, resamples=20, seed=3)
    assert found["tree"] == alone["tree"]  # resampled alike with others or alone
    each = []
    for drawn in bootstrap_sums(np.eye(60), 20, seed=3).astype(int):
        truth, p = np.repeat(target, drawn), np.repeat(probabilities, drawn, axis=0)
        each.append([expected_of(truth, np.repeat(one, drawn), p, 4) for one in models])
    for metric in ("accuracy", "macro_f1", "quadratic_kappa", "recall[some]"):
        assert found["tree_rotated"][metric][1:] == quantiles([np.mean([m[metric] for m in one]) for one in each])
    value = found["tree_rotated"]["accuracy"][0]
    assert value == pytest.approx(np.mean([(one == target).mean() for one in models]))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(2, 6))
def test_metrics_equal_those_of_torchmetrics(seed, n, classes):
    rng = np.random.default_rng(seed)
    target = rng.integers(classes, size=n)
    probabilities = rng.dirichlet(np.full(classes, 0.5), size=n)
    guess = probabilities.argmax(1)
    outcome = Outcome(guess, {}, 0.5, 10, np.log(probabilities))
    found = measure(Task("a", "ordinal", classes), target, {"linear": outcome}, resamples=2, seed=0)["linear"]
    truth, predicted = torch.from_numpy(target), torch.from_numpy(guess)
    calibration = multiclass_calibration_error(torch.from_numpy(probabilities), truth, classes, n_bins=15, norm="l1")
    assert found["ece"][0] == pytest.approx(float(calibration), abs=1e-6)
    kappa = float(multiclass_cohen_kappa(predicted, truth, classes, weights="quadratic"))
    assert found["quadratic_kappa"][0] == pytest.approx(kappa, abs=1e-5, nan_ok=True)
    f1 = multiclass_f1_score(predicted, truth, classes, average="macro")
    assert found["macro_f1"][0] == pytest.approx(float(f1), abs=1e-6)
    recalls = multiclass_recall(predicted, truth, classes, average=None)
    for c in range(classes):
        if (target == c).any():
            assert found[f"recall[{c}]"][0] == pytest.approx(float(recalls[c]), abs=1e-6)
        else:
            assert np.isnan(found[f"recall[{c}]"]).all()


def test_calibration_error_of_the_certain_and_of_the_honest():
    target = np.repeat([0, 1], 50)
    certain = np.tile([0.0, -np.inf], (100, 1))  # always class 0, right half the time
    honest = np.log(np.tile([0.5, 0.5], (100, 1)))
    outcomes = {name: Outcome(np.zeros(100, int), {}, 0.5, 10, log_p) for name, log_p in
                (("linear", certain), ("mlp", honest))}  # fmt: skip
    found = measure(Task("a", "classification", 2), target, outcomes, resamples=50, seed=0)
    assert found["linear"]["ece"][0] == pytest.approx(0.5)
    assert found["mlp"]["ece"][0] == pytest.approx(0.0, abs=1e-12)


def test_chance_has_no_kappa_of_one_class_alone():
    task, target = Task("a", "ordinal", 3), np.ones(20, int)
    same, other = Outcome(np.ones(20, int), {}, 0.5, 10), Outcome(np.full(20, 2), {}, 0.5, 10)
    found = measure(task, target, {"knn": same, "tree": other}, resamples=20, seed=0)
    assert np.isnan(found["knn"]["quadratic_kappa"]).all()  # 0 / 0: agreement and chance are both perfect
    assert found["tree"]["quadratic_kappa"][0] == 0


def test_r2_intervals_are_those_of_r2_recomputed_on_each_resample():
    rng = np.random.default_rng(1)
    target = 1e7 + rng.normal(size=50)
    outcome = Outcome(target + 0.5 * rng.normal(size=50), {}, 0.5, 10)
    found = measure(Task("a", "regression", 1), target, {"knn": outcome}, resamples=60, seed=3)["knn"]
    counts = bootstrap_sums(np.eye(50), 60, seed=3).astype(int)
    pairs = [(np.repeat(target, drawn), np.repeat(outcome.test, drawn)) for drawn in counts]
    for metric, function in (("r2", metrics.r2_score), ("rmse", metrics.root_mean_squared_error)):
        assert found[metric][0] == pytest.approx(function(target, outcome.test))
        assert found[metric][1:] == quantiles([function(*pair) for pair in pairs])


def test_a_constant_test_target_has_no_r2():
    target = np.full(29, 0.1)
    assert target.mean() != 0.1  # rounding must not pass for spread
    outcome = Outcome(target + 0.2, {}, 0.0, 10)
    found = measure(Task("a", "regression", 1), target, {"knn": outcome}, resamples=200, seed=0)["knn"]
    assert np.isnan(found["r2"]).all()
    assert found["mae"][0] == pytest.approx(0.2)
    assert found["rmse"][0] == pytest.approx(0.2)


def test_a_thousand_classes_are_measured_without_their_recalls():
    rng = np.random.default_rng(0)
    task, target = Task("a", "classification", 5000), rng.integers(5000, size=300)
    assert task.num_outputs > MOST_RECALLS
    outcomes = {name: Outcome(np.where(rng.random(300) < 0.5, target, 0), {}, 0.5, 10) for name in ("a", "b", "c")}
    assert 3 * 2 * task.num_outputs > MOST_COLUMNS  # in several goes
    found = measure(task, target, outcomes, resamples=10, seed=0)
    for name, outcome in outcomes.items():
        assert tuple(found[name]) == ("accuracy", "balanced_accuracy", "macro_f1")
        assert found[name]["accuracy"][0] == pytest.approx((outcome.test == target).mean())
        assert found[name]["macro_f1"][0] == pytest.approx(metrics.f1_score(target, outcome.test, average="macro"))
