"""Losses of tasks that are labelled pixel by pixel, as sums over the valid pixels.

segmentation  cross-entropy in nats
depth         absolute error (metres), of the prediction as it is; disparity likewise
normals       L1 over the three components, summed, of the prediction scaled to unit length. This is the loss of
              auto-lambda's and DGR's published code; MTAN, LibMTL and Nash-MTL take 1 - cosine instead
saliency      binary cross-entropy, positives weighed by the share of negatives among the batch's valid pixels and
              negatives by that of positives (Vandenhende et al., "Multi-Task Learning for Dense Prediction Tasks: A
              Survey", TPAMI 2021, after Maninis et al., ASTMT, CVPR 2019)
edges         the same with the fixed weights 0.95 and 0.05 (ASTMT)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from reprkit.tasks.task import Task

EDGE_WEIGHT = 0.95
"""Weight of edge pixels; the others have the rest."""


def resized(outputs: Tensor, targets: Tensor) -> Tensor:
    """Outputs [B, C, h, w] at the resolution of the targets, bilinearly (align_corners=False)."""
    size = targets.shape[-2:]
    if outputs.shape[-2:] == size:
        return outputs
    return F.interpolate(outputs, size=size, mode="bilinear", align_corners=False)


def loss_sum(task: Task, outputs: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """The sum of a dense task's loss over valid pixels: a scalar.

    Args:
        task: segmentation, depth, disparity, normals, saliency or edges.
        outputs: [B, num_outputs, h, w].
        targets: [B, H, W], or [B, 3, H, W] for normals.
        valid: [B, H, W].
    """
    outputs = resized(outputs, targets)
    if task.kind == "segmentation":
        return F.cross_entropy(outputs, targets, ignore_index=-1, reduction="sum")
    if task.kind in ("saliency", "edges"):
        logits = outputs[:, 0]
        truth = targets.clamp(min=0).to(logits.dtype)
        each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        return (each * _balance(task.kind, truth, valid) * valid).sum()
    known = targets.nan_to_num().to(outputs.dtype)
    if task.kind == "normals":
        return ((unit(outputs) - known).abs().sum(1) * valid).sum()
    return ((outputs[:, 0] - known).abs() * valid).sum()


def unit(vectors: Tensor) -> Tensor:
    """Vectors [B, 3, ...] at unit length; a zero vector stays zero, with a finite gradient."""
    return vectors / vectors.square().sum(1, keepdim=True).clamp(min=1e-12).sqrt()


def _balance(kind: str, truth: Tensor, valid: Tensor) -> Tensor:
    """Weight of every pixel [B, H, W]."""
    if kind == "edges":
        return truth * EDGE_WEIGHT + (1 - truth) * (1 - EDGE_WEIGHT)
    negatives = ((truth == 0) & valid).sum().to(truth.dtype) / valid.sum().clamp(min=1)
    return truth * negatives + (1 - truth) * (1 - negatives)
