from __future__ import annotations

import hashlib
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprkit.embeddings import Embeddings, EmbeddingsWriter, SplitRows, verify
from reprkit.embeddings import format as layout
from reprkit.errors import InputError
from reprkit.tasks import Task

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs fork and SIGKILL")


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def assert_holds(path: Path, table: Any) -> None:
    with Embeddings(path) as embeddings:
        for split, z in table.z.items():
            rows = table.rows[split]
            np.testing.assert_array_equal(embeddings.z(split), z)
            np.testing.assert_array_equal(embeddings.ids(split), np.array(rows.ids))
            np.testing.assert_array_equal(embeddings.logits(split, "age"), table.own[split])
            for task, values in rows.targets.items():
                np.testing.assert_array_equal(embeddings.targets(split, task), values)


def test_round_trip(table: Any, good_file: Path) -> None:
    assert_holds(good_file, table)
    with Embeddings(good_file) as embeddings:
        assert embeddings.splits == ("train", "val", "test")
        assert (embeddings.label, embeddings.seed, embeddings.dim) == ("vanilla+dgr", 7, 9)
        assert embeddings.trained_tasks == ("age", "kind")
        assert embeddings.meta["config"]["text"] == "ünïcode"
        assert embeddings.tasks["age"].classes == ("a", "b", "c", "d")
        assert embeddings.tasks["size/log"] == Task("size/log", "regression", 1, unit="cm", mean=1.5, std=2.0)
        assert embeddings.logits("train", "kind") is None
    assert not list(good_file.parent.glob("*.partial*"))


@settings(deadline=None, max_examples=25)
@given(
    train=st.integers(1, 70),
    test=st.integers(0, 40),
    dim=st.integers(1, 12),
    dtype=st.sampled_from(["float32", "float16"]),
    batch=st.integers(1, 90),
    chunk=st.integers(1, 400),
)
def test_any_size_round_trips(
    tmp_path_factory: pytest.TempPathFactory,
    table_of: Callable[..., Any],
    train: int,
    test: int,
    dim: int,
    dtype: str,
    batch: int,
    chunk: int,
) -> None:
    table = table_of({"train": train, "test": test}, dim=dim, dtype=dtype)
    folder = tmp_path_factory.mktemp("w")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "CHUNK_BYTES", chunk)
        path = table.write(folder / "a.h5", batch=batch)
        again = table.write(folder / "b.h5", batch=7)
    assert sha(path) == sha(again)  # the batch size leaves no trace
    present = {name: count for name, count in (("train", train), ("test", test)) if count}
    with Embeddings(path) as embeddings:
        assert {name: embeddings.num_rows(name) for name in embeddings.splits} == present
        for split in present:
            np.testing.assert_array_equal(embeddings.z(split), table.z[split])
            np.testing.assert_array_equal(np.concatenate(list(embeddings.blocks(split, rows=13))), table.z[split])
            np.testing.assert_array_equal(embeddings.logits(split, "age"), table.own[split])


def test_same_input_same_bytes_at_another_time(table: Any, good_file: Path, tmp_path: Path) -> None:
    time.sleep(1.1)  # HDF5 time stamps have a resolution of one second
    assert sha(table.write(tmp_path / "other name.h5")) == sha(good_file)


def test_large_chunks_are_about_two_mebibytes() -> None:
    assert layout.chunk_rows(20_000, [2048 * 4, 40]) == 256
    assert layout.chunk_rows(10, [2048 * 4]) == 10
    assert layout.chunk_rows(10, [1 << 30]) == 1


# Interruption


@pytest.mark.usefixtures("small_chunks")
def test_closing_early_leaves_a_partial_that_continues(table: Any, tmp_path: Path) -> None:
    whole = sha(table.write(tmp_path / "whole.h5"))
    path = tmp_path / "cut.h5"
    for stop in (1, 2, 3, 1):
        with table.writer(path) as writer:
            before = writer.rows_done("train")
            table.feed(writer, stop=stop)
    assert 0 < before < 300
    assert not path.exists()
    with table.writer(path) as writer:
        assert writer.rows_done("train") >= before
        table.feed(writer)
        writer.finish()
    assert sha(path) == whole


