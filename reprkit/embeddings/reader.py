"""Reading embeddings, whoever made them, through one class."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from reprkit.embeddings.columns import Column
from reprkit.embeddings.dispatch import open_source
from reprkit.embeddings.dummies import TrainingDummies
from reprkit.embeddings.fingerprint import fingerprint_arrays
from reprkit.embeddings.safe import check_memory
from reprkit.embeddings.source import Source
from reprkit.errors import InputError
from reprkit.tasks import Task


class Embeddings:
    """Frozen embeddings of one encoder, with ids and targets, split by split.

    Opens the `.h5` files of `reprkit embed`, and `.npz`, `.npy`, `.parquet` and `.h5ad` files of any origin;
    `reprkit.embeddings.sources()` describes them all. Which it is, is told by content, not by name. All but `.npz`
    are read lazily: rows of z when asked for, from inside the file only. Arrays that are returned belong to the
    caller. Can be pickled and used after a fork; each process opens its own handle.

    Args:
        path: the file; `FILE::NAME` chooses one of several embeddings in an `.h5ad` or `.parquet`.
        allow_partial: read also a file whose writing was interrupted.
        groups: separator before which an id names the group of its row, such as `#` in `image7#12,40`; None takes what
            the file says, and an empty one makes every row its own.

    Attributes:
        path: the file; for arrays in memory, their label.

    Raises:
        InputError: the file is missing, damaged, incomplete, not of a known format, or refuses to be read safely.
    """

    def __init__(self, path: str | os.PathLike[str], *, allow_partial: bool = False, groups: str | None = None) -> None:
        self._adopt(Path(path), open_source(path, allow_partial=allow_partial))
        if groups is not None:
            self._source.meta["groups"] = groups

    @classmethod
    def from_arrays(
        cls,
        z: np.ndarray,
        targets: Mapping[str, np.ndarray],
        *,
        tasks: Sequence[Task] = (),
        ids: Sequence[str] | np.ndarray | None = None,
        split: Sequence[str] | np.ndarray | None = None,
        label: str = "arrays",
        meta: Mapping[str, Any] | None = None,
    ) -> Embeddings:
        """Embeddings from arrays in memory, under the rules of an `.npz`.

        Args:
            z: [N, D] numbers.
            targets: task name -> [N]; integers are class indices (-1 = missing), floats real values (NaN =
                missing), text the names of classes, which are sorted unless the task is given.
            tasks: what the targets are; inferred for those not named.
            ids: [N] unique names; row numbers if not given.
            split: [N] of `train`, `val`, `test`; if not given, 70/10/20 % by hash of the id.
            label: name of the encoder.
            meta: further entries of `Embeddings.meta`.
        """
        from reprkit.embeddings.arrays import ArraySource, HeldMatrix

        self = cls.__new__(cls)
        columns: dict[str, Column] = {name: np.asarray(values) for name, values in targets.items()}
        meta = {"label": label, **(meta or {})}
        source = ArraySource(HeldMatrix(z), columns, tasks=tasks, ids=ids, split=split, what=label, meta=meta)
        self._adopt(Path(label), source)
        return self

    def _adopt(self, path: Path, source: Source) -> None:
        self.path = path
        self._source = source

    @property
    def splits(self) -> tuple[str, ...]:
        """Those of train, val and test that have rows, in this order."""
        return self._source.splits

    @property
    def tasks(self) -> dict[str, Task]:
        """Task name -> Task."""
        return dict(self._source.tasks)

    @property
    def dim(self) -> int:
        """D, the width of an embedding."""
        return self._source.dim

    @property
    def meta(self) -> dict[str, Any]:
        """`label`, `seed`, `trained_tasks`, `groups`, `config`, `fingerprints`, `provenance`.

        All may be missing in files of another origin.
        """
        return copy.deepcopy(self._source.meta)

    @property
    def label(self) -> str:
        """Name of the encoder in tables and figures; the file's stem if none is stored."""
        return str(self._source.meta.get("label") or self.path.stem)

    @property
    def seed(self) -> int:
        """Training seed of the encoder; 0 if none is stored."""
        return int(self._source.meta.get("seed", 0))

    @property
    def trained_tasks(self) -> tuple[str, ...]:
        """Tasks that the encoder was trained for; all tasks if none are stored."""
        return tuple(self._source.meta.get("trained_tasks") or self._source.tasks)

    @property
    def groups(self) -> str:
        """Separator before which an id names the group of its row; empty if every row is its own.

        Rows of a group (pixels of an image) are not independent: analyses resample groups. The last separator counts.
        """
        return str(self._source.meta.get("groups") or "")

    @property
    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of what the embeddings were made from, as far as known: checkpoint, dataset, split, transform."""
        return dict(self._source.meta.get("fingerprints", {}))

    def num_rows(self, split: str) -> int:
        """Number of samples of `split`."""
        return self._source.num_rows(self._known_split(split))

    def z(self, split: str) -> np.ndarray:
        """All embeddings of `split`: float32 [N, D], finite.

        Raises:
            InputError: no such split, values that are not finite, or more of them than memory holds; `blocks` streams.
        """
        rows = self.num_rows(split)
        check_memory(rows * self.dim * 4, f"{self.path}: z of '{split}'")
        return self._finite(self._source.read_z(split, 0, rows), split, "z")

    def blocks(self, split: str, rows: int = 4096) -> Iterator[np.ndarray]:
        """Embeddings of `split` as consecutive float32 [n, D], n = `rows` but for the last: bounded memory."""
        for start, stop in self._ranges(split, rows):
            yield self._finite(self._source.read_z(split, start, stop), split, "z")

    def logits_blocks(self, split: str, task: str, rows: int = 4096) -> Iterator[np.ndarray]:
        """Outputs of the encoder's own head on `split`, as consecutive float32 [n, C]; nothing if the file has none.

        C is the number of classes of `task`, or 1 of a real-valued one; n is `rows` but for the last block.

        Raises:
            InputError: no such split or task, or values that are not finite.
        """
        for start, stop in self._ranges(split, rows):
            own = self._source.read_logits(split, self._known_task(task), start, stop)
            if own is not None:
                yield self._finite(own, split, f"logits of '{task}'")

    def targets(self, split: str, task: str) -> np.ndarray:
        """Targets of `task` in `split`: int64 [N] class indices (-1 = missing), or float64 [N] values (NaN = missing).

        Values are in the task's own unit.

        Raises:
            InputError: no such split or task, or damaged data.
        """
        return self._source.targets(self._known_split(split), self._known_task(task))

    def ids(self, split: str) -> np.ndarray:
        """Sample ids of `split`: str [N], unique in the file.

        Raises:
            InputError: no such split, or damaged data.
        """
        return self._source.ids(self._known_split(split))

    def logits(self, split: str, task: str) -> np.ndarray | None:
        """Outputs of the encoder's own head on `split`: float32 [N, C]; None if the file has none for this `task`.

        Raises:
            InputError: as of `logits_blocks`.
        """
        own = list(self.logits_blocks(split, task))
        return np.concatenate(own) if own else None

    def training_dummies(self, task: str) -> TrainingDummies | None:
        """The fixed dummy heads of DGR that the encoder was trained against; None if the file has none for the task."""
        read = getattr(self._source, "training_dummies", None)  # only files of our own have any
        return read(self._known_task(task)) if read else None

    def unstored(self, split: str) -> dict[str, int]:
        """Datasets of `split` with chunks that were never stored (they would read as fill values), and how many."""
        return dict(self._source.unstored(self._known_split(split)))

    def comparable_key(self) -> str:
        """SHA-256 of ids and targets of all splits: two encoders may be compared if theirs are equal.

        It is made from the content, so files of any origin can be compared as long as they hold the same
        samples with the same labels in the same splits and order.
        """
        parts: list[Any] = []
        for split in self.splits:
            parts += [split, self.ids(split)]
            parts += [part for task in sorted(self.tasks) for part in (task, self.targets(split, task))]
        return fingerprint_arrays(*parts)

    def close(self) -> None:
        """Release the file; a later access opens it again."""
        self._source.close()

    def __enter__(self) -> Embeddings:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        rows = ", ".join(f"{split} {self.num_rows(split)}" for split in self.splits)
        return f"Embeddings('{self.path}': {rows} x {self.dim}; tasks {', '.join(self.tasks)}; label '{self.label}')"

    def _ranges(self, split: str, rows: int) -> Iterator[tuple[int, int]]:
        if rows < 1:
            raise ValueError(f"rows must be at least 1, got {rows}")
        total = self.num_rows(split)
        return ((start, min(start + rows, total)) for start in range(0, total, rows))

    def _known_split(self, split: str) -> str:
        if split not in self.splits:
            raise InputError(f"{self.path}: has no split '{split}'; it has {', '.join(self.splits)}")
        return split

    def _known_task(self, task: str) -> str:
        if task not in self._source.tasks:
            raise InputError(f"{self.path}: has no task '{task}'; it has {', '.join(self._source.tasks)}")
        return task

    def _finite(self, block: np.ndarray, split: str, what: str) -> np.ndarray:
        good = np.isfinite(block).all(axis=1)
        if not good.all():
            count = int((~good).sum())
            raise InputError(
                f"{self.path}: {what} of '{split}' has {count} rows with NaN or infinity; drop them or embed again"
            )
        return block
