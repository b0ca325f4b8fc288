"""Decision trees on three bases of one representation: its own axes, principal components, random rotations.

A tree asks one coordinate at a time. On the raw axes it rewards an encoder whose single units carry a task; a rotation
keeps all that any other probe reads and takes that reward away. Raw minus rotated accuracy tells how much of the score
is owed to the axes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.linalg import row_slices
from reprkit.analysis.probes.data import TaskData, fitting_rows, labelled_blocks
from reprkit.analysis.probes.outcome import Outcome, Selection, score
from reprkit.analysis.probes.protocol import Protocol
from reprkit.analysis.rows import BLOCK_ROWS
from reprkit.analysis.workspace import Workspace

if TYPE_CHECKING:
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

Basis = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Raw rows [n, D] -> coordinates [n, d]."""


def fit_tree(workspace: Workspace, data: TaskData, protocol: Protocol) -> Outcome:
    """CART tree (Gini, or squared error) on the raw axes, depth and leaf size by validation.

    scikit-learn visits features in a random order, which decides between equal splits; one fixed seed is used for all
    trees, so the last half percent of accuracy is that draw's.
    """
    return _fit(workspace, data, protocol, [lambda z: z])


def fit_tree_pca(workspace: Workspace, data: TaskData, protocol: Protocol) -> Outcome:
    """The same on the leading principal components of the centred train rows."""
    return _fit(workspace, data, protocol, [principal_basis(workspace, protocol.components)])


def fit_tree_rotated(workspace: Workspace, data: TaskData, protocol: Protocol) -> Outcome:
    """The same after random rotations, each a model of its own whose metrics are averaged.

    Depth and leaf size are chosen on the first rotation and kept for the others.
    """
    bases = (rotated_basis(workspace, seed) for seed in range(protocol.rotations))
    return _fit(workspace, data, protocol, bases)


def principal_basis(workspace: Workspace, most: int) -> Basis:
    """Projection to the leading principal components with variance, at most `most` and at least one."""
    values, vectors = workspace.statistics.eigen
    kept = vectors[:, : max(1, min(most, int(np.count_nonzero(values))))]
    return partial(_project, mean=workspace.mean, axes=kept)


def rotated_basis(workspace: Workspace, seed: int) -> Basis:
    """A rotation about the train mean, uniform over all (F. Mezzadri, Notices of the AMS 54, 2007)."""
    drawn = np.random.default_rng([seed, 5]).normal(size=(workspace.dim, workspace.dim))
    axes, upper = np.linalg.qr(drawn)
    return partial(_project, mean=workspace.mean, axes=axes * np.sign(np.diag(upper)))


def _project(z: NDArray[np.float32], *, mean: NDArray, axes: NDArray) -> NDArray[np.float32]:
    out = np.empty((len(z), axes.shape[1]), np.float32)
    for part in row_slices(len(z), BLOCK_ROWS):
        out[part] = (z[part] - mean) @ axes
    return out


def _fit(workspace: Workspace, data: TaskData, protocol: Protocol, bases: Iterable[Basis]) -> Outcome:
    """Trees on each basis; depth and leaf size are chosen on the first."""
    picked, remarks = fitting_rows(data, protocol)
    z, target = workspace.rows("train", picked), data.targets["train"][picked]
    test, val_values = [], []
    params: dict[str, Any] = {}
    for basis in bases:
        x = basis(z)
        leaves = [params["min_samples_leaf"]] if params else protocol.leaves
        depths = [params["max_depth"]] if params else protocol.depths
        grown = [Tree.grow(data, x, target, depths, leaf, protocol.seed) for leaf in leaves]
        candidates = [(depth, tree) for depth in depths for tree in grown]
        selection = Selection()
        for (depth, tree), predicted in zip(
            candidates, predict(workspace, data, "val", basis, candidates), strict=True
        ):
            chosen = {"max_depth": depth, "min_samples_leaf": tree.leaf}
            selection.offer(score(data.task, predicted, data.y["val"]), chosen, (depth, tree))
        params = selection.params
        val_values.append(selection.value)
        test += predict(workspace, data, "test", basis, [selection.model])
    together = np.stack(test) if len(test) > 1 else test[0]
    return Outcome(together, params, float(np.mean(val_values)), len(picked), remarks=remarks)


@dataclass(frozen=True)
class Tree:
    """A tree grown to the largest of some depths, which holds every shallower one.

    A node is split without regard to what lies below it, so cutting a tree at some depth leaves the tree that would
    have been grown to that depth (but for the order in which equal splits are met).

    Attributes:
        model: scikit-learn's tree.
        leaf: fewest samples of its leaves.
    """

    model: DecisionTreeClassifier | DecisionTreeRegressor
    leaf: int

    @classmethod
    def grow(
        cls, data: TaskData, x: NDArray, target: NDArray, depths: Sequence[int | None], leaf: int, seed: int
    ) -> Tree:
        """Fit to rows x [n, d] and their targets [n]; None among `depths` is without limit."""
        from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

        kind = DecisionTreeClassifier if data.task.is_discrete else DecisionTreeRegressor
        deepest = None if None in depths else max(depth for depth in depths if depth is not None)
        return cls(kind(max_depth=deepest, min_samples_leaf=leaf, random_state=seed).fit(x, target), leaf)

    def ancestors(self, depth: int | None) -> NDArray[np.int64]:
        """For each node the one at `depth` above it; the node itself if it lies no deeper."""
        tree = self.model.tree_
        found = np.arange(tree.node_count)
        level, below = 0, np.zeros(1, np.int64)
        while depth is not None and len(below):
            inner = below[tree.children_left[below] >= 0]
            for children in (tree.children_left[inner], tree.children_right[inner]):
                if level >= depth:
                    found[children] = found[inner]
            below = np.concatenate([tree.children_left[inner], tree.children_right[inner]])
            level += 1
        return found

    def values(self) -> NDArray:
        """[nodes] predicted class index or value, were the node a leaf."""
        held = self.model.tree_.value[:, 0]
        return self.model.classes_[held.argmax(axis=1)] if hasattr(self.model, "classes_") else held[:, 0]


def predict(
    workspace: Workspace, data: TaskData, split: str, basis: Basis, models: Sequence[tuple[int | None, Tree]]
) -> list[NDArray]:
    """Predictions [n] of trees cut at some depth, for the rows of a split that have a target."""
    grown = {id(tree): tree for _, tree in models}
    leaves: dict[int, list[NDArray]] = {key: [np.zeros(0, np.int64)] for key in grown}
    for block in labelled_blocks(workspace, data, split):
        x = basis(block)
        for key, tree in grown.items():
            leaves[key].append(tree.model.apply(x))
    reached = {key: np.concatenate(parts) for key, parts in leaves.items()}
    return [tree.values()[tree.ancestors(depth)[reached[id(tree)]]] for depth, tree in models]
