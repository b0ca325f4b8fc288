"""The rungs that need class means and one covariance: nearest class mean, and shrunk linear discriminant analysis.

Both follow from the moments of the train rows, so that nothing is fitted by iteration and any file streams.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.probes.data import Moments, TaskData
from reprkit.analysis.probes.outcome import LOG_FLOOR, Outcome, Selection, score
from reprkit.analysis.probes.protocol import Protocol
from reprkit.analysis.probes.ridge import linear_scores
from reprkit.analysis.solver import Eigen, log_softmax
from reprkit.analysis.workspace import Workspace


def fit_ncm(workspace: Workspace, data: TaskData, protocol: Protocol) -> Outcome:
    """The class whose mean is nearest in standardised coordinates; how frequent a class is plays no part."""
    moments = Moments.of(workspace, data)
    means = moments.class_means[data.present]
    weights, bias = means * workspace.scale, -(means**2).sum(axis=1) / 2

    def predict(split: str) -> NDArray[np.int64]:
        scores = linear_scores(workspace.centred(split), weights, bias)
        return data.present[scores[:, data.rows[split]].argmax(axis=0)]

    val_value = score(data.task, predict("val"), data.y["val"])
    return Outcome(predict("test"), {}, val_value, moments.count)


def fit_lda(workspace: Workspace, data: TaskData, protocol: Protocol) -> Outcome:
    """Gaussian classes of one covariance (1 - s) S + s t I, t its mean variance, s chosen by validation log-loss.

    S is the covariance within classes of the standardised rows; s = 1 leaves distances to class means, in units of
    t, and priors. The posterior is that of scikit-learn's LinearDiscriminantAnalysis(solver="lsqr", shrinkage=s).
    """
    moments = Moments.of(workspace, data)
    counts, means = moments.class_counts[data.present], moments.class_means[data.present]
    weights, bias = discriminants(moments, counts, means, protocol.shrinkage)
    flat, bias, classes = weights.reshape(-1, workspace.dim) * workspace.scale, bias.ravel(), len(counts)

    rows, y = data.rows["val"], data.encode(data.targets["val"])
    gains = np.zeros(len(protocol.shrinkage))
    for part, block in workspace.centred("val").blocks():
        scores = (flat @ block.astype(np.float64).T + bias[:, None]).reshape(len(gains), classes, -1)
        seen = np.flatnonzero(y[part] >= 0)
        for place, some in enumerate(scores):
            log_p = log_softmax(some)[y[part][seen], seen]
            gains[place] += log_p.clip(min=LOG_FLOOR).sum()
    gains += LOG_FLOOR * (len(rows) - np.count_nonzero(y >= 0))  # val samples of classes that train lacks

    selection = Selection()
    for place, shrinkage in enumerate(protocol.shrinkage):
        selection.offer(float(gains[place]) / len(rows), {"shrinkage": shrinkage}, place)
    best = slice(selection.model * classes, (selection.model + 1) * classes)
    scores = linear_scores(workspace.centred("test"), flat[best], bias[best])[:, data.rows["test"]]
    log_p = data.spread_out(log_softmax(scores), len(data.rows["test"]))
    return Outcome(log_p.argmax(1), selection.params, -selection.value, moments.count, log_p, "log_loss")


def discriminants(
    moments: Moments, counts: NDArray[np.int64], means: NDArray[np.float64], shrinkage: tuple[float, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights [S, C, D] and biases [S, C] of the log-posteriors (up to a common term) for every shrinkage.

    The covariance within classes is the total one less U U' of rank C, so that the eigenbasis of the total one, which
    all tasks share, inverts it (Woodbury's identity).

    Args:
        moments: of the rows; only count, mean and eigen are read.
        counts: [C] rows of each class, positive.
        means: [C, D] in the same coordinates.
        shrinkage: in [0, 1].
    """
    eigen, shares = moments.eigen, counts / counts.sum()
    assert eigen.vectors is not None
    turned = (means - moments.mean) @ eigen.vectors
    between = np.sqrt(shares)[:, None] * turned
    within = max(float(eigen.values.sum() - (between**2).sum()), 1e-12 * float(eigen.values.sum()))
    weights, biases = [], []
    for s in shrinkage:
        solved = _solve(eigen, between, turned, s, within / len(eigen.values)) @ eigen.vectors.T
        weights.append(solved)
        biases.append(np.log(shares) - 0.5 * np.einsum("cd,cd->c", solved, means + moments.mean))
    return np.stack(weights), np.stack(biases)


def _solve(eigen: Eigen, between: NDArray, right: NDArray, s: float, variance: float) -> NDArray[np.float64]:
    """Rows of `right` [C, D] times the inverse of (1 - s)(diag(values) - between' between) + s variance I."""
    diagonal = (1 - s) * eigen.values + s * variance
    inverse = np.divide(1.0, diagonal, out=np.zeros_like(diagonal), where=diagonal > 0)
    scaled = np.sqrt(1 - s) * between
    solved = right * inverse
    inner = np.eye(len(between)) - (scaled * inverse) @ scaled.T
    return solved + solved @ scaled.T @ np.linalg.pinv(inner, hermitian=True) @ (scaled * inverse)
