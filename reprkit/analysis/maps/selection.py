"""Which samples are mapped: the same for every encoder, whatever the order of their rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reprkit.errors import InputError


def select_ids(ids: NDArray | Sequence[str], labels: NDArray | None, n: int) -> list[str]:
    """Up to `n` of the ids, stratified by label, the same whatever the order of the rows.

    Within a stratum samples are ordered by the SHA-256 of their id, and strata are merged evenly, so each has its
    proportional share (up to rounding) and a smaller selection is contained in a larger one. The result is in hash
    order: drawn in that order, no class covers another. Missing labels (-1 or NaN) are a stratum of their own;
    real-valued labels are stratified by tenths of their rank.

    Args:
        ids: [N] unique sample ids.
        labels: [N] class indices, names or real values; None for no strata.
        n: samples wanted; all are returned if there are fewer.
    """
    names = np.asarray(ids).astype(str)
    digests = [hashlib.sha256(name.encode()).digest() for name in names]
    order = np.array(sorted(range(len(names)), key=digests.__getitem__), dtype=np.int64)
    strata = _strata(np.zeros(len(names)) if labels is None else np.asarray(labels))[order]
    place = np.empty(len(order))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    chosen = np.sort(np.argsort(place, kind="stable")[: max(n, 0)])
    return [str(name) for name in names[order[chosen]]]


def rows_of(all_ids: NDArray, ids: Sequence[str], split: str) -> NDArray[np.int64]:
    """Row numbers of ids in a split.

    Raises:
        InputError: one of them is not there.
    """
    index = {name: row for row, name in reversed(list(enumerate(all_ids.tolist())))}
    missing = [name for name in ids if name not in index]
    if missing:
        raise InputError(
            f"t-SNE: {len(missing)} of {len(ids)} samples are not in split '{split}' of the embeddings "
            f"(e.g. '{missing[0]}'); map encoders of the same data"
        )
    return np.array([index[name] for name in ids], dtype=np.int64)


def _strata(labels: NDArray) -> NDArray:
    """Labels [N] as stratum numbers; real values become tenths of their rank."""
    if labels.dtype.kind == "f":
        present = ~np.isnan(labels)
        strata = np.full(len(labels), -1)
        ranks = np.searchsorted(np.sort(labels[present]), labels[present], side="left")
        strata[present] = ranks * 10 // max(int(present.sum()), 1)
        return strata
    return np.unique(labels, return_inverse=True)[1]
