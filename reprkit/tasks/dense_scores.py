"""Scores of tasks that are labelled pixel by pixel; those of edges have a module of their own."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reprkit.tasks.scores import Scores

if TYPE_CHECKING:
    from torch import Tensor

    from reprkit.tasks.task import Task

ANGLES = (11.25, 22.5, 30.0)
"""Degrees within which shares of normals are told."""

BINS_PER_DEGREE = 100

THRESHOLDS = np.arange(1, 100) / 100
"""Probabilities at which saliency and edges are cut: a pixel is positive at or above."""


class DenseScores(Scores):
    """An account that takes images one by one, which bounds the memory of resized outputs to one image's."""

    def add(self, outputs: Tensor, targets: Tensor, valid: Tensor) -> None:
        """Add images [B, C, h, w], resized to their targets."""
        from reprkit.tasks.dense import resized

        for i in range(len(outputs)):
            image = slice(i, i + 1)
            self.add_image(resized(outputs[image], targets[image]), targets[image], valid[image])

    def add_image(self, outputs: Tensor, targets: Tensor, valid: Tensor) -> None:
        """Add one image, [1, C, H, W], [1, ...] and [1, H, W]: its loss, then what `add_pixels` adds."""
        from reprkit.tasks.dense import pixel_losses

        losses = pixel_losses(self.task.kind, outputs, targets)[valid].double()
        self.total += self.task.weight * float(losses.sum())
        truth = targets if targets.ndim == 3 else targets.movedim(1, -1)
        self.add_pixels(outputs.movedim(1, -1)[valid], truth[valid], losses)

    @abstractmethod
    def add_pixels(self, outputs: Tensor, targets: Tensor, losses: Tensor) -> None:
        """Add n valid pixels: outputs [n, C]; targets [n], or [n, 3] for normals; losses [n] (`pixel_losses`)."""


class SegmentationScores(DenseScores):
    """mIoU and pixel accuracy of one pooled confusion matrix.

    The mean is over classes that occur in the truth or in the predictions; others have no IoU.
    """

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.confusion = np.zeros((task.num_outputs, task.num_outputs), np.int64)  # [truth, predicted]

    def add_pixels(self, outputs: Tensor, targets: Tensor, losses: Tensor) -> None:
        """Count pairs of true and predicted class."""
        classes = self.task.num_outputs
        pairs = targets * classes + outputs.argmax(1)
        self.confusion += pairs.bincount(minlength=classes * classes).view(classes, classes).numpy()

    @property
    def names(self) -> tuple[str, ...]:
        """mIoU first."""
        return ("miou", "pixel_accuracy")

    def metrics(self) -> dict[str, float]:
        """Of all pixels."""
        hits = np.diag(self.confusion)
        union = self.confusion.sum(0) + self.confusion.sum(1) - hits
        return {
            "miou": float((hits[union > 0] / union[union > 0]).mean()),
            "pixel_accuracy": float(hits.sum() / self.count),
        }


