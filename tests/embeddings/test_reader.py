from __future__ import annotations

import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from reprkit.embeddings import Embeddings, describe, verify
from reprkit.errors import InputError
from reprkit.tasks import Task


@pytest.mark.parametrize("rows", [1, 7, 100, 299, 300, 301, 4096])
def test_blocks_are_the_whole(table: Any, good_file: Path, rows: int) -> None:
    with Embeddings(good_file) as embeddings:
        blocks = list(embeddings.blocks("train", rows))
        assert [len(block) for block in blocks[:-1]] == [rows] * (len(blocks) - 1)
        assert all(block.dtype == np.float32 for block in blocks)
        np.testing.assert_array_equal(np.concatenate(blocks), table.z["train"])
        own = np.concatenate(list(embeddings.logits_blocks("train", "age", rows)))
        np.testing.assert_array_equal(own, table.own["train"])
        with pytest.raises(ValueError, match="at least 1"):
            next(embeddings.blocks("train", 0))


def test_half_precision_is_read_as_single(table_of: Callable[..., Any], tmp_path: Path) -> None:
    table = table_of({"train": 40}, dtype="float16")
    with Embeddings(table.write(tmp_path / "e.h5")) as embeddings:
        assert embeddings.z("train").dtype == np.float32
        np.testing.assert_array_equal(embeddings.z("train"), table.z["train"])


def test_types_and_missing_values(table: Any, good_file: Path) -> None:
    with Embeddings(good_file) as embeddings:
        assert embeddings.targets("train", "age").dtype == np.int64
        assert embeddings.targets("train", "size/log").dtype == np.float64
        assert (embeddings.targets("train", "age") == -1).any()
        assert np.isnan(embeddings.targets("train", "size/log")).any()
        assert embeddings.ids("val").dtype.kind == "U"


def test_what_is_returned_belongs_to_the_caller(table: Any, good_file: Path) -> None:
    memory = Embeddings.from_arrays(table.z["train"], table.rows["train"].targets)
    for embeddings in (Embeddings(good_file), memory):
        for get in (lambda e: e.z("train"), lambda e: e.targets("train", "age"), lambda e: e.ids("train")):
            before = get(embeddings).copy()
            get(embeddings)[:] = get(embeddings)[::-1].copy()
            np.testing.assert_array_equal(get(embeddings), before)
        embeddings.meta.clear()
        embeddings.tasks.clear()
        assert embeddings.meta["label"]
        assert embeddings.tasks


def test_survives_pickling_closing_and_forking(table: Any, good_file: Path) -> None:
    embeddings = Embeddings(good_file)
    copy = pickle.loads(pickle.dumps(embeddings))  # noqa: S301
    np.testing.assert_array_equal(copy.z("train"), table.z["train"])
    embeddings.close()
    embeddings.close()
    np.testing.assert_array_equal(embeddings.z("test"), table.z["test"])
    if os.name == "posix":
        child = os.fork()
        if child == 0:
            os._exit(0 if np.array_equal(embeddings.z("train"), table.z["train"]) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.testing.assert_array_equal(embeddings.z("val"), table.z["val"])


def test_wrong_names_list_the_right_ones(good_file: Path) -> None:
    with Embeddings(good_file) as embeddings:
        with pytest.raises(InputError, match="no split 'dev'; it has train, val, test"):
            embeddings.z("dev")
        with pytest.raises(InputError, match="no task 'x'; it has age, kind, size/log"):
            embeddings.targets("train", "x")
        assert "train 300, val 20, test 101 x 9" in repr(embeddings)


def test_comparable_files_have_equal_keys(table: Any, good_file: Path, table_of: Callable[..., Any]) -> None:
    split = np.concatenate([np.full(len(z), name) for name, z in table.z.items()])
    ids = np.concatenate([rows.ids for rows in table.rows.values()])
    targets = {
        name: np.concatenate([np.asarray(rows.targets[name]) for rows in table.rows.values()])
        for name in ("age", "kind", "size/log")
    }
    other_z = np.ones((len(ids), 2))
    foreign = Embeddings.from_arrays(other_z, targets, ids=ids, split=split)
    key = Embeddings(good_file).comparable_key()
    assert foreign.comparable_key() == key
    swapped = split.copy()
    swapped[[0, -1]] = swapped[[-1, 0]]
    assert Embeddings.from_arrays(other_z, targets, ids=ids, split=swapped).comparable_key() != key
    only = [Embeddings.from_arrays(np.ones((2, 1)), {"t": [0, 1]}, split=[name] * 2) for name in ("train", "test")]
    assert only[0].comparable_key() != only[1].comparable_key()
    targets["kind"][5] = (targets["kind"][5] + 1) % 3
    assert Embeddings.from_arrays(other_z, targets, ids=ids, split=split).comparable_key() != key


def test_describe_says_what_is_in_it(good_file: Path) -> None:
    text = describe(good_file)
    for part in (
        "vanilla+dgr, seed 7",
        "9 features",
        "age: ordinal, 4 classes",
        "in cm",
        "train     300 rows",
        "c" * 64,
    ):
        assert part in text
    assert "own outputs for age" in text


def test_verify_reports_the_numbers(table: Any, good_file: Path) -> None:
    found = verify(good_file)
    for split, summary in found.splits.items():
        z = table.z[split].astype(np.float64)
        assert summary.rows == len(z)
        assert summary.rms == pytest.approx(np.sqrt((z**2).mean()), rel=1e-6)
        assert summary.peak == np.abs(z).max()
        assert summary.labelled["size/log"] == np.isfinite(table.rows[split].targets["size/log"]).sum()
        assert summary.logits == ("age",)


# Damage


def chunks_of(path: Path, name: str) -> list[Any]:
    with h5py.File(path, "r") as file:
        return [file[name].id.get_chunk_info(i) for i in range(file[name].id.get_num_chunks())]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("z", lambda e: e.z("train")),
        ("z", lambda e: list(e.blocks("train", 10))),
        ("logits/age", lambda e: e.logits("train", "age")),
        ("targets/kind", lambda e: e.targets("train", "kind")),
        ("ids", lambda e: e.ids("train")),
    ],
)
def test_one_flipped_bit_is_an_error_that_names_file_and_split(
    table: Any, tmp_path: Path, name: str, read: Callable[[Embeddings], object]
) -> None:
    path = table.write(tmp_path / "e.h5")
    rng, good = random.Random(0), path.read_bytes()
    for _ in range(10):
        chunk = rng.choice(chunks_of(path, f"splits/train/{name}"))
        raw = bytearray(good)
        raw[chunk.byte_offset + rng.randrange(chunk.size)] ^= 1 << rng.randrange(8)
        path.write_bytes(raw)
        with Embeddings(path) as embeddings, pytest.raises(InputError, match=r"e\.h5: .*train.*damaged") as caught:
            read(embeddings)
        assert "re-run `reprkit embed`" in str(caught.value)
        assert "\n" not in str(caught.value)
        with pytest.raises(InputError):
            verify(path)