@POSIX
def test_two_processes_cannot_write_one_file(tmp_path: Path) -> None:
    arguments = 'splits={"train": SplitRows(["a"], {"t": [0]})}, tasks=[Task("t", "classification", 2)], dim=3'
    code = f"""
import sys
from reprkit.embeddings import EmbeddingsWriter, SplitRows
from reprkit.tasks import Task
EmbeddingsWriter(sys.argv[1], {arguments})
"""
    command = [sys.executable, "-c", code, str(tmp_path / "e.h5")]
    with one(tmp_path / "e.h5"):
        result = subprocess.run(command, capture_output=True, text=True)
        assert "e.h5.partial: another process is writing it" in result.stderr
    subprocess.run(command, check=True)


def kill_at_random(work: Callable[[], object], rng: random.Random, longest: float) -> bool:
    """Run `work` in a fork and SIGKILL it within `longest` seconds; True if it came to its end."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    time.sleep(rng.uniform(0, longest))
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return not os.WIFSIGNALED(status)


@POSIX
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("kills", [25, pytest.param(300, marks=pytest.mark.slow)])
def test_kill_at_any_moment_leaves_no_trace(kills: int, table_of: Callable[..., Any], tmp_path: Path) -> None:
    table = table_of({"train": 3000, "val": 1, "test": 1003}, dim=9)
    start = time.perf_counter()
    whole = sha(table.write(tmp_path / "whole.h5"))
    longest = time.perf_counter() - start
    rng, path, seen = random.Random(0), tmp_path / "killed.h5", 0
    for _ in range(kills):
        done = kill_at_random(lambda: table.write(path, batch=50), rng, longest / 3)
        seen += not done
        assert path.exists() or not done
        if path.exists():
            assert sha(path) == whole
            path.unlink()
        if done:  # a kill while the structure is laid out
            (tmp_path / "killed.h5.partial.tmp").write_bytes(b"\x89HDF\r\n\x1a\n half a superblock")
    table.write(path, batch=50)
    assert sha(path) == whole
    assert seen > kills // 3
    assert not list(tmp_path.glob("*.partial*"))


WORKER = """
import sys
from pathlib import Path
import numpy as np
from reprkit.embeddings import EmbeddingsWriter, SplitRows
from reprkit.tasks import Task

rng = np.random.default_rng(0)
z = rng.normal(size=(4000, 1024)).astype("f4")
rows = SplitRows([str(i) for i in range(4000)], {"t": rng.integers(0, 3, 4000)})
tasks = [Task("t", "classification", 3)]
with EmbeddingsWriter(Path(sys.argv[1]), splits={"train": rows}, tasks=tasks, dim=1024, meta={"label": "x"}) as w:
    print(w.rows_done("train"), flush=True)
    for start in range(w.rows_done("train"), 4000, 100):
        w.append("train", z[start : start + 100])
        print("row", start, flush=True)
    w.finish()
