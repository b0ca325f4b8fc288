"""RBF support vector machines, exact and by Nystroem features, as estimators."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.svm import SVC, SVR
from sklearn.utils.validation import check_is_fitted

from reprkit.analysis.linalg import rbf_kernel
from reprkit.analysis.probes.data import TaskData
from reprkit.analysis.probes.estimators.base import RULES, Classifier, Probe, Regressor, WithScores, seed_of
from reprkit.analysis.probes.nystroem import shared_features, shared_moments
from reprkit.analysis.probes.ridge import ridge_path
from reprkit.analysis.workspace import Workspace


class _RBFSVM(Probe):
    """libsvm on a kernel matrix made by matrix products."""

    gamma: float | None

    def _solve(self, workspace: Workspace, model: Any, y: NDArray) -> None:
        rows = workspace.standardised("train", np.arange(workspace.num_rows("train")))
        self.gamma_ = workspace.gamma if self.gamma is None else self.gamma
        self._model = model.fit(rbf_kernel(rows, rows, self.gamma_), y)
        self.support_ = self._model.support_
        self._support_rows = rows[self.support_]
        self._fitted_rows = len(rows)

    def _kernel(self, X: Any) -> NDArray[np.float64]:
        """[n, N]; libsvm reads the columns of the support vectors only."""
        rows = self._standard(X)
        values = np.zeros((len(rows), self._fitted_rows))
        values[:, self.support_] = rbf_kernel(rows, self._support_rows, self.gamma_)
        return values


class RBFSVMClassifier(_RBFSVM, Classifier):
    """`svm_rbf`: hinge loss, one class against one: the optimum of scikit-learn's `SVC` on standardised features.

    Args:
        C: inverse regularisation strength.
        gamma: of exp(-gamma |x - x'|^2); None: 1 / (D * variance), scikit-learn's "scale".
    """

    def __init__(self, C: float = 1.0, gamma: float | None = None) -> None:
        self.C, self.gamma = C, gamma

    def _learn(self, workspace: Workspace, data: TaskData) -> None:
        self._solve(workspace, SVC(C=self.C, kernel="precomputed"), data.y["train"])

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """As of `SVC`: [n, C], or [n] of two classes."""
        check_is_fitted(self)
        return self._model.decision_function(self._kernel(X))

    def predict(self, X: Any) -> NDArray:
        """The class [n] of each row of X [n, D]."""
        check_is_fitted(self)
        return self.classes_[self._model.predict(self._kernel(X))]


class RBFSVMRegressor(_RBFSVM, Regressor):
    """`svm_rbf`: tube loss on standardised values: the optimum of scikit-learn's `SVR` on standardised features.

    Args:
        C, gamma: as of `RBFSVMClassifier`.
        epsilon: half-width of the tube, in standard deviations of the values.
    """

    def __init__(self, C: float = 1.0, gamma: float | None = None, epsilon: float = 0.1) -> None:
        self.C, self.gamma, self.epsilon = C, gamma, epsilon

    def _learn(self, workspace: Workspace, data: TaskData) -> None:
        target = self._unit.forward(data.y["train"])
        self._solve(workspace, SVR(C=self.C, epsilon=self.epsilon, kernel="precomputed"), target)

    def _values(self, X: Any) -> NDArray[np.float64]:
        return self._model.predict(self._kernel(X))


class _Nystroem(Probe):
    """Ridge regression on Nystroem features; penalty 1 / C."""

    C: float
    landmarks: int
    random_state: Any

    def _learn(self, workspace: Workspace, data: TaskData) -> None:
        rules = replace(RULES, landmarks=self.landmarks, seed=seed_of(self.random_state))
        self._features, moments = shared_features(workspace, rules), shared_moments(workspace, data, rules)
        self.coef_ = ridge_path(moments.eigen, moments.crosses["y"], moments.count, [1 / self.C])[0]
        y = data.y["train"]
        centre = 2 * np.bincount(y) / len(y) - 1 if data.task.is_discrete else np.zeros(1)
        self.intercept_ = centre - self.coef_ @ moments.mean

    def _scores(self, X: Any) -> NDArray[np.float64]:
        return self._features(self._standard(X)) @ self.coef_.T + self.intercept_


class NystroemClassifier(_Nystroem, WithScores):
    """What stands for `svm_rbf` above its limit of rows: a least-squares SVM on Nystroem features.

    Args:
        C: inverse regularisation strength.
        landmarks: rows that the features are made of, at most.
        random_state: of their draw.
    """

    def __init__(self, C: float = 1.0, landmarks: int = 2048, random_state: Any = 0) -> None:
        self.C, self.landmarks, self.random_state = C, landmarks, random_state


class NystroemRegressor(_Nystroem, Regressor):
    """The same for real values: ridge regression on Nystroem features.

    Args:
        C, landmarks, random_state: as of `NystroemClassifier`.
    """

    def __init__(self, C: float = 1.0, landmarks: int = 2048, random_state: Any = 0) -> None:
        self.C, self.landmarks, self.random_state = C, landmarks, random_state

    def _values(self, X: Any) -> NDArray[np.float64]:
        return self._scores(X)[:, 0]