def test_a_flip_anywhere_is_noticed_or_harmless(table_of: Callable[..., Any], tmp_path: Path) -> None:
    table = table_of({"train": 30, "test": 9})
    path = table.write(tmp_path / "e.h5")

    def content() -> tuple[Any, ...]:
        verify(path)
        with Embeddings(path) as e:
            z = [e.z(split).tobytes() for split in e.splits]
            own = [e.logits(split, "age").tobytes() for split in e.splits]  # type: ignore[union-attr]
            return e.meta, e.tasks, e.comparable_key(), z, own

    good, expected, rng = path.read_bytes(), content(), random.Random(0)
    noticed = 0
    for _ in range(80):
        raw = bytearray(good)
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        path.write_bytes(raw)
        try:
            found = content()
        except InputError:
            noticed += 1
        else:
            assert found == expected
    assert noticed > 8


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_truncated_files_are_refused(good_file: Path, tmp_path: Path, keep: float) -> None:
    content = good_file.read_bytes()
    path = tmp_path / "e.h5"
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(InputError, match=r"e\.h5: .*(empty|truncated|not an HDF5|damaged)"):
        Embeddings(path)


def test_incomplete_files_are_refused(table: Any, tmp_path: Path) -> None:
    with table.writer(tmp_path / "e.h5") as writer:
        table.feed(writer)
    with pytest.raises(InputError, match=r"e\.h5: not finished, only its \.partial"):
        Embeddings(tmp_path / "e.h5")
    partial = tmp_path / "e.h5.partial"
    with pytest.raises(InputError, match="incomplete.*re-run `reprkit embed`"):
        Embeddings(partial)
    np.testing.assert_array_equal(Embeddings(partial, allow_partial=True).z("train"), table.z["train"])


def test_rows_not_written_yet_are_an_error_not_numbers(table: Any, tmp_path: Path) -> None:
    with table.writer(tmp_path / "e.h5") as writer:
        table.feed(writer, stop=1)
    with Embeddings(tmp_path / "e.h5.partial", allow_partial=True) as embeddings:
        with pytest.raises(InputError, match="z of 'test' has 101 rows with NaN"):
            embeddings.z("test")


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; make it with `reprkit embed`"):
        Embeddings(tmp_path / "none.h5")
    with pytest.raises(InputError, match="is a folder"):
        Embeddings(tmp_path)


# In memory


def test_from_arrays_keeps_given_tasks_and_infers_others() -> None:
    z = np.arange(12.0).reshape(6, 2)
    targets = {"a": np.array([0, 1, 1, -1, 0, 1]), "b": np.array([1.0, 3.0, np.nan, 5.0, 5.0, 5.0])}
    split = ["train", "train", "train", "val", "test", "test"]
    given = Task("a", "ordinal", 5)
    embeddings = Embeddings.from_arrays(z, targets, tasks=[given], split=split, label="mine")
    assert embeddings.tasks == {"a": given, "b": Task("b", "regression", 1, mean=2.0, std=1.0)}
    assert (embeddings.label, embeddings.seed, embeddings.trained_tasks) == ("mine", 0, ("a", "b"))
    assert embeddings.ids("test").tolist() == ["4", "5"]
    np.testing.assert_array_equal(embeddings.z("val"), z[3:4])
    assert embeddings.logits("val", "a") is None
    assert embeddings.meta["provenance"] == {"split_rule": "given"}


def test_the_split_rule_looks_at_the_id_alone() -> None:
    ids = np.array([f"img{i}" for i in range(20_000)])
    targets = {"t": np.arange(20_000) % 2}
    embeddings = Embeddings.from_arrays(np.ones((20_000, 1)), targets, ids=ids)
    shares = [embeddings.num_rows(split) / 20_000 for split in ("train", "val", "test")]
    np.testing.assert_allclose(shares, [0.7, 0.1, 0.2], atol=0.015)
    shuffled = np.random.default_rng(0).permutation(ids)[:5000]
    other = Embeddings.from_arrays(np.ones((5000, 1)), {"t": np.arange(5000) % 2}, ids=shuffled)
    assert set(other.ids("test")) == set(embeddings.ids("test")) & set(shuffled)
