"""Reading embeddings that others made: a Parquet file with one row a sample, its z streamed from disk."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reprkit.embeddings.arrays import ArraySource
from reprkit.embeddings.columns import PREFIX, Column, Labels, Unreadable, choose_targets
from reprkit.embeddings.npy import ID_NAMES, take_special
from reprkit.embeddings.row_groups import MEND, Layout, ParquetMatrix, open_file
from reprkit.embeddings.safe import MAX_CHUNK, MAX_DECLARED, MAX_RATIO, check_memory, damage, file_size
from reprkit.errors import InputError

if TYPE_CHECKING:
    from pyarrow import Schema
    from pyarrow.parquet import FileMetaData, ParquetFile


def open_parquet(path: Path, name: str | None = None) -> ArraySource:
    """Read all but z of a Parquet file.

    Args:
        path: the file.
        name: the list column that is z; None takes `z`, or z0, z1, ..., or the only list column of numbers.
    """
    where = str(path)
    with damage(where, MEND), open_file(path) as file:
        z = ParquetMatrix(path, _layout(file, name, where))
        names = _other_columns(file.schema_arrow, z.layout.columns)
        text = [each for each in names if _is_text(file.schema_arrow.field(each).type)]
    check_memory(z.shape[0] * 16 * (len(names) + 1), where)
    with damage(where, MEND), open_file(path, read_dictionary=text) as file:
        columns = {each: _column(file, each) for each in names}
    ids, split = take_special(columns, where)
    targets, marked = choose_targets(columns)
    home = z.layout.columns[0] if z.layout.is_list else f"{z.layout.columns[0]} to {z.layout.columns[-1]}"
    kept = f"Parquet; z {z.dtype} in '{home}', {len(z.layout.groups)} row groups streamed from disk"
    label = {"label": f"{path.stem} {name}"} if name else {}
    meta = {**label, "provenance": {"source": kept}}
    return ArraySource(z, targets, ids=ids, split=split, marked=marked, what=where, meta=meta)


def list_columns(path: Path) -> list[str]:
    """Names of the list columns of numbers, if one of them must be chosen as z."""
    with damage(str(path), MEND), open_file(path) as file:
        schema = file.schema_arrow
        return [] if "z" in schema.names or _numbered(schema) else _lists(schema)


def _layout(file: ParquetFile, name: str | None, where: str) -> Layout:
    schema, meta = file.schema_arrow, file.metadata
    twice = [each for each in schema.names if schema.names.count(each) > 1]
    if twice:
        raise InputError(f"{where}: has two columns '{twice[0]}'; give every column a name of its own")
    columns, is_list = _find_z(schema, name, where)
    groups = tuple(meta.row_group(i).num_rows for i in range(meta.num_row_groups))
    rows, size = sum(groups), file_size(Path(where))
    if rows == 0:
        raise InputError(f"{where}: has no rows")
    width = _list_width(meta, columns[0], groups, where) if is_list else len(columns)
    declared = 4 * rows * width
    if (declared > MAX_DECLARED and declared > MAX_RATIO * size) or 4 * width > MAX_CHUNK or min(groups) < 0:
        raise InputError(f"{where}: z of shape ({rows}, {width}) is declared in {size:,} bytes; refused")
    types = [schema.field(each).type for each in columns]
    dtypes = [np.dtype((each.value_type if is_list else each).to_pandas_dtype()) for each in types]
    return Layout(columns, is_list, (rows, width), np.result_type(*dtypes), groups)


def _find_z(schema: Schema, name: str | None, where: str) -> tuple[tuple[str, ...], bool]:
    """The columns of z, and whether it is one column of lists."""
    lists, numbered = _lists(schema), _numbered(schema)
    if name is not None:
        if name not in lists:
            raise InputError(f"{where}: has no list column '{name}'; choose from {', '.join(lists) or 'none'}")
        return (name,), True
    if "z" in schema.names:
        if "z" not in lists:
            raise InputError(f"{where}: column 'z' is {schema.field('z').type}; expected lists of numbers")
        return ("z",), True
    if numbered:
        order = sorted(numbered)
        if order != list(range(len(order))):
            gap = next(index for index, each in enumerate([*order, -1]) if index != each)
            raise InputError(f"{where}: columns z0, z1, ... leave out or repeat number {gap}")
        for each in numbered.values():
            if not _is_number(schema.field(each).type):
                raise InputError(f"{where}: column '{each}' is {schema.field(each).type}; expected numbers")
        return tuple(numbered[index] for index in order), False
    if len(lists) == 1:
        return (lists[0],), True
    if lists:
        raise InputError(
            f"{where}: has several list columns: {', '.join(lists)}; name the one that is z, as in {where}::{lists[0]}"
        )
    raise InputError(
        f"{where}: has no embeddings; add a column 'z' of lists of numbers, or columns z0, z1, ... "
        f"(found: {', '.join(schema.names[:20])})"
    )


def _numbered(schema: Schema) -> dict[int, str]:
    """Number -> column, of the columns z0, z1, ... or z_0, z_1, ..."""
    matches = [match for name in schema.names if (match := re.fullmatch("z_?([0-9]+)", name))]
    numbered = {int(match[1]): match[0] for match in matches}
    return numbered if len(numbered) == len(matches) else {-1: ""}


def _lists(schema: Schema) -> list[str]:
    """Columns of lists of numbers."""
    from pyarrow import types

    tests = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    return [
        field.name for field in schema if any(test(field.type) for test in tests) and _is_number(field.type.value_type)
    ]


def _is_number(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_floating(kind) or types.is_integer(kind))


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind) or str(kind) == "string_view")


def _list_width(meta: FileMetaData, name: str, groups: Sequence[int], where: str) -> int:
    """Length of the lists of a column, from the counts in the file's metadata."""
    leaf = next(i for i in range(meta.num_columns) if f"{meta.schema.column(i).path}.".startswith(f"{name}."))
    values = [meta.row_group(i).column(leaf).num_values for i in range(len(groups))]
    width = sum(values) // sum(groups)
    if any(count != rows * width for count, rows in zip(values, groups, strict=True)):
        raise InputError(
            f"{where}: lists in column '{name}' are missing or differ in length; every sample needs D numbers"
        )
    return width


def _other_columns(schema: Schema, used: Sequence[str]) -> list[str]:
    """Columns beside z: ids, splits and what are or may be targets."""
    names = [name for name in schema.names if name not in used and not name.startswith("__index_level_")]
    marked = any(name.startswith(PREFIX) for name in names)
    return [name for name in names if not marked or name.startswith(PREFIX) or name in (*ID_NAMES, "split")]


def _column(file: ParquetFile, name: str) -> Column:
    from pyarrow import types

    kind = file.schema_arrow.field(name).type
    plain = kind.value_type if types.is_dictionary(kind) else kind
    if not (_is_number(plain) or types.is_boolean(kind) or (types.is_dictionary(kind) and _is_text(plain))):
        return Unreadable(str(kind))
    column = file.read(columns=[name], use_threads=False).column(name)
    if types.is_dictionary(kind):
        whole = column.unify_dictionaries().combine_chunks()
        names = ["" if each is None else str(each) for each in whole.dictionary.to_pylist()]
        return Labels(whole.indices.fill_null(-1).to_numpy(zero_copy_only=False), names)
    if types.is_floating(kind):
        return np.asarray(column.to_numpy())
    gaps = column.is_null().to_numpy()
    values = column.fill_null(False if types.is_boolean(kind) else 0).to_numpy()
    return np.ma.array(values, mask=gaps) if gaps.any() else np.asarray(values)
