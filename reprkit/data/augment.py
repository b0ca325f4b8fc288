"""Random transforms of training images, together with what is labelled pixel by pixel, and their normalisation.

Images are interpolated, labels never: a pixel of a label is the nearest one of the original, so that no depth, normal
or class is made up between two surfaces. What comes from outside the image has no label (-1 or NaN).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reprkit.errors import InputError
from reprkit.tasks import MISSING_CLASS, Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Augment = Callable[["Tensor", "Mapping[str, Tensor]", "int | Sequence[int]"], "tuple[Tensor, dict[str, Tensor]]"]
"""(images uint8 [B, C, H, W], targets by task [B, ...], seed) -> both, transformed, of the same dtypes."""

AUGMENTS = ("none", "flip", "crop_flip", "scale_crop_flip", "scale_rotate_flip")
SCALES = (1.0, 1.2, 1.5)
"""What scale_crop_flip enlarges by, as in the published code of MTAN (Liu et al., CVPR 2019) and Auto-Lambda."""

ZOOM, ANGLE = (0.75, 1.25), 20.0
"""Scales and largest angle (degrees) of scale_rotate_flip: PASCAL-Context in Maninis et al., "Attentive Single-Tasking
of Multiple Tasks" (CVPR 2019)."""


@dataclass(frozen=True)
class View:
    """How one image of a batch is seen: turned and scaled about a point, cut out, then mirrored.

    Attributes:
        top, left: corner of the window, in pixels of the scaled (or padded) image.
        flip: whether the window is mirrored left-right.
        scale: factor of size.
        angle: radians, counter-clockwise as seen.
        x, y: the point that stays, in pixels.
    """

    top: int = 0
    left: int = 0
    flip: bool = False
    scale: float = 1.0
    angle: float = 0.0
    x: float = 0.0
    y: float = 0.0


