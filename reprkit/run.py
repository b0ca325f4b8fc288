"""The whole way: a recipe of methods x seeds to its report, piece by piece.

Every piece is a run folder of its own under `OUT/runs/`, and every stage of a piece leaves a file that is
skipped when it is there already and was made with the same settings. A run can be killed at any moment and
started again with the same command.

    OUT/  recipe.yaml environment.json selection.csv pieces.json
          probes.csv universality.csv tsne.csv tsne_quality.csv figures/ report.html
          runs/<method>[/<grid point>]/seed<k>[/<task>]/   one encoder each
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from reprkit.config import GridPoint, grid_points, load_recipe, write_recipe
from reprkit.environment import environment
from reprkit.errors import InputError
from reprkit.files import slug, write_frame, write_json
from reprkit.recipe import Recipe, config_digest, split_method

if TYPE_CHECKING:
    from reprkit.data.base import ImageDataset

logger = logging.getLogger(__name__)

DEMO = Recipe(name="demo", seeds=(0, 1))
"""What `reprkit demo` runs: the embedded digits with Single, Vanilla and Vanilla+DGR."""

FRAMES = ("probes", "universality", "tsne", "tsne_quality")


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
    def title(self) -> str:
        """Such as `single seed 0 left`."""
        return " ".join(filter(None, [self.method, self.point.name, f"seed {self.seed}", self.task]))


def run(
    recipe: Recipe | str | Path,
    out: str | Path | None = None,
    *,
    data: str | Path | None = None,
    shard: tuple[int, int] = (0, 1),
    progress: bool = True,
) -> Path:
    """Train, test, embed, probe, measure and report every method x seed of a recipe.

    Args:
        recipe: a Recipe, or the path of a recipe file.
        out: folder of the run; None means `runs/<recipe name>`.
        data: root of the data set, instead of the recipe's.
        shard: (i, n): train and measure only every n-th piece, from the i-th on; the shard that finds all
            pieces done writes the report.
        progress: show bars with the time left (never when the output is not a terminal).

    Returns:
        The report, or the folder if other shards are still at work.

    Raises:
        InputError: wrong settings or data.
    """
    from reprkit.data import load_dataset

    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe)
    if data is not None:
        recipe = replace(recipe, data=replace(recipe.data, root=str(data)))
    folder = Path(out) if out is not None else Path("runs", slug(recipe.name))
    dataset = load_dataset(recipe.data)
    for line in dataset.summary().splitlines():
        logger.info("%s", line)
    folder.mkdir(parents=True, exist_ok=True)
    write_recipe(recipe, folder / "recipe.yaml")
    write_json(folder / "environment.json", environment())
    every = list(pieces(recipe, folder, [task.name for task in dataset.tasks]))
    index, count = shard
    with _bar(len(every), "encoders", progress) as bar:
        for piece in every[index::count]:
            _train(piece, dataset, progress)
            bar.update()
    waiting = [piece for piece in every if not (piece.folder / "training.json").is_file()]
    if waiting:
        logger.info("%d of %d encoders are left to other shards", len(waiting), len(every))
        return folder
    chosen = select(every, folder)
    with _bar(len(chosen[index::count]), "measures", progress) as bar:
        for piece in chosen[index::count]:
            measure(piece, dataset, progress)
            bar.update()
    if any(not _finished(piece) for piece in chosen):
        logger.info("the rest is left to other shards")
        return folder
    return summarise(chosen, folder)


def pieces(recipe: Recipe, folder: Path, tasks: list[str]) -> Iterator[Piece]:
    """Every encoder that a recipe asks for."""
    for method in recipe.methods:
        points = grid_points(recipe, method)
        for point in points:
            for seed in recipe.seeds:
                home = folder / "runs" / slug(method)
                if len(points) > 1:
                    home = home / slug(point.name)
                for task in tasks if split_method(method)[0] == "single" else [""]:
                    yield Piece(method, seed, task, point, home / f"seed{seed}" / (slug(task) if task else ""))


def _train(piece: Piece, dataset: ImageDataset, progress: bool) -> None:
    from reprkit.training import train

    train(
        piece.point.recipe,
        piece.folder,
        method=piece.method,
        seed=piece.seed,
        task=piece.task,
        dataset=dataset,
        progress=progress,
    )


def select(every: list[Piece], folder: Path) -> list[Piece]:
    """For each method the pieces of the grid point with the best validation score, averaged over seeds and tasks.

    Writes `selection.csv` (one row per method and grid point) and `pieces.json` (the chosen folders).
    """
    import pandas as pd

    rows = [
        {
            "method": piece.method,
            "point": piece.point.name,
            "val_score": json.loads((piece.folder / "training.json").read_text())["best_val_score"],
        }
        for piece in every
    ]
    table = pd.DataFrame(rows).groupby(["method", "point"], sort=False).val_score.mean().reset_index()
    best = table.groupby("method", sort=False).val_score.transform("max")
    table["chosen"] = (table.val_score == best) & ~table.assign(hit=table.val_score == best).duplicated(
        ["method", "hit"]
    )
    write_frame(table, folder / "selection.csv")
    winners = set(table[table.chosen].set_index(["method", "point"]).index)
    chosen = [piece for piece in every if (piece.method, piece.point.name) in winners]
    write_json(
        folder / "pieces.json",
        [
            {
                "encoder": piece.method,
                "seed": piece.seed,
                "task": piece.task,
                "point": piece.point.name,
                "folder": piece.folder.relative_to(folder).as_posix(),
            }
            for piece in chosen
        ],
    )
    return chosen


def measure(piece: Piece, dataset: ImageDataset, progress: bool = True) -> None:
    """Test, embed, and measure one trained encoder; stages done with equal settings are skipped."""
    from reprkit.analysis.probes import Protocol, probe_with_predictions
    from reprkit.analysis.tsne import tsne_with_quality
    from reprkit.analysis.universality import PROTOCOL, universality
    from reprkit.embeddings import Embeddings
    from reprkit.training import embed, score_test_split
    from reprkit.training.checkpoint import find_checkpoint

    recipe, folder = piece.point.recipe, piece.folder
    stages = Stages(folder)
    checkpoint = find_checkpoint(folder, recipe.embed.checkpoint)
    trained = json.loads((folder / "training.json").read_text())
    source = {"training": trained, "identity": json.loads((folder / "identity.json").read_text())}
    device = recipe.train.device

    def test() -> None:
        score_test_split(folder, dataset, recipe.embed.checkpoint, device)

    def dump() -> None:
        out = folder / "embeddings.h5"
        embed(checkpoint, out, config=recipe.embed, dataset=dataset, device=device, progress=progress)

    stages.do("test", {**source, "checkpoint": checkpoint.name}, ["test_scores.json"], test)
    stages.do("embed", {**source, "embed": asdict(recipe.embed)}, ["embeddings.h5"], dump)
    with Embeddings(folder / "embeddings.h5") as embeddings:

        def measure_universality() -> None:
            write_frame(universality(embeddings, config=recipe.universality), folder / "universality.csv")

        def measure_probes() -> None:
            result = probe_with_predictions(embeddings, config=recipe.probe, progress=progress)
            for task, predictions in result.predictions.items():
                write_frame(predictions, folder / "predictions" / f"{slug(task)}.csv")
            write_frame(result.frame, folder / "probes.csv")

        def measure_tsne() -> None:
            maps, quality = tsne_with_quality(embeddings, config=recipe.tsne)
            write_frame(quality, folder / "tsne_quality.csv")
            write_frame(maps, folder / "tsne.csv")

        made_from = {"embeddings": stages.keys["embed"]}
        score = {**made_from, "protocol": PROTOCOL, "config": asdict(recipe.universality)}
        probes = {**made_from, "protocol": Protocol().id, "config": asdict(recipe.probe)}
        maps = {**made_from, "config": asdict(recipe.tsne)}
        stages.do("universality", score, ["universality.csv"], measure_universality)
        stages.do("probes", probes, ["probes.csv"], measure_probes)
        stages.do("tsne", maps, ["tsne.csv", "tsne_quality.csv"], measure_tsne)


class Stages:
    """Which stages of a run folder are done, and with which settings (`stages.json`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "stages.json"
        try:
            self.keys: dict[str, str] = json.loads(self.file.read_text())
        except (OSError, ValueError):
            self.keys = {}

    def do(self, stage: str, settings: dict[str, Any], files: list[str], action: Callable[[], object]) -> None:
        """Run `action` unless its files are there and were made with equal settings."""
        key = config_digest(settings)
        if self.keys.get(stage) == key and all((self.folder / name).is_file() for name in files):
            return
        logger.info("%s: %s", stage, self.folder)
        action()
        self.keys[stage] = key
        write_json(self.file, self.keys)


def summarise(chosen: list[Piece], folder: Path) -> Path:
    """Join the pieces' tables in `folder`, draw the figures and write the report."""
    import pandas as pd

    from reprkit.analysis.report import write_report

    for name in FRAMES:
        frames = [pd.read_csv(file) for piece in chosen if (file := piece.folder / f"{name}.csv").is_file()]
        if frames:
            write_frame(pd.concat(frames, ignore_index=True), folder / f"{name}.csv")
    return write_report(folder)


def parse_shard(text: str) -> tuple[int, int]:
    """`"2/8"` -> (1, 8): the second of eight shards.

    Raises:
        InputError: not of the form i/n with 1 <= i <= n.
    """
    first, slash, second = text.partition("/")
    if slash and first.isdigit() and second.isdigit() and 1 <= int(first) <= int(second):
        return int(first) - 1, int(second)
    raise InputError(f"--shard: '{text}' is not of the form i/n with 1 <= i <= n, such as 2/8")


def _finished(piece: Piece) -> bool:
    return all((piece.folder / f"{name}.csv").is_file() for name in FRAMES)


def _bar(total: int, unit: str, progress: bool) -> tqdm:
    return tqdm(total=total, unit=f" {unit}", desc=unit, dynamic_ncols=True, disable=None if progress else True)
