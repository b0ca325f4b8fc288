"""Rows of the table that need no fit: the floor below all probes, and the encoder's own head."""

from __future__ import annotations

import numpy as np

from reprkit.analysis.probes.data import TaskData
from reprkit.analysis.probes.outcome import Outcome
from reprkit.analysis.solver import log_softmax
from reprkit.analysis.workspace import Workspace


def prior(data: TaskData) -> Outcome:
    """The floor: the most frequent class of train (the lowest index of equal ones), or its mean value."""
    target, n = data.y["train"], len(data.y["test"])
    if not data.task.is_discrete:
        return Outcome(np.full(n, target.mean()), {}, float("nan"), len(target))
    counts = np.bincount(target, minlength=data.task.num_outputs)
    with np.errstate(divide="ignore"):
        log_p = np.log(counts / counts.sum())
    return Outcome(np.full(n, counts.argmax()), {}, float("nan"), len(target), np.tile(log_p, (n, 1)))


def own_head(workspace: Workspace, data: TaskData) -> Outcome | None:
    """What the encoder's own head says of the test split; None if the file does not hold its outputs."""
    outputs = workspace.embeddings.logits("test", data.task.name)
    if outputs is None:
        return None
    outputs = outputs[data.rows["test"]].astype(np.float64)
    if not data.task.is_discrete:
        return Outcome(outputs[:, 0] * data.task.std + data.task.mean, {}, float("nan"), 0)
    log_p = log_softmax(outputs.T).T
    return Outcome(log_p.argmax(axis=1), {}, float("nan"), 0, log_p)
