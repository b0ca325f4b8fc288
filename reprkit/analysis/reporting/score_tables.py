"""The paper's Tables 2, 3, 4(b) and 4(c): every metric of every task and the multi-task gain, of several folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.reporting.gains import addition_gains, score_gains
from reprkit.analysis.reporting.method_table import (
    DELTA,
    Cell,
    cell_of,
    cell_text,
    dgr_rows,
    dgr_table,
    note,
    write_table,
)
from reprkit.analysis.reporting.metric_names import in_percent, metric_name
from reprkit.analysis.reporting.results import Results, load_results
from reprkit.analysis.reporting.seeds import over_seeds
from reprkit.analysis.reporting.typeset import DASH, latex_table, markdown_table
from reprkit.errors import InputError
from reprkit.tasks import LOWER_IS_BETTER

STRUCTURES = {"split": "Split", "mtan": "MTAN"}
BACKBONES = {
    "convnet": "ConvNet", "resnet18": "ResNet-18", "resnet50": "ResNet-50", "mobilenet_v2": "MobileNetV2",
    "swin_t": "Swin-T", "swin_s": "Swin-S", "swin_b": "Swin-B",
}  # fmt: skip
KEYS = ["encoder", "seed", "task", "metric"]
BLOCK = ["data", "backbone", "structure"]
COLUMNS = [*BLOCK, "encoder", "task", "metric", "headline", "value", "low", "high", "n_seeds", "interval"]


@dataclass(frozen=True)
class Block:
    """Encoders of one data set, backbone and structure, learnt for the same tasks, of one or more folders.

    Attributes:
        data, backbone, structure: as the recipes name them.
        tasks: names, in the order of the data set.
        scores: every metric of the models' own heads on the test split (`Results.all_scores`).
        folders: where they come from.
        label: what tells the block from the others of its table; empty for a single one.
        baseline: scores of the encoders for one task alone.
        borrowed: label of the block that the baseline is taken from, where this one has none.
    """

    data: str
    backbone: str
    structure: str
    tasks: tuple[str, ...]
    scores: pd.DataFrame
    folders: tuple[Path, ...]
    label: str = ""
    baseline: pd.DataFrame | None = None
    borrowed: str = ""

    @property
    def gains(self) -> pd.DataFrame:
        """Multi-task gain of every encoder and seed; no rows without a baseline."""
        if self.baseline is None:
            return pd.DataFrame(columns=["encoder", "seed", "delta"])
        own = self.scores[self.scores["encoder"] != "single"]
        both = pd.concat([own, self.baseline], ignore_index=True)
        return score_gains(both[both["headline"]])


def read_blocks(folders: Sequence[str | Path]) -> list[Block]:
    """The blocks of some folders of `reprkit run`, in the order of data set, backbone and structure.

    Folders of equal data set, backbone, structure and tasks make one block: methods may be run apart. A block without
    single-task encoders borrows those of Split on the same data, backbone and tasks, as the paper does for MTAN.

    Raises:
        InputError: no results or no recipe in a folder, or one encoder in two of them.
    """
    found: dict[tuple[str, str, str, tuple[str, ...]], Block] = {}
    for folder in folders:
        block = _block(load_results(folder))
        key = (block.data, block.backbone, block.structure, block.tasks)
        found[key] = _joined(found[key], block) if key in found else block
    order = list(STRUCTURES)
    blocks = sorted(found.values(), key=lambda b: (b.data, b.backbone, order.index(b.structure), b.tasks))
    labels: dict[str, Callable[[Block], str]] = {
        "backbone": lambda b: BACKBONES.get(b.backbone, b.backbone),
        "structure": lambda b: STRUCTURES[b.structure],
        "tasks": lambda b: ", ".join(b.tasks),
    }
    told = []
    for block in blocks:
        alike = [other for other in blocks if other.data == block.data]
        varying = [name for name in labels if len({getattr(other, name) for other in alike}) > 1]
        told.append(replace(block, label=", ".join(labels[name](block) for name in varying)))
    return [_with_baseline(block, told) for block in told]


def _block(results: Results) -> Block:
    recipe = results.recipe
    if "data" not in recipe or not len(results.all_scores):
        missing = "recipe.yaml" if "data" not in recipe else "test_scores.json in any run"
        raise InputError(f"{results.folder}: holds no {missing}; give a folder that `reprkit run` finished")
    model, scores = recipe.get("model") or {}, results.all_scores
    names = set(scores["task"])
    tasks = tuple(name for name in results.tasks if name in names)
    structure = str(model.get("structure", "split"))
    if structure not in STRUCTURES:
        raise InputError(f"{results.folder / 'recipe.yaml'}: model.structure '{structure}' is not known")
    name, backbone = str((recipe["data"] or {}).get("name", "")), str(model.get("encoder", ""))
    return Block(name, backbone, structure, tasks, scores, (results.folder,))


def _joined(block: Block, other: Block) -> Block:
    twice = block.scores[KEYS].merge(other.scores[KEYS])
    if len(twice):
        one = twice.iloc[0]
        places = ", ".join(str(folder) for folder in block.folders)
        raise InputError(
            f"{other.folders[0]}: holds {one['encoder']}, seed {one['seed']} again, which is in {places}; leave one out"
        )
    scores = pd.concat([block.scores, other.scores], ignore_index=True)
    return replace(block, scores=scores, folders=(*block.folders, *other.folders))


def _with_baseline(block: Block, blocks: Sequence[Block]) -> Block:
    own = block.scores[block.scores["encoder"] == "single"]
    if len(own):
        return replace(block, baseline=own)
    for other in blocks:
        alike = (other.data, other.backbone, other.tasks) == (block.data, block.backbone, block.tasks)
        single = other.scores[other.scores["encoder"] == "single"]
        if alike and other.structure == "split" and len(single):
            return replace(block, baseline=single, borrowed=other.label)
    return block


def score_cells(block: Block) -> dict[str, dict[tuple[str, str], Cell]]:
    """Encoder -> (task, metric) -> cell, in the paper's order; the gain is (Δ, "")."""
    summary = over_seeds(block.scores, by=["encoder", "task", "metric"])
    rows: dict[str, dict[tuple[str, str], Cell]] = {name: {} for name in style.encoder_order(summary["encoder"])}
    for record in summary.to_dict("records"):
        rows[str(record["encoder"])][str(record["task"]), str(record["metric"])] = cell_of(record)
    for record in over_seeds(block.gains, by=["encoder"], value="delta").to_dict("records"):
        rows[str(record["encoder"])][DELTA, ""] = cell_of(record)
    return rows


