"""Universality against what a probe reaches, encoder by encoder: the paper's implicit claim, drawn and tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.figures import marks
from reprkit.analysis.reporting.agreement import agreement_marks, agreement_tests, correlation_text
from reprkit.analysis.reporting.headlines import PROBE_NAMES, task_order
from reprkit.analysis.reporting.joined import load_folders
from reprkit.analysis.reporting.metric_names import metric_name
from reprkit.analysis.reporting.typeset import MINUS
from reprkit.errors import InputError
from reprkit.tasks import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Universality against probe accuracy"
SCORE_NAMES = {"U_rel": "U_rel", "U_rel_tau": "U_rel_τ", "U": "U = 1/gap (nats⁻¹)"}
CONTROL_MARKERS = {"constant": "x", "shuffled": "+", "pixels": "1", "random_init": "2"}


def agreement_figure(table: pd.DataFrame, *, tasks: Mapping[str, Task] | None = None) -> Figure:
    """A panel a task: a mark an encoder and seed, universality across, the probe's accuracy (or R²) up.

    Above each panel: Spearman's rank correlation over the encoders' means over seeds, with its 95% interval, the
    permutation p-value and the number of encoders. Controls are grey and do not count; those so far off that the
    encoders would fill less than a third of an axis are named in a corner.

    Args:
        table: rows of `agreement_marks`.
        tasks: task records, for the order of panels.

    Raises:
        InputError: there is no mark of an encoder.
    """
    own = table[~table["control"].astype(bool)]
    if not len(own):
        raise InputError("universality against probes: no encoder has both; probe and measure the embeddings first")
    names = task_order(own["task"], list(tasks or ()))
    tests = {str(row["task"]): row for _, row in agreement_tests(table).iterrows()}
    encoders = style.encoder_order(own["encoder"])
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    crowded = len(encoders) > marks.MOST_BESIDE
    with style.context():
        legend = 0.2 * (-(-len(encoders) // 4))
        figure = style.new_figure(max(2.6 * columns, 4.4), 2.5 * rows + 0.6 + legend)
        panels = marks.grid(figure, len(names), columns=columns)
        for number, (axes, task) in enumerate(zip(panels, names, strict=True)):
            mine = table[table["task"] == task]
            _panel(axes, mine, encoders, small=crowded)
            axes.set_title(task, pad=15)
            axes.text(
                0.5, 1.02, correlation_text(tests[task]), transform=axes.transAxes, ha="center", va="bottom",
                fontsize=6.8, color="#333333",
            )  # fmt: skip
            metric = str(mine["metric"].iloc[0])
            probe = PROBE_NAMES.get(str(mine["probe"].iloc[0]), str(mine["probe"].iloc[0]))
            axes.set_xlabel(SCORE_NAMES[str(mine["score"].iloc[0])])
            if number % columns == 0 or metric != str(table.loc[table["task"] == names[number - 1], "metric"].iloc[0]):
                axes.set_ylabel(f"{probe} probe: {metric_name(metric) if metric == 'r2' else 'accuracy'}")
        _legend(figure, table, encoders)
        marks.note(
            figure,
            "A mark: one encoder and seed. rho: Spearman's rank correlation over the encoders' means over seeds, with a"
            " 95% interval; p by permutation. Grey: controls, which do not count.",
        )
    return figure


def write_agreement(
    folders: str | Path | Sequence[str | Path], out: str | Path, *, score: str = "U_rel", probe: str = "linear"
) -> list[Path]:
    """Write `universality_vs_probe.pdf`, `.png` and `.csv` (the marks), and `universality_vs_probe_test.csv`.

    Args:
        folders: one or more that `reprkit run` wrote, of the same data.
        out: where to write.
        score, probe: see `agreement_marks`.

    Returns:
        The paths written.

    Raises:
        InputError: see `load_folders` and `agreement_marks`.
    """
    results, out = load_folders(folders), Path(out)
    table = agreement_marks(results, score=score, probe=probe)
    stem = out / "universality_vs_probe"
    written = style.save(agreement_figure(table, tasks=results.tasks), stem, table, title=TITLE)
    test = out / "universality_vs_probe_test.csv"
    style.write_csv(agreement_tests(table), test)
    return [*written, test]


def _panel(axes: Axes, table: pd.DataFrame, encoders: Sequence[str], *, small: bool) -> None:
    look = style.encoder_styles(encoders)
    own = table[~table["control"].astype(bool)]
    controls = table[table["control"].astype(bool)].groupby("encoder", sort=False)
    shown, outside = _nearby(own[["x", "y"]], controls[["x", "y"]].mean())
    for name, group in controls:
        if name in shown.index:
            axes.scatter(
                group["x"], group["y"], s=34, color=style.GREY, marker=CONTROL_MARKERS.get(str(name), "x"),
                linewidths=1.1, label=f"_control {name}", zorder=2,
            )  # fmt: skip
    for encoder in encoders:
        mine = own[own["encoder"] == encoder]
        if len(mine):
            axes.scatter(
                mine["x"], mine["y"], s=14 if small else 24, alpha=0.9, linewidths=0, label=encoder, zorder=3,
                **look[encoder],
            )  # fmt: skip
    for column, limit in (("x", axes.set_xlim), ("y", axes.set_ylim)):
        low, high = _ends(pd.concat([own[column], shown[column]]))
        margin = 0.07 * (high - low)
        lines = len(outside) + (len(outside) > 1) if column == "y" else 0  # of words below the marks
        limit(low - margin - 0.08 * lines * (high - low), high + margin)
    axes.locator_params(axis="x", nbins=4)
    axes.locator_params(axis="y", nbins=5)
    axes.grid(visible=True)
    axes.ticklabel_format(useOffset=False)
    if len(outside):
        told = [f"{style.display(str(name))} ({x:.2f}, {y:.2f})" for name, (x, y) in outside.iterrows()]
        text = "outside:" + ("\n" if len(told) > 1 else " ") + "\n".join(told)
        axes.text(
            0.03, 0.02, text.replace("-", MINUS),
            transform=axes.transAxes, fontsize=6, color=style.GREY, va="bottom", zorder=5,
        )  # fmt: skip


def _ends(values: pd.Series) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    spare = max(0.0, 0.02 * max(abs(high), abs(low), 1e-3) - (high - low)) / 2  # one value alone has no span
    return low - spare, high + spare


def _nearby(own: pd.DataFrame, controls: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Controls that leave the encoders a third of both axes, the nearest first, and those that do not."""

    def span(rows: pd.DataFrame) -> pd.Series:
        return rows.apply(lambda column: np.subtract(*_ends(column)[::-1]))

    shown = own
    reach = {name: float((span(pd.concat([own, controls.loc[[name]]])) / span(own)).max()) for name in controls.index}
    order = sorted(reach, key=lambda name: reach[name])
    for name in order:
        wider = pd.concat([shown, controls.loc[[name]]])
        if (span(wider) <= 3 * span(own)).all():
            shown = wider
    kept = [name for name in controls.index if name in set(shown.index[len(own) :])]
    return controls.loc[kept], controls.drop(index=kept)


def _legend(figure: Figure, table: pd.DataFrame, encoders: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    look = style.encoder_styles(encoders)
    shown = [(style.display(name), look[name]) for name in encoders]
    controls = [str(name) for name in dict.fromkeys(table.loc[table["control"].astype(bool), "encoder"])]
    shown += [
        (style.display(name), {"color": style.GREY, "marker": CONTROL_MARKERS.get(name, "x")}) for name in controls
    ]
    handles = [Line2D([], [], linestyle="none", markersize=5, **kind) for _, kind in shown]
    names = [name for name, _ in shown]
    fit = max(1, min(int(figure.get_figwidth() / (0.075 * max(map(len, names)) + 0.5)), 6))
    lines = -(-len(names) // fit)
    figure.legend(handles, names, loc="outside upper center", ncols=-(-len(names) // lines))
