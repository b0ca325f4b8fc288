"""Each probe against scikit-learn, fitted and selected by the same protocol the long way round."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, r2_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC, LinearSVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from reprkit.analysis.probes import Protocol
from reprkit.analysis.probes.data import Space, load, rbf_kernel
from reprkit.analysis.probes.knn import fit_knn
from reprkit.analysis.probes.linear import fit_linear
from reprkit.analysis.probes.solver import cross_entropy, fit_linear_predictor, squared_hinge, squared_tube
from reprkit.analysis.probes.svm import fit_svm_linear, fit_svm_rbf, subsample
from reprkit.analysis.probes.tree import fit_tree

PROTOCOL = Protocol()


class Problem:
    """One task of a toy file, with the arrays that scikit-learn needs beside what the probes take."""

    def __init__(self, embeddings, task):
        self.space, (self.data,), _, _ = load(embeddings, [task])
        scaler = StandardScaler().fit(embeddings.z("train").astype(np.float64))
        self.raw = {split: embeddings.z(split) for split in embeddings.splits}
        self.x = {split: scaler.transform(rows.astype(np.float64)) for split, rows in self.raw.items()}
        self.y = {split: embeddings.targets(split, task) for split in embeddings.splits}

    def best(self, models, x, value=lambda model, x, y: model.score(x, y)):
        """The first of the best models by `value` on val: its place, its value, its test predictions."""
        fitted = [model.fit(x["train"], self.y["train"]) for model in models]
        values = [value(model, x["val"], self.y["val"]) for model in fitted]
        place = int(np.argmax(values))
        return place, values[place], fitted[place].predict(x["test"])


@pytest.fixture(scope="module")
def classes(toy):
    return Problem(toy(classes={"left": 4, "right": 3}, noise=1.5, sizes=(300, 120, 200)), "left")


@pytest.fixture(scope="module")
def values(toy):
    return Problem(toy(classes={"age": 6, "side": 2}, kinds={"age": "regression"}, noise=1.5, seed=1), "age")


def cosine_weights(distance):
    return np.exp(-distance / PROTOCOL.temperature)  # distance is 1 - cosine


def test_standardised_features_are_those_of_scikit_learn(classes):
    for split, expected in classes.x.items():
        np.testing.assert_allclose(classes.space.standard[split], expected, atol=1e-6)


def test_a_constant_feature_is_centred_and_not_blown_up():
    rng = np.random.default_rng(0)
    z = {split: rng.normal(size=(999, 3)).astype(np.float32) for split in ("train", "val", "test")}
    for rows in z.values():
        rows[:, 1] = 0.1
    space = Space(z)
    assert np.abs(space.standard["test"][:, 1]).max() < 1e-6
    collapsed = Space({split: np.full((20, 3), 7.0, np.float32) for split in z})
    assert collapsed.gamma == 1.0
    assert not collapsed.standard["train"].any()


def test_knn_equals_scikit_learn(classes):
    grid = list(itertools.product(("uniform", cosine_weights), PROTOCOL.neighbors))
    models = [KNeighborsClassifier(k, weights=w, metric="cosine", algorithm="brute") for w, k in grid]
    place, value, test = classes.best(models, {k: v.astype(np.float64) for k, v in classes.raw.items()})
    found = fit_knn(classes.space, classes.data, PROTOCOL)
    vote, k = grid[place]
    assert found.params == {"k": k, "vote": "uniform" if vote == "uniform" else "exp"}
    assert found.val_value == pytest.approx(value)
    np.testing.assert_array_equal(found.test, test)


def test_knn_regression_equals_scikit_learn(values):
    protocol = Protocol(votes=("exp",))
    models = [
        KNeighborsRegressor(k, weights=cosine_weights, metric="cosine", algorithm="brute") for k in protocol.neighbors
    ]
    place, value, test = values.best(models, {k: v.astype(np.float64) for k, v in values.raw.items()})
    found = fit_knn(values.space, values.data, protocol)
    assert found.params["k"] == protocol.neighbors[place]
    assert found.val_value == pytest.approx(value)
    np.testing.assert_allclose(found.test, test, rtol=1e-5)


def test_knn_drops_k_above_the_number_of_train_samples(toy):
    problem = Problem(toy(sizes=(15, 40, 40)), "left")
    assert fit_knn(problem.space, problem.data, PROTOCOL).params["k"] <= 10
    assert fit_knn(problem.space, problem.data, Protocol(neighbors=(100,))).params["k"] == 15


def test_linear_equals_scikit_learn_over_the_whole_path(classes):
    models = [LogisticRegression(C=c, max_iter=5000, tol=1e-6) for c in PROTOCOL.linear_c]
    place, value, test = classes.best(
        models, classes.x, lambda model, x, y: -log_loss(y, model.predict_proba(x), labels=range(4))
    )
    found = fit_linear(classes.space, classes.data, PROTOCOL)
    assert found.params == {"C": PROTOCOL.linear_c[place]}  # also: leaving the path early lost nothing
    assert found.val_value == pytest.approx(-value, abs=1e-4)
    assert found.remarks == ()
    np.testing.assert_array_equal(found.test, test)
    expected = models[place].predict_log_proba(classes.x["test"])
    np.testing.assert_allclose(found.log_probabilities, expected, atol=5e-3)


def test_linear_regression_equals_scikit_learn(values):
    models = [Ridge(alpha) for alpha in PROTOCOL.ridge_alpha]
    place, value, test = values.best(models, values.x)
    found = fit_linear(values.space, values.data, PROTOCOL)
    assert found.params == {"alpha": PROTOCOL.ridge_alpha[place]}
    assert found.val_value == pytest.approx(value, abs=1e-6)
    np.testing.assert_allclose(found.test, test, atol=1e-5)


@pytest.mark.parametrize("c", [1e-3, 1e-1, 1.0])
def test_linear_svm_has_the_optimum_of_liblinear(classes, c):
    x, y = classes.x["train"], classes.y["train"]
    expected = LinearSVC(C=c, tol=1e-9, dual=False, max_iter=20000).fit(x, y)
    found = fit_linear_predictor(x, squared_hinge(np.where(y[:, None] == np.arange(4), 1.0, -1.0)), 4, c,
                                 penalise_bias=True)  # fmt: skip
    assert found.converged
    np.testing.assert_allclose(found.weights.T, expected.coef_, atol=2e-3)
    np.testing.assert_allclose(found.bias, expected.intercept_, atol=2e-3)


def test_linear_support_vector_regression_has_the_optimum_of_liblinear(values):
    x, y = values.x["train"], values.y["train"]
    y = (y - y.mean()) / y.std()
    expected = LinearSVR(
        C=0.1, epsilon=0.1, loss="squared_epsilon_insensitive", dual=False, tol=1e-9, max_iter=20000
    ).fit(x, y)
    found = fit_linear_predictor(x, squared_tube(y, 0.1), 1, 0.1, penalise_bias=True)
    np.testing.assert_allclose(found.weights[:, 0], expected.coef_, atol=1e-3)
    np.testing.assert_allclose(found.bias, expected.intercept_, atol=1e-3)


def test_linear_svm_is_selected_as_scikit_learn_would(classes):
    models = [LinearSVC(C=c, tol=1e-8, dual=False, max_iter=20000) for c in PROTOCOL.svm_linear_c]
    place, value, test = classes.best(models, classes.x)
    found = fit_svm_linear(classes.space, classes.data, PROTOCOL)
    assert found.params == {"C": PROTOCOL.svm_linear_c[place]}
    assert found.val_value == pytest.approx(value)
    assert (found.test == test).mean() >= 0.995


def test_rbf_svm_has_the_labels_of_scikit_learn(classes):
    models = [SVC(C=c, gamma="scale") for c in PROTOCOL.svm_rbf_c]
    place, value, test = classes.best(models, classes.x)
    found = fit_svm_rbf(classes.space, classes.data, PROTOCOL)
    assert found.params["C"] == PROTOCOL.svm_rbf_c[place]
    assert found.params["gamma"] == pytest.approx(1 / 16, rel=1e-4)
    assert found.val_value == pytest.approx(value)
    np.testing.assert_array_equal(found.test, test)


def test_rbf_regression_equals_scikit_learn(values):
    mean, std = values.y["train"].mean(), values.y["train"].std()
    fitted = [
        SVR(C=c, gamma="scale", epsilon=0.1).fit(values.x["train"], (values.y["train"] - mean) / std)
        for c in PROTOCOL.svm_rbf_c
    ]
    scores = [r2_score(values.y["val"], model.predict(values.x["val"]) * std + mean) for model in fitted]
    found = fit_svm_rbf(values.space, values.data, PROTOCOL)
    best = int(np.argmax(scores))
    assert found.params["C"] == PROTOCOL.svm_rbf_c[best]
    np.testing.assert_allclose(found.test, fitted[best].predict(values.x["test"]) * std + mean, atol=5e-3)


@pytest.mark.parametrize("kind", ["classes", "values"])
def test_tree_equals_scikit_learn(kind, request):
    problem = request.getfixturevalue(kind)
    tree = DecisionTreeClassifier if kind == "classes" else DecisionTreeRegressor
    grid = list(itertools.product(PROTOCOL.depths, PROTOCOL.leaves))
    models = [tree(max_depth=depth, min_samples_leaf=leaf, random_state=0) for depth, leaf in grid]
    place, value, test = problem.best(models, problem.raw)
    found = fit_tree(problem.space, problem.data, PROTOCOL)
    assert found.params == dict(zip(("max_depth", "min_samples_leaf"), grid[place], strict=True))
    assert found.val_value == pytest.approx(value)
    np.testing.assert_allclose(found.test, test)


def test_kernel_in_blocks_equals_its_definition():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(700, 5)), rng.normal(size=(90, 5))
    expected = np.exp(-0.3 * ((a[:, None] - b[None]) ** 2).sum(axis=2))
    for workers in (1, 2):
        np.testing.assert_allclose(rbf_kernel(a, b, 0.3, workers=workers), expected, atol=1e-12)


def test_losses_have_the_gradients_they_claim():
    rng = np.random.default_rng(1)
    scores, target = rng.normal(size=(12, 3)), rng.integers(3, size=12)
    signs = np.where(target[:, None] == np.arange(3), 1.0, -1.0)
    for loss, width in ((cross_entropy(target), 3), (squared_hinge(signs), 3), (squared_tube(scores[:, 1], 0.1), 1)):
        point = scores[:, :width]
        _, gradient = loss(point)
        numeric = np.empty_like(point)
        for place in np.ndindex(point.shape):
            step = np.zeros_like(point)
            step[place] = 1e-6
            numeric[place] = (loss(point + step)[0] - loss(point - step)[0]) / 2e-6
        np.testing.assert_allclose(gradient, numeric, atol=1e-8)


def test_an_unfinished_fit_says_so(classes, monkeypatch):
    from reprkit.analysis.probes import solver

    monkeypatch.setattr(solver, "MAX_ITERATIONS", 1)
    assert "not converged" in fit_linear(classes.space, classes.data, PROTOCOL).remarks[-1]
    assert "not converged" in fit_svm_linear(classes.space, classes.data, PROTOCOL).remarks[-1]


def test_a_choice_at_the_edge_of_the_grid_says_so(classes):
    protocol = Protocol(linear_c=(1e-6, 1e-5), svm_rbf_c=(1e-3, 1e-2), svm_linear_c=(1e-2,))
    assert fit_linear(classes.space, classes.data, protocol).remarks == ("C at the edge of its grid",)
    assert fit_svm_rbf(classes.space, classes.data, protocol).remarks == ("C at the edge of its grid",)
    assert fit_svm_linear(classes.space, classes.data, protocol).remarks == ()  # one value has no edge


def test_svms_leave_out_rows_without_a_target(toy):
    embeddings = toy(classes={"left": 3, "right": 2}, noise=1.5)
    embeddings.targets("train", "left")[::3] = -1  # the factory hands out its own arrays
    problem = Problem(embeddings, "left")
    known = problem.y["train"] >= 0
    assert not known.all()
    x, y = problem.x["train"][known], problem.y["train"][known]
    found = fit_svm_rbf(problem.space, problem.data, PROTOCOL)
    expected = SVC(C=found.params["C"], gamma=problem.space.gamma).fit(x, y).predict(problem.x["test"])
    np.testing.assert_array_equal(found.test, expected)
    found = fit_svm_linear(problem.space, problem.data, PROTOCOL)
    expected = LinearSVC(C=found.params["C"], tol=1e-8, dual=False).fit(x, y).predict(problem.x["test"])
    assert (found.test == expected).mean() >= 0.995


def test_linear_svm_penalises_its_bias_as_liblinear_does(toy):
    """With the strongest penalty and rare classes the bias is most of the score, so how it is penalised shows."""
    embeddings = toy(classes={"left": 3}, noise=1.5)
    rare = np.random.default_rng(0).random(400) < 0.8
    embeddings.targets("train", "left")[rare] = 0
    problem = Problem(embeddings, "left")
    found = fit_svm_linear(problem.space, problem.data, Protocol(svm_linear_c=(1e-4,)))
    expected = LinearSVC(C=1e-4, tol=1e-9, dual=False).fit(problem.x["train"], problem.y["train"])
    assert (found.test == expected.predict(problem.x["test"])).mean() >= 0.99


def test_rbf_svm_above_its_limit_is_that_of_the_subsample(classes):
    found = fit_svm_rbf(classes.space, classes.data, Protocol(max_svm=80))
    rows = subsample(classes.y["train"], 80, stratify=True, seed=0)
    expected = SVC(C=found.params["C"], gamma=classes.space.gamma).fit(
        classes.x["train"][rows], classes.y["train"][rows]
    )
    assert found.remarks[0] == "fitted to a subsample of 80 of 300 train samples"
    assert found.n_train == 80
    np.testing.assert_array_equal(found.test, expected.predict(classes.x["test"]))


def test_stratified_subsample_keeps_shares_and_every_class():
    target = np.repeat([0, 1, 2, 5], [600, 300, 99, 1])
    rows = subsample(target, 100, stratify=True, seed=0)
    assert len(rows) == 100
    assert len(np.unique(rows)) == 100
    shares = dict(zip(*np.unique(target[rows], return_counts=True), strict=True))
    assert shares[5] == 1
    assert abs(shares[0] - 60) <= 1
    assert abs(shares[1] - 30) <= 1
    np.testing.assert_array_equal(rows, subsample(target, 100, stratify=True, seed=0))
    assert not np.array_equal(rows, subsample(target, 100, stratify=True, seed=1))
    assert len(np.unique(subsample(np.arange(50.0), 20, stratify=False, seed=0))) == 20


def test_many_rare_classes_do_not_make_the_subsample_larger():
    target = np.concatenate([np.zeros(900, int), np.arange(1, 41)])
    rows = subsample(target, 100, stratify=True, seed=0)
    assert len(rows) == 100
    assert set(target[rows]) == set(range(41))
