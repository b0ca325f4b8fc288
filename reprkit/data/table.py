"""Anyone's own data: a CSV with a column of image paths and any number of label columns.

Columns with a meaning of their own: the image column, `split` (train, val, test), `group` (rows that must stay
on one side), `id` (unique name of a row; else the image path). Every other column is a label.
"""

from __future__ import annotations

import csv
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reprkit.data.base import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    SPLITS,
    ImageDataset,
    content_fingerprint,
    select_columns,
    split_fingerprint,
)
from reprkit.data.cache import pixels, scan
from reprkit.data.columns import Column, infer_kind, is_missing, read_column
from reprkit.data.decode import check_side, transform_record
from reprkit.data.sources import FileSource
from reprkit.data.splits import HASH_RULE, check_splits, hash_split, merge_groups
from reprkit.errors import InputError
from reprkit.files import json_digest

SPLIT_NAMES = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "dev": 1, "test": 2, "testing": 2}
VAL_OF_TRAIN = 1 / 8
SPECIAL = ("split", "group", "id")


@dataclass(frozen=True)
class Table:
    """A CSV as text.

    Attributes:
        path: the file.
        columns: header -> [N] cells.
        lines: [N] line number of each row (the header is line 1).
    """

    path: Path
    columns: dict[str, list[str]]
    lines: list[int]

    def where(self, row: int) -> str:
        """`file, line 7`, for messages."""
        return f"{self.path}, line {self.lines[row]}"


def load_table(
    root: str | None,
    image_size: int,
    *,
    image_column: str = "image",
    kinds: Mapping[str, str] | None = None,
    tasks: Sequence[str] = (),
    cache_dir: Path | None = None,
) -> ImageDataset:
    """Images and labels of a CSV; `reprkit.data.columns.infer_kind` states the rule for kinds.

    Without a `split` column, rows are split 70/10/20 by a hash of their group or content, stratified by the
    first label column in use that has classes. With one that has no val rows, val is an eighth of train.

    Args:
        root: path of the CSV; image paths in it are relative to its folder, or absolute.
        image_size: pixels of the sides after resizing.
        image_column: the column of image paths.
        kinds: label column -> kind, where the inferred one is wrong.
        tasks: label columns to use; empty means all that look like labels.
        cache_dir: see `reprkit.data.cache.cache_root`.

    Raises:
        InputError: anything wrong with the table, naming the line.
    """
    check_side(image_size)
    kinds = dict(kinds or {})
    table = read_table(root)
    if image_column not in table.columns:
        raise InputError(
            f"{table.path}: no column '{image_column}'; set data.image_column to one of {', '.join(table.columns)}"
        )
    files = _image_files(table, image_column)
    ids = _row_ids(table, image_column)
    labels = {k: v for k, v in table.columns.items() if k not in (image_column, *SPECIAL)}
    chosen, notes = choose_columns(table.path, labels, kinds, tasks)

    source = FileSource(str(table.path), dict(zip(ids, files, strict=True)))
    digests = scan(source, "table", cache_dir)
    content = [digests[name] for name in ids]
    named = [cell.strip() for cell in table.columns.get("group", [""] * len(ids))]
    groups = merge_groups([f"group {g}" if g else f"content {c}" for g, c in zip(named, content, strict=True)], content)
    split, rule, more = _split(table, groups, named, labels, chosen)
    notes += more

    array, broken = pixels(source, ids, content, image_size, "table", cache_dir)
    rows = np.array([i for i, name in enumerate(ids) if name not in broken], dtype=np.int64)
    check_splits(split[rows], source=str(table.path), mend="add rows, or a split column")
    columns: list[Column] = []
    usable = np.zeros(len(ids), dtype=bool)
    usable[rows] = True
    for name, kind in chosen.items():
        columns.append(read_column(name, labels[name], kind, (split == 0) & usable, table.lines, str(table.path)))
        notes.extend(columns[-1].notes)
    kept_ids = np.array([ids[i] for i in rows])
    return ImageDataset(
        name="table",
        tasks=tuple(column.task for column in columns),
        images=array,
        targets=select_columns({column.task.name: column.target for column in columns}, rows),
        ids=kept_ids,
        split=split[rows],
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        fingerprint=content_fingerprint(
            kept_ids, [content[i] for i in rows], {name: [cells[i] for i in rows] for name, cells in labels.items()}
        ),
        split_fingerprint=split_fingerprint(kept_ids, split[rows]),
        transform_fingerprint=json_digest(transform_record(image_size, IMAGENET_MEAN, IMAGENET_STD)),
        split_rule=rule,
        skipped=tuple(sorted(broken.items())),
        notes=tuple(notes),
    )


