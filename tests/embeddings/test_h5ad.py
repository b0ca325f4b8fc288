from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from reprkit.embeddings import Embeddings, choices, describe, safe, verify
from reprkit.embeddings.h5ad import pieces
from reprkit.errors import InputError

TEXT = h5py.string_dtype()


@pytest.fixture
def victim(foreign: Callable[..., Any], tmp_path: Path) -> Path:
    return foreign().write("h5ad", tmp_path)


def refused(path: Path, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        verify(path)
    assert str(path).split("::")[0] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "reprkit embed" not in str(caught.value)


def change(path: Path, name: str, make: Callable[[h5py.Group, str], object] | None = None) -> None:
    with h5py.File(path, "r+") as file:
        parent, _, leaf = name.rpartition("/")
        if name in file:
            del file[name]
        if make:
            make(file[parent or "/"], leaf)


def add(path: Path, name: str, values: Any, **options: Any) -> None:
    change(path, name, lambda group, leaf: group.create_dataset(leaf, data=values, **options))


def test_which_array_is_z(victim: Path) -> None:
    rng = np.random.default_rng(0)
    add(victim, "obsm/X_umap", rng.normal(size=(120, 2)))
    add(victim, "X", rng.normal(size=(120, 5)).astype(np.float32))
    change(
        victim,
        "obsm/sparse",
        lambda group, leaf: group.create_group(leaf).attrs.update({"encoding-type": "csr_matrix"}),
    )
    add(victim, "obsm/flat", np.ones(120))
    refused(
        victim, r"several embeddings: X_emb \(12 features\), X_umap \(2 features\); name one, as in .*e\.h5ad::X_emb"
    )
    assert choices(victim) == [f"{victim}::X_emb", f"{victim}::X_umap"]
    dims = {name: Embeddings(f"{victim}::{name}") for name in ("X_emb", "X_umap", "X")}
    assert {name: embeddings.dim for name, embeddings in dims.items()} == {"X_emb": 12, "X_umap": 2, "X": 5}
    assert dims["X_umap"].label == "e X_umap"
    assert "obsm/X_umap" in describe(f"{victim}::X_umap")
    assert len({embeddings.comparable_key() for embeddings in dims.values()}) == 1
    for wrong in ("sparse", "flat", "nothing"):
        refused(Path(f"{victim}::{wrong}"), f"no dense array '{wrong}' in obsm; choose from X_emb")
    change(victim, "X", lambda group, leaf: group.create_group(leaf))
    refused(Path(f"{victim}::X"), "X is sparse; store it as a dense array")
    change(victim, "obsm", lambda group, leaf: group.create_group(leaf))
    refused(victim, r"no dense array in obsm; add one, or name .*e\.h5ad::X")


def test_encodings_of_columns(victim: Path) -> None:
    """Without y_ columns, each column of obs is what its encoding and values say."""
    index = np.arange(120)
    with h5py.File(victim, "r+") as file:
        obs = file["obs"]
        for name in ("y_kind", "y_name", "y_size"):
            del obs[name]
        stage = obs.create_group("stage")
        stage.attrs.update({"encoding-type": "categorical", "encoding-version": "0.2.0", "ordered": True})
        stage["codes"] = np.where(index % 5 == 0, -1, index % 3).astype(np.int8)
        stage.create_dataset("categories", data=np.array(["low", "mid", "high", "top"], object), dtype=TEXT)
        years = obs.create_group("years")
        years.attrs.update({"encoding-type": "categorical", "ordered": False})
        years["codes"] = (index % 2).astype(np.uint8)
        years["categories"] = np.array([2010, 1999])
        flag = obs.create_group("flag")
        flag.attrs.update({"encoding-type": "nullable-boolean", "encoding-version": "0.1.0"})
        flag["values"], flag["mask"] = index % 2 == 0, index % 4 == 0
        word = obs.create_group("word")
        word.attrs.update({"encoding-type": "nullable-string-array", "encoding-version": "0.1.0"})
        word.create_dataset("values", data=np.array(["b", "a"], object)[index % 2], dtype=TEXT)
        word["mask"] = index % 4 == 1
        obs["fixed"] = np.array([b"p", b"q", b""])[index % 3]
        obs["genes"] = index * 7
        obs["score"] = (index / 3).astype(np.float32)
        obs.create_dataset("barcode", data=np.array([f"b{i}" for i in index], object), dtype=TEXT)
        obs["matrix"] = np.ones((120, 2))
        obs.create_group("odd").attrs["encoding-type"] = "awkward-array"
        obs["link"] = np.array([obs.ref] * 120, h5py.ref_dtype)
        obs.attrs["column-order"] = ["score", "stage", "years"]
    embeddings = Embeddings(victim)
    found = {name: (task.kind, task.classes) for name, task in embeddings.tasks.items()}
    assert found == {
        "score": ("regression", ()),
        "stage": ("ordinal", ("low", "mid", "high", "top")),
        "years": ("classification", ("1999", "2010")),
        "fixed": ("classification", ("p", "q")),
        "flag": ("classification", ("False", "True")),
        "genes": ("regression", ()),
        "word": ("classification", ("a", "b")),
    }
    assert list(embeddings.tasks)[:3] == ["score", "stage", "years"]  # the stated order
    assert set(embeddings.meta["provenance"]["left_out"]) == {"barcode", "matrix", "odd", "link"}
    assert "no task   odd: is encoded as 'awkward-array'" in describe(victim)
    order = {name: place for place, name in enumerate(h5py.File(victim)["obs/names"].asstr()[:])}
    expected = {
        "stage": np.where(index % 5 == 0, -1, index % 3),
        "years": 1 - index % 2,
        "flag": np.where(index % 4 == 0, -1, index % 2 == 0),
        "word": np.where(index % 4 == 1, -1, 1 - index % 2),
        "fixed": np.array([0, 1, -1])[index % 3],
        "genes": index * 7,
    }
    for split in embeddings.splits:
        rows = [order[name] for name in embeddings.ids(split)]
        for name, values in expected.items():
            np.testing.assert_array_equal(embeddings.targets(split, name), values[rows], name)


def test_the_older_layout(victim: Path) -> None:
    """Before 0.8: no attributes on the file, categories in a group of their own behind references."""
    with h5py.File(victim, "r+") as file:
        file.attrs.clear()
        obs = file["obs"]
        for name in ("y_kind", "y_name", "y_size"):
            del obs[name]
        obs.attrs["encoding-version"] = "0.1.0"
        del obs.attrs["column-order"]
        kept = obs.create_group("__categories")
        kept.create_dataset("grade", data=np.array(["good", "bad"], object), dtype=TEXT).attrs["ordered"] = True
        obs.create_dataset("grade", data=np.tile([0, 1, -1], 40).astype("i1")).attrs["categories"] = kept["grade"].ref
        obs["size"] = np.arange(120) / 9
    embeddings = Embeddings(victim)
    assert set(embeddings.tasks) == {"grade", "size"}
    assert embeddings.tasks["grade"].classes == ("good", "bad")
    assert embeddings.tasks["grade"].kind == "ordinal"
    labelled = [embeddings.targets(split, "grade") for split in embeddings.splits]
    assert np.bincount(np.concatenate(labelled) + 1).tolist() == [40, 40, 40]


@pytest.mark.parametrize(
    "storage", [{}, {"chunks": (7, 5)}, {"compression": "gzip", "shuffle": True}, {"compression": "lzf"}]
)
def test_storage_of_z(foreign: Callable[..., Any], tmp_path: Path, storage: dict[str, Any]) -> None:
    table = foreign()
    embeddings = Embeddings(table.write("h5ad", tmp_path, **storage))
    for split in embeddings.splits:
        np.testing.assert_array_equal(embeddings.z(split), table.z[table.columns["split"] == split])


@pytest.mark.parametrize(("gap", "longest"), [(1, 100), (3, 5), (100, 1), (2, 2)])
def test_pieces_cover_every_row_once(gap: int, longest: int) -> None:
    rng = np.random.default_rng(0)
    for size in (1, 2, 50):
        rows = np.sort(rng.choice(200, size, replace=False))
        cut = list(pieces(rows, gap=gap, longest=longest))
        np.testing.assert_array_equal(np.concatenate([rows[part] for part in cut]), rows)
        for part in cut:
            assert rows[part.stop - 1] - rows[part.start] < longest
            assert np.all(np.diff(rows[part]) <= gap)
    assert list(pieces(np.array([], int), gap=1, longest=1)) == []


# Made to do harm


@pytest.mark.parametrize("name", ["obs", "obs/names", "obs/y_kind/mask", "obs/y_name/categories", "obs/y_size"])
@pytest.mark.parametrize("kind", ["soft", "external"])
@pytest.mark.timeout(30)
def test_links_are_not_followed(victim: Path, tmp_path: Path, name: str, kind: str) -> None:
    pipe = tmp_path / "pipe"
    if hasattr(os, "mkfifo"):
        os.mkfifo(pipe)  # to open it would wait for ever
    link = h5py.SoftLink("/" + name) if kind == "soft" else h5py.ExternalLink(str(pipe), "/x")
    change(victim, name, lambda group, leaf: group.__setitem__(leaf, link))
    refused(victim, "is a link to somewhere else")


@pytest.mark.parametrize("name", ["obsm", "obsm/X_emb"])
@pytest.mark.timeout(30)
def test_an_embedding_behind_a_link_is_none(victim: Path, tmp_path: Path, name: str) -> None:
    pipe = tmp_path / "pipe"
    if hasattr(os, "mkfifo"):
        os.mkfifo(pipe)
    change(victim, name, lambda group, leaf: group.__setitem__(leaf, h5py.ExternalLink(str(pipe), "/x")))
    refused(victim, "no dense array in obsm")
    refused(Path(f"{victim}::X_emb"), "no dense array 'X_emb'")


def test_data_in_other_files_is_refused(victim: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(os.urandom(120 * 12 * 4))
    outside = [(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)]
    change(victim, "obsm/X_emb", lambda group, leaf: group.create_dataset(leaf, (120, 12), "f4", external=outside))
    refused(victim, "keeps its data in other files")
    layout = h5py.VirtualLayout(shape=(120,), dtype="f8")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", shape=(120,))
    change(victim, "obs/y_size", lambda group, leaf: group.create_virtual_dataset(leaf, layout))
    change(victim, "obsm/X_emb", lambda group, leaf: group.create_dataset(leaf, data=np.ones((120, 12))))
    refused(victim, "keeps its data in other files")


def test_shape_bombs_are_refused(victim: Path) -> None:
    change(victim, "obsm/X_emb", lambda group, leaf: group.create_dataset(leaf, (1 << 40, 12), "f4", chunks=(1024, 12)))
    refused(victim, r"declares 52,776,558,133,248 bytes.*refused")
    change(victim, "obsm/X_emb", lambda group, leaf: group.create_dataset(leaf, data=np.ones((120, 12))))
    change(victim, "obs/names", lambda group, leaf: group.create_dataset(leaf, (1 << 40,), TEXT, chunks=(1024,)))
    refused(victim, "refused|memory")


def test_one_long_text_for_all_rows_is_refused(victim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(victim, "obs/y_name", np.array(["x" * 2000] * 120, object), dtype=TEXT)
    refused(victim, "'/obs/y_name' holds text over 1024 bytes; refused")
    rows: list[int] = []
    original = h5py.Dataset.__getitem__

    def counting(self: h5py.Dataset, key: Any, *more: Any) -> Any:
        found = original(self, key, *more)
        rows.append(len(found))
        return found

    with h5py.File(victim) as file:
        monkeypatch.setattr(safe, "free_memory", lambda: 1 << 20)  # less than the file, ten times over
        monkeypatch.setattr(h5py.Dataset, "__getitem__", counting)
        assert len(safe.read_text(file["obs/names"], "x")) == 120
    assert max(rows) == 16


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("obs/y_size", np.ones(119), r"y_size is float64 of shape \(119,\)"),
        ("obs/names", np.arange(119), r"ids is int64 of shape \(119,\)"),
        ("obs/names", np.zeros(120, int), "id '0' occurs twice"),
        ("obs/names", np.ones(120), "ids is float64"),
        ("obs/y_name/codes", np.full(120, 9, np.int8), "codes 9 to 9 for 4 categories"),
        ("obs/y_name/codes", np.full(120, -2, np.int8), "codes -2 to -2"),
        ("obs/y_name/codes", np.ones(120), "not what an embeddings file holds there"),
        ("obs/y_name/codes", np.ones((120, 1), int), "not what an embeddings file holds there"),
        ("obs/y_kind/mask", np.zeros(119, bool), "y_kind is encoded as 'nullable-integer'"),
        ("obs/y_kind/mask", np.zeros(120), "not what an embeddings file holds there"),
        ("obs/y_name/categories", np.ones((2, 2)), "categories that are no text or numbers"),
        ("obs/split", np.array([b"train", b"dev"] * 60), "unknown split 'dev'"),
        ("obs/y_name", np.array([b"\xff"] * 120), "damaged"),
    ],
)
def test_parts_that_do_not_fit(victim: Path, name: str, values: np.ndarray, told: str) -> None:
    add(victim, name, values)
    refused(victim, told)


@pytest.mark.parametrize("name", ["obs", "obs/names", "obs/y_name/codes", "obs/y_name/categories", "obs/y_kind/values"])
def test_missing_parts_are_named(victim: Path, name: str) -> None:
    change(victim, name)
    refused(victim, f"has no '/{name}'")


def test_attributes_of_other_types(victim: Path) -> None:
    with h5py.File(victim, "r+") as file:
        file["obs"].attrs["column-order"] = np.arange(3)
        file["obs/y_name"].attrs["ordered"] = "yes"
    assert list(Embeddings(victim).tasks) == ["kind", "name", "size"]
    with h5py.File(victim, "r+") as file:
        file["obs"].attrs["_index"] = 5
    refused(victim, "'/obs' names no index")
    with h5py.File(victim, "r+") as file:
        file["obs"].attrs["_index"] = "../obs/names"
    refused(victim, "has no|damaged")
    with h5py.File(victim, "r+") as file:
        file["obs/y_name"].attrs["encoding-type"] = np.array(["categorical"] * 2, object)
    refused(victim, "names no index|has no|damaged")


def test_a_flip_or_a_cut_is_one_line(foreign: Callable[..., Any], tmp_path: Path) -> None:
    path = foreign(rows=60, dim=3).write("h5ad", tmp_path, chunks=(20, 3), fletcher32=True)
    content, rng, noticed = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(60):
        raw = bytearray(content)
        raw[rng.integers(len(raw))] ^= 1 << int(rng.integers(8))
        path.write_bytes(raw)
        try:
            verify(path)
        except InputError as error:
            noticed += "\n" not in str(error)
    assert noticed > 3
    for keep in (0, 8, 1000, len(content) - 1):
        path.write_bytes(content[:keep])
        refused(path, "empty|truncated|damaged|not an HDF5 file")
