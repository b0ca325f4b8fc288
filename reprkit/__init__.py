"""reprkit trains shared encoders for several tasks, with and without DGR, and says how universal they are.

`reprkit.train(recipe)` learns an encoder, `reprkit.embed(checkpoint, out)` dumps its frozen embeddings, and
`reprkit.analysis` measures them. Nothing heavy is imported until it is used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["Embeddings", "Recipe", "Task", "__version__", "embed", "load_recipe", "train"]

_HOMES = {
    "Embeddings": "reprkit.embeddings",
    "Recipe": "reprkit.recipe",
    "Task": "reprkit.tasks",
    "embed": "reprkit.training",
    "load_recipe": "reprkit.config",
    "train": "reprkit.training",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'reprkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
