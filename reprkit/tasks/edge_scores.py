"""The score of edges: an F-measure that forgives small displacements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reprkit.tasks.dense_scores import THRESHOLDS, DenseScores, at_or_above, thresholds_passed

if TYPE_CHECKING:
    from torch import Tensor

    from reprkit.tasks.task import Task

TOLERANCE = 0.0075
"""How far an edge may be from its place, as a share of the image's diagonal (BSDS)."""


class EdgeScores(DenseScores):
    """odsF: the best F-measure over thresholds that are the same for all images.

    A predicted edge pixel is right if a true one lies within 0.0075 of the image's diagonal, and a true one is found if
    a predicted one does. Pixels without a target are neither. The MATLAB tool of the BSDS benchmark (`seism`) thins the
    prediction first and pairs pixels one to one; here neither is done, so thick edges are not punished within the
    tolerance, and numbers are not to be set beside published ones.
    """

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        # [right, predicted, found], pixels by the number of thresholds that they pass
        self.counts = np.zeros((3, len(THRESHOLDS) + 1), np.int64)

    def add_image(self, outputs: Tensor, targets: Tensor, valid: Tensor) -> None:
        """Match the edges of an image at every threshold."""
        super().add_image(outputs, targets, valid)
        known, edges = valid[0].numpy(), targets[0].numpy() == 1
        passed = np.where(known, thresholds_passed(outputs[0, 0].numpy()), 0)  # none: not a prediction
        near, best = _within(edges, passed, TOLERANCE * float(np.hypot(*edges.shape)))
        for count, some in zip(self.counts, (passed[near], passed.ravel(), best), strict=True):
            count += np.bincount(some, minlength=len(count))

    def add_pixels(self, outputs: Tensor, targets: Tensor, losses: Tensor) -> None:
        """Nothing: pixels alone do not tell where edges are."""

    @property
    def names(self) -> tuple[str, ...]:
        """One metric."""
        return ("odsf",)

    def metrics(self) -> dict[str, float]:
        """Over all images; 0 where nothing is right at any threshold."""
        right, predicted, found = at_or_above(self.counts)
        precision = right / np.maximum(predicted, 1)
        recall = found / max(self.counts[2].sum(), 1)
        both = precision + recall
        return {"odsf": float((2 * precision * recall / np.where(both > 0, both, 1)).max())}


def _within(
    edges: NDArray[np.bool_], passed: NDArray[np.int64], reach: float
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Where an edge lies within `reach` pixels [H, W], and the largest value of `passed` within it of each edge [n]."""
    border = int(reach)
    rows, columns = np.nonzero(np.pad(edges, border))
    near, values = np.pad(np.zeros_like(edges), border), np.pad(passed, border)
    best = np.zeros(len(rows), passed.dtype)
    steps = range(-border, border + 1)
    for dy, dx in ((dy, dx) for dy in steps for dx in steps if dy * dy + dx * dx <= reach * reach):
        near[rows + dy, columns + dx] = True
        np.maximum(best, values[rows + dy, columns + dx], out=best)
    height, width = edges.shape
    return near[border : border + height, border : border + width], best
