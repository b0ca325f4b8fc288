from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reprkit.embeddings import Embeddings, verify
from reprkit.errors import InputError

LINES = ["id,split,y_kind,y_size", "a,train,0,1.5", 'b,train,1,""', '"c, d",val,,2', "e,test,1,-3e2"]


def pair(folder: Path, z: Any = None, lines: list[str] | None = None, encoding: str = "utf-8") -> Path:
    np.save(folder / "z.npy", np.arange(8.0).reshape(4, 2) if z is None else z)
    (folder / "z.csv").write_bytes("\n".join(LINES if lines is None else lines).encode(encoding))
    return folder / "z.npy"


def refused(path: Path, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        verify(path)
    assert str(path.parent) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", [[], [""], ["", "", ""]])
def test_cells_are_read_as_they_say(tmp_path: Path, encoding: str, end: list[str]) -> None:
    embeddings = Embeddings(pair(tmp_path, lines=[*LINES, *end], encoding=encoding))
    assert embeddings.ids("train").tolist() == ["a", "b"]
    assert embeddings.ids("val").tolist() == ["c, d"]
    assert embeddings.targets("train", "kind").tolist() == [0, 1]
    assert embeddings.targets("val", "kind").tolist() == [-1]
    np.testing.assert_array_equal(embeddings.targets("train", "size"), [1.5, np.nan])
    np.testing.assert_array_equal(embeddings.z("test"), [[6, 7]])
    assert embeddings.label == "z"


def test_columns_without_the_prefix_are_read_by_their_values(tmp_path: Path) -> None:
    rows = 30
    lines = ["id,,species,age,weight,note"]
    lines += [f"i{i},{i},{['NA', 'cat', 'dog'][i % 3]},{i % 4 + 2},{i / 7},text {i}" for i in range(rows)]
    embeddings = Embeddings(pair(tmp_path, np.ones((rows, 2)), lines))
    assert {name: (task.kind, task.classes) for name, task in embeddings.tasks.items()} == {
        "species": ("classification", ("cat", "dog")),
        "age": ("classification", ("2", "3", "4", "5")),
        "weight": ("regression", ()),
    }
    assert list(embeddings.meta["provenance"]["left_out"]) == ["note"]
    known = sum(int((embeddings.targets(split, "species") >= 0).sum()) for split in embeddings.splits)
    assert known == 20


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("make", [np.asfortranarray, lambda z: z.astype(">f4"), lambda z: z.astype(np.int64), np.array])
def test_arrays_as_numpy_writes_them(tmp_path: Path, version: tuple[int, int], make: Callable[[Any], Any]) -> None:
    z = make(np.arange(8.0).reshape(4, 2))
    path = pair(tmp_path, z)
    with open(path, "wb") as handle:
        np.lib.format.write_array(handle, z, version=version)
    embeddings = Embeddings(path)
    np.testing.assert_array_equal(embeddings.z("train"), [[0, 1], [2, 3]])
    np.testing.assert_array_equal(embeddings.z("test"), [[6, 7]])


def test_z_is_not_loaded(tmp_path: Path) -> None:
    rows, width = 2000, 2000
    path = pair(
        tmp_path,
        np.ones((rows, width)),
        ["split,y_a", *[f"{'train' if i % 3 else 'test'},{i % 2}" for i in range(rows)]],
    )
    tracemalloc.start()
    try:
        with Embeddings(path) as embeddings:
            assert sum(len(block) for block in embeddings.blocks("train", 50)) == 1333
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20  # of 32 MB


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], r"z\.csv: there is no header"),
        (["id,y_a"], r"z\.csv: has a header but no rows"),
        (LINES[:-1], r"z\.csv: has 3 rows, but z\.npy is of shape \(4, 2\); write a line for each row"),
        ([*LINES, "f,test,0,1"], r"z\.csv: has 5 rows"),
        ([*LINES[:2], "b,train,1", *LINES[3:]], r"z\.csv, line 3: 3 cells for 4 columns"),
        ([*LINES[:3], "c,d,val,1,2", LINES[4]], r"z\.csv, line 4: 5 cells for 4 columns; quote"),
        (["id,id,split,y_a", *["1,2,train,0"] * 4], "the header repeats 'id'"),
        (["id,ids,y_a", *["1,2,0"] * 4], "both columns id and ids"),
        (["id,split,y_kind", "a,train,0", "a,train,1", "c,val,0", "d,test,0"], "id 'a' occurs twice"),
        (["id,y_kind", "a,0", ",1", "c,0", "d,0"], "id '' is empty"),
        (["id,split,y_kind", "a,train,0", "b,,1", "c,val,0", "d,test,0"], "unknown split ''"),
        (["id,y_kind", "a,0", "b,-2", "c,0", "d,1"], "run from -2"),
        (["id,y_kind", "a,0", "b,99999", "c,0", "d,1"], "class index 99999 for 4 samples"),
        (["id,y_kind", "a,0", "b,999999999999999999999", "c,0", "d,1"], None),  # too long for a whole number: real
        (["id,y_size", "a,0.5", "b,inf", "c,0", "d,1"], "infinity"),
        (["id,split", "a,train", "b,val", "c,test", "d,test"], "has no targets; add y_<task>"),
        ([*LINES[:4], '"e,test,1,2'], "not a CSV in UTF-8"),
        (["y_kind", "0", "", "1", "0"], r"has 3 rows"),  # a blank line cannot be told from a blank cell
    ],
)
def test_tables_that_are_not(tmp_path: Path, lines: list[str], told: str | None) -> None:
    path = pair(tmp_path, lines=lines)
    if told is None:
        assert Embeddings(path).tasks["kind"].kind == "regression"
    else:
        refused(path, told)


