"""From the modalities of a set's frames to one data set.

Every frame is read once when a set is first seen: damaged files, sizes that differ and frames without any label are
told then, not in the middle of a training run. What a set of up to `KEEP_LIMIT` bytes decodes to is kept in the cache;
frames of a larger one are decoded whenever they are asked for.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
from tqdm import tqdm

from reprkit.data.base import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    SPLITS,
    ImageDataset,
    content_fingerprint,
    split_fingerprint,
)
from reprkit.data.cache import cache_root, kept_arrays
from reprkit.data.decode import DECODER, check_side
from reprkit.data.fingerprints import file_digests
from reprkit.data.lazy import FileArray
from reprkit.data.modalities import Modality, common_ids
from reprkit.data.splits import check_splits, hash_split
from reprkit.errors import InputError
from reprkit.files import json_digest
from reprkit.tasks import Task

KEEP_LIMIT = 8 * 2**30
VAL_SHARE = 1 / 8
CARVED = "val is the first eighth of the publisher's train frames in order of sha256(id), v1; test is its val"
READERS = 1
"""Raised whenever the same files would give other labels; part of transform fingerprints."""

_BATCH = 32
_SPARE = 2**28


def carve(ids: Sequence[str], is_test: Sequence[bool] | np.ndarray, groups: Sequence[str] | None = None) -> np.ndarray:
    """Split codes uint8 [N]: test as told, and val the first eighth of the rest in order of the hash of id (or group).

    Args:
        ids: [N] names of the frames.
        is_test: [N] whether a frame is the publisher's test (or val) frame.
        groups: [N] what must stay on one side, such as the room a frame shows.
    """
    split = np.full(len(ids), SPLITS.index("test"), dtype=np.uint8)
    rest = np.flatnonzero(~np.asarray(is_test, dtype=bool))
    split[rest] = hash_split([(groups or ids)[i] for i in rest.tolist()], test=0.0, val=VAL_SHARE)
    return split


def choose(name: str, tasks: Sequence[str], offered: Sequence[str]) -> tuple[str, ...]:
    """The tasks asked for, or all.

    Raises:
        InputError: one does not exist.
    """
    for task in tasks:
        if task not in offered:
            raise InputError(f"data.tasks: {name} has no task '{task}'; choose from {', '.join(offered)}")
    return tuple(tasks) or tuple(offered)


def scene_dataset(
    name: str,
    root: Path,
    modalities: Sequence[Modality],
    split: Callable[[Sequence[str]], np.ndarray],
    size: tuple[int, int],
    tasks: Sequence[str],
    *,
    split_rule: str = CARVED,
    same_size: bool = True,
    transform: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    digests: Mapping[str, str] | None = None,
    cache_dir: Path | None = None,
) -> ImageDataset:
    """A data set of frames in several modalities.

    Args:
        name: of the data set.
        root: where it is kept, for messages.
        modalities: the images first, then what belongs to each task; those of no task asked for count in the
            fingerprint alone.
        split: from sorted ids to split codes uint8 [N].
        size: (height, width) that frames are resized to: images bilinearly with antialiasing, labels to the nearest.
        tasks: names of the tasks asked for.
        split_rule: in words.
        same_size: whether the files of a frame must have one height and width.
        transform: what else happens to labels, for the fingerprint of the transform.
        notes: what a reader should know.
        digests: of the contents that items name, where items are no paths.
        cache_dir: see `reprkit.data.cache.cache_root`.

    Raises:
        InputError: frames lack a file, a file cannot be used, sizes differ, or a split has no frame or no label.
    """
    check_side(*size)
    ids = common_ids(root, modalities)
    codes = split(ids)
    check_splits(codes, source=str(root), mend="add frames")
    policy = ""
    if digests is None:
        parts = [part for m in modalities for item in m.items.values() for part in item if isinstance(part, Path)]
        digests, policy = file_digests(name, str(root), {str(part): part for part in parts}, cache_dir)
    contents = [
        json_digest([[m.name, *(digests.get(str(part), str(part)) for part in m.items[frame])] for m in modalities])
        for frame in ids
    ]
    record = {
        "kind": "scene", "size": list(size), "images": "bilinear", "labels": "nearest", "decoder": DECODER,
        "readers": READERS, "mean": [*IMAGENET_MEAN], "std": [*IMAGENET_STD], **(transform or {}),
    }  # fmt: skip
    images, *labels = (m for m in modalities if m.task is None or m.task.name in tasks)
    chosen = [m.task for m in labels if m.task is not None]
    content = json_digest([ids, contents, record, [task.to_json() for task in chosen], same_size])
    counts, arrays, how = _frames(name, content, [images, *labels], ids, size, same_size, cache_dir)
    for column, task in zip(counts.T, chosen, strict=True):
        for code, part in enumerate(SPLITS):
            if not column[codes == code].any():
                raise InputError(
                    f"{root}: no pixel of the {part} split is labelled for task '{task.name}'; "
                    "check those files, or leave it out with data.tasks"
                )
    return ImageDataset(
        name=name,
        tasks=tuple(chosen),
        images=arrays[0],
        targets={task.name: array for task, array in zip(chosen, arrays[1:], strict=True)},
        ids=np.array(ids),
        split=codes,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        fingerprint=content_fingerprint(ids, contents, {}),
        split_fingerprint=split_fingerprint(ids, codes),
        transform_fingerprint=json_digest(record),
        split_rule=split_rule,
        notes=(*notes, *_void_notes(ids, chosen, counts), *filter(None, (policy, how))),
    )


def _frames(
    name: str,
    content: str,
    modalities: Sequence[Modality],
    ids: Sequence[str],
    size: tuple[int, int],
    same_size: bool,
    cache_dir: Path | None,
) -> tuple[np.ndarray, list[np.ndarray], str]:
    """How many pixels of each frame are labelled [N, tasks]; arrays by modality; what a reader should know."""
    lazy = [modality.array(ids, size) for modality in modalities]
    need, home = sum(array.nbytes for array in lazy), cache_root(cache_dir)
    keep = need <= KEEP_LIMIT
    names = [f"{i}-{array.dtype}" for i, array in enumerate(lazy)]

    def build() -> dict[str, np.ndarray]:
        if not keep:
            return {"counts": read_all(name, modalities, ids, size, same_size)}
        if shutil.disk_usage(home).free < 2 * need + _SPARE:
            raise InputError(
                f"{home}: the cache needs room for {2 * need / 2**30:.1f} GiB; make some, or set REPRKIT_CACHE"
            )
        out = {
            key: np.lib.format.open_memmap(Path(scratch) / f"{key}.npy", "w+", array.dtype, array.shape)
            for key, array in zip(names, lazy, strict=True)
        }
        return {"counts": read_all(name, modalities, ids, size, same_size, list(out.values())), **out}

    try:
        home.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=home, prefix=f".{name}-") as scratch:
            kept = kept_arrays(f"{name}-frames", json_digest([content, keep]), build, cache_dir)
    except OSError as error:
        raise InputError(
            f"{home}: the cache cannot be written ({error}); set REPRKIT_CACHE to another folder"
        ) from None
    if keep:
        return kept["counts"], [kept[key] for key in names], ""
    return (
        kept["counts"],
        [cast(np.ndarray, array) for array in lazy],
        f"frames are decoded whenever they are asked for ({need / 2**30:.0f} GiB would be kept otherwise)",
    )


def read_all(
    name: str,
    modalities: Sequence[Modality],
    ids: Sequence[str],
    size: tuple[int, int],
    same_size: bool = True,
    out: Sequence[np.ndarray] = (),
) -> np.ndarray:
    """Read every file of every frame once: how many pixels are labelled, int64 [N, tasks].

    Args:
        name: of the data set, for the progress bar.
        modalities: the images first.
        ids: [N] frames.
        size: (height, width) that they are resized to.
        same_size: whether the files of a frame must have one height and width.
        out: where the resized frames go, one array a modality; empty keeps none.

    Raises:
        InputError: a file cannot be used, or its height and width are not those of the frame's image.
    """

    def look(row: int) -> np.ndarray:
        frame, found, sides = ids[row], [], None
        for i, modality in enumerate(modalities):
            item = modality.items[frame]
            raw = modality.raw(item)
            sides = sides or raw.shape[-2:]
            if same_size and raw.shape[-2:] != sides:
                raise InputError(
                    f"{item[0]}: frame '{frame}' is {' x '.join(map(str, raw.shape[-2:]))} in {modality.name} but "
                    f"{' x '.join(map(str, sides))} in {modalities[0].name}; all files of a frame need one size"
                )
            fitted = modality.fitted(item, raw, size)
            if modality.task is not None:
                found.append(int(modality.task.valid(fitted[None]).sum()))
            if len(out):
                out[i][row] = fitted
        return np.array(found, np.int64)

    table = FileArray(range(len(ids)), look, (len(modalities) - 1,), np.int64)
    parts = []
    with tqdm(total=len(ids), desc=f"{name}: reading", unit="frame", disable=None, leave=False) as bar:
        for start in range(0, len(ids), _BATCH):
            parts.append(table[start : start + _BATCH])
            bar.update(len(parts[-1]))
    return np.concatenate(parts)


def _void_notes(ids: Sequence[str], tasks: Sequence[Task], counts: np.ndarray) -> list[str]:
    notes = []
    for task, column in zip(tasks, counts.T, strict=True):
        empty = np.flatnonzero(column == 0)
        if len(empty):
            named = ", ".join(ids[i] for i in empty[:3].tolist())
            notes.append(
                f"{len(empty):,} frames have no label of {task.name} anywhere and teach it nothing "
                f"({named}{', ...' * (len(empty) > 3)})"
            )
    return notes
