"""CamVid (Brostow et al., "Semantic object classes in video", 2009) in 11 classes and a given split.

    ROOT/{train,val,test}/image/<frame>.jpg        367, 101 and 233 frames
    ROOT/{train,val,test}/label11/<frame>.png      0 to 10, 11 for none

ROOT may be the folder, one above it, or a tar of it. Edges are derived from the classes; see
`reprkit.data.boundaries.label_boundaries`. Frames of one film follow each other closely, also across train and val.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from reprkit.data.base import SPLITS, ImageDataset
from reprkit.data.boundaries import label_boundaries
from reprkit.data.cache import scan
from reprkit.data.frame_sets import choose, scene_dataset
from reprkit.data.frames import looked_up, lookup, read_image, read_labels
from reprkit.data.modalities import Modality
from reprkit.data.sources import FileSource, Source, TarSource, images_below
from reprkit.errors import InputError
from reprkit.tasks import Task

CLASSES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip
TASKS = (Task("segmentation", "segmentation", len(CLASSES), CLASSES), Task("edges", "edges", 1))
IMAGES, LABELS = "image", "label11"
_CLASS_TABLE = lookup({number: number for number in range(len(CLASSES))}, len(CLASSES) + 1)


def load_camvid(
    root: str | None, size: tuple[int, int], tasks: Sequence[str] = (), cache_dir: Path | None = None
) -> ImageDataset:
    """Streets with the tasks segmentation (11 classes) and edges (where classes meet).

    Args:
        root: folder or tar.
        size: (height, width) that frames are resized to.
        tasks: which ones; empty means all.
        cache_dir: see `reprkit.data.cache.cache_root`.

    Raises:
        InputError: anything wrong with the files, naming one.
    """
    chosen = choose("camvid", tasks, [task.name for task in TASKS])
    source = find_source(root)
    blobs = dict(source.blobs())
    keys: dict[str, dict[str, tuple[str]]] = {IMAGES: {}, LABELS: {}}
    for key in sorted(blobs):
        *_, part, folder, name = ("", "", *PurePosixPath(key).parts)
        if part in SPLITS and folder in keys:
            keys[folder][f"{part}/{PurePosixPath(name).stem}"] = (key,)

    def image(key: str) -> np.ndarray:
        return read_image(blobs[key])

    def label(key: str) -> np.ndarray:
        return looked_up(read_labels(blobs[key]), _CLASS_TABLE)

    finish = {"segmentation": None, "edges": label_boundaries}
    return scene_dataset(
        "camvid",
        Path(source.label),
        [
            Modality(IMAGES, keys[IMAGES], image),
            *(Modality(LABELS, keys[LABELS], label, task, finish[task.name]) for task in TASKS),
        ],
        _split,
        size,
        chosen,
        split_rule="the folders train, val and test",
        digests=scan(source, "camvid", cache_dir),
        cache_dir=cache_dir,
    )


def find_source(root: str | None) -> Source:
    """The files behind `root`: of a folder, of a tar, or of the one tar in a folder without pictures.

    Raises:
        InputError: nothing there, or more than one tar.
    """
    if not root:
        raise InputError("data.root: camvid needs a folder or tar; name it with --data")
    path = Path(root).expanduser()
    if path.is_file():
        return TarSource(path)
    if not path.is_dir():
        raise InputError(f"{root}: does not exist; name the folder or tar of CamVid with --data")
    files = images_below(path)
    if files:
        return FileSource(str(path), files)
    tars = sorted(p for p in path.iterdir() if p.name.lower().endswith((".tar", ".tar.gz", ".tgz")))
    if len(tars) != 1:
        found = f"several tars ({', '.join(t.name for t in tars)})" if tars else "neither images nor a tar"
        raise InputError(f"{path}: holds {found}; name the folder or tar of CamVid with --data")
    return TarSource(tars[0])


def _split(ids: Sequence[str]) -> np.ndarray:
    return np.array([SPLITS.index(name.split("/", 1)[0]) for name in ids], dtype=np.uint8)
