from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from reprkit.embeddings import EmbeddingsWriter, SplitRows
from reprkit.tasks import Task

TASKS = (
    Task("age", "ordinal", 4, classes=("a", "b", "c", "d")),
    Task("kind", "classification", 3),
    Task("size/log", "regression", 1, unit="cm", mean=1.5, std=2.0),
)


@dataclass(frozen=True)
class Table:
    """Random embeddings, and how to write them in batches."""

    z: Mapping[str, np.ndarray]
    own: Mapping[str, np.ndarray]
    rows: Mapping[str, SplitRows]
    dim: int
    dtype: Any = "float32"

    def writer(self, path: Path, **changes: Any) -> EmbeddingsWriter:
        meta = {
            "label": "vanilla+dgr",
            "seed": 7,
            "trained_tasks": ["age", "kind"],
            "config": {"model": {"dim": self.dim}, "text": "ünïcode"},
            "fingerprints": {"checkpoint": "c" * 64, "dataset": "d" * 64, "split": "s" * 64, "transform": "t" * 64},
            "provenance": {"device": "cpu"},
        }
        arguments = {
            "splits": self.rows,
            "tasks": TASKS,
            "dim": self.dim,
            "logits": {"age": 4},
            "meta": meta,
            "dtype": self.dtype,
        }
        return EmbeddingsWriter(path, **{**arguments, **changes})

    def feed(self, writer: EmbeddingsWriter, *, batch: int = 64, stop: int | None = None) -> None:
        """Append what is missing, batch by batch from the border before `rows_done`; all of it, or `stop` batches."""
        batches = 0
        for split, z in self.z.items():
            first = writer.rows_done(split) // batch * batch
            for start in range(first, len(z), batch):
                if stop is not None and batches == stop:
                    return
                stretch = slice(start, start + batch)
                writer.append(split, z[stretch], {"age": self.own[split][stretch]}, start=start)
                batches += 1

    def write(self, path: Path, **options: Any) -> Path:
        with self.writer(path) as writer:
            self.feed(writer, **options)
            return writer.finish()


