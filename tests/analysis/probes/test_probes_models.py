"""Each probe against scikit-learn, fitted and selected by the same protocol the long way round."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.kernel_approximation import Nystroem as SklearnNystroem
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, r2_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestCentroid
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC, LinearSVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from reprkit.analysis import solver
from reprkit.analysis.probes import Protocol
from reprkit.analysis.probes.data import TaskData
from reprkit.analysis.probes.discriminant import fit_lda, fit_ncm
from reprkit.analysis.probes.knn import fit_knn
from reprkit.analysis.probes.linear import fit_linear
from reprkit.analysis.probes.mlp import fit_mlp
from reprkit.analysis.probes.nystroem import Nystroem, fit_nystroem
from reprkit.analysis.probes.svm import fit_svm_linear, fit_svm_rbf
from reprkit.analysis.probes.tree import Tree, fit_tree, fit_tree_pca, fit_tree_rotated, principal_basis, rotated_basis
from reprkit.analysis.rows import stratified_rows
from reprkit.analysis.universal.perceptron import PENALTIES
from reprkit.analysis.workspace import Workspace

PROTOCOL = Protocol()


class Problem:
    """One task of a toy file, with the arrays that scikit-learn needs beside what the probes take."""

    def __init__(self, embeddings, task):
        self.workspace = Workspace(embeddings)
        self.data = TaskData.of(self.workspace, task)
        scaler = StandardScaler().fit(embeddings.z("train").astype(np.float64))
        self.raw = {split: embeddings.z(split) for split in embeddings.splits}
        self.x = {split: scaler.transform(rows.astype(np.float64)) for split, rows in self.raw.items()}
        self.y = {split: embeddings.targets(split, task) for split in embeddings.splits}

    def fit(self, probe, protocol=PROTOCOL):
        return probe(self.workspace, self.data, protocol)

    def best(self, models, x, value=lambda model, x, y: model.score(x, y)):
        """The first of the best models by `value` on val: its place, its value, its test predictions."""
        known = {split: self.data.rows[split] for split in x}
        fitted = [model.fit(x["train"][known["train"]], self.data.y["train"]) for model in models]
        values = [value(model, x["val"][known["val"]], self.data.y["val"]) for model in fitted]
        place = int(np.argmax(values))
        return place, values[place], fitted[place].predict(x["test"][known["test"]])


def with_gaps(embeddings, task, share=0.4):
    """The file with a share of the targets of a task taken out."""
    rng = np.random.default_rng(5)
    for split in embeddings.splits:
        targets = embeddings.targets(split, task)  # the factory hands out its own arrays
        targets[rng.random(len(targets)) < share] = -1 if embeddings.tasks[task].is_discrete else np.nan
    return embeddings


CLASSES = {"classes": {"left": 4, "right": 3}, "noise": 1.5, "sizes": (300, 120, 200)}
VALUES = {"classes": {"age": 6, "side": 2}, "kinds": {"age": "regression"}, "noise": 1.5, "seed": 1}


@pytest.fixture(scope="module")
def classes(toy):
    return Problem(toy(**CLASSES), "left")


@pytest.fixture(scope="module")
def values(toy):
    return Problem(toy(**VALUES), "age")


@pytest.fixture(scope="module")
def some_classes(toy):
    return Problem(with_gaps(toy(**CLASSES), "left"), "left")


@pytest.fixture(scope="module")
def some_values(toy):
    return Problem(with_gaps(toy(**VALUES), "age"), "age")


@pytest.fixture(params=["classes", "some_classes"])
def labelled(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["values", "some_values"])
def valued(request):
    return request.getfixturevalue(request.param)


def cosine_weights(distance):
    return np.exp(-distance / PROTOCOL.temperature)  # distance is 1 - cosine


def val_log_loss(model, x, y):
    return -log_loss(y, model.predict_proba(x), labels=range(4))


# Closed forms from moments.


def test_nearest_class_mean_equals_scikit_learn(labelled):
    _, value, test = labelled.best([NearestCentroid()], labelled.x)
    found = labelled.fit(fit_ncm)
    np.testing.assert_array_equal(found.test, test)
    assert found.val_value == pytest.approx(value)
    assert found.n_train == len(labelled.data.y["train"])
    assert found.log_probabilities is None


def test_nearest_class_mean_ignores_how_frequent_classes_are(fake_embeddings, toy):
    embeddings = toy(classes={"left": 2}, noise=2.0)
    targets = embeddings.targets("train", "left")
    targets[np.flatnonzero(targets == 1)[::4]] = -1
    problem = Problem(embeddings, "left")
    x, y = problem.x["train"], targets
    means = np.stack([x[y == c].mean(axis=0) for c in range(2)])
    nearest = ((problem.x["test"][:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(problem.fit(fit_ncm).test, nearest)


def test_lda_equals_scikit_learn_over_the_whole_path(labelled):
    grid = PROTOCOL.shrinkage
    models = [LinearDiscriminantAnalysis(solver="lsqr", shrinkage=s) for s in grid]
    place, value, test = labelled.best(models, labelled.x, val_log_loss)
    found = labelled.fit(fit_lda)
    assert found.params == {"shrinkage": grid[place]}
    assert found.val_value == pytest.approx(-value, rel=1e-5)
    np.testing.assert_array_equal(found.test, test)
    x = labelled.x["test"][labelled.data.rows["test"]]
    for s, model in zip(grid, models, strict=True):
        one = labelled.fit(fit_lda, Protocol(shrinkage=(s,)))
        np.testing.assert_allclose(one.log_probabilities, model.predict_log_proba(x), atol=1e-4)


def test_lda_bears_fewer_samples_than_features_and_empty_classes(toy):
    embeddings = toy(dim=60, classes={"left": 5}, noise=1.0, sizes=(40, 60, 100))
    embeddings.targets("train", "left")[embeddings.targets("train", "left") == 2] = 1
    problem = Problem(embeddings, "left")
    found = problem.fit(fit_lda)
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=found.params["shrinkage"])
    model.fit(problem.x["train"], problem.y["train"])
    np.testing.assert_array_equal(found.test, model.predict(problem.x["test"]))
    assert np.isneginf(found.log_probabilities[:, 2]).all()
    y, p = problem.y["val"], np.zeros((60, 5))
    p[:, model.classes_] = model.predict_proba(problem.x["val"])
    assert (y == 2).any()
    surprise = -np.log(p[np.arange(60), y].clip(min=np.finfo(float).eps))
    assert found.val_value == pytest.approx(surprise.mean(), rel=1e-4)


def test_linear_regression_equals_scikit_learn(valued):
    models = [Ridge(alpha) for alpha in PROTOCOL.ridge_alpha]
    place, value, test = valued.best(models, valued.x)
    found = valued.fit(fit_linear)
    assert found.params == {"alpha": PROTOCOL.ridge_alpha[place]}
    assert found.val_value == pytest.approx(value, abs=1e-6)
    np.testing.assert_allclose(found.test, test, atol=1e-5)


# Neighbours.


def test_knn_equals_scikit_learn(labelled):
    grid = list(itertools.product(("uniform", cosine_weights), PROTOCOL.neighbors))
    models = [KNeighborsClassifier(k, weights=w, metric="cosine", algorithm="brute") for w, k in grid]
    place, value, test = labelled.best(models, {k: v.astype(np.float64) for k, v in labelled.raw.items()})
    found = labelled.fit(fit_knn)
    vote, k = grid[place]
    assert found.params == {"k": k, "vote": "uniform" if vote == "uniform" else "exp"}
    assert found.val_value == pytest.approx(value)
    np.testing.assert_array_equal(found.test, test)


def test_knn_regression_equals_scikit_learn(valued):
    protocol = Protocol(votes=("exp",))
    models = [
        KNeighborsRegressor(k, weights=cosine_weights, metric="cosine", algorithm="brute") for k in protocol.neighbors
    ]
    place, value, test = valued.best(models, {k: v.astype(np.float64) for k, v in valued.raw.items()})
    found = valued.fit(fit_knn, protocol)
    assert found.params["k"] == protocol.neighbors[place]
    assert found.val_value == pytest.approx(value)
    np.testing.assert_allclose(found.test, test, rtol=1e-5)


def test_knn_drops_k_above_the_number_of_train_samples(toy):
    problem = Problem(toy(sizes=(15, 40, 40)), "left")
    assert problem.fit(fit_knn).params["k"] <= 10
    assert problem.fit(fit_knn, Protocol(neighbors=(100,))).params["k"] == 15


# Linear predictors by the solver.


def test_linear_equals_scikit_learn_over_the_whole_path(labelled):
    models = [LogisticRegression(C=c, max_iter=5000, tol=1e-6) for c in PROTOCOL.linear_c]
    place, value, test = labelled.best(models, labelled.x, val_log_loss)
    found = labelled.fit(fit_linear)
    assert found.params == {"C": PROTOCOL.linear_c[place]}  # also: leaving the path early lost nothing
    assert found.val_value == pytest.approx(-value, abs=1e-4)
    assert found.remarks == ()
    np.testing.assert_array_equal(found.test, test)
    expected = models[place].predict_log_proba(labelled.x["test"][labelled.data.rows["test"]])
    np.testing.assert_allclose(found.log_probabilities, expected, atol=5e-3)


def test_linear_svm_is_selected_as_scikit_learn_would(labelled):
    models = [LinearSVC(C=c, tol=1e-8, dual=False, max_iter=20000) for c in PROTOCOL.svm_linear_c]
    place, value, test = labelled.best(models, labelled.x)
    found = labelled.fit(fit_svm_linear)
    assert found.params == {"C": PROTOCOL.svm_linear_c[place]}
    assert found.val_value == pytest.approx(value)
    assert (found.test == test).mean() >= 0.995


@pytest.mark.parametrize("c", PROTOCOL.svm_linear_c[1::2])
def test_linear_support_vector_regression_equals_scikit_learn(valued, c):
    y = valued.data.y["train"]
    model = LinearSVR(C=c, epsilon=0.1, loss="squared_epsilon_insensitive", dual=False, tol=1e-9, max_iter=20000)
    model.fit(valued.x["train"][valued.data.rows["train"]], (y - y.mean()) / y.std())
    found = valued.fit(fit_svm_linear, Protocol(svm_linear_c=(c,)))
    expected = model.predict(valued.x["test"][valued.data.rows["test"]]) * y.std() + y.mean()
    np.testing.assert_allclose(found.test, expected, atol=5e-3)


def test_linear_svm_penalises_its_bias_as_liblinear_does(toy):
    """With the strongest penalty and rare classes the bias is most of the score, so how it is penalised shows."""
    embeddings = toy(classes={"left": 3}, noise=1.5)
    rare = np.random.default_rng(0).random(400) < 0.8
    embeddings.targets("train", "left")[rare] = 0
    problem = Problem(embeddings, "left")
    found = problem.fit(fit_svm_linear, Protocol(svm_linear_c=(1e-4,)))
    expected = LinearSVC(C=1e-4, tol=1e-9, dual=False).fit(problem.x["train"], problem.y["train"])
    assert (found.test == expected.predict(problem.x["test"])).mean() >= 0.99


def test_an_unfinished_fit_says_so(classes, monkeypatch):
    monkeypatch.setattr(solver, "fit_linear", partial(solver.fit_linear, max_evaluations=1))
    assert "not converged" in classes.fit(fit_linear).remarks[-1]
    assert "not converged" in classes.fit(fit_svm_linear).remarks[-1]


def test_a_choice_at_the_edge_of_the_grid_says_so(classes):
    protocol = Protocol(linear_c=(1e-6, 1e-5), svm_rbf_c=(1e-3, 1e-2), svm_linear_c=(1e-2,))
    assert classes.fit(fit_linear, protocol).remarks == ("C at the edge of its grid",)
    assert classes.fit(fit_svm_rbf, protocol).remarks == ("C at the edge of its grid",)
    assert classes.fit(fit_svm_linear, protocol).remarks == ()  # one value has no edge


# RBF kernels.


def test_rbf_svm_has_the_labels_of_scikit_learn(labelled):
    gamma = labelled.workspace.gamma  # of all train rows, also those without a target
    assert gamma == pytest.approx(1 / 16, rel=1e-6)
    models = [SVC(C=c, gamma=gamma) for c in PROTOCOL.svm_rbf_c]
    place, value, test = labelled.best(models, labelled.x)
    found = labelled.fit(fit_svm_rbf)
    assert found.params == {"C": PROTOCOL.svm_rbf_c[place], "gamma": pytest.approx(gamma, rel=1e-5)}
    assert found.val_value == pytest.approx(value)
    np.testing.assert_array_equal(found.test, test)


def test_rbf_regression_equals_scikit_learn(valued):
    y, rows = valued.data.y, valued.data.rows
    mean, std = y["train"].mean(), y["train"].std()
    x = {split: valued.x[split][rows[split]] for split in rows}
    fitted = [
        SVR(C=c, gamma=valued.workspace.gamma, epsilon=0.1).fit(x["train"], (y["train"] - mean) / std)
        for c in PROTOCOL.svm_rbf_c
    ]
    scores = [r2_score(y["val"], model.predict(x["val"]) * std + mean) for model in fitted]
    found = valued.fit(fit_svm_rbf)
    best = int(np.argmax(scores))
    assert found.params["C"] == PROTOCOL.svm_rbf_c[best]
    np.testing.assert_allclose(found.test, fitted[best].predict(x["test"]) * std + mean, atol=5e-3)


def features_of_scikit_learn(problem, protocol):
    """scikit-learn's, made to use our landmarks."""
    picked = stratified_rows(np.zeros(len(problem.x["train"]), int), protocol.landmarks, seed=protocol.seed)
    model = SklearnNystroem(gamma=problem.workspace.gamma, n_components=protocol.landmarks).fit(
        problem.x["train"][picked]
    )
    model.components_ = problem.x["train"][picked]
    kernel = np.exp(-problem.workspace.gamma * ((model.components_[:, None] - model.components_) ** 2).sum(axis=2))
    values, vectors = np.linalg.eigh(kernel)
    model.normalization_ = vectors / np.sqrt(values) @ vectors.T
    model.component_indices_ = picked
    return model.transform


