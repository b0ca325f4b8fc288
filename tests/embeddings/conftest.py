from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
