"""One encoder of a run: its folder, and the stages from training to its tables.

Every stage leaves a file that is skipped when it is there already and was made with the same settings
(`stages.json`), so a run can be killed at any moment and started again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprkit.config import GridPoint, grid_points
from reprkit.files import working_in, write_json
from reprkit.recipe import Recipe, config_digest, run_folder, split_method

if TYPE_CHECKING:
    from reprkit.data.base import ImageDataset

logger = logging.getLogger(__name__)

FILES = {
    "test": ("test_scores.json",),
    "embed": ("embeddings.h5",),
    "controls": ("universality.csv", "probes.csv"),
}
"""Stages and the files each one leaves; `reprkit.analysis.stages` has those that read the embeddings."""


@dataclass(frozen=True)
class Piece:
    """One encoder of a run.

    Attributes:
        method, seed, task: what is trained; `task` is empty but for `single`.
        point: the grid values it is trained with.
        folder: its run folder.
    """

    method: str
    seed: int
    task: str
    point: GridPoint
    folder: Path

    @property
    def is_trained(self) -> bool:
        """True if training came to its end."""
        return (self.folder / "training.json").is_file()

    @property
    def failure(self) -> str:
        """Why training with these settings failed; empty if it did not."""
        file = self.folder / "failed.json"
        if self.is_trained or not file.is_file():
            return ""
        record = json.loads(file.read_text())
        return str(record["reason"]) if record.get("settings") == self.settings else ""

    @property
    def settings(self) -> str:
        """Digest of all that decides the trained bits, but for the data."""
        from reprkit.training.job import Job

        return config_digest(Job(self.point.recipe, self.method, self.seed, self.task).identity())

    @property
    def val_score(self) -> float:
        """Best validation score, averaged over tasks; NaN if there is none."""
        if not self.is_trained:
            return float("nan")
        score = json.loads((self.folder / "training.json").read_text())["best_val_score"]
        return float("nan") if score is None else float(score)


def pieces(recipe: Recipe, folder: Path, tasks: list[str]) -> Iterator[Piece]:
    """Every encoder that a recipe asks for."""
    for method in recipe.methods:
        points = grid_points(recipe, method)
        for point in points:
            for seed in recipe.seeds:
                for task in tasks if split_method(method)[0] == "single" else [""]:
                    home = run_folder(folder, method, seed, task=task, point=point.name if len(points) > 1 else "")
                    yield Piece(method, seed, task, point, home)


def train_piece(piece: Piece, dataset: ImageDataset, progress: bool) -> None:
    """Train one encoder, unless it is trained or has failed with these settings before.

    A loss that is no longer a number is recorded in `failed.json` and does not stop the rest of a run.
    """
    from reprkit.training import train
    from reprkit.training.trainer import TrainingFailed

    if piece.failure:
        return
    options: dict[str, Any] = {"method": piece.method, "seed": piece.seed, "task": piece.task}
    try:
        train(piece.point.recipe, piece.folder, **options, dataset=dataset, progress=progress)
    except TrainingFailed as error:
        logger.warning("%s", error)
        write_json(piece.folder / "failed.json", {"reason": str(error), "settings": piece.settings})


def settings_of(piece: Piece) -> dict[str, Any]:
    """For each stage after training, everything that decides what it leaves."""
    from reprkit.analysis.stages import STAGES

    recipe = piece.point.recipe
    encoder = {
        "training": json.loads((piece.folder / "training.json").read_text()),
        "identity": json.loads((piece.folder / "identity.json").read_text()),
        "checkpoint": recipe.embed.checkpoint,
    }
    dump = {**encoder, "embed": asdict(recipe.embed)}
    analyses = {name: {**dump, **stage.settings(recipe)} for name, stage in STAGES.items()}
    return {"test": encoder, "embed": dump, **analyses}


def is_measured(piece: Piece) -> bool:
    """True if every stage is done with the settings of the recipe."""
    stages = Stages(piece.folder)
    return all(stages.is_done(stage, settings) for stage, settings in settings_of(piece).items())


def measure(piece: Piece, dataset: ImageDataset, progress: bool = True) -> None:
    """Test, embed, and measure one trained encoder; stages done with equal settings are skipped."""
    from reprkit.analysis.stages import STAGES
    from reprkit.analysis.workspace import Workspace
    from reprkit.embeddings import Embeddings
    from reprkit.training import embed, score_test_split

    recipe, folder = piece.point.recipe, piece.folder
    file = folder / "embeddings.h5"

    def test() -> None:
        score_test_split(folder, dataset, recipe.embed.checkpoint, recipe.train.device)

    def dump() -> None:
        embed(folder, file, config=recipe.embed, dataset=dataset, device=recipe.train.device, progress=progress)

    with working_in(folder):
        stages, settings = Stages(folder), settings_of(piece)
        stages.do("test", settings["test"], test)
        stages.do("embed", settings["embed"], dump)
        with Embeddings(file) as embeddings:
            workspace = Workspace(embeddings, memory=recipe.probe.memory_mb << 20)
            for name, stage in STAGES.items():
                stages.do(name, settings[name], partial(stage.measure, workspace, recipe, folder, progress))


def files_of(stage: str) -> tuple[str, ...]:
    """The files that a stage after training leaves."""
    from reprkit.analysis.stages import STAGES

    return FILES[stage] if stage in FILES else STAGES[stage].files


class Stages:
    """Which stages of a run folder are done, and with which settings (`stages.json`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "stages.json"
        try:
            self.keys: dict[str, str] = json.loads(self.file.read_text())
        except (OSError, ValueError):
            self.keys = {}

    def is_done(self, stage: str, settings: Any) -> bool:
        """True if the files of a stage are there and were made with equal settings."""
        present = all((self.folder / name).is_file() for name in files_of(stage))
        return present and self.keys.get(stage) == config_digest(settings)

    def do(self, stage: str, settings: Any, action: Callable[[], object]) -> None:
        """Run `action` unless the stage is done."""
        if self.is_done(stage, settings):
            return
        logger.info("%s: %s", stage, self.folder)
        action()
        self.keys[stage] = config_digest(settings)
        write_json(self.file, self.keys)
