"""Support vector machines on standardised embeddings: linear by L-BFGS, RBF by libsvm on a shared kernel matrix."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.probes.data import KERNEL_BLOCK, Space, TaskData, rbf_kernel
from reprkit.analysis.probes.outcome import Outcome, Selection, edge_remark, score
from reprkit.analysis.probes.protocol import Protocol
from reprkit.analysis.probes.solver import LinearFit, fit_linear_predictor, squared_hinge, squared_tube


def fit_svm_linear(space: Space, data: TaskData, protocol: Protocol) -> Outcome:
    """Linear SVM: squared hinge, one class against the rest; squared tube loss for regression targets.

    The optimum is that of scikit-learn's LinearSVC and LinearSVR (squared losses, regularised bias).
    """
    x = {split: space.standard[split][rows] for split, rows in data.rows.items()}
    target, unscale = data.y["train"], _Scale.of(data)
    present = np.unique(target)
    if data.task.is_discrete:
        loss, outputs = squared_hinge(np.where(target[:, None] == present, 1.0, -1.0)), len(present)
    else:
        loss, outputs = squared_tube(unscale.forward(target), protocol.epsilon), 1

    def predict(model: LinearFit, split: str) -> NDArray:
        scores = model.scores(x[split])
        return present[scores.argmax(1)] if data.task.is_discrete else unscale.back(scores[:, 0])

    selection = Selection()
    model: LinearFit | None = None
    for c in protocol.svm_linear_c:
        model = fit_linear_predictor(x["train"], loss, outputs, c, penalise_bias=True, start=model)
        selection.offer(score(data.task, predict(model, "val"), data.y["val"]), {"C": c}, model)
    chosen: LinearFit = selection.model
    remarks = edge_remark("C", selection.params["C"], protocol.svm_linear_c)
    if not chosen.converged:
        remarks += (f"not converged (largest gradient {chosen.gradient:.1e})",)
    return Outcome(predict(chosen, "test"), selection.params, selection.value, len(target), remarks=remarks)


def fit_svm_rbf(space: Space, data: TaskData, protocol: Protocol) -> Outcome:
    """RBF SVM (hinge, one class against one; tube loss for regression), exact up to `max_svm` train samples.

    libsvm spends its time on kernel values in scalar code; a kernel matrix by matrix products removes that without
    changing the solution, and all C and all tasks share it.
    """
    from sklearn.svm import SVC, SVR

    discrete, unscale = data.task.is_discrete, _Scale.of(data)
    picked = np.arange(len(data.y["train"]))
    remarks: tuple[str, ...] = ()
    if len(picked) > protocol.max_svm:
        picked = subsample(data.y["train"], protocol.max_svm, stratify=discrete, seed=protocol.seed)
        remarks = (f"fitted to a subsample of {len(picked)} of {len(data.y['train'])} train samples",)
    rows = data.rows["train"][picked]
    target = data.y["train"][picked]
    kernel = space.kernel(rows)

    def predict(model: SVC | SVR, split: str) -> NDArray:
        support = space.standard["train"][rows[model.support_]]
        inputs = space.standard[split][data.rows[split]]
        values = np.zeros((KERNEL_BLOCK, len(rows)))  # libsvm reads the columns of the support vectors only
        parts = []
        for start in range(0, len(inputs), KERNEL_BLOCK):
            block = inputs[start : start + KERNEL_BLOCK]
            values[: len(block), model.support_] = rbf_kernel(block, support, space.gamma, workers=1)
            parts.append(model.predict(values[: len(block)]))
        return np.concatenate(parts) if discrete else unscale.back(np.concatenate(parts))

    selection = Selection()
    for c in protocol.svm_rbf_c:
        model = SVC(C=c, kernel="precomputed") if discrete else SVR(C=c, epsilon=protocol.epsilon, kernel="precomputed")
        model.fit(kernel, target if discrete else unscale.forward(target))
        selection.offer(score(data.task, predict(model, "val"), data.y["val"]), {"C": c}, model)
    test = predict(selection.model, "test")
    params = {**selection.params, "gamma": float(f"{space.gamma:.6g}")}
    remarks += edge_remark("C", selection.params["C"], protocol.svm_rbf_c)
    return Outcome(test, params, selection.value, len(rows), remarks=remarks)


def subsample(target: NDArray, size: int, *, stratify: bool, seed: int) -> NDArray[np.int64]:
    """Sorted indices of `size` samples; with `stratify`, class shares are kept (largest remainders) and no class lost.

    Args:
        target: [n] class indices or values.
        size: samples to keep, at least the number of classes.
        stratify: keep class shares.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    if not stratify:
        return np.sort(rng.permutation(len(target))[:size])
    _, encoded, counts = np.unique(target, return_inverse=True, return_counts=True)
    share = np.maximum(counts * (size / len(target)), 1.0)
    keep = np.floor(share).astype(np.int64)
    by_remainder = np.argsort(keep - share, kind="stable")
    for i in np.resize(by_remainder, max(size - int(keep.sum()), 0)):
        keep[i] += keep[i] < counts[i]
    for _ in range(int(keep.sum()) - size):  # what classes below their one sample took
        keep[keep.argmax()] -= 1
    order = rng.permutation(len(target))
    chosen = [order[encoded[order] == c][:n] for c, n in enumerate(keep)]
    return np.sort(np.concatenate(chosen))


class _Scale:
    """Standardisation of a regression target by its train values; does nothing to class indices."""

    def __init__(self, mean: float, std: float) -> None:
        self.mean, self.std = mean, std

    @classmethod
    def of(cls, data: TaskData) -> _Scale:
        if data.task.is_discrete:
            return cls(0.0, 1.0)
        return cls(float(data.y["train"].mean()), float(data.y["train"].std()) or 1.0)

    def forward(self, values: NDArray) -> NDArray:
        return (values - self.mean) / self.std

    def back(self, values: NDArray) -> NDArray:
        return values * self.std + self.mean
