"""Data sets: where images and targets come from, and how they are split.

`load_dataset(config)` returns an `ImageDataset`, whatever the source. Nothing heavy is imported until it is used.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["SPLITS", "ImageDataset", "load_dataset", "make_augment", "normalise"]

_HOMES = {
    "SPLITS": "reprkit.data.base",
    "ImageDataset": "reprkit.data.base",
    "load_dataset": "reprkit.data.load",
    "make_augment": "reprkit.data.augment",
    "normalise": "reprkit.data.augment",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'reprkit.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
