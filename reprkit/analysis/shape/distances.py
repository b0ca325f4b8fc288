"""What distances between rows tell: intrinsic dimension, separation of classes, spread over the sphere.

All compare every row with every other, so callers hand over a sample. Products and distances are in float64: in
float32 a common offset of 100 makes close rows coincide.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.linalg import ordered_map, row_slices
from reprkit.analysis.neighbors import exact_neighbors, unit_rows
from reprkit.analysis.shape.estimates import Undefined

LEAST_ROWS = 10
"""Different rows that an intrinsic dimension needs."""

BLOCK = 512


class Dimension(NamedTuple):
    """An intrinsic dimension.

    Attributes:
        value: the dimension.
        rows: different rows used.
        duplicates: rows left out because they equal another one.
    """

    value: float
    rows: int
    duplicates: int


def two_nn(rows: NDArray, *, discard: float = 0.1) -> Dimension:
    """Intrinsic dimension from the ratio mu of each row's second to first neighbour distance.

    Slope through the origin of -log(1 - F(mu)) on log mu, F the empirical distribution, without the largest ratios.
    Facco, d'Errico, Rodriguez and Laio (Sci. Rep. 2017). Duplicates, which would put mu to infinity, are left out; few
    rows see the dimension of a curved or high-dimensional set as too low.

    Args:
        rows: [N, D].
        discard: share of the largest ratios to leave out.

    Raises:
        Undefined: fewer than 10 different rows, or every row is as far from its second as from its first neighbour.
    """
    distinct = np.unique(np.asarray(rows, np.float64), axis=0)
    if len(distinct) < LEAST_ROWS:
        raise Undefined(f"{len(distinct)} different rows; at least {LEAST_ROWS} are needed")
    _, distances = exact_neighbors(distinct, 2, metric="euclidean")
    ratios = np.sort(distances[:, 1] / distances[:, 0])
    kept = int(len(ratios) * (1 - discard))
    x, y = np.log(ratios[:kept]), -np.log1p(-np.arange(kept) / len(ratios))
    if x @ x <= 1e-20:
        raise Undefined("all rows are equally far from their nearest two")
    return Dimension(float(x @ y / (x @ x)), len(distinct), len(rows) - len(distinct))


def silhouette(rows: NDArray, targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Silhouette of each row, in [-1, 1]: (b - a) / max(a, b); the silhouette of the classes is the mean.

    a: mean Euclidean distance to the rest of its class; b: to the nearest other class. 0 for a class of one row.
    Rousseeuw (1987).

    Args:
        rows: [N, D].
        targets: [N] class indices, none missing.

    Raises:
        Undefined: fewer than two classes, no class of two rows, or all rows are equal.
    """
    z = np.asarray(rows, np.float64)
    classes, counts = np.unique(targets, return_counts=True)
    if len(classes) < 2:
        raise Undefined("only one class has rows")
    if counts.max() < 2:
        raise Undefined("no class has two rows")
    if (z == z[0]).all():
        raise Undefined("the embeddings are constant")
    from sklearn.metrics import silhouette_samples

    return np.asarray(silhouette_samples(z - z.mean(axis=0), targets), np.float64)


def alignment(rows: NDArray, targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean squared distance, on the unit sphere, of each row to the other rows of its class; in [0, 4], NaN if alone.

    The alignment is the mean. Wang and Isola, "Understanding contrastive representation learning through alignment
    and uniformity on the hypersphere" (ICML 2020), section 4.1, with exponent 2. Positives are all rows of the class,
    by class sums, instead of augmentations: no pairs are drawn.

    Args:
        rows: [N, D], none zero.
        targets: [N] class indices, none missing.

    Raises:
        Undefined: no class has two rows.
    """
    unit = unit_rows(np.asarray(rows, np.float64))
    values = np.full(len(unit), np.nan)
    for target, count in zip(*np.unique(targets, return_counts=True), strict=True):
        if count > 1:
            own = unit[targets == target]
            values[targets == target] = 2 - 2 * (own @ own.sum(axis=0) - 1) / (count - 1)
    if np.isnan(values).all():
        raise Undefined("no class has two rows")
    return np.maximum(values, 0.0)


def uniformity(rows: NDArray) -> float:
    """log of the mean of exp(-2 |x - x'|^2) over pairs of rows on the unit sphere: in [-8, 0], lower is more uniform.

    Wang and Isola (ICML 2020), section 4.1, with t = 2; over all pairs.

    Args:
        rows: [N, D], none zero.

    Raises:
        Undefined: fewer than two rows.
    """
    unit = unit_rows(np.asarray(rows, np.float64))
    n = len(unit)
    if n < 2:
        raise Undefined("one row only")

    def potential(where: slice) -> float:
        block = unit[where] @ unit.T
        np.exp(4 * (block - 1), out=block)
        block[np.arange(len(block)), np.arange(where.start, where.stop)] = 0
        return float(block.sum())

    return float(min(np.log(sum(ordered_map(potential, row_slices(n, BLOCK))) / (n * (n - 1))), 0.0))
