"""New samples on a t-SNE map that stays as it is.

Each new sample is drawn to its neighbours among the mapped ones and repelled by all of them, and does not see the other
new ones (Poličar, Stražar & Zupan, "Embedding to reference t-SNE space addresses batch effects in single-cell
classification", Machine Learning 112, 2023; the settings are openTSNE's). Neighbours are exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.maps.cloud import Cloud, graph_size, used_perplexity
from reprkit.analysis.neighbors import PATIENCE, exact_neighbors
from reprkit.errors import InputError

PERPLEXITY = 5.0
"""Small whatever the map's: a new sample belongs to a few neighbours, not to the middle of many."""

START_NEIGHBORS = 25
"""A new sample starts at the median of its so many nearest neighbours on the map."""

ITERATIONS = 250
RATE, MOMENTUM, EXAGGERATION, LONGEST_GRADIENT = 0.1, 0.8, 1.5, 0.25
THETA = 0.5
"""Barnes-Hut: groups of points that look smaller than this are taken as one."""


def place(cloud: Cloud, points: NDArray[np.float64], z: NDArray, n_jobs: int = 1) -> NDArray[np.float64]:
    """Coordinates [M, 2] of new rows z [M, D] on a t-SNE map of a cloud, bitwise the same for any `n_jobs`.

    Args:
        cloud: the mapped samples.
        points: [N, 2] their coordinates.
        z: embeddings of the new samples by the same encoder, not standardised.
        n_jobs: threads.

    Raises:
        InputError: another number of columns, values that are not finite, or openTSNE is not installed.
    """
    rows = cloud.standardise(z)
    if not len(rows):
        return np.zeros((0, 2))
    try:
        from openTSNE.affinity import joint_probabilities_nn
    except ImportError:
        raise InputError("t-SNE: placing new samples needs openTSNE; install it with: pip install openTSNE") from None
    perplexity = used_perplexity(PERPLEXITY, len(points))
    wanted = graph_size(perplexity)
    k = min(len(points), max(START_NEIGHBORS, wanted))
    neighbors, distances = exact_neighbors(cloud.rows, k, rows, metric="euclidean")
    affinities = joint_probabilities_nn(
        neighbors[:, :wanted], distances[:, :wanted], [perplexity],
        symmetrize=False, normalization="point-wise", n_reference_samples=len(points), n_jobs=n_jobs,
    )  # fmt: skip
    start = np.median(points[neighbors[:, :START_NEIGHBORS]], axis=1)
    return _settle(np.ascontiguousarray(start), points, affinities.tocsr(), n_jobs)


def _settle(placed: NDArray[np.float64], points: NDArray, affinities: Any, n_jobs: int) -> NDArray[np.float64]:
    """Gradient descent of every new point's own divergence, with momentum and gains (Jacobs, 1988)."""
    from openTSNE._tsne import estimate_negative_gradient_bh, estimate_positive_gradient_nn
    from openTSNE.quad_tree import QuadTree
    from tqdm import tqdm

    tree = QuadTree(np.ascontiguousarray(points))
    update, gains = np.zeros_like(placed), np.ones_like(placed)
    data = affinities.data * EXAGGERATION
    for _ in tqdm(range(ITERATIONS), desc="placing", unit="it", delay=PATIENCE, disable=None, leave=False):
        gradient = np.zeros_like(placed)
        estimate_negative_gradient_bh(
            tree, placed, gradient, theta=THETA, dof=1, num_threads=n_jobs, pairwise_normalization=False
        )
        estimate_positive_gradient_nn(
            affinities.indices, affinities.indptr, data, placed, points, gradient, 1, n_jobs, False
        )
        length = np.linalg.norm(gradient, axis=1, keepdims=True)
        gradient *= np.minimum(1.0, LONGEST_GRADIENT / (length + 1e-6))
        turned = np.sign(update) != np.sign(gradient)
        gains = np.where(turned, gains + 0.2, gains * 0.8 + 0.01)
        update = MOMENTUM * update - RATE * gains * gradient
        placed += update
    return placed
