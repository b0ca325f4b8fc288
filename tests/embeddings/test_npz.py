from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reprkit.embeddings import Embeddings, describe, verify
from reprkit.errors import InputError
from reprkit.tasks import Task

N = 60


def arrays(**changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    base = {
        "z": rng.normal(size=(N, 4)).astype(np.float32),
        "y_kind": rng.integers(0, 3, N),
        "y_age": rng.normal(40, 10, N),
        "ids": np.array([f"p{i}" for i in range(N)]),
        "split": np.array(["train"] * 40 + ["test"] * 20),
    }
    return {name: value for name, value in {**base, **changes}.items() if value is not None}


def save(path: Path, **changes: Any) -> Path:
    np.savez(path, **arrays(**changes))
    return path


def test_reads_what_was_saved(tmp_path: Path) -> None:
    path, base = save(tmp_path / "mine.npz"), arrays()
    embeddings = Embeddings(path)
    assert embeddings.splits == ("train", "test")  # a split without rows is absent
    np.testing.assert_array_equal(embeddings.z("train"), base["z"][:40])
    np.testing.assert_array_equal(np.concatenate(list(embeddings.blocks("test", 7))), base["z"][40:])
    np.testing.assert_array_equal(embeddings.targets("test", "kind"), base["y_kind"][40:])
    np.testing.assert_array_equal(embeddings.ids("test"), base["ids"][40:])
    age = base["y_age"][:40]
    assert embeddings.tasks["kind"] == Task("kind", "classification", 3)
    assert embeddings.tasks["age"].kind == "regression"
    assert (embeddings.tasks["age"].mean, embeddings.tasks["age"].std) == pytest.approx((age.mean(), age.std()))
    assert (embeddings.label, embeddings.seed, embeddings.trained_tasks) == ("mine", 0, ("kind", "age"))
    assert set(embeddings.fingerprints) == {"dataset", "split"}
    assert "label" not in embeddings.meta
    assert verify(path).splits["test"].rows == 20
    assert "kind: classification, 3 classes" in describe(path)


@pytest.mark.parametrize("name", ["e.npz", "e.h5", "e"])
def test_content_decides_not_the_name(tmp_path: Path, name: str) -> None:
    with open(tmp_path / name, "wb") as handle:
        np.savez(handle, **arrays())
    assert Embeddings(tmp_path / name).dim == 4


def test_the_rule_for_a_missing_split_is_recorded(tmp_path: Path) -> None:
    embeddings = Embeddings(save(tmp_path / "e.npz", split=None))
    assert embeddings.splits == ("train", "val", "test")
    assert "SHA-256 of the id" in embeddings.meta["provenance"]["split_rule"]
    assert "SHA-256 of the id" in describe(tmp_path / "e.npz")
    everything = np.concatenate([embeddings.ids(split) for split in embeddings.splits])
    assert sorted(everything) == sorted(arrays()["ids"])


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {"z": np.asfortranarray(arrays()["z"].astype(np.float64))},
        {"z": arrays()["z"].astype(">f4")},
        {"z": np.arange(N * 4).reshape(N, 4)},
        {"ids": np.arange(N)},
        {"ids": np.array([f"ä{i}".encode() for i in range(N)])},
        {"ids": None, "split": np.array([b"train"] * 30 + [b"val"] * 30)},
        {"y_kind": np.arange(N) % 2 == 0},
        {"y_kind": np.where(np.arange(N) % 3, 1, -1).astype(np.int8)},
        {"y_age": np.where(np.arange(N) % 3, 1.0, np.nan).astype(np.float32)},
    ],
)
def test_forms_that_are_fine(tmp_path: Path, changes: dict[str, Any], compressed: bool) -> None:
    (np.savez_compressed if compressed else np.savez)(tmp_path / "e.npz", **arrays(**changes))
    assert sum(split.rows for split in verify(tmp_path / "e.npz").splits.values()) == N


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"z": None}, "no array 'z'"),
        ({"z": np.zeros(N)}, r"z is float64 of shape \(60,\)"),
        ({"z": np.zeros((N, 0))}, "z is"),
        ({"z": np.full((N, 4), "x")}, "z is <U1"),
        ({"z": np.zeros((N - 1, 4))}, r"ids is .* expected text of shape \(59,\)"),
        ({"y_kind": None, "y_age": None}, "has no targets; add y_<task>"),
        ({"y_kind": np.zeros(N - 1, int)}, "y_kind is int64"),
        ({"y_kind": np.array(["x"] * N)}, "'kind' has 1 class"),
        ({"y_kind": np.array([f"free {i}" for i in range(N)])}, "y_kind looks like free text: 60 different labels"),
        ({"y_kind": np.array([b"\xff", b"a"] * (N // 2))}, "y_kind is not UTF-8"),
        ({"y_kind": np.full(N, 1j)}, "y_kind is complex128.*class names"),
        ({"y_kind": np.zeros(N, int)}, "'kind' has 1 class"),
        ({"y_kind": np.full(N, -1)}, "'kind' has 0 class"),
        ({"y_kind": np.arange(N) - 2}, "from -2"),
        ({"y_kind": np.arange(N) * 10**9}, "number the classes 0 to C-1"),
        ({"y_age": np.full(N, np.inf)}, "infinity"),
        ({"ids": np.array(["a"] * N)}, "id 'a' occurs twice"),
        ({"ids": np.zeros(N)}, "ids is float64"),
        ({"ids": np.array([b"\xff"] * N)}, "ids is not UTF-8"),
        ({"split": np.array(["train"] * 40 + ["dev"] * 20)}, "unknown split 'dev'"),
        ({"extra": np.zeros(N)}, "unknown array 'extra'"),
    ],
)
def test_forms_that_are_not(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    path = save(tmp_path / "e.npz", **changes)
    with pytest.raises(InputError, match=told) as caught:
        verify(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_non_finite_rows_name_split_and_count(tmp_path: Path) -> None:
    z = arrays()["z"].astype(np.float64)
    z[[41, 42], 1] = np.nan
    z[50] = 1e300  # does not fit float32
    embeddings = Embeddings(save(tmp_path / "e.npz", z=z))
    assert len(embeddings.z("train")) == 40
    with pytest.raises(InputError, match="z of 'test' has 3 rows with NaN or infinity"):
        embeddings.z("test")


def test_a_torch_checkpoint_is_told_from_an_npz(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"model\.pt: a zip archive but no \.npz; .*reprkit embed"):
        Embeddings(tmp_path / "model.pt")


def test_damaged_archives_are_one_line(tmp_path: Path) -> None:
    good = save(tmp_path / "e.npz").read_bytes()
    wrecks = [b"", good[:100], good[:-30], good[:200] + bytes(400) + good[600:], b"PK\x03\x04nonsense"]
    for wreck in wrecks:
        (tmp_path / "w.npz").write_bytes(wreck)
        with pytest.raises(InputError, match=r"w\.npz: .*numpy\.savez") as caught:
            Embeddings(tmp_path / "w.npz")
        assert "\n" not in str(caught.value)
