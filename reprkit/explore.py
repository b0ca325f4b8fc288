"""`reprkit explore`: the page of some embeddings files, with the images of their samples as thumbnails."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reprkit.errors import InputError
from reprkit.recipe import TsneConfig

if TYPE_CHECKING:
    from reprkit.analysis.explorer import Page, Sprites
    from reprkit.embeddings import Embeddings

logger = logging.getLogger(__name__)

THUMBNAIL_SIDE = 40


def explore_files(
    paths: Sequence[str | Path],
    *,
    data: str | Path | None = None,
    images: str | Path | None = None,
    config: TsneConfig | None = None,
    probe: str = "linear",
) -> Page:
    """The page of embeddings files, with thumbnails where the images can be found.

    Args:
        paths: embeddings files of the same samples; the first is the reference.
        data: root of the data set that the first file names; None means what its run used. digits and rooms need none.
        images: instead: a folder of image files whose names, with or without ending, are sample ids.
        config: samples, perplexity and iterations of the maps.
        probe: whose predictions colour the maps; empty for none.

    Raises:
        InputError: unreadable files, files of other samples, or images that were asked for and are not there.
    """
    from reprkit.analysis.explorer import gather, make_page
    from reprkit.embeddings import Embeddings

    with ExitStack() as stack:
        files = [stack.enter_context(Embeddings(path)) for path in paths]
        found = gather(files, config=config, probe=probe)
        ids = found.ids
        sprites = _from_dataset(files[0], ids, data) if images is None else _from_folder(Path(images), ids)
    return make_page(found, sprites=sprites)


def _from_folder(folder: Path, ids: Sequence[str]) -> Sprites:
    from PIL import Image

    from reprkit.analysis.explorer import pack_sprites
    from reprkit.data.sources import images_below

    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; --images names one whose image files are called like the samples")
    by_name: dict[str, Path] = {}
    for key, path in images_below(folder).items():
        for name in (key, path.name, path.stem):
            by_name.setdefault(name, path)
    known = [name for name in ids if _image_of(name) in by_name or name in by_name]
    if not known:
        raise InputError(f"{folder}: no image there is called like a sample, such as '{ids[0]}'")
    arrays = []
    for name in known:
        with Image.open(by_name.get(name) or by_name[_image_of(name)]) as picture:
            picture.draft("RGB", (2 * THUMBNAIL_SIDE, 2 * THUMBNAIL_SIDE))
            arrays.append(np.asarray(picture.convert("RGB")))
    return pack_sprites(known, arrays, side=THUMBNAIL_SIDE)


def _from_dataset(file: Embeddings, ids: Sequence[str], data: str | Path | None) -> Sprites | None:
    """Thumbnails from the data set that a file was made of; None where it is not known or not at hand."""
    from reprkit.analysis.explorer import pack_sprites
    from reprkit.config import data_root, parse_recipe
    from reprkit.data import load_dataset

    record = file.meta.get("config") or {}
    if not isinstance(record, dict) or "data" not in record:
        if data is not None:
            raise InputError(f"{file.path}: does not say which data set it was made of; use --images FOLDER instead")
        return None
    wanted = parse_recipe({"data": record["data"]}, source=str(file.path)).data
    root = str(data) if data is not None else wanted.root or data_root(file.path)
    try:
        dataset = load_dataset(replace(wanted, root=root))
    except InputError as error:
        if data is not None:
            raise
        logger.warning("no thumbnails: %s", error)
        return None
    row_of = {str(name): row for row, name in enumerate(dataset.ids)}
    known = [name for name in ids if _image_of(name) in row_of or name in row_of]
    if not known:
        logger.warning("no thumbnails: %s has no image called '%s'", dataset.name, ids[0])
        return None
    rows = [row_of.get(name, row_of.get(_image_of(name), -1)) for name in known]
    shown = list(dict.fromkeys(rows))
    arrays = {row: dataset.images[np.array([row])][0] for row in shown}
    packed = pack_sprites([str(row) for row in shown], [arrays[row] for row in shown], side=THUMBNAIL_SIDE)
    return replace(packed, place={name: packed.place[str(row)] for name, row in zip(known, rows, strict=True)})


def _image_of(sample: str) -> str:
    """The image that a pixel sample `image#row,column` was taken from."""
    return sample.rpartition("#")[0] or sample