def read_table(root: str | None) -> Table:
    """Read a CSV (UTF-8, comma) as text, without blank rows.

    Raises:
        InputError: it does not exist, is no CSV, has no rows, or its header repeats a name.
    """
    if not root:
        raise InputError("data.root: table needs the path of a CSV; name it with --data")
    path = Path(root).expanduser()
    if not path.is_file():
        wrong = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"{root}: {wrong}; name the CSV with --data")
    try:
        with open(path, newline="", encoding="utf-8-sig") as handle:
            reader = csv.reader(handle)
            header = [name.strip() for name in next(reader, [])]
            repeated = [name for name, count in Counter(header).items() if count > 1]
            if not any(header) or repeated:
                wrong = f"the header repeats '{repeated[0]}'" if repeated else "there is no header"
                raise InputError(f"{path}: {wrong}; give each column one name")
            rows, lines, line = [], [], reader.line_num + 1
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    if len(cells) != len(header):
                        raise InputError(
                            f"{path}, line {line}: {len(cells)} cells for {len(header)} columns; "
                            "quote cells that hold commas"
                        )
                    rows.append(cells)
                    lines.append(line)
                line = reader.line_num + 1
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text; save the table as CSV in UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{path}: is not a CSV ({error}); save the table as CSV in UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if not rows:
        raise InputError(f"{path}: has a header but no rows")
    return Table(
        path, {name: list(column) for name, column in zip(header, zip(*rows, strict=True), strict=True)}, lines
    )


def choose_columns(
    path: Path, labels: Mapping[str, Sequence[str]], kinds: Mapping[str, str], tasks: Sequence[str]
) -> tuple[dict[str, str], list[str]]:
    """Which label columns become tasks, with the kind of each, and notes on those that do not.

    Raises:
        InputError: a wanted column does not exist or cannot be understood, or none is left.
    """
    for option, wanted in (("data.kinds", kinds), ("data.tasks", tasks)):
        for name in wanted:
            if name not in labels:
                raise InputError(
                    f"{option}: {path} has no label column '{name}'; choose from {', '.join(labels) or 'none'}"
                )
    chosen: dict[str, str] = {}
    notes: list[str] = []
    for name in tasks or labels:
        kind = kinds.get(name) or infer_kind(labels[name])
        if kind is not None:
            chosen[name] = kind
        elif name in tasks:
            wrong = "is empty" if is_missing(labels[name]).all() else "looks like free text"
            raise InputError(f"{path}: column '{name}' {wrong}; say what it is with data.kinds, or drop it")
        else:
            notes.append(f"column '{name}' is no task: it is empty or free text")
    if not chosen:
        raise InputError(f"{path}: no label column; add one beside the image column")
    return chosen, notes


def _image_files(table: Table, image_column: str) -> list[Path]:
    files = []
    for row, cell in enumerate(table.columns[image_column]):
        path = Path(os.path.join(table.path.parent, cell.strip()))  # an absolute cell wins
        if not cell.strip():
            raise InputError(f"{table.where(row)}: no image in column '{image_column}'; fill the cell or drop the row")
        if not path.is_file():
            raise InputError(f"{table.where(row)}: image {cell} does not exist (looked for {path}); mend the path")
        files.append(path)
    return files


def _row_ids(table: Table, image_column: str) -> list[str]:
    column = "id" if "id" in table.columns else image_column
    ids = [cell.strip() for cell in table.columns[column]]
    first: dict[str, int] = {}
    for row, name in enumerate(ids):
        if not name:
            raise InputError(f"{table.where(row)}: the id is empty; every row needs one")
        if first.setdefault(name, row) != row:
            mend = "make ids unique" if column == "id" else "merge the rows, or add an id column"
            raise InputError(f"{table.where(row)}: '{name}' is also on line {table.lines[first[name]]}; {mend}")
    return ids


def _split(
    table: Table,
    groups: Sequence[str],
    named: Sequence[str],
    labels: Mapping[str, Sequence[str]],
    chosen: Mapping[str, str],
) -> tuple[np.ndarray, str, list[str]]:
    """The split of every row, its rule and notes; from the split column if there is one, else by hash."""
    notes: list[str] = []
    if "split" not in table.columns:
        first = next((name for name, kind in chosen.items() if kind != "regression"), None)
        strata = None
        if first is not None:
            order = {label: i for i, label in enumerate(sorted(set(labels[first])))}
            strata = np.array([order[cell] for cell in labels[first]])
        sizes = Counter(groups)
        copies = sum(size for size in sizes.values() if size > 1)
        if copies:
            notes.append(f"{copies:,} images share a group or content with another and stay on one side with it")
        rule = HASH_RULE.format(stratum=f"class of {first}" if first else "table")
        return hash_split(groups, strata), rule, notes

    split = np.zeros(len(groups), dtype=np.uint8)
    for row, cell in enumerate(table.columns["split"]):
        code = SPLIT_NAMES.get(cell.strip().lower())
        if code is None:
            raise InputError(f"{table.where(row)}: split '{cell}' is not one of {', '.join(SPLITS)}")
        split[row] = code
    rule = f"column 'split' of {table.path.name}"
    if not (split == 1).any():
        train = np.flatnonzero(split == 0)
        split[train] = hash_split([groups[i] for i in train.tolist()], test=0.0, val=VAL_OF_TRAIN)
        rule += "; val is the first eighth of train rows, groups in order of sha256(name), v1"
    sides = defaultdict(set)
    for row, group in enumerate(named):
        if group:
            sides[group].add(int(split[row]))
    crossing = [group for group, found in sides.items() if len(found) > 1]
    if crossing:
        where = " and ".join(SPLITS[code] for code in sorted(sides[crossing[0]]))
        raise InputError(f"{table.path}: group '{crossing[0]}' is in {where}; keep each group on one side")
    merged = defaultdict(set)
    for row, group in enumerate(groups):
        merged[group].add(int(split[row]))
    leaks = sum(len(found) > 1 for found in merged.values())
    if leaks:
        notes.append(f"{leaks:,} sets of equal images lie on several sides, as column 'split' says")
    return split, rule, notes
