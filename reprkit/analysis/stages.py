"""What a run measures of one encoder: stages that read its embeddings and leave tables in its folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from reprkit.analysis.few_shot import COLUMNS as FEW_SHOT_COLUMNS
from reprkit.analysis.few_shot import FewShotProtocol, few_shot
from reprkit.analysis.maps.tsne import tsne_with_quality
from reprkit.analysis.probes import Protocol, probe_with_predictions
from reprkit.analysis.probes.protocol import expand_probes
from reprkit.analysis.sensitivity import COLUMNS as SENSITIVITY_COLUMNS
from reprkit.analysis.sensitivity import sensitivity
from reprkit.analysis.shape.catalogue import METRICS
from reprkit.analysis.shape.ordinal import ordinal_alignment
from reprkit.analysis.shape.table import COLUMNS as GEOMETRY_COLUMNS
from reprkit.analysis.shape.table import geometry
from reprkit.analysis.universal.score import PROTOCOL, universality
from reprkit.analysis.workspace import Workspace
from reprkit.files import slug, write_frame
from reprkit.recipe import Recipe


@dataclass(frozen=True)
class Stage:
    """One measurement.

    Attributes:
        files: what it leaves in the folder.
        settings: what decides its numbers besides the embeddings.
        measure: writes the files, from the workspace, the recipe, the folder, and whether to show bars.
    """

    files: tuple[str, ...]
    settings: Callable[[Recipe], Any]
    measure: Callable[[Workspace, Recipe, Path, bool], None]


def _universality(ws: Workspace, recipe: Recipe, folder: Path, progress: bool) -> None:
    write_frame(universality(ws, config=recipe.universality, progress=progress), folder / "universality.csv")


def _probes(ws: Workspace, recipe: Recipe, folder: Path, progress: bool) -> None:
    result = probe_with_predictions(ws, config=recipe.probe, progress=progress)
    for task, predictions in result.predictions.items():
        write_frame(predictions, folder / "predictions" / f"{slug(task)}.csv")
    spread = pd.DataFrame(columns=list(SENSITIVITY_COLUMNS))
    if len(expand_probes(recipe.probe.probes)) > 1:
        spread = sensitivity(result.predictions, tasks=ws.tasks, label=ws.label, seed=ws.seed)
    write_frame(spread, folder / "sensitivity.csv")
    write_frame(result.frame, folder / "probes.csv")


def _few_shot(ws: Workspace, recipe: Recipe, folder: Path, progress: bool) -> None:
    draws = recipe.probe.few_shot_draws
    found = few_shot(ws, draws=draws) if draws else pd.DataFrame(columns=list(FEW_SHOT_COLUMNS))
    write_frame(found, folder / "few_shot.csv")


def _geometry(ws: Workspace, recipe: Recipe, folder: Path, progress: bool) -> None:
    write_frame(geometry(ws, progress=progress), folder / "geometry.csv")


def _tsne(ws: Workspace, recipe: Recipe, folder: Path, progress: bool) -> None:
    maps, quality = tsne_with_quality(ws.embeddings, config=recipe.tsne)
    write_frame(quality, folder / "tsne_quality.csv")
    write_frame(maps, folder / "tsne.csv")


def _ordinal(ws: Workspace, recipe: Recipe, folder: Path, progress: bool) -> None:
    maps = pd.read_csv(folder / "tsne.csv", dtype={"id": "string", "task": "string"}).fillna({"task": ""})
    write_frame(ordinal_alignment(ws, maps=maps), folder / "ordinal.csv")


STAGES = {
    "universality": Stage(
        ("universality.csv",), lambda r: {"protocol": PROTOCOL, "config": asdict(r.universality)}, _universality
    ),
    "probes": Stage(
        ("probes.csv", "sensitivity.csv"), lambda r: {"protocol": Protocol().id, "config": asdict(r.probe)}, _probes
    ),
    "few_shot": Stage(
        ("few_shot.csv",), lambda r: {"protocol": FewShotProtocol(draws=r.probe.few_shot_draws).id}, _few_shot
    ),
    "geometry": Stage(("geometry.csv",), lambda r: {"columns": GEOMETRY_COLUMNS, "metrics": list(METRICS)}, _geometry),
    "tsne": Stage(("tsne.csv", "tsne_quality.csv"), lambda r: {"config": asdict(r.tsne)}, _tsne),
    "ordinal": Stage(("ordinal.csv",), lambda r: {"config": asdict(r.tsne)}, _ordinal),
}
"""Stages in their order; `ordinal` reads the map of `tsne`."""
