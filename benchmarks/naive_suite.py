"""The probe suite as one would write it with scikit-learn: task by task, candidate by candidate, nothing shared.

The protocol is reprkit's own: the same scaler, grids and bases, chosen on the same validation rows by the same measure.
Intervals and tables are left out, so the peer does a little less. The MLP is scikit-learn's, with other first weights:
its result differs by chance.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from reprkit.analysis.probes.protocol import Protocol
from reprkit.analysis.universal import perceptron

Splits = Mapping[str, np.ndarray]
Predict = Callable[[np.ndarray], np.ndarray]
Tried = Iterator[tuple[Predict, float]]
BATCH, HIDDEN = 128, 64


def fit(probe: str, z: Splits, y: Splits, rules: Protocol) -> np.ndarray:
    """Predictions [n_test] of the candidate that was best on val; [models, n_test] of a probe of several models."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # candidates that stop before they converge
        if probe == "tree_rotated":
            return _rotated(z, y, rules)
        x = z
        if probe not in ("knn", "tree", "tree_pca"):
            scaler = StandardScaler().fit(z["train"])
            x = {split: scaler.transform(rows) for split, rows in z.items()}
        return _best(CANDIDATES[probe](x, y, rules))(x["test"])


def _best(tried: Tried) -> Predict:
    best, best_value = None, -np.inf
    for predict, value in tried:
        if best is None or value > best_value:
            best, best_value = predict, value
    return best


def _by_accuracy(models: Iterable[Any], x: Splits, y: Splits) -> Tried:
    for model in models:
        model.fit(x["train"], y["train"])
        yield model.predict, model.score(x["val"], y["val"])


def _by_log_loss(models: Iterable[Any], x: Splits, y: Splits) -> Tried:
    for model in models:
        model.fit(x["train"], y["train"])
        yield model.predict, -log_loss(y["val"], model.predict_proba(x["val"]), labels=model.classes_)


def _ncm(x: Splits, y: Splits, rules: Protocol) -> Tried:
    return _by_accuracy([NearestCentroid()], x, y)


def _lda(x: Splits, y: Splits, rules: Protocol) -> Tried:
    return _by_log_loss((LinearDiscriminantAnalysis(solver="lsqr", shrinkage=s) for s in rules.shrinkage), x, y)


def _knn(x: Splits, y: Splits, rules: Protocol) -> Tried:
    weights = {"uniform": "uniform", "exp": lambda distances: np.exp(-distances / rules.temperature)}
    options = {"algorithm": "brute", "metric": "cosine"}
    every = ((k, vote) for vote in rules.votes for k in rules.neighbors if k <= len(x["train"]))
    return _by_accuracy((KNeighborsClassifier(k, weights=weights[vote], **options) for k, vote in every), x, y)


def _linear(x: Splits, y: Splits, rules: Protocol) -> Tried:
    best, worse = -np.inf, 0
    halved = 2 if y["train"].max() == 1 else 1  # reprkit has weights for both classes: half the penalty
    models = (LogisticRegression(C=halved * c, max_iter=1000) for c in rules.linear_c)
    for predict, value in _by_log_loss(models, x, y):
        yield predict, value
        worse = worse + 1 if value < best else 0
        best = max(best, value)
        if worse == 2:
            break


def _svm_linear(x: Splits, y: Splits, rules: Protocol) -> Tried:
    return _by_accuracy((LinearSVC(C=c, dual="auto") for c in rules.svm_linear_c), x, y)


def _svm_rbf(x: Splits, y: Splits, rules: Protocol) -> Tried:
    return _by_accuracy((SVC(C=c) for c in rules.svm_rbf_c), x, y)


def _tree(x: Splits, y: Splits, rules: Protocol) -> Tried:
    return _by_accuracy(_trees(y, rules), x, y)


def _trees(y: Splits, rules: Protocol) -> Iterator[DecisionTreeClassifier]:
    gini = 1 - ((np.bincount(y["train"]) / len(y["train"])) ** 2).sum()  # of the root
    for alpha in rules.prunings:
        yield DecisionTreeClassifier(ccp_alpha=alpha * gini, random_state=rules.seed)


def _tree_pca(z: Splits, y: Splits, rules: Protocol) -> Tried:
    pca = PCA(min(rules.components, z["train"].shape[1])).fit(z["train"])
    x = {split: pca.transform(rows) for split, rows in z.items()}
    for predict, value in _tree(x, y, rules):
        yield lambda rows, predict=predict: predict(pca.transform(rows)), value


def _rotated(z: Splits, y: Splits, rules: Protocol) -> np.ndarray:
    values, predictions = [], []
    for seed in range(rules.rotations):
        width = z["train"].shape[1]
        axes, upper = np.linalg.qr(np.random.default_rng([seed, 5]).normal(size=(width, width)))
        axes *= np.sign(np.diag(upper))
        mean = z["train"].mean(axis=0, dtype=np.float64)
        x = {split: ((rows - mean) @ axes).astype(np.float32) for split, rows in z.items()}
        tried = list(_tree(x, y, rules))
        values.append([value for _, value in tried])
        predictions.append([predict(x["test"]) for predict, _ in tried])
    best = int(np.mean(values, axis=0).argmax())
    return np.stack([each[best] for each in predictions])


def _mlp(x: Splits, y: Splits, rules: Protocol) -> Tried:
    for penalty in perceptron.PENALTIES:
        batch = min(BATCH, len(x["train"]))
        model = MLPClassifier(
            (HIDDEN,), alpha=penalty * batch, batch_size=batch, learning_rate_init=perceptron.RATE, random_state=0
        )
        lowest, stale = np.inf, 0
        for _ in range(perceptron.MAX_EPOCHS):
            model.partial_fit(x["train"], y["train"], classes=np.unique(y["train"]))
            loss = log_loss(y["val"], model.predict_proba(x["val"]), labels=model.classes_)
            stale = 0 if loss < lowest else stale + 1
            if loss < lowest:
                lowest = loss
                test = model.predict(x["test"])  # the weights of this epoch are not kept
                yield lambda _, test=test: test, -loss
            if stale == perceptron.PATIENCE:
                break


CANDIDATES: dict[str, Callable[[Splits, Splits, Protocol], Tried]] = {
    "ncm": _ncm,
    "lda": _lda,
    "knn": _knn,
    "linear": _linear,
    "svm_linear": _svm_linear,
    "svm_rbf": _svm_rbf,
    "tree": _tree,
    "tree_pca": _tree_pca,
    "mlp": _mlp,
}
