"""Support vector machines on standardised embeddings: linear by L-BFGS, RBF by libsvm on a shared kernel matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis import solver
from reprkit.analysis.linalg import KERNEL_BLOCK, rbf_kernel, row_slices
from reprkit.analysis.probes.data import Scale, TaskData, labelled_blocks
from reprkit.analysis.probes.linear import search_remark, search_rows
from reprkit.analysis.probes.nystroem import fit_nystroem
from reprkit.analysis.probes.outcome import Outcome, Selection, edge_remark, score, unconverged_remark
from reprkit.analysis.probes.protocol import Protocol
from reprkit.analysis.rows import Rows
from reprkit.analysis.workspace import Workspace

if TYPE_CHECKING:
    from sklearn.svm import SVC, SVR


def fit_svm_linear(workspace: Workspace, data: TaskData, protocol: Protocol) -> Outcome:
    """Linear SVM: squared hinge, one class against the rest; squared tube loss for regression targets.

    The optimum is that of scikit-learn's LinearSVC and LinearSVR (squared losses, regularised bias).
    """
    discrete, unscale = data.task.is_discrete, Scale.of(data)
    outputs = len(data.present) if discrete else 1

    def fit(rows: Rows, targets: NDArray, c: float, start: solver.LinearFit | None) -> solver.LinearFit:
        known = int(data.task.valid(targets).sum())
        loss = (
            solver.squared_hinge(data.encode(targets))
            if discrete
            else solver.squared_tube(unscale.forward(targets), protocol.epsilon)
        )
        return solver.fit_linear(
            rows, loss, outputs, c, count=known, scale=workspace.scale, eigen=workspace.correlation_eigen,
            penalise_bias=True, start=start,
        )  # fmt: skip

    def predict(model: solver.LinearFit, split: str) -> NDArray:
        scores = model.scores(workspace.centred(split))[:, data.rows[split]]
        return data.present[scores.argmax(axis=0)] if discrete else unscale.back(scores[0])

    rows, targets, complete = search_rows(workspace, data, protocol)
    selection, model = Selection(), None
    for c in protocol.svm_linear_c:
        model = fit(rows, targets, c, model)
        selection.offer(score(data.task, predict(model, "val"), data.y["val"]), {"C": c}, model)
    chosen: solver.LinearFit = selection.model
    remarks = search_remark(data, targets, complete) + edge_remark("C", chosen.c, protocol.svm_linear_c)
    if not complete:
        chosen = fit(workspace.centred("train"), data.targets["train"], chosen.c, chosen)
    remarks += unconverged_remark(chosen)
    return Outcome(predict(chosen, "test"), selection.params, selection.value, len(data.rows["train"]), remarks=remarks)


def fit_svm_rbf(workspace: Workspace, data: TaskData, protocol: Protocol) -> Outcome:
    """RBF SVM (hinge, one class against one; tube loss for regression): exact up to `max_svm` train samples.

    libsvm spends its time on kernel values in scalar code; kernel matrices by matrix products remove that without
    changing the solution, and all C and all tasks share them. Above `max_svm`, see `nystroem.fit_nystroem`.
    """
    rows = data.rows["train"]
    if len(rows) > protocol.max_svm:
        return fit_nystroem(workspace, data, protocol)
    from sklearn.svm import SVC, SVR

    discrete, unscale = data.task.is_discrete, Scale.of(data)
    target = data.y["train"] if discrete else unscale.forward(data.y["train"])
    kernel = workspace.kernels["train"] if data.complete else _own_kernel(workspace, data)

    def fit(c: float) -> SVC | SVR:
        model = SVC(C=c, kernel="precomputed") if discrete else SVR(C=c, epsilon=protocol.epsilon, kernel="precomputed")
        return model.fit(kernel, target)

    def predict(models: Sequence[SVC | SVR], split: str) -> list[NDArray]:
        parts: list[list[NDArray]] = [[] for _ in models]
        support = np.unique(np.concatenate([model.support_ for model in models]))
        for values in _kernel_blocks(workspace, data, split, support):
            for made, model in zip(parts, models, strict=True):
                made.append(model.predict(values))
        return [np.concatenate(made) if discrete else unscale.back(np.concatenate(made)) for made in parts]

    models = [fit(c) for c in protocol.svm_rbf_c]
    selection = Selection()
    for c, model, predicted in zip(protocol.svm_rbf_c, models, predict(models, "val"), strict=True):
        selection.offer(score(data.task, predicted, data.y["val"]), {"C": c}, model)
    (test,) = predict([selection.model], "test")
    params = {**selection.params, "gamma": float(f"{workspace.gamma:.6g}")}
    remarks = edge_remark("C", selection.params["C"], protocol.svm_rbf_c)
    return Outcome(test, params, selection.value, len(rows), remarks=remarks)


def _own_kernel(workspace: Workspace, data: TaskData) -> NDArray[np.float64]:
    """Kernel matrix of the train rows that have a target."""
    train = workspace.standardised("train", data.rows["train"])
    return rbf_kernel(train, train, workspace.gamma)


def _kernel_blocks(
    workspace: Workspace, data: TaskData, split: str, support: NDArray[np.int64]
) -> Iterator[NDArray[np.float64]]:
    """Kernel rows [n, N] of the rows of a split that have a target; columns other than the support vectors' may be 0,
    since libsvm does not read them."""
    held = workspace.kernels.get(split) if data.complete else None
    if held is not None:
        for part in row_slices(len(data.rows[split]), KERNEL_BLOCK):
            yield held[data.rows[split][part]]
        return
    supporting = workspace.standardised("train", data.rows["train"][support])
    values = np.zeros((KERNEL_BLOCK, len(data.rows["train"])))
    for block in labelled_blocks(workspace, data, split, size=KERNEL_BLOCK):
        inputs = (block - workspace.mean) * workspace.scale
        values[: len(block), support] = rbf_kernel(inputs, supporting, workspace.gamma, workers=1)
        yield values[: len(block)]
