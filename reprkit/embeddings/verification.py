"""Reading an embeddings file through once, to be sure of it, and saying in words what it holds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reprkit.embeddings.arrays import SPLIT_RULE
from reprkit.embeddings.dispatch import split_name
from reprkit.embeddings.reader import Embeddings
from reprkit.embeddings.rows import check_disjoint, check_ids
from reprkit.embeddings.safe import MEND
from reprkit.errors import InputError
from reprkit.tasks import Task

BLOCK_BYTES = 4 << 20
"""Read in blocks of this size: a file of any length is verified in little memory."""


@dataclass(frozen=True)
class SplitSummary:
    """One split of a verified file.

    Attributes:
        rows: number of samples.
        labelled: task -> number of samples with a target.
        rms: root mean square of all entries of z.
        peak: largest absolute entry of z.
        logits: tasks with own-head outputs.
    """

    rows: int
    labelled: Mapping[str, int]
    rms: float
    peak: float
    logits: tuple[str, ...]


@dataclass(frozen=True)
class Verification:
    """What `verify` found: sizes and simple statistics of a file that is whole.

    Attributes:
        path: of the file.
        nbytes: its size on disk.
        dim: D, the features of z.
        splits: split -> its rows, targets and the root mean square and peak of its z.
    """

    path: Path
    nbytes: int
    dim: int
    splits: Mapping[str, SplitSummary]


def verify(path: str | os.PathLike[str], *, allow_partial: bool = False) -> Verification:
    """Read all of a file: checksums, shapes, ids, targets, finite values.

    Args:
        path: any embeddings file that `Embeddings` opens.
        allow_partial: accept a file that is not marked complete yet; all its rows must be there.

    Raises:
        InputError: at the first fault, naming it.
    """
    with Embeddings(path, allow_partial=allow_partial) as embeddings:
        ids = {split: check_ids(embeddings.ids(split), f"{path}: {split}") for split in embeddings.splits}
        check_disjoint(ids, str(path))
        splits = {split: _check_split(embeddings, split) for split in embeddings.splits}
        return Verification(Path(path), os.stat(split_name(path)[0]).st_size, embeddings.dim, splits)


def _check_split(embeddings: Embeddings, split: str) -> SplitSummary:
    for name, missing in embeddings.unstored(split).items():
        raise InputError(f"{embeddings.path}: {missing} chunks of '{name}' were never stored; {MEND}")
    rows, squares, peak = 0, 0.0, 0.0
    for block in embeddings.blocks(split, rows=max(1, BLOCK_BYTES // (4 * embeddings.dim))):
        rows += len(block)
        squares += float(np.einsum("ij,ij->i", block, block).sum(dtype=np.float64))
        peak = max(peak, float(block.max()), -float(block.min()))
    labelled = {name: int(task.valid(embeddings.targets(split, name)).sum()) for name, task in embeddings.tasks.items()}
    own = {name: sum(map(len, embeddings.logits_blocks(split, name, rows=1024))) for name in embeddings.tasks}
    logits = tuple(name for name, count in own.items() if count)
    return SplitSummary(rows, labelled, float(np.sqrt(squares / (rows * embeddings.dim))), peak, logits)


def describe(path: str | os.PathLike[str]) -> str:
    """The file at `path` in words, one fact a line, for people.

    Raises:
        InputError: it is no whole embeddings file (see `verify`).
    """
    found = verify(path)
    with Embeddings(path) as embeddings:
        about = embeddings.meta.get("provenance", {})
        lines = [
            f"{path}: {found.nbytes / 1e6:.1f} MB, verified",
            f"file      {about.get('source') or 'reprkit embeddings (HDF5)'}",
            f"encoder   {embeddings.label}, seed {embeddings.seed}, {_trained_for(embeddings)}",
            f"z         {found.dim} features",
        ]
        lines += [f"task      {task.name}: {_task_in_words(task)}" for task in embeddings.tasks.values()]
        lines += [f"groups    one for each id up to '{embeddings.groups}'"] if embeddings.groups else []
        lines += [f"no task   {name}: {reason}" for name, reason in about.get("left_out", {}).items()]
        for split, summary in found.splits.items():
            labelled = ", ".join(f"{name} {count}" for name, count in summary.labelled.items())
            own = f"; own outputs for {', '.join(summary.logits)}" if summary.logits else ""
            size = f"rms about 0 {summary.rms:.4g}, peak {summary.peak:.4g}"
            lines.append(f"{split:<9} {summary.rows} rows (with a target: {labelled}); {size}{own}")
        lines += [f"{name:<12} sha256 {value}" for name, value in embeddings.fingerprints.items()]
        if rule := about.get("split_rule"):
            lines.append(f"splits    {'as the file says' if rule == 'given' else rule}")
    return "\n".join(lines)


def split_notes(files: Iterable[Embeddings]) -> list[str]:
    """A sentence for each file that names no splits, on what stands in for them."""
    unsaid = [file for file in files if file.meta.get("provenance", {}).get("split_rule") == SPLIT_RULE]
    return [f"note: {file.path} names no splits; taken: {SPLIT_RULE}" for file in unsaid]


def _trained_for(embeddings: Embeddings) -> str:
    """What the encoder was trained for; files of another origin do not say."""
    if not embeddings.meta.get("trained_tasks"):
        return "trained elsewhere"
    return f"trained for {', '.join(embeddings.trained_tasks)}"


def _task_in_words(task: Task) -> str:
    if not task.is_discrete:
        return f"{task.kind}, {f'in {task.unit}' if task.unit else 'real'}"
    some = [*task.classes[:8], *(["..."] if len(task.classes) > 8 else [])]
    return f"{task.kind}, {task.num_outputs} classes" + (f" ({', '.join(some)})" if some else "")