class DepthScores(DenseScores):
    """Absolute and relative error over all valid pixels; the relative one over those whose truth is not 0."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.sums = np.zeros(2)
        self.nonzero = np.zeros(1, np.int64)

    def add_pixels(self, outputs: Tensor, targets: Tensor, losses: Tensor) -> None:
        """Add errors."""
        truth = targets.double()
        error = (outputs[:, 0].double() - truth).abs()
        there = truth != 0
        self.sums += (float(error.sum()), float((error[there] / truth[there].abs()).sum()))
        self.nonzero += int(there.sum())

    @property
    def names(self) -> tuple[str, ...]:
        """Absolute error first."""
        return ("abs_error", "rel_error")

    def metrics(self) -> dict[str, float]:
        """Of all pixels."""
        relative = float(self.sums[1] / self.nonzero[0]) if self.nonzero[0] else float("nan")
        return {"abs_error": float(self.sums[0] / self.count), "rel_error": relative}


class NormalsScores(DenseScores):
    """Angles to the true normals, in degrees: mean, median, and shares below 11.25, 22.5 and 30.

    The median is exact to 0.01 degrees: it is that of a histogram. A prediction of length zero is at 90 degrees to
    everything; one that is not a number makes the mean NaN and counts as 180 degrees elsewhere.
    """

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.sum = np.zeros(1)
        self.within = np.zeros(len(ANGLES), np.int64)
        self.histogram = np.zeros(180 * BINS_PER_DEGREE + 1, np.int64)

    def add_pixels(self, outputs: Tensor, targets: Tensor, losses: Tensor) -> None:
        """Add angles: 2 atan2(|a - b|, |a + b|), since arccos loses half the digits near 0 (Kahan)."""
        import torch

        from reprkit.tasks.dense import unit

        a, b = unit(outputs.double()), unit(targets.double())
        angle = torch.rad2deg(2 * torch.atan2((a - b).norm(dim=1), (a + b).norm(dim=1)))
        self.sum += float(angle.sum())
        angle = angle.nan_to_num(180.0)
        self.within += [int((angle < limit).sum()) for limit in ANGLES]
        self.histogram += (angle * BINS_PER_DEGREE).long().bincount(minlength=len(self.histogram)).numpy()

    @property
    def names(self) -> tuple[str, ...]:
        """Mean angle first."""
        return ("mean_angle", "median_angle", *(f"within_{limit:g}" for limit in ANGLES))

    def metrics(self) -> dict[str, float]:
        """Of all pixels."""
        ranks = [(self.count - 1) // 2 + 1, self.count // 2 + 1]  # of the one or two values in the middle
        middle = np.searchsorted(self.histogram.cumsum(), ranks).mean()
        shares = {f"within_{limit:g}": float(n / self.count) for limit, n in zip(ANGLES, self.within, strict=True)}
        median = float((middle + 0.5) / BINS_PER_DEGREE)
        return {"mean_angle": float(self.sum[0] / self.count), "median_angle": median} | shares


class SaliencyScores(DenseScores):
    """IoU of the salient region at probability 0.5, and the best F-measure over 99 thresholds (beta = 1).

    The loss is balanced by the shares of all pixels together, as if they were one batch.
    """

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.counts = np.zeros((2, len(THRESHOLDS) + 1), np.int64)  # [truth, thresholds passed]
        self.losses = np.zeros(2)  # [truth]

    def add_pixels(self, outputs: Tensor, targets: Tensor, losses: Tensor) -> None:
        """Count thresholds that each pixel reaches; losses stay apart until the shares of both truths are known."""
        passed, truth = thresholds_passed(outputs[:, 0].numpy()), targets.numpy()
        for value in (0, 1):
            self.counts[value] += np.bincount(passed[truth == value], minlength=self.counts.shape[1])
            self.losses[value] += float(losses[targets == value].sum())

    def loss(self) -> float:
        """Balanced over all pixels."""
        negatives = self.counts[0].sum() / self.count
        balanced = (1 - negatives) * self.losses[0] + negatives * self.losses[1]
        return float(self.task.weight * balanced / self.count)

    @property
    def names(self) -> tuple[str, ...]:
        """IoU first."""
        return ("iou", "max_f")

    def metrics(self) -> dict[str, float]:
        """Of all pixels; NaN where nothing is salient in truth or prediction."""
        false, hits = at_or_above(self.counts)
        positives = self.counts[1].sum()
        half = len(THRESHOLDS) // 2
        union = positives + false[half]
        both = positives + hits + false
        f = (2 * hits)[both > 0] / both[both > 0]
        return {
            "iou": float(hits[half] / union) if union else float("nan"),
            "max_f": float(f.max()) if len(f) else float("nan"),
        }


def thresholds_passed(logits: NDArray[Any]) -> NDArray[np.int64]:
    """How many of `THRESHOLDS` the probability of each logit reaches: 0 to 99; none where it is not a number."""
    probability = 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -500, 500)))
    return np.searchsorted(THRESHOLDS, np.nan_to_num(probability), side="right")


def at_or_above(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """[..., 100] pixels that pass exactly 0 to 99 thresholds -> [..., 99] pixels at or above each threshold."""
    return counts[..., ::-1].cumsum(-1)[..., ::-1][..., 1:]
