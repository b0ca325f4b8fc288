from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reprkit.embeddings import Embeddings, choices, row_groups, verify
from reprkit.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def write(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def lists(*rows: Any) -> Any:
    return pa.array(list(rows), pa.list_(pa.float32()))


def refused(path: Path, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        verify(path)
    assert str(path).split("::")[0] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["list", "large", "fixed", "z{}", "z_{}"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8"])
def test_forms_of_z(foreign: Callable[..., Any], tmp_path: Path, form: str, dtype: str) -> None:
    table = foreign(dtype=dtype)  # 12 columns: z10 comes after z9
    with Embeddings(table.write("parquet", tmp_path, form=form)) as embeddings:
        for split in embeddings.splits:
            expected = table.z[table.columns["split"] == split].astype(np.float32)
            np.testing.assert_array_equal(embeddings.z(split), expected)


def test_the_only_list_column_or_the_named_one(tmp_path: Path) -> None:
    label = pa.array(["a", "b", None, "a"])
    only = write(tmp_path / "only.parquet", emb=lists([1, 2], [3, 4], [5, 6], [7, 8]), label=label)
    assert Embeddings(only).dim == 2
    assert choices(only) == []
    both = write(tmp_path / "both.parquet", a=lists(*[[1, 2]] * 4), b=lists(*[[3, 4, 5]] * 4), label=label)
    assert choices(both) == [f"{both}::a", f"{both}::b"]
    refused(both, r"several list columns: a, b; name the one that is z, as in .*both\.parquet::a")
    named = Embeddings(f"{both}::b")
    assert (named.dim, named.label) == (3, "both b")
    assert set(named.tasks) == {"label"}
    refused(Path(f"{both}::c"), "no list column 'c'; choose from a, b")
    none = write(tmp_path / "none.parquet", label=label)
    refused(none, r"has no embeddings; add a column 'z'.*found: label")


def test_columns_without_the_prefix_are_read_by_their_values(tmp_path: Path) -> None:
    rows = 40
    path = write(
        tmp_path / "e.parquet",
        z=lists(*[[float(i), 1.0] for i in range(rows)]),
        kind=pa.array([None if i == 3 else i % 3 + 5 for i in range(rows)]),
        size=pa.array([i / 7 for i in range(rows)]),
        count=pa.array(range(rows)),
        good=pa.array([i % 2 == 0 for i in range(rows)]),
        note=pa.array([f"note {i}" for i in range(rows)]),
        when=pa.array(list(range(rows)), pa.timestamp("s")),
        parts=lists(*[[1.0]] * rows),
        __index_level_0__=pa.array(range(rows)),
    )
    embeddings = Embeddings(path)
    kinds = {name: (task.kind, task.classes) for name, task in embeddings.tasks.items()}
    assert kinds == {
        "kind": ("classification", ("5", "6", "7")),
        "size": ("regression", ()),
        "count": ("regression", ()),
        "good": ("classification", ("False", "True")),
    }
    left = embeddings.meta["provenance"]["left_out"]
    assert left["note"] == "looks like free text: 40 different labels in 40 samples"
    assert "timestamp" in left["when"]
    assert "list" in left["parts"]
    everything = np.concatenate([embeddings.targets(split, "kind") for split in embeddings.splits])
    assert sorted(np.unique(everything, return_counts=True)[1]) == [1, 13, 13, 13]


def test_categories_of_a_data_frame(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, 90)
    frame = pd.DataFrame(
        {
            "z": list(rng.normal(size=(90, 4))),
            "y_grade": pd.Categorical.from_codes(codes, ["10", "9", "unused", "low"][:3] + ["low"]),
            "y_flag": pd.array(np.where(codes == 0, None, codes == 1), dtype="boolean"),
            "y_seen": pd.array(np.where(codes == 0, None, codes), dtype="Int64"),
        },
        index=[f"row{i}" for i in range(90)],
    )
    frame.to_parquet(tmp_path / "e.parquet", row_group_size=20)
    embeddings = Embeddings(tmp_path / "e.parquet")
    assert set(embeddings.tasks) == {"grade", "flag", "seen"}  # the index is no task
    assert embeddings.tasks["grade"].classes == ("9", "10", "unused")
    order = np.argsort(np.concatenate([embeddings.ids(split).astype(int) for split in embeddings.splits]))
    read = {
        name: np.concatenate([embeddings.targets(split, name) for split in embeddings.splits])[order]
        for name in embeddings.tasks
    }
    np.testing.assert_array_equal(read["grade"], np.array([1, 0, 2])[codes])
    np.testing.assert_array_equal(read["flag"], np.array([-1, 1, 0])[codes])
    np.testing.assert_array_equal(read["seen"], np.array([-1, 1, 2])[codes])


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"z": lists([1, 2], [3], [4, 5, 6])}, "lists in column 'z' are missing or differ in length|z is missing"),
        ({"z": lists([1, 2], None, [4, 5])}, "lists in column 'z' are missing or differ in length"),
        ({"z": lists([1, 2], [3, None], [4, 5])}, "holds nulls"),
        ({"z": lists([1, 2], [3], [4, 5])}, "differ in length"),
        ({"z": lists([], [], [])}, "z is missing"),
        ({"z": pa.array([1.0, 2.0, 3.0])}, "column 'z' is double; expected lists of numbers"),
        ({"z": pa.array([["a"], ["b"], ["c"]])}, "column 'z' is list.*expected lists of numbers"),
        ({"z0": [1.0, 2.0, 3.0], "z2": [1.0, 2.0, 3.0]}, "leave out or repeat number 1"),
        ({"z1": [1.0, 2.0, 3.0]}, "leave out or repeat number 0"),
        ({"z0": [1.0, 2.0, 3.0], "z_0": [1.0, 2.0, 3.0]}, "leave out or repeat"),
        ({"z0": [1.0, None, 3.0]}, "z0 is missing somewhere"),
        ({"z0": ["a", "b", "c"]}, "column 'z0' is string; expected numbers"),
        ({"z": lists([1, 2], [3, 4], [5, 6]), "y_t": pa.array([0, 1, 2], pa.timestamp("s"))}, "y_t is timestamp"),
        ({"z": lists([1, 2], [3, 4], [5, 6]), "y_t": pa.array([b"a", b"b", b"a"])}, "y_t is .*binary"),
        ({"z": lists([1, 2], [3, 4], [5, 6]), "id": [1, None, 3]}, "ids is missing in some rows"),
        ({"z": lists([1, 2], [3, 4], [5, 6]), "id": ["a", None, "b"]}, "ids is missing in some rows"),
        ({"z": lists([1, 2], [3, 4], [5, 6]), "id": [1.5, 2.5, 3.5]}, "ids is float64"),
        ({"z": lists([1, 2], [3, 4], [5, 6]), "id": [1, 2, 3], "ids": [1, 2, 3]}, "both columns id and ids"),
        ({"z": lists([1, 2], [3, 4], [5, 6]), "split": ["train", None, "test"]}, "split is missing in some rows"),
        ({"z": lists([1, 2], [3, 4], [float("nan"), 6])}, "1 rows with NaN"),
        ({"z": lists()}, "has no rows"),
    ],
)
def test_forms_that_are_not(tmp_path: Path, columns: dict[str, Any], told: str) -> None:
    rows = len(next(iter(columns.values())))
    path = write(tmp_path / "e.parquet", **{"y_kind": pa.array([0, 1, 0][:rows], pa.int64()), **columns})
    refused(path, told)


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([lists([1.0], [2.0]), pa.array([0, 1]), pa.array([1, 0])], ["z", "y_a", "y_a"])
    pq.write_table(table, tmp_path / "e.parquet")
    refused(tmp_path / "e.parquet", "two columns 'y_a'")


