"""Image encoders: [B, channels, H, W] -> [B, D], globally pooled, or for dense tasks [B, D, h, w].

Each one is a chain of stages, so that structures which read the maps between them (MTAN) can do so.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from reprkit import plugins
from reprkit.errors import InputError
from reprkit.recipe import ENCODERS


class ConvNet(nn.Module):
    """A small convolutional network for small images: three conv-BN-ReLU blocks, then a global mean.

    Args:
        in_channels: image channels.
        width: channels of the first block; the next two have 2 and 4 times as many.
        dense: leave out the mean: the map has a quarter of the image's size.
    """

    def __init__(self, in_channels: int, width: int = 32, *, dense: bool = False) -> None:
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
        self.dense = dense

    def forward(self, images: Tensor) -> Tensor:
        """Representation [B, D], or [B, D, H / 4, W / 4], of images [B, channels, H, W]."""
        z = self.blocks(images)
        return z if self.dense else z.mean((2, 3))


class DenseResNet(nn.Module):
    """A torchvision ResNet without its end, its last two stages dilated: a map of an eighth of the image's size.

    Keeps torchvision's names, so that its weights fit. (torchvision dilates networks of bottleneck blocks only; here
    strides become dilations in any.)
    """

    def __init__(self, resnet: Any) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu, self.maxpool = resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4
        for stage, dilation in ((self.layer3, 2), (self.layer4, 4)):
            _dilate(stage, dilation)

    def stages(self) -> list[nn.Sequential]:
        """The four stages of residual blocks."""
        return [self.layer1, self.layer2, self.layer3, self.layer4]

    def stem(self, images: Tensor) -> Tensor:
        """What the first stage reads: [B, 64, H / 4, W / 4]."""
        return self.maxpool(self.relu(self.bn1(self.conv1(images))))

    def forward(self, images: Tensor) -> Tensor:
        """[B, D, H / 8, W / 8]."""
        x = self.stem(images)
        for stage in self.stages():
            x = stage(x)
        return x


def _dilate(stage: nn.Module, dilation: int) -> None:
    """Take the stride out of a stage, and let its 3x3 convolutions see as far as they did.

    As torchvision does it, the first block keeps the dilation of the stage before.
    """
    for number, block in enumerate(stage.children()):
        for module in block.modules():
            if isinstance(module, nn.Conv2d):
                module.stride = (1, 1)
                if module.kernel_size == (3, 3):
                    rate = dilation if number else dilation // 2
                    module.dilation = module.padding = (rate, rate)


class DenseSwin(nn.Module):
    """A torchvision Swin Transformer without its end: a map of 1/32 of the image's size, rounded up."""

    def __init__(self, swin: Any) -> None:
        super().__init__()
        self.features = swin.features
        self.norm = swin.norm

    def forward(self, images: Tensor) -> Tensor:
        """[B, D, H / 32, W / 32]."""
        return self.norm(self.features(images)).permute(0, 3, 1, 2)


def build_encoder(name: str, in_channels: int = 3, *, dense: bool = False) -> tuple[nn.Module, int]:
    """A freshly initialised encoder and the size D of its representation.

    Args:
        name: `convnet` (D = 128), `resnet18` (512), `resnet50` (2048), `mobilenet_v2` (1280), `swin_t`, `swin_s` (768)
            or `swin_b` (1024); all but the first are torchvision's, with the classifier removed, so that torchvision's
            weights fit by name. Packages add others by entry points of the group `reprkit.encoders`: a function of
            `in_channels` and `dense` that returns what this one returns.
        in_channels: image channels; other than 3 replaces the first convolution.
        dense: give a feature map: a quarter (convnet), an eighth (ResNets) or 1/32 (Swin) of the image's size.

    Raises:
        InputError: unknown name, or one without a map.
    """
    if name not in ENCODERS:
        return _of_plugin(name, in_channels, dense)
    plugins.refuse_taken("encoders", name)
    if name == "convnet":
        convnet = ConvNet(in_channels, dense=dense)
        return convnet, convnet.dim
    from torchvision import models

    if name in ("resnet18", "resnet50"):
        resnet = getattr(models, name)(weights=None)
        dim = resnet.fc.in_features
        resnet.fc = nn.Identity()
        if in_channels != 3:
            resnet.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        return (DenseResNet(resnet) if dense else resnet), dim
    if name in ("swin_t", "swin_s", "swin_b"):
        swin = getattr(models, name)(weights=None)
        dim = swin.head.in_features
        swin.head = nn.Identity()
        if in_channels != 3:
            first = swin.features[0][0]
            swin.features[0][0] = nn.Conv2d(in_channels, first.out_channels, first.kernel_size, stride=first.stride)
        return (DenseSwin(swin) if dense else swin), dim
    if dense:
        raise InputError(
            "model.encoder: mobilenet_v2 gives no feature map; dense tasks take convnet, a ResNet or a Swin"
        )
    mobilenet = models.mobilenet_v2(weights=None)
    dim = mobilenet.last_channel
    mobilenet.classifier = nn.Identity()
    if in_channels != 3:
        mobilenet.features[0][0] = nn.Conv2d(in_channels, 32, 3, stride=2, padding=1, bias=False)
    return mobilenet, dim


def _of_plugin(name: str, in_channels: int, dense: bool) -> tuple[nn.Module, int]:
    """The encoder of an installed package."""
    offered = plugins.load("encoders", name)
    if offered is None:
        raise InputError(f"model.encoder: '{name}' is not known; {plugins.choices('encoders', ENCODERS)}")
    build, plugin = offered
    made = plugin.call(build, in_channels, dense=dense)
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module) and isinstance(made[1], int)):
        raise plugin.unusable("does not give a pair of an nn.Module and the size D of its representation")
    return made
