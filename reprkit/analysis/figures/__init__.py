"""Figures of result tables: each `*_figure` turns frames into a matplotlib Figure; `write_figures` saves all."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "additions_figure": "reprkit.analysis.figures.additions",
    "agreement_figure": "reprkit.analysis.figures.agreement",
    "changes_figure": "reprkit.analysis.figures.changes",
    "curves_figure": "reprkit.analysis.figures.curves",
    "few_shot_figure": "reprkit.analysis.figures.few_shot",
    "placed_figure": "reprkit.analysis.figures.map_strip",
    "probe_figure": "reprkit.analysis.figures.probes",
    "sensitivity_figure": "reprkit.analysis.figures.sensitivity",
    "strip_figure": "reprkit.analysis.figures.map_strip",
    "tsne_figure": "reprkit.analysis.figures.maps",
    "universality_figure": "reprkit.analysis.figures.universality",
    "write_figures": "reprkit.analysis.figures.write",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'reprkit.analysis.figures' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
