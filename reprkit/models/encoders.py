"""Image encoders: [B, channels, H, W] -> [B, D], globally pooled."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from reprkit.errors import InputError


class ConvNet(nn.Module):
    """A small convolutional network for small images: three conv-BN-ReLU blocks, then a global mean.

    Args:
        in_channels: image channels.
        width: channels of the first block; the next two have 2 and 4 times as many.
    """

    def __init__(self, in_channels: int, width: int = 32) -> None:
        super().__init__()
        sizes = [in_channels, width, 2 * width, 4 * width]
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(a, b, 3, stride=1 if i == 0 else 2, padding=1, bias=False),
                    nn.BatchNorm2d(b),
                    nn.ReLU(inplace=True),
                )
                for i, (a, b) in enumerate(pairwise(sizes))
            )
        )
        self.dim = sizes[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Representation [B, D] of images [B, channels, H, W]."""
        return self.blocks(images).mean((2, 3))


def build_encoder(name: str, in_channels: int = 3) -> tuple[nn.Module, int]:
    """A freshly initialised encoder and the size D of its representation.

    Args:
        name: `convnet` (D = 128), `resnet18` (512), `resnet50` (2048) or `mobilenet_v2` (1280); the last three
            are torchvision's, with the classifier removed, so that torchvision's weights fit by name.
        in_channels: image channels; other than 3 replaces the first convolution.

    Raises:
        InputError: unknown name.
    """
    if name == "convnet":
        convnet = ConvNet(in_channels)
        return convnet, convnet.dim
    from torchvision import models

    if name in ("resnet18", "resnet50"):
        resnet = getattr(models, name)(weights=None)
        dim = resnet.fc.in_features
        resnet.fc = nn.Identity()
        if in_channels != 3:
            resnet.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        return resnet, dim
    if name == "mobilenet_v2":
        mobilenet = models.mobilenet_v2(weights=None)
        dim = mobilenet.last_channel
        mobilenet.classifier = nn.Identity()
        if in_channels != 3:
            mobilenet.features[0][0] = nn.Conv2d(in_channels, 32, 3, stride=2, padding=1, bias=False)
        return mobilenet, dim
    raise InputError(f"model.encoder: '{name}' is not known; choose from convnet, resnet18, resnet50, mobilenet_v2")