def test_a_table_without_targets(tmp_path: Path) -> None:
    refused(write(tmp_path / "e.parquet", z=lists([1.0], [2.0])), "has no targets; add y_<task>")
    only_text = write(tmp_path / "f.parquet", z=lists(*[[1.0]] * 30), note=[f"n{i}" for i in range(30)])
    refused(only_text, "no column can be a target .note looks like free text.*add a column y_<task>")


# Damage


def test_truncated_files_are_one_line(foreign: Callable[..., Any], tmp_path: Path) -> None:
    path = foreign().write("parquet", tmp_path)
    content = path.read_bytes()
    for keep in (4, 5, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:keep])
        refused(path, r"damaged.*copy it again")


def test_a_flip_anywhere_is_noticed_or_harmless(foreign: Callable[..., Any], tmp_path: Path) -> None:
    """Never a crash, an endless loop or an error that is not one line."""
    good = foreign(rows=60, dim=3)
    path = good.write("parquet", tmp_path)
    content, rng, noticed = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(300):
        raw = bytearray(content)
        raw[rng.integers(len(raw))] ^= 1 << int(rng.integers(8))
        path.write_bytes(raw)
        try:
            verify(path)
        except InputError as error:
            noticed += "\n" not in str(error)
    assert noticed > 50


def test_a_declared_size_beyond_the_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(1 << 22, np.float32)), 1 << 10)
    path = write(tmp_path / "e.parquet", z=zeros, y_a=pa.array(np.arange(1 << 12) % 2))
    assert verify(path).dim == 1 << 10
    monkeypatch.setattr("reprkit.embeddings.parquet.MAX_DECLARED", 1 << 20)
    refused(path, r"z of shape \(4096, 1024\) is declared in .* bytes; refused")


