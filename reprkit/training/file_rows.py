"""What an embeddings file holds of a data set besides representations: tasks, ids, targets; a row an image or a pixel.

With dense tasks the rows are pixels (`positions`), and a dense task becomes the vector tasks that its pixels have
(`reprkit.tasks.pixel_tasks`): a class a pixel, a depth, three components of a normal. Tasks of whole images beside them
keep their targets, once for each pixel of the image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from reprkit.data.base import ImageDataset
from reprkit.embeddings import SplitRows
from reprkit.tasks import PixelTask, Task, pixel_tasks
from reprkit.training.positions import Positions, read_targets

READ_IMAGES = 8
"""Images whose maps of targets are in memory at a time."""


@dataclass(frozen=True)
class FileRows:
    """The rows of a file, known before anything is encoded.

    Attributes:
        tasks: those of the file. Regression tasks of pixels have mean and standard deviation of the sampled training
            pixels.
        splits: split -> ids and targets.
        pixels: dense task of the data set -> the tasks of the file that it becomes.
    """

    tasks: list[Task]
    splits: dict[str, SplitRows]
    pixels: dict[str, list[PixelTask]] = field(default_factory=dict)

    def outputs(self, found: Mapping[str, NDArray]) -> dict[str, NDArray]:
        """Outputs of heads [n, num_outputs] at n rows, as those of the tasks of the file: [n, C] each."""
        made = {name: values for name, values in found.items() if name not in self.pixels}
        for name, own in self.pixels.items():
            if name in found:
                made |= {pixel.task.name: pixel.outputs(found[name]).astype(found[name].dtype) for pixel in own}
        return made


def file_tasks(tasks: Iterable[Task], positions: Positions | None) -> list[Task]:
    """The tasks that a file has for tasks of a data set, but for means and standard deviations."""
    if positions is None:
        return list(tasks)
    return [one for task in tasks for one in ([p.task for p in pixel_tasks(task)] if task.is_dense else [task])]


def image_rows(dataset: ImageDataset, rows: Mapping[str, NDArray[np.int64]]) -> FileRows:
    """A row an image.

    Args:
        dataset: ids and targets.
        rows: split -> row numbers.
    """
    splits = {
        split: SplitRows(dataset.ids[r], {t.name: dataset.targets[t.name][r] for t in dataset.tasks})
        for split, r in rows.items()
    }
    return FileRows(list(dataset.tasks), splits)


def pixel_rows(
    dataset: ImageDataset, rows: Mapping[str, NDArray[np.int64]], positions: Positions, *, progress: bool = False
) -> FileRows:
    """A row for each position in each image; reads the maps of targets once, a few at a time.

    Args:
        dataset: ids and targets.
        rows: split -> row numbers.
        positions: where images are read.
        progress: show a bar (never when the output is not a terminal).
    """
    dense = {task.name: pixel_tasks(task) for task in dataset.tasks if task.is_dense}
    splits = {}
    total = sum(map(len, rows.values()))
    with tqdm(total=total, desc="read targets", unit="image", leave=False, disable=None if progress else True) as bar:
        for split, r in rows.items():
            parts: list[dict[str, NDArray]] = []
            for start in range(0, len(r), READ_IMAGES):
                some = r[start : start + READ_IMAGES]
                parts.append(_targets_of(dataset, some, dense, positions))
                bar.update(len(some))
            targets = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            splits[split] = SplitRows(positions.ids(dataset.ids[r]), targets)
    train = splits["train"].targets if "train" in splits else {}
    dense = {name: [_standardised(pixel, train) for pixel in own] for name, own in dense.items()}
    tasks = [one for task in dataset.tasks for one in ([p.task for p in dense[task.name]] if task.is_dense else [task])]
    return FileRows(tasks, splits, dense)


def _targets_of(
    dataset: ImageDataset, rows: NDArray[np.int64], dense: Mapping[str, Sequence[PixelTask]], positions: Positions
) -> dict[str, NDArray]:
    """Task of the file -> targets [n * P] of the images `rows`."""
    found: dict[str, NDArray] = {}
    pixels = positions.pixels(dataset.ids[rows])
    for task in dataset.tasks:
        targets = np.asarray(dataset.targets[task.name][rows])
        if task.is_dense:
            sampled = read_targets(targets, pixels)
            found |= {pixel.task.name: pixel.targets(sampled) for pixel in dense[task.name]}
        else:
            found[task.name] = np.repeat(targets, positions.count)
    return found


def _standardised(pixel: PixelTask, train: Mapping[str, NDArray]) -> PixelTask:
    """With mean and standard deviation of the training pixels that have a target; 0 and 1 if all are equal, or none."""
    if pixel.task.is_discrete:
        return pixel
    values = train.get(pixel.task.name, np.empty(0))
    values = values[np.isfinite(values)]
    if not len(values) or not values.std() > 0:
        return pixel
    return replace(pixel, task=replace(pixel.task, mean=float(values.mean()), std=float(values.std())))
