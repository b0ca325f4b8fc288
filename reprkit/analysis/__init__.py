"""Measures frozen embeddings: universality, probes, geometry, maps. Needs neither a GPU nor the images.

Every function takes an open `reprkit.Embeddings`, or the `Workspace` of one, which lets several share their work.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprkit.analysis.comparison.compare import compare as compare
    from reprkit.analysis.explorer import explore as explore
    from reprkit.analysis.few_shot import few_shot as few_shot
    from reprkit.analysis.maps.tsne import tsne as tsne
    from reprkit.analysis.probes import probe as probe
    from reprkit.analysis.probes.estimators import CosineKNNClassifier as CosineKNNClassifier
    from reprkit.analysis.probes.estimators import CosineKNNRegressor as CosineKNNRegressor
    from reprkit.analysis.probes.estimators import LinearClassifier as LinearClassifier
    from reprkit.analysis.probes.estimators import LinearSVMClassifier as LinearSVMClassifier
    from reprkit.analysis.probes.estimators import LinearSVMRegressor as LinearSVMRegressor
    from reprkit.analysis.probes.estimators import MLPClassifier as MLPClassifier
    from reprkit.analysis.probes.estimators import MLPRegressor as MLPRegressor
    from reprkit.analysis.probes.estimators import NearestClassMean as NearestClassMean
    from reprkit.analysis.probes.estimators import NystroemClassifier as NystroemClassifier
    from reprkit.analysis.probes.estimators import NystroemRegressor as NystroemRegressor
    from reprkit.analysis.probes.estimators import PrunedTreeClassifier as PrunedTreeClassifier
    from reprkit.analysis.probes.estimators import PrunedTreeRegressor as PrunedTreeRegressor
    from reprkit.analysis.probes.estimators import RBFSVMClassifier as RBFSVMClassifier
    from reprkit.analysis.probes.estimators import RBFSVMRegressor as RBFSVMRegressor
    from reprkit.analysis.probes.estimators import RidgeRegressor as RidgeRegressor
    from reprkit.analysis.probes.estimators import ShrunkLDA as ShrunkLDA
    from reprkit.analysis.probes.estimators import estimator_of as estimator_of
    from reprkit.analysis.sensitivity import sensitivity as sensitivity
    from reprkit.analysis.shape.ordinal import ordinal_alignment as ordinal_alignment
    from reprkit.analysis.shape.table import geometry as geometry
    from reprkit.analysis.shape.table import similarity as similarity
    from reprkit.analysis.universal.score import universality as universality
    from reprkit.analysis.universal.verdict import collapse_check as collapse_check
    from reprkit.analysis.workspace import Workspace as Workspace

_ESTIMATORS = (
    "CosineKNNClassifier", "CosineKNNRegressor", "LinearClassifier", "LinearSVMClassifier", "LinearSVMRegressor",
    "MLPClassifier", "MLPRegressor", "NearestClassMean", "NystroemClassifier", "NystroemRegressor",
    "PrunedTreeClassifier", "PrunedTreeRegressor", "RBFSVMClassifier", "RBFSVMRegressor", "RidgeRegressor",
    "ShrunkLDA", "estimator_of",
)  # fmt: skip

_HOMES = {
    "Workspace": "reprkit.analysis.workspace",
    "collapse_check": "reprkit.analysis.universal.verdict",
    "compare": "reprkit.analysis.comparison.compare",
    "explore": "reprkit.analysis.explorer",
    "few_shot": "reprkit.analysis.few_shot",
    "geometry": "reprkit.analysis.shape.table",
    "ordinal_alignment": "reprkit.analysis.shape.ordinal",
    "probe": "reprkit.analysis.probes",
    "sensitivity": "reprkit.analysis.sensitivity",
    "similarity": "reprkit.analysis.shape.table",
    "tsne": "reprkit.analysis.maps.tsne",
    "universality": "reprkit.analysis.universal.score",
    **dict.fromkeys(_ESTIMATORS, "reprkit.analysis.probes.estimators"),
}

__all__ = list(_HOMES)


class _Package(ModuleType):
    """Keeps `reprkit.analysis.universality` the function: importing a submodule would bind the module to the name."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'reprkit.analysis' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
