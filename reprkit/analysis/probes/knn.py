"""k nearest neighbours: the probe that fits nothing, so that it sees only how samples lie to each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.linalg import row_slices
from reprkit.analysis.probes.data import TaskData, val_rows
from reprkit.analysis.probes.outcome import Outcome, Selection, score
from reprkit.analysis.probes.protocol import Protocol
from reprkit.analysis.rows import BLOCK_ROWS
from reprkit.analysis.workspace import Workspace


def fit_knn(workspace: Workspace, data: TaskData, protocol: Protocol) -> Outcome:
    """Vote of the k nearest train samples by cosine of the raw, uncentred embeddings.

    Weights are uniform or exp(cosine / temperature) (Wu et al. 2018; Caron et al. 2021); both k and the vote are
    chosen on val. Regression targets take the weighted mean of the neighbours' values. Tied votes go to the lower
    class index.
    """
    train, task = data.y["train"], data.task
    grid = usable_neighbors(protocol, len(train))
    held, remarks = val_rows(data, protocol)

    def predict(found: tuple[NDArray, NDArray], vote: str, grid: list[int]) -> list[NDArray]:
        """[n] for every k of `grid`."""
        made: list[list[NDArray]] = [[] for _ in grid]
        for part in row_slices(len(found[0]), BLOCK_ROWS):
            labels, cosines = train[found[0][part]], found[1][part].astype(np.float64)
            weights = np.exp((cosines - 1) / protocol.temperature) if vote == "exp" else np.ones_like(cosines)
            if task.is_discrete:
                each = [tally.argmax(axis=1) for tally in votes(labels, weights, grid, task.num_outputs)]
            else:
                each = weighted_means(labels, weights, grid)
            for parts, one in zip(made, each, strict=True):
                parts.append(one)
        return [np.concatenate(parts) for parts in made]

    selection = Selection()
    found = neighbors(workspace, data, "val", held, max(grid))
    for vote in protocol.votes:
        for k, predicted in zip(grid, predict(found, vote, grid), strict=True):
            selection.offer(score(task, predicted, data.targets["val"][held]), {"k": k, "vote": vote})
    chosen = selection.params
    found = neighbors(workspace, data, "test", data.rows["test"], max(grid))
    (test,) = predict(found, chosen["vote"], [chosen["k"]])
    return Outcome(test, chosen, selection.value, len(train), remarks=remarks)


def usable_neighbors(protocol: Protocol, count: int) -> list[int]:
    """The k of the protocol that `count` train samples allow."""
    return [k for k in protocol.neighbors if k <= count] or [count]


def neighbors(
    workspace: Workspace, data: TaskData, split: str, rows: NDArray[np.int64], k: int
) -> tuple[NDArray, NDArray]:
    """The `k` nearest train rows that have a target, by cosine, of rows of a split that have one.

    Returns:
        indices [n, k] into `data.y["train"]`, cosines [n, k]. One search serves all tasks without missing targets.
    """
    if data.complete and len(rows) == workspace.num_rows(split):
        return workspace.neighbors(split, k)
    return workspace.neighbors(split, k, rows=rows, bank=None if data.complete else data.rows["train"])


def votes(labels: NDArray, weights: NDArray, grid: list[int], classes: int) -> list[NDArray[np.float64]]:
    """Weighted votes [n, C] of the k nearest for every k of `grid`, from one pass over the neighbours [n, k_max]."""
    rows = np.arange(len(labels))
    tally = np.zeros((len(labels), classes))
    wanted, result = set(grid), {}
    for j in range(max(grid)):
        tally[rows, labels[:, j]] += weights[:, j]
        if j + 1 in wanted:
            result[j + 1] = tally.copy()
    return [result[k] for k in grid]


def weighted_means(values: NDArray, weights: NDArray, grid: list[int]) -> list[NDArray[np.float64]]:
    """Weighted mean [n] of the k nearest values for every k of `grid`."""
    total, weight = np.cumsum(values * weights, axis=1), np.cumsum(weights, axis=1)
    return [total[:, k - 1] / weight[:, k - 1] for k in grid]
