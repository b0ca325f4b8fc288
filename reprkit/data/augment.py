"""Random transforms of training images, and the normalisation of all images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from reprkit.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Augment = Callable[["Tensor", "int | Sequence[int]"], "Tensor"]
"""(images uint8 [B, C, H, W], seed) -> images of the same shape and dtype."""

AUGMENTS = ("none", "flip", "crop_flip")


def make_augment(name: str) -> Augment:
    """A callable `augment(images, seed)` that transforms every image of a batch by itself.

    `none` is the identity; `flip` mirrors left-right with probability 1/2; `crop_flip` also pads by an eighth of
    the side (by reflection) and crops back at a random place. The same images and seed give the same result, and
    torch's own random state is left as it was. `seed` is one integer or several, such as (seed, epoch, step),
    all non-negative.

    Raises:
        InputError: unknown name.
    """
    if name == "none":
        return _identity
    if name == "flip":
        return partial(_per_sample, crop=False)
    if name == "crop_flip":
        return partial(_per_sample, crop=True)
    raise InputError(f"data.augment: '{name}' is not known; choose from {', '.join(AUGMENTS)}")


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype | None = None) -> Tensor:
    """`(images / 255 - mean) / std` per channel, on the device of `images`.

    Args:
        images: uint8 [B, C, H, W].
        mean, std: per channel, for images in [0, 1].
        dtype: floating type of the result; None means float32.
    """
    import torch

    kind = torch.float32 if dtype is None else dtype
    scale = torch.tensor([1.0 / (255.0 * s) for s in std], dtype=torch.float32, device=images.device)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], dtype=torch.float32, device=images.device)
    scaled = images.to(torch.float32, copy=True)
    return scaled.mul_(scale[:, None, None]).add_(shift[:, None, None]).to(kind)


def _identity(images: Tensor, seed: int | Sequence[int]) -> Tensor:
    return images


def _per_sample(images: Tensor, seed: int | Sequence[int], *, crop: bool) -> Tensor:
    import torch
    from torchvision.transforms import v2

    height, width = images.shape[-2:]
    steps: list[torch.nn.Module] = [v2.RandomHorizontalFlip()]
    if crop:
        margin = max(1, min(height, width) // 8)
        images = v2.functional.pad(images, [margin] * 4, padding_mode="reflect")
        steps.insert(0, v2.RandomCrop((height, width)))
    word = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> np.uint64(1))
    with torch.random.fork_rng(devices=[]):
        # The default CPU generator alone: torch.manual_seed would also reseed every GPU.
        torch.default_generator.manual_seed(word)
        transform = v2.Compose(steps)
        return torch.stack([transform(image) for image in images])
