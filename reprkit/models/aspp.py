"""The DeepLabV3 head: atrous spatial pyramid pooling (ASPP) and two convolutions, for tasks labelled pixel by pixel.

Chen, Papandreou, Schroff, Adam, "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ConvBlock(nn.Sequential):
    """Convolution without bias, BatchNorm, ReLU; the size stays as it is."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, dilation: int = 1) -> None:
        padding = dilation * (kernel // 2)
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )


class ASPPHead(nn.Module):
    """A feature map [B, dim, h, w] to outputs [B, num_outputs, h, w].

    Branches of one 1x1 and several dilated 3x3 convolutions and of the map's mean, joined by a 1x1 convolution, then a
    3x3 and a 1x1 convolution. As torchvision's `DeepLabHead`, but for the branch of the mean: it has a bias instead of
    BatchNorm, which cannot normalise one value a channel in a batch of one image.

    Args:
        dim: channels of the map.
        num_outputs: channels of the outputs.
        channels: of every layer between.
        rates: dilations of the 3x3 branches, in cells of the map.
        dropout: share of the joined channels that is dropped in training.
    """

    def __init__(
        self, dim: int, num_outputs: int, channels: int = 256, rates: Sequence[int] = (12, 24, 36), dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [ConvBlock(dim, channels), *(ConvBlock(dim, channels, 3, dilation=rate) for rate in rates)]
        )
        self.pool = nn.Conv2d(dim, channels, 1)
        self.project = ConvBlock((len(rates) + 2) * channels, channels)
        self.dropout = nn.Dropout(dropout)
        self.refine = ConvBlock(channels, channels, 3)
        self.out = nn.Conv2d(channels, num_outputs, 1)

    def forward(self, z: Tensor) -> Tensor:
        """Outputs at the resolution of the map.

        Args:
            z: [B, D, h, w].

        Returns:
            [B, C, h, w].
        """
        mean = self.pool(z.mean((2, 3), keepdim=True)).relu()
        parts = [*(branch(z) for branch in self.branches), mean.expand(-1, -1, *z.shape[2:])]
        return self.out(self.refine(self.dropout(self.project(torch.cat(parts, dim=1)))))
