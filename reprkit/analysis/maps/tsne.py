"""Maps of embeddings as tables: the same on every run, of the same samples for every encoder, with their quality.

A map is a picture, not a measurement: distances between clusters and their sizes mean little on t-SNE. What a map keeps
of the embedding is therefore measured (`maps.quality`), and probes never see its coordinates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.maps.cloud import QUALITY_NEIGHBORS, Cloud, used_perplexity
from reprkit.analysis.maps.linear import discriminant_map, principal_map
from reprkit.analysis.maps.optimise import embed_in_plane
from reprkit.analysis.maps.plane import PlaneMap
from reprkit.analysis.maps.quality import label_hit, map_quality, placed_hit, placed_recall
from reprkit.analysis.maps.selection import rows_of, select_ids
from reprkit.analysis.neighbors import exact_neighbors
from reprkit.analysis.workspace import Workspace
from reprkit.errors import InputError
from reprkit.recipe import TsneConfig
from reprkit.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

    from reprkit.embeddings import Embeddings

KINDS = ("tsne", "pca", "lda")
KEYS = ("encoder", "seed", "task", "map", "perplexity", "id", "x", "y")
"""Columns of coordinates; those of targets follow, each in the name of its task."""


def tsne(
    embeddings: Embeddings,
    *,
    config: TsneConfig | None = None,
    split: str = "test",
    ids: Sequence[str] | None = None,
    label: str | None = None,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Map one split of an embeddings file to the plane by t-SNE: the first result of `tsne_with_quality`.

    Args:
        embeddings, config, split, ids, label, n_jobs: see `draw_maps`.

    Returns:
        One row a sample: encoder, seed, id, map, x and y (in units of the map), perplexity, and a column of targets a
        task; `docs/results.md` names them all.

    Raises:
        InputError: see `draw_maps`.
    """
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
    """Map one split of an embeddings file to the plane by t-SNE, and measure what the map keeps.

    Args:
        embeddings, config, split, ids, label, n_jobs: see `draw_maps`.

    Returns:
        `Maps.frame` and `Maps.quality` of one map.

    Raises:
        InputError: see `draw_maps`.
    """
    drawn = draw_maps(embeddings, config=config, split=split, ids=ids, label=label, n_jobs=n_jobs)
    return drawn.frame(), drawn.quality()