def score_columns(blocks: Sequence[Block]) -> dict[tuple[str, str], bool]:
    """(task, metric) of all columns, and whether it is a headline; the gain last, if any block has one."""
    columns: dict[tuple[str, str], bool] = {}
    for block in blocks:
        for task in block.tasks:
            own = block.scores[block.scores["task"] == task]
            for metric in dict.fromkeys(own["metric"]):
                columns[task, str(metric)] = bool(own.loc[own["metric"] == metric, "headline"].iloc[0])
    return columns | ({(DELTA, ""): False} if any(len(block.gains) for block in blocks) else {})


def write_score_table(folders: Sequence[str | Path], out: str | Path, name: str) -> list[Path]:
    """Write the scores of some folders as `<name>.csv` (full numbers), `.md` and `.tex`; one table a data set.

    With several data sets their names are appended to that of the table. Where a method was trained with and without
    DGR, the paired change of Δ is written beside it as `<name>_dgr_gain`.

    Args:
        folders: folders of `reprkit run`; those of one data set make one table, its blocks one below the other.
        out: folder to write to.
        name: stem of the files.

    Returns:
        The paths written.

    Raises:
        InputError: see `read_blocks`.
    """
    blocks = read_blocks(folders)
    sets = list(dict.fromkeys(block.data for block in blocks))
    written = []
    for data in sets:
        own = [block for block in blocks if block.data == data]
        stem = Path(out) / (f"{name}_{data}" if len(sets) > 1 else name)
        written += write_table(stem, _long(own), *_texts(own))
        if any(len(dgr_rows(addition_gains(block.gains))) for block in own):
            written += write_table(stem.with_name(f"{stem.name}_dgr_gain"), *_gain_table(own))
    return written