def test_nystroem_is_ridge_on_the_features_of_scikit_learn(labelled):
    protocol = Protocol(max_svm=100, landmarks=60)
    transform, rows, y = features_of_scikit_learn(labelled, protocol), labelled.data.rows, labelled.data.y
    phi = {split: transform(labelled.x[split][rows[split]]) for split in rows}
    signs = 2.0 * (y["train"][:, None] == np.arange(4)) - 1
    models = [Ridge(1 / c).fit(phi["train"], signs) for c in protocol.nystroem_c]
    val = [(model.predict(phi["val"]).argmax(axis=1) == y["val"]).mean() for model in models]
    found = labelled.fit(fit_svm_rbf, protocol)
    assert found.params["C"] == protocol.nystroem_c[int(np.argmax(val))]
    assert found.params["landmarks"] == 60
    assert found.val_value == pytest.approx(max(val))
    assert found.remarks[0] == "Nystroem with 60 landmarks"
    assert found.n_train == len(y["train"])
    test = models[int(np.argmax(val))].predict(phi["test"]).argmax(axis=1)
    np.testing.assert_array_equal(found.test, test)


def test_nystroem_regression_is_ridge_on_the_features_of_scikit_learn(valued):
    protocol = Protocol(landmarks=60, nystroem_c=(1.0,))
    transform, rows, y = features_of_scikit_learn(valued, protocol), valued.data.rows, valued.data.y
    model = Ridge(1.0).fit(transform(valued.x["train"][rows["train"]]), y["train"])
    expected = model.predict(transform(valued.x["test"][rows["test"]]))
    spread = y["train"].std()
    found = valued.fit(fit_nystroem, protocol)
    np.testing.assert_allclose(found.test / spread, expected / spread, atol=1e-6)


