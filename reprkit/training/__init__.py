"""Learns encoders and dumps their frozen embeddings."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {"DummyGradientNorm": "dgr", "embed": "embedder", "score_test_split": "evaluation", "train": "trainer"}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