def _texts(blocks: Sequence[Block]) -> tuple[str, str]:
    """A table as Markdown and LaTeX."""
    columns = score_columns(blocks)
    named = any(block.label for block in blocks)
    heads = [*(["Model"] if named else []), "Method", *(_heading(*key, columns[key]) for key in columns)]
    cells: list[list[str]] = []
    spaced: list[int] = []
    all_rows: dict[str, dict[str, Cell]] = {}
    for block in blocks:
        if cells:
            spaced.append(len(cells))
        rows = score_cells(block)
        all_rows |= {
            f"{block.label} {encoder}": {"".join(k): c for k, c in row.items()} for encoder, row in rows.items()
        }
        for encoder, row in rows.items():
            texts = [cell_text(row[key], key[1]) if key in row else DASH for key in columns]
            cells.append([*([block.label] if named else []), style.display(encoder), *texts])
    text = [note(all_rows)]
    if (DELTA, "") in columns:
        text.append("Δ: mean over tasks of the relative gain over Single on the metrics marked * (equation 6).")
    for block in blocks:
        if block.borrowed:
            text.append(f"{block.label} is measured against Single of {block.borrowed}.")
        elif block.baseline is None:
            text.append(f"{block.label or 'These'}: no Δ, since Single was not trained.")
    joined = " ".join(text)
    words = 1 + named
    tex = latex_table(heads, cells, joined, spaced=spaced, words=words)
    return f"{markdown_table(heads, cells, words=words)}\n{joined}\n", tex


def _heading(task: str, metric: str, headline: bool) -> str:
    if task == DELTA:
        return f"{DELTA} (%)"
    better = "↓" if metric in LOWER_IS_BETTER else "↑"
    return f"{task}: {metric_name(metric)}{' (%)' if in_percent(metric) else ''} {better}{' *' if headline else ''}"


def _long(blocks: Sequence[Block]) -> pd.DataFrame:
    headline = score_columns(blocks)
    rows = [
        (block.data, block.backbone, block.structure, encoder, task, metric or "delta", headline[task, metric],
         cell.value, cell.low, cell.high, cell.n_seeds, cell.interval)
        for block in blocks for encoder, row in score_cells(block).items() for (task, metric), cell in row.items()
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def _gain_table(blocks: Sequence[Block]) -> tuple[pd.DataFrame, str, str]:
    """The change of Δ by DGR: rows, Markdown and LaTeX."""
    named = any(block.label for block in blocks)
    frames, notes, spaced = [], [], []
    cells: list[list[str]] = []
    heads: list[str] = []
    for block in blocks:
        gains = addition_gains(block.gains)
        own = dgr_rows(gains)
        if not len(own):
            continue
        frames.append(own.assign(**{name: getattr(block, name) for name in BLOCK})[[*BLOCK, *own.columns]])
        heads, rows, text = dgr_table(gains)
        spaced += [len(cells)] if cells else []
        cells += [[*([block.label] if named else []), *row] for row in rows]
        notes.append(f"{block.label}: {text}" if block.label else text)
    heads = [*(["Model"] if named else []), *heads]
    told = " ".join(notes)
    frame = pd.concat(frames, ignore_index=True)
    words = 1 + named
    tex = latex_table(heads, cells, told, spaced=spaced, words=words)
    return frame, f"{markdown_table(heads, cells, words=words)}\n{told}\n", tex