def test_with_every_row_a_landmark_nystroem_is_the_kernel_itself(classes):
    x = classes.x["train"][:50]
    features = Nystroem.of(x, 0.1)
    np.testing.assert_allclose(
        features(x) @ features(x).T, np.exp(-0.1 * ((x[:, None] - x) ** 2).sum(axis=2)), atol=1e-8
    )
    twice = Nystroem.of(np.vstack([x, x]), 0.1)  # null directions are dropped
    assert twice.whiten.shape == (100, 50)
    np.testing.assert_allclose(twice(x) @ twice(x).T, features(x) @ features(x).T, atol=1e-8)


def test_nystroem_is_about_as_accurate_as_the_exact_svm(toy):
    problem = Problem(toy(classes={"left": 6, "right": 6}, noise=1.2, dim=10, sizes=(1500, 300, 1000)), "left")
    exact = problem.fit(fit_svm_rbf)
    approximate = problem.fit(fit_svm_rbf, Protocol(max_svm=100, landmarks=300))
    truth = problem.data.y["test"]
    assert (approximate.test == truth).mean() == pytest.approx((exact.test == truth).mean(), abs=0.02)


# Trees.


@pytest.mark.parametrize("kind", ["classes", "some_classes", "values", "some_values"])
def test_tree_equals_scikit_learn(kind, request):
    """Grown and pruned by scikit-learn, once for each strength."""
    problem = request.getfixturevalue(kind)
    tree = DecisionTreeClassifier if "classes" in kind else DecisionTreeRegressor
    protocol = Protocol(prunings=(0.5, 0.1, 0.02, 0.005))
    known = problem.data.y["train"]
    root = tree(max_depth=1).fit(np.zeros((len(known), 1)), known).tree_.impurity[0]
    models = [tree(ccp_alpha=alpha * root, random_state=0) for alpha in protocol.prunings]
    place, value, test = problem.best(models, problem.raw)
    found = problem.fit(fit_tree, protocol)
    assert found.params == {"alpha": protocol.prunings[place]}
    assert found.val_value == pytest.approx(value)
    np.testing.assert_allclose(found.test, test)


