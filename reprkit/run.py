"""The whole way: a recipe of methods x seeds to its report, piece by piece.

Finished pieces are skipped, so a run can be killed at any moment and started again with the same command.

    OUT/  recipe.yaml environment.json selection.csv pieces.json
          probes.csv sensitivity.csv few_shot.csv universality.csv geometry.csv ordinal.csv controls.csv tsne.csv
          tsne_quality.csv figures/ report.html
          runs/<method>[/<grid point>]/seed<k>[/<task>]/   one encoder each, see `reprkit.pieces`
"""

from __future__ import annotations

import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from reprkit.config import grid_points, load_recipe, write_recipe
from reprkit.environment import environment
from reprkit.errors import Failed, InputError
from reprkit.files import check_out_folder, slug, working_in, write_frame, write_json
from reprkit.pieces import Piece, Stages, is_measured, measure, pieces, settings_of, train_piece
from reprkit.recipe import PROBES, ProbeConfig, Recipe, check_level
from reprkit.workers import Work, num_workers, spread

if TYPE_CHECKING:
    from reprkit.data.base import ImageDataset

logger = logging.getLogger(__name__)

DEMO = Recipe(
    name="demo",
    seeds=(0, 1),
    probe=ProbeConfig(probes=tuple(name for name in PROBES if name not in ("tree_rotated", "mlp"))),
)
"""What `reprkit demo` runs: the embedded digits with Single, Vanilla, Vanilla+DGR, without the two slowest probes."""


def run(
    recipe: Recipe | str | Path,
    out: str | Path | None = None,
    *,
    shard: tuple[int, int] = (0, 1),
    jobs: int | None = None,
    progress: bool = True,
) -> Path:
    """Train, test, embed, probe, measure and report every method x seed of a recipe.

    Args:
        recipe: a Recipe, or the path of a recipe file.
        out: folder of the run; None means `runs/<recipe name>`.
        shard: (i, n): train and measure only every n-th piece, from the i-th on. A shard that has to wait for
            others says so and returns; run again when all have returned, the last one writes the report.
        jobs: processes that share the pieces; with more than one, each gets its share of the cores. None means those
            of the `joblib.parallel_config(...)` that is open, such as one of dask, else 1: in this process, with the
            bars of each training. A method registered by hand (not by an entry point) is known to this process only.
        progress: show bars with the time left (never when the output is not a terminal).

    Returns:
        The report, or the folder if other shards are still at work.

    Raises:
        InputError: wrong settings or data.
        Failed: a method of which no encoder could be trained (the others are reported first), or a process that was
            killed.
        Interrupted: stopped by a signal; the same call continues.
    """
    from reprkit.data import load_dataset

    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe)
    folder = Path(out) if out is not None else Path("runs", slug(recipe.name))
    check_out_folder(folder)
    check_level(recipe, recipe.methods)
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise InputError(
            "torchrun trains or embeds one encoder: use it with `reprkit train` or `embed`, or run --jobs N"
        )
    workers = num_workers(jobs)
    for method in recipe.methods:
        grid_points(recipe, method)  # a wrong grid should not wait for the data
    dataset = load_dataset(recipe.data)
    every = list(pieces(recipe, folder, [task.name for task in dataset.tasks]))
    summary = dataset.summary().splitlines()
    for line in summary:
        logger.info("%s", line)
    folder.mkdir(parents=True, exist_ok=True)
    write_recipe(recipe, folder / "recipe.yaml")
    write_json(folder / "environment.json", {**environment(), "data": summary})
    share = slice(shard[0], None, shard[1])

    def each(work: Work, mine: list[Piece], name: str) -> None:
        quiet = None if progress else True
        with tqdm(total=len(mine), desc=name, unit="encoder", dynamic_ncols=True, disable=quiet) as bar:
            if workers > 1:
                spread(work, mine, dataset, recipe.data, jobs=jobs, advance=bar.update)
                return
            for piece in mine:
                work(piece, dataset, progress)
                bar.update()

    each(train_piece, every[share], "train")
    waiting = sum(not piece.is_trained and not piece.failure for piece in every)
    if waiting:
        return _wait(folder, f"{waiting} of {len(every)} encoders are not trained yet")
    chosen = select(every, folder)
    each(measure, chosen[share], "measure")
    waiting = sum(not is_measured(piece) for piece in chosen)
    if waiting:
        return _wait(folder, f"{waiting} of {len(chosen)} encoders are not measured yet")
    if chosen:
        measure_controls(chosen, folder, dataset, progress=progress)
    report = summarise(chosen, folder) if chosen else folder
    lost = [piece for piece in every if piece.failure and piece.method not in {c.method for c in chosen}]
    if lost:
        raise Failed(f"{lost[0].method} could not be trained: {lost[0].failure} (the rest: {report})")
    return report


