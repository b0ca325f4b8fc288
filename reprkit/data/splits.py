"""Train, val and test by a fixed rule: no seed, no order of files, no training setting moves a sample.

Groups (duplicates, frames of one person, ...) are the unit, so that near copies never sit on both sides.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from reprkit.data.base import SPLITS
from reprkit.errors import InputError

TEST_SHARE = 0.2
VAL_SHARE = 0.1
HASH_RULE = "groups in order of sha256(name) within each {stratum}, first 20% of rows test, next 10% val, v1"


def hash_split(
    groups: Sequence[str],
    strata: Sequence[int] | np.ndarray | None = None,
    *,
    test: float = TEST_SHARE,
    val: float = VAL_SHARE,
) -> np.ndarray:
    """Split rows into train, val and test (70/10/20 unless told otherwise), group by group.

    Within each stratum, groups are put in the order of the SHA-256 of their name. A group goes where the
    middle of its rows falls: the first 20% of rows are test, the next 10% val, the rest train. A stratum of a
    single group is therefore train, so that no rare class is missing from training.

    Args:
        groups: [N] group name of every row.
        strata: [N] stratum of every row, e.g. a class; a group takes its smallest. None means one stratum.
        test, val: shares of rows.

    Returns:
        uint8 [N], index into `SPLITS`.
    """
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        rows_of[group].append(row)
    stratum_of = {g: 0 if strata is None else min(int(strata[row]) for row in rows) for g, rows in rows_of.items()}
    members: dict[int, list[str]] = defaultdict(list)
    for group in sorted(rows_of, key=lambda name: hashlib.sha256(name.encode()).digest()):
        members[stratum_of[group]].append(group)
    split = np.empty(len(groups), dtype=np.uint8)
    for names in members.values():
        sizes = np.array([len(rows_of[name]) for name in names])
        middle = (np.cumsum(sizes) - sizes / 2) / sizes.sum()
        code = np.where(middle < test, 2, np.where(middle < test + val, 1, 0))
        for name, value in zip(names, code.tolist(), strict=True):
            split[rows_of[name]] = value
    return split


def merge_groups(*keys: Sequence[str]) -> list[str]:
    """Join rows that share any key: the connected components of several groupings of the same rows.

    Args:
        keys: one or more columns [N] of group names; an empty name joins nothing.

    Returns:
        [N] names of the joined groups: the smallest key of the first column among the members, which does
        not depend on the order of rows.
    """
    count = len(keys[0])
    parent = list(range(count))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for column in keys:
        first: dict[str, int] = {}
        for row, key in enumerate(column):
            if key:
                a, b = root(row), root(first.setdefault(key, row))
                parent[max(a, b)] = min(a, b)
    smallest: dict[int, str] = {}
    for row in range(count):
        at = root(row)
        smallest[at] = min(smallest.get(at, keys[0][row]), keys[0][row])
    return [smallest[root(row)] for row in range(count)]


def check_splits(split: np.ndarray, *, source: str, mend: str, needed: Iterable[str] = SPLITS) -> None:
    """Raise InputError if a split has no row."""
    for name in needed:
        if not (split == SPLITS.index(name)).any():
            raise InputError(f"{source}: the {name} split is empty ({len(split)} usable images in all); {mend}")
