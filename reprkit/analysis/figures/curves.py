"""Training curves from the metrics of training runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.figures import marks
from reprkit.errors import InputError
from reprkit.tasks import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_DETAILED = 6
COLUMNS = ["encoder", "seed", "task", "quantity", "split", "epoch", "value"]


def read_curves(runs: Sequence[tuple[str, int, Path]]) -> pd.DataFrame:
    """The metrics of training runs as one row an epoch, split and quantity.

    Args:
        runs: (encoder, seed, path of metrics.jsonl).

    Returns:
        Columns encoder, seed, task, quantity (loss, score or penalty), split, epoch, value; several records of an
        epoch are averaged. An unfinished last line, left by a kill, is skipped.

    Raises:
        InputError: another line is not a JSON object.
    """
    rows: list[tuple[Any, ...]] = []
    for encoder, seed, path in runs:
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
                epoch, split = int(record["epoch"]), str(record["split"])
            except (ValueError, KeyError, TypeError):
                if number == len(lines):
                    break
                raise InputError(f"{path}: line {number} is not a metrics record; delete that line") from None
            for quantity in ("loss", "score"):
                for task, value in (record.get(quantity) or {}).items():
                    rows.append((encoder, seed, task, quantity, split, epoch, _number(value)))
            if record.get("penalty") is not None:
                rows.append((encoder, seed, "", "penalty", split, epoch, _number(record["penalty"])))
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.groupby(COLUMNS[:-1], sort=False)["value"].mean().reset_index()


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def curves_figure(curves: pd.DataFrame, *, tasks: Mapping[str, Task] | None = None) -> Figure:
    """A column a task: loss on train (dashed) and validation (solid), then validation score; last, the DGR penalty.

    Thin lines are seeds, thick ones their mean. With more than 6 encoders only validation and means are drawn, and an
    addition shows in the line style; of more than 12, the 12 of `style.pictured`, and the note says so.

    Args:
        curves: frame made by `read_curves`.
        tasks: task records, for the order of columns.

    Raises:
        InputError: the frame is empty.
    """
    known = style.encoder_order(curves.loc[curves["task"] != "", "encoder"])
    if not known:
        raise InputError("training curves: no metrics were recorded; train first")
    chosen = style.pictured(known)
    curves = curves[curves["encoder"].isin(chosen)]
    plain = len(chosen) > MOST_DETAILED
    named = curves[curves["task"] != ""]
    names = marks.task_order(named["task"], list(tasks or ()))
    penalty = curves[curves["quantity"] == "penalty"]
    scored = curves[(curves["quantity"] == "score") & (curves["split"] == "val")]
    rows = 1 + int(len(scored) > 0) + int(len(penalty) > 0)
    look = style.encoder_styles(curves["encoder"])
    with style.context():
        figure = style.new_figure(max(2.5 * len(names) + 0.8, 5.2), 1.9 * rows + 0.9)
        layout = figure.subplots(rows, len(names), squeeze=False, sharex=True)
        for column, task in enumerate(names):
            own = named[(named["task"] == task) & (named["quantity"] == "loss")]
            top = layout[0, column]
            if not plain:
                _lines(top, own[own["split"] == "train"], look, dashed=True)
            _lines(top, own[own["split"] == "val"], look, plain=plain)
            top.set_title(task)
            if len(scored):
                _lines(layout[1, column], scored[scored["task"] == task], look, plain=plain)
        layout[0, 0].set_ylabel("Validation loss" if plain else "Loss")
        if len(scored):
            layout[1, 0].set_ylabel("Validation score")
        if len(penalty):
            last = layout[rows - 1]
            trained = penalty[penalty["split"] == "train"]
            _lines(last[0], trained if len(trained) else penalty, look, plain=plain)
            last[0].set_ylabel("DGR penalty")
            last[0].set_xlabel("Epoch")
            for spare in last[1:]:
                spare.remove()
            for axes in layout[rows - 2, 1:]:
                axes.tick_params(labelbottom=True)
                axes.set_xlabel("Epoch")
        else:
            for axes in layout[-1]:
                axes.set_xlabel("Epoch")
        panels = [axes for axes in layout.ravel() if axes.figure is not None]
        marks.encoder_legend(figure, panels)
        several = curves["seed"].nunique() > 1
        seeds = ", thin lines: seeds, thick: their mean" if several else ""
        text = f"Loss: train dashed, validation solid{seeds}."
        if plain:
            text = "Means over seeds; each seed and the training loss are in the CSV file." if several else ""
        marks.note(figure, (text + marks.chosen_note(chosen, known)).strip())
    return figure


def _lines(
    axes: Axes, frame: pd.DataFrame, look: Mapping[str, dict[str, str]], *, dashed: bool = False, plain: bool = False
) -> None:
    for encoder in look:
        own = frame[frame["encoder"] == encoder]
        if not len(own):
            continue
        dash: Any = style.dashes(encoder) if plain else (0, (3, 2)) if dashed else "-"
        table = own.pivot_table(index="epoch", columns="seed", values="value", aggfunc="mean").sort_index()
        colour = look[encoder]["color"]
        if table.shape[1] > 1 and not plain:
            axes.plot(table.index, table.to_numpy(), color=colour, linewidth=0.6, alpha=0.45, linestyle=dash)
        mean = table.mean(axis=1)
        one_point: dict[str, Any] = {"marker": look[encoder]["marker"], "markersize": 4} if len(mean) == 1 else {}
        axes.plot(
            mean.index, mean, color=colour, linewidth=1.4, linestyle=dash,
            label=f"_train {encoder}" if dashed else encoder, **one_point,
        )  # fmt: skip
    axes.grid(visible=True)
    axes.locator_params(axis="x", integer=True)
