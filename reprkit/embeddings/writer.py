"""Writing an embeddings file so that a kill at any moment costs one chunk and leaves no trace in the result."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import h5py
import numpy as np

from reprkit.embeddings import storage
from reprkit.embeddings.dummies import TrainingDummies
from reprkit.embeddings.format import link_name
from reprkit.embeddings.plan import Plan, make_plan
from reprkit.embeddings.rows import SplitRows, check_split_names
from reprkit.embeddings.safe import ERRORS, attribute
from reprkit.errors import InputError
from reprkit.files import sync_directory
from reprkit.tasks import Task

logger = logging.getLogger(__name__)


class EmbeddingsWriter:
    """Writes `path` through `path + ".partial"`, and continues an interrupted one of the same identity.

    Ids, targets and metadata are known before anything is encoded; only z and the logits stream. The identity is
    a SHA-256 of all that is known before, so a `.partial` is continued only by a writer with equal arguments; any
    other is discarded. The finished file is byte for byte the same, however often the writing was killed. Memory
    stays at a few chunks of 2 MiB, whatever the number of rows.

    Args:
        path: the file to make; an existing one is replaced by `finish()`, not before.
        splits: `train`, `val`, `test` -> their rows; a split without rows is left out.
        tasks: the tasks of the targets, in order.
        dim: D, the width of an embedding.
        logits: task name -> C, for tasks whose own-head outputs are stored as well.
        meta: `label`, `seed`, `trained_tasks`, `groups`, `config`, `fingerprints` (`checkpoint`, `dataset`, `split`,
            `transform`) and `provenance`, in plain JSON types. Missing ones become the file's stem, 0, all tasks,
            no groups and empty objects.
        dtype: how z is stored; `float16` halves the file and rounds to 11 significant bits.
        dummies: task name -> the dummy heads that the encoder was trained against.

    Raises:
        InputError: unusable ids, targets or names; another process is writing the same file; the disk is full.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        splits: Mapping[str, SplitRows],
        tasks: Sequence[Task],
        dim: int,
        logits: Mapping[str, int] | None = None,
        meta: Mapping[str, Any] | None = None,
        dtype: Literal["float32", "float16"] = "float32",
        dummies: Mapping[str, TrainingDummies] | None = None,
    ) -> None:
        self.path = Path(path)
        self.partial = self.path.with_name(self.path.name + ".partial")
        self._plan = make_plan(
            self.path, splits, tasks, dim=dim, dtype=dtype, logits=logits or {}, meta=meta or {}, dummies=dummies or {}
        )
        with self._disk():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            done = self._resume()
            self._done = done if done is not None else self._create()
            self._file = self._open()
        self._buffers = {split: _Buffer(self._plan, split) for split in self._plan.ids}

    def rows_done(self, split: str) -> int:
        """Rows of `split` that are committed; they need not be encoded again."""
        check_split_names([split], str(self.path))
        return self._done.get(split, 0)

    def append(
        self, split: str, z: np.ndarray, logits: Mapping[str, np.ndarray] | None = None, *, start: int | None = None
    ) -> None:
        """Add the next rows of `split`.

        Args:
            split: which split.
            z: [n, D], finite.
            logits: task -> [n, C], finite, for exactly the tasks named at the start.
            start: row number of the first row. After a kill, begin again at the border of the batch that holds
                row `rows_done` (equal batches give equal bits); rows that are there already are skipped.

        Raises:
            InputError: a value is not finite, or does not fit float16; the message names the sample.
        """
        check_split_names([split], str(self.path))
        own = {f"logits/{link_name(name)}": np.asarray(value) for name, value in (logits or {}).items()}
        blocks = {"z": np.asarray(z), **own}
        shapes = {name: block.shape for name, block in blocks.items()}
        expected = {name: (len(blocks["z"]), width) for name, (width, _) in self._plan.streams.items()}
        if shapes != expected:
            raise ValueError(f"'{split}': got shapes {shapes}, expected {expected}")
        buffer = self._buffers.get(split)
        position = self._done[split] + buffer.filled if buffer else 0
        first = position if start is None else start
        if first > position or first + len(z) > self._plan.rows(split):
            total = self._plan.rows(split)
            raise ValueError(f"'{split}': got rows {first} to {first + len(z)}, expected from {position} of {total}")
        if buffer:
            rest = {name: block[position - first :] for name, block in blocks.items()}
            self._check_finite(split, position, rest)
            for rows in buffer.fill(rest, last=position + len(rest["z"]) == self._plan.rows(split)):
                self._commit(split, rows)

    def finish(self) -> Path:
        """Read everything back, mark the file complete, flush it to disk and give it its name."""
        from reprkit.embeddings.reader import Embeddings
        from reprkit.embeddings.verification import verify

        for split in self._plan.ids:
            if self._done[split] != self._plan.rows(split):
                raise ValueError(f"'{split}' has {self._done[split]} of {self._plan.rows(split)} rows; append the rest")
        self.close()
        verify(self.partial, allow_partial=True)
        with Embeddings(self.partial, allow_partial=True) as embeddings:
            for task in embeddings.tasks:
                embeddings.training_dummies(task)
        with self._disk():
            with self._open() as file:
                file.attrs.modify("complete", np.uint8(1))
            with open(self.partial, "rb") as handle:
                os.fsync(handle.fileno())
            os.replace(self.partial, self.path)
            sync_directory(self.path.parent)
        return self.path

    def close(self) -> None:
        """Release the file; the `.partial` stays and can be continued."""
        self._file.close()

    def __enter__(self) -> EmbeddingsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _commit(self, split: str, rows: Mapping[str, np.ndarray]) -> None:
        """Write one chunk of every stream of `split`, and only then count its rows."""
        group, start = self._file[f"splits/{split}"], self._done[split]
        done = start + len(rows["z"])
        with self._disk():
            for name, block in rows.items():
                storage.write_chunk(group[name], start, block)
            self._file.flush()
            group["rows_done"][0] = done
            self._file.flush()
        self._done[split] = done

    def _check_finite(self, split: str, first: int, blocks: Mapping[str, np.ndarray]) -> None:
        """Refuse values that are not finite as they will be stored."""
        for name, block in blocks.items():
            dtype = self._plan.streams[name][1]
            with np.errstate(over="ignore"):
                good = np.isfinite(block.astype(dtype, copy=False)).all(axis=1)
            if good.all():
                continue
            row = int(np.argmin(good))
            sample = f"{self.path}: {name} of sample '{self._plan.ids[split][first + row].decode()}' in '{split}'"
            if np.isfinite(block[row]).all():
                peak = np.abs(block[row]).max()
                raise InputError(f"{sample} reaches {peak:.3g}, too large for {dtype.name}; store float32 instead")
            count = int((~good).sum())
            raise InputError(f"{sample} is not finite ({count} such rows in its batch); the encoder has diverged")

    # Beginning and continuing

    def _create(self) -> dict[str, int]:
        """Lay out the whole file; it takes the name `.partial` only once its structure is on disk."""
        draft = self.partial.with_name(self.partial.name + ".tmp")
        try:
            with h5py.File(draft, "w", libver=storage.LIBVER, locking="best-effort") as file:
                self._plan.lay_out(file)
            os.replace(draft, self.partial)
        finally:
            draft.unlink(missing_ok=True)
        return dict.fromkeys(self._plan.ids, 0)

    def _resume(self) -> dict[str, int] | None:
        """Committed rows of a `.partial` of the same identity; any other is discarded and gives None."""
        if not self.partial.exists():
            return None
        try:
            with self._open() as file:
                done = self._committed(file)
        except BlockingIOError:
            raise InputError(f"{self.partial}: another process is writing it; wait, or choose another --out") from None
        except ERRORS as error:
            logger.warning("discarding %s: it cannot be read (%s)", self.partial, error)
            done = None
        if done is None:
            self.partial.unlink()
        return done

    def _committed(self, file: h5py.File) -> dict[str, int] | None:
        if attribute(file, "identity", b"") != self._plan.identity().encode():
            logger.warning("discarding %s: it was begun from another checkpoint, data set or setting", self.partial)
            return None
        file.attrs.modify("complete", np.uint8(0))
        done = {}
        for split in self._plan.ids:
            group = file[f"splits/{split}"]
            done[split] = _intact_rows(group, [group[name] for name in self._plan.streams])
            group["rows_done"][0] = done[split]
        rows = ", ".join(f"{split} {count} of {self._plan.rows(split)}" for split, count in done.items())
        logger.info("continuing %s: %s rows are done", self.partial, rows)
        return done

    def _open(self) -> h5py.File:
        return h5py.File(self.partial, "r+", libver=storage.LIBVER, locking="best-effort")

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        """Turn a full disk, or one that cannot be written, into one clear line."""
        try:
            yield
        except (OSError, RuntimeError) as error:
            told = re.search(r"error message = '([^']*)'", str(error))  # HDF5 wraps the system's reason
            reason = told[1] if told else getattr(error, "strerror", None) or str(error)
            size = f"{self._plan.nbytes / 1e6:.0f} MB"
            raise InputError(f"{self.path}: cannot write {size} there ({reason}); choose another --out") from error


