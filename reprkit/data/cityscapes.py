"""Cityscapes (Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016).

Three forms are read. The publisher's folders, with parts of Meletis et al. (arXiv 2004.07944):

    ROOT/leftImg8bit/{train,val}/<city>/<frame>_leftImg8bit.png
    ROOT/gtFine/{train,val}/<city>/<frame>_gtFine_labelIds.png
    ROOT/gtFinePanopticParts/{train,val}/<city>/<frame>_gtFinePanopticParts.tif
    ROOT/disparity/{train,val}/<city>/<frame>_disparity.png

the same files made small and numbered, as Auto-Lambda and DGR use them:

    ROOT/{train,val}/{image,seg,part_seg,depth}/<i>.png | .tif

and the .npy folders with 7 classes and no parts of MTAN, CAGrad, FAMO, LibMTL, ...:

    ROOT/{train,val}/{image,label_7 or label,depth}/<i>.npy

Disparities are pixels at the width that frames are resized to: as published, 16-bit numbers d stand for (d - 1) / 256
pixels of a frame 2,048 wide, 0 for none. The .npy folders hold disparities in a unit of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from reprkit.data.base import ImageDataset
from reprkit.data.decode import BrokenImage
from reprkit.data.frame_sets import carve, choose, scene_dataset
from reprkit.data.frames import (
    class_indices,
    files_named,
    float_image,
    looked_up,
    lookup,
    map_plane,
    positive,
    read_image,
    read_labels,
    read_npy,
)
from reprkit.data.modalities import Modality
from reprkit.errors import InputError
from reprkit.tasks import Task

FULL_WIDTH = 2048
"""Pixels of the published frames' width, in which disparities are told."""

