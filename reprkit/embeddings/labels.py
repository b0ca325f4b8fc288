"""Telling several embeddings files apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reprkit.errors import InputError

if TYPE_CHECKING:
    from reprkit.embeddings.reader import Embeddings


def distinct_labels(files: Sequence[Embeddings], *, across_seeds: bool = False) -> list[str]:
    """A label for each file, its own where that is enough to tell it from the others, else with its path.

    Args:
        files: open embeddings files.
        across_seeds: True where results of several seeds cannot stand side by side under one label, as on a map.

    Raises:
        InputError: a file that is named twice.
    """
    paths = [e.path for e in files]
    twice = [path for path in paths if paths.count(path) > 1]
    if twice:
        raise InputError(f"{twice[0]}: named twice; name each file once")
    keys = [(e.label, 0 if across_seeds else e.seed, frozenset(e.trained_tasks)) for e in files]
    if across_seeds and len({(*key, e.seed) for key, e in zip(keys, files, strict=True)}) == len(files):
        return [f"{e.label} seed {e.seed}" if keys.count(k) > 1 else e.label for k, e in zip(keys, files, strict=True)]
    return [f"{e.label} ({e.path})" if keys.count(k) > 1 else e.label for k, e in zip(keys, files, strict=True)]
