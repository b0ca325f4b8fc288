"""From a `DataConfig` to an `ImageDataset`."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path

from reprkit import plugins
from reprkit.data.base import ImageDataset, standardised
from reprkit.errors import InputError
from reprkit.recipe import DATASETS, DataConfig

_SCENES = ("nyuv2", "cityscapes", "pascal_context", "camvid")
"""Data sets that are labelled pixel by pixel and lie in files; each has a module and a loader of its name."""


def load_dataset(config: DataConfig, cache_dir: Path | None = None) -> ImageDataset:
    """Load the data set that `config` names, with the tasks it asks for.

    Packages add data sets by entry points of the group `reprkit.datasets`: a function of `config` and `cache_dir` that
    returns an `ImageDataset`; where the recipe names no tasks, all of it are learnt.

    Args:
        config: name, root, image size, tasks, ...
        cache_dir: where decoded images are kept; None means $REPRKIT_CACHE, else $XDG_CACHE_HOME/reprkit, else
            ~/.cache/reprkit.

    Raises:
        InputError: anything wrong with the configuration or the files, in one line that names the mend.
    """
    default: tuple[str, ...]
    if config.name in DATASETS:
        plugins.refuse_taken("datasets", config.name)
    if config.name == "digits":
        from reprkit.data.digits import load_digits_pairs

        dataset, default = load_digits_pairs(), ("left", "right", "sum")
    elif config.name == "rooms":
        from reprkit.data.rooms import load_rooms

        dataset = load_rooms(config.size, config.count, cache_dir)
        default = tuple(task.name for task in dataset.tasks)
    elif config.name == "utkface":
        from reprkit.data.utkface import DEFAULT_TASKS, load_utkface

        dataset = load_utkface(config.root, _side(config), subset=config.subset, cache_dir=cache_dir)
        default = DEFAULT_TASKS
    elif config.name == "table":
        from reprkit.data.table import load_table

        dataset = load_table(
            config.root,
            _side(config),
            image_column=config.image_column,
            kinds=config.kinds,
            tasks=config.tasks,
            cache_dir=cache_dir,
        )
        default = tuple(task.name for task in dataset.tasks)
    elif config.name == "imagefolder":
        from reprkit.data.imagefolder import load_imagefolder

        dataset, default = load_imagefolder(config.root, config.size, cache_dir), ("class",)
    elif config.name in _SCENES:
        loader = getattr(import_module(f"reprkit.data.{config.name}"), f"load_{config.name}")
        dataset = loader(config.root, config.size, config.tasks, cache_dir)
        default = tuple(task.name for task in dataset.tasks)
    else:
        dataset = _of_plugin(config, cache_dir)
        default = tuple(task.name for task in dataset.tasks)
    dataset = dataset.with_tasks(config.tasks or default)
    _check_augment(config, dataset)
    return replace(dataset, tasks=standardised(dataset.tasks, dataset.targets, dataset.split))


def _of_plugin(config: DataConfig, cache_dir: Path | None) -> ImageDataset:
    """The data set of an installed package."""
    offered = plugins.load("datasets", config.name)
    if offered is None:
        raise InputError(f"data.name: '{config.name}' is not a data set; {plugins.choices('datasets', DATASETS)}")
    load, plugin = offered
    dataset = plugin.call(load, config, cache_dir)
    if not isinstance(dataset, ImageDataset):
        raise plugin.unusable(f"returned a {type(dataset).__name__}, not a reprkit.data.ImageDataset")
    return dataset


def _side(config: DataConfig) -> int:
    height, width = config.size
    if height != width:
        raise InputError(f"data.image_size: {config.name} has square images; give one number, not {height} x {width}")
    return height


def _check_augment(config: DataConfig, dataset: ImageDataset) -> None:
    turned = config.augment == "scale_rotate_flip" and config.name == "nyuv2"
    if turned and any(task.kind == "normals" for task in dataset.tasks):
        raise InputError(
            "data.augment: scale_rotate_flip turns normals in the image plane, but the axes of nyuv2's are not "
            "published; use scale_crop_flip"
        )