@dataclass(frozen=True)
class Maps:
    """Maps of the same samples of one encoder.

    Attributes:
        key: encoder, seed, and task (that of an encoder trained for it alone, else empty).
        ids: [N] samples.
        z: [N, D] their embeddings.
        targets: task -> [N].
        tasks: task -> record.
        cloud: what all the maps were made from.
        maps: one or more.
        checkpoint: fingerprint of the encoder's checkpoint; empty if it is not known.
    """

    key: Mapping[str, Any]
    ids: NDArray[np.str_]
    z: NDArray
    targets: Mapping[str, NDArray]
    tasks: Mapping[str, Task]
    cloud: Cloud
    maps: Sequence[PlaneMap]
    checkpoint: str = ""

    def frame(self) -> pd.DataFrame:
        """Coordinates, a row a map and sample: encoder, seed, task, map, perplexity, id, x, y, and the tasks' targets.

        `map` is `tsne`, `pca`, or `lda:` with the name of a task; `perplexity` is NaN but for t-SNE.
        """
        return _table(self.key, self.maps, [made.points for made in self.maps], self.ids, self.targets)

    def quality(self) -> pd.DataFrame:
        """One row a map: encoder, seed, task, map, n, perplexity, kl, explained, knn_recall, trustworthiness, spearman,
        status, and for each discrete task hit_<task> and chance_<task>: see `PlaneMap`, `map_quality`, `label_hit`.
        """
        rows = []
        for made in self.maps:
            name = _bar_name(self.key, made.kind)
            row = {**_numbers(self.key, made, len(self.ids)), **map_quality(self.z, made, name=name)}
            row["status"] = made.status
            for task in filter(lambda t: t.is_discrete, self.tasks.values()):
                found = label_hit(made.points, self.targets[task.name], task) if made.drawn else (np.nan, np.nan)
                row |= dict(zip((f"hit_{task.name}", f"chance_{task.name}"), found, strict=True))
            rows.append(row)
        return _frame(rows)

    def place(
        self, embeddings: Embeddings, ids: Sequence[str], *, split: str = "test", n_jobs: int = 1
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Put other samples of the same encoder on the maps, which stay as they are.

        Args:
            embeddings: an open file that holds them.
            ids: the samples, in this order.
            split: where they are.
            n_jobs: threads; the result does not depend on it.

        Returns:
            The same columns as `frame` and `quality`, of the new samples. Their neighbours are mapped samples: recall
            is the share of the 10 nearest of them in z that are among the 10 nearest on the map, the hit that of the 10
            nearest labelled ones with the same label. kl, trustworthiness and spearman are NaN.

        Raises:
            InputError: another encoder, by its dimension or its checkpoint's fingerprint; or an unknown sample.
        """
        check_encoder(embeddings, self.checkpoint, len(self.cloud.centre))
        z, all_ids, rows = _read(embeddings, split, ids)
        standard = self.cloud.standardise(z)
        targets = {name: np.asarray(embeddings.targets(split, name))[rows] for name in embeddings.tasks}
        drawn = [made for made in self.maps if made.drawn]
        points = [made.transform(z, n_jobs=n_jobs) for made in drawn]
        neighbors = np.zeros((len(z), 0), np.int64)
        if drawn:
            k = min(QUALITY_NEIGHBORS, len(self.ids))
            neighbors, _ = exact_neighbors(self.cloud.rows, k, standard, metric="euclidean")
        quality = []
        for made, placed in zip(drawn, points, strict=True):
            row = {**_numbers(self.key, made, len(rows)), "kl": np.nan}
            row |= {"knn_recall": placed_recall(neighbors, made.points, placed), "trustworthiness": np.nan}
            row |= {"spearman": np.nan, "status": f"ok (placed on a map of {len(self.ids)} samples)"}
            for name, task in self.tasks.items():
                if task.is_discrete and embeddings.tasks.get(name) == task:
                    found = placed_hit(made.points, self.targets[name], placed, targets[name], task)
                    row |= dict(zip((f"hit_{name}", f"chance_{name}"), found, strict=True))
            quality.append(row)
        return _table(self.key, drawn, points, all_ids[rows], targets), _frame(quality)


def draw_maps(
    embeddings: Embeddings,
    *,
    config: TsneConfig | None = None,
    kinds: Sequence[str] = ("tsne",),
    perplexities: Sequence[float] | None = None,
    split: str = "test",
    ids: Sequence[str] | None = None,
    label: str | None = None,
    n_jobs: int = 1,
) -> Maps:
    """Map samples of an embeddings file to the plane, in several ways from one search for their neighbours.

    Args:
        embeddings: an open embeddings file.
        config: size, perplexity and iterations.
        kinds: any of `tsne`, `pca` (of the samples on the map) and `lda` (one map a task of classes, fitted on train).
        perplexities: of t-SNE, a map each; None takes the one of `config`. Those too large for the samples count once.
        split: the split to map.
        ids: samples to map, in this order; None selects `config.samples` of them by `select_ids` over the first
            task, which gives the same samples for every encoder of the same data.
        label: name of the encoder; None takes the file's.
        n_jobs: threads of the optimisation. The result does not depend on it. They wait for one another many times a
            second: more than one helps on idle cores and hurts badly on busy ones.

    Raises:
        InputError: the split or one of the ids is not in the file, z holds values that are not finite, an unknown kind,
            or `lda` of a file without a train split or without a task of classes.
    """
    config = config or TsneConfig()
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise InputError(f"maps: '{unknown[0]}' is unknown; choose from {', '.join(KINDS)}")
    tasks = dict(embeddings.tasks)
    clash = [name for name in tasks if name in KEYS]
    if clash:
        raise InputError(f"maps: task '{clash[0]}' has the name of a column of coordinates; rename the task")
    z, all_ids, rows = _read(embeddings, split, ids, config.samples)
    key: dict[str, Any] = {
        "encoder": embeddings.label if label is None else label,
        "seed": int(embeddings.seed),
        "task": embeddings.trained_tasks[0] if len(embeddings.trained_tasks) == 1 else "",
    }
    asked = [config.perplexity] if perplexities is None else list(perplexities)
    used = list(dict.fromkeys(used_perplexity(p, len(z)) for p in asked)) if "tsne" in kinds else []
    cloud = Cloud.of(z, used, name=_bar_name(key, "t-SNE"))
    maps: list[PlaneMap] = []
    for kind in dict.fromkeys(kinds):
        if kind == "tsne":
            maps += [
                embed_in_plane(
                    cloud, perplexity=p, iterations=config.iterations, n_jobs=n_jobs,
                    name=_bar_name(key, "t-SNE" if len(used) == 1 else f"t-SNE perplexity {p:.4g},"),
                )
                for p in used
            ]  # fmt: skip
        elif kind == "pca":
            maps.append(principal_map(cloud))
        else:
            maps += _discriminants(cloud, z, embeddings, split)
    targets = {name: np.asarray(embeddings.targets(split, name))[rows] for name in tasks}
    return Maps(key, all_ids[rows], z, targets, tasks, cloud, maps, checkpoint_of(embeddings))


def _discriminants(cloud: Cloud, z: NDArray, embeddings: Embeddings, split: str) -> list[PlaneMap]:
    names = [name for name, task in embeddings.tasks.items() if task.is_discrete]
    if not names:
        raise InputError("maps: lda needs a task of classes, and the file has none; leave it out")
    if split == "train":
        raise InputError("maps: lda is fitted on train, and shows nothing true of it there; map another split")
    workspace = Workspace.of(embeddings)
    return [discriminant_map(cloud, z, workspace, name) for name in names]


def _read(
    embeddings: Embeddings, split: str, ids: Sequence[str] | None, samples: int = 0
) -> tuple[NDArray, NDArray[np.str_], NDArray[np.int64]]:
    """Embeddings [n, D] of the samples, all ids of the split, and the rows [n] of the samples there."""
    if split not in embeddings.splits:
        raise InputError(f"t-SNE: the embeddings hold no split '{split}'; choose from {', '.join(embeddings.splits)}")
    all_ids = np.asarray(embeddings.ids(split)).astype(str)
    if ids is None:
        ids = select_ids(all_ids, first_targets(embeddings, split), samples)
    rows = rows_of(all_ids, ids, split)
    return np.asarray(embeddings.z(split))[rows], all_ids, rows


def first_targets(embeddings: Embeddings, split: str) -> NDArray | None:
    """Targets [N] of the first task, by which samples are stratified; None if there is no task."""
    first = next(iter(embeddings.tasks), None)
    return None if first is None else np.asarray(embeddings.targets(split, first))


def check_encoder(embeddings: Embeddings, checkpoint: str, dim: int) -> None:
    """Refuse new samples of another encoder than the map's.

    Args:
        embeddings: the file of the new samples.
        checkpoint: fingerprint of the map's; empty if it is not known.
        dim: of the embeddings on the map.

    Raises:
        InputError: fingerprints that differ, or dimensions.
    """
    where, other = getattr(embeddings, "path", "") or embeddings.label, checkpoint_of(embeddings)
    if checkpoint and other and other != checkpoint:
        raise InputError(
            f"{where}: was embedded by another checkpoint ({other[:8]}) than the map ({checkpoint[:8]}), and its "
            "dimensions mean other things; embed the new samples with the map's encoder"
        )
    if embeddings.dim != dim:
        raise InputError(f"{where}: has {embeddings.dim} dimensions, the map's encoder {dim}; place its own embeddings")


def checkpoint_of(embeddings: Embeddings) -> str:
    """Fingerprint of the checkpoint that made a file; empty if it is not known."""
    return _fingerprint(embeddings, "checkpoint")


def not_mapped(embeddings: Embeddings, mapped: Embeddings, ids: Iterable[str], split: str) -> NDArray[np.int64]:
    """Rows of a split that are not among the mapped samples `ids` of another file, or of the same one."""
    every = np.asarray(embeddings.ids(split)).astype(str)
    data = _fingerprint(embeddings, "dataset")
    same = str(embeddings.path) == str(mapped.path) or (data and data == _fingerprint(mapped, "dataset"))
    return np.flatnonzero(~np.isin(every, list(ids))) if same else np.arange(len(every))


def _fingerprint(embeddings: Embeddings, name: str) -> str:
    return str((embeddings.meta.get("fingerprints") or {}).get(name) or "")


def _bar_name(key: Mapping[str, Any], kind: str) -> str:
    return " ".join([kind, *(str(part) for part in key.values())]).strip()


def _numbers(key: Mapping[str, Any], made: PlaneMap, n: int) -> dict[str, Any]:
    own = {"perplexity": made.perplexity, "kl": made.kl, "explained": made.explained}
    return {**key, "map": made.kind, "n": n, **own}


def _table(
    key: Mapping[str, Any],
    maps: Sequence[PlaneMap],
    points: Sequence[NDArray],
    ids: NDArray[np.str_],
    targets: Mapping[str, NDArray],
) -> pd.DataFrame:
    import pandas as pd

    frames = []
    for made, xy in zip(maps, points, strict=True):
        own = {**key, "map": made.kind, "perplexity": made.perplexity}
        columns = {"id": ids, "x": xy[:, 0], "y": xy[:, 1], **targets}
        frames.append(pd.DataFrame({**{name: [value] * len(ids) for name, value in own.items()}, **columns}))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*KEYS, *targets])


def _frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows)
