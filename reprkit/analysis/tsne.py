"""t-SNE maps that are the same on every run, of the same samples for every encoder, with their quality beside them.

A map is a picture, not a measurement: distances between clusters and their sizes mean little. What it keeps of the
embedding is therefore measured (`map_quality`), and probes never see its coordinates.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.neighbors import exact_neighbors
from reprkit.analysis.repulsion import Divergence
from reprkit.errors import InputError
from reprkit.recipe import TsneConfig
from reprkit.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

    from reprkit.embeddings import Embeddings

log = logging.getLogger(__name__)

BARNES_HUT_BELOW = 800
"""Up to this many points openTSNE's Barnes-Hut gradient is the faster one; above it, `repulsion`."""

EARLY_ITERATIONS = 250
INITIAL_SPREAD = 1e-4
QUALITY_NEIGHBORS = 10
SPEARMAN_ROWS = 500
MIN_POINTS = 5


@dataclass(frozen=True)
class TsneMap:
    """A two-dimensional map of an embedding.

    Attributes:
        points: [N, 2] float64 coordinates; all zero if there was nothing to map.
        neighbors: [N, k] the nearest rows in the embedding, nearest first; [N, 0] if there was nothing to map.
        perplexity: the perplexity used: what was asked for, or (N - 1) / 3 if that is smaller.
        kl: Kullback-Leibler divergence reached, in nats; NaN if there was nothing to map.
        status: `ok`, or a sentence.
    """

    points: NDArray[np.float64]
    neighbors: NDArray[np.int64]
    perplexity: float
    kl: float
    status: str


