"""From a `DataConfig` to an `ImageDataset`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from reprkit.data.base import ImageDataset, standardised
from reprkit.errors import InputError
from reprkit.recipe import DATASETS, DataConfig


def load_dataset(config: DataConfig, cache_dir: Path | None = None) -> ImageDataset:
    """Load the data set that `config` names, with the tasks it asks for.

    Args:
        config: name, root, image size, tasks, ...
        cache_dir: where decoded images are kept; None means $REPRKIT_CACHE, else $XDG_CACHE_HOME/reprkit, else
            ~/.cache/reprkit.

    Raises:
        InputError: anything wrong with the configuration or the files, in one line that names the mend.
    """
    default: tuple[str, ...]
    if config.name == "digits":
        from reprkit.data.digits import load_digits_pairs

        dataset, default = load_digits_pairs(), ("left", "right", "sum")
    elif config.name == "rooms":
        from reprkit.data.rooms import load_rooms

        dataset = load_rooms(config.size, config.count, cache_dir)
        default = tuple(task.name for task in dataset.tasks)
    elif config.name == "utkface":
        from reprkit.data.utkface import DEFAULT_TASKS, load_utkface

        dataset = load_utkface(config.root, config.image_size, subset=config.subset, cache_dir=cache_dir)
        default = DEFAULT_TASKS
    elif config.name == "table":
        from reprkit.data.table import load_table

        dataset = load_table(
            config.root,
            config.image_size,
            image_column=config.image_column,
            kinds=config.kinds,
            tasks=config.tasks,
            cache_dir=cache_dir,
        )
        default = tuple(task.name for task in dataset.tasks)
    else:
        raise InputError(f"data.name: '{config.name}' is not a data set; choose from {', '.join(DATASETS)}")
    dataset = dataset.with_tasks(config.tasks or default)
    return replace(dataset, tasks=standardised(dataset.tasks, dataset.targets, dataset.split))
