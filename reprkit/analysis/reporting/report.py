"""The report of a sweep or run: one HTML file that needs no network, made from the result files of its folder."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprkit.analysis import style
from reprkit.analysis.figures.write import draw_all
from reprkit.analysis.reporting.cautions import warning_sentences
from reprkit.analysis.reporting.cells import all_tables, cost_section
from reprkit.analysis.reporting.cost import save_cost_table
from reprkit.analysis.reporting.differences import differences, universality_differences
from reprkit.analysis.reporting.geometry import shape_tables
from reprkit.analysis.reporting.method_table import save_table1
from reprkit.analysis.reporting.protocol import compared_rows, repeat_commands
from reprkit.analysis.reporting.results import Results, load_results
from reprkit.analysis.reporting.summary import compared_sentence, summary_findings
from reprkit.analysis.reporting.verdicts import verdicts, verdicts_table
from reprkit.files import write_text

if TYPE_CHECKING:
    import pandas as pd

CAPTIONS = {
    "additions": "Compare the paper's Figure 2. The change of a method with an addition is paired over seeds in the"
    " CSV file; intervals that overlap here may still differ there.",
    "probes": "Compare the paper's Figure 3a. An encoder that lets every simple predictor do well is a universal one.",
    "sensitivity": "The paper's claim about Figure 3a as a number: how much the choice of the predictor matters, as the"
    " spread over predictors of the share of the gain over the floor, freed of sampling noise (0: not at all).",
    "few_shot": "Nested draws from the train split, the same for every encoder; nothing is chosen on validation labels."
    " An encoder trained for a task has seen all its training labels.",
    "differences": "Paired differences of test accuracy, in points: an encoder minus the one it is compared with, over"
    " the same test samples. Cells that are not bold may be noise.",
    "universality": "U_rel, U_rel_τ and U: how much of the usable information a fresh, untrained head already has. RMS,"
    " effective rank and L*: scale, dimension and held-out loss. Shrinking or collapsing z raises U without making z"
    " more useful, so a higher U counts only where RMS and effective rank stay and L* does not rise.",
    "controls": "The same measurements where z or the labels say nothing (constant, shuffled labels) and where nothing"
    " was trained (raw pixels, the encoder before its first step).",
    "tsne": "Compare the paper's Figure 3b. The same test samples for every encoder, started from principal components"
    " and turned onto one another. A map shows neighbourhoods, not distances; what it keeps stands under it.",
    "agreement": "The paper's implicit claim as a test: does an encoder of higher universality probe better? An encoder"
    " counts once, by its mean over seeds; with a handful of encoders the interval is wide.",
    "curves": "Loss and validation score of every task by epoch.",
}


def write_report(folder: str | Path) -> Path:
    """Draw the figures of a sweep or run folder and write its `report.html`.

    Reads the result files that are there (see `reporting.results`), writes `figures/` (PDF, PNG, CSV), `tables/`
    (CSV, Markdown, LaTeX) and `report.html`: self-contained, without a network reference, the same bytes for the same
    results. Its links lead to files beside it.

    Returns:
        The path of the report.

    Raises:
        InputError: the folder does not exist or holds no results, or a result file cannot be read.
    """
    results = load_results(folder)
    changes = differences(results)
    u_changes = universality_differences(results.universality)
    save_tables(results, verdicts(results, changes, u_changes))
    figures = []
    for drawn in draw_all(results, changes):
        stem = results.folder / "figures" / drawn.name
        _, png, _ = style.save(drawn.figure, stem, drawn.data, title=drawn.title)
        caption = next((text for name, text in CAPTIONS.items() if drawn.name.startswith(name)), "")
        image = base64.b64encode(png.read_bytes()).decode("ascii")
        if drawn.in_report:
            width = round(drawn.figure.get_figwidth() * 100)
            figures.append(
                {"name": drawn.name, "title": drawn.title, "caption": caption, "image": image, "width": width}
            )
    path = results.folder / "report.html"
    write_text(path, render(results, figures, changes, u_changes))
    return path


def save_tables(results: Results, records: pd.DataFrame) -> None:
    """Write the tables that the report makes itself into `tables/` of the folder, as CSV (and Markdown and LaTeX)."""
    out = results.folder / "tables"
    if len(results.scores):
        save_table1(results, out)
    if cost_section(results):
        save_cost_table(results, out)
    if len(records):
        style.write_csv(records, out / "verdicts.csv")


def render(
    results: Results,
    figures: list[dict[str, Any]],
    changes: pd.DataFrame | None = None,
    universality_changes: pd.DataFrame | None = None,
) -> str:
    """The HTML of a report. Names and labels from files are escaped: they stay text.

    Args:
        results: what `load_results` read.
        figures: name, title, caption, image (base64 PNG) and width (CSS pixels) of each figure.
        changes: result of `differences`; None computes it.
        universality_changes: result of `universality_differences`; None computes it.
    """
    from jinja2 import Environment

    changes = differences(results) if changes is None else changes
    u_changes = universality_differences(results.universality) if universality_changes is None else universality_changes
    templates = resources.files("reprkit.analysis") / "templates"
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((templates / "report.html.j2").read_text(encoding="utf-8"))
    tables = [
        *verdicts_table(verdicts(results, changes, u_changes)),
        *all_tables(results, changes),
        *shape_tables(results),
    ]
    return template.render(
        title=str(results.recipe.get("name") or results.folder.resolve().name),
        version=results.environment.get("reprkit") or "",
        lead=compared_sentence(results),
        findings=summary_findings(results, changes, u_changes),
        warnings=warning_sentences(results, changes),
        compared=compared_rows(results),
        tables=tables,
        sources={table.name for table in tables if (results.folder / table.source).is_file()},
        figures=figures,
        commands=repeat_commands(results),
        recipe=_recipe_text(results.folder),
        environment=_rows(results.environment),
    )


def _recipe_text(folder: Path) -> str:
    path = folder / "recipe.yaml"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _rows(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The environment as (name, value) lines; packages one a line."""
    rows = []
    for name, value in environment.items():
        if name == "command":
            continue
        inner = value.items() if isinstance(value, Mapping) else [(name, value)]
        rows += [(str(k), v if isinstance(v, str) else json.dumps(v)) for k, v in inner]
    return rows