def make_augment(name: str, tasks: Sequence[Task] = (), crop: Sequence[int] | None = None) -> Augment:
    """A callable `augment(images, targets, seed)` that transforms every image of a batch, and its labels, by itself.

    - `none` is the identity (or the random crop alone);
    - `flip` mirrors left-right with probability 1/2;
    - `crop_flip` also pads by an eighth of the side (images by reflection) and crops at a random place;
    - `scale_crop_flip` enlarges by one of `SCALES`, crops at a random place and mirrors;
    - `scale_rotate_flip` scales within `ZOOM` and turns by up to `ANGLE` about the centre, and mirrors; what comes from
      outside is black.

    Mirroring negates the x component of normals, turning turns it with y (x right, y down). Scaling by s divides depth
    by s and multiplies disparity by s, while normals stay: exactly the image of a scene s times smaller through a lens
    s times longer. Targets of tasks that are not labelled pixel by pixel pass through.

    The same images and seed give the same result, and torch's own random state is left as it was. `seed` is one integer
    or several, such as (seed, epoch, step), all non-negative.

    Args:
        name: one of `AUGMENTS`.
        tasks: what the targets are.
        crop: (height, width) of the result; None or empty means that of the images.

    Raises:
        InputError: unknown name; when called, a crop larger than the images.
    """
    if name not in AUGMENTS:
        raise InputError(f"data.augment: '{name}' is not known; choose from {', '.join(AUGMENTS)}")
    kinds = {task.name: task.kind for task in tasks if task.is_dense}

    def augment(
        images: Tensor, targets: Mapping[str, Tensor], seed: int | Sequence[int]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        targets, full = dict(targets), (images.shape[-2], images.shape[-1])
        size = (crop[0], crop[1]) if crop else full
        if size[0] > full[0] or size[1] > full[1]:
            raise InputError(
                f"data.crop: {size[0]} x {size[1]} is more than the images' {full[0]} x {full[1]}; "
                "make it smaller, or data.image_size larger"
            )
        if name == "none" and size == full:
            return images, targets
        dense = {key: value for key, value in targets.items() if key in kinds}
        views = _draw(name, len(images), full, size, seed)
        if name in ("scale_crop_flip", "scale_rotate_flip"):
            images, dense = _warp(images, dense, views, size)
        else:
            images, dense = _cut(images, dense, views, size, _margin(full) if name == "crop_flip" else 0)
        for key, kind in kinds.items():
            if key in dense:
                dense[key] = _revalue(dense[key], kind, views)
        return images, {key: dense.get(key, value) for key, value in targets.items()}

    return augment


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


def _margin(full: tuple[int, int]) -> int:
    return max(1, min(full) // 8)


def _draw(name: str, count: int, full: tuple[int, int], size: tuple[int, int], seed: int | Sequence[int]) -> list[View]:
    """The views of `count` images, from a stream of their own.

    Window and mirror are drawn in torchvision's order, so that flip and crop_flip are those of its v2 transforms.
    """
    import torch

    word = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> np.uint64(1))
    stream = torch.Generator().manual_seed(word)

    def corner(room: int) -> int:
        return int(torch.randint(0, room + 1, (), generator=stream)) if room else 0

    def between(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand(1, generator=stream))

    views = []
    for _ in range(count):
        scale, angle, x, y, height, width = 1.0, 0.0, 0.0, 0.0, *full
        if name == "scale_crop_flip":
            scale = SCALES[int(torch.randint(0, len(SCALES), (), generator=stream))]
            height, width = int(height * scale), int(width * scale)
        elif name == "scale_rotate_flip":
            scale, angle = between(*ZOOM), math.radians(between(-ANGLE, ANGLE))
            x, y = width / 2, height / 2
        elif name == "crop_flip":
            height, width = height + 2 * _margin(full), width + 2 * _margin(full)
        top, left = corner(height - size[0]), corner(width - size[1])
        flip = name != "none" and bool(torch.rand(1, generator=stream) < 0.5)
        views.append(View(top, left, flip, scale, angle, x, y))
    return views


def _cut(
    images: Tensor, dense: Mapping[str, Tensor], views: Sequence[View], size: tuple[int, int], margin: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Windows of the images, and of the labels, mirrored where the view says so; no pixel is computed."""
    import torch

    def cut(values: Tensor) -> Tensor:
        out = values.new_empty((*values.shape[:-2], *size))
        for row, view in enumerate(views):
            window = values[row, ..., view.top : view.top + size[0], view.left : view.left + size[1]]
            out[row] = window.flip(-1) if view.flip else window
        return out

    if margin:
        from torchvision.transforms.v2 import functional as F

        images = F.pad(images, [margin] * 4, padding_mode="reflect")
        dense = {
            key: torch.nn.functional.pad(values, [margin] * 4, value=_missing(values)) for key, values in dense.items()
        }
    return cut(images), {key: cut(values) for key, values in dense.items()}


def _warp(
    images: Tensor, dense: Mapping[str, Tensor], views: Sequence[View], size: tuple[int, int]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Scaled and turned windows: images bilinear, labels from the nearest pixel."""
    import torch

    height, width = images.shape[-2:]
    seen = images.new_empty((*images.shape[:-2], *size))
    labels = {key: values.new_empty((*values.shape[:-2], *size)) for key, values in dense.items()}
    for i, view in enumerate(views):
        x, y = _sources(view, size)
        outside = (x < 0) | (x >= width) | (y < 0) | (y >= height)
        grid = torch.stack(torch.broadcast_tensors(2 * x / width - 1, 2 * y / height - 1), dim=-1)[None]  # type: ignore[no-untyped-call]
        window = torch.nn.functional.grid_sample(
            images[i : i + 1].float(), grid, padding_mode="border", align_corners=False
        )
        seen[i] = window[0].round_().masked_fill_(outside, 0)
        row, column = y.long().clamp_(0, height - 1), x.long().clamp_(0, width - 1)
        for key, values in dense.items():
            labels[key][i] = values[i][..., row, column].masked_fill_(outside, _missing(values))
    return seen, labels


def _sources(view: View, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Where each pixel of a window comes from: x and y in the image, whose first pixel spans 0 to 1.

    Returns:
        Both [h, w], or [1, w] and [h, 1] where nothing is turned.
    """
    import torch

    across = torch.arange(size[1])[None] + 0.5
    across = (size[1] - across if view.flip else across) + view.left - view.x
    down = torch.arange(size[0])[:, None] + 0.5 + view.top - view.y
    if view.angle:
        cosine, sine = math.cos(view.angle), math.sin(view.angle)
        across, down = across * cosine - down * sine, across * sine + down * cosine
    return view.x + across / view.scale, view.y + down / view.scale


def _revalue(values: Tensor, kind: str, views: Sequence[View]) -> Tensor:
    """Labels of windows after what their views did to lengths and directions; `values` itself is changed."""
    for of_one, view in zip(values, views, strict=True):
        if kind == "depth":
            of_one /= view.scale
        elif kind == "disparity":
            of_one *= view.scale
        elif kind == "normals":
            if view.angle:
                cosine, sine = math.cos(view.angle), math.sin(view.angle)
                x, y = of_one[0].clone(), of_one[1].clone()
                of_one[0], of_one[1] = x * cosine + y * sine, y * cosine - x * sine
            if view.flip:
                of_one[0].neg_()
    return values


def _missing(values: Tensor) -> float:
    return math.nan if values.is_floating_point() else MISSING_CLASS
