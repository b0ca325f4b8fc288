"""What the estimators have in common: scikit-learn's conventions outside, the suite's workspace inside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from reprkit.analysis import solver
from reprkit.analysis.probes.data import Scale, TaskData
from reprkit.analysis.probes.protocol import Protocol
from reprkit.analysis.rows import Rows
from reprkit.analysis.workspace import Workspace
from reprkit.tasks import Task

RULES = Protocol()
"""Where the suite's settings are the estimators' too."""


class Table:
    """Rows and targets of one task behind the part of an embeddings file that a `Workspace` reads.

    All rows are the train split; val and test, which no estimator reads, repeat the first.
    """

    label, seed, groups, splits = "estimator", 0, "", ("train", "val", "test")

    def __init__(self, x: NDArray[np.float32], y: NDArray, task: Task) -> None:
        self._x, self._y = x, y
        self.dim, self.tasks, self.trained_tasks = x.shape[1], {task.name: task}, (task.name,)

    def num_rows(self, split: str) -> int:
        """N, or 1."""
        return len(self._x) if split == "train" else 1

    def blocks(self, split: str, rows: int) -> Iterator[NDArray[np.float32]]:
        """Rows [n, D] in order."""
        return (block for _, block in Rows.of(self._x[: self.num_rows(split)]).blocks(rows))

    def targets(self, split: str, task: str) -> NDArray:
        """[N] class indices or values."""
        return self._y[: self.num_rows(split)]


class Probe(BaseEstimator):
    """What all have in common: checks, and a workspace of the fitted rows.

    Attributes:
        n_features_in_: D.
        mean_, scale_: [D] the standardisation.
    """

    mean_: NDArray[np.float64]
    scale_: NDArray[np.float64]

    def _start(self, x: NDArray[np.float32], y: NDArray, task: Task) -> tuple[Workspace, TaskData]:
        workspace = Workspace(Table(x, y, task))  # type: ignore[arg-type]
        self.mean_, self.scale_ = workspace.mean, workspace.scale
        return workspace, TaskData.of(workspace, task.name)

    def _rows(self, X: Any) -> NDArray[np.float32]:
        return validate_data(self, X, reset=False, dtype=np.float32)

    def _centred(self, X: Any) -> NDArray[np.float32]:
        return self._rows(X) - self.mean_.astype(np.float32)

    def _standard(self, X: Any) -> NDArray[np.float64]:
        return (self._rows(X) - self.mean_) * self.scale_

    def _learn(self, workspace: Workspace, data: TaskData) -> None:
        """Fit to the train rows of a workspace."""
        raise NotImplementedError


class Classifier(ClassifierMixin, Probe):
    """Of classes; `classes_` [C] holds them in order."""

    classes_: NDArray

    def fit(self, X: Any, y: Any) -> Any:
        """Fit to rows X [N, D] and their classes y [N].

        Raises:
            ValueError: NaN or infinite values, shapes that do not fit, or fewer than two classes.
        """
        X, y = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("a probe needs samples of two classes or more; y holds 1 class")
        self._learn(*self._start(X, codes.astype(np.int64), Task("y", "classification", len(self.classes_))))
        return self

    def _scores(self, X: Any) -> NDArray[np.float64]:
        """[n, C], the highest wins, the first of equal ones."""
        raise NotImplementedError

    def predict(self, X: Any) -> NDArray:
        """The class [n] of each row of X [n, D]."""
        check_is_fitted(self)
        return self.classes_[self._scores(X).argmax(axis=1)]


class WithScores(Classifier):
    """Whose scores mean something."""

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Scores [n, C], the highest wins; of two classes [n], the second's less the first's."""
        check_is_fitted(self)
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores


class WithLogits(WithScores):
    """Whose scores are logits."""

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Log-probabilities [n, C]."""
        check_is_fitted(self)
        return solver.log_softmax(self._scores(X).T).T

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities [n, C]."""
        return np.exp(self.predict_log_proba(X))


class WithShares(Classifier):
    """Whose scores are shares of a count. They reach 0: no log-loss should be taken of them."""

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Shares [n, C]."""
        check_is_fitted(self)
        scores = self._scores(X)
        return scores / scores.sum(axis=1, keepdims=True)


class Regressor(RegressorMixin, Probe):
    """Of real values, which are standardised by those that are fitted."""

    def fit(self, X: Any, y: Any) -> Any:
        """Fit to rows X [N, D] and their values y [N].

        Raises:
            ValueError: NaN or infinite values, shapes that do not fit, or fewer than two rows.
        """
        X, y = validate_data(self, X, y, dtype=np.float32, y_numeric=True, ensure_min_samples=2)
        workspace, data = self._start(X, np.asarray(y, np.float64), Task("y", "regression", 1))
        self._unit = Scale.of(data)
        self._learn(workspace, data)
        return self

    def _values(self, X: Any) -> NDArray[np.float64]:
        """[n] standardised."""
        raise NotImplementedError

    def predict(self, X: Any) -> NDArray[np.float64]:
        """The value [n] of each row of X [n, D]."""
        check_is_fitted(self)
        return self._unit.back(self._values(X))


def seed_of(random_state: Any) -> int:
    """An integer as it is; anything else draws one."""
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31))