def make_table(sizes: Mapping[str, int], *, dim: int = 5, dtype: str = "float32", seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    rows = {}
    for split, count in sizes.items():
        size = rng.normal(size=count)
        size[: count // 5] = np.nan
        targets = {"age": rng.integers(-1, 4, count), "kind": rng.integers(0, 3, count), "size/log": size}
        rows[split] = SplitRows([f"{split}/ä{i}.png" for i in range(count)], targets)
    stored = np.dtype(dtype)
    z = {name: rng.normal(size=(count, dim)).astype(stored).astype(np.float32) for name, count in sizes.items()}
    own = {name: rng.normal(size=(count, 4)).astype(np.float32) for name, count in sizes.items()}
    return Table(z, own, rows, dim, dtype)


@pytest.fixture(scope="session")
def table_of() -> Callable[..., Table]:
    return make_table


@pytest.fixture(scope="session")
def table() -> Table:
    return make_table({"train": 300, "val": 20, "test": 101}, dim=9)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 1 KiB, so that little data make many of them."""
    monkeypatch.setattr("reprkit.embeddings.format.CHUNK_BYTES", 1024)


@pytest.fixture(scope="session")
def good_file(table: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return table.write(tmp_path_factory.mktemp("good") / "e.h5")


# The same content in the files of others


@dataclass(frozen=True)
class Foreign:
    """A table of embeddings, to be written as any kind of file.

    Columns: `y_kind` (class indices, some missing), `y_name` (names, some missing), `y_size` (real, some missing).
    """

    z: np.ndarray
    columns: Mapping[str, np.ndarray]

    def write(self, kind: str, folder: Path, *, stem: str = "e", **options: Any) -> Path:
        path = folder / f"{stem}.{kind}"
        {"npz": self._npz, "npy": self._npy, "parquet": self._parquet, "h5ad": self._h5ad}[kind](path, **options)
        return path

    def change(self, z: np.ndarray | None = None, **columns: Any) -> Foreign:
        merged = {name: values for name, values in {**self.columns, **columns}.items() if values is not None}
        return Foreign(self.z if z is None else z, merged)

    def _npz(self, path: Path) -> None:
        np.savez(path, z=self.z, **{"ids" if name == "id" else name: v for name, v in self.columns.items()})

    def _npy(self, path: Path) -> None:
        np.save(path, self.z)
        gaps = {"y_kind": -1}
        with open(path.with_suffix(".csv"), "w", newline="", encoding="utf-8") as handle:
            table = csv.writer(handle)
            table.writerow(self.columns)
            for row in zip(*(values.tolist() for values in self.columns.values()), strict=True):
                cells = zip(self.columns, row, strict=True)
                table.writerow(["" if value != value or value == gaps.get(name) else value for name, value in cells])

    def _parquet(self, path: Path, *, form: str = "list", rows: int = 17) -> None:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        width = self.z.shape[1]
        flat = pa.array(np.ascontiguousarray(self.z).reshape(-1).astype(self.z.dtype.newbyteorder("=")))
        if form == "fixed":
            z = {"z": pa.FixedSizeListArray.from_arrays(flat, width)}
        elif form in ("list", "large"):
            steps = np.arange(0, len(flat) + 1, width)
            maker, dtype = (pa.ListArray, pa.int32()) if form == "list" else (pa.LargeListArray, pa.int64())
            z = {"z": maker.from_arrays(pa.array(steps, dtype), flat)}
        else:
            z = {form.format(i): pa.array(np.ascontiguousarray(self.z[:, i])) for i in reversed(range(width))}
        others = {name: parquet_column(pa, name, values) for name, values in self.columns.items()}
        pq.write_table(pa.table({**others, **z}), path, row_group_size=rows)

    def _h5ad(self, path: Path, *, key: str = "X_emb", **storage: Any) -> None:
        with h5py.File(path, "w") as file:
            encode(file, "anndata", "0.1.0")
            encode(file.create_group("obsm"), "dict", "0.1.0")
            encode(file["obsm"].create_dataset(key, data=self.z, **storage), "array", "0.2.0")
            obs = file.create_group("obs")
            encode(obs, "dataframe", "0.2.0")
            obs.attrs["_index"] = "names"
            obs.attrs["column-order"] = [name for name in self.columns if name != "id"]
            for name, values in self.columns.items():
                obs_column(obs, "names" if name == "id" else name, values)


def parquet_column(pa: Any, name: str, values: np.ndarray) -> Any:
    """A column with nulls for what is missing; `y_name` as a dictionary."""
    if values.dtype.kind == "U":
        column = pa.array([text or None for text in values.tolist()])
        return column.dictionary_encode() if name == "y_name" else column
    if values.dtype.kind == "f":
        return pa.array(values, mask=np.isnan(values))
    return pa.array(values, mask=values == -1)


def encode(found: h5py.HLObject, kind: str, version: str) -> None:
    found.attrs["encoding-type"], found.attrs["encoding-version"] = kind, version


def obs_column(obs: h5py.Group, name: str, values: np.ndarray) -> None:
    """As AnnData stores it: labels as a categorical, integers that may be missing as a nullable-integer."""
    if name == "y_name":
        names = np.unique(values[values != ""])
        group = obs.create_group(name)
        encode(group, "categorical", "0.2.0")
        group.attrs["ordered"] = False
        codes = np.where(values == "", -1, np.searchsorted(names, values)).astype(np.int8)
        encode(group.create_dataset("codes", data=codes), "array", "0.2.0")
        found = group.create_dataset("categories", data=names.astype(object), dtype=h5py.string_dtype())
        encode(found, "string-array", "0.2.0")
    elif name == "y_kind":
        group = obs.create_group(name)
        encode(group, "nullable-integer", "0.1.0")
        group.create_dataset("values", data=np.where(values == -1, 1, values))
        group.create_dataset("mask", data=values == -1)
    elif values.dtype.kind == "U":
        found = obs.create_dataset(name, data=values.astype(object), dtype=h5py.string_dtype())
        encode(found, "string-array", "0.2.0")
    else:
        encode(obs.create_dataset(name, data=values), "array", "0.2.0")


def make_foreign(rows: int = 120, dim: int = 12, *, dtype: Any = "float32", seed: int = 0) -> Foreign:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(rows, dim)) * 50
    size = rng.normal(size=rows)
    size[::7] = np.nan
    names = np.array(["", "ant", "bee 10", "bee 9", "Ölkäfer"])
    columns = {
        "id": np.array([f"ä{i}/x" for i in rng.permutation(rows)]),
        "split": rng.choice(["train", "val", "test"], rows, p=[0.6, 0.1, 0.3]),
        "y_kind": rng.integers(-1, 3, rows),
        "y_name": names[rng.integers(0, 5, rows)],
        "y_size": size,
    }
    return Foreign(z.astype(dtype), columns)


@pytest.fixture(scope="session")
def foreign() -> Callable[..., Foreign]:
    """Factory: foreign(rows, dim, dtype=, seed=)."""
    return make_foreign
