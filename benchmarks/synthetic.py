"""Embeddings made up for benchmarks: ReLU units over 64 latent factors whose strength falls off as a power law.

Three tasks of 7, 2 and 5 classes read noisy mixtures of the factors: the best linear probe reaches about 60, 90 and
70 %. They are no claim about any real data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from reprkit.embeddings import EmbeddingsWriter, SplitRows
from reprkit.tasks import Task

TASKS = (Task("age", "classification", 7), Task("gender", "classification", 2), Task("ethnicity", "classification", 5))
FACTORS = 64
BLOCK = 4096


class Source:
    """Rows of D features, drawn block by block: the same for the same seed, whatever is asked for first."""

    def __init__(self, dim: int, seed: int = 0) -> None:
        rng = np.random.default_rng([seed, 0])
        strength = np.arange(1, FACTORS + 1)[:, None] ** -0.5
        self.dim, self.seed = dim, seed
        self.mixing = (rng.normal(size=(FACTORS, dim)) * strength).astype(np.float32)
        self.readers = {task.name: rng.normal(size=(FACTORS, task.num_outputs)) * strength for task in TASKS}

    def block(self, split: str, start: int, rows: int) -> np.ndarray:
        """z float32 [rows, D]; `start` a multiple of BLOCK."""
        factors, _, rng = self._draw(split, start, rows)
        noise = rng.standard_normal(size=(rows, self.dim), dtype=np.float32)
        return np.maximum(factors.astype(np.float32) @ self.mixing + 0.5 * noise, 0)

    def targets(self, split: str, start: int, rows: int) -> dict[str, np.ndarray]:
        """Class indices [rows] of each task."""
        return self._draw(split, start, rows)[1]

    def _draw(self, split: str, start: int, rows: int) -> tuple[np.ndarray, dict[str, np.ndarray], np.random.Generator]:
        rng = np.random.default_rng([self.seed, 1, *split.encode(), start])
        factors = rng.normal(size=(rows, FACTORS))
        scores = {name: factors @ reader for name, reader in self.readers.items()}
        return factors, {name: (s + 0.9 * rng.gumbel(size=s.shape)).argmax(axis=1) for name, s in scores.items()}, rng

    def table(self, split: str, rows: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """z and targets of a whole split."""
        parts = [(start, min(BLOCK, rows - start)) for start in range(0, rows, BLOCK)]
        found = [self.targets(split, *part) for part in parts]
        targets = {task.name: np.concatenate([y[task.name] for y in found]) for task in TASKS}
        return np.concatenate([self.block(split, *part) for part in parts]), targets

    def write(self, path: Path, sizes: Mapping[str, int], tasks: Sequence[Task] = TASKS) -> Path:
        """An embeddings file of some splits, streamed."""
        splits = {}
        for split, rows in sizes.items():
            found = [self.targets(split, start, min(BLOCK, rows - start)) for start in range(0, rows, BLOCK)]
            targets = {task.name: np.concatenate([y[task.name] for y in found]) for task in tasks}
            splits[split] = SplitRows([f"{split}{i:07d}" for i in range(rows)], targets)
        with EmbeddingsWriter(path, splits=splits, tasks=tasks, dim=self.dim) as writer:
            for split, rows in sizes.items():
                for start in range(0, rows, BLOCK):
                    writer.append(split, self.block(split, start, min(BLOCK, rows - start)), start=start)
            writer.finish()
        return path
