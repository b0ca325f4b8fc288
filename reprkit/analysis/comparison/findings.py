"""What is measured on the encoders of a comparison, one after the other: probes, universality, geometry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reprkit.analysis.comparison.measures import Drawn, Member, measured_rows, universality_drawn, universality_values
from reprkit.analysis.comparison.panel import Predictions
from reprkit.analysis.probes import probe_with_predictions
from reprkit.analysis.shape.table import geometry
from reprkit.analysis.universal.score import universality
from reprkit.analysis.universal.verdict import collapse_check
from reprkit.analysis.workspace import Workspace
from reprkit.recipe import ProbeConfig

MOST_PLACES = 4
"""So many places that a remark holds for are named; the others are counted."""


class Findings:
    """Collects what was measured, file by file; no file's embeddings are kept.

    Attributes:
        tables: task -> predictions of every encoder.
        rows: further rows of the result.
    """

    def __init__(self, tasks: Sequence[str], probes: tuple[str, ...], *, progress: bool) -> None:
        self.tables: dict[str, list[Predictions]] = {}
        self.rows: list[dict[str, Any]] = []
        self._tasks = list(tasks)
        self._config = ProbeConfig(probes=probes)
        self._progress = progress
        self._universality: list[pd.DataFrame] = []
        self._drawn: Drawn = {}
        self._geometry: list[pd.DataFrame] = []
        self._order: NDArray | None = None
        self._remarks: dict[str, list[str]] = {}
        self._grouped = ""

    def measure(self, member: Member, parts: Sequence[str], bar: Any) -> None:
        """Probe and measure one encoder; `bar` moves on by one for each of `parts`."""
        space, label = Workspace.of(member.file), member.encoder
        self._grouped = self._grouped or space.groups
        options: dict[str, Any] = {"tasks": self._tasks, "label": label, "progress": self._progress}
        if "probes" in parts:
            bar.set_postfix_str(f"{label}: probes")
            result = probe_with_predictions(space, config=self._config, **options)
            for name, table in result.predictions.items():
                own = result.frame[result.frame["task"] == name]
                protocols = dict(zip(own["probe"], own["protocol_id"], strict=True))
                self.tables.setdefault(name, []).append((label, 0, table, protocols))
            odd = result.frame[result.frame["status"] != "ok"].drop_duplicates(["task", "probe"])
            for status, task, name in odd[["status", "task", "probe"]].itertuples(index=False, name=None):
                self._remarks.setdefault(f"Probes, {status}", []).append(f"{label} / {task} / {name}")
            bar.update()
        if "universality" in parts:
            bar.set_postfix_str(f"{label}: universality")
            self._universality.append(universality(space, **options).assign(seed=0))
            if self._order is None:
                self._order = space.ids("test")
            if np.array_equal(self._order, space.ids("test")):  # resamples count rows by place
                self._drawn |= universality_drawn(space, self._tasks, label)
            bar.update()
        if "geometry" in parts:
            bar.set_postfix_str(f"{label}: geometry")
            self._geometry.append(geometry(space, **options).assign(seed=0, name="", protocol_id=""))
            bar.update()

    def measured(self, encoders: Sequence[str], baseline: str) -> list[dict[str, Any]]:
        """Rows of universality and geometry, and those that were added."""
        rows = []
        if self._universality:
            values = universality_values(pd.concat(self._universality, ignore_index=True))
            rows += measured_rows(values, "universality", encoders, baseline, drawn=self._drawn)
        if self._geometry:
            values = pd.concat(self._geometry, ignore_index=True)
            rows += measured_rows(values[values["value"].notna()], "geometry", encoders, baseline)
        return rows + self.rows

    def notes(self, baseline: str) -> list[str]:
        """What limits the measurements, in sentences."""
        told = [
            "Intervals cover the choice of test samples only: another training run may differ by more"
            " (`reprkit compare --seeds` covers both)."
        ]
        if self._grouped:
            told.append(
                f"Samples come in groups (ids up to '{self._grouped}', such as the pixels of an image): intervals"
                " resample groups, and there is no McNemar test, which needs independent samples."
            )
        frame = pd.concat(self._universality, ignore_index=True) if self._universality else None
        if frame is not None:
            odd = frame[~frame["status"].astype(str).str.fullmatch("ok")]
            for status, encoder, task in odd[["status", "encoder", "task"]].itertuples(index=False, name=None):
                self._remarks.setdefault(f"Universality, {status}", []).append(f"{encoder} / {task}")
        for remark, places in self._remarks.items():
            more = f" and {len(places) - MOST_PLACES} more" if len(places) > MOST_PLACES else ""
            told.append(f"{remark}: {', '.join(places[:MOST_PLACES])}{more}.")
        return told if frame is None else told + [f"{sentence}." for sentence in collapse_check(frame, baseline)]
