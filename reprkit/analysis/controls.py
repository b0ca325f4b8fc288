"""What the numbers mean: the same measurements where the representation, or the labels, say nothing.

`constant`: all z are 0. A dummy without bias then costs log C, which the best predictor hardly betters: U is high, or
infinite, and U_rel does not exist. Whoever reads U alone prefers it.
`shuffled`: the targets of each split belong to other rows of it. Probes fall to the floor and U_rel must not exist; a
measurement that finds something here has leaked.
Files of embeddings that no training made (raw pixels, an untrained encoder) join them as further controls: what they
reach, training did not bring.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reprkit.analysis.universal.score import DEFAULT, task_names, universality
from reprkit.analysis.workspace import Workspace
from reprkit.errors import InputError
from reprkit.recipe import ProbeConfig, UniversalityConfig

if TYPE_CHECKING:
    from reprkit.embeddings import Embeddings

PROBES = ProbeConfig(probes=("ncm", "linear"))
"""Quick probes, one without anything to choose."""


@dataclass(frozen=True)
class Controls:
    """Measurements of the controls of one file; the column `encoder` holds a control's name.

    Attributes:
        universality: rows of `reprkit.analysis.universality`.
        probes: rows of `reprkit.analysis.probe`.
    """

    universality: pd.DataFrame
    probes: pd.DataFrame


def controls(
    embeddings: Embeddings | Workspace,
    *,
    tasks: Sequence[str] | None = None,
    config: UniversalityConfig = DEFAULT,
    probes: ProbeConfig = PROBES,
    others: Mapping[str, str | os.PathLike[str]] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Controls:
    """Measure `constant`, `shuffled` and any other control files exactly as the encoder itself is measured.

    Args:
        embeddings: the encoder's open file, or its workspace.
        tasks: names; the tasks that encoder was trained for by default.
        config: of universality.
        probes: which probes, and their resamples.
        others: name -> embeddings file of the same samples, such as those of `reprkit.training.controls`.
        seed: of the shuffling.
        progress: show bars on standard error, if that is a terminal.

    Raises:
        InputError: an unknown task, or a control file of other samples.
    """
    from reprkit.analysis.probes import probe
    from reprkit.embeddings import Embeddings

    ws = Workspace.of(embeddings)
    names = task_names(ws, tasks)
    found: list[tuple[pd.DataFrame, pd.DataFrame]] = []
    with ExitStack() as stack:
        spaces = {
            "constant": Workspace(_Constant(ws.embeddings)),  # type: ignore[arg-type]
            "shuffled": Workspace(_Shuffled(ws.embeddings, seed), memory=ws.memory),  # type: ignore[arg-type]
        }
        for name, path in (others or {}).items():
            spaces[name] = Workspace(stack.enter_context(Embeddings(path)), memory=ws.memory)
            _check_same_samples(ws, spaces[name], names)
        for name, space in spaces.items():
            options: dict[str, Any] = {"tasks": names, "label": name, "progress": progress}
            found.append((universality(space, config=config, **options), probe(space, config=probes, **options)))
    return Controls(*(pd.concat(frames, ignore_index=True) for frames in zip(*found, strict=True)))


def _check_same_samples(ws: Workspace, control: Workspace, names: Sequence[str]) -> None:
    for name in names:
        if name not in control.tasks:
            raise InputError(f"{control.source}: has no task '{name}', as {ws.source} has; embed the same data")
    for split in ("train", "val", "test"):
        if not np.array_equal(ws.ids(split), control.ids(split)):
            raise InputError(f"{control.source}: its {split} samples are not those of {ws.source}; embed the same data")


class _View:
    """An open file, seen with something changed; it has neither own logits nor dummies of training."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.path, self.label, self.seed = getattr(file, "path", file.label), file.label, file.seed
        self.splits, self.tasks, self.dim = file.splits, file.tasks, file.dim
        self.trained_tasks, self.groups, self.meta = file.trained_tasks, file.groups, copy.deepcopy(file.meta)

    def num_rows(self, split: str) -> int:
        return int(self.file.num_rows(split))

    def ids(self, split: str) -> np.ndarray:
        return np.asarray(self.file.ids(split))

    def targets(self, split: str, task: str) -> np.ndarray:
        return np.asarray(self.file.targets(split, task))

    def blocks(self, split: str, rows: int = 4096) -> Iterator[np.ndarray]:
        yield from self.file.blocks(split, rows)

    def z(self, split: str) -> np.ndarray:
        return np.concatenate(list(self.blocks(split)))

    def logits(self, split: str, task: str) -> None:
        return None

    def logits_blocks(self, split: str, task: str, rows: int = 4096) -> Iterator[np.ndarray]:
        return iter(())


class _Constant(_View):
    """One feature, 0 for every row: as much as any number of such features say."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.dim = 1

    def blocks(self, split: str, rows: int = 4096) -> Iterator[np.ndarray]:
        for start in range(0, self.num_rows(split), rows):
            yield np.zeros((min(rows, self.num_rows(split) - start), 1), np.float32)


class _Shuffled(_View):
    """Targets that belong to other rows of the same split; those of several tasks stay together."""

    def __init__(self, file: Any, seed: int) -> None:
        super().__init__(file)
        self.shuffle_seed = seed

    def targets(self, split: str, task: str) -> np.ndarray:
        rng = np.random.RandomState([self.shuffle_seed, self.splits.index(split)])
        return super().targets(split, task)[rng.permutation(self.num_rows(split))]