def _intact_rows(group: h5py.Group, streams: Sequence[h5py.Dataset]) -> int:
    """Committed rows whose chunks read back whole: after a power cut the counter may be ahead of the data.

    Lost pages come back as zeros, whose checksum is zero as well, so a chunk of nothing but zeros is done again.
    """
    total, chunk = streams[0].shape[0], streams[0].chunks[0]
    done = min(int(group["rows_done"][0]), total)
    for start in range(0, total, chunk):
        stop = min(start + chunk, total)
        try:
            blocks = [stream[start:stop] for stream in streams] if stop <= done else []
            if not blocks or not all(np.isfinite(block).all() and block.any() for block in blocks):
                return start
        except OSError:  # a checksum that does not fit
            return start
    return total


class _Buffer:
    """Collects the rows of one split until a chunk of them is full."""

    def __init__(self, plan: Plan, split: str) -> None:
        self._chunk = plan.chunk(split)
        self._rows = {name: np.empty((self._chunk, width), dtype) for name, (width, dtype) in plan.streams.items()}
        self.filled = 0

    def fill(self, blocks: Mapping[str, np.ndarray], *, last: bool) -> Iterator[dict[str, np.ndarray]]:
        """Take in `blocks`; yield every chunk that becomes full, and the rest if these are the `last` rows."""
        taken, total = 0, len(blocks["z"])
        while taken < total:
            count = min(self._chunk - self.filled, total - taken)
            for name, block in blocks.items():
                self._rows[name][self.filled : self.filled + count] = block[taken : taken + count]
            self.filled += count
            taken += count
            if self.filled == self._chunk or (last and taken == total):
                full, self.filled = self.filled, 0
                yield {name: rows[:full] for name, rows in self._rows.items()}
