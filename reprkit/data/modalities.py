"""Several files a frame: how each kind of them is read, and the one sorted list of ids that drives them all."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reprkit.data.decode import BrokenImage, resize_rgb
from reprkit.data.lazy import FileArray
from reprkit.errors import InputError
from reprkit.tasks import Task


@dataclass(frozen=True)
class Modality:
    """One kind of label (or the images) of a set's frames.

    Attributes:
        name: where it is kept, for messages.
        items: id -> what `read` is given: paths, mostly.
        read: `read(*item)` gives a frame as it is kept: [H, W] or [C, H, W], any H and W; raises BrokenImage.
        task: what it is a label of; None for images (uint8 [3, H, W]).
        finish: from the resized frame to what `Task` asks of targets.
    """

    name: str
    items: Mapping[str, tuple[Any, ...]]
    read: Callable[..., np.ndarray]
    task: Task | None = None
    finish: Callable[[np.ndarray], np.ndarray] | None = None

    def raw(self, item: tuple[Any, ...]) -> np.ndarray:
        """A frame as it is kept.

        Raises:
            InputError: it cannot be used.
        """
        return self._told(item, self.read, *item)

    def fitted(self, item: tuple[Any, ...], frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """A frame as it is kept, resized and finished."""
        if self.task is None:
            return resize_rgb(Image.fromarray(frame.transpose(1, 2, 0)), size)
        frame = nearest(frame, size)
        if self.finish is not None:
            frame = self._told(item, self.finish, frame)
        if (frame.shape, frame.dtype) != (self.shape(size), self.dtype):
            raise ValueError(f"{self.name}: {frame.dtype} {frame.shape}, not {self.dtype} {self.shape(size)}")
        return frame

    @property
    def dtype(self) -> np.dtype:
        """Of finished frames: small, since sets are large."""
        if self.task is None:
            return np.dtype(np.uint8)
        if self.task.is_discrete:
            return np.dtype(np.int8)
        return np.dtype(np.float16 if self.task.kind == "normals" else np.float32)

    def shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        """Of finished frames."""
        return (3, *size) if self.task is None or self.task.kind == "normals" else size

    def array(self, ids: Sequence[str], size: tuple[int, int]) -> FileArray[tuple[Any, ...]]:
        """The frames of some ids at a size, read when they are asked for."""
        items = [self.items[name] for name in ids]
        return FileArray(items, lambda item: self.fitted(item, self.raw(item), size), self.shape(size), self.dtype)

    def _told(self, item: tuple[Any, ...], work: Callable[..., np.ndarray], *given: Any) -> np.ndarray:
        try:
            return work(*given)
        except BrokenImage as error:
            where = " of ".join(str(part) for part in reversed(item))
            raise InputError(f"{where}: {error}; mend it, or remove the frame from every folder") from None


def nearest(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The pixel of [..., H, W] nearest to the middle of each pixel of [..., height, width]; nothing is averaged."""
    if frame.shape[-2:] == size:
        return frame
    row, column = (
        ((np.arange(new) + 0.5) * (old / new)).astype(int) for new, old in zip(size, frame.shape[-2:], strict=True)
    )
    return np.ascontiguousarray(frame[..., row[:, None], column])


def natural(name: str) -> list[tuple[int, str | int]]:
    """Sort key by which 2 comes before 10."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]


def common_ids(where: str | Path, modalities: Sequence[Modality]) -> list[str]:
    """The ids of all modalities, sorted.

    Raises:
        InputError: there are none, or one is missing somewhere; it is named.
    """
    first = modalities[0]
    for other in modalities[1:]:
        for a, b in ((first, other), (other, first)):
            lacking = sorted(a.items.keys() - b.items.keys(), key=natural)
            if lacking:
                more = f" (and {len(lacking) - 1:,} more)" if len(lacking) > 1 else ""
                raise InputError(
                    f"{where}: '{lacking[0]}'{more} is in {a.name} but not in {b.name}; every frame needs all of them"
                )
    if not first.items:
        raise InputError(f"{where}: no frames in {first.name}; point --data to the folder as it is published")
    return sorted(first.items, key=natural)
