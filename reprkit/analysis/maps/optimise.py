"""t-SNE with exact neighbours and a fixed start: the same map, to the last bit, for any number of threads."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.maps.cloud import Cloud, graph_size, used_perplexity
from reprkit.analysis.maps.linear import principal_plane
from reprkit.analysis.maps.placing import place
from reprkit.analysis.maps.plane import PlaneMap
from reprkit.analysis.maps.repulsion import Divergence

log = logging.getLogger(__name__)

BARNES_HUT_BELOW = 400
"""Up to this many points openTSNE's Barnes-Hut gradient is the faster one; above it, `repulsion`."""

EARLY_ITERATIONS = 250
INITIAL_SPREAD = 1e-4


def embed_in_plane(
    z: NDArray | Cloud,
    *,
    perplexity: float = 30.0,
    iterations: int = 500,
    n_jobs: int = 1,
    name: str = "t-SNE",
) -> PlaneMap:
    """t-SNE of the rows of z [N, D] with exact neighbours and a fixed start, bitwise the same for any `n_jobs`.

    The map starts from the first two principal components (`initial_points`), as Kobak & Berens, "The art of using
    t-SNE for single-cell transcriptomics", 2019, advise: the overall layout then means something and repeats.

    Args:
        z: the embeddings; or their `Cloud`, which several maps can share if it was made for the largest perplexity.
        perplexity: effective number of neighbours; (N - 1) / 3 at most.
        iterations: steps after the early exaggeration.
        n_jobs: threads.
        name: what messages and the progress bar call it.

    Raises:
        InputError: z holds values that are not finite.
    """
    cloud = z if isinstance(z, Cloud) else Cloud.of(z, [perplexity], name=name)
    count = len(cloud.rows)
    if not cloud.status.startswith("ok"):
        return PlaneMap("tsne", np.zeros((count, 2)), cloud.neighbors, cloud.status)
    perplexity = used_perplexity(perplexity, count)
    wanted, status = graph_size(perplexity), cloud.status
    start = initial_points(cloud.rows)
    try:
        from openTSNE import TSNE  # noqa: F401  only asks whether it is there
    except ImportError:
        log.warning("%s: openTSNE is not installed; scikit-learn's slower t-SNE draws the map", name)
        points, kl = _with_sklearn(cloud.rows, start, perplexity, iterations)
        if status == "ok":
            status = "ok (by scikit-learn: openTSNE is not installed)"
    else:
        graph = (cloud.neighbors[:, :wanted], cloud.distances[:, :wanted])
        points, kl = _with_opentsne(graph, start, perplexity, iterations, n_jobs, name)
    return PlaneMap(
        "tsne", points, cloud.neighbors, status, perplexity, float(f"{kl:.6g}"), placement=partial(place, cloud, points)
    )


def initial_points(rows: NDArray) -> NDArray[np.float64]:
    """First two principal components [N, 2] of rows [N, D], shrunk to a spread of 1e-4 on the first axis.

    An axis without variance gets a faint fixed pattern instead: points that start on a line would stay on it.
    """
    points = principal_plane(rows).transform(rows)
    spread = points.std(axis=0)
    for axis in range(2):
        if spread[axis] <= 1e-6 * spread[0]:
            points[:, axis] = 0.01 * spread[0] * np.random.RandomState(axis).standard_normal(len(points))
    return np.ascontiguousarray(points * (INITIAL_SPREAD / spread[0]))


def _with_opentsne(
    graph: tuple[NDArray, NDArray], start: NDArray, perplexity: float, iterations: int, n_jobs: int, name: str
) -> tuple[NDArray[np.float64], float]:
    from openTSNE import TSNE
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors
    from tqdm import tqdm

    affinities = PerplexityBasedNN(knn_index=PrecomputedNeighbors(*graph), perplexity=perplexity, n_jobs=n_jobs)
    with tqdm(total=EARLY_ITERATIONS + iterations, desc=name, unit="it", disable=None, leave=False) as bar:
        fitted = TSNE(
            perplexity=perplexity,
            n_iter=iterations,
            early_exaggeration_iter=EARLY_ITERATIONS,
            negative_gradient_method="bh" if len(start) <= BARNES_HUT_BELOW else Divergence(),
            n_jobs=n_jobs,
            random_state=0,
            callbacks=None if bar.disable else [_advance(bar)],
            callbacks_every_iters=10,
        ).fit(affinities=affinities, initialization=start)
    return np.array(fitted, dtype=np.float64), float(fitted.kl_divergence)


def _advance(bar: Any) -> Callable[[int, float, Any], None]:
    def callback(iteration: int, error: float, embedding: Any) -> None:
        bar.update(10)
        bar.set_postfix_str(f"KL {error:.3f}", refresh=False)

    return callback


def _with_sklearn(z: NDArray, start: NDArray, perplexity: float, iterations: int) -> tuple[NDArray[np.float64], float]:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    model = TSNE(
        perplexity=perplexity, init=start.astype(np.float32), max_iter=EARLY_ITERATIONS + iterations, random_state=0
    )
    with threadpool_limits(1, user_api="openmp"):
        points = model.fit_transform(z)
    return points.astype(np.float64), float(model.kl_divergence_)
