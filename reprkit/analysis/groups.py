"""Rows that belong together: pixels of one image, frames of one film.

Rows of a group are not independent, so intervals resample groups, never single rows of one. A file says so itself
(`meta["groups"]`, a separator; `reprkit embed` writes `#` for pixels), or whoever opens it does: `Embeddings(path,
groups="#")`. The name of a row's group is its id up to the last separator: `image7` for `image7#12,40`. Functions take
and give groups as numbers [N], from 0 in the order of their first rows; None means that every row is its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from reprkit.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike

    from reprkit.analysis.workspace import Workspace

COLUMN = "group"
"""Column of the predictions that names each row's group, where rows come in groups."""

Codes = NDArray[np.int64]


def group_names(ids: ArrayLike, separator: str, source: str) -> NDArray[np.str_]:
    """[N] names of the groups of rows: their ids up to the last `separator`; the ids themselves if it is empty.

    Raises:
        InputError: an id does not hold the separator; `source` names the file.
    """
    names = np.asarray(ids).astype(str)
    if not separator:
        return names
    parts = [name.rpartition(separator) for name in names.tolist()]
    lacking = next((whole for before, found, whole in parts if not found), None)
    if lacking is not None:
        raise InputError(f"{source}: id '{lacking}' has no '{separator}'; give group labels, or no groups")
    return np.array([before for before, _, _ in parts])


def number_groups(labels: ArrayLike) -> Codes:
    """[N] numbers of groups from their names."""
    _, first, inverse = np.unique(np.asarray(labels), return_index=True, return_inverse=True)
    order = np.empty(len(first), dtype=np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    return np.asarray(order[inverse], np.int64)


def group_codes(ws: Workspace, groups: str | ArrayLike | None = None) -> Codes | None:
    """Groups of the test rows.

    Args:
        ws: the file.
        groups: labels [N_test], or a separator; None or an empty one takes what the file says.

    Raises:
        InputError: an id without the separator, or not one label a row.
    """
    if groups is None or isinstance(groups, str):
        separator = groups or ws.groups
        return number_groups(group_names(ws.ids("test"), separator, ws.source)) if separator else None
    labels = np.asarray(groups)
    if labels.shape != (ws.num_rows("test"),):
        raise InputError(f"{ws.source}: groups of shape {labels.shape} for {ws.num_rows('test')} test rows; one a row")
    return number_groups(labels)


def groups_of_table(table: pd.DataFrame) -> Codes | None:
    """Groups of the rows of a table of predictions."""
    return number_groups(table[COLUMN].to_numpy(str)) if COLUMN in table else None


def some_groups(codes: Codes | None, rows: Any) -> Codes | None:
    """Groups of some rows, numbered anew: none of them is empty."""
    return None if codes is None else number_groups(codes[rows])


def count_units(codes: Codes | None, rows: int) -> int:
    """How many units a resample draws: groups, or rows."""
    return rows if codes is None else int(codes.max(initial=-1)) + 1


def sum_groups(values: Any, codes: Codes) -> Any:
    """Sums [G, m] over the rows of each group of `values` [N, m]; sparse if they are."""
    rows = np.arange(len(codes))
    members = sparse.csr_array((np.ones(len(codes)), (codes, rows)), shape=(count_units(codes, 0), len(codes)))
    return members @ values
