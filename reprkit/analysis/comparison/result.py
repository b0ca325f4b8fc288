"""What a comparison found, on the screen and on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.comparison.pairs import (
    COLUMNS,
    SEED_COLUMNS,
    adjust,
    paired_rows,
    predictors,
    seed_rows,
    unmatched,
)
from reprkit.analysis.comparison.panel import Panel, resampled_scores
from reprkit.analysis.comparison.pareto import pareto_rows, pareto_sentences
from reprkit.analysis.comparison.text import plain_text, report_text
from reprkit.errors import InputError
from reprkit.files import write_frame, write_text
from reprkit.tasks import Task

VIEW = "linear"
"""Predictor of the Pareto view, where it is among those compared."""


@dataclass(frozen=True)
class Comparison:
    """Encoders against one of them.

    Attributes:
        frame: rows of `reprkit.analysis.comparison.pairs.COLUMNS`.
        pareto: rows of `pareto_rows`.
        seeds: values of single training seeds: task, name, metric, encoder, baseline, seed, difference; empty where
            there is one.
        tasks: the tasks compared.
        encoders: labels, the baseline among them, in order.
        baseline: label.
        view: predictor of the Pareto view.
        notes: sentences on what limits the comparison.
    """

    frame: pd.DataFrame
    pareto: pd.DataFrame
    seeds: pd.DataFrame
    tasks: Mapping[str, Task]
    encoders: tuple[str, ...]
    baseline: str
    view: str
    notes: tuple[str, ...] = field(default=())

    @property
    def sentences(self) -> list[str]:
        """Who gains what at which price, and who is dominated."""
        if not self.view:
            return []
        probes = self.frame[self.frame["kind"] == "probe"]
        return pareto_sentences(self.pareto, probes, self.view)

    def text(self) -> str:
        """Tables and sentences for a terminal."""
        return plain_text(self.frame, self.sentences, self.notes, self.view)

    def write(self, out: str | Path) -> list[Path]:
        """Write compare.csv, pareto.csv, compare.md and the figures (PDF, PNG, CSV) to a folder.

        Returns:
            The paths written.
        """
        from reprkit.analysis.figures.compare import comparison_figures

        out = Path(out)
        write_frame(self.frame, out / "compare.csv")
        write_frame(self.pareto, out / "pareto.csv")
        written, pictures = [out / "compare.csv", out / "pareto.csv"], []
        for name, title, figure, data in comparison_figures(self):
            written += style.save(figure, out / "figures" / name, data, title=title)
            pictures.append((f"figures/{name}", title))
        write_text(out / "compare.md", report_text(self.frame, self.sentences, self.notes, self.view, pictures))
        return [*written, out / "compare.md"]


def assemble(
    panels: Sequence[Panel],
    encoders: Sequence[str],
    baseline: str,
    view: str | None,
    tasks: Mapping[str, Task],
    others: list[dict[str, Any]],
    notes: Sequence[str],
) -> Comparison:
    """Compare the predictions of all panels and put everything into one result.

    Raises:
        InputError: `view` names no predictor.
    """
    known = list(dict.fromkeys(name for panel in panels for name in predictors(panel)))
    if view is not None and view not in known:
        raise InputError(f"view '{view}' is not among the predictors compared: {', '.join(known) or 'none'}")
    scores = [resampled_scores(panel) for panel in panels]
    rows, seeds, told = [], [], []
    for panel, scored in zip(panels, scores, strict=True):
        rows += paired_rows(panel, scored, encoders, baseline)
        seeds += seed_rows(panel, scored, encoders, baseline)
        told += unmatched(panel, encoders, baseline)
    frame = pd.DataFrame([*rows, *others], columns=list(COLUMNS))
    frame = adjust(frame.assign(**{name: frame[name].astype(object).where(frame[name].notna(), "") for name in _TEXT}))
    chosen = view or (VIEW if VIEW in known else known[0] if known else "")
    return Comparison(
        frame=frame,
        pareto=pareto_rows(panels, scores, encoders, baseline),
        seeds=pd.DataFrame(seeds, columns=list(SEED_COLUMNS)),
        tasks=tasks,
        encoders=tuple(encoders),
        baseline=baseline,
        view=chosen,
        notes=(*notes, *(f"{sentence}." for sentence in told)),
    )


_TEXT = ("kind", "task", "name", "metric", "encoder", "baseline", "interval", "reading", "protocol_id")
