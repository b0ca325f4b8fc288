"""How far each class stays apart from its nearest neighbour: where a class is lost while the others hide it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.moments import SufficientStatistics
from reprkit.analysis.workspace import Workspace


def class_separations(statistics: SufficientStatistics, task: str) -> NDArray[np.float64]:
    """[C] squared distance of each class mean to the nearest other, over the mean squared spread of the class.

    Chance distance of sample means is subtracted, so that a class that coincides with another has 0. Unchanged by
    scale, shift and rotation. NaN for classes with fewer than two rows, and for a constant z; infinite for a class
    whose rows are all equal.
    """
    counts, sums = statistics.class_counts[task], statistics.class_sums[task]
    seen = np.flatnonzero(counts >= 2)
    found = np.full(len(counts), np.nan)
    if len(seen) < 2 or not statistics.rms:
        return found
    n = counts[seen]
    means = sums[seen] / n[:, None]
    sizes = np.einsum("cd,cd->c", means, means)
    spread = np.maximum(statistics.class_squares[task][seen] - n * sizes, 0.0) / (n - 1)
    chance = spread / n
    apart = sizes[:, None] + sizes - 2 * means @ means.T - chance[:, None] - chance
    np.fill_diagonal(apart, np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        found[seen] = np.maximum(apart.min(axis=1), 0.0) / spread
    return found


def separation_columns(ws: Workspace, task: str) -> dict[str, Any]:
    """`separation` and `closest_class`: the class of a task that is least apart from its neighbour, on train."""
    none = {"separation": np.nan, "closest_class": ""}
    if not ws.tasks[task].is_discrete:
        return none
    found = class_separations(ws.statistics, task)
    if np.isnan(found).all():
        return none
    lowest = int(np.nanargmin(found))
    return {"separation": found[lowest], "closest_class": ws.tasks[task].class_names[lowest]}