@pytest.mark.parametrize("kind", ["classification", "regression"])
@given(seed=st.integers(0, 1000), alpha=st.floats(-4, 0).map(lambda power: 10**power))
@settings(max_examples=25, deadline=None)
def test_a_pruned_tree_is_the_cheapest_of_all_that_can_be_pruned(kind, seed, alpha):
    """Against scikit-learn's weakest links, and against every subtree of a small tree."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(60, 3)).astype(np.float32), rng.integers(0, 3, 60)
    model = (DecisionTreeClassifier if kind == "classification" else DecisionTreeRegressor)(random_state=0).fit(x, y)
    tree, grown = model.tree_, Tree(model)
    same = clone(model).set_params(ccp_alpha=alpha * tree.impurity[0]).fit(x, y)
    (leaf,) = grown.pruned([alpha])
    np.testing.assert_allclose(grown.pruned_values([alpha])[0, model.apply(x)], same.predict(x))
    assert len(set(leaf[model.apply(x)])) == same.get_n_leaves()

    risk = tree.weighted_n_node_samples * tree.impurity / (len(x) * tree.impurity[0])

    def cheapest(node):
        children = tree.children_left[node], tree.children_right[node]
        whole = risk[node] + alpha
        return whole if children[0] < 0 else min(whole, sum(cheapest(child) for child in children))

    kept = np.unique(leaf[model.apply(x)])
    assert risk[kept].sum() + alpha * len(kept) == pytest.approx(cheapest(0), abs=1e-12)


def test_pruning_runs_from_the_root_alone_to_the_grown_tree(classes):
    x, y = classes.raw["train"], classes.y["train"]
    grown = Tree.grow(classes.data, x, y, 0)
    leaves = grown.pruned([1.0, 0.0])[:, grown.model.apply(x)]
    assert (leaves[0] == 0).all()
    assert (grown.pruned_values([0.0])[0, grown.model.apply(x)] == y).all()


def test_bases_of_trees_keep_distances_and_leave_the_axes(classes):
    raw = classes.raw["test"].astype(np.float64)
    gram = (raw - raw.mean(axis=0)) @ (raw - raw.mean(axis=0)).T
    bases = [rotated_basis(classes.workspace, seed) for seed in range(2)]
    bases.append(principal_basis(classes.workspace, 64))
    turned = [basis(classes.raw["test"]).astype(np.float64) for basis in bases]
    for x in turned:
        x -= x.mean(axis=0)
        np.testing.assert_allclose(x @ x.T, gram, atol=1e-3)
        assert np.abs(np.corrcoef(x.T, raw.T)[:16, 16:]).max() < 0.95
    assert np.abs(turned[0] - turned[1]).max() > 1
    spread = principal_basis(classes.workspace, 5)(classes.raw["train"]).astype(np.float64)
    covariance = np.cov(spread.T)
    assert spread.shape == (300, 5)
    np.testing.assert_allclose(covariance, np.diag(np.sort(np.diag(covariance))[::-1]), atol=1e-3)


def test_rotated_trees_are_models_of_their_own(classes):
    found = classes.fit(fit_tree_rotated, Protocol(prunings=(0.2, 0.02)))
    assert found.test.shape == (5, 200)
    y, values = classes.y, np.empty((5, 2))
    gini = 1 - ((np.bincount(y["train"]) / len(y["train"])) ** 2).sum()
    for seed, scores in enumerate(values):
        basis = rotated_basis(classes.workspace, seed)
        for place, alpha in enumerate((0.2, 0.02)):
            model = DecisionTreeClassifier(ccp_alpha=alpha * gini, random_state=0).fit(
                basis(classes.raw["train"]), y["train"]
            )
            scores[place] = model.score(basis(classes.raw["val"]), y["val"])
            if seed == 3 and alpha == found.params["alpha"]:
                assert (model.predict(basis(classes.raw["test"])) == found.test[3]).all()
    assert found.params == {"alpha": (0.2, 0.02)[int(values.mean(axis=0).argmax())]}
    assert found.val_value == pytest.approx(values.mean(axis=0).max())
    assert len({tuple(one) for one in found.test}) == 5
    assert classes.fit(fit_tree_rotated, Protocol(rotations=2)).test.shape == (2, 200)


def test_rotation_tells_an_encoder_that_is_aligned_with_its_axes(fake_embeddings):
    """Each class has a unit of its own in z; the turned z holds the same, in no unit alone."""
    from reprkit.tasks import Task

    rng = np.random.default_rng(0)
    sizes = {"train": 400, "val": 150, "test": 300}
    y = {split: rng.integers(4, size=n) for split, n in sizes.items()}
    units = {split: 2 * (np.arange(16) == y[split][:, None]) for split in sizes}
    z = {split: 0.6 * rng.normal(size=(n, 16)) + units[split] for split, n in sizes.items()}
    turn = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    aligned = Problem(fake_embeddings(z, {"t": y}, [Task("t", "classification", 4)]), "t")
    turned = {split: rows @ turn for split, rows in z.items()}
    mixed = Problem(fake_embeddings(turned, {"t": y}, [Task("t", "classification", 4)]), "t")

    def accuracy(problem, probe):
        return (problem.fit(probe).test == y["test"]).mean()

    assert accuracy(aligned, fit_tree) > accuracy(aligned, fit_tree_rotated) + 0.1
    assert accuracy(mixed, fit_tree) == pytest.approx(accuracy(mixed, fit_tree_rotated), abs=0.08)
    assert accuracy(aligned, fit_tree_rotated) == pytest.approx(accuracy(mixed, fit_tree_rotated), abs=0.05)
    assert accuracy(aligned, fit_tree_pca) == pytest.approx(accuracy(mixed, fit_tree_pca), abs=0.03)
    assert accuracy(aligned, fit_linear) == pytest.approx(accuracy(mixed, fit_linear), abs=0.03)


# The network.


def test_mlp_reads_what_no_linear_probe_can(fake_embeddings):
    from reprkit.tasks import Task

    rng = np.random.default_rng(0)
    sizes = {"train": 600, "val": 200, "test": 300}
    z = {split: 3 + rng.uniform(-1, 1, size=(n, 4)) * [1, 5, 1, 20] for split, n in sizes.items()}
    corner = {split: ((rows[:, 0] > 3) ^ (rows[:, 1] > 3)).astype(int) for split, rows in z.items()}
    product = {split: 50 + 7 * (rows[:, 0] - 3) * (rows[:, 1] - 3) for split, rows in z.items()}
    tasks = [Task("corner", "classification", 2), Task("product", "regression", 1)]
    made = fake_embeddings(z, {"corner": corner, "product": product}, tasks)
    found = Problem(made, "corner").fit(fit_mlp)
    assert (
        (found.test == corner["test"]).mean()
        > 0.9
        > 0.65
        > (Problem(made, "corner").fit(fit_linear).test == corner["test"]).mean()
    )
    np.testing.assert_allclose(np.exp(found.log_probabilities).sum(axis=1), 1)
    assert found.selected_by == "log_loss"
    assert found.params["penalty"] in PENALTIES
    values = Problem(made, "product").fit(fit_mlp)
    assert r2_score(product["test"], values.test) > 0.85
    assert r2_score(product["test"], values.test) == pytest.approx(values.val_value, abs=0.1)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_mlp_has_the_val_score_it_claims(toy, fake_embeddings, kind):
    made = toy(classes={"left": 4}, kinds={"left": kind}, noise=1.5)
    splits = {"train": "train", "val": "val", "test": "val"}
    targets = {"left": {to: made.targets(split, "left").copy() for to, split in splits.items()}}
    if kind == "classification":
        targets["left"]["train"][targets["left"]["train"] == 3] = -1  # a class that val holds and train lacks
    same = fake_embeddings({to: made.z(split) for to, split in splits.items()}, targets, list(made.tasks.values()))
    problem = Problem(same, "left")
    found, y = problem.fit(fit_mlp), problem.y["val"]
    if kind == "regression":
        assert found.val_value == pytest.approx(r2_score(y, found.test))
        return
    probabilities = np.exp(found.log_probabilities).clip(min=np.finfo(float).eps)
    assert found.val_value == pytest.approx(-np.log(probabilities[np.arange(len(y)), y]).mean())
    assert not (found.test == 3).any()
