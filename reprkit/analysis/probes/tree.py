"""The decision tree probe on the raw axes of the representation.

It asks one unit at a time, so it rewards an encoder for a basis in which single units carry a task, and not only for
the information that a rotation would keep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reprkit.analysis.probes.data import Space, TaskData
from reprkit.analysis.probes.outcome import Outcome, Selection, score
from reprkit.analysis.probes.protocol import Protocol

if TYPE_CHECKING:
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor


def fit_tree(space: Space, data: TaskData, protocol: Protocol) -> Outcome:
    """CART tree (Gini, or squared error), depth and leaf size by validation.

    scikit-learn visits features in a random order, which decides between equal splits; one fixed seed is used for all
    trees, so the last half percent of accuracy is that draw's.
    """
    x = {split: space.z[split][rows] for split, rows in data.rows.items()}
    selection = Selection()
    fitted: dict[tuple[int | None, int], tuple[DecisionTreeClassifier | DecisionTreeRegressor, float]] = {}
    for leaf in protocol.leaves:
        deeper: tuple[DecisionTreeClassifier | DecisionTreeRegressor, float] | None = None
        for depth in reversed(protocol.depths):
            # A limit that the deeper tree never reached would grow the same tree again.
            if deeper is None or (depth is not None and deeper[0].get_depth() > depth):
                model = _tree(data, protocol, depth, leaf).fit(x["train"], data.y["train"])
                deeper = model, score(data.task, model.predict(x["val"]), data.y["val"])
            fitted[depth, leaf] = deeper
    for depth in protocol.depths:
        for leaf in protocol.leaves:
            model, value = fitted[depth, leaf]
            selection.offer(value, {"max_depth": depth, "min_samples_leaf": leaf}, model)
    test = selection.model.predict(x["test"])
    return Outcome(test, selection.params, selection.value, len(x["train"]))


def _tree(
    data: TaskData, protocol: Protocol, depth: int | None, leaf: int
) -> DecisionTreeClassifier | DecisionTreeRegressor:
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    kind = DecisionTreeClassifier if data.task.is_discrete else DecisionTreeRegressor
    return kind(max_depth=depth, min_samples_leaf=leaf, random_state=protocol.seed)
