"""docs/results.md documents every column that is written, and none that is not."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from reprkit.analysis.comparison import pairs, pareto
from reprkit.analysis.maps.tsne import tsne_with_quality
from reprkit.analysis.probes import probe_with_predictions
from reprkit.analysis.probes import table as probe_table
from reprkit.analysis.probes.metrics import MOST_RECALLS, metrics_of
from reprkit.analysis.probes.protocol import FLOOR, HEAD
from reprkit.analysis.reporting import agreement, dummies_table, score_tables
from reprkit.analysis.reporting import verdicts as report_verdicts
from reprkit.analysis.reporting.cost import COST_COLUMNS
from reprkit.analysis.reporting.gains import GAIN_COLUMNS
from reprkit.analysis.shape.catalogue import METRICS
from reprkit.embeddings import Embeddings
from reprkit.recipe import PROBES, ProbeConfig, TsneConfig, UniversalityConfig
from reprkit.tasks import Task

few_shot, few_shot_summary, geometry, ordinal, sensitivity, universality, universality_pairs = (
    importlib.import_module(f"reprkit.analysis.{name}")  # the package has functions of some of these names
    for name in (
        "few_shot",
        "few_shot_summary",
        "shape.table",
        "shape.ordinal",
        "sensitivity",
        "universal.score",
        "universal.pairs",
    )
)
ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "results.md"

CONSTANTS: dict[str, Iterable[str]] = {
    "probes": probe_table.COLUMNS,
    "universality": universality.COLUMNS,
    "universality_pair": universality_pairs.COLUMNS,
    "geometry": geometry.COLUMNS,
    "similarity": geometry.PAIR_COLUMNS,
    "ordinal": ordinal.COLUMNS,
    "few_shot": few_shot.COLUMNS,
    "few_shot_curves": few_shot_summary.CURVE_COLUMNS,
    "few_shot_summary": few_shot_summary.COLUMNS,
    "sensitivity": sensitivity.COLUMNS,
    "sensitivity_differences": sensitivity.DIFFERENCE_COLUMNS,
    "compare": pairs.COLUMNS,
    "pareto": pareto.COLUMNS,
    "dgr_gain": [*GAIN_COLUMNS, "alone"],
    "table2": score_tables.COLUMNS,
    "table2_dgr_gain": [*score_tables.BLOCK, *GAIN_COLUMNS, "alone"],
    "table4a": dummies_table.COLUMNS,
    "cost_table": COST_COLUMNS,
    "universality_vs_probe": agreement.MARK_COLUMNS,
    "universality_vs_probe_test": agreement.TEST_COLUMNS,
    "verdicts": report_verdicts.VERDICT_COLUMNS,
}
FRAMES = ("predictions/*", "tsne", "tsne_quality", "selection", "table1")
"""Tables without a constant: held to a table that is made here."""


def sections() -> dict[str, str]:
    """File name without .csv -> text below its heading."""
    parts = re.split(r"^## (.+)\.csv$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def documented(text: str, heading: str = "Column") -> list[str]:
    """Names in the first cells of the table with this heading, in order."""
    rows = re.search(rf"^\| {heading} \| Meaning \|\n\|---\|---\|\n((?:\|.*\|\n)*)", text + "\n", flags=re.MULTILINE)
    return [
        name for row in (rows[1] if rows else "").splitlines() for name in re.findall(r"`(.+?)`", row.split("|")[1])
    ]


@pytest.fixture(scope="module")
def embeddings() -> Embeddings:
    rng = np.random.default_rng(0)
    kind, size = rng.integers(0, 3, 240), rng.normal(size=240)
    z = rng.normal(size=(240, 6)) + kind[:, None]
    tasks = [Task("kind", "ordinal", 3), Task("size", "regression", 1)]
    split = ["train"] * 140 + ["val"] * 40 + ["test"] * 60
    return Embeddings.from_arrays(z, {"kind": kind, "size": size}, tasks=tasks, split=split)


def test_every_table_has_a_section() -> None:
    assert sorted(sections()) == sorted([*CONSTANTS, *FRAMES])


@pytest.mark.parametrize("name", CONSTANTS)
def test_columns_are_those_of_the_constant_in_order(name: str) -> None:
    assert documented(sections()[name]) == list(CONSTANTS[name])


def test_every_constant_that_names_columns_is_known() -> None:
    """A module that gains a table of its own must be documented, or be named here with the reason why not."""
    inner = {
        "reporting/differences": "of the report alone",
        "figures/controls": "columns that are read",
        "figures/maps": "columns that are read",
        "reporting/results": "own scores, of test_scores.json",
        "reporting/training_log": "of a figure alone",
    }
    found = set()
    for path in (ROOT / "reprkit" / "analysis").rglob("*.py"):
        if re.search(r"^([A-Z]+_)?COLUMNS\b.*= *[\[(]", path.read_text(encoding="utf-8"), flags=re.MULTILINE):
            found.add(path.relative_to(ROOT / "reprkit" / "analysis").with_suffix("").as_posix())
    modules = {"comparison/pairs", "comparison/pareto", "few_shot", "few_shot_summary", "shape/ordinal"}
    modules |= {"shape/table", "probes/table", "sensitivity", "universal/pairs", "universal/score"}
    tables = {"agreement", "cost", "dummies_table", "gains", "score_tables", "verdicts"}
    assert found == modules | {f"reporting/{name}" for name in tables} | set(inner)


def test_what_the_probes_write(embeddings: Embeddings) -> None:
    result = probe_with_predictions(embeddings, config=ProbeConfig(probes=("knn", "tree_rotated"), bootstrap=10))
    text = sections()["probes"]
    assert list(result.frame.columns) == documented(text)
    named = [re.sub(r"^recall\[.*\]$", "recall[<class>]", each) for each in result.frame.metric]
    known = [metrics_of(task, True) for task in (*embeddings.tasks.values(), Task("x", "classification", 2))]
    known += [metrics_of(Task("x", "classification", MOST_RECALLS + 1), True)]
    every = {re.sub(r"\[.*", "[<class>]", metric) for metrics in known for metric in metrics}
    assert set(named) <= set(documented(text, "Metric")) == every
    assert set(documented(text, "Probe")) == {FLOOR, HEAD, *PROBES}
    general = documented(sections()["predictions/*"])
    assert general[1] == "group"  # of files whose rows come in groups alone
    for table in result.predictions.values():
        columns = [re.sub(r"\[[0-9]+\]$", "", column) for column in table.columns]
        assert [*columns[:2], "<probe>"] == [general[0], *general[2:4]]
        assert set(columns[2:]) <= set(documented(text, "Probe"))


def test_what_the_probes_write_of_pixels() -> None:
    rng = np.random.default_rng(0)
    kind, image = rng.integers(0, 2, 120), np.repeat(np.arange(30), 4)
    ids = [f"image{name}#{i},0" for i, name in enumerate(image)]
    z, split = rng.normal(size=(120, 2)), np.array(["train", "val", "test"])[image % 3]
    pixels = Embeddings.from_arrays(z, {"kind": kind}, ids=ids, split=split, meta={"groups": "#"})
    table = probe_with_predictions(pixels, config=ProbeConfig(probes=("ncm",), bootstrap=10)).predictions["kind"]
    assert [*table.columns[:3], "<probe>"] == documented(sections()["predictions/*"])


def test_what_universality_writes(embeddings: Embeddings) -> None:
    frame = universality.universality(embeddings, config=UniversalityConfig(num_dummies=8, bootstrap=10))
    assert list(frame.columns) == documented(sections()["universality"])


def test_what_the_map_writes(embeddings: Embeddings) -> None:
    made = tsne_with_quality(embeddings, config=TsneConfig(samples=40, perplexity=5, iterations=20))
    for name, frame in zip(("tsne", "tsne_quality"), made, strict=True):
        general = [re.sub("^(hit_|chance_)?(kind|size)$", r"\1<task>", column) for column in frame.columns]
        assert list(dict.fromkeys(general)) == documented(sections()[name])


def test_what_the_geometry_writes(embeddings: Embeddings) -> None:
    tables = {
        "geometry": geometry.geometry(embeddings, progress=False),
        "similarity": geometry.similarity(embeddings, embeddings),
        "ordinal": ordinal.ordinal_alignment(embeddings),
    }
    for name, frame in tables.items():
        text = sections()[name]
        assert list(frame.columns) == documented(text)
        assert {metric.partition(":")[0] for metric in frame.metric} <= set(documented(text, "Metric"))
    both = {"similarity": [m for m in METRICS.values() if m.needs.startswith("pair")]}
    both["geometry"] = [m for m in METRICS.values() if not m.needs.startswith("pair")]
    for name, metrics in both.items():
        for metric in metrics:
            assert f"| `{metric.name}` | {meaning(metric)} |\n" in sections()[name], f"write into {name}: see `meaning`"
        assert documented(sections()[name], "Metric") == [metric.name for metric in metrics]
    assert documented(sections()["ordinal"], "Metric") == list(ordinal.METRICS)


def meaning(metric: Any) -> str:
    """Cell of the page on a metric of the catalogue."""
    better = f"; {metric.direction} is better" if metric.direction else ""
    source = "" if metric.source == "-" else f" ({metric.source})"
    return metric.meaning.replace("|", "\\|") + better + source


def test_what_the_few_shot_curves_write(embeddings: Embeddings) -> None:
    frame = few_shot.few_shot(embeddings, tasks=["kind"], draws=2, shots=(1, 2))
    tables = {
        "few_shot": frame,
        "few_shot_curves": few_shot_summary.learning_curves(frame),
        "few_shot_summary": few_shot_summary.summarise_few_shot(frame),
    }
    for name, table in tables.items():
        assert list(table.columns) == documented(sections()[name])
    probes, metrics = (documented_words(sections()["few_shot"], column) for column in ("probe", "metric"))
    assert (probes, metrics) == (set(few_shot.PROBES), set(few_shot.METRICS))


def documented_words(text: str, column: str) -> set[str]:
    """Words in backticks in the row of a column."""
    row = next(line for line in text.splitlines() if line.startswith(f"| `{column}` |"))
    return set(re.findall(r"`(\w+)`", row.split("|")[2]))


def test_what_a_run_and_its_tables_write(tmp_path: Path) -> None:
    from reprkit import run
    from reprkit.analysis.reporting import method_table as tables

    class Trained:
        """What `select` reads of an encoder."""

        method, seed, task, failure, val_score = "vanilla", 0, None, "", 0.5
        point = type("Point", (), {"name": "a"})()
        folder = tmp_path / "x"

    run.select([Trained()], tmp_path)  # type: ignore[list-item]
    assert list(pd.read_csv(tmp_path / "selection.csv").columns) == documented(sections()["selection"])
    written = (ROOT / "reprkit" / "analysis" / "reporting" / "method_table.py").read_text(encoding="utf-8")
    assert documented(sections()["table1"]) == re.findall(r'"(\w+)": (?:name|column|c\.\w+)', written)
    assert callable(tables.write_table1)


def test_lines_are_short_outside_tables() -> None:
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        assert len(line) <= 130 or line.startswith("|"), line
