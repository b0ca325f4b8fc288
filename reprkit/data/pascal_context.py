"""PASCAL-Context with five tasks, of Maninis et al., "Attentive Single-Tasking of Multiple Tasks" (CVPR 2019).

    PASCAL_MT/
      JPEGImages/<id>.jpg
      ImageSets/Context/{train,val}.txt          ids
      semseg/{VOC12,pascal-context}/<id>.png     21 classes, 255 for none; VOC12 where both have a frame
      human_parts/<id>.mat                       masks of parts, Chen et al. (CVPR 2014)
      normals_distill/<id>.png                   n = 2 v / 255 - 1, of a network's making
      sal_distill/<id>.png                       salient above 127.5, likewise
      pascal-context/trainval/<id>.mat           LabelMap of 459 classes

- Normals count where LabelMap has a class that is also found indoors (among the 894 classes of NYUv2). Axes are x to
  the right and y down.
- Human parts have no label in frames without any.
- Edges are lines one pixel wide between the classes of LabelMap; see `reprkit.data.boundaries.thin_boundaries`. They
  are drawn at the size that frames are resized to, where the original draws them before it resizes to 512 x 512: so
  they stay whole at any size.
- Frames are resized, and turned by `scale_rotate_flip`, without regard to their aspect ratio; the original turns them
  before it resizes them.

Weights of the losses are those of Vandenhende et al., "Multi-Task Learning for Dense Prediction Tasks: A Survey" (TPAMI
2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reprkit.data.base import ImageDataset
from reprkit.data.boundaries import thin_boundaries
from reprkit.data.decode import BrokenImage
from reprkit.data.frame_sets import carve, choose, scene_dataset
from reprkit.data.frames import looked_up, lookup, read_image, read_labels, read_mat, unit_vectors
from reprkit.data.modalities import Modality
from reprkit.errors import InputError
from reprkit.tasks import Task

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
PARTS = ("background", "head", "torso", "upper arm", "lower arm", "upper leg", "lower leg")
PERSON = 15
PART_OF_NAME = {
    **dict.fromkeys(("hair", "head", "lear", "lebrow", "leye", "mouth", "nose", "rear", "rebrow", "reye"), 1),
    **dict.fromkeys(("neck", "torso"), 2),
    **dict.fromkeys(("luarm", "ruarm"), 3),
    **dict.fromkeys(("lhand", "llarm", "rhand", "rlarm"), 4),
    **dict.fromkeys(("luleg", "ruleg"), 5),
    **dict.fromkeys(("lfoot", "llleg", "rfoot", "rlleg"), 6),
}
"""The part (index into `PARTS`) of each annotated part of a person."""

INDOORS = (
    3, 4, 6, 9, 10, 11, 13, 15, 17, 18, 22, 23, 29, 30, 33, 34, 36, 37, 38, 39, 41, 43, 46, 49, 50, 51, 53, 55, 56,
    59, 61, 62, 65, 66, 68, 69, 72, 73, 78, 83, 84, 85, 87, 88, 95, 96, 101, 104, 105, 107, 111, 113, 115, 122, 124,
    135, 141, 142, 143, 146, 150, 154, 157, 158, 159, 165, 172, 174, 181, 183, 184, 191, 193, 195, 197, 199, 202, 213,
    215, 216, 219, 220, 223, 225, 228, 230, 232, 233, 238, 239, 242, 243, 246, 250, 251, 252, 255, 260, 261, 263, 269,
    272, 273, 275, 281, 283, 284, 285, 286, 287, 288, 290, 291, 292, 293, 295, 304, 307, 309, 310, 314, 315, 319, 323,
    329, 330, 331, 336, 342, 345, 349, 350, 351, 352, 355, 357, 368, 370, 371, 374, 379, 380, 383, 384, 397, 401, 403,
    405, 407, 408, 411, 412, 413, 414, 417, 419, 421, 423, 427, 429, 430, 432, 440, 441, 442, 443, 444, 446, 454, 457,
)  # fmt: skip
"""Numbers in LabelMap of the 170 of its 459 classes whose names are also names of NYUv2's, and of tvmonitor."""

TASKS = (
    Task("segmentation", "segmentation", len(CLASSES), CLASSES),
    Task("human_parts", "segmentation", len(PARTS), PARTS, weight=2.0),
    Task("normals", "normals", 3, weight=10.0),
    Task("saliency", "saliency", 1, weight=5.0),
    Task("edges", "edges", 1, weight=50.0),
)
FOLDERS = {
    "segmentation": ("semseg",),
    "human_parts": ("human_parts",),
    "normals": ("normals_distill", "pascal-context/trainval"),
    "saliency": ("sal_distill",),
    "edges": ("pascal-context/trainval",),
}
_CLASS_TABLE = lookup({number: number for number in range(len(CLASSES))})