def select(every: list[Piece], folder: Path) -> list[Piece]:
    """For each method the pieces of the grid point with the best validation score, averaged over seeds and tasks.

    A point of which a training failed is not chosen; of equal points the first is. Writes `selection.csv` (one row
    per method and point) and `pieces.json` (the chosen folders).
    """
    import pandas as pd

    rows = []
    for method, point in dict.fromkeys((piece.method, piece.point.name) for piece in every):
        own = [piece for piece in every if (piece.method, piece.point.name) == (method, point)]
        failures = [piece.failure for piece in own if piece.failure]
        score = sum(piece.val_score for piece in own) / len(own)
        rows.append({"method": method, "point": point, "val_score": score, "failed": failures[0] if failures else ""})
    table = pd.DataFrame(rows)
    usable = table[table.failed == ""].assign(rank=lambda t: t.val_score.fillna(-float("inf")))
    best = list(usable.groupby("method", sort=False)["rank"].idxmax()) if len(usable) else []
    table["chosen"] = table.index.isin(best)
    write_frame(table, folder / "selection.csv")
    winners = set(table[table.chosen].set_index(["method", "point"]).index)
    chosen = [piece for piece in every if (piece.method, piece.point.name) in winners]
    records = [
        {
            "encoder": piece.method,
            "seed": piece.seed,
            "task": piece.task,
            "point": piece.point.name,
            "folder": piece.folder.relative_to(folder).as_posix(),
        }
        for piece in chosen
    ]
    write_json(folder / "pieces.json", records)
    return chosen


def measure_controls(chosen: list[Piece], folder: Path, dataset: ImageDataset, *, progress: bool = True) -> None:
    """Embed the controls of a run into `controls/` and measure them there; skipped if it is done.

    Labels are shuffled for the first encoder of vanilla, or of the first method; pixels and the untrained encoder are
    those of its recipe.
    """
    from reprkit.analysis.controls import controls
    from reprkit.embeddings import Embeddings
    from reprkit.training.controls import embed_controls
    from reprkit.training.file_rows import file_tasks
    from reprkit.training.job import fingerprints
    from reprkit.training.positions import Positions

    piece = next((piece for piece in chosen if piece.method == "vanilla"), chosen[0])
    recipe, home = piece.point.recipe, folder / "controls"
    file = piece.folder / "embeddings.h5"
    tasks = [task.name for task in file_tasks(dataset.tasks, Positions.of(dataset, recipe.embed.positions))]
    settings = {
        "encoder": settings_of(piece)["universality"],
        "model": asdict(recipe.model),
        "data": fingerprints(dataset),
    }
    with working_in(home):
        stages = Stages(home)

        def measure() -> None:
            others = embed_controls(dataset, recipe, home, seed=piece.seed, progress=progress)
            with Embeddings(file) as embeddings:
                found = controls(embeddings, tasks=tasks, config=recipe.universality, others=others, progress=progress)
            write_frame(found.universality, home / "universality.csv")
            write_frame(found.probes, home / "probes.csv")

        stages.do("controls", settings, measure)


def summarise(chosen: list[Piece], folder: Path) -> Path:
    """Join the pieces' tables in `folder`, draw the figures and write the report."""
    import pandas as pd

    from reprkit.analysis.reporting.report import write_report
    from reprkit.analysis.stages import STAGES

    for name in [file for stage in STAGES.values() for file in stage.files]:
        frames = [pd.read_csv(piece.folder / name) for piece in chosen]
        write_frame(pd.concat(frames, ignore_index=True), folder / name)
    return write_report(folder)


def parse_shard(text: str) -> tuple[int, int]:
    """`"2/8"` -> (1, 8): the second of eight shards.

    Raises:
        InputError: not of the form i/n with 1 <= i <= n.
    """
    first, slash, second = text.partition("/")
    if slash and first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second):
        return int(first) - 1, int(second)
    raise InputError(f"--shard: '{text}' is not of the form i/n with 1 <= i <= n, such as 2/8")


def _wait(folder: Path, what: str) -> Path:
    logger.info("%s: run the same command again when the other shards have returned", what)
    return folder
