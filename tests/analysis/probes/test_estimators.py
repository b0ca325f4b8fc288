"""The probes as scikit-learn estimators: its conventions, and the numbers of the suite."""

import json

import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.utils.estimator_checks import parametrize_with_checks

import reprkit.analysis
from reprkit.analysis.probes import PROBES, Protocol, probe_with_predictions
from reprkit.analysis.probes import estimators as home
from reprkit.analysis.universal.perceptron import choose_mlp
from reprkit.errors import InputError
from reprkit.recipe import ProbeConfig

EVERY = [getattr(home, name)() for name in home.__all__ if name != "estimator_of"]
FIXED = tuple(name for name in PROBES if name != "mlp")  # the network chooses on rows of its own: see below


def exceptions(estimator):
    """The network works in float32, whose last digits depend on which rows share a product."""
    if "MLP" in type(estimator).__name__:
        why = "float32 products"
        return dict.fromkeys(("check_methods_sample_order_invariance", "check_methods_subset_invariance"), why)
    return {}


@pytest.mark.slow
@parametrize_with_checks(EVERY, expected_failed_checks=exceptions)
def test_conventions(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def made(toy):
    return toy(classes={"left": 3, "right": 2, "age": 5}, kinds={"age": "regression"}, sizes=(160, 80, 100), noise=1.0)


@pytest.fixture(scope="module")
def found(made):
    return probe_with_predictions(made, config=ProbeConfig(bootstrap=10), protocol=Protocol(rotations=1))


@pytest.mark.parametrize("probe", FIXED)
@pytest.mark.parametrize("task", ["left", "right", "age"])
def test_a_row_of_the_table_becomes_an_estimator_that_predicts_the_same(made, found, probe, task):
    rows = found.frame.query("task == @task and probe == @probe")
    if rows.empty:
        assert (task, probe) in (("age", "ncm"), ("age", "lda"))
        with pytest.raises(InputError, match="classes only"):
            home.estimator_of(probe, classes=False)
        return
    estimator = home.estimator_of(probe, rows["params"].iloc[0], classes=task != "age")
    assert is_classifier(estimator) == (task != "age")
    estimator.fit(made.z("train"), made.targets("train", task))
    predicted, table = estimator.predict(made.z("test")), found.predictions[task]
    if task != "age":
        np.testing.assert_array_equal(predicted, table[probe])
    else:
        np.testing.assert_allclose(predicted, table[probe], rtol=1e-3, atol=1e-3)
    if probe in ("lda", "linear") and task != "age":
        log_loss = rows.query("metric == 'log_loss'")["value"].iloc[0]
        p = estimator.predict_log_proba(made.z("test"))
        assert -p[np.arange(len(p)), made.targets("test", task)].mean() == pytest.approx(log_loss, abs=1e-4)


def test_above_the_limit_the_estimator_is_the_nystroem_approximation(made):
    config = ProbeConfig(probes=("svm_rbf",), max_svm=100, bootstrap=10)
    found = probe_with_predictions(made, config=config, protocol=Protocol(landmarks=50))
    for task in ("left", "age"):
        params = found.frame.query("task == @task and probe == 'svm_rbf'")["params"].iloc[0]
        assert json.loads(params)["landmarks"] == 50
        estimator = home.estimator_of("svm_rbf", params, classes=task == "left")
        predicted = estimator.fit(made.z("train"), made.targets("train", task)).predict(made.z("test"))
        np.testing.assert_allclose(predicted, found.predictions[task]["svm_rbf"], rtol=1e-6, atol=1e-6)


def test_the_network_is_that_of_the_suite_on_its_held_out_rows(made):
    x, y = made.z("train"), made.targets("train", "left")
    estimator = home.MLPClassifier(validation_fraction=0.25, random_state=3).fit(x, y)
    from reprkit.analysis.rows import stratified_rows

    kept = stratified_rows(y, 120, seed=3)
    held = np.setdiff1d(np.arange(160), kept)
    standard = ((x - x.mean(0, dtype=np.float64)) / x.std(0, dtype=np.float64)).astype(np.float32)
    network = choose_mlp(standard[kept], y[kept], standard[held], y[held], 3, seed=3)
    test = ((made.z("test") - x.mean(0)) / x.std(0)).astype(np.float32)
    np.testing.assert_array_equal(estimator.predict(made.z("test")), network.logits(test).argmax(0))
    np.testing.assert_allclose(estimator.predict_proba(made.z("test")).sum(1), 1)
    ages = made.targets("train", "age")
    assert home.MLPRegressor().fit(x, ages).score(made.z("test"), made.targets("test", "age")) > 0


def test_coefficients_are_those_of_raw_rows(made):
    x, y = made.z("train").astype(np.float64), made.targets("train", "left")
    for kind in (home.LinearClassifier, home.LinearSVMClassifier):
        estimator = kind(C=0.01).fit(x, y)
        scores = x @ estimator.coef_.T + estimator.intercept_
        np.testing.assert_allclose(estimator.decision_function(x), scores, atol=1e-4)


def test_pipelines_cross_validation_grids_and_clones(made):
    z, names = made.z("train"), np.array(["cat", "dog", "owl"])[made.targets("train", "left")]
    pipeline = make_pipeline(Normalizer(), home.ShrunkLDA(shrinkage=0.5))
    scores = cross_val_score(pipeline, z, names, cv=3)
    assert scores.min() > 0.5
    search = GridSearchCV(home.CosineKNNClassifier(), {"k": [1, 20], "vote": ["uniform", "exp"]}, cv=3).fit(z, names)
    assert search.best_params_["k"] == 20
    assert set(search.predict(made.z("test"))) <= {"cat", "dog", "owl"}
    assert list(search.classes_) == ["cat", "dog", "owl"]
    copy = clone(home.PrunedTreeClassifier(alpha=0.2, basis="pca"))
    assert copy.get_params() == {"alpha": 0.2, "basis": "pca", "components": 64, "random_state": 0}


def test_rotations_and_landmarks_follow_the_seed_and_equal_it(made):
    x, y = made.z("train"), made.targets("train", "left")
    first, again, other = (
        home.PrunedTreeClassifier(0.0, "rotated", random_state=seed).fit(x, y).predict(made.z("test"))
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    with pytest.raises(ValueError, match="raw, pca, rotated"):
        home.PrunedTreeClassifier(basis="skewed").fit(x, y)


def test_all_are_offered_by_the_analysis_package_and_unknown_ones_are_named():
    assert set(home.__all__) <= set(reprkit.analysis.__all__)
    assert reprkit.analysis.LinearClassifier is home.LinearClassifier
    with pytest.raises(InputError, match="forest.*choose from ncm"):
        home.estimator_of("forest")
    assert set(home._BY_PROBE) == set(PROBES)