def test_more_columns_than_free_memory(foreign: Callable[..., Any], tmp_path: Path, monkeypatch: Any) -> None:
    path = foreign().write("parquet", tmp_path)
    monkeypatch.setattr("reprkit.embeddings.safe.free_memory", lambda: 1000)
    with pytest.raises(InputError, match="needs .* GB of memory"):
        Embeddings(path)


def test_without_pyarrow_the_mend_is_named(
    foreign: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = foreign().write("parquet", tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(InputError, match=r'e\.parquet: a Parquet file needs pyarrow; run: pip install "reprkit\[par'):
        Embeddings(path)


# Streaming

ROWS, WIDTH, GROUPS = 20_000, 64, 50


@pytest.fixture(scope="module")
def long_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5 MB in 50 row groups; row r is filled with r."""
    path = tmp_path_factory.mktemp("long") / "e.parquet"
    rng = np.random.default_rng(0)
    values = np.repeat(np.arange(ROWS, dtype=np.float32), WIDTH) + rng.random(ROWS * WIDTH, np.float32) / 4
    columns = {
        "z": pa.FixedSizeListArray.from_arrays(pa.array(values), WIDTH),
        "id": pa.array(range(ROWS)),
        "split": pa.array(rng.choice(["train", "val", "test"], ROWS)),
        "y_kind": pa.array(rng.integers(0, 2, ROWS)),
    }
    pq.write_table(pa.table(columns), path, row_group_size=ROWS // GROUPS, use_dictionary=["split"])
    return path


class Counted:
    """A ParquetFile that counts which row groups are begun, and the rows that are decoded."""

    def __init__(self, file: Any, log: list[int]) -> None:
        self._file, self._log = file, log

    def iter_batches(self, size: int, *, row_groups: list[int], **options: Any) -> Any:
        self._log += row_groups
        return self._file.iter_batches(size, row_groups=row_groups, **options)

    def close(self) -> None:
        self._file.close()


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    log: list[int] = []
    original = row_groups.open_file
    monkeypatch.setattr(row_groups, "open_file", lambda path, **options: Counted(original(path, **options), log))
    return log


def test_one_pass_reads_every_row_group_once(long_file: Path, begun: list[int]) -> None:
    with Embeddings(long_file) as embeddings:
        for rows in (100, 4096):
            begun.clear()
            for block, start in zip(embeddings.blocks("train", rows), range(0, ROWS, rows), strict=False):
                expected = embeddings.ids("train")[start : start + rows].astype(float)
                np.testing.assert_array_equal(np.floor(block[:, 0]), expected)
            assert begun == list(range(GROUPS))


def test_a_few_rows_read_their_row_groups_only(long_file: Path, begun: list[int]) -> None:
    with Embeddings(long_file) as embeddings:
        matrix = embeddings._source._z
        begun.clear()
        np.testing.assert_array_equal(np.floor(matrix.take(np.array([405, 8001, 19_999]))[:, 0]), [405, 8001, 19_999])
        assert begun == [1, 20, 49]
        begun.clear()
        np.testing.assert_array_equal(np.floor(matrix.take(np.array([1, 2]))[:, 5]), [1, 2])
        np.testing.assert_array_equal(np.floor(matrix.take(np.array([0, 399]))[:, 5]), [0, 399])
        assert begun == [0]  # the batch is kept


PASS = """
import sys, tracemalloc, pyarrow
from reprkit.embeddings import Embeddings, row_groups
row_groups.BATCH_BYTES = row_groups.BUFFER_BYTES = 64 << 10
with Embeddings(sys.argv[1]) as embeddings:
    tracemalloc.start()
    total = sum(len(block) for block in embeddings.blocks("train", 200))
    peak, pool = tracemalloc.get_traced_memory()[1], pyarrow.default_memory_pool()
    print(total == embeddings.num_rows("train"), peak, pool.max_memory())
"""


def test_memory_stays_bounded(long_file: Path) -> None:
    """Neither Arrow nor NumPy ever holds more than a few batches, also where one row group is the whole file."""
    whole = long_file.with_name("one.parquet")
    pq.write_table(pq.read_table(long_file), whole, row_group_size=ROWS, use_dictionary=False, data_page_size=32 << 10)
    for path in (long_file, whole):
        run = subprocess.run(
            [sys.executable, "-c", PASS, str(path)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        complete, numpy, arrow = run.stdout.split()
        assert complete == "True"
        assert 0 < int(numpy) < 1 << 20
        assert 0 < int(arrow) < 2 << 20