"""


@POSIX
def test_kill_of_a_whole_interpreter(tmp_path: Path) -> None:
    rng = random.Random(1)
    subprocess.run([sys.executable, "-c", WORKER, tmp_path / "whole.h5"], check=True, stdout=subprocess.DEVNULL)
    command, first = [sys.executable, "-c", WORKER, tmp_path / "killed.h5"], []
    for _ in range(3):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
            assert worker.stdout is not None
            first.append(int(worker.stdout.readline()))
            for _ in range(rng.randrange(12, 30)):
                worker.stdout.readline()
            worker.kill()
    assert first[0] == 0 < first[1] < first[2] <= 4000
    assert first[1] % 512 == 0  # only whole chunks count
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert sha(tmp_path / "killed.h5") == sha(tmp_path / "whole.h5")


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("left", [b"\0", b"\xa5"])
def test_a_power_cut_that_lost_data_behind_the_counter(table: Any, tmp_path: Path, left: bytes) -> None:
    path = tmp_path / "e.h5"
    whole = sha(table.write(tmp_path / "whole.h5"))
    with table.writer(path) as writer:
        table.feed(writer)
    partial = tmp_path / "e.h5.partial"
    with h5py.File(partial, "r") as file:
        lost = file["splits/train/z"].id.get_chunk_info(2)
        rows = file["splits/train/z"].chunks[0]
    with open(partial, "r+b") as raw:
        raw.seek(lost.byte_offset)
        raw.write(left * lost.size)
    with table.writer(path) as writer:
        assert writer.rows_done("train") == 2 * rows
        assert writer.rows_done("test") == 101
        table.feed(writer)
        assert sha(writer.finish()) == whole


def test_killed_between_complete_and_the_final_name(table: Any, good_file: Path, tmp_path: Path) -> None:
    partial = tmp_path / "e.h5.partial"
    partial.write_bytes(good_file.read_bytes())
    with table.writer(tmp_path / "e.h5") as writer:
        assert writer.rows_done("test") == 101
        assert sha(writer.finish()) == sha(good_file)


@pytest.mark.parametrize(
    "changes",
    [
        {"meta": {"seed": 8}},
        {"dtype": "float16"},
        {"logits": {"age": 4, "kind": 3}},
        {"meta": {"fingerprints": {"checkpoint": "other"}}},
    ],
)
def test_a_partial_of_other_identity_is_discarded(
    table: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: dict[str, Any]
) -> None:
    with table.writer(tmp_path / "e.h5") as writer:
        table.feed(writer)
    with caplog.at_level(logging.WARNING), table.writer(tmp_path / "e.h5", **changes) as writer:
        assert writer.rows_done("train") == 0
    assert "discarding" in caplog.text


def test_other_targets_or_ids_are_another_identity(table_of: Callable[..., Any], tmp_path: Path) -> None:
    first, second = (table_of({"train": 10}, seed=seed) for seed in (0, 1))
    with first.writer(tmp_path / "e.h5") as writer:
        first.feed(writer)
    with second.writer(tmp_path / "e.h5") as writer:
        assert writer.rows_done("train") == 0
    renamed = SplitRows([f"x{i}" for i in range(10)], second.rows["train"].targets)
    with second.writer(tmp_path / "e.h5") as writer:
        second.feed(writer)
    with second.writer(tmp_path / "e.h5", splits={"train": renamed}) as writer:
        assert writer.rows_done("train") == 0


@pytest.mark.parametrize("wreck", [b"", b"\x89HDF\r\n\x1a\n", b"something else" * 100])
def test_an_unreadable_partial_is_discarded(
    table: Any, tmp_path: Path, wreck: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "e.h5.partial").write_bytes(wreck)
    with caplog.at_level(logging.WARNING):
        table.write(tmp_path / "e.h5")
    assert "discarding" in caplog.text
    assert_holds(tmp_path / "e.h5", table)


def test_the_old_file_stays_until_finish(table: Any, table_of: Callable[..., Any], tmp_path: Path) -> None:
    old = sha(table_of({"train": 3}).write(tmp_path / "e.h5"))
    with table.writer(tmp_path / "e.h5") as writer:
        table.feed(writer)
        assert sha(tmp_path / "e.h5") == old
        writer.finish()
    assert_holds(tmp_path / "e.h5", table)


# Wrong input


def one(path: Path, **changes: Any) -> EmbeddingsWriter:
    arguments: dict[str, Any] = {
        "splits": {"train": SplitRows(["a", "b"], {"t": [0, 1]})},
        "tasks": [Task("t", "classification", 2)],
        "dim": 3,
    }
    return EmbeddingsWriter(path, **{**arguments, **changes})


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ({"train": SplitRows(["a", "a"], {"t": [0, 1]})}, "train: id 'a' occurs twice"),
        ({"train": SplitRows(["a"], {"t": [0]}), "test": SplitRows(["a"], {"t": [0]})}, "both train and test"),
        ({"train": SplitRows(["a", ""], {"t": [0, 1]})}, "empty"),
        ({"train": SplitRows(["a", "b\0"], {"t": [0, 1]})}, "NUL"),
        ({"train": SplitRows(["a", "\udc80"], {"t": [0, 1]})}, "Unicode"),
        ({"train": SplitRows(["a", "b" * 2000], {"t": [0, 1]})}, "over 1024"),
        ({"train": SplitRows(["a", "b"], {"t": [0, 2]})}, "from 0 to 2, expected 0 to 1"),
        ({"train": SplitRows(["a", "b"], {"t": [-2, 0]})}, "from -2 to 0"),
        ({"train": SplitRows(["a", "b"], {"t": [0.0, 1.0]})}, "integer class indices"),
        ({"train": SplitRows(["a", "b"], {"t": [0]})}, "shape"),
        ({"train": SplitRows(["a", "b"], {})}, r"expected \['t'\]"),
        ({"valid": SplitRows(["a", "b"], {"t": [0, 1]})}, "unknown split 'valid'"),
        ({"train": SplitRows([], {"t": []})}, "no rows"),
        ({}, "no rows"),
    ],
)
def test_bad_rows_are_refused(tmp_path: Path, rows: Any, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        one(tmp_path / "e.h5", splits=rows)
    assert "e.h5" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_metadata_must_be_plain(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="meta 'config' cannot be stored as JSON"):
        one(tmp_path / "e.h5", meta={"config": {"x": object()}})
    with pytest.raises(InputError, match="meta 'provenance' cannot be stored as JSON"):
        one(tmp_path / "e.h5", meta={"provenance": {"x": float("nan")}})
    with pytest.raises(ValueError, match="unknown meta keys"):
        one(tmp_path / "e.h5", meta={"lable": "x"})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_name_the_sample(tmp_path: Path, bad: float) -> None:
    z = np.zeros((2, 3), np.float32)
    z[1, 2] = bad
    with one(tmp_path / "e.h5") as writer, pytest.raises(InputError, match="z of sample 'b' in 'train' is not finite"):
        writer.append("train", z)
    with one(tmp_path / "g.h5", logits={"t": 3}) as writer, pytest.raises(InputError, match="logits/t of sample 'b'"):
        writer.append("train", np.zeros((2, 3)), {"t": z})


def test_half_precision_overflow_is_refused(tmp_path: Path) -> None:
    with one(tmp_path / "e.h5", dtype="float16") as writer, pytest.raises(InputError, match="'a'.*7e.04.*float16"):
        writer.append("train", np.full((1, 3), 7e4, np.float32))


def test_appending_wrongly_is_an_error_of_the_code(tmp_path: Path) -> None:
    with one(tmp_path / "e.h5") as writer:
        with pytest.raises(ValueError, match="shapes"):
            writer.append("train", np.zeros((1, 4)))
        with pytest.raises(ValueError, match="shapes"):
            writer.append("train", np.zeros((1, 3)), {"t": np.zeros((1, 2))})
        with pytest.raises(ValueError, match="expected from 0 of 2"):
            writer.append("train", np.zeros((3, 3)))
        with pytest.raises(ValueError, match="expected from 0 of 2"):
            writer.append("train", np.zeros((1, 3)), start=1)
        with pytest.raises(ValueError, match="of 0"):
            writer.append("test", np.zeros((1, 3)))
        writer.append("test", np.zeros((0, 3)))
        with pytest.raises(ValueError, match="0 of 2 rows"):
            writer.finish()
    assert not (tmp_path / "e.h5").exists()


@POSIX
def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    code = f"""
import resource
from reprkit.embeddings import EmbeddingsWriter, SplitRows
from reprkit.tasks import Task
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
rows = SplitRows([str(i) for i in range(9000)], {{"t": [0, 1, 2] * 3000}})
EmbeddingsWriter({str(tmp_path / "e.h5")!r}, splits={{"train": rows}}, tasks=[Task("t", "classification", 3)], dim=512)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "InputError" in result.stderr
    assert "e.h5: cannot write 18 MB there (File too large)" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_missing_or_read_only_place_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        one(tmp_path / "file" / "e.h5")


# Memory

STREAM = """
import os, sys
from reprkit.embeddings import EmbeddingsWriter, SplitRows
from reprkit.tasks import Task
import numpy as np
def rss():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
n, path = int(sys.argv[1]), sys.argv[2]
z = np.random.default_rng(0).normal(size=(256, 2048)).astype("f4")
rows = SplitRows([f"{i:08d}" for i in range(n)], {"t": np.arange(n) % 3})
from reprkit.embeddings import verify
peak = before = rss()
with EmbeddingsWriter(path, splits={"train": rows}, tasks=[Task("t", "classification", 3)], dim=2048) as w:
    for start in range(0, n, 256):
        w.append("train", z[: n - start])
        peak = max(peak, rss())
    w.finish()
print(max(peak, rss()) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("rows", [12_000, pytest.param(200_000, marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_file(rows: int, tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    result = subprocess.run([sys.executable, "-c", STREAM, str(rows), path], capture_output=True, text=True, check=True)
    assert path.stat().st_size > rows * 2048 * 4
    assert int(result.stdout) < 32 << 20
    assert verify(path).splits["train"].rows == rows
