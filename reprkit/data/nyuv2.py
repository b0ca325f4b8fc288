"""NYU Depth v2 (Silberman et al., "Indoor Segmentation and Support Inference from RGBD Images", ECCV 2012).

Two forms are read. The folders of .npy files that MTAN (Liu et al., CVPR 2019) and its followers share:

    ROOT/{train,val}/{image,label,depth,normal}/<i>.npy     795 and 654 frames of 288 x 384

- image [H, W, 3] in 0 to 1; label [H, W] from 0 to 12, -1 without; depth [H, W, 1] in metres, 0 without;
- normal [H, W, 3], zeros without. Mirroring negates the first component; the order of the other two axes was not
  published, so normals cannot be turned in the image plane.

And the publisher's `nyu_depth_v2_labeled.mat` (1,449 frames of 480 x 640), or the folder that holds it, with
`classMapping40.mat` (the 40 classes of Gupta et al., CVPR 2013) and, where there is one, `splits.mat` beside it. There
are no normals in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from reprkit.data.base import ImageDataset
from reprkit.data.decode import BrokenImage
from reprkit.data.frame_sets import CARVED, carve, choose, scene_dataset
from reprkit.data.frames import (
    class_indices,
    files_named,
    float_image,
    looked_up,
    map_plane,
    positive,
    read_mat,
    read_npy,
    unit_vectors,
)
from reprkit.data.modalities import Modality
from reprkit.data.splits import hash_split
from reprkit.errors import InputError
from reprkit.tasks import Task

CLASSES = (
    "bed", "books", "ceiling", "chair", "floor", "furniture", "objects", "picture", "sofa", "table", "tv", "wall",
    "window",
)  # fmt: skip
CLASS_OF_40 = (
    11, 4, 5, 0, 3, 8, 9, 11, 12, 5, 7, 5, 12, 9, 5, 12, 5, 6, 6, 4, 6, 2, 1, 5, 10, 6, 6, 6, 6, 6, 6, 5, 6, 6, 6, 6, 6,
    6, 5, 6,
)  # fmt: skip
"""The class (from 0) of each of the 40 classes: Couprie et al., "Indoor Semantic Segmentation using depth information",
ICLR 2013; Handa et al. published it as class13Mapping.mat."""

LABELED, MAPPING, SPLIT_FILE = "nyu_depth_v2_labeled.mat", "classMapping40.mat", "splits.mat"
TASKS = (
    Task("segmentation", "segmentation", len(CLASSES), CLASSES),
    Task("depth", "depth", 1, unit="m"),
    Task("normals", "normals", 3),
)


def load_nyuv2(
    root: str | None, size: tuple[int, int], tasks: Sequence[str] = (), cache_dir: Path | None = None
) -> ImageDataset:
    """Rooms with the tasks segmentation (13 classes), depth (metres) and, from folders, normals.

    Args:
        root: the folder of train/ and val/, or the .mat file or its folder.
        size: (height, width) that frames are resized to.
        tasks: which ones; empty means all.
        cache_dir: see `reprkit.data.cache.cache_root`.

    Raises:
        InputError: anything wrong with the files, naming one.
    """
    if not root:
        raise InputError(f"data.root: nyuv2 needs its folder or {LABELED}; name it with --data")
    path = Path(root).expanduser()
    mat = path / LABELED if path.is_dir() else path
    if (path / "train").is_dir():
        return _from_folders(path, size, choose("nyuv2", tasks, [task.name for task in TASKS]), cache_dir)
    if mat.is_file():
        offered = [task.name for task in TASKS if task.kind != "normals"]
        return _from_mat(mat, size, choose(f"nyuv2 as {LABELED}", tasks, offered), cache_dir)
    wrong = f"holds neither train/ nor {LABELED}" if path.is_dir() else "does not exist"
    raise InputError(f"{root}: {wrong}; name the folder of NYUv2 with --data")


def npy_frames(path: Path, folder: str, part: str) -> dict[str, tuple[Path]]:
    """`part`/number -> file, for the .npy files of ROOT/part/folder."""
    return files_named(path / part / folder, ".npy", f"{part}/")


def npy_normals(values: np.ndarray) -> np.ndarray:
    """Normals [H, W, 3] as [3, H, W]."""
    if values.ndim != 3 or values.shape[-1] != 3:
        raise BrokenImage(f"has shape {values.shape}, normals need [height, width, 3]")
    return values.transpose(2, 0, 1)


_NPY: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
    "segmentation": (map_plane, partial(class_indices, classes=len(CLASSES))),
    "depth": (map_plane, positive),
    "normals": (npy_normals, unit_vectors),
}


def _read(shape: Callable[[np.ndarray], np.ndarray], path: Path) -> np.ndarray:
    return shape(read_npy(path))


def _from_folders(path: Path, size: tuple[int, int], tasks: Sequence[str], cache_dir: Path | None) -> ImageDataset:
    def items(folder: str) -> dict[str, tuple[Path]]:
        return npy_frames(path, folder, "train") | npy_frames(path, folder, "val")

    modalities = [Modality("image", items("image"), lambda file: float_image(read_npy(file)))]
    for task, folder in zip(TASKS, ("label", "depth", "normal"), strict=True):
        if task.name in tasks or (path / "train" / folder).is_dir():
            read, finish = _NPY[task.name]
            modalities.append(Modality(folder, items(folder), partial(_read, read), task, finish))
    return scene_dataset(
        "nyuv2",
        path,
        modalities,
        lambda ids: carve(ids, [name.startswith("val/") for name in ids]),
        size,
        tasks,
        notes=["neighbouring frames of one room may lie on both sides of train and val: numbers do not tell rooms"],
        cache_dir=cache_dir,
    )


def _from_mat(mat: Path, size: tuple[int, int], tasks: Sequence[str], cache_dir: Path | None) -> ImageDataset:
    count, scenes = _about(mat)
    names = [f"{i:04d}" for i in range(1, count + 1)]
    items: dict[str, tuple[Any, ...]] = {name: (mat, i) for i, name in enumerate(names)}
    modalities = [Modality("images", items, partial(read_hdf5, "images"))]
    table = np.zeros(0, np.int8)
    if "segmentation" in tasks or (mat.parent / MAPPING).is_file():
        table = _class_table(mat.parent / MAPPING)
    modalities += [
        Modality("labels", items, partial(read_hdf5, "labels"), TASKS[0], partial(looked_up, table=table)),
        Modality("depths", items, partial(read_hdf5, "depths"), TASKS[1], positive),
    ]

    split_file = mat.parent / SPLIT_FILE
    if split_file.is_file():
        is_test = _test_frames(split_file, count)
        rule = CARVED.replace("frames in order of sha256(id)", f"frames of {SPLIT_FILE} in order of sha256(room)")
    else:
        is_test = None
        rule = f"no {SPLIT_FILE}: rooms in order of sha256(name), first 20% of frames test, next 10% val, v1"

    def split(ids: Sequence[str]) -> np.ndarray:
        return hash_split(scenes) if is_test is None else carve(ids, is_test, scenes)

    return scene_dataset(
        "nyuv2",
        mat,
        modalities,
        split,
        size,
        tasks,
        split_rule=rule,
        transform={"classes": table.tolist()},
        notes=[] if is_test is not None else [f"put {SPLIT_FILE} beside {mat.name} for the publisher's split"],
        cache_dir=cache_dir,
    )


def read_hdf5(name: str, path: Path, index: int) -> np.ndarray:
    """One frame of a data set [N, ..., W, H] of a MATLAB 7.3 file, as [..., H, W]."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return np.ascontiguousarray(np.swapaxes(file[name][index], -1, -2))
    except (OSError, KeyError, ValueError) as error:
        raise BrokenImage(f"frame {index + 1} of '{name}' cannot be read ({error})") from None


