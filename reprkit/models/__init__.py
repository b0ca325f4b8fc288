"""Encoders, heads, and the structures that join them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprkit.models.aspp import ASPPHead as ASPPHead
    from reprkit.models.build import build_model as build_model
    from reprkit.models.encoders import build_encoder as build_encoder
    from reprkit.models.heads import LinearHead as LinearHead
    from reprkit.models.heads import MLPHead as MLPHead
    from reprkit.models.model import Model as Model
    from reprkit.models.mtan import MTAN as MTAN
    from reprkit.models.split import Split as Split
    from reprkit.models.weights import load_encoder_weights as load_encoder_weights

_HOMES = {
    "ASPPHead": "aspp",
    "LinearHead": "heads",
    "MLPHead": "heads",
    "MTAN": "mtan",
    "Model": "model",
    "Split": "split",
    "build_encoder": "encoders",
    "build_model": "build",
    "load_encoder_weights": "weights",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
