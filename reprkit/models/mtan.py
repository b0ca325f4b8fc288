"""MTAN: each task attends to the feature maps of one shared encoder.

Liu, Johns, Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019, in the form that public code gives it
on a dilated ResNet with ASPP heads.

The shared part is exactly the backbone. At each of its four stages it hands out two maps: u, behind all blocks but the
last, and t, behind the last. A task's branch makes a mask from u (and from its own features of the stage before), lays
it on t, and carries the result to the next stage; behind the last stage an ASPP head predicts. Public code lets the
tasks share the blocks between stages (`encoder_block_att`); here each branch has its own, so that a parameter belongs
either to all tasks or to one, and a task's branch is its head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reprkit.models.aspp import ConvBlock
from reprkit.models.encoders import DenseResNet
from reprkit.models.model import Model


class Attention(nn.Sequential):
    """A mask in (0, 1): 1x1 convolution, BatchNorm, ReLU, 1x1 convolution, BatchNorm, sigmoid."""

    def __init__(self, inputs: int, between: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, between, 1),
            nn.BatchNorm2d(between),
            nn.ReLU(),
            nn.Conv2d(between, outputs, 1),
            nn.BatchNorm2d(outputs),
            nn.Sigmoid(),
        )


class AttentionHead(nn.Module):
    """One task's attention branch and the head behind it.

    Args:
        widths: channels of the stages.
        head: takes the attended map of the last stage, [B, widths[-1], h, w].
    """

    def __init__(self, widths: Sequence[int], head: nn.Module) -> None:
        super().__init__()
        before = [0, *widths[:-1]]
        self.masks = nn.ModuleList(
            Attention(2 * width if number else width, max(1, width // 4), width) for number, width in enumerate(widths)
        )
        self.blocks = nn.ModuleList(ConvBlock(a, b, 3) for a, b in zip(before[1:], widths[1:], strict=True))
        self.head = head

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        """Outputs of the head for the shared maps (u1, t1, ..., u4, t4)."""
        attended: Tensor | None = None
        for number, (mask, u, t) in enumerate(zip(self.masks, maps[::2], maps[1::2], strict=True)):
            inputs = u
            if attended is not None:
                carried = self.blocks[number - 1](attended)
                if carried.shape[2:] != u.shape[2:]:
                    carried = F.max_pool2d(carried, 2, ceil_mode=True)
                inputs = torch.cat([u, carried], dim=1)
            attended = mask(inputs) * t
        return self.head(attended)


class MTAN(Model):
    """A dilated ResNet that hands out its maps, and an `AttentionHead` a task.

    Args:
        encoder: the shared backbone.
        dim: channels of its last map.
        heads: task -> `AttentionHead`.
    """

    encoder: DenseResNet

    def __init__(self, encoder: DenseResNet, dim: int, heads: Mapping[str, nn.Module]) -> None:
        super().__init__(encoder, dim, heads)

    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """(u1, t1, ..., u4, t4) of images [B, C, H, W]: of each stage the maps before and behind its last block."""
        x, maps = self.encoder.stem(images), []
        for stage in self.encoder.stages():
            for block in stage[:-1]:
                x = block(x)
            maps.append(x)
            x = stage[-1](x)
            maps.append(x)
        return tuple(maps)


def stage_widths(encoder: DenseResNet) -> list[int]:
    """Channels of the four stages."""
    convolutions = [[m for m in stage.modules() if isinstance(m, nn.Conv2d)] for stage in encoder.stages()]
    return [own[-1].out_channels for own in convolutions]
