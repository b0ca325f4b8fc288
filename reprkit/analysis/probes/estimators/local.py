"""Nearest neighbours and pruned trees as estimators."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.neighbors import exact_neighbors
from reprkit.analysis.probes.data import TaskData
from reprkit.analysis.probes.estimators.base import RULES, Probe, Regressor, WithShares, seed_of
from reprkit.analysis.probes.knn import votes, weighted_means
from reprkit.analysis.probes.tree import Tree, principal_basis, rotated_basis
from reprkit.analysis.workspace import Workspace

BASES = ("raw", "pca", "rotated")


class _CosineKNN(Probe):
    """The k nearest rows by cosine of the raw, uncentred rows."""

    def __init__(self, k: int = 5, vote: Literal["uniform", "exp"] = "uniform") -> None:
        self.k, self.vote = k, vote

    def _learn(self, workspace: Workspace, data: TaskData) -> None:
        self._bank, self._labels = workspace.z("train").copy(), data.y["train"]

    def _neighbours(self, X: Any) -> tuple[NDArray, NDArray, list[int]]:
        """Labels [n, k] and weights [n, k] of the neighbours, and k."""
        rows, k = self._rows(X), min(self.k, len(self._bank))
        found, cosines = exact_neighbors(self._bank, k, rows)
        weights = np.exp((cosines - 1) / RULES.temperature) if self.vote == "exp" else np.ones_like(cosines)
        return self._labels[found], weights, [k]


class CosineKNNClassifier(_CosineKNN, WithShares):
    """`knn`: vote of the k nearest rows by cosine; a tie goes to the first class.

    Args:
        k: neighbours; at most as many as there are rows.
        vote: `uniform`, or `exp`: exp(cosine / 0.07).
    """

    def _scores(self, X: Any) -> NDArray[np.float64]:
        return votes(*self._neighbours(X), len(self.classes_))[0]


class CosineKNNRegressor(_CosineKNN, Regressor):
    """`knn`: weighted mean of the values of the k nearest rows by cosine.

    Args:
        k, vote: as of `CosineKNNClassifier`.
    """

    def _values(self, X: Any) -> NDArray[np.float64]:
        labels, weights, grid = self._neighbours(X)
        return weighted_means(self._unit.forward(labels), weights, grid)[0]


class _PrunedTree(Probe):
    """A CART tree, grown until its leaves are pure and pruned by cost and complexity."""

    def __init__(
        self,
        alpha: float = 0.01,
        basis: Literal["raw", "pca", "rotated"] = "raw",
        components: int = 64,
        random_state: Any = 0,
    ) -> None:
        self.alpha, self.basis, self.components, self.random_state = alpha, basis, components, random_state

    def _learn(self, workspace: Workspace, data: TaskData) -> None:
        if self.basis not in BASES:
            raise ValueError(f"basis should be one of {', '.join(BASES)}, not {self.basis!r}")
        seed = seed_of(self.random_state)
        self._basis = None
        if self.basis != "raw":
            pca = self.basis == "pca"
            self._basis = principal_basis(workspace, self.components) if pca else rotated_basis(workspace, seed)
        tie_breaking = RULES.seed if self.basis == "rotated" else seed
        self.tree_ = Tree.grow(data, self._turned(workspace.z("train")), data.y["train"], tie_breaking)

    def _turned(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return rows if self._basis is None else self._basis(rows)

    def _held(self, X: Any) -> NDArray[np.float64]:
        """What the leaf of each row holds: [n, C] shares of classes, or [n, 1] values."""
        leaves = self.tree_.pruned([self.alpha])[0, self.tree_.model.apply(self._turned(self._rows(X)))]
        return self.tree_.model.tree_.value[leaves, 0]


class PrunedTreeClassifier(_PrunedTree, WithShares):
    """`tree`, `tree_pca`, `tree_rotated`: a pruned CART tree (Gini).

    Args:
        alpha: what a leaf costs, as a share of the impurity of the root.
        basis: `raw` axes, `pca` (leading principal components) or `rotated` (a random rotation).
        components: principal components at most.
        random_state: decides between equal splits; with `rotated`, draws the rotation instead.
    """

    def _scores(self, X: Any) -> NDArray[np.float64]:
        return self._held(X)


class PrunedTreeRegressor(_PrunedTree, Regressor):
    """The same for real values, by squared error.

    Args:
        alpha, basis, components, random_state: as of `PrunedTreeClassifier`.
    """

    def _values(self, X: Any) -> NDArray[np.float64]:
        return self._unit.forward(self._held(X)[:, 0])