def test_a_table_of_bytes(tmp_path: Path) -> None:
    refused(pair(tmp_path, encoding="utf-16"), r"z\.csv: not a CSV in UTF-8")
    (tmp_path / "z.csv").unlink()
    refused(tmp_path / "z.npy", r"z\.npy: there is no z\.csv beside it; write one with a line a row: id, split and y_")
    (tmp_path / "z.csv").mkdir()
    refused(tmp_path / "z.npy", "there is no z.csv")


@pytest.mark.parametrize(
    ("z", "told"),
    [
        (np.array([[{}]] * 4, dtype=object), "holds Python objects, which can run code"),
        (np.ones(4), r"z is float64 of shape \(4,\)"),
        (np.ones((4, 2, 2)), "z is float64"),
        (np.ones((4, 0)), r"z is float64 of shape \(4, 0\)"),
        (np.ones((4, 2), complex), "z is complex128"),
        (np.full((4, 2), "x"), "z is <U1"),
        (np.zeros(4, [("a", "f4")]), "z is"),
        (np.array([[1, np.nan]] * 4), "z of 'train' has 2 rows with NaN"),
    ],
)
def test_arrays_that_are_not(tmp_path: Path, z: np.ndarray, told: str) -> None:
    refused(pair(tmp_path, z), rf"z\.npy.*{told}")


def header(shape: str, descr: str = "<f4", length: int = 117) -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(length) + "\n"
    return b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little") + text.encode()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (header("(1099511627776, 768)") + bytes(64), "declares shape .1099511627776, 768. .* but holds 64 bytes"),
        (header("(4, 2)") + bytes(31), "but holds 31 bytes"),
        (header("(4, 2)") + bytes(33), "but holds 33 bytes"),
        (header("(-4, -2)") + bytes(32), "declares shape"),
        (header("(4, 2)", length=50_000) + bytes(32), "not a NumPy array"),
        (header("(" * 5000 + ")" * 5000, length=20_000), "not a NumPy array"),
        (header("(__import__('os').abort(), 2)"), "not a NumPy array"),
        (header("(4, 2)", "|O") + bytes(64), "holds Python objects"),
        (header("(4, 2)")[:20], "not a NumPy array"),
        (b"\x93NUMPY", "not a NumPy array"),
        (b"\x93NUMPY\x09\x00" + bytes(64), "not a NumPy array"),
        (b"", "not a NumPy array"),
    ],
)
def test_headers_that_lie(tmp_path: Path, content: bytes, told: str) -> None:
    path = pair(tmp_path)
    path.write_bytes(content)
    refused(path, rf"z\.npy.*{told}")
