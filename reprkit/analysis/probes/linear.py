"""The linear probe: multinomial logistic regression on standardised embeddings, or ridge regression."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.probes.data import Space, TaskData
from reprkit.analysis.probes.metrics import LOG_FLOOR
from reprkit.analysis.probes.outcome import Outcome, Selection, edge_remark, score
from reprkit.analysis.probes.protocol import Protocol
from reprkit.analysis.probes.solver import LinearFit, cross_entropy, fit_linear_predictor, log_softmax

PATIENCE = 2


def fit_linear(space: Space, data: TaskData, protocol: Protocol) -> Outcome:
    """Logistic regression with C by validation log-loss; for regression targets, ridge with alpha by validation R2."""
    x = {split: space.standard[split][rows] for split, rows in data.rows.items()}
    return _logistic(x, data, protocol) if data.task.is_discrete else _ridge(x, data, protocol)


def _logistic(x: dict[str, NDArray], data: TaskData, protocol: Protocol) -> Outcome:
    # A class that train does not hold has no column: its log-probability is -inf, and clipped where it is scored.
    present, encoded = np.unique(data.y["train"], return_inverse=True)
    loss = cross_entropy(encoded)
    selection = Selection()
    model: LinearFit | None = None
    worse = 0
    for c in protocol.linear_c:
        model = fit_linear_predictor(x["train"], loss, len(present), c, start=model)
        log_p = _log_probabilities(model, x["val"], present, data.task.num_outputs)
        gain = float(log_p[np.arange(len(log_p)), data.y["val"]].clip(min=LOG_FLOOR).mean())
        worse = worse + 1 if gain < selection.value else 0
        selection.offer(gain, {"C": c}, model)
        if worse == PATIENCE:
            break
    chosen: LinearFit = selection.model
    log_p = _log_probabilities(chosen, x["test"], present, data.task.num_outputs)
    remarks = edge_remark("C", selection.params["C"], protocol.linear_c)
    if not chosen.converged:
        remarks += (f"not converged (largest gradient {chosen.gradient:.1e})",)
    return Outcome(log_p.argmax(1), selection.params, -selection.value, len(encoded), log_p, "log_loss", remarks)


def _log_probabilities(model: LinearFit, x: NDArray, present: NDArray, classes: int) -> NDArray[np.float64]:
    log_p = np.full((len(x), classes), -np.inf)
    log_p[:, present] = log_softmax(model.scores(x))
    return log_p


def _ridge(x: dict[str, NDArray], data: TaskData, protocol: Protocol) -> Outcome:
    """All alphas from one eigendecomposition of the centred second-moment matrix."""
    target = data.y["train"]
    centre, offset = x["train"].mean(axis=0), float(target.mean())
    centred = x["train"] - centre
    values, vectors = np.linalg.eigh(centred.T @ centred)
    moments = vectors.T @ (centred.T @ (target - offset))
    selection = Selection()
    for alpha in protocol.ridge_alpha:
        weights = vectors @ (moments / (np.maximum(values, 0.0) + alpha))
        predicted = (x["val"] - centre) @ weights + offset
        selection.offer(score(data.task, predicted, data.y["val"]), {"alpha": alpha}, weights)
    test = (x["test"] - centre) @ selection.model + offset
    remarks = edge_remark("alpha", selection.params["alpha"], protocol.ridge_alpha)
    return Outcome(test, selection.params, selection.value, len(target), remarks=remarks)
