"""Losses of tasks that are labelled pixel by pixel.

segmentation  cross-entropy in nats
depth         absolute error (metres), of the prediction as it is; disparity likewise
normals       L1 over the three components, summed, of the prediction scaled to unit length. This is the loss of
              auto-lambda's and DGR's published code; MTAN, LibMTL and Nash-MTL take 1 - cosine instead
saliency      binary cross-entropy, positives weighed by the share of negatives among the batch's valid pixels and
              negatives by that of positives (Vandenhende et al., "Multi-Task Learning for Dense Prediction Tasks: A
              Survey", TPAMI 2021, after Maninis et al., ASTMT, CVPR 2019). Where ranks share a batch, each has the
              shares of its own part
edges         the same with the fixed weights 0.95 and 0.05 (ASTMT)
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

EDGE_WEIGHT = 0.95
"""Weight of edge pixels; the others have the rest."""


def resized(outputs: Tensor, targets: Tensor) -> Tensor:
    """Outputs [B, C, h, w] at the resolution of the targets, bilinearly (align_corners=False)."""
    size = targets.shape[-2:]
    if outputs.shape[-2:] == size:
        return outputs
    return F.interpolate(outputs, size=size, mode="bilinear", align_corners=False)


def loss_sum(kind: str, outputs: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """The sum of a dense task's loss over valid pixels: a scalar.

    Args:
        kind: of the task.
        outputs: [B, num_outputs, h, w].
        targets: [B, H, W], or [B, 3, H, W] for normals.
        valid: [B, H, W].
    """
    each = pixel_losses(kind, resized(outputs, targets), targets)
    if kind == "saliency":
        each = each * balance(targets, valid, each.dtype)
    return torch.where(valid, each, 0.0).sum()


def pixel_losses(kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss of every pixel [B, H, W], saliency's not yet balanced; meaningless (but finite) where no target is.

    Args:
        kind: of the task.
        outputs: [B, num_outputs, H, W].
        targets: as in `loss_sum`.
    """
    if kind == "segmentation":
        return F.cross_entropy(outputs, targets, ignore_index=-1, reduction="none")
    if kind in ("saliency", "edges"):
        truth = (targets == 1).to(outputs.dtype)
        each = F.binary_cross_entropy_with_logits(outputs[:, 0], truth, reduction="none")
        return each * (truth * EDGE_WEIGHT + (1 - truth) * (1 - EDGE_WEIGHT)) if kind == "edges" else each
    known = targets.nan_to_num().to(outputs.dtype)
    if kind == "normals":
        return (unit(outputs) - known).abs().sum(1)
    return (outputs[:, 0] - known).abs()


def unit(vectors: Tensor) -> Tensor:
    """Vectors [B, 3, ...] at unit length; a zero vector stays zero, with a finite gradient."""
    return vectors / vectors.square().sum(1, keepdim=True).clamp(min=1e-12).sqrt()


def balance(targets: Tensor, valid: Tensor, dtype: torch.dtype) -> Tensor:
    """Weight of every pixel [B, H, W]: for positives the share of negatives among valid pixels, and the reverse."""
    negatives = (targets == 0).sum().to(dtype) / valid.sum().clamp(min=1)
    return torch.where(targets == 1, negatives, 1 - negatives)
