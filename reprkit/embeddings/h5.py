"""Reading the project's own HDF5 embeddings: checked when opened, then lazily, row block by row block."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from reprkit.embeddings.dummies import LINEAR, TWO_LAYER, TrainingDummies
from reprkit.embeddings.format import FORMAT, FORMAT_VERSION, META, SPLITS, decode_json, link_name
from reprkit.embeddings.rows import check_targets
from reprkit.embeddings.safe import MEND, attribute, child, damage, dataset, open_h5, read
from reprkit.errors import InputError
from reprkit.tasks import Task


class H5Source:
    """An embeddings file of our own format; its handle is opened anew in every process that uses it.

    Args:
        path: the file.
        allow_partial: read also a file whose writing is not complete (rows not written yet are an error).
    """

    def __init__(self, path: Path, *, allow_partial: bool = False) -> None:
        self._path, self._where = path, str(path)
        self._file: h5py.File | None = None
        self._owner = -1
        try:
            with damage(self._where):
                self._check(allow_partial)
        except InputError:
            self.close()
            raise

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_owner": -1}

    @property
    def file(self) -> h5py.File:
        """The open file. HDF5 handles must not cross a fork, so a child process opens its own."""
        if self._file is None or self._owner != os.getpid():
            self._file, self._owner = open_h5(self._path), os.getpid()
        return self._file

    def close(self) -> None:
        """Release the handle; the next access opens it again."""
        if self._file is not None and self._owner == os.getpid():
            self._file.close()
        self._file = None

    # What the file says about itself

    def _check(self, allow_partial: bool) -> None:
        if attribute(self.file, "format", b"") != FORMAT.encode():
            raise InputError(
                f"{self._where}: an HDF5 file, but no reprkit embeddings; make one, or save an .npz with z, y_<task>"
            )
        version = attribute(self.file, "format_version", 0)
        if not 1 <= version <= FORMAT_VERSION:
            raise InputError(
                f"{self._where}: format version {version}, this reprkit reads up to {FORMAT_VERSION}; upgrade reprkit"
            )
        if not attribute(self.file, "complete", 0) and not allow_partial:
            raise InputError(
                f"{self._where}: the file is incomplete, its writing was interrupted; {MEND} to continue it"
            )
        meta = child(self.file, "meta", h5py.Group, self._where)
        records = {name: self._json(meta, name) for name in META}
        schema, run = records.pop("schema"), records.pop("run")
        self.tasks = self._read_tasks(schema["tasks"])
        self.dim = int(schema["dim"])
        groups = schema.get("groups", "")
        self.meta: dict[str, Any] = {**run, **records, **({"groups": groups} if groups else {})}
        if (
            not isinstance(run["label"], str)
            or not isinstance(groups, str)
            or not isinstance(run["seed"], int)
            or not set(run["trained_tasks"]) <= set(self.tasks)
        ):
            raise InputError(f"{self._where}: '/meta/run' or '/meta/schema' is not what reprkit writes; {MEND}")
        self._rows = {name: self._check_split(name, allow_partial) for name in self._split_names()}
        self.splits = tuple(self._rows)

    def _read_tasks(self, records: list[dict[str, Any]]) -> dict[str, Task]:
        try:
            return {record["name"]: Task.from_json(record) for record in records}
        except InputError as error:
            raise InputError(f"{self._where}: {error}") from None

    def _json(self, meta: h5py.Group, name: str) -> dict[str, Any]:
        stored = dataset(meta, name, self._where, kinds="u", ndim=1)
        return decode_json(read(stored, self._where), f"{self._where}: '/meta/{name}'")

    def _split_names(self) -> list[str]:
        group = child(self.file, "splits", h5py.Group, self._where)
        names = list(group)
        if not names or set(names) - set(SPLITS):
            raise InputError(f"{self._where}: splits are {names}, expected some of {', '.join(SPLITS)}; {MEND}")
        return [name for name in SPLITS if name in names]

    def _check_split(self, split: str, allow_partial: bool) -> int:
        """Number of rows of a split, after all its datasets were found to agree on it."""
        group = self._group(split)
        rows = len(self._column(group, "ids", kinds="S"))
        shapes = {"z": self._column(group, "z", kinds="f", ndim=2).shape}
        for task in self.tasks.values():
            name = link_name(task.name)
            shapes[f"targets/{name}"] = self._target(group, task).shape
            own = self._own(group, task.name)
            if own is not None:
                shapes[f"logits/{name}"] = own.shape
        wrong = {name: shape for name, shape in shapes.items() if shape[0] != rows}
        if wrong or rows == 0 or shapes["z"] != (rows, self.dim):
            raise InputError(
                f"{self._where}: {split} has {rows} ids and z of dim {self.dim}, but shapes {wrong or shapes}; {MEND}"
            )
        done = int(read(dataset(group, "rows_done", self._where, kinds="i", ndim=1), self._where)[0])
        if done != rows and not allow_partial:
            raise InputError(f"{self._where}: {split} holds {done} of {rows} rows; {MEND} to continue it")
        return rows

    def _group(self, split: str) -> h5py.Group:
        return child(child(self.file, "splits", h5py.Group, self._where), split, h5py.Group, self._where)

    def _column(self, group: h5py.Group, name: str, *, kinds: str, ndim: int = 1) -> h5py.Dataset:
        return dataset(group, name, self._where, kinds=kinds, ndim=ndim)

    def _target(self, group: h5py.Group, task: Task) -> h5py.Dataset:
        targets = child(group, "targets", h5py.Group, self._where)
        return self._column(targets, link_name(task.name), kinds="i" if task.is_discrete else "f")

    def _own(self, group: h5py.Group, task: str) -> h5py.Dataset | None:
        if "logits" not in group:
            return None
        logits = child(group, "logits", h5py.Group, self._where)
        return self._column(logits, link_name(task), kinds="f", ndim=2) if link_name(task) in logits else None

    # Rows

    def num_rows(self, split: str) -> int:
        """Number of samples of `split`."""
        return self._rows[split]

    def read_z(self, split: str, start: int, stop: int) -> np.ndarray:
        """Rows of z: float32 [stop - start, D]."""
        return self._read_rows(self._column(self._group(split), "z", kinds="f", ndim=2), split, start, stop)

    def read_logits(self, split: str, task: str, start: int, stop: int) -> np.ndarray | None:
        """Rows of the own-head outputs: float32 [stop - start, C]; None if there are none."""
        stored = self._own(self._group(split), task)
        return None if stored is None else self._read_rows(stored, split, start, stop)

    def ids(self, split: str) -> np.ndarray:
        """Sample ids: str [N]."""
        what = f"{self._where}: ids of '{split}'"
        raw = read(self._column(self._group(split), "ids", kinds="S"), what)
        with damage(what):
            return np.char.decode(raw, "utf-8")

    def targets(self, split: str, task: str) -> np.ndarray:
        """Targets: int64 or float64 [N]."""
        what = f"{self._where}: {split}"
        values = read(self._target(self._group(split), self.tasks[task]), what)
        return check_targets(self.tasks[task], values, self._rows[split], what)

    def training_dummies(self, task: str) -> TrainingDummies | None:
        """The dummy heads of a task that the encoder was trained against; None if there are none."""
        what = f"{self._where}: dummies of '{task}'"
        with damage(what):
            home = self.file.get("dummies", getlink=True) and child(self.file, "dummies", h5py.Group, self._where)
            if home is None or link_name(task) not in home:
                return None
            heads = child(home, link_name(task), h5py.Group, self._where)
            about = decode_json(read(dataset(heads, "about", self._where, kinds="u", ndim=1), what), what)
            layers = {
                name: read(dataset(heads, name, self._where, kinds="f", ndim=2 if "bias" in name else 3), what)
                for name in (*LINEAR, *TWO_LAYER)
                if name in heads
            }
            made = TrainingDummies(layers, str(about.get("activation")))
            return made.check(self.dim, self.tasks[task].num_outputs, what)

    def unstored(self, split: str) -> dict[str, int]:
        """Datasets of `split` of which chunks were never stored, and how many: they would read as fill values."""
        group = self._group(split)
        columns = [self._column(group, "ids", kinds="S"), self._column(group, "z", kinds="f", ndim=2)]
        for task in self.tasks.values():
            own = self._own(group, task.name)
            columns += [self._target(group, task), *([] if own is None else [own])]
        gaps = {}
        for column in columns:
            if column.chunks:
                per_axis = [-(-size // chunk) for size, chunk in zip(column.shape, column.chunks, strict=True)]
                gaps[column.name] = math.prod(per_axis) - int(column.id.get_num_chunks())
        return {name: count for name, count in gaps.items() if count}

    def _read_rows(self, stored: h5py.Dataset, split: str, start: int, stop: int) -> np.ndarray:
        name = stored.name.rpartition(f"/{split}/")[2]
        with damage(f"{self._where}: {name} of '{split}', rows {start} to {stop}"):
            return np.asarray(stored[start:stop], np.float32)
