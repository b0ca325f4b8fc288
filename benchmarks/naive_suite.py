"""The probe suite as one would write it with scikit-learn: task by task, candidate by candidate, nothing shared.

The protocol is reprkit's own: the same scaler, the same grids, chosen on the same validation rows by the same measure.
Intervals and tables are left out, so the peer does a little less.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from reprkit.analysis.probes.protocol import Protocol

Splits = Mapping[str, np.ndarray]


def fit(probe: str, z: Splits, y: Splits, rules: Protocol) -> np.ndarray:
    """Predictions [n_test] of the candidate that was best on val."""
    x = z
    if probe not in ("knn", "tree"):
        scaler = StandardScaler().fit(z["train"])
        x = {split: scaler.transform(rows) for split, rows in z.items()}
    best, best_value = None, -np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # candidates that stop before they converge
        for model, value in CANDIDATES[probe](x, y, rules):
            if value > best_value:
                best, best_value = model, value
    return best.predict(x["test"])


def _accurate(models: Iterable[Any], x: Splits, y: Splits) -> Iterator[tuple[Any, float]]:
    for model in models:
        model.fit(x["train"], y["train"])
        yield model, model.score(x["val"], y["val"])


def _knn(x: Splits, y: Splits, rules: Protocol) -> Iterator[tuple[Any, float]]:
    weights = {"uniform": "uniform", "exp": lambda distances: np.exp(-distances / rules.temperature)}
    return _accurate(
        (
            KNeighborsClassifier(k, weights=weights[vote], algorithm="brute", metric="cosine")
            for vote in rules.votes
            for k in rules.neighbors
        ),
        x,
        y,
    )


def _linear(x: Splits, y: Splits, rules: Protocol) -> Iterator[tuple[Any, float]]:
    best, worse = -np.inf, 0
    for c in rules.linear_c:
        scale = 2 if y["train"].max() == 1 else 1  # reprkit gives both classes weights, which halves the penalty
        model = LogisticRegression(C=scale * c, max_iter=1000).fit(x["train"], y["train"])
        value = -log_loss(y["val"], model.predict_proba(x["val"]), labels=model.classes_)
        worse = worse + 1 if value < best else 0
        best = max(best, value)
        yield model, value
        if worse == 2:
            break


def _svm_linear(x: Splits, y: Splits, rules: Protocol) -> Iterator[tuple[Any, float]]:
    return _accurate((LinearSVC(C=c, dual="auto") for c in rules.svm_linear_c), x, y)


def _svm_rbf(x: Splits, y: Splits, rules: Protocol) -> Iterator[tuple[Any, float]]:
    return _accurate((SVC(C=c) for c in rules.svm_rbf_c), x, y)


def _tree(x: Splits, y: Splits, rules: Protocol) -> Iterator[tuple[Any, float]]:
    return _accurate(
        (
            DecisionTreeClassifier(max_depth=depth, min_samples_leaf=leaf, random_state=rules.seed)
            for depth in rules.depths
            for leaf in rules.leaves
        ),
        x,
        y,
    )


CANDIDATES: dict[str, Callable[[Splits, Splits, Protocol], Iterator[tuple[Any, float]]]] = {
    "knn": _knn,
    "linear": _linear,
    "svm_linear": _svm_linear,
    "svm_rbf": _svm_rbf,
    "tree": _tree,
}
