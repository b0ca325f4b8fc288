"""The probes as scikit-learn estimators: the same mathematics and rules as in the suite, for one setting at a time.

They fit into pipelines, `cross_val_score` and `GridSearchCV`. Where the suite chooses a hyperparameter on the val
split, an estimator takes it as a parameter of the same name; `estimator_of` turns a row of the probe table into one. As
in the suite, rows are float32, scaling and principal axes come from the rows that are fitted, and all but nearest
neighbours and trees see standardised features: no scaler is needed in front.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from reprkit.analysis.probes.estimators.kernel import (
    NystroemClassifier,
    NystroemRegressor,
    RBFSVMClassifier,
    RBFSVMRegressor,
)  # fmt: skip
from reprkit.analysis.probes.estimators.linear import (
    LinearClassifier,
    LinearSVMClassifier,
    LinearSVMRegressor,
    NearestClassMean,
    RidgeRegressor,
    ShrunkLDA,
)  # fmt: skip
from reprkit.analysis.probes.estimators.local import (
    CosineKNNClassifier,
    CosineKNNRegressor,
    PrunedTreeClassifier,
    PrunedTreeRegressor,
)  # fmt: skip
from reprkit.analysis.probes.estimators.network import MLPClassifier, MLPRegressor
from reprkit.errors import InputError

__all__ = [
    "CosineKNNClassifier", "CosineKNNRegressor", "LinearClassifier", "LinearSVMClassifier", "LinearSVMRegressor",
    "MLPClassifier", "MLPRegressor", "NearestClassMean", "NystroemClassifier", "NystroemRegressor",
    "PrunedTreeClassifier", "PrunedTreeRegressor", "RBFSVMClassifier", "RBFSVMRegressor", "RidgeRegressor",
    "ShrunkLDA", "estimator_of",
]  # fmt: skip


_BY_PROBE: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "ncm": (NearestClassMean, None, {}),
    "lda": (ShrunkLDA, None, {}),
    "knn": (CosineKNNClassifier, CosineKNNRegressor, {}),
    "linear": (LinearClassifier, RidgeRegressor, {}),
    "svm_linear": (LinearSVMClassifier, LinearSVMRegressor, {}),
    "svm_rbf": (RBFSVMClassifier, RBFSVMRegressor, {}),
    "tree": (PrunedTreeClassifier, PrunedTreeRegressor, {}),
    "tree_pca": (PrunedTreeClassifier, PrunedTreeRegressor, {"basis": "pca"}),
    "tree_rotated": (PrunedTreeClassifier, PrunedTreeRegressor, {"basis": "rotated"}),
    "mlp": (MLPClassifier, MLPRegressor, {}),
}


def estimator_of(probe: str, params: Mapping[str, Any] | str = "{}", *, classes: bool = True) -> Any:
    """An unfitted estimator with the hyperparameters that the suite chose.

    Args:
        probe: name in the column `probe` of the probe table.
        params: what its column `params` says, as it is or parsed; empty takes the defaults. The width of the RBF kernel
            and the penalty of the MLP are not settings: they come from the rows that are fitted.
        classes: for classes, else for real values.

    Raises:
        InputError: no such probe.
    """
    if probe not in _BY_PROBE:
        raise InputError(f"probe '{probe}' has no estimator; choose from {', '.join(_BY_PROBE)}")
    classifier, regressor, options = _BY_PROBE[probe]
    found = dict(json.loads(params)) if isinstance(params, str) else dict(params)
    found = {name: value for name, value in found.items() if name not in ("gamma", "penalty")}
    if "landmarks" in found:
        classifier, regressor = NystroemClassifier, NystroemRegressor
    kind = classifier if classes else regressor
    if kind is None:
        raise InputError(f"probe '{probe}' is for classes only")
    return kind(**options, **found)
