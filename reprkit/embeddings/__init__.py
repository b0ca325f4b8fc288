"""The file between training and analysis: frozen embeddings with their targets, written, read and verified.

`Embeddings(path)` reads files of our own and of anyone else's making (`sources()` describes them all),
`EmbeddingsWriter` writes and survives a kill at any moment, `verify` and `describe` check and summarise a file. The
layout of our own is documented in `reprkit.embeddings.format`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprkit.embeddings.dispatch import choices, sources
    from reprkit.embeddings.fingerprint import fingerprint_arrays, fingerprint_file, fingerprint_tensors
    from reprkit.embeddings.labels import distinct_labels
    from reprkit.embeddings.reader import Embeddings
    from reprkit.embeddings.rows import SplitRows
    from reprkit.embeddings.verification import Verification, describe, verify
    from reprkit.embeddings.writer import EmbeddingsWriter

__all__ = [
    "Embeddings",
    "EmbeddingsWriter",
    "SplitRows",
    "Verification",
    "choices",
    "describe",
    "distinct_labels",
    "fingerprint_arrays",
    "fingerprint_file",
    "fingerprint_tensors",
    "sources",
    "verify",
]

_HOMES = {
    "Embeddings": "reader",
    "EmbeddingsWriter": "writer",
    "SplitRows": "rows",
    "Verification": "verification",
    "choices": "dispatch",
    "describe": "verification",
    "distinct_labels": "labels",
    "fingerprint_arrays": "fingerprint",
    "fingerprint_file": "fingerprint",
    "fingerprint_tensors": "fingerprint",
    "sources": "dispatch",
    "verify": "verification",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
