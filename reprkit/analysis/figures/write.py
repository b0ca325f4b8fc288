"""All figures of a sweep or run folder, written beside the numbers they show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.figures.additions import TITLE as ADDITIONS
from reprkit.analysis.figures.additions import additions_figure
from reprkit.analysis.figures.agreement import TITLE as AGREEMENT
from reprkit.analysis.figures.agreement import agreement_figure
from reprkit.analysis.figures.changes import changes_figure
from reprkit.analysis.figures.controls import controls_figure
from reprkit.analysis.figures.curves import curves_figure
from reprkit.analysis.figures.few_shot import few_shot_figure
from reprkit.analysis.figures.maps import tsne_figure
from reprkit.analysis.figures.probes import probe_figure
from reprkit.analysis.figures.sensitivity import sensitivity_figure
from reprkit.analysis.figures.universality import universality_figure
from reprkit.analysis.reporting.agreement import agreement_marks, can_agree
from reprkit.analysis.reporting.differences import differences
from reprkit.analysis.reporting.gains import addition_gains, seed_gains
from reprkit.analysis.reporting.joined import load_folders
from reprkit.analysis.reporting.results import Results, load_results
from reprkit.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_MAPPED_SEEDS = 3
TITLES = {
    "probes": "Simple predictors on frozen embeddings",
    "additions": ADDITIONS,
    "sensitivity": "Sensitivity to the classifier",
    "few_shot": "Accuracy by labelled samples a class",
    "differences": "Paired differences of test accuracy",
    "universality": "Universality, beside scale and dimension",
    "agreement": AGREEMENT,
    "controls": "Controls beside the encoders",
    "tsne": "t-SNE maps of the test embeddings",
    "curves": "Learning curves",
}


@dataclass(frozen=True)
class Drawn:
    """A figure, its file stem, its title, the frame it shows, and whether the report shows it."""

    name: str
    title: str
    figure: Figure
    data: pd.DataFrame
    in_report: bool = True


def draw_all(results: Results, changes: pd.DataFrame | None = None) -> Iterator[Drawn]:
    """The figures that the results allow, one after the other.

    Args:
        results: what `load_results` read.
        changes: result of `differences`; None computes it.
    """
    tasks = results.tasks
    if len(results.probes):
        yield Drawn("probes", TITLES["probes"], probe_figure(results.probes, tasks=tasks), results.probes)
    if len(results.probes) and len(results.sensitivity):
        spread = results.sensitivity
        figure = sensitivity_figure(spread, results.probes, tasks=tasks)
        yield Drawn("sensitivity", TITLES["sensitivity"], figure, spread)
    if len(results.few_shot) and results.few_shot["value"].notna().any():
        figure = few_shot_figure(results.few_shot, tasks=tasks)
        yield Drawn("few_shot", TITLES["few_shot"], figure, results.few_shot)
    gains = seed_gains(results)
    if sum(style.split_label(name)[1] != () for name in set(gains["encoder"])) > 1:  # one stands in the first table
        yield Drawn("additions", TITLES["additions"], additions_figure(gains), addition_gains(gains))
    changes = differences(results) if changes is None else changes
    if (changes["metric"] == "accuracy").any():
        yield Drawn("differences", TITLES["differences"], changes_figure(changes), changes)
    if len(results.universality):
        frame = results.universality
        heads = list(dict.fromkeys(frame["head"])) if "head" in frame else [None]
        for head in heads:
            name = "universality" if head == heads[0] else f"universality-{head}"
            data = frame if head is None else frame[frame["head"] == head]
            yield Drawn(name, TITLES["universality"], universality_figure(data, head=head, tasks=tasks), data)
    if can_agree(results):
        table = agreement_marks(results)
        yield Drawn("agreement", TITLES["agreement"], agreement_figure(table, tasks=tasks), table)
    if len(results.universality) and len(results.control_universality):
        controls = results.control_probes, results.control_universality
        figure = controls_figure(results.probes, results.universality, *controls, tasks=tasks)
        yield Drawn("controls", TITLES["controls"], figure, results.control_universality)
    if len(results.tsne):
        seeds = sorted({int(seed) for seed in results.tsne["seed"]})
        for seed in seeds[:MOST_MAPPED_SEEDS]:  # a picture of one seed invites stories that the next one does not tell
            figure = tsne_figure(results.tsne, tasks, results.tsne_quality, seed=seed)
            name = "tsne" if seed == seeds[0] else f"tsne-seed{seed}"
            data = results.tsne[results.tsne["seed"] == seed]
            yield Drawn(name, TITLES["tsne"], figure, data, in_report=seed == seeds[0])
    if len(results.curves):
        yield Drawn("curves", TITLES["curves"], _curves(results), results.curves)


def write_figures(results: Results | str | Path, out: str | Path | None = None) -> list[Path]:
    """Draw every figure that a folder's results allow and write each as PDF, PNG and CSV.

    Args:
        results: a sweep or run folder, or what `load_results` read from it.
        out: where to write; None is `figures/` in that folder.

    Returns:
        The paths written.
    """
    loaded = results if isinstance(results, Results) else load_results(results)
    folder = Path(out) if out is not None else loaded.folder / "figures"
    return [
        path
        for drawn in draw_all(loaded)
        for path in style.save(drawn.figure, folder / drawn.name, drawn.data, title=drawn.title)
    ]


def write_figure3a(folders: str | Path | Sequence[str | Path], out: str | Path) -> list[Path]:
    """Write the paper's Figure 3(a), simple predictors on frozen embeddings, as `figure3a.pdf`, `.png` and `.csv`.

    Args:
        folders: one or more that `reprkit run` wrote, of the same data.
        out: where to write.

    Raises:
        InputError: see `load_folders`; or there are no probes.
    """
    results = load_folders(folders)
    if not len(results.probes):
        raise InputError(f"{results.folder}: holds no probes.csv; probe the embeddings first")
    figure = probe_figure(results.probes, tasks=results.tasks)
    return style.save(figure, Path(out) / "figure3a", results.probes, title=TITLES["probes"])


def write_figure3b(
    folders: str | Path | Sequence[str | Path], out: str | Path, *, seed: int | None = None
) -> list[Path]:
    """Write the paper's Figure 3(b), t-SNE maps, as `figure3b.pdf`, `.png` and `.csv`.

    Args:
        folders: one or more that `reprkit run` wrote, of the same data.
        out: where to write.
        seed: training seed of the maps; None takes the lowest.

    Raises:
        InputError: see `load_folders`; or there are no maps, or none of that seed.
    """
    results = load_folders(folders)
    if not len(results.tsne):
        raise InputError(f"{results.folder}: holds no tsne.csv; map the embeddings first")
    figure = tsne_figure(results.tsne, results.tasks, results.tsne_quality, seed=seed)
    return style.save(figure, Path(out) / "figure3b", results.tsne, title=TITLES["tsne"])


def write_learning_curves(folders: str | Path | Sequence[str | Path], out: str | Path) -> list[Path]:
    """Write the learning curves as `learning_curves.pdf`, `.png` and `.csv`.

    Args:
        folders: one or more that `reprkit run` wrote, of the same data.
        out: where to write.

    Raises:
        InputError: see `load_folders`; or no run recorded its metrics.
    """
    results = load_folders(folders)
    if not len(results.curves):
        raise InputError(f"{results.folder}: holds no metrics.jsonl in any run; train first")
    return style.save(_curves(results), Path(out) / "learning_curves", results.curves, title=TITLES["curves"])


def _curves(results: Results) -> Figure:
    metrics = dict(zip(results.scores["task"], results.scores["metric"], strict=True))
    return curves_figure(results.curves, tasks=results.tasks, metrics=metrics)
