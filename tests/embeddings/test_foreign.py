"""One content in the files of others: whoever wrote it, the same embeddings are read."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reprkit.embeddings import Embeddings, choices, describe, sources, verify
from reprkit.errors import InputError

KINDS = ("npz", "npy", "parquet", "h5ad")


def same(embeddings: Embeddings, table: Any) -> None:
    """What is read is what was written, split by split."""
    names = ("ant", "bee 9", "bee 10", "Ölkäfer")  # sorted, numbers by value
    assert embeddings.tasks["name"].classes == names
    assert [embeddings.tasks[name].kind for name in ("kind", "name", "size")] == [
        "classification",
        "classification",
        "regression",
    ]
    for split in embeddings.splits:
        rows = table.columns["split"] == split
        expected = table.z[rows].astype(np.float32)
        read = embeddings.z(split)
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, expected)
        np.testing.assert_array_equal(embeddings.ids(split), table.columns["id"][rows])
        np.testing.assert_array_equal(embeddings.targets(split, "kind"), table.columns["y_kind"][rows])
        np.testing.assert_array_equal(embeddings.targets(split, "size"), table.columns["y_size"][rows])
        labels = [("", *names)[code + 1] for code in embeddings.targets(split, "name")]
        assert labels == table.columns["y_name"][rows].tolist()
        assert embeddings.logits(split, "kind") is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int16", "uint8"])
def test_round_trip(foreign: Callable[..., Any], tmp_path: Path, kind: str, dtype: str) -> None:
    table = foreign(dtype=dtype)
    with Embeddings(table.write(kind, tmp_path)) as embeddings:
        same(embeddings, table)
        assert dtype in embeddings.meta["provenance"]["source"]


def test_all_kinds_agree_on_keys_and_fingerprints(foreign: Callable[..., Any], tmp_path: Path) -> None:
    table = foreign()
    files = [Embeddings(table.write(kind, tmp_path)) for kind in KINDS]
    assert len({file.comparable_key() for file in files}) == 1
    assert len({tuple(sorted(file.fingerprints.items())) for file in files}) == 1
    assert set(files[0].fingerprints) == {"dataset", "split"}
    memory = Embeddings.from_arrays(
        table.z,
        {name.removeprefix("y_"): values for name, values in table.columns.items() if name.startswith("y_")},
        ids=table.columns["id"],
        split=table.columns["split"],
    )
    assert memory.fingerprints == files[0].fingerprints
    other = table.change(y_kind=np.roll(table.columns["y_kind"], 1)).write("parquet", tmp_path, stem="other")
    assert Embeddings(other).fingerprints["dataset"] != files[0].fingerprints["dataset"]
    assert Embeddings(other).fingerprints["split"] == files[0].fingerprints["split"]


@pytest.mark.parametrize("kind", KINDS)
def test_ids_and_splits_may_be_left_out(foreign: Callable[..., Any], tmp_path: Path, kind: str) -> None:
    table = foreign(rows=400).change(split=None, **({} if kind == "h5ad" else {"id": None}))
    embeddings = Embeddings(table.write(kind, tmp_path))
    assert embeddings.splits == ("train", "val", "test")
    assert "SHA-256 of the id" in embeddings.meta["provenance"]["split_rule"]
    if kind != "h5ad":
        rows = embeddings.ids("val").astype(int)
        np.testing.assert_array_equal(embeddings.z("val"), table.z[rows])


@pytest.mark.parametrize("kind", KINDS)
def test_content_decides_not_the_name(foreign: Callable[..., Any], tmp_path: Path, kind: str) -> None:
    path = foreign().write(kind, tmp_path)
    for name in ("x.h5", "x.bin", "x.npz"):
        (tmp_path / name).write_bytes(path.read_bytes())
        if kind == "npy":
            (tmp_path / "x.csv").write_bytes((tmp_path / "e.csv").read_bytes())
        same(Embeddings(tmp_path / name), foreign())


@pytest.mark.parametrize("kind", KINDS)
def test_survives_pickling_closing_and_forking(foreign: Callable[..., Any], tmp_path: Path, kind: str) -> None:
    table = foreign()
    embeddings = Embeddings(table.write(kind, tmp_path))
    first = next(embeddings.blocks("train", 10))
    packed = pickle.dumps(embeddings)
    if kind != "npz":
        assert len(packed) < 20 * 1024  # z stays on disk
    np.testing.assert_array_equal(next(pickle.loads(packed).blocks("train", 10)), first)  # noqa: S301
    embeddings.close()
    embeddings.close()
    same(embeddings, table)
    if os.name == "posix":
        child = os.fork()
        if child == 0:
            os._exit(0 if np.array_equal(next(embeddings.blocks("train", 10)), first) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    same(embeddings, table)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_returned_belongs_to_the_caller(foreign: Callable[..., Any], tmp_path: Path, kind: str) -> None:
    embeddings = Embeddings(foreign().write(kind, tmp_path))
    for get in (lambda e: e.z("train"), lambda e: e.targets("train", "kind"), lambda e: e.ids("train")):
        before = get(embeddings).copy()
        get(embeddings)[:] = get(embeddings)[::-1].copy()
        np.testing.assert_array_equal(get(embeddings), before)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_way_of_reading_gives_the_same_rows(
    foreign: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Random splits, row groups, chunks and orders of reading; small buffers, so that every border is crossed."""
    rows, kind = data.draw(st.integers(3, 60)), data.draw(st.sampled_from(KINDS[1:]))
    table = foreign(rows, 3)
    split = data.draw(st.lists(st.sampled_from(["train", "val", "test"]), min_size=rows, max_size=rows))
    table = table.change(split=np.array(split), y_kind=np.arange(rows) % 2)
    options: dict[str, Any] = {"parquet": {"rows": data.draw(st.integers(1, rows))}, "npy": {}}.get(kind, {})
    if kind == "h5ad" and data.draw(st.booleans()):
        options = {
            "chunks": (data.draw(st.integers(1, rows)), 2),
            "compression": data.draw(st.sampled_from(["gzip", "lzf"])),
        }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reprkit.embeddings.row_groups.BATCH_BYTES", 4 * 3 * 5)
        patch.setattr("reprkit.embeddings.h5ad.PIECE_BYTES", 4 * 3 * 7)
        with Embeddings(table.write(kind, tmp_path_factory.mktemp("any"), **options)) as embeddings:
            for _ in range(6):
                name = data.draw(st.sampled_from(embeddings.splits))
                expected = table.z[np.array(split) == name]
                start = data.draw(st.integers(0, len(expected) - 1))
                stop = data.draw(st.integers(start, len(expected)))
                np.testing.assert_array_equal(embeddings._source.read_z(name, start, stop), expected[start:stop])
            step = data.draw(st.integers(1, rows))
            name = data.draw(st.sampled_from(embeddings.splits))
            np.testing.assert_array_equal(
                np.concatenate(list(embeddings.blocks(name, step))), table.z[np.array(split) == name]
            )


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_are_not_finite_name_split_and_count(foreign: Callable[..., Any], tmp_path: Path, kind: str) -> None:
    table = foreign(dtype="float64")
    test = np.flatnonzero(table.columns["split"] == "test")
    table.z[test[[1, 4]], 2] = np.nan
    table.z[test[5], 0] = 1e300  # does not fit float32
    path = table.write(kind, tmp_path)
    assert len(Embeddings(path).z("train"))
    with pytest.raises(InputError, match="z of 'test' has 3 rows with NaN or infinity"):
        Embeddings(path).z("test")
    with pytest.raises(InputError, match="3 rows"):
        verify(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"id": np.array(["a"] * 120)}, "id 'a' occurs twice"),
        ({"split": np.array(["train", "dev"] * 60)}, "unknown split 'dev'"),
        ({"y_size": np.full(120, np.inf)}, "infinity"),
        ({"y_name": np.array([f"free {i}" for i in range(120)])}, "y_name looks like free text"),
        ({"y_name": np.array(["x"] * 120)}, "'name' has 1 class"),
        ({"y_kind": np.arange(120) * 10**9}, "number the classes 0 to C-1"),
    ],
)
def test_columns_that_cannot_be(
    foreign: Callable[..., Any], tmp_path: Path, kind: str, changes: dict[str, Any], told: str
) -> None:
    path = foreign().change(**changes).write(kind, tmp_path)
    with pytest.raises(InputError, match=told) as caught:
        Embeddings(path)
    assert str(path.with_suffix("")) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_described_in_words(foreign: Callable[..., Any], tmp_path: Path, kind: str) -> None:
    text = describe(foreign().write(kind, tmp_path))
    kinds = {"npz": "NumPy archive", "npy": "NumPy array with e.csv", "parquet": "8 row groups", "h5ad": "AnnData"}
    for part in (kinds[kind], "float32", "trained elsewhere", "12 features", "4 classes (ant, bee 9, bee 10, Ölkäfer)"):
        assert part in text
    assert "as the file says" in text
    assert kind in sources()


def test_one_embedding_of_several(foreign: Callable[..., Any], tmp_path: Path) -> None:
    path = foreign().write("npz", tmp_path)
    assert choices(path) == []
    with pytest.raises(InputError, match=r"'::a' chooses in an \.h5ad or \.parquet only"):
        Embeddings(f"{path}::a")
    odd = path.rename(tmp_path / "a::b.npz")
    assert Embeddings(odd).dim == 12


def test_a_table_alone_is_told_from_its_array(tmp_path: Path) -> None:
    (tmp_path / "z.csv").write_text("id,y_a\n1,2\n")
    with pytest.raises(InputError, match=r"z\.csv: a table, not an array; give the \.npy"):
        Embeddings(tmp_path / "z.csv")
