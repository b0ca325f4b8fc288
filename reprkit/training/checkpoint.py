"""Checkpoints: tensors in safetensors with a JSON header, and the state that continues a run."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from reprkit.config import parse_recipe
from reprkit.embeddings import fingerprint_tensors
from reprkit.errors import InputError
from reprkit.files import replacing
from reprkit.models import Model, build_model
from reprkit.tasks import Task

FORMAT = "reprkit-checkpoint"
VERSION = 1
FIELDS = ("recipe", "method", "seed", "tasks", "image_shape", "epoch", "step", "val_score", "fingerprints")


def save_checkpoint(path: str | Path, model: Model, meta: Mapping[str, Any]) -> None:
    """Write the model's tensors and a JSON header in one step.

    The file alone rebuilds the model: `meta` holds `recipe`, `method`, `seed`, `task`, `tasks`,
    `image_shape`, `epoch`, `step`, `val_score` and `fingerprints`.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    # One key only: safetensors writes several in random order, and equal runs give equal files.
    header = {FORMAT: json.dumps({"version": VERSION, "digest": fingerprint_tensors(tensors), **meta}, sort_keys=True)}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata=header)


def read_header(path: str | Path) -> dict[str, Any]:
    """The JSON header of a checkpoint, without loading its tensors.

    Raises:
        InputError: missing file, not safetensors (a pickle, say), or not written by reprkit.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{file}: no such checkpoint; a run folder keeps best.safetensors and last.safetensors")
    try:
        with safe_open(file, framework="pt") as handle:
            header = handle.metadata() or {}
    except (SafetensorError, OSError):
        raise InputError(
            f"{file}: not a safetensors file (damaged, or a pickle that could run code); "
            "give the best.safetensors of a run folder"
        ) from None
    if FORMAT not in header:
        raise InputError(f"{file}: weights without a reprkit header; use them as model.weights in a recipe instead")
    try:
        meta = dict(json.loads(header[FORMAT]))
        version = int(meta["version"])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{file}: its reprkit header is damaged; train or copy it again") from None
    if version > VERSION:
        raise InputError(f"{file}: written by a newer reprkit (version {version}); upgrade reprkit")
    missing = [name for name in FIELDS if name not in meta]
    if missing:
        raise InputError(f"{file}: its reprkit header lacks '{missing[0]}'; train or copy it again")
    return meta


def load_checkpoint(path: str | Path) -> tuple[Model, dict[str, Any]]:
    """The model of a checkpoint, on the CPU in eval mode, and its header.

    Raises:
        InputError: no checkpoint of reprkit, or tensors that are damaged or do not fit its recipe.
    """
    meta = read_header(path)
    tasks = [Task.from_json(record) for record in meta["tasks"]]
    recipe = parse_recipe(meta["recipe"], source=str(path))
    with torch.random.fork_rng(devices=[]):
        model = build_model(recipe.model, tasks, meta["image_shape"][0])
    try:
        tensors = load_file(path)
        if meta.get("digest", "") not in ("", fingerprint_tensors(tensors)):
            raise InputError(f"{path}: its tensors are damaged (their digest differs from the header); copy it again")
        model.load_state_dict(tensors)
    except (RuntimeError, SafetensorError) as error:
        first = str(error).splitlines()[-1].strip()
        raise InputError(f"{path}: its tensors do not fit the encoder it names ({first}); copy it again") from None
    return model.eval(), meta


def find_checkpoint(path: str | Path, which: str = "best") -> Path:
    """The checkpoint file that `path` means: itself, or `best`/`last` of a run folder.

    Raises:
        InputError: there is none.
    """
    file = Path(path)
    if file.is_dir():
        inside = file / f"{which}.safetensors"
        if not inside.is_file():
            raise InputError(f"{file}: holds no {which}.safetensors; name a folder that `reprkit train` wrote")
        return inside
    return file


def save_state(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write the state that continues a run, in one step.

    Raises:
        TypeError: anything but tensors and JSON types in it (a NumPy scalar, say), which could not be read back.
    """
    _check_plain(state, "state")
    with replacing(path) as temporary:
        torch.save(dict(state), temporary)


def load_state(path: str | Path) -> dict[str, Any]:
    """Read a state written by `save_state`, without running code from it.

    Raises:
        InputError: a damaged file, or one that holds other than plain values and tensors.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError):
        raise InputError(f"{path}: damaged training state; delete it to train this encoder from the start") from None
    return dict(state)


def _check_plain(value: Any, where: str) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_plain(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for item in value:
            _check_plain(item, where)
    elif not isinstance(value, torch.Tensor) and type(value) not in (str, int, float, bool, type(None)):
        raise TypeError(f"{where}: a {type(value).__name__} does not belong in a checkpoint")
