"""Scores of a model's outputs, added up batch by batch.

Every account holds sums in float64 or counts in int64, so that batches, in any partition, give what all samples at once
give: an mIoU is that of the pooled confusion matrix and an error the mean over all valid pixels, never a mean of batch
means.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from reprkit.tasks.task import Task

HEADLINES = {
    "classification": "accuracy", "ordinal": "accuracy", "regression": "r2", "segmentation": "miou",
    "depth": "abs_error", "disparity": "abs_error", "normals": "mean_angle", "saliency": "iou", "edges": "odsf",
}  # fmt: skip
"""The metric that stands for a task of each kind."""

LOWER_IS_BETTER = frozenset(
    {"mae", "log_loss", "mse", "rmse", "ece", "loss", "abs_error", "rel_error", "mean_angle", "median_angle"}
)
"""Metrics that are errors."""

ANGLES = (11.25, 22.5, 30.0)
BINS_PER_DEGREE = 100
THRESHOLDS = np.arange(1, 100) / 100
"""Probabilities at which saliency and edges are cut."""

TOLERANCE = 0.0075
"""How far an edge may be from its place, as a share of the image's diagonal (BSDS)."""


class Scores(ABC):
    """An account of a task's outputs beside its targets.

    Attributes:
        task: the task.
        total, count: sum of the loss over valid targets, and their number.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.total = 0.0
        self.count = 0

    def update(self, outputs: Tensor | NDArray[Any], targets: Tensor | NDArray[Any]) -> None:
        """Add a batch: outputs and targets as `Task.loss` takes them, tensors or arrays."""
        import torch

        x, y = torch.as_tensor(outputs).detach().float().cpu(), torch.as_tensor(targets).cpu()
        if self.task.is_discrete:
            y = y.long()
        valid = self.task.valid(y)
        number = int(valid.sum())
        self.total += float(self.task.loss(x.double(), y if self.task.is_discrete else y.double())) * number
        self.count += number
        if self.task.is_dense:
            from reprkit.tasks.dense import resized

            x = resized(x, y)
        self.add(x, y, valid)

    @abstractmethod
    def add(self, outputs: Tensor, targets: Tensor, valid: Tensor) -> None:
        """Add a batch on the CPU: outputs [B, C, ...] float32 at the targets' resolution."""

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """Every metric; called where there is at least one valid target."""

    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names of the metrics, the headline first."""

    def merge(self, other: Self) -> None:
        """Add another account of the same task."""
        self.total += other.total
        self.count += other.count
        for name, value in vars(other).items():
            if isinstance(value, np.ndarray):
                setattr(self, name, getattr(self, name) + value)
            elif isinstance(value, list):
                getattr(self, name).extend(value)

    def compute(self) -> dict[str, float]:
        """`loss` (mean over valid targets; 0 if there are none) and every metric (NaN if there are none)."""
        loss = self.total / self.count if self.count else 0.0
        found = self.metrics() if self.count else dict.fromkeys(self.names(), float("nan"))
        return {"loss": loss, **found}


class VectorScores(Scores):
    """Accuracy of classes, R2 of values. Holds the outputs: one row a sample."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.outputs: list[NDArray[np.float32]] = []
        self.truth: list[NDArray[Any]] = []

    def add(self, outputs: Tensor, targets: Tensor, valid: Tensor) -> None:
        """Keep the valid rows."""
        self.outputs.append(outputs[valid].numpy())
        self.truth.append(targets[valid].numpy())

    def names(self) -> tuple[str, ...]:
        """One metric."""
        return (self.task.metric,)

    def metrics(self) -> dict[str, float]:
        """Of all rows."""
        outputs, truth = np.concatenate(self.outputs), np.concatenate(self.truth)
        if self.task.is_discrete:
            return {"accuracy": float((outputs.argmax(1) == truth).mean())}
        predicted = outputs[:, 0] * self.task.std + self.task.mean
        spread = ((truth - truth.mean()) ** 2).sum()
        return {"r2": float(1 - ((truth - predicted) ** 2).sum() / spread) if spread > 0 else float("nan")}


