"""Decision trees on three bases of one representation: its own axes, principal components, random rotations.

A tree is grown until its leaves are pure and then pruned by cost and complexity, as CART was published (Breiman,
Friedman, Olshen and Stone, "Classification and Regression Trees", 1984, chapter 3): one grown tree holds the pruned
trees of all strengths, so none is grown twice.

A tree asks one coordinate at a time. On the raw axes it rewards an encoder whose single units carry a task; a rotation
keeps all that any other probe reads and takes that reward away. Raw minus rotated accuracy tells how much of the score
is owed to the axes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

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
    """CART tree (Gini, or squared error) on the raw axes, the strength of its pruning by validation.

    scikit-learn visits features in a random order, which decides between equal splits; one fixed seed is used for all
    trees, so the last half percent of accuracy is that draw's.
    """
    return _fit(workspace, data, protocol, [lambda z: z])


def fit_tree_pca(workspace: Workspace, data: TaskData, protocol: Protocol) -> Outcome:
    """The same on the leading principal components of the centred train rows."""
    return _fit(workspace, data, protocol, [principal_basis(workspace, protocol.components)])


def fit_tree_rotated(workspace: Workspace, data: TaskData, protocol: Protocol) -> Outcome:
    """The same after random rotations, each a model of its own whose metrics are averaged.

    One strength serves all: that with the best mean over the rotations on val.
    """
    bases = [rotated_basis(workspace, seed) for seed in range(protocol.rotations)]
    return _fit(workspace, data, protocol, bases)


def principal_basis(workspace: Workspace, most: int) -> Basis:
    """Projection to the leading principal components with variance, at most `most` and at least one."""
    values, vectors = workspace.statistics.eigen
    kept = vectors[:, : max(1, min(most, int(np.count_nonzero(values))))]
    return partial(_project, mean=workspace.mean, axes=kept)


def rotated_basis(workspace: Workspace, seed: int) -> Basis:
    """A rotation about the train mean, uniform over all (F. Mezzadri, Notices of the AMS 54, 2007)."""

    def make() -> NDArray[np.float64]:
        drawn = np.random.default_rng([seed, 5]).normal(size=(workspace.dim, workspace.dim))
        axes, upper = np.linalg.qr(drawn)
        return axes * np.sign(np.diag(upper))

    return partial(_project, mean=workspace.mean, axes=workspace.keep(("rotation", seed), make))


def _project(z: NDArray[np.float32], *, mean: NDArray, axes: NDArray) -> NDArray[np.float32]:
    out = np.empty((len(z), axes.shape[1]), np.float32)
    for part in row_slices(len(z), BLOCK_ROWS):
        out[part] = (z[part] - mean) @ axes
    return out


def _fit(workspace: Workspace, data: TaskData, protocol: Protocol, bases: Sequence[Basis]) -> Outcome:
    """A tree on each basis; one strength of pruning, by their mean score on val."""
    picked, remarks = fitting_rows(data, protocol)
    z, target = workspace.rows("train", picked), data.targets["train"][picked]
    trees, values = [], np.empty((len(bases), len(protocol.prunings)))
    for basis, scores in zip(bases, values, strict=True):
        trees.append(Tree.grow(data, basis(z), target, protocol.seed))
        predicted = trees[-1].pruned_values(protocol.prunings)[:, _leaves(workspace, data, "val", basis, trees[-1])]
        scores[:] = [score(data.task, one, data.y["val"]) for one in predicted]
    selection = Selection()
    for alpha, value in zip(protocol.prunings, values.mean(axis=0).tolist(), strict=True):
        selection.offer(value, {"alpha": alpha}, alpha)
    test = [
        tree.pruned_values([selection.model])[0, _leaves(workspace, data, "test", basis, tree)]
        for basis, tree in zip(bases, trees, strict=True)
    ]
    return Outcome(
        np.stack(test) if len(test) > 1 else test[0], selection.params, selection.value, len(picked), remarks=remarks
    )


@dataclass(frozen=True)
class Tree:
    """A fully grown tree, which holds every tree pruned from it.

    Attributes:
        model: scikit-learn's tree.
    """

    model: DecisionTreeClassifier | DecisionTreeRegressor

    @classmethod
    def grow(cls, data: TaskData, x: NDArray, target: NDArray, seed: int) -> Tree:
        """Fit to rows x [n, d] and their targets [n]."""
        from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

        kind = DecisionTreeClassifier if data.task.is_discrete else DecisionTreeRegressor
        return cls(kind(random_state=seed).fit(x, target))

    @cached_property
    def levels(self) -> list[NDArray[np.int64]]:
        """Inner nodes [n] of each level, the root's first."""
        tree = self.model.tree_
        found, below = [], np.zeros(1, np.int64)
        while len(inner := below[tree.children_left[below] >= 0]):
            found.append(inner)
            below = np.concatenate([tree.children_left[inner], tree.children_right[inner]])
        return found

    def pruned(self, alphas: Sequence[float]) -> NDArray[np.int64]:
        """For each strength and each node the leaf that it is in, once the tree is pruned [alphas, nodes]; a node that
        stays and is no leaf stands for itself.

        The pruned tree is the smallest of those with the least impurity of their leaves + alpha * leaves, impurity as a
        share of the root's: scikit-learn's `ccp_alpha` is alpha times the root's impurity. From the deepest nodes up, a
        node becomes a leaf where that costs no more than the best that lies below it.
        """
        tree = self.model.tree_
        impurity = tree.weighted_n_node_samples * tree.impurity
        share = impurity / impurity[0] if impurity[0] > 0 else impurity
        cost = share + np.array(alphas)[:, None]
        closed = np.zeros(cost.shape, bool)
        for nodes in reversed(self.levels):
            below = cost[:, tree.children_left[nodes]] + cost[:, tree.children_right[nodes]]
            closed[:, nodes] = cost[:, nodes] <= below
            cost[:, nodes] = np.minimum(cost[:, nodes], below)
        leaf = np.tile(np.arange(tree.node_count), (len(alphas), 1))
        for nodes in self.levels:
            above = leaf[:, nodes]
            within = (above != nodes) | closed[:, nodes]
            for children in (tree.children_left[nodes], tree.children_right[nodes]):
                leaf[:, children] = np.where(within, above, children)
        return leaf

    def pruned_values(self, alphas: Sequence[float]) -> NDArray:
        """[alphas, nodes] class index or value that each pruned tree predicts where the grown one reaches a node."""
        held = self.model.tree_.value[:, 0]
        values = self.model.classes_[held.argmax(axis=1)] if hasattr(self.model, "classes_") else held[:, 0]
        return values[self.pruned(alphas)]


def _leaves(workspace: Workspace, data: TaskData, split: str, basis: Basis, tree: Tree) -> NDArray[np.int64]:
    """Node [n] that each row of a split with a target reaches in the grown tree."""
    parts = [tree.model.apply(basis(block)) for block in labelled_blocks(workspace, data, split)]
    return np.concatenate([np.zeros(0, np.int64), *parts])
