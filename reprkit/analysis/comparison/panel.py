"""Predictions of several encoders on the same test samples, and their scores on resamples of those samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from reprkit.analysis.bootstrap import bootstrap_sums
from reprkit.analysis.groups import COLUMN as GROUP
from reprkit.analysis.groups import Codes, count_units, group_names, groups_of_table
from reprkit.analysis.probes.metrics import from_sums
from reprkit.analysis.probes.protocol import FLOOR, HEAD
from reprkit.errors import InputError
from reprkit.tasks import Task

if TYPE_CHECKING:
    from reprkit.embeddings import Embeddings


class Key(NamedTuple):
    """Who predicted: numbers of unlike protocols never meet, since they are kept under different keys."""

    encoder: str
    seed: int
    predictor: str
    protocol: str


Predictions = tuple[str, int, pd.DataFrame, Mapping[str, str]]
"""Encoder, seed, table of one task (id, target, predictors), and predictor -> protocol id."""


@dataclass(frozen=True, eq=False)
class Panel:
    """What everybody predicts for one task.

    Attributes:
        task: the task.
        target: [n] targets of the test samples that have one, in the order of their ids.
        predictions: who -> [n] class indices or values; [models, n] of a probe that averages its scores over models.
        groups: [n] of the samples, where they come in groups.
    """

    task: Task
    target: NDArray
    predictions: dict[Key, NDArray]
    groups: Codes | None = None

    @property
    def units(self) -> int:
        """How many independent units the test samples are: groups, or samples."""
        return count_units(self.groups, len(self.target))

    def right(self, key: Key) -> NDArray[np.bool_]:
        """Is each prediction of a class right? [n] or [models, n]"""
        return np.asarray(self.predictions[key] == self.target)


def make_panel(task: Task, tables: Iterable[Predictions]) -> Panel:
    """Join prediction tables of one task by id.

    Args:
        task: the task.
        tables: encoder, seed, table (id, target, one column a predictor, or several numbered ones), and predictor ->
            protocol id; a column without one is left out, and so is the floor. Own heads have no protocol.

    Raises:
        InputError: the tables hold different ids or targets.
    """
    first: tuple[str, pd.DataFrame] | None = None
    predictions: dict[Key, NDArray] = {}
    for encoder, seed, table, protocols in tables:
        name, own = f"{encoder} (seed {seed})", table.assign(id=table["id"].astype(str)).set_index("id").sort_index()
        if first is None:
            first = name, own
        if not own.index.equals(first[1].index):
            apart = len(own.index.symmetric_difference(first[1].index))
            raise InputError(
                f"task {task.name}: {apart} test ids are only in {first[0]} or only in {name}; compare encoders on one "
                "test split of one data set"
            )
        if (GROUP in own) != (GROUP in first[1]):
            raise InputError(
                f"task {task.name}: of {first[0]} and {name} only one has its samples in groups; probe again"
            )
        unequal = int((own["target"].to_numpy() != first[1]["target"].to_numpy()).sum())
        if unequal:
            raise InputError(
                f"task {task.name}: {unequal} targets of {first[0]} and {name} differ; label them from one source"
            )
        for predictor, protocol in protocols.items():
            several = [name for name in own if str(name).startswith(f"{predictor}[")]
            found = own[predictor] if predictor in own else own[several]
            if predictor == FLOOR or not found.size or found.isna().to_numpy().any():
                continue
            key = Key(encoder, seed, predictor, "" if predictor == HEAD else protocol)
            predictions[key] = found.to_numpy().T
    if first is None:
        return Panel(task, np.array([]), predictions)
    return Panel(task, first[1]["target"].to_numpy(), predictions, groups_of_table(first[1]))


def head_tables(embeddings: Embeddings, tasks: Iterable[str]) -> dict[str, pd.DataFrame]:
    """What the encoder's own heads predict on the test split, where the file holds their outputs: id, target, head.

    A column `group` names the groups that rows come in, if they do.
    """
    tables = {}
    for name in tasks:
        task, outputs = embeddings.tasks[name], embeddings.logits("test", name)
        if outputs is None:
            continue
        predicted = outputs.argmax(axis=1) if task.is_discrete else outputs[:, 0] * task.std + task.mean
        target = embeddings.targets("test", name)
        frame = pd.DataFrame({"id": embeddings.ids("test"), "target": target, HEAD: predicted})
        if embeddings.groups:
            frame[GROUP] = group_names(frame["id"], embeddings.groups, str(embeddings.path))
        tables[name] = frame[task.valid(target)]
    return tables


def metrics_of(task: Task) -> tuple[str, ...]:
    """The metrics that are compared, headline first."""
    if not task.is_discrete:
        return ("r2", "mae")
    return ("accuracy", "balanced_accuracy", *(("mae",) if task.kind == "ordinal" else ()))


def resampled_scores(panel: Panel, *, resamples: int = 2000, seed: int = 0) -> dict[Key, dict[str, NDArray]]:
    """Every metric of every predictor: on all test samples, then on bootstrap resamples of them, or of their groups.

    All predictors share the resamples, those of `paired.paired_difference`: differences of scores are paired.

    Returns:
        who -> metric -> [1 + resamples].
    """
    task, target = panel.task, panel.target
    if not len(target) or not panel.predictions:
        return {}
    blocks: dict[tuple[Key | None, int, str], Any] = {
        (None, 0, term): columns for term, columns in _shared(task, target).items()
    }
    for key, found in panel.predictions.items():
        for model, predicted in enumerate(np.atleast_2d(found)):
            error = np.abs(predicted - target).astype(np.float64)[:, None]
            blocks[key, model, "absolute"] = error
            if task.is_discrete:
                blocks[key, model, "right"] = _by_class(target, predicted == target, task.num_outputs)
            else:
                blocks[key, model, "squared"] = error**2
    table = sparse.hstack([sparse.csr_array(columns) for columns in blocks.values()], format="csr")
    sums = np.vstack([table.sum(axis=0), bootstrap_sums(table, resamples, seed=seed, groups=panel.groups)])
    ends = np.cumsum([columns.shape[1] for columns in blocks.values()])[:-1]
    pieces: dict[Key | None, dict[int, dict[str, NDArray]]] = {}
    for (owner, model, term), piece in zip(blocks, np.split(sums, ends, axis=1), strict=True):
        pieces.setdefault(owner, {}).setdefault(model, {})[term] = piece
    shared = pieces.pop(None)[0]
    return {
        key: {
            metric: np.mean([from_sums(metric, shared | own) for own in models.values()], axis=0)
            for metric in metrics_of(task)
        }
        for key, models in pieces.items()
        if key is not None
    }


def _shared(task: Task, target: NDArray) -> dict[str, Any]:
    count = np.ones((len(target), 1))
    if task.is_discrete:
        return {"count": count, "class": _by_class(target, count[:, 0], task.num_outputs)}
    centred = target - target.mean()
    return {"count": count, "target": np.stack([centred, centred**2], axis=1)}


def _by_class(target: NDArray, values: NDArray, classes: int) -> sparse.csr_array:
    cells = np.arange(len(target)), target.astype(np.int64)
    return sparse.csr_array((values.astype(np.float64), cells), shape=(len(target), classes))
