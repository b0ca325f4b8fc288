"""The one shape of every data set: images as uint8, named targets, stable ids and a recorded split."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from reprkit.errors import InputError
from reprkit.tasks import Task

SPLITS = ("train", "val", "test")
"""Names of the splits; a row's split is stored as its index here (uint8)."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Images with one target a task, split into train, val and test by a rule that no training seed changes.

    Attributes:
        name: name of the data set.
        tasks: its tasks, in order; regression tasks carry the mean and std of the training split.
        images: uint8 [N, C, H, W]; may be a read-only memory map, or an array-like that reads rows from files.
        targets: task name -> int64 [N] class indices (-1 missing) or float64 [N] values (NaN missing); dense tasks have
            signed integers [N, H, W], float32 [N, H, W], or unit vectors [N, 3, H, W], and may be array-likes too.
        ids: str [N], unique and stable (file names where there are files).
        split: uint8 [N], index into `SPLITS`.
        mean, std: per-channel normalisation for images scaled to [0, 1].
        fingerprint: SHA-256 over ids, image contents and all label columns, whatever the order of rows;
            selecting tasks does not change it.
        split_fingerprint: SHA-256 over ids and their splits.
        transform_fingerprint: SHA-256 over how images are decoded, resized and normalised.
        split_rule: the rule behind `split`, in words.
        skipped: (name, reason) of every input that was left out.
        notes: what else a reader should know (duplicates found, odd names kept, unseen labels, ...).
    """

    name: str
    tasks: tuple[Task, ...]
    images: np.ndarray
    targets: dict[str, np.ndarray]
    ids: np.ndarray
    split: np.ndarray
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    split_fingerprint: str
    transform_fingerprint: str
    split_rule: str
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.images)
        lengths = {"ids": len(self.ids), "split": len(self.split), **{k: len(v) for k, v in self.targets.items()}}
        wrong = [f"{name} has {length}" for name, length in lengths.items() if length != count]
        if wrong:
            raise ValueError(f"{self.name}: {count} images, but {', '.join(wrong)} rows")
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise ValueError(f"{self.name}: images must be uint8 [N, C, H, W]")
        for task in self.tasks:
            wanted = (*((3,) if task.kind == "normals" else ()), *self.images.shape[2:]) if task.is_dense else ()
            got = tuple(self.targets[task.name].shape[1:]) if task.name in self.targets else wanted
            if got != wanted:
                raise ValueError(f"{self.name}: targets of '{task.name}' are {got} a row, its images need {wanted}")
        if len(np.unique(self.ids)) != count:
            raise ValueError(f"{self.name}: ids are not unique")
        if set(self.targets) != {task.name for task in self.tasks}:
            raise ValueError(f"{self.name}: tasks and targets differ")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def task(self, name: str) -> Task:
        """The task called `name`.

        Raises:
            InputError: no such task, naming those that exist.
        """
        for task in self.tasks:
            if task.name == name:
                return task
        known = ", ".join(task.name for task in self.tasks)
        raise InputError(f"data.tasks: {self.name} has no task '{name}'; choose from {known}")

    def with_tasks(self, names: Iterable[str]) -> ImageDataset:
        """The same rows with only the tasks of `names`, in that order.

        Raises:
            InputError: a name that does not exist or comes twice.
        """
        names = tuple(names)
        repeated = [name for name, count in Counter(names).items() if count > 1]
        if repeated or not names:
            raise InputError(f"data.tasks: {f'{repeated[0]!r} comes twice' if repeated else 'name at least one task'}")
        tasks = tuple(self.task(name) for name in names)
        return replace(self, tasks=tasks, targets={name: self.targets[name] for name in names})

    def rows(self, split: str) -> np.ndarray:
        """Row numbers (int64, ascending) of a split: train, val or test.

        Raises:
            InputError: no such split.
        """
        if split not in SPLITS:
            raise InputError(f"split '{split}' is not one of {', '.join(SPLITS)}")
        return np.flatnonzero(self.split == SPLITS.index(split)).astype(np.int64)

    def summary(self) -> str:
        """A few lines for people: sizes, tasks, split rule, what was skipped and why."""
        channels, height, width = self.image_shape
        sizes = ", ".join(f"{len(self.rows(split)):,} {split}" for split in SPLITS)
        lines = [f"{self.name}: {len(self):,} images of {width}x{height}x{channels} ({sizes})"]
        lines.extend(f"  {task.name}: {self._about(task)}" for task in self.tasks)
        lines.append(f"  split: {self.split_rule}")
        for reason, count in Counter(reason for _, reason in self.skipped).most_common():
            first = next(name for name, why in self.skipped if why == reason)
            lines.append(f"  skipped {count:,}: {reason} ({first}{', ...' if count > 1 else ''})")
        lines.extend(f"  note: {note}" for note in self.notes)
        return "\n".join(lines)

    def _about(self, task: Task) -> str:
        if task.is_dense:  # what is missing is not counted: that would read every file
            classes = f", {task.num_outputs} classes" if task.kind == "segmentation" else ""
            return f"{task.kind} of every pixel{classes}"
        missing = int((~task.valid(self.targets[task.name])).sum())
        size = f"{task.num_outputs} classes" if task.is_discrete else f"mean {task.mean:.4g}, sd {task.std:.4g}"
        return f"{task.kind}, {size}" + (f", {missing:,} missing" if missing else "")


def select_columns(targets: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    """Every target column at the given rows.

    Args:
        targets: task name -> [N, ...].
        rows: [n] row numbers.

    Returns:
        task name -> [n, ...].
    """
    return {name: values[rows] for name, values in targets.items()}


def standardised(tasks: Iterable[Task], targets: Mapping[str, np.ndarray], split: np.ndarray) -> tuple[Task, ...]:
    """`tasks`, with the mean and std of the training split filled in for regression.

    Raises:
        InputError: a regression task without two different values in the training split.
    """
    result = []
    for task in tasks:
        if task.kind == "regression":
            values = targets[task.name][split == SPLITS.index("train")]
            values = values[np.isfinite(values)]
            if len(values) == 0 or values.std() == 0:
                raise InputError(f"task '{task.name}' has no two different values in the training split; drop it")
            if not np.isfinite([values.mean(), values.std()]).all() or np.abs(values).max() > 1e30:
                raise InputError(f"task '{task.name}' has values beyond 1e30; rescale that column")
            task = replace(task, mean=float(values.mean()), std=float(values.std()))
        result.append(task)
    return tuple(result)


def content_fingerprint(ids: Sequence[str] | np.ndarray, contents: Sequence[str], labels: Mapping[str, Any]) -> str:
    """SHA-256 over (id, content digest, labels) of every row, in the order of ids, so that row order is moot.

    Args:
        ids: [N] names.
        contents: [N] hex digests of the image contents.
        labels: column name -> [N] numbers.
    """
    names = sorted(labels)
    digest = hashlib.sha256("\0".join(["reprkit-data-1", *names]).encode())
    columns = [np.asarray(labels[name]).tolist() for name in names]
    for row in sorted(range(len(ids)), key=lambda i: str(ids[i])):
        values = [repr(column[row]) for column in columns]
        digest.update("\0".join(["\n", str(ids[row]), contents[row], *values]).encode())
    return digest.hexdigest()


def split_fingerprint(ids: Sequence[str] | np.ndarray, split: np.ndarray) -> str:
    """SHA-256 over (id, split) of every row, whatever the order of rows."""
    lines = sorted(f"{name}\0{SPLITS[code]}" for name, code in zip(ids, split.tolist(), strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