CLASSES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
CLASS_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The label id of each class; the other 15 of 34 have no class."""

SEVEN = ("flat", "construction", "object", "nature", "sky", "human", "vehicle")
PARTS = (
    "background", "torso", "head", "arms", "legs", "windows", "wheels", "lights", "license plate", "chassis",
)  # fmt: skip
HUMANS, VEHICLES = (24, 25), (26, 27, 28)
"""Label ids of person and rider, and of car, truck and bus: what has parts."""

TASKS = (
    Task("segmentation", "segmentation", len(CLASSES), CLASSES),
    Task("parts", "segmentation", len(PARTS), PARTS),
    Task("disparity", "disparity", 1, unit="px"),
)
_CLASS_TABLE = lookup({number: index for index, number in enumerate(CLASS_IDS)}, 34)


def load_cityscapes(
    root: str | None, size: tuple[int, int], tasks: Sequence[str] = (), cache_dir: Path | None = None
) -> ImageDataset:
    """Streets with the tasks segmentation (19 classes), parts (10) and disparity; of .npy folders without parts.

    Args:
        root: folder in one of the three forms.
        size: (height, width) that frames are resized to.
        tasks: which ones; empty means all.
        cache_dir: see `reprkit.data.cache.cache_root`.

    Raises:
        InputError: anything wrong with the files, naming one.
    """
    if not root:
        raise InputError("data.root: cityscapes needs the folder of leftImg8bit/ and gtFine/; name it with --data")
    path = Path(root).expanduser()
    notes = []
    if (path / "leftImg8bit").is_dir():
        modalities = _published(path, size, choose("cityscapes", tasks, [task.name for task in TASKS]))
    elif (path / "train" / "seg").is_dir():
        modalities = _numbered(path, size, choose("cityscapes", tasks, [task.name for task in TASKS]))
    elif (path / "train" / "image").is_dir():
        modalities = _arrays(path, size, choose("cityscapes of .npy files", tasks, ("segmentation", "disparity")))
        notes = ["disparity is in the unit of the .npy files"]
    else:
        wrong = "holds neither leftImg8bit/ nor train/image/" if path.is_dir() else "does not exist"
        raise InputError(f"{root}: {wrong}; name the folder of Cityscapes with --data")
    names = {m.task.name for m in modalities if m.task is not None}
    return scene_dataset(
        "cityscapes",
        path,
        modalities,
        lambda ids: carve(ids, [name.startswith("val/") for name in ids]),
        size,
        tuple(tasks) or tuple(task.name for task in TASKS if task.name in names),
        transform={"disparity_width": size[1]},
        notes=notes,
        cache_dir=cache_dir,
    )


def part_classes(uids: np.ndarray) -> np.ndarray:
    """Index into `PARTS` of universal ids: up to 99 a class, up to 99,999 with an instance, above with a part.

    >>> part_classes(np.array([[23, 26, 26002, 2401002, 2600105, 2400000]])).tolist()
    [[0, 0, 0, 2, 9, 0]]
    """
    if uids.size and (uids.min() < 0 or uids.max() > 99_99_999):
        raise BrokenImage(f"holds {int(uids.min())} to {int(uids.max())}: no ids of panoptic parts")
    with_part = uids > 99_999
    number, part = uids // 100_000, uids % 100
    human = with_part & np.isin(number, HUMANS) & (part >= 1) & (part <= 4)
    vehicle = with_part & np.isin(number, VEHICLES) & (part >= 1) & (part <= 5)
    return np.where(human, part, np.where(vehicle, part + 4, 0)).astype(np.int8)


def disparities(values: np.ndarray, width: int) -> np.ndarray:
    """Published 16-bit disparities as float32 pixels of frames that are `width` wide; NaN for 0."""
    pixels = (values.astype(np.float32) - 1) / 256 * np.float32(width / FULL_WIDTH)
    return np.where(values > 0, pixels, np.float32(np.nan))


def _published(path: Path, size: tuple[int, int], tasks: Sequence[str]) -> list[Modality]:
    def items(folder: str, suffix: str) -> dict[str, tuple[Path]]:
        found: dict[str, tuple[Path]] = {}
        for part in ("train", "val"):
            top = path / folder / part
            if not top.is_dir():
                raise InputError(f"{top}: no such folder; unpack {folder} of Cityscapes there")
            for city in sorted(p for p in top.iterdir() if p.is_dir()):
                found |= files_named(city, suffix, f"{part}/{city.name}/")
        return found

    folders = {
        "segmentation": ("gtFine", "_gtFine_labelIds.png"),
        "parts": ("gtFinePanopticParts", "_gtFinePanopticParts.tif"),
        "disparity": ("disparity", "_disparity.png"),
    }
    modalities = [Modality("leftImg8bit", items("leftImg8bit", "_leftImg8bit.png"), read_image)]
    for task in TASKS:
        folder, suffix = folders[task.name]
        if task.name in tasks or (path / folder).is_dir():
            modalities.append(Modality(folder, items(folder, suffix), read_labels, task, _finish(task, size)))
    return modalities


def _numbered(path: Path, size: tuple[int, int], tasks: Sequence[str]) -> list[Modality]:
    def items(folder: str, suffix: str) -> dict[str, tuple[Path]]:
        train, val = (files_named(path / part / folder, suffix, f"{part}/") for part in ("train", "val"))
        return train | val

    folders = {"segmentation": ("seg", ".png"), "parts": ("part_seg", ".tif"), "disparity": ("depth", ".png")}
    modalities = [Modality("image", items("image", ".png"), read_image)]
    for task in TASKS:
        folder, suffix = folders[task.name]
        if task.name in tasks or (path / "train" / folder).is_dir():
            modalities.append(Modality(folder, items(folder, suffix), read_labels, task, _finish(task, size)))
    return modalities


def _finish(task: Task, size: tuple[int, int]) -> partial[np.ndarray]:
    if task.name == "segmentation":
        return partial(looked_up, table=_CLASS_TABLE)
    return partial(disparities, width=size[1]) if task.kind == "disparity" else partial(part_classes)


def _arrays(path: Path, size: tuple[int, int], tasks: Sequence[str]) -> list[Modality]:
    def items(folder: str) -> dict[str, tuple[Path]]:
        train, val = (files_named(path / part / folder, ".npy", f"{part}/") for part in ("train", "val"))
        return train | val

    def scaled(file: Path) -> np.ndarray:
        values = positive(map_plane(read_npy(file)))
        return values * np.float32(size[1] / values.shape[1])

    label = "label_7" if (path / "train" / "label_7").is_dir() else "label"
    modalities = [Modality("image", items("image"), lambda file: float_image(read_npy(file)))]
    if "segmentation" in tasks or (path / "train" / label).is_dir():
        task = Task("segmentation", "segmentation", len(SEVEN), SEVEN)
        finish = partial(class_indices, classes=len(SEVEN))
        modalities.append(Modality(label, items(label), lambda file: map_plane(read_npy(file)), task, finish))
    if "disparity" in tasks or (path / "train" / "depth").is_dir():
        modalities.append(Modality("depth", items("depth"), scaled, Task("disparity", "disparity", 1)))
    return modalities
