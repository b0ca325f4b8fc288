"""The linear probe: multinomial logistic regression on standardised embeddings, or ridge regression."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis import solver
from reprkit.analysis.probes.data import Moments, TaskData
from reprkit.analysis.probes.outcome import Outcome, Selection, edge_remark, log_score, score, unconverged_remark
from reprkit.analysis.probes.protocol import Protocol
from reprkit.analysis.probes.ridge import cross_moments, linear_scores, ridge_path
from reprkit.analysis.rows import Rows, stratified_rows
from reprkit.analysis.workspace import Workspace

PATIENCE = 2
"""Values of C that bring a higher validation loss, after which larger ones are not tried."""


def fit_linear(workspace: Workspace, data: TaskData, protocol: Protocol) -> Outcome:
    """Logistic regression with C by validation log-loss; for regression targets, ridge with alpha by validation R2."""
    return (_logistic if data.task.is_discrete else _ridge)(workspace, data, protocol)


def search_rows(workspace: Workspace, data: TaskData, protocol: Protocol) -> tuple[Rows, NDArray, bool]:
    """Centred train rows in memory on which C is chosen, their targets, and whether these are all that there are."""
    targets = data.targets["train"]
    complete = len(data.rows["train"]) <= protocol.subsample
    if complete and workspace.in_memory:
        return workspace.centred("train"), targets, True
    picked = stratified_rows(targets, protocol.subsample, seed=protocol.seed)
    rows = workspace.rows("train", picked) - workspace.mean.astype(np.float32)
    return Rows.of(rows), targets[picked], complete


def search_remark(data: TaskData, searched: NDArray, complete: bool) -> tuple[str, ...]:
    """What the status column says of a C that was chosen on part of the rows."""
    return () if complete else (f"C chosen on {len(searched)} of {len(data.rows['train'])} train samples",)


def _logistic(workspace: Workspace, data: TaskData, protocol: Protocol) -> Outcome:
    # A class that train does not hold has no output: its log-probability is -inf, and clipped where it is scored.
    present = len(data.present)
    counts = np.bincount(data.encode(data.y["train"]), minlength=present)
    curvature = solver.logistic_curvature(counts)

    def fit(rows: Rows, targets: NDArray, c: float, start: solver.LinearFit | None) -> solver.LinearFit:
        encoded = data.encode(targets)
        return solver.fit_linear(
            rows, solver.cross_entropy(encoded), present, c, count=int((encoded >= 0).sum()), scale=workspace.scale,
            eigen=workspace.correlation_eigen, curvature=curvature, start=start, bias=np.log(counts / counts.sum()),
        )  # fmt: skip

    def log_probabilities(model: solver.LinearFit, split: str) -> NDArray[np.float64]:
        rows = data.rows[split]
        return data.spread_out(solver.log_softmax(model.scores(workspace.centred(split))[:, rows]), len(rows))

    rows, targets, complete = search_rows(workspace, data, protocol)
    selection, model, worse = Selection(), None, 0
    for c in protocol.linear_c:
        model = fit(rows, targets, c, model)
        gain = log_score(log_probabilities(model, "val"), data.y["val"])
        worse = worse + 1 if gain < selection.value else 0
        selection.offer(gain, {"C": c}, model)
        if worse == PATIENCE:
            break
    chosen: solver.LinearFit = selection.model
    remarks = search_remark(data, targets, complete) + edge_remark("C", chosen.c, protocol.linear_c)
    if not complete:
        chosen = fit(workspace.centred("train"), data.targets["train"], chosen.c, chosen)
    log_p = log_probabilities(chosen, "test")
    remarks += unconverged_remark(chosen)
    n_train = len(data.rows["train"])
    return Outcome(log_p.argmax(1), selection.params, -selection.value, n_train, log_p, "log_loss", remarks)


def _ridge(workspace: Workspace, data: TaskData, protocol: Protocol) -> Outcome:
    """All alphas from one eigenbasis, that of the covariance."""
    moments, mean = Moments.of(workspace, data), float(data.y["train"].mean())
    centred = np.nan_to_num(data.targets["train"] - mean)[None]
    # the sum of the centred targets is zero, so the centre of x does not matter
    cross = cross_moments(workspace.centred("train"), centred) * workspace.scale
    paths = np.concatenate(ridge_path(moments.eigen, cross, moments.count, protocol.ridge_alpha))
    bias, weights = mean - paths @ moments.mean, paths * workspace.scale

    predicted = linear_scores(workspace.centred("val"), weights, bias)[:, data.rows["val"]]
    selection = Selection()
    for place, alpha in enumerate(protocol.ridge_alpha):
        selection.offer(score(data.task, predicted[place], data.y["val"]), {"alpha": alpha}, place)
    best = slice(selection.model, selection.model + 1)
    test = linear_scores(workspace.centred("test"), weights[best], bias[best])[0, data.rows["test"]]
    remarks = edge_remark("alpha", selection.params["alpha"], protocol.ridge_alpha)
    return Outcome(test, selection.params, selection.value, moments.count, remarks=remarks)
