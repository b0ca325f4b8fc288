"""What a page shows of several encoders, on the same samples: maps, targets, predictions, and who moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.maps.plane import align
from reprkit.analysis.maps.tsne import draw_maps
from reprkit.analysis.probes import probe_with_predictions
from reprkit.analysis.workspace import Workspace
from reprkit.embeddings import distinct_labels
from reprkit.errors import InputError
from reprkit.recipe import ProbeConfig, TsneConfig
from reprkit.tasks import Task

if TYPE_CHECKING:
    from reprkit.embeddings import Embeddings

NEIGHBORS = 10
"""Nearest neighbours in z whose overlap between two encoders tells who moved."""


@dataclass(frozen=True)
class View:
    """One encoder's part of a page.

    Attributes:
        label: its name.
        points: [N, 2] coordinates of the map.
        caption: what the map keeps, in a line.
        predicted: task -> [N] class indices or values that the probe predicts; NaN where there is no prediction.
        kept: [N] share of the 10 nearest neighbours in z that the sample has in the first encoder too (in the second,
            for the first encoder); NaN with one encoder.
    """

    label: str
    points: NDArray[np.float64]
    caption: str
    predicted: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    kept: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Exploration:
    """Everything on a page, sample by sample in one order.

    Attributes:
        ids: [N] sample ids.
        tasks: the tasks that can colour the maps.
        targets: task -> [N] class indices or values; NaN where missing.
        views: one an encoder.
        probe: name of the probe behind `View.predicted`; empty without predictions.
    """

    ids: Sequence[str]
    tasks: Mapping[str, Task]
    targets: Mapping[str, NDArray[np.float64]]
    views: Sequence[View]
    probe: str = ""


def gather(
    files: Sequence[Embeddings],
    *,
    config: TsneConfig | None = None,
    probe: str = "linear",
    labels: Sequence[str] | None = None,
) -> Exploration:
    """Map the same test samples of every file, and predict their targets with one probe.

    Args:
        files: open embeddings files of the same samples; the first is the reference that others are turned onto.
        config: samples, perplexity and iterations of the maps.
        probe: the probe whose predictions can be seen (fitted on train, as always); empty leaves them out.
        labels: names of the encoders; None takes the files'.

    Raises:
        InputError: no file, a split or sample that a file lacks, or an unknown probe.
    """
    if not files:
        raise InputError("explore: give at least one embeddings file")
    names = list(labels) if labels is not None else list(distinct_labels(files, across_seeds=True))
    tasks = {name: task for file in reversed(files) for name, task in file.tasks.items()}
    ids: list[str] | None = None
    maps: list[NDArray[np.float64]] = []
    captions, neighbors, predicted = [], [], []
    for file, name in zip(files, names, strict=True):
        drawn = draw_maps(file, config=config, ids=ids, label=name)
        ids = drawn.ids.tolist()
        points = drawn.maps[0].points
        maps.append(points if not maps else align(points, maps[0]))
        captions.append(_caption(dict(drawn.quality().iloc[0]), list(file.tasks)))
        neighbors.append(drawn.cloud.neighbors[:, :NEIGHBORS] if drawn.maps[0].drawn else None)
        predicted.append(_predictions(file, probe, ids) if probe else {})
        if len(maps) == 1:
            targets = {task: _known(tasks[task], drawn.targets[task]) for task in file.tasks}
    views = []
    for number, (name, points, caption) in enumerate(zip(names, maps, captions, strict=True)):
        other = neighbors[0 if number else 1] if len(files) > 1 else None
        mine = neighbors[number]
        kept = None
        if other is not None and mine is not None:
            kept = (mine[:, :, None] == other[:, None, :]).any(axis=2).mean(axis=1)
        views.append(View(name, points, caption, predicted[number], kept))
    assert ids is not None
    return Exploration(ids, {name: tasks[name] for name in targets}, targets, views, probe)


def _known(task: Task, values: NDArray) -> NDArray[np.float64]:
    return np.where(task.valid(values), values, np.nan).astype(np.float64)


def _predictions(file: Embeddings, probe: str, ids: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    found = probe_with_predictions(Workspace(file), config=ProbeConfig(probes=(probe,), bootstrap=2), progress=False)
    made = {}
    for task, frame in found.predictions.items():
        if probe in frame:
            column = dict(zip(frame["id"].astype(str), frame[probe].astype(float), strict=True))
            made[task] = np.array([column.get(name, np.nan) for name in ids])
    return made


def _caption(quality: Mapping[Any, Any], tasks: Sequence[str]) -> str:
    status = str(quality["status"])
    if not status.startswith("ok"):
        return status
    parts = [f"{quality['knn_recall']:.0%} of 10 neighbours kept", f"distances {quality['spearman']:.2f} (Spearman)"]
    hits = [(task, quality.get(f"hit_{task}"), quality.get(f"chance_{task}")) for task in tasks]
    parts += [f"{t} {hit:.0%} same label (chance {chance:.0%})" for t, hit, chance in hits if isinstance(hit, float)]
    return " · ".join(parts)
