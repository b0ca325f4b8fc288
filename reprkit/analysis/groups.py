"""Rows that belong together: pixels of one image, frames of one film."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.workspace import Workspace
from reprkit.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def group_codes(ws: Workspace, groups: str | ArrayLike | None) -> NDArray[np.int64] | None:
    """[N_test] number of each row's group, in the order of their first rows; None if every row is its own."""
    if groups is None or (isinstance(groups, str) and not groups):
        return None
    if isinstance(groups, str):
        ids = [str(name) for name in ws.ids("test")]
        lacking = next((name for name in ids if groups not in name), None)
        if lacking is not None:
            raise InputError(f"{ws.source}: id '{lacking}' has no '{groups}'; give group labels, or no groups")
        labels = np.array([name.split(groups, 1)[0] for name in ids])
    else:
        labels = np.asarray(groups)
    if labels.shape != (ws.num_rows("test"),):
        raise InputError(f"{ws.source}: groups of shape {labels.shape} for {ws.num_rows('test')} test rows; one a row")
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.empty(len(first), dtype=np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    return order[inverse]
