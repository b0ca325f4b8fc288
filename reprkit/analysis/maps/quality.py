"""What a map keeps of the embedding that it was made from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.linalg import ordered_map, row_slices
from reprkit.analysis.maps.cloud import QUALITY_NEIGHBORS
from reprkit.analysis.maps.plane import PlaneMap
from reprkit.analysis.neighbors import PATIENCE
from reprkit.tasks import Task

SPEARMAN_ROWS = 500
RANK_BLOCK = 4 << 20
"""Distances held at a time by a thread."""


def map_quality(z: NDArray, made: PlaneMap, *, name: str = "map") -> dict[str, float]:
    """What a map keeps of the embedding z [N, D] that it was made from.

    Returns:
        knn_recall: mean share of a sample's 10 nearest neighbours in z that are among its 10 nearest on the map.
        trustworthiness: see `trustworthiness`, of 10 neighbours.
        spearman: rank correlation of the pairwise distances in z and on the map, among the first 500 samples.
        All are at most 1, and NaN where there is no map.
    """
    from scipy.spatial.distance import pdist
    from scipy.stats import spearmanr

    if not made.drawn:
        return {"knn_recall": np.nan, "trustworthiness": np.nan, "spearman": np.nan}
    k = min(QUALITY_NEIGHBORS, made.neighbors.shape[1])
    on_map = plane_neighbors(made.points, k)
    shared = (made.neighbors[:, :k, None] == on_map[:, None, :]).any(axis=2)
    near, far = pdist(z[:SPEARMAN_ROWS].astype(np.float64)), pdist(made.points[:SPEARMAN_ROWS])
    spearman = spearmanr(near, far).statistic if np.ptp(near) > 0 and np.ptp(far) > 0 else np.nan
    return {
        "knn_recall": float(shared.mean()),
        "trustworthiness": trustworthiness(z, on_map, name=name),
        "spearman": float(spearman),
    }


def trustworthiness(z: NDArray, on_map: NDArray[np.int64], *, name: str = "map") -> float:
    """How far neighbours on a map are neighbours in z: 1 if all are, 0 if they are the farthest samples there are.

    1 - 2 / (N k (2N - 3k - 1)) sum over i, and over those of its k neighbours on the map that are not among its k
    nearest in z, of their rank in z less k (Venna & Kaski, "Neighborhood preservation in nonlinear projection methods",
    ICANN 2001, equation 1). Samples at the same distance share the better rank. Products are float32, or float64 if z
    is, block by block: memory holds no N x N matrix.

    Args:
        z: [N, D].
        on_map: [N, k] other samples nearest on the map.
        name: what the progress bar says.

    Returns:
        NaN with k >= N / 2, where the measure is not defined.
    """
    from tqdm import tqdm

    count, k = on_map.shape
    if 2 * k >= count:
        return float("nan")
    rows = (z - z.mean(axis=0, dtype=np.float64)).astype(np.float64 if z.dtype == np.float64 else np.float32)
    half = np.einsum("nd,nd->n", rows, rows) / 2

    def penalty(part: slice) -> int:
        apart = half - rows[part] @ rows.T  # half the squared distance, up to a constant of the row
        apart[np.arange(len(apart)), np.arange(part.start, part.start + len(apart))] = np.inf
        total = 0
        for distances, neighbors in zip(apart, on_map[part], strict=True):
            for limit in distances[neighbors]:
                total += max(int(np.count_nonzero(distances < limit)) + 1 - k, 0)
        return total

    blocks = list(row_slices(count, max(16, RANK_BLOCK // count)))
    bar = tqdm(
        ordered_map(penalty, blocks), desc=f"{name}, ranks", total=len(blocks), unit="block", delay=PATIENCE,
        disable=None, leave=False,
    )  # fmt: skip
    return 1 - 2 * sum(bar) / (count * k * (2 * count - 3 * k - 1))


def label_hit(points: NDArray, targets: NDArray, task: Task) -> tuple[float, float]:
    """Neighbourhood hit@10 and its chance level (the hit: Paulovich et al., IEEE TVCG 14, 2008).

    The hit is the mean share of a sample's 10 nearest labelled samples on the map that carry its label; chance is
    that share if the labels were dealt out at random. NaN with fewer than 2 labelled samples.
    """
    valid = np.flatnonzero(task.valid(targets))
    if len(valid) < 2:
        return np.nan, np.nan
    labels = targets[valid]
    neighbors = plane_neighbors(points[valid], min(QUALITY_NEIGHBORS, len(valid) - 1))
    _, counts = np.unique(labels, return_counts=True)
    chance = (counts * (counts - 1.0)).sum() / (len(labels) * (len(labels) - 1.0))
    return float((labels[neighbors] == labels[:, None]).mean()), float(chance)


def placed_hit(
    points: NDArray, targets: NDArray, placed: NDArray, placed_targets: NDArray, task: Task
) -> tuple[float, float]:
    """`label_hit` of new samples [M, 2] among the mapped ones [N, 2]: their 10 nearest labelled samples of the map."""
    from scipy.spatial import cKDTree

    old, new = np.flatnonzero(task.valid(targets)), np.flatnonzero(task.valid(placed_targets))
    if not len(old) or not len(new):
        return np.nan, np.nan
    k = min(QUALITY_NEIGHBORS, len(old))
    _, found = cKDTree(points[old]).query(placed[new], k=range(1, k + 1))
    known, labels = targets[old], placed_targets[new]
    shares = [np.bincount(y.astype(np.int64), minlength=task.num_outputs) / len(y) for y in (known, labels)]
    return float((known[found] == labels[:, None]).mean()), float(shares[0] @ shares[1])


def placed_recall(neighbors: NDArray[np.int64], points: NDArray, placed: NDArray) -> float:
    """Mean share of the nearest mapped samples in z, [M, k], that are among the k nearest to a new one on the map."""
    from scipy.spatial import cKDTree

    _, found = cKDTree(points).query(placed, k=range(1, neighbors.shape[1] + 1))
    return float((neighbors[:, :, None] == found[:, None, :]).any(axis=2).mean())


def plane_neighbors(points: NDArray, k: int) -> NDArray[np.int64]:
    """[N, k] nearest other points; a tree keeps the full precision of the coordinates, which products would not."""
    from scipy.spatial import cKDTree

    _, found = cKDTree(points).query(points, k=k + 1)
    # A point is usually its own first hit, but not among duplicates: move it to the end wherever it is.
    own = found == np.arange(len(points))[:, None]
    order = np.argsort(own, axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)[:, :k].astype(np.int64)
