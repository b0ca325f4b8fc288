"""The upper rung: a network with one hidden layer, the head that the encoders themselves are trained with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.probes.data import Scale, TaskData, fitting_rows, labelled_blocks, val_rows
from reprkit.analysis.probes.outcome import Outcome, log_score, score
from reprkit.analysis.probes.protocol import Protocol
from reprkit.analysis.solver import log_softmax
from reprkit.analysis.universal.perceptron import PENALTIES, choose_mlp
from reprkit.analysis.workspace import Workspace


def fit_mlp(workspace: Workspace, data: TaskData, protocol: Protocol) -> Outcome:
    """D -> 64 -> C with ReLU on standardised features, by Adam; penalty and epoch by validation loss.

    Penalties, rate, batches and patience are those of `reprkit.analysis.universal.perceptron`. The loss is
    cross-entropy, or the squared error of the standardised target. It is not convex, so the result depends on the seed
    of its first weights.
    """
    scale, discrete = Scale.of(data), data.task.is_discrete
    picked, remarks = fitting_rows(data, protocol)
    held, more = val_rows(data, protocol)

    mean, factors = workspace.mean.astype(np.float32), workspace.scale.astype(np.float32)

    def standard(block: NDArray[np.float32]) -> NDArray[np.float32]:
        x = block - mean
        x *= factors
        return x

    def encode(targets: NDArray) -> NDArray:
        return data.encode(targets) if discrete else scale.forward(targets)

    x, y = standard(workspace.rows("train", picked)), encode(data.targets["train"][picked])
    val_x, val_y = standard(workspace.rows("val", held)), encode(data.targets["val"][held])
    usable = data.task.valid(val_y)  # no output stands for a class that train lacks
    choose_x, choose_y = (val_x[usable], val_y[usable]) if usable.any() else (x, y)
    outputs = len(data.present) if discrete else 1
    found = choose_mlp(x, y, choose_x, choose_y, outputs, seed=protocol.seed)

    def answer(x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Log-probabilities [n, C], or values [n]."""
        logits = found.logits(x)
        return data.spread_out(log_softmax(logits), len(x)) if discrete else scale.back(logits[0])

    truth, on_val = data.targets["val"][held], answer(val_x)
    parts = [answer(standard(block)) for block in labelled_blocks(workspace, data, "test")]
    test = np.concatenate(parts)
    params = {"penalty": PENALTIES[int(np.argmin(found.restarts))]}
    if not discrete:
        return Outcome(test, params, score(data.task, on_val, truth), len(picked), remarks=remarks + more)
    val_value = -log_score(on_val, truth)
    return Outcome(test.argmax(1), params, val_value, len(picked), test, "log_loss", remarks + more)
