"""A folder of images a class, as ImageNet is kept: one classification task, `class`.

    ROOT/{train,val[,test]}/<class>/<image>      or      ROOT/<class>/<image>

Images are decoded whenever they are asked for, so that a set of any size starts at once; an image that cannot be
decoded stops the run that meets it, naming the file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np

from reprkit.data.base import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    SPLITS,
    ImageDataset,
    content_fingerprint,
    split_fingerprint,
)
from reprkit.data.decode import DECODER, BrokenImage, check_side, decode_rgb
from reprkit.data.fingerprints import sized_digests
from reprkit.data.frame_sets import VAL_SHARE
from reprkit.data.lazy import FileArray
from reprkit.data.sources import is_image_name
from reprkit.data.splits import HASH_RULE, check_splits, hash_split
from reprkit.errors import InputError
from reprkit.files import json_digest
from reprkit.tasks import Task


def load_imagefolder(root: str | None, size: tuple[int, int], cache_dir: Path | None = None) -> ImageDataset:
    """Images with the task `class`, whose classes are the sorted names of the folders.

    With train/ and val/ alone, val is the publisher's and becomes test, while our val is carved from train; with all
    three, each is what it is called; without any, images are split 70/10/20 within each class.

    Args:
        root: the folder.
        size: (height, width) that images are resized to, without regard to their aspect ratio.
        cache_dir: see `reprkit.data.cache.cache_root`.

    Raises:
        InputError: no such folder, no images, or a class that is not in train.
    """
    if not root:
        raise InputError("data.root: imagefolder needs a folder of one folder a class; name it with --data")
    check_side(*size)
    top = Path(root).expanduser()
    if not top.is_dir():
        raise InputError(f"{root}: {'is no folder' if top.exists() else 'does not exist'}; name a folder with --data")
    parts = [name for name in SPLITS if (top / name).is_dir()]
    if parts and "train" not in parts:
        raise InputError(f"{top}: has {parts[0]}/ but no train/; keep train/<class>/<image> beside it")
    found = {part: list_classes(top / part) for part in parts} or {"": list_classes(top)}
    first = found.get("train", found.get("", {}))
    classes = tuple(sorted(first))
    if len(classes) < 2:
        where = top / "train" if parts else top
        raise InputError(f"{where}: {len(classes)} folders with images; keep the images of each class in a folder")
    for part, members in found.items():
        unknown = sorted(set(members) - set(classes))
        if unknown:
            raise InputError(f"{top / part / unknown[0]}: this class is not in train; add its images there")

    ids, labels, sizes, sides = [], [], [], []
    index = {name: i for i, name in enumerate(classes)}
    for part, members in found.items():
        for name, files in sorted(members.items()):
            for file, length in files:
                ids.append("/".join(filter(None, (part, name, file))))
                labels.append(index[name])
                sizes.append(length)
                sides.append(part)
    target = np.array(labels, dtype=np.int64)
    split, rule = _split(ids, sides, target, parts)
    check_splits(split, source=str(top), mend="add images")
    paths = {name: top / name for name in ids}
    digests, policy = sized_digests("imagefolder", str(top), paths, dict(zip(ids, sizes, strict=True)), cache_dir)

    def read(name: str) -> np.ndarray:
        try:
            return decode_rgb((top / name).read_bytes(), size)
        except (BrokenImage, OSError) as error:
            raise InputError(f"{top / name}: {error}; mend or remove it") from None

    record = {
        "kind": "resize", "size": [*size], "filter": "bilinear", "decoder": DECODER, "mean": [*IMAGENET_MEAN],
        "std": [*IMAGENET_STD],
    }  # fmt: skip
    return ImageDataset(
        name="imagefolder",
        tasks=(Task("class", "classification", len(classes), classes),),
        images=cast(np.ndarray, FileArray(ids, read, (3, *size), np.uint8)),
        targets={"class": target},
        ids=np.array(ids),
        split=split,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        fingerprint=content_fingerprint(ids, [digests[name] for name in ids], {}),
        split_fingerprint=split_fingerprint(ids, split),
        transform_fingerprint=json_digest(record),
        split_rule=rule,
        notes=(policy,) if policy else (),
    )


def list_classes(folder: Path) -> dict[str, list[tuple[str, int]]]:
    """Class -> sorted (name, bytes) of its images; folders without images are passed over.

    Raises:
        InputError: images lie beside the folders, or the folder cannot be read.
    """
    classes: dict[str, list[tuple[str, int]]] = {}
    try:
        with os.scandir(folder) as entries:
            listed = [entry for entry in entries if not entry.name.startswith(".")]
        for entry in listed:
            if entry.is_dir():
                with os.scandir(entry.path) as inside:
                    files = sorted((f.name, f.stat().st_size) for f in inside if is_image_name(f.name))
                if files:
                    classes[entry.name] = files
            elif is_image_name(entry.name):
                raise InputError(f"{entry.path}: lies beside the class folders; move each image into that of its class")
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from None
    return classes


def _split(
    ids: Sequence[str], sides: Sequence[str], target: np.ndarray, parts: Sequence[str]
) -> tuple[np.ndarray, str]:
    if not parts:
        return hash_split(ids, target), HASH_RULE.replace("groups", "images").format(stratum="class")
    rename = {"val": "test"} if "test" not in parts else {}
    split = np.array([SPLITS.index(rename.get(part, part)) for part in sides], dtype=np.uint8)
    if "val" in parts and "test" in parts:
        return split, "the folders train, val and test"
    train = np.flatnonzero(split == SPLITS.index("train"))
    split[train] = hash_split([ids[i] for i in train.tolist()], target[train], test=0.0, val=VAL_SHARE)
    held = "val" if rename else "test"
    return split, (
        f"test is the folder {held}; val is the first eighth of each class of train, in order of sha256(id), v1"
    )
