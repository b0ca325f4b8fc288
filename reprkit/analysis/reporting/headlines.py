"""Which rows of a table of probes are shown, by what name, and tasks in which order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

PROBE_NAMES = {
    "ncm": "Class mean",
    "lda": "LDA",
    "knn": "kNN",
    "linear": "Linear",
    "svm_linear": "Linear SVM",
    "svm_rbf": "RBF SVM",
    "tree": "Tree",
    "tree_pca": "Tree, PCA",
    "tree_rotated": "Tree, rotated",
    "mlp": "MLP",
}
FLOORS = ("prior", "majority", "mean")
"""Names under which a probe that ignores the embedding may be listed."""

HEAD = "head"
"""The encoder's own head among the probes; reports show its score apart, and not twice."""


def headline(probes: pd.DataFrame) -> pd.DataFrame:
    """The probes' rows of each task's headline metric: accuracy, or R2 where a task has no accuracy."""
    has_accuracy = set(probes.loc[probes["metric"] == "accuracy", "task"])
    wanted = np.where(probes["task"].isin(has_accuracy), "accuracy", "r2")
    return probes[(probes["metric"] == wanted) & (probes["probe"] != HEAD)]


def task_order(names: pd.Series, known: Sequence[str] = ()) -> list[str]:
    """Task names in the order of `known` tasks, then in order of appearance."""
    found = [str(name) for name in dict.fromkeys(names)]
    return [name for name in known if name in found] + [name for name in found if name not in known]