def tsne(
    embeddings: Embeddings,
    *,
    config: TsneConfig | None = None,
    split: str = "test",
    ids: Sequence[str] | None = None,
    label: str | None = None,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Map one split of an embeddings file to the plane; see `tsne_with_quality`, whose first result this is."""
    return tsne_with_quality(embeddings, config=config, split=split, ids=ids, label=label, n_jobs=n_jobs)[0]


def tsne_with_quality(
    embeddings: Embeddings,
    *,
    config: TsneConfig | None = None,
    split: str = "test",
    ids: Sequence[str] | None = None,
    label: str | None = None,
    n_jobs: int = 1,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Map one split of an embeddings file to the plane, and measure what the map keeps.

    Args:
        embeddings: an open embeddings file.
        config: size, perplexity and iterations.
        split: the split to map.
        ids: samples to map, in this order; None selects `config.samples` of them by `select_ids` over the first
            task, which gives the same samples for every encoder of the same data.
        label: name of the encoder; None takes the file's.
        n_jobs: threads of the optimisation. The result does not depend on it. They wait for one another many times a
            second: more than one helps on idle cores and hurts badly on busy ones.

    Returns:
        Coordinates, a row a sample: encoder, seed, task (the task of an encoder trained for that one alone, else
        empty), id, x, y, and the target of each task in a column of its name. And one row of quality: encoder, seed,
        task, n, perplexity, kl, knn_recall, spearman, status, and for each discrete task hit_<task> and
        chance_<task> (see `map_quality` and `label_hit`).

    Raises:
        InputError: the split or one of the ids is not in the file, or z holds values that are not finite.
    """
    import pandas as pd

    config = config or TsneConfig()
    if split not in embeddings.splits:
        raise InputError(f"t-SNE: the embeddings hold no split '{split}'; choose from {', '.join(embeddings.splits)}")
    all_ids = np.asarray(embeddings.ids(split)).astype(str)
    tasks = list(embeddings.tasks.values())
    targets = {task.name: np.asarray(embeddings.targets(split, task.name)) for task in tasks}
    if ids is None:
        ids = select_ids(all_ids, targets[tasks[0].name] if tasks else None, config.samples)
    rows = _rows_of(all_ids, ids, split)

    key: dict[str, Any] = {
        "encoder": embeddings.label if label is None else label,
        "seed": int(embeddings.seed),
        "task": embeddings.trained_tasks[0] if len(embeddings.trained_tasks) == 1 else "",
    }
    name = " ".join(str(part) for part in key.values()).strip()
    z = np.asarray(embeddings.z(split))[rows]
    made = embed_in_plane(
        z, perplexity=config.perplexity, iterations=config.iterations, n_jobs=n_jobs, name=f"t-SNE {name}"
    )
    columns = {task: values[rows] for task, values in targets.items()}
    points = {"id": all_ids[rows], "x": made.points[:, 0], "y": made.points[:, 1]}
    frame = pd.DataFrame({**{k: [v] * len(rows) for k, v in key.items()}, **points, **columns})

    quality: dict[str, Any] = {**key, "n": len(rows), "perplexity": made.perplexity, "kl": made.kl}
    quality |= {**map_quality(z, made), "status": made.status}
    for task in tasks:
        if task.is_discrete:
            hit, chance = label_hit(made.points, columns[task.name], task) if made.kl == made.kl else (np.nan,) * 2
            quality |= {f"hit_{task.name}": hit, f"chance_{task.name}": chance}
    return frame, pd.DataFrame([quality])


def embed_in_plane(
    z: NDArray,
    *,
    perplexity: float = 30.0,
    iterations: int = 500,
    n_jobs: int = 1,
    name: str = "t-SNE",
) -> TsneMap:
    """t-SNE of the rows of z [N, D] with exact neighbours and a fixed start, bitwise the same for any `n_jobs`.

    The map starts from the first two principal components (`initial_points`), as Kobak & Berens, "The art of using
    t-SNE for single-cell transcriptomics", 2019, advise: the overall layout then means something and repeats.

    Raises:
        InputError: z holds values that are not finite.
    """
    if not np.isfinite(z).all():
        raise InputError(f"{name}: the embedding holds NaN or infinite values; drop those rows or retrain the encoder")
    count = len(z)
    if count < MIN_POINTS:
        return _no_map(count, f"no map: {count} samples")
    centred = z - z.mean(axis=0, dtype=np.float64)
    rms = float(np.sqrt((centred**2).mean()))
    if rms <= 1e-6 * float(np.abs(z).max()):  # what is left is the rounding of float32
        return _no_map(count, "no map: the embedding is constant")
    standard = (centred / rms).astype(np.float32)  # the map has no scale, but the search for bandwidths starts at 1

    perplexity = min(float(perplexity), (count - 1) / 3)
    wanted = max(1, int(3 * perplexity))
    k = min(count - 1, max(wanted, QUALITY_NEIGHBORS))
    neighbors, distances = exact_neighbors(standard, k, metric="euclidean")
    start = initial_points(standard)
    try:
        from openTSNE import TSNE  # noqa: F401  only asks whether it is there
    except ImportError:
        log.warning("%s: openTSNE is not installed; scikit-learn's slower t-SNE draws the map", name)
        points, kl = _with_sklearn(standard, start, perplexity, iterations)
        status = "ok (by scikit-learn: openTSNE is not installed)"
    else:
        graph = (neighbors[:, :wanted], distances[:, :wanted])
        points, kl = _with_opentsne(graph, start, perplexity, iterations, n_jobs, name)
        status = "ok"
    distinct = len({row.tobytes() for row in standard})
    if status == "ok" and distinct < count / 2:
        status = f"ok (only {distinct} distinct embeddings among {count} samples)"
    return TsneMap(points, neighbors, perplexity, float(f"{kl:.6g}"), status)


def initial_points(z: NDArray) -> NDArray[np.float64]:
    """First two principal components [N, 2] of the rows of z, shrunk to a spread of 1e-4 on the first axis.

    The largest loading of each axis in magnitude is positive, so that signs do not depend on the LAPACK at hand. An
    axis without variance gets a faint fixed pattern instead: points that start on a line would stay on it.
    """
    from threadpoolctl import threadpool_limits

    centred = z - z.mean(axis=0, dtype=np.float64)
    with threadpool_limits(1, user_api="blas"):  # sums in an order that does not depend on the machine's cores
        if centred.shape[1] <= len(centred):
            _, axes = np.linalg.eigh(centred.T @ centred)
            axes = axes[:, ::-1][:, :2]
        else:
            _, weights = np.linalg.eigh(centred @ centred.T)
            axes = centred.T @ weights[:, ::-1][:, :2]
            axes /= np.maximum(np.linalg.norm(axes, axis=0), np.finfo(float).tiny)
        signs = np.sign(np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0))
        points = centred @ (axes * np.where(signs == 0, 1.0, signs))
    if points.shape[1] < 2:
        points = np.concatenate([points, np.zeros((len(points), 2 - points.shape[1]))], axis=1)
    spread = points.std(axis=0)
    for axis in range(2):
        if spread[axis] <= 1e-6 * spread[0]:
            points[:, axis] = 0.01 * spread[0] * np.random.RandomState(axis).standard_normal(len(points))
    return np.ascontiguousarray(points * (INITIAL_SPREAD / spread[0]))


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