def load_pascal_context(
    root: str | None, size: tuple[int, int], tasks: Sequence[str] = (), cache_dir: Path | None = None
) -> ImageDataset:
    """Photographs with the tasks segmentation (21 classes), human_parts (7), normals, saliency and edges.

    Args:
        root: the folder PASCAL_MT.
        size: (height, width) that frames are resized to.
        tasks: which ones; empty means all.
        cache_dir: see `reprkit.data.cache.cache_root`.

    Raises:
        InputError: anything wrong with the files, naming one.
    """
    if not root:
        raise InputError("data.root: pascal_context needs the folder PASCAL_MT; name it with --data")
    path = Path(root).expanduser()
    chosen = choose("pascal_context", tasks, [task.name for task in TASKS])
    part_of = {name: part for part in ("train", "val") for name in read_ids(path / "ImageSets/Context" / f"{part}.txt")}
    modalities = [Modality("JPEGImages", _items(path, part_of, "JPEGImages/{}.jpg"), read_image)]
    for task in TASKS:
        if task.name in chosen or all((path / folder).is_dir() for folder in FOLDERS[task.name]):
            modalities.append(_modality(task, path, part_of))
    return scene_dataset(
        "pascal_context",
        path,
        modalities,
        lambda ids: carve(ids, [part_of[name] == "val" for name in ids]),
        size,
        chosen,
        same_size=False,
        cache_dir=cache_dir,
    )


def read_ids(path: Path) -> list[str]:
    """The lines of a list of ids.

    Raises:
        InputError: there is no such file, or nothing in it.
    """
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path}: no readable list of ids; point --data to the folder PASCAL_MT") from None
    if not names:
        raise InputError(f"{path}: holds no ids; unpack PASCAL_MT again")
    return names


def _items(path: Path, ids: Sequence[str] | dict[str, str], *patterns: str) -> dict[str, tuple[Path, ...]]:
    """id -> one file for each pattern; every file must be there."""
    items = {name: tuple(path / pattern.format(name) for pattern in patterns) for name in ids}
    for name, files in items.items():
        for file in files:
            if not file.is_file():
                raise InputError(
                    f"{file}: does not exist, but ImageSets/Context lists '{name}'; unpack PASCAL_MT again"
                )
    return items


def _modality(task: Task, path: Path, ids: dict[str, str]) -> Modality:
    label_map = "pascal-context/trainval/{}.mat"
    if task.name == "segmentation":
        items: dict[str, tuple[Path, ...]] = {}
        for name in ids:
            first = path / f"semseg/VOC12/{name}.png"
            pattern = "semseg/VOC12/{}.png" if first.is_file() else "semseg/pascal-context/{}.png"
            items |= _items(path, [name], pattern)
        return Modality("semseg", items, read_labels, task, lambda values: looked_up(values, _CLASS_TABLE))
    if task.name == "human_parts":
        return Modality("human_parts", _items(path, ids, "human_parts/{}.mat"), read_parts, task)
    if task.name == "normals":
        items = _items(path, ids, "normals_distill/{}.png", label_map)
        return Modality("normals_distill", items, read_normals, task, unit_vectors)
    if task.name == "saliency":
        return Modality("sal_distill", _items(path, ids, "sal_distill/{}.png"), read_saliency, task)
    return Modality("pascal-context", _items(path, ids, label_map), read_label_map, task, thin_boundaries)


def read_label_map(path: Path) -> np.ndarray:
    """LabelMap [H, W]: numbers of 459 classes."""
    values = read_mat(path).get("LabelMap")
    if values is None or values.ndim != 2:
        raise BrokenImage("has no variable LabelMap [height, width]")
    return values.astype(np.int32)


def read_normals(path: Path, label_map: Path) -> np.ndarray:
    """Normals float32 [3, H, W] as they are kept, zero where the class is not one of `INDOORS`."""
    vectors = read_image(path).astype(np.float32) * np.float32(2 / 255) - 1
    labels = read_label_map(label_map)
    if labels.shape != vectors.shape[1:]:
        raise BrokenImage(f"is {vectors.shape[1]} x {vectors.shape[2]}, LabelMap {labels.shape[0]} x {labels.shape[1]}")
    return np.where(np.isin(labels, INDOORS), vectors, np.float32(0))


def read_saliency(path: Path) -> np.ndarray:
    """1 where a pixel is salient, else 0: int8 [H, W]."""
    return (read_labels(path) > 127.5).astype(np.int8)


def read_parts(path: Path) -> np.ndarray:
    """Index into `PARTS` of every pixel, int8 [H, W]; -1 everywhere if no part of a person is annotated."""
    objects = _field(read_mat(path).get("anno"), "objects")
    target: np.ndarray | None = None
    shape = (1, 1)
    for person in objects.ravel():
        shape = _field(person, "mask").shape
        if int(_field(person, "class_ind").ravel()[0]) != PERSON:
            continue
        for part in _field(person, "parts").ravel():
            name, mask = str(_field(part, "part_name").ravel()[0]), _field(part, "mask").astype(bool)
            if name not in PART_OF_NAME:
                raise BrokenImage(f"has a part '{name}' that no person has")
            if target is None:
                target = np.zeros(mask.shape, dtype=np.int8)
            if mask.shape != target.shape:
                raise BrokenImage(f"has masks of {mask.shape} and {target.shape}")
            target[mask] = PART_OF_NAME[name]
    if target is None or not target.any():
        return np.full(shape, -1, dtype=np.int8)
    return target


def _field(record: Any, name: str) -> np.ndarray:
    """A field of a MATLAB struct as scipy gives it: [1, 1] arrays of records."""
    try:
        value = record[name]
        return value[0, 0] if value.dtype == object and value.shape == (1, 1) else np.asarray(value)
    except (TypeError, IndexError, KeyError, ValueError, AttributeError):
        raise BrokenImage(f"has no field '{name}' where one belongs") from None
