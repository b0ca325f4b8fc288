"""`reprkit predict`: what a checkpoint's own heads say of some images, as pictures and words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reprkit.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from reprkit.data.base import ImageDataset
    from reprkit.tasks import Task

SAMPLES = 8


def predict(
    checkpoint: str | Path,
    *,
    data: str | Path | None = None,
    out: str | Path | None = None,
    split: str = "test",
    samples: int = SAMPLES,
    ids: Sequence[str] | None = None,
    device: str = "auto",
) -> list[Path]:
    """Write panels of images, truths and predictions, and the arrays behind them.

    Dense tasks are pictures; of an image's labels the predicted class and its probability stand below the image.

    Args:
        checkpoint: a checkpoint file, or a run folder (its best).
        data: root of the data set; None means the one in the `recipe.yaml` beside the checkpoint.
        out: folder to write to; None means `panels/` beside the checkpoint.
        split: train, val or test.
        samples: so many images, spread evenly over the split: the same ones for every checkpoint.
        ids: instead: these images of the split, in this order.
        device: auto, or a torch device name.

    Returns:
        `<split>-1.png` and further pages, then `<split>.npz` with `ids`, `images` and, by task, `<task>.truth` and
        `<task>.prediction`: classes, values in the unit of the truth, probabilities (saliency, edges), unit vectors
        (normals); for labels of an image logits, or the standardised value.

    Raises:
        InputError: unreadable checkpoint or data, other data than it was trained for, or an unknown id.
    """
    from reprkit.analysis.figures.panels import Layer, in_words, panel_figures
    from reprkit.analysis.style import png_bytes
    from reprkit.files import check_out_folder, replacing
    from reprkit.training.checkpoint import find_checkpoint, load_checkpoint

    file = find_checkpoint(checkpoint)
    folder = Path(out) if out is not None else file.parent / "panels"
    check_out_folder(folder)
    model, meta = load_checkpoint(file)
    dataset = _dataset_of(file, meta, data)
    rows = _by_id(dataset, split, ids) if ids is not None else _spread(dataset, split, samples)
    truths, predictions = _predictions(model, dataset, rows, device)
    images, names = np.asarray(dataset.images[rows]), [str(name) for name in dataset.ids[rows]]
    plain = [task for task in dataset.tasks if not task.is_dense]
    titles = [
        "\n".join([name, *(in_words(task, predictions[task.name][i], truths[task.name][i]) for task in plain)])
        for i, name in enumerate(names)
    ]
    layers = [Layer(task, truths[task.name], predictions[task.name]) for task in dataset.tasks if task.is_dense]
    label = f"{meta['method']}, seed {meta['seed']}, {split} images of {dataset.name}"
    written = []
    for page, figure in enumerate(panel_figures(images, layers, titles), 1):
        written.append(folder / f"{split}-{page}.png")
        with replacing(written[-1]) as temporary:
            temporary.write_bytes(png_bytes(figure, title="Predictions", description=label))
    for stale in set(folder.glob(f"{split}-*.png")) - set(written):  # pages of an earlier, longer call
        stale.unlink()
    arrays: dict[str, Any] = {"ids": np.array(names), "images": images}
    arrays |= {f"{name}.truth": values for name, values in truths.items()}
    arrays |= {f"{name}.prediction": values for name, values in predictions.items()}
    written.append(folder / f"{split}.npz")
    with replacing(written[-1]) as temporary, open(temporary, "wb") as handle:
        np.savez_compressed(handle, **arrays)
    return written


def _dataset_of(file: Path, meta: dict[str, Any], data: str | Path | None) -> ImageDataset:
    """The data set of a checkpoint, with the tasks that it learnt."""
    from reprkit.config import data_root, parse_recipe
    from reprkit.data import load_dataset
    from reprkit.tasks import Task

    wanted = parse_recipe(meta["recipe"], source=str(file)).data
    root = data if data is not None else data_root(file)
    dataset = load_dataset(replace(wanted, root=str(root)) if root else wanted)
    trained = [Task.from_json(record) for record in meta["tasks"]]
    for task in trained:
        here = next((other for other in dataset.tasks if other.name == task.name), None)
        if here is None or (here.kind, here.num_outputs) != (task.kind, task.num_outputs):
            what = f"does not have '{task.name}'" if here is None else f"has another '{task.name}' ({here.kind})"
            raise InputError(f"{file}: was trained for '{task.name}' ({task.kind}), but {dataset.name} {what} now")
    channels, wanted_channels = dataset.image_shape[0], meta["image_shape"][0]
    if channels != wanted_channels:
        raise InputError(f"{file}: was trained on {wanted_channels} channels, {dataset.name} has {channels}")
    # The checkpoint's records: its heads predict with the mean and std that it was trained with.
    return replace(dataset, tasks=tuple(trained), targets={task.name: dataset.targets[task.name] for task in trained})


def _spread(dataset: ImageDataset, split: str, samples: int) -> NDArray[np.int64]:
    rows = dataset.rows(split)
    if samples < 1:
        raise InputError(f"--samples: {samples} should be at least 1")
    if not len(rows):
        raise InputError(f"--split: {dataset.name} has no {split} images")
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(samples, len(rows))).round().astype(int))]


def _by_id(dataset: ImageDataset, split: str, ids: Sequence[str]) -> NDArray[np.int64]:
    inside = {str(dataset.ids[row]): int(row) for row in dataset.rows(split)}
    for name in ids:
        if name not in inside:
            like = f", such as '{next(iter(inside))}'" if inside else ""
            raise InputError(f"--ids: {dataset.name} has no {split} image '{name}'; it has {len(inside):,}{like}")
    return np.array([inside[name] for name in ids])


def _predictions(
    model: Any, dataset: ImageDataset, rows: NDArray[np.int64], device: str
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Truth and prediction of every task, as `Layer` and `in_words` take them."""
    import torch

    from reprkit.training.batches import BatchSource
    from reprkit.training.devices import choose_device
    from reprkit.training.evaluation import evaluation_batch

    place = choose_device(device)
    model, source = model.to(place).eval(), BatchSource(dataset, place)
    truths: dict[str, list[NDArray[Any]]] = {task.name: [] for task in dataset.tasks}
    predictions: dict[str, list[NDArray[Any]]] = {task.name: [] for task in dataset.tasks}
    size = evaluation_batch(dataset)
    with torch.inference_mode():
        for start in range(0, len(rows), size):
            batch = source.batch(rows[start : start + size])
            outputs = model(batch.images)
            for task in dataset.tasks:
                truths[task.name].append(batch.targets[task.name].cpu().numpy())
                said = _said(task, outputs[task.name].float(), batch.targets[task.name])
                predictions[task.name].append(said.cpu().numpy())
    return tuple({name: np.concatenate(v) for name, v in found.items()} for found in (truths, predictions))  # type: ignore[return-value]


def _said(task: Task, outputs: Tensor, targets: Tensor) -> Tensor:
    """What a head's outputs mean, at the resolution of the targets."""
    if not task.is_dense:
        return outputs
    from reprkit.tasks.dense import resized, unit

    outputs = resized(outputs, targets)
    if task.kind == "segmentation":
        return outputs.argmax(1)
    if task.kind == "normals":
        return unit(outputs)
    return outputs[:, 0].sigmoid() if task.kind in ("saliency", "edges") else outputs[:, 0]
