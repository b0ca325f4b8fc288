"""An in-memory stand-in for `reprkit.embeddings.Embeddings`, so that analyses are tested without files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from reprkit.tasks import Task

SPLITS = ("train", "val", "test")


class FakeEmbeddings:
    """Arrays with the interface of an embeddings file."""

    def __init__(
        self,
        z: Mapping[str, np.ndarray],
        targets: Mapping[str, Mapping[str, np.ndarray]],
        tasks: Sequence[Task],
        *,
        label: str = "fake",
        seed: int = 0,
        ids: Mapping[str, np.ndarray] | None = None,
        logits: Mapping[str, Mapping[str, np.ndarray]] | None = None,
        trained_tasks: Sequence[str] | None = None,
        meta: Mapping[str, Any] | None = None,
        groups: str = "",
    ) -> None:
        self._z = {split: np.ascontiguousarray(rows, dtype=np.float32) for split, rows in z.items()}
        self._targets = targets
        self._logits = logits or {}
        self._ids = ids or {}
        self.tasks = {task.name: task for task in tasks}
        self.splits = tuple(split for split in SPLITS if split in self._z)
        self.dim = next(iter(self._z.values())).shape[1]
        self.label = label
        self.seed = seed
        self.groups = groups
        self.trained_tasks = tuple(trained_tasks if trained_tasks is not None else self.tasks)
        self.path = f"{label}.h5"
        self.meta: dict[str, Any] = {
            "label": label,
            "seed": seed,
            "trained_tasks": list(self.trained_tasks),
            "config": {},
            "fingerprints": {"checkpoint": "c", "dataset": "d", "split": "s", "transform": "t"},
            "provenance": {},
            **(meta or {}),
        }

    def z(self, split: str) -> np.ndarray:
        return self._z[split]

    def blocks(self, split: str, rows: int = 4096) -> Iterator[np.ndarray]:
        for start in range(0, self.num_rows(split), rows):
            yield self._z[split][start : start + rows]

    def targets(self, split: str, task: str) -> np.ndarray:
        kind = np.int64 if self.tasks[task].is_discrete else np.float64
        return np.asarray(self._targets[task][split], dtype=kind)

    def ids(self, split: str) -> np.ndarray:
        return self._ids.get(split, np.array([f"{split}-{i:05d}" for i in range(self.num_rows(split))]))

    def logits(self, split: str, task: str) -> np.ndarray | None:
        return self._logits.get(task, {}).get(split)

    def num_rows(self, split: str) -> int:
        return len(self._z[split])

    def close(self) -> None:
        pass

    def __enter__(self) -> FakeEmbeddings:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()


@pytest.fixture(scope="session")
def fake_embeddings() -> Callable[..., FakeEmbeddings]:
    """Factory: fake_embeddings(z={split: [N, D]}, targets={task: {split: [N]}}, tasks=[Task], label=, seed=, ...)."""
    return FakeEmbeddings


@pytest.fixture(scope="session")
def toy() -> Callable[..., FakeEmbeddings]:
    """Factory of Gaussian class clusters: toy(dim=, classes={name: C}, sizes=(train, val, test), noise=, seed=, ...).

    Every task moves the mean of z along its own random directions; `kinds={name: kind}` changes the kind of a task
    (a regression target is the class index plus noise).
    """

    def make(
        *,
        dim: int = 16,
        classes: Mapping[str, int] | None = None,
        sizes: tuple[int, int, int] = (400, 150, 300),
        noise: float = 0.7,
        seed: int = 0,
        kinds: Mapping[str, str] | None = None,
        **options: Any,
    ) -> FakeEmbeddings:
        rng = np.random.default_rng(seed)
        classes = dict(classes or {"left": 3, "right": 2})
        kinds = dict(kinds or {})
        directions = {name: rng.normal(size=(count, dim)) for name, count in classes.items()}
        z: dict[str, np.ndarray] = {}
        targets: dict[str, dict[str, np.ndarray]] = {name: {} for name in classes}
        for split, n in zip(SPLITS, sizes, strict=True):
            rows = noise * rng.normal(size=(n, dim))
            for name, count in classes.items():
                y = rng.integers(count, size=n)
                rows += directions[name][y]
                regression = kinds.get(name) == "regression"
                targets[name][split] = y + 0.1 * rng.normal(size=n) if regression else y
            z[split] = rows
        tasks = [
            Task(name, kinds.get(name, "classification"), 1 if kinds.get(name) == "regression" else count)  # type: ignore[arg-type]
            for name, count in classes.items()
        ]
        return FakeEmbeddings(z, targets, tasks, **options)

    return make
