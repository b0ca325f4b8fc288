"""k nearest neighbours: the probe that fits nothing, so that it sees only how samples lie to each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.probes.data import Space, TaskData
from reprkit.analysis.probes.outcome import Outcome, Selection, score
from reprkit.analysis.probes.protocol import Protocol


def fit_knn(space: Space, data: TaskData, protocol: Protocol) -> Outcome:
    """Vote of the k nearest train samples by cosine of the raw, uncentred embeddings.

    Weights are uniform or exp(cosine / temperature) (Wu et al. 2018; Caron et al. 2021); both k and the vote are
    chosen on val. Regression targets take the weighted mean of the neighbours' values. Tied votes go to the lower
    class index.
    """
    train = data.y["train"]
    grid = [k for k in protocol.neighbors if k <= len(train)] or [len(train)]
    found = space.neighbors(data, max(grid))
    task = data.task

    def predict(split: str, vote: str) -> dict[int, NDArray]:
        indices, cosines = (part[data.rows[split]] for part in found[split])
        weights = np.exp((cosines - 1) / protocol.temperature) if vote == "exp" else np.ones_like(cosines)
        if task.is_discrete:
            return {k: v.argmax(1) for k, v in votes(train[indices], weights, grid, task.num_outputs).items()}
        return weighted_means(train[indices], weights, grid)

    selection = Selection()
    for vote in protocol.votes:
        for k, predicted in predict("val", vote).items():
            selection.offer(score(task, predicted, data.y["val"]), {"k": k, "vote": vote})
    chosen = selection.params
    test = predict("test", chosen["vote"])[chosen["k"]]
    return Outcome(test, selection.params, selection.value, len(train))


def votes(labels: NDArray, weights: NDArray, grid: list[int], classes: int) -> dict[int, NDArray[np.float64]]:
    """Weighted votes [n, C] of the k nearest for every k of `grid`, from one pass over the neighbours [n, k_max]."""
    rows = np.arange(len(labels))
    tally = np.zeros((len(labels), classes))
    wanted, result = set(grid), {}
    for j in range(max(grid)):
        tally[rows, labels[:, j]] += weights[:, j]
        if j + 1 in wanted:
            result[j + 1] = tally.copy()
    return {k: result[k] for k in grid}


def weighted_means(values: NDArray, weights: NDArray, grid: list[int]) -> dict[int, NDArray[np.float64]]:
    """Weighted mean [n] of the k nearest values for every k of `grid`."""
    total, weight = np.cumsum(values * weights, axis=1), np.cumsum(weights, axis=1)
    return {k: total[:, k - 1] / weight[:, k - 1] for k in grid}
