"""Measures frozen embeddings: universality, probes, geometry, maps. Needs neither a GPU nor the images."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprkit.analysis.probes import probe as probe
    from reprkit.analysis.tsne import tsne as tsne
    from reprkit.analysis.universality import universality as universality
    from reprkit.analysis.verdict import collapse_check as collapse_check

__all__ = ["collapse_check", "probe", "tsne", "universality"]

_HOMES = {
    "collapse_check": "reprkit.analysis.verdict",
    "probe": "reprkit.analysis.probes",
    "tsne": "reprkit.analysis.tsne",
    "universality": "reprkit.analysis.universality",
}


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