def map_quality(z: NDArray, made: TsneMap) -> dict[str, float]:
    """What a map keeps of the embedding z [N, D] that it was made from.

    Returns:
        knn_recall: mean share of a sample's 10 nearest neighbours in z that are among its 10 nearest on the map.
        spearman: rank correlation of the pairwise distances in z and on the map, among the first 500 samples.
        Both are at most 1, and NaN where there is no map.
    """
    from scipy.spatial.distance import pdist
    from scipy.stats import spearmanr

    if np.isnan(made.kl):
        return {"knn_recall": np.nan, "spearman": np.nan}
    k = min(QUALITY_NEIGHBORS, made.neighbors.shape[1])
    on_map = _plane_neighbors(made.points, k)
    shared = (made.neighbors[:, :k, None] == on_map[:, None, :]).any(axis=2)
    near, far = pdist(z[:SPEARMAN_ROWS].astype(np.float64)), pdist(made.points[:SPEARMAN_ROWS])
    spearman = spearmanr(near, far).statistic if np.ptp(near) > 0 and np.ptp(far) > 0 else np.nan
    return {"knn_recall": float(shared.mean()), "spearman": float(spearman)}


def label_hit(points: NDArray, targets: NDArray, task: Task) -> tuple[float, float]:
    """Neighbourhood hit@10 and its chance level.

    The hit is the mean share of a sample's 10 nearest labelled samples on the map that carry its label; chance is
    that share if the labels were dealt out at random. NaN with fewer than 2 labelled samples.
    """
    valid = np.flatnonzero(task.valid(targets))
    if len(valid) < 2:
        return np.nan, np.nan
    labels = targets[valid]
    neighbors = _plane_neighbors(points[valid], min(QUALITY_NEIGHBORS, len(valid) - 1))
    _, counts = np.unique(labels, return_counts=True)
    chance = (counts * (counts - 1.0)).sum() / (len(labels) * (len(labels) - 1.0))
    return float((labels[neighbors] == labels[:, None]).mean()), float(chance)


def align(points: NDArray, reference: NDArray) -> NDArray[np.float64]:
    """Rotate or reflect a map [N, 2] onto another of the same samples (orthogonal Procrustes, no scaling).

    The orientation of a t-SNE map is arbitrary; aligned maps can be compared by eye.
    """
    centred = points - points.mean(axis=0)
    left, _, right = np.linalg.svd(centred.T @ (reference - reference.mean(axis=0)))
    return np.asarray(centred @ (left @ right), dtype=np.float64)


def _no_map(count: int, status: str) -> TsneMap:
    return TsneMap(np.zeros((count, 2)), np.zeros((count, 0), np.int64), np.nan, np.nan, status)


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


def _plane_neighbors(points: NDArray, k: int) -> NDArray[np.int64]:
    """[N, k] nearest other points; a tree keeps the full precision of the coordinates, which products would not."""
    from scipy.spatial import cKDTree

    _, found = cKDTree(points).query(points, k=k + 1)
    # A point is usually its own first hit, but not among duplicates: move it to the end wherever it is.
    own = found == np.arange(len(points))[:, None]
    order = np.argsort(own, axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)[:, :k].astype(np.int64)


def _rows_of(all_ids: NDArray, ids: Sequence[str], split: str) -> NDArray[np.int64]:
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
