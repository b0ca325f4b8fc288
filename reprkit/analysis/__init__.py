"""Measures frozen embeddings: universality, probes, geometry, maps. Needs neither a GPU nor the images.

Every function takes an open `reprkit.Embeddings`, or the `Workspace` of one, which lets several share their work.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprkit.analysis.compare import compare as compare
    from reprkit.analysis.explorer import explore as explore
    from reprkit.analysis.few_shot import few_shot as few_shot
    from reprkit.analysis.geometry import geometry as geometry
    from reprkit.analysis.geometry import similarity as similarity
    from reprkit.analysis.ordinal import ordinal_alignment as ordinal_alignment
    from reprkit.analysis.probes import probe as probe
    from reprkit.analysis.sensitivity import sensitivity as sensitivity
    from reprkit.analysis.tsne import tsne as tsne
    from reprkit.analysis.universality import universality as universality
    from reprkit.analysis.verdict import collapse_check as collapse_check
    from reprkit.analysis.workspace import Workspace as Workspace

_HOMES = {
    "Workspace": "reprkit.analysis.workspace",
    "collapse_check": "reprkit.analysis.verdict",
    "compare": "reprkit.analysis.compare",
    "explore": "reprkit.analysis.explorer",
    "few_shot": "reprkit.analysis.few_shot",
    "geometry": "reprkit.analysis.geometry",
    "ordinal_alignment": "reprkit.analysis.ordinal",
    "probe": "reprkit.analysis.probes",
    "sensitivity": "reprkit.analysis.sensitivity",
    "similarity": "reprkit.analysis.geometry",
    "tsne": "reprkit.analysis.tsne",
    "universality": "reprkit.analysis.universality",
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
