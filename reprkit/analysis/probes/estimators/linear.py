"""Linear probes as estimators: class means, LDA, logistic and ridge regression, linear SVMs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis import solver
from reprkit.analysis.probes.data import Moments, TaskData
from reprkit.analysis.probes.discriminant import discriminants
from reprkit.analysis.probes.estimators.base import Probe, Regressor, WithLogits, WithScores
from reprkit.analysis.probes.ridge import cross_moments, ridge_path
from reprkit.analysis.workspace import Workspace


class NearestClassMean(WithScores):
    """`ncm`: the class whose mean is nearest in standardised coordinates; how frequent a class is plays no part."""

    def _learn(self, workspace: Workspace, data: TaskData) -> None:
        self.means_ = Moments.of(workspace, data).class_means

    def _scores(self, X: Any) -> NDArray[np.float64]:
        return self._standard(X) @ self.means_.T - (self.means_**2).sum(axis=1) / 2


class ShrunkLDA(WithLogits):
    """`lda`: Gaussian classes of one covariance, shrunk to a multiple of the identity.

    Args:
        shrinkage: share of that multiple, from 0 to 1.
    """

    def __init__(self, shrinkage: float = 0.1) -> None:
        self.shrinkage = shrinkage

    def _learn(self, workspace: Workspace, data: TaskData) -> None:
        moments = Moments.of(workspace, data)
        weights, bias = discriminants(moments, moments.class_counts, moments.class_means, (self.shrinkage,))
        self.coef_, self.intercept_ = weights[0], bias[0]

    def _scores(self, X: Any) -> NDArray[np.float64]:
        return self._standard(X) @ self.coef_.T + self.intercept_


class _Linear(Probe):
    """A linear fit of centred rows: `coef_` [K, D] and `intercept_` [K] for raw ones, `n_iter_` passes over them."""

    def _fit(self, workspace: Workspace, loss: solver.Loss, outputs: int, c: float, **options: Any) -> None:
        rows = workspace.centred("train")
        self._fitted = solver.fit_linear(
            rows,
            loss,
            outputs,
            c,
            count=rows.count,
            scale=workspace.scale,
            eigen=workspace.correlation_eigen,
            **options,
        )
        self.coef_, self.n_iter_ = self._fitted.weights, self._fitted.evaluations
        self.intercept_ = self._fitted.bias - self.coef_ @ self.mean_

    def _scores(self, X: Any) -> NDArray[np.float64]:
        return self._fitted.of_block(self._centred(X)).T


class LinearClassifier(_Linear, WithLogits):
    """`linear`: multinomial logistic regression.

    Args:
        C: inverse regularisation strength, as scikit-learn counts it.
    """

    def __init__(self, C: float = 0.1) -> None:
        self.C = C

    def _learn(self, workspace: Workspace, data: TaskData) -> None:
        y = data.y["train"]
        counts = np.bincount(y)
        options = {"curvature": solver.logistic_curvature(counts), "bias": np.log(counts / len(y))}
        self._fit(workspace, solver.cross_entropy(y), len(counts), self.C, **options)


class LinearSVMClassifier(_Linear, WithScores):
    """`svm_linear`: squared hinge, one class against the rest: the optimum of scikit-learn's `LinearSVC`.

    Args:
        C: inverse regularisation strength.
    """

    def __init__(self, C: float = 0.01) -> None:
        self.C = C

    def _learn(self, workspace: Workspace, data: TaskData) -> None:
        loss = solver.squared_hinge(data.y["train"])
        self._fit(workspace, loss, len(self.classes_), self.C, penalise_bias=True)


class LinearSVMRegressor(_Linear, Regressor):
    """`svm_linear`: squared tube loss on standardised values: the optimum of scikit-learn's `LinearSVR`.

    Args:
        C: inverse regularisation strength.
        epsilon: half-width of the tube, in standard deviations of the values.
    """

    def __init__(self, C: float = 0.01, epsilon: float = 0.1) -> None:
        self.C, self.epsilon = C, epsilon

    def _learn(self, workspace: Workspace, data: TaskData) -> None:
        loss = solver.squared_tube(self._unit.forward(data.y["train"]), self.epsilon)
        self._fit(workspace, loss, 1, self.C, penalise_bias=True)

    def _values(self, X: Any) -> NDArray[np.float64]:
        return self._scores(X)[:, 0]


class RidgeRegressor(Regressor):
    """`linear` of real values: ridge regression on standardised features, in closed form.

    Args:
        alpha: regularisation, as scikit-learn counts it.
    """

    def __init__(self, alpha: float = 100.0) -> None:
        self.alpha = alpha

    def _learn(self, workspace: Workspace, data: TaskData) -> None:
        moments = Moments.of(workspace, data)
        cross = cross_moments(workspace.centred("train"), self._unit.forward(data.y["train"])[None]) * workspace.scale
        self.coef_ = ridge_path(moments.eigen, cross, moments.count, [self.alpha])[0][0]
        self.intercept_ = -float(self.coef_ @ moments.mean)

    def _values(self, X: Any) -> NDArray[np.float64]:
        return self._standard(X) @ self.coef_ + self.intercept_
