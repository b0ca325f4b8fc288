"""What an embeddings file will hold, checked and fixed before the first sample is encoded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from reprkit.embeddings import storage
from reprkit.embeddings.dummies import TrainingDummies
from reprkit.embeddings.format import (
    FINGERPRINTS,
    FORMAT,
    FORMAT_VERSION,
    LOGITS_DTYPE,
    SPLITS,
    Z_DTYPES,
    chunk_rows,
    encode_json,
    link_name,
)
from reprkit.embeddings.rows import SplitRows, check_disjoint, check_ids, check_split_names, check_targets
from reprkit.errors import InputError
from reprkit.tasks import Task

META_KEYS = frozenset({"label", "seed", "trained_tasks", "groups", "config", "fingerprints", "provenance"})


@dataclass(frozen=True, eq=False)
class Plan:
    """All of a file but its streams.

    Attributes:
        ids: split -> ids, dtype S [N], N > 0.
        targets: split -> link name -> int64 or float64 [N].
        streams: path inside a split -> (width, dtype): `z` and `logits/<task>`, whose rows come later.
        meta: name -> JSON bytes.
        dummies: link name -> dummy heads of that task.
    """

    ids: dict[str, np.ndarray]
    targets: dict[str, dict[str, np.ndarray]]
    streams: dict[str, tuple[int, np.dtype]]
    meta: dict[str, bytes]
    dummies: dict[str, TrainingDummies] = field(default_factory=dict)

    def rows(self, split: str) -> int:
        """Number of rows of `split`, 0 if the file has no such split."""
        return len(self.ids.get(split, ()))

    def chunk(self, split: str) -> int:
        """Rows in a chunk of the streams of `split`; one number for all of them, so that they fill together."""
        return chunk_rows(self.rows(split), [width * dtype.itemsize for width, dtype in self.streams.values()])

    @property
    def nbytes(self) -> int:
        """Bytes of all streams."""
        return sum(map(len, self.ids.values())) * sum(width * dtype.itemsize for width, dtype in self.streams.values())

    def identity(self) -> str:
        """SHA-256 of the plan, and of the library version that lays it out on disk."""
        digest = hashlib.sha256(f"{FORMAT} {FORMAT_VERSION} HDF5 {h5py.version.hdf5_version}\n".encode())
        for name, content in sorted(self.meta.items()):
            digest.update(f"{name} {len(content)}\n".encode() + content)
        for name, (width, dtype) in sorted(self.streams.items()):
            digest.update(f"{name} {width} {dtype.str}\n".encode())
        for split, ids in self.ids.items():
            for name, values in {"ids": ids, **self.targets[split]}.items():
                digest.update(f"{split} {name} {values.dtype.str} {len(values)}\n".encode() + values.tobytes())
        for task, dummies in sorted(self.dummies.items()):
            for name, values in sorted(dummies.layers.items()):
                what = f"dummies {task} {dummies.activation} {name} {values.dtype.str} {values.shape}\n"
                digest.update(what.encode() + values.tobytes())
        return digest.hexdigest()

    def lay_out(self, file: h5py.File) -> None:
        """Create every group and dataset of `file`, write what is known and allocate the streams."""
        file.attrs["format"] = np.bytes_(FORMAT)  # fixed length: variable text lives in a heap without checksum
        file.attrs["format_version"] = np.int64(FORMAT_VERSION)
        file.attrs["complete"] = np.uint8(0)
        file.attrs["identity"] = np.bytes_(self.identity())
        meta = file.create_group("meta")
        for name, content in self.meta.items():
            storage.create_bytes(meta, name, content)
        for split, ids in self.ids.items():
            group = file.create_group(f"splits/{split}")
            storage.create_counter(group, "rows_done")
            storage.create_column(group, "ids", ids.astype(h5py.string_dtype("utf-8", ids.dtype.itemsize)))
            targets = group.create_group("targets")
            for name, values in self.targets[split].items():
                storage.create_column(targets, name, values)
            if len(self.streams) > 1:
                group.create_group("logits")
            for name, (width, dtype) in self.streams.items():
                shape = (len(ids), width)
                storage.create_rows(group, name, shape, dtype, chunk=self.chunk(split), fill=np.nan)
        for task, dummies in self.dummies.items():
            group = file.create_group(f"dummies/{task}")
            storage.create_bytes(group, "about", encode_json({"activation": dummies.activation}, task))
            for name, values in dummies.layers.items():
                storage.create_column(group, name, values.astype("<f4"))


def make_plan(
    path: Path,
    splits: Mapping[str, SplitRows],
    tasks: Sequence[Task],
    *,
    dim: int,
    dtype: str,
    logits: Mapping[str, int],
    meta: Mapping[str, Any],
    dummies: Mapping[str, TrainingDummies],
) -> Plan:
    """Check the arguments of `EmbeddingsWriter`: InputError for bad data, ValueError for a mistake in the code."""
    names = [task.name for task in tasks]
    if not names or len(set(names)) != len(names) or not all(names):
        raise InputError(f"{path}: task names must be there, unique and not empty, got {names}")
    if dim < 1 or dtype not in Z_DTYPES or not set(logits) <= set(names) or min(logits.values(), default=1) < 1:
        raise ValueError(f"not possible: dim {dim}, dtype {dtype!r}, logits {dict(logits)} for tasks {names}")
    check_split_names(splits, str(path))
    used = {name: splits[name] for name in SPLITS if name in splits and len(splits[name].ids)}
    if not used:
        raise InputError(f"{path}: there are no rows to embed in any split")
    ids = {name: check_ids(rows.ids, f"{path}: {name}") for name, rows in used.items()}
    check_disjoint(ids, str(path))
    targets = {}
    for split, rows in used.items():
        if set(rows.targets) != set(names):
            raise InputError(f"{path}: {split} has targets for {sorted(rows.targets)}, expected {sorted(names)}")
        targets[split] = {
            link_name(task.name): check_targets(task, rows.targets[task.name], len(ids[split]), f"{path}: {split}")
            for task in tasks
        }
    streams = {"z": (dim, np.dtype(Z_DTYPES[dtype]))}
    streams |= {f"logits/{link_name(task)}": (width, np.dtype(LOGITS_DTYPE)) for task, width in logits.items()}
    if not set(dummies) <= set(names):
        raise ValueError(f"dummies of unknown tasks: {sorted(dummies)} for tasks {names}")
    heads = {
        link_name(task.name): dummies[task.name].check(dim, task.num_outputs, f"{path}: dummies of task '{task.name}'")
        for task in tasks
        if task.name in dummies
    }
    return Plan(ids, targets, streams, _encode_meta(path, tasks, dim, dtype, meta), heads)


def _encode_meta(path: Path, tasks: Sequence[Task], dim: int, dtype: str, meta: Mapping[str, Any]) -> dict[str, bytes]:
    """The JSON datasets of the file, with the documented defaults for what is missing."""
    names = [task.name for task in tasks]
    trained = list(meta.get("trained_tasks") or names)
    fingerprints = dict(meta.get("fingerprints") or {})
    if set(meta) - META_KEYS or set(trained) - set(names) or set(fingerprints) - set(FINGERPRINTS):
        raise ValueError(f"unknown meta keys, tasks or fingerprints: {sorted(meta)}, {trained}, {sorted(fingerprints)}")
    label, seed = str(meta.get("label") or path.stem), int(meta.get("seed", 0))
    groups = {"groups": str(meta["groups"])} if meta.get("groups") else {}
    records = {
        "run": {"label": label, "seed": seed, "trained_tasks": trained},
        "schema": {"tasks": [task.to_json() for task in tasks], "dim": dim, "dtype": dtype, **groups},
        "config": dict(meta.get("config") or {}),
        "fingerprints": fingerprints,
        "provenance": dict(meta.get("provenance") or {}),
    }
    return {name: encode_json(record, f"{path}: meta '{name}'") for name, record in records.items()}
