"""Files made to do harm, or to look like what they are not."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t

from reprkit.embeddings import Embeddings, EmbeddingsWriter, SplitRows, safe, verify
from reprkit.errors import InputError
from reprkit.tasks import Task


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.witness),)


@pytest.fixture
def victim(good_file: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(good_file, tmp_path / "e.h5"))


def refused(path: Path, told: str) -> None:
    with pytest.raises(InputError) as caught:
        verify(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert re.search(told, message.removeprefix(str(path)))
    assert "\n" not in message


def replace(path: Path, name: str, make: Callable[[h5py.Group, str], object]) -> None:
    with h5py.File(path, "r+") as file:
        parent, _, leaf = name.rpartition("/")
        del file[name]
        make(file[parent or "/"], leaf)


@pytest.mark.parametrize(
    "name", ["meta", "meta/schema", "splits", "splits/train", "splits/train/z", "splits/train/targets/age"]
)
@pytest.mark.parametrize("kind", ["soft", "external"])
def test_links_are_not_followed(victim: Path, good_file: Path, name: str, kind: str) -> None:
    def link(group: h5py.Group, leaf: str) -> None:
        group[leaf] = h5py.SoftLink("/" + name) if kind == "soft" else h5py.ExternalLink(str(good_file), "/" + name)

    replace(victim, name, link)
    refused(victim, "is a link to somewhere else")


@pytest.mark.parametrize("name", ["splits/train/z", "splits/val/logits/age", "splits/test/ids", "meta/config"])
def test_virtual_datasets_are_refused(victim: Path, good_file: Path, name: str) -> None:
    def virtual(group: h5py.Group, leaf: str) -> None:
        with h5py.File(good_file, "r") as other:
            source = h5py.VirtualSource(other[name])
            target = h5py.VirtualLayout(shape=source.shape, dtype=source.dtype)
        target[...] = source
        group.create_virtual_dataset(leaf, target)

    replace(victim, name, virtual)
    refused(victim, "keeps its data in other files")


def test_external_storage_is_refused(victim: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(os.urandom(20 * 9 * 4))
    replace(
        victim,
        "splits/val/z",
        lambda group, leaf: group.create_dataset(
            leaf, (20, 9), "f4", external=[(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)]
        ),
    )
    refused(victim, "keeps its data in other files")


@pytest.mark.parametrize("chunks", [None, (1024, 768)])
def test_shape_bombs_are_refused(victim: Path, chunks: tuple[int, int] | None) -> None:
    replace(
        victim,
        "splits/train/z",
        lambda group, leaf: group.create_dataset(leaf, (1 << 30, 768), "f4", chunks=chunks),
    )
    assert victim.stat().st_size < 1 << 20
    refused(victim, r"declares 3,298,534,883,328 bytes.*refused")


def test_a_huge_chunk_is_refused(victim: Path) -> None:
    replace(
        victim,
        "splits/train/z",
        lambda group, leaf: group.create_dataset(
            leaf, (300, 9), "f4", chunks=(1 << 26, 9), maxshape=(None, 9), compression="gzip"
        ),
    )
    refused(victim, "refused")


def test_metadata_bombs_are_refused(victim: Path) -> None:
    replace(victim, "meta/config", lambda group, leaf: group.create_dataset(leaf, (1 << 42,), "u1", chunks=(1 << 20,)))
    refused(victim, "declares")


def test_more_than_free_memory_is_refused(good_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe, "free_memory", lambda: 5000)
    with Embeddings(good_file) as embeddings, pytest.raises(InputError, match="needs .* GB of memory"):
        embeddings.z("train")
    with Embeddings(good_file) as embeddings:
        assert sum(map(len, embeddings.blocks("train", 50))) == 300


def test_free_memory_is_plausible() -> None:
    free = safe.free_memory()
    assert free is None or 1 << 20 < free < 1 << 50


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("splits/train/ids", np.array(["a"] * 300, dtype=object)),
        ("splits/train/z", np.zeros((300, 9), "i4")),
        ("splits/train/z", np.zeros((300, 9, 1), "f4")),
        ("splits/train/targets/age", np.zeros(300, "f8")),
        ("splits/train/targets/size%2Flog", np.zeros(300, "i8")),
        ("splits/train/z", np.zeros((300, 9), [("a", "f4")])),
    ],
)
def test_other_types_are_refused(victim: Path, name: str, values: np.ndarray) -> None:
    dtype = h5py.string_dtype() if values.dtype == object else values.dtype
    replace(victim, name, lambda group, leaf: group.create_dataset(leaf, data=values, dtype=dtype))
    refused(victim, "not what an embeddings file holds there")


def test_a_dataset_where_a_group_should_be(victim: Path) -> None:
    replace(victim, "splits/train/targets", lambda group, leaf: group.create_dataset(leaf, data=np.zeros(3)))
    refused(victim, "is not a group")


@pytest.mark.parametrize("compression", ["lzf", 32001])
def test_other_filters_are_refused(victim: Path, compression: Any) -> None:
    def filtered(group: h5py.Group, leaf: str) -> None:
        properties = h5p.create(h5p.DATASET_CREATE)
        properties.set_chunk((300, 9))
        code = h5py.h5z.FILTER_LZF if compression == "lzf" else compression
        properties.set_filter(code, h5py.h5z.FLAG_OPTIONAL)
        h5d.create(group.id, leaf.encode(), h5t.IEEE_F32LE, h5s.create_simple((300, 9)), properties)

    replace(victim, "splits/train/z", filtered)
    refused(victim, "filter other than gzip")


def test_gzip_is_read(victim: Path, table: Any) -> None:
    replace(
        victim,
        "splits/train/z",
        lambda group, leaf: group.create_dataset(
            leaf, data=table.z["train"], dtype="f4", compression="gzip", shuffle=True, fletcher32=True
        ),
    )
    assert verify(victim).splits["train"].rows == 300


@pytest.mark.parametrize("name", ["meta/run", "splits/val/z", "splits/val/targets/kind", "splits/test/rows_done"])
def test_missing_parts_are_named(victim: Path, name: str) -> None:
    replace(victim, name, lambda group, leaf: None)
    refused(victim, f"has no '/{name}'")


@pytest.mark.parametrize("name", ["splits/val/z", "splits/val/targets/kind", "splits/val/logits/age", "splits/val/ids"])
def test_row_counts_must_agree(victim: Path, name: str) -> None:
    with h5py.File(victim, "r") as file:
        shorter = file[name][:-1]
    replace(victim, name, lambda group, leaf: group.create_dataset(leaf, data=shorter, dtype=shorter.dtype))
    refused(victim, "val")


def test_unstored_chunks_are_noticed(victim: Path) -> None:
    replace(
        victim,
        "splits/train/z",
        lambda group, leaf: group.create_dataset(leaf, (300, 9), "f4", chunks=(100, 9))[:100].sum(),
    )
    refused(victim, "3 chunks of '/splits/train/z' were never stored")


def test_non_finite_values_are_counted(victim: Path) -> None:
    with h5py.File(victim, "r+") as file:
        file["splits/test/z"][[3, 5], 2] = np.nan
    refused(victim, "z of 'test' has 2 rows with NaN or infinity")


def test_targets_out_of_range_and_doubled_ids_are_noticed(victim: Path) -> None:
    with h5py.File(victim, "r+") as file:
        file["splits/test/targets/age"][3] = 4
    refused(victim, "test: targets of task 'age' run from -1 to 4")
    with h5py.File(victim, "r+") as file:
        file["splits/test/targets/age"][3] = 0
        file["splits/test/ids"][4] = file["splits/train/ids"][0]
    refused(victim, "in both train and test")


def json_bytes(value: Any) -> np.ndarray:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run", np.frombuffer(b"{", np.uint8)),
        ("run", np.frombuffer(b"\xff\xfe", np.uint8)),
        ("run", np.frombuffer(b"[" * 100_000, np.uint8)),
        ("run", json_bytes([])),
        ("run", json_bytes({})),
        ("run", json_bytes({"label": 3, "seed": 0, "trained_tasks": []})),
        ("run", json_bytes({"label": "x", "seed": 0, "trained_tasks": ["nope"]})),
        ("schema", json_bytes({"tasks": [{"name": 5, "kind": "ordinal", "num_outputs": 2}], "dim": 9, "dtype": ""})),
        ("schema", json_bytes({"tasks": [{}], "dim": 9, "dtype": "float32"})),
        ("schema", json_bytes({"tasks": [{"name": "a", "kind": "x", "num_outputs": 2}], "dim": 9, "dtype": ""})),
        ("schema", json_bytes({"tasks": [], "dim": "many", "dtype": "float32"})),
    ],
)
def test_bad_metadata_is_one_line(victim: Path, name: str, content: np.ndarray) -> None:
    replace(victim, f"meta/{name}", lambda group, leaf: group.create_dataset(leaf, data=content, dtype="u1"))
    refused(victim, "meta|task|damaged")


def test_a_counter_without_a_number_is_one_line(victim: Path) -> None:
    replace(victim, "splits/test/rows_done", lambda group, leaf: group.create_dataset(leaf, data=np.zeros(0, "i8")))
    refused(victim, "damaged")


def test_fewer_rows_than_ids_are_noticed(victim: Path) -> None:
    with h5py.File(victim, "r+") as file:
        file["splits/test/rows_done"][0] = 100
    refused(victim, "test holds 100 of 101 rows")


def test_other_hdf5_files_and_newer_versions(victim: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.create_dataset("train", data=np.zeros(3))
    refused(tmp_path / "other.h5", "no reprkit embeddings")
    with h5py.File(victim, "r+") as file:
        file.attrs["format_version"] = 2
    refused(victim, "format version 2, this reprkit reads up to 1; upgrade")


def test_unknown_splits_are_refused(victim: Path) -> None:
    with h5py.File(victim, "r+") as file:
        file.move("splits/val", "splits/dev")
    refused(victim, "expected some of train, val, test")


def test_pickles_are_not_loaded(tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    for name in ("e.h5", "e.npz"):
        (tmp_path / name).write_bytes(pickle.dumps(Payload(witness)))
        refused(tmp_path / name, "pickle|not a readable .npz")
    np.savez(tmp_path / "o.npz", z=np.array([[Payload(witness)]], dtype=object), allow_pickle=True)
    refused(tmp_path / "o.npz", "array 'z' holds Python objects")
    assert not witness.exists()


def test_zip_bombs_and_lying_headers_are_refused(tmp_path: Path) -> None:
    def npz(shape: str, body: bytes, name: str) -> Path:
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        stream = io.BytesIO(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + body)
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("z.npy", stream.getvalue())
        return tmp_path / name

    refused(npz("(1073741824, 768)", b"", "lie.npz"), "declares shape")
    refused(npz("(-1, 3)", b"", "negative.npz"), "declares shape|not a NumPy array")
    path = npz("(1, 3)", bytes(12), "size.npz")
    raw = bytearray(path.read_bytes())
    end = raw.index(b"PK\x01\x02")  # the central directory claims 4 GiB - 2 unpacked
    raw[end + 24 : end + 28] = (0xFFFFFFFE).to_bytes(4, "little")
    path.write_bytes(raw)
    refused(path, "refused|not a readable")


def test_a_bomb_by_ratio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reprkit.embeddings.npz.MAX_DECLARED", 1 << 20)
    np.savez_compressed(tmp_path / "e.npz", z=np.zeros((2000, 1000), np.float32), y_t=np.arange(2000) % 2)
    monkeypatch.setattr("reprkit.embeddings.npz.MAX_RATIO", 100)
    refused(tmp_path / "e.npz", "claim to unpack to")


def test_writing_over_a_link_never_touches_its_target(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("precious")
    (tmp_path / "e.h5").symlink_to(tmp_path / "target")
    rows = {"train": SplitRows(["a"], {"t": [0]})}
    with EmbeddingsWriter(tmp_path / "e.h5", splits=rows, tasks=[Task("t", "classification", 2)], dim=1) as writer:
        writer.append("train", np.ones((1, 1)))
        writer.finish()
    assert (tmp_path / "target").read_text() == "precious"