class SegmentationScores(Scores):
    """mIoU and pixel accuracy of one pooled confusion matrix.

    The mean is over classes that occur in the truth or in the predictions; others have no IoU.
    """

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.confusion = np.zeros((task.num_outputs, task.num_outputs), np.int64)

    def add(self, outputs: Tensor, targets: Tensor, valid: Tensor) -> None:
        """Count pairs of true and predicted class."""
        classes = self.task.num_outputs
        pairs = targets[valid] * classes + outputs.argmax(1)[valid]
        self.confusion += pairs.bincount(minlength=classes * classes).view(classes, classes).numpy()

    def names(self) -> tuple[str, ...]:
        """mIoU first."""
        return ("miou", "pixel_accuracy")

    def metrics(self) -> dict[str, float]:
        """Of all pixels."""
        hits = np.diag(self.confusion)
        union = self.confusion.sum(0) + self.confusion.sum(1) - hits
        return {
            "miou": float((hits[union > 0] / union[union > 0]).mean()),
            "pixel_accuracy": float(hits.sum() / self.confusion.sum()),
        }


class DepthScores(Scores):
    """Absolute and relative error over all valid pixels; the relative one over those whose truth is not 0."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.sums = np.zeros(2)
        self.positive = np.zeros(1, np.int64)

    def add(self, outputs: Tensor, targets: Tensor, valid: Tensor) -> None:
        """Add errors."""
        truth = targets[valid].double()
        error = (outputs[:, 0][valid].double() - truth).abs()
        there = truth.abs() > 0
        self.sums += (float(error.sum()), float((error[there] / truth[there].abs()).sum()))
        self.positive += int(there.sum())

    def names(self) -> tuple[str, ...]:
        """Absolute error first."""
        return ("abs_error", "rel_error")

    def metrics(self) -> dict[str, float]:
        """Of all pixels."""
        relative = float(self.sums[1] / self.positive[0]) if self.positive[0] else float("nan")
        return {"abs_error": float(self.sums[0] / self.count), "rel_error": relative}


class NormalsScores(Scores):
    """Angles to the true normals, in degrees: mean, median (from a histogram of 0.01 degrees), shares within limits."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.sum = np.zeros(1)
        self.within = np.zeros(len(ANGLES), np.int64)
        self.histogram = np.zeros(180 * BINS_PER_DEGREE + 1, np.int64)

    def add(self, outputs: Tensor, targets: Tensor, valid: Tensor) -> None:
        """Add angles; a zero prediction is at 90 degrees to everything."""
        import torch

        from reprkit.tasks.dense import unit

        a, b = unit(outputs.double()), unit(targets.double())
        # atan2 of sine and cosine: arccos alone loses half the digits near 0.
        cosine = (a * b).sum(1)[valid]
        sine = torch.linalg.cross(a, b, dim=1).square().sum(1).sqrt()[valid]
        zero = (sine == 0) & (cosine == 0)
        angle = torch.rad2deg(torch.where(zero, torch.pi / 2, torch.atan2(sine, cosine))).numpy()
        self.sum += angle.sum()
        self.within += [int((angle < limit).sum()) for limit in ANGLES]
        self.histogram += np.bincount(np.floor(angle * BINS_PER_DEGREE).astype(int), minlength=len(self.histogram))

    def names(self) -> tuple[str, ...]:
        """Mean angle first."""
        return ("mean_angle", "median_angle", *(f"within_{limit:g}" for limit in ANGLES))

    def metrics(self) -> dict[str, float]:
        """Of all pixels."""
        middle = np.searchsorted(self.histogram.cumsum(), self.count / 2)
        shares = {
            f"within_{limit:g}": float(number / self.count) for limit, number in zip(ANGLES, self.within, strict=True)
        }
        return {
            "mean_angle": float(self.sum[0] / self.count),
            "median_angle": (middle + 0.5) / BINS_PER_DEGREE,
        } | shares


