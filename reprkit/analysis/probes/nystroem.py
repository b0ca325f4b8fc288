"""The RBF rung for many rows: ridge regression on Nystroem features, whose cost is linear in the rows.

k(x, x') is replaced by phi(x)'phi(x') with phi(x) = K_LL^(-1/2) k_L(x), L some landmark rows (C. Williams and
M. Seeger, Advances in Neural Information Processing Systems 13, 2000). The squared loss has a closed form for every C,
so that one pass over the rows serves all C and all tasks: a least-squares SVM (J. Suykens and J. Vandewalle, Neural
Processing Letters 9, 1999) whose primal weights are penalised by 1 / C, one class against the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.linalg import one_hot, ordered_map, rbf_kernel, row_slices
from reprkit.analysis.probes.data import Scale, TaskData, labelled_blocks
from reprkit.analysis.probes.outcome import Outcome, Selection, edge_remark, score
from reprkit.analysis.probes.protocol import Protocol
from reprkit.analysis.probes.ridge import ridge_path
from reprkit.analysis.rows import stratified_rows
from reprkit.analysis.solver import Eigen
from reprkit.analysis.workspace import Workspace

RANK = 1e-10
"""Directions of the landmark kernel with a smaller share of its largest eigenvalue are dropped."""

FEATURE_ROWS = 1024
"""Rows whose features are made at a time."""


@dataclass(frozen=True)
class Nystroem:
    """A feature map of standardised rows.

    Attributes:
        landmarks: [m, D] standardised.
        whiten: [m, r], K_LL^(-1/2) in its eigenbasis, without null directions.
        gamma: kernel width.
    """

    landmarks: NDArray[np.float64]
    whiten: NDArray[np.float64]
    gamma: float

    @classmethod
    def of(cls, landmarks: NDArray[np.float64], gamma: float) -> Nystroem:
        """From landmark rows."""
        values, vectors = np.linalg.eigh(rbf_kernel(landmarks, landmarks, gamma, workers=1))
        kept = values > RANK * values[-1]
        return cls(landmarks, vectors[:, kept] / np.sqrt(values[kept]), gamma)

    def __call__(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Features [n, r] of standardised rows [n, D]."""
        return rbf_kernel(x, self.landmarks, self.gamma, workers=1) @ self.whiten


@dataclass(frozen=True)
class FeatureMoments:
    """Moments of features over train rows that have a target.

    Attributes:
        count: rows.
        mean: [r].
        eigen: of the covariance.
        crosses: task -> [K, r] sum over rows of centred target times feature.
    """

    count: int
    mean: NDArray[np.float64]
    eigen: Eigen
    crosses: dict[str, NDArray[np.float64]]


def fit_nystroem(workspace: Workspace, data: TaskData, protocol: Protocol) -> Outcome:
    """One class against the rest by squared loss on Nystroem features, C on val; ridge for regression targets.

    The landmarks are random train rows, the same for all tasks, so that all tasks share one pass.
    """
    features, moments = shared_features(workspace, protocol), shared_moments(workspace, data, protocol)
    centre = _targets(data).mean(axis=1)
    cross, alphas = moments.crosses[data.task.name], [1 / c for c in protocol.nystroem_c]
    path = ridge_path(moments.eigen, cross, moments.count, alphas)
    unscale = Scale.of(data)

    def predict(weights: NDArray, split: str) -> NDArray:
        """[P, n] of weights [P, K, r]."""
        flat, made = weights.reshape(-1, weights.shape[-1]), [np.empty((len(weights), 0), data.y[split].dtype)]
        for block in labelled_blocks(workspace, data, split, size=FEATURE_ROWS):
            phi = features((block - workspace.mean) * workspace.scale) - moments.mean
            scores = (flat @ phi.T).reshape(*weights.shape[:2], -1) + centre[:, None]
            made.append(data.present[scores.argmax(axis=1)] if data.task.is_discrete else unscale.back(scores[:, 0]))
        return np.concatenate(made, axis=1)

    selection = Selection()
    for c, weights, predicted in zip(protocol.nystroem_c, path, predict(np.stack(path), "val"), strict=True):
        selection.offer(score(data.task, predicted, data.y["val"]), {"C": c}, weights)
    test = predict(selection.model[None], "test")[0]
    params = {**selection.params, "gamma": float(f"{workspace.gamma:.6g}"), "landmarks": len(features.landmarks)}
    remarks: tuple[str, ...] = (f"Nystroem with {len(features.landmarks)} landmarks",)
    remarks += edge_remark("C", selection.params["C"], protocol.nystroem_c)
    return Outcome(test, params, selection.value, moments.count, remarks=remarks)


def shared_features(workspace: Workspace, protocol: Protocol) -> Nystroem:
    """The feature map, made once a file."""

    def make() -> Nystroem:
        everyone = np.zeros(workspace.num_rows("train"), np.int64)
        picked = stratified_rows(everyone, protocol.landmarks, seed=protocol.seed)
        return Nystroem.of(workspace.standardised("train", picked), workspace.gamma)

    return workspace.keep(("nystroem", protocol.landmarks, protocol.seed), make)


def shared_moments(workspace: Workspace, data: TaskData, protocol: Protocol) -> FeatureMoments:
    """Moments of the features: one pass for all tasks without missing targets, one of its own for each other task."""
    key = ("nystroem moments", protocol.landmarks, protocol.seed, "" if data.complete else data.task.name)

    def make() -> FeatureMoments:
        every = [TaskData.of(workspace, name) for name in workspace.tasks] if data.complete else []
        tasks = [data, *(one for one in every if one.complete and one.task != data.task)]
        return feature_moments(workspace, shared_features(workspace, protocol), tasks)

    return workspace.keep(key, make)


def feature_moments(workspace: Workspace, features: Nystroem, tasks: Sequence[TaskData]) -> FeatureMoments:
    """One pass over the train rows that have a target of the first task; the others have theirs there too."""
    width, start = features.whiten.shape[1], 0
    total, scatter = np.zeros(width), np.zeros((width, width))
    centred = {one.task.name: (y := _targets(one)) - y.mean(axis=1, keepdims=True) for one in tasks}
    crosses = {name: np.zeros((len(y), width)) for name, y in centred.items()}
    for block in labelled_blocks(workspace, tasks[0], "train"):
        phi = np.empty((len(block), width))

        def fill(part: slice, phi: NDArray = phi, block: NDArray = block) -> None:
            phi[part] = features((block[part] - workspace.mean) * workspace.scale)

        def product(part: slice, phi: NDArray = phi) -> None:
            scatter[part, part.start :] += phi[:, part].T @ phi[:, part.start :]  # the upper triangle

        for work, size, step in ((fill, len(block), FEATURE_ROWS // 4), (product, width, FEATURE_ROWS // 4)):
            for _ in ordered_map(work, row_slices(size, step)):
                pass
        total += phi.sum(axis=0)
        for name, y in centred.items():
            crosses[name] += y[:, start : start + len(block)] @ phi
        start += len(block)
    scatter = np.triu(scatter) + np.triu(scatter, 1).T
    mean = total / start
    return FeatureMoments(start, mean, Eigen.of(scatter / start - np.outer(mean, mean)), crosses)


def _targets(data: TaskData) -> NDArray[np.float64]:
    """[K, n] targets of the train rows that have one: 1 and -1 a class, or the standardised value."""
    if data.task.is_discrete:
        return 2 * one_hot(data.encode(data.y["train"]), len(data.present)) - 1
    return Scale.of(data).forward(data.y["train"])[None]