def _about(mat: Path) -> tuple[int, list[str]]:
    """The number of frames, and the room that each one shows (its own name where the file does not tell)."""
    import h5py

    try:
        with h5py.File(mat, "r") as file:
            shapes = {name: file[name].shape for name in ("images", "labels", "depths") if name in file}
            scenes = None
            if "scenes" in file:
                scenes = ["".join(map(chr, file[ref][()].ravel())) for ref in file["scenes"][()].ravel()]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{mat}: not a readable MATLAB 7.3 file ({error}); copy it again") from None
    for name in ("images", "labels", "depths"):
        if name not in shapes:
            raise InputError(f"{mat}: no '{name}' in it; use the publisher's {LABELED}")
    count = shapes["images"][0]
    plane = shapes["images"][-2:]
    wanted = {"images": (count, 3, *plane), "labels": (count, *plane), "depths": (count, *plane)}
    for name, shape in wanted.items():
        if shapes[name] != shape:
            raise InputError(f"{mat}: '{name}' has shape {shapes[name]}, not {shape}; use the publisher's {LABELED}")
    if scenes is None or len(scenes) != count:
        scenes = [str(i) for i in range(count)]
    return count, scenes


def _class_table(path: Path) -> np.ndarray:
    """Class (from 0, of 13) of each of the 894 labels; 0 stays without."""
    if not path.is_file():
        raise InputError(
            f"{path}: does not exist; segmentation needs the mapping of 894 labels to 40 classes there (variable "
            "mapClass), or leave segmentation out with data.tasks"
        )
    try:
        numbers = np.asarray(read_mat(path)["mapClass"]).ravel().astype(int)
    except (BrokenImage, KeyError, ValueError) as error:
        raise InputError(f"{path}: has no usable variable mapClass ({error}); copy it again") from None
    if numbers.size == 0 or numbers.min() < 1 or numbers.max() > len(CLASS_OF_40):
        raise InputError(f"{path}: mapClass goes beyond 1 to {len(CLASS_OF_40)}; copy it again")
    return np.array([-1, *(CLASS_OF_40[i - 1] for i in numbers.tolist())], dtype=np.int8)


def _test_frames(path: Path, count: int) -> np.ndarray:
    """Which frames are the publisher's test frames: bool [N]."""
    try:
        record = read_mat(path)
        train, test = (np.asarray(record[key]).ravel().astype(int) for key in ("trainNdxs", "testNdxs"))
    except (BrokenImage, KeyError, ValueError) as error:
        raise InputError(f"{path}: has no usable trainNdxs and testNdxs ({error}); copy it again") from None
    if sorted([*train.tolist(), *test.tolist()]) != list(range(1, count + 1)):
        raise InputError(f"{path}: trainNdxs and testNdxs do not name each of the {count:,} frames once; copy it again")
    is_test = np.zeros(count, dtype=bool)
    is_test[test - 1] = True
    return is_test