class SaliencyScores(Scores):
    """IoU of the salient region at probability 0.5, and the best F-measure over 99 thresholds (beta = 1)."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.counts = np.zeros((2, len(THRESHOLDS) + 1), np.int64)  # [truth, thresholds passed]

    def add(self, outputs: Tensor, targets: Tensor, valid: Tensor) -> None:
        """Count how many thresholds each pixel's probability reaches."""
        passed = np.searchsorted(THRESHOLDS, outputs[:, 0].sigmoid()[valid].numpy(), side="right")
        truth = targets[valid].numpy()
        for value in (0, 1):
            self.counts[value] += np.bincount(passed[truth == value], minlength=self.counts.shape[1])

    def names(self) -> tuple[str, ...]:
        """IoU first."""
        return ("iou", "max_f")

    def metrics(self) -> dict[str, float]:
        """Of all pixels; NaN where nothing is salient in truth or prediction."""
        above = self.counts[:, ::-1].cumsum(1)[:, ::-1][:, 1:]  # [truth, threshold] pixels at or above it
        false, hits = above
        positives = self.counts[1].sum()
        half = len(THRESHOLDS) // 2
        union = positives + false[half]
        both = positives + hits + false
        f = np.divide(2 * hits, both, out=np.full(len(hits), np.nan), where=both > 0)
        return {
            "iou": float(hits[half] / union) if union else float("nan"),
            "max_f": float(np.nanmax(f)) if np.isfinite(f).any() else float("nan"),
        }


class EdgeScores(Scores):
    """odsF: the best F-measure over thresholds that are the same for all images.

    A predicted edge pixel is right if a true one lies within 0.0075 of the image's diagonal, and a true one is found if
    a predicted one does. The MATLAB tool of the BSDS benchmark (`seism`) thins the prediction first and pairs pixels
    one to one; here neither is done, so thick edges are not punished beyond the tolerance, and numbers are not to be
    set beside published ones.
    """

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.counts = np.zeros((4, len(THRESHOLDS)), np.int64)  # right, predicted, found, true

    def add(self, outputs: Tensor, targets: Tensor, valid: Tensor) -> None:
        """Match the edges of every image at every threshold."""
        from scipy.ndimage import distance_transform_edt

        height, width = targets.shape[1:]
        reach = TOLERANCE * float(np.hypot(height, width))
        for logits, truth, known in zip(outputs[:, 0].numpy(), targets.numpy(), valid.numpy(), strict=True):
            edges = (truth == 1) & known
            near = distance_transform_edt(~edges) <= reach if edges.any() else edges
            probability = np.where(known, 1 / (1 + np.exp(-logits.astype(float))), 0.0)
            passed = np.searchsorted(THRESHOLDS, probability, side="right")
            reached = _highest_within(passed, reach)[edges]
            levels = np.arange(1, len(THRESHOLDS) + 1)
            ordered = [np.sort(values) for values in (passed[near & known], passed[known], reached)]
            above = [len(values) - np.searchsorted(values, levels, side="left") for values in ordered]
            self.counts += np.array([*above, np.full(len(levels), edges.sum())])

    def names(self) -> tuple[str, ...]:
        """One metric."""
        return ("odsf",)

    def metrics(self) -> dict[str, float]:
        """Over all images; 0 where nothing is right at any threshold."""
        right, predicted, found, true = self.counts
        precision = np.divide(right, predicted, out=np.zeros(len(right)), where=predicted > 0)
        recall = np.divide(found, true, out=np.zeros(len(right)), where=true > 0)
        both = precision + recall
        return {"odsf": float(np.divide(2 * precision * recall, both, out=np.zeros(len(right)), where=both > 0).max())}


def _highest_within(values: NDArray[np.int64], reach: float) -> NDArray[np.int64]:
    """The largest value within a distance of each pixel [H, W]."""
    from scipy.ndimage import grey_dilation

    steps = np.arange(-int(reach), int(reach) + 1)
    disc = steps[:, None] ** 2 + steps[None, :] ** 2 <= reach**2
    return np.asarray(grey_dilation(values, footprint=disc, mode="constant", cval=0))


_ACCOUNTS: dict[str, type[Scores]] = {
    "segmentation": SegmentationScores, "depth": DepthScores, "disparity": DepthScores, "normals": NormalsScores,
    "saliency": SaliencyScores, "edges": EdgeScores,
}  # fmt: skip


def scores_of(task: Task) -> Scores:
    """An empty account for a task."""
    return _ACCOUNTS.get(task.kind, VectorScores)(task)
