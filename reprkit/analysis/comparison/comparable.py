"""May these files be compared? Only if they hold the same samples, labelled and split alike; rows in any order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reprkit.errors import InputError

if TYPE_CHECKING:
    from reprkit.embeddings import Embeddings

SPLITS = ("train", "val", "test")
MENDS = {
    "dataset": "they were made from different images or labels; embed both encoders on one data set",
    "split": "samples are divided into train, val and test differently; embed both with one split",
    "transform": "images were resized or normalised differently; embed both alike, or pass --different_transform if"
    " each way belongs to its encoder",
}
"""What a fingerprint that differs means, and what to do about it."""


def check_comparable(files: Sequence[Embeddings], tasks: Sequence[str], *, different_transform: bool = False) -> None:
    """Refuse files that may not be compared with the first one.

    Files of `reprkit embed` carry fingerprints of data set, split and transform, which must be equal. Whether they do
    or not, ids, splits and targets are compared one by one: what another tool wrote is judged by that alone.

    Args:
        files: two or more open files.
        tasks: tasks whose targets must be equal.
        different_transform: accept images that were prepared differently.

    Raises:
        InputError: naming the first difference and its mend.
    """
    for other in files[1:]:
        names = f"{files[0].path} and {other.path}"
        apart = None if different_transform else _transform(files[0], other)
        apart = _fingerprints(files[0], other) or apart or first_difference(files[0], other, tasks)
        if apart:
            raise InputError(f"{names} cannot be compared: {apart}")


def first_difference(a: Embeddings, b: Embeddings, tasks: Sequence[str]) -> str:
    """The first difference of ids, splits and targets of two files, in words; empty if there is none."""
    rows = {}
    for split in SPLITS:
        first, second = _ids(a, split), _ids(b, split)
        order = np.argsort(first), np.argsort(second)
        if not np.array_equal(first[order[0]], second[order[1]]):
            return _ids_apart(a, b, split)
        rows[split] = order
    for name in tasks:
        mine, theirs = a.tasks[name], b.tasks[name]
        for what, one, other in (("", mine.kind, theirs.kind), (" outputs", mine.num_outputs, theirs.num_outputs)):
            if one != other:
                return f"task {name}: {one}{what} in one, {other}{what} in the other; store the same targets in both"
        for split, (left, right) in rows.items():
            if not len(left):
                continue
            first, second = a.targets(split, name)[left], b.targets(split, name)[right]
            unequal = np.flatnonzero((first != second) & ((first == first) | (second == second)))  # NaN equals NaN
            if len(unequal):
                at = unequal[0]
                example = f"{_ids(a, split)[left][at]!s}: {first[at]} and {second[at]}"
                return (
                    f"task {name}: {len(unequal)} {split} targets differ (the first is {example}); "
                    "label both from one source"
                )
    return ""


def _transform(a: Embeddings, b: Embeddings) -> str:
    return _unlike(a, b, "transform")


def _fingerprints(a: Embeddings, b: Embeddings) -> str:
    """The data set or split fingerprint that differs, where both files are our own: others fingerprint their rows."""
    if not all(_print(file, "transform") for file in (a, b)):
        return ""
    return _unlike(a, b, "dataset") or _unlike(a, b, "split")


def _unlike(a: Embeddings, b: Embeddings, name: str) -> str:
    first, second = _print(a, name), _print(b, name)
    if not first or not second or first == second:
        return ""
    return f"their {name} fingerprints differ ({first[:8]} and {second[:8]}): {MENDS[name]}"


def _print(file: Embeddings, name: str) -> str:
    prints: Any = file.meta.get("fingerprints") or {}
    return str(prints.get(name) or "")


def _ids(file: Embeddings, split: str) -> NDArray:
    return np.asarray(file.ids(split) if split in file.splits else [], str)


def _ids_apart(a: Embeddings, b: Embeddings, split: str) -> str:
    """How the ids of a split differ, in words."""
    ours, theirs = (set(_ids(file, split).tolist()) for file in (a, b))
    for file, only, other in ((a, ours - theirs, b), (b, theirs - ours, a)):
        if not only:
            continue
        for elsewhere in SPLITS:
            moved = only & set(_ids(other, elsewhere).tolist())
            if moved:
                return (
                    f"{len(moved)} {split} ids of {file.path} are {elsewhere} ids of {other.path} (one is "
                    f"{min(moved)}); embed both with one split"
                )
        return (
            f"{len(only)} {split} ids are only in {file.path} (one is {min(only)}); keep the same samples in both files"
        )
    return f"{split} ids differ"  # unreachable while ids are unique
