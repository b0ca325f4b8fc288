"""Dummy heads travel with the embeddings, and files without them stay what they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from reprkit.embeddings import Embeddings, fingerprint_file, verify
from reprkit.embeddings.dummies import TrainingDummies
from reprkit.errors import InputError


def heads(dim: int, outputs: int, *, hidden: int = 0, count: int = 3, seed: int = 0) -> TrainingDummies:
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(size=(count, *shape)).astype(np.float32)

    if not hidden:
        return TrainingDummies({"weight": draw(outputs, dim), "bias": draw(outputs)})
    two = {"first": draw(hidden, dim), "first_bias": draw(hidden)}
    return TrainingDummies(two | {"second": draw(outputs, hidden), "second_bias": draw(outputs)}, "relu")


@pytest.fixture(scope="module")
def dummies() -> dict[str, TrainingDummies]:
    return {"age": heads(9, 4), "size/log": heads(9, 1, hidden=6)}


def test_round_trip(table: Any, dummies: dict[str, TrainingDummies], tmp_path: Path) -> None:
    with table.writer(tmp_path / "e.h5", dummies=dummies) as writer:
        table.feed(writer)
        writer.finish()
    verify(tmp_path / "e.h5")
    with Embeddings(tmp_path / "e.h5") as embeddings:
        np.testing.assert_array_equal(embeddings.z("train"), table.z["train"])
        for name, stored in dummies.items():
            found = embeddings.training_dummies(name)
            assert found is not None
            assert (found.activation, found.is_linear) == (stored.activation, stored.is_linear)
            assert found.layers.keys() == stored.layers.keys()
            for layer, values in stored.layers.items():
                np.testing.assert_array_equal(found.layers[layer], values)
        assert embeddings.training_dummies("kind") is None
        with pytest.raises(InputError, match="has no task 'shoe'"):
            embeddings.training_dummies("shoe")
    with h5py.File(tmp_path / "e.h5") as file:
        assert file.attrs["format_version"] == 1, "readers of version 1 pass the group over"


def test_files_without_any(good_file: Path) -> None:
    with Embeddings(good_file) as embeddings:
        assert embeddings.training_dummies("age") is None
    arrays = Embeddings.from_arrays(np.eye(20), {"t": np.arange(20) % 2})
    assert arrays.training_dummies("t") is None


def test_dummies_are_part_of_the_identity(table: Any, dummies: dict[str, TrainingDummies], tmp_path: Path) -> None:
    with table.writer(tmp_path / "e.h5", dummies=dummies) as writer:
        table.feed(writer, stop=1)
    with table.writer(tmp_path / "e.h5", dummies=dummies) as writer:
        table.feed(writer)
        done = writer.rows_done("train")
        writer.finish()
    whole = table.writer(tmp_path / "whole.h5", dummies=dummies)
    table.feed(whole)
    assert done == 300
    assert fingerprint_file(whole.finish()) == fingerprint_file(tmp_path / "e.h5")
    with table.writer(tmp_path / "g.h5", dummies=dummies) as writer:
        table.feed(writer)
    for other in ({}, {"age": heads(9, 4, seed=1), "size/log": dummies["size/log"]}):
        with table.writer(tmp_path / "g.h5", dummies=other) as writer:
            assert writer.rows_done("train") == 0


@pytest.mark.parametrize(
    "bad",
    [
        heads(8, 4),
        heads(9, 3),
        heads(9, 4, count=0),
        TrainingDummies({"weight": np.zeros((3, 4, 9))}),
        TrainingDummies(heads(9, 4).layers, "relu"),
        TrainingDummies(heads(9, 4, hidden=5).layers, "gelu"),
        TrainingDummies({**heads(9, 4).layers, "bias": np.zeros((2, 4))}),
        TrainingDummies({**heads(9, 4).layers, "bias": np.full((3, 4), np.nan)}),
    ],
)
def test_heads_that_do_not_fit_are_refused(table: Any, tmp_path: Path, bad: TrainingDummies) -> None:
    with pytest.raises(InputError, match=r"e\.h5: dummies of task 'age' (have shapes|hold NaN)"):
        table.writer(tmp_path / "e.h5", dummies={"age": bad})
    with pytest.raises(ValueError, match="unknown tasks"):
        table.writer(tmp_path / "e.h5", dummies={"shoe": heads(9, 4)})


def damaged(table: Any, dummies: dict[str, TrainingDummies], path: Path) -> h5py.Group:
    with table.writer(path, dummies=dummies) as writer:
        table.feed(writer)
        writer.finish()
    return h5py.File(path, "r+")


def test_damage_is_one_clear_line(table: Any, dummies: dict[str, TrainingDummies], tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    with damaged(table, dummies, path) as file:
        offset = file["dummies/age/weight"].id.get_chunk_info(0).byte_offset
    with open(path, "r+b") as handle:
        handle.seek(offset + 5)
        handle.write(b"\xff\xff\xff")
    with (
        Embeddings(path) as embeddings,
        pytest.raises(InputError, match=r"e\.h5: dummies of 'age': the data are damaged"),
    ):
        embeddings.training_dummies("age")
    with damaged(table, dummies, path) as file:
        del file["dummies/age/bias"]
    with Embeddings(path) as embeddings, pytest.raises(InputError, match="dummies of 'age' have shapes"):
        embeddings.training_dummies("age")
    with damaged(table, dummies, path) as file:
        del file["dummies"]
        file["dummies"] = h5py.ExternalLink("elsewhere.h5", "/")
    with Embeddings(path) as embeddings, pytest.raises(InputError, match="link to somewhere else"):
        embeddings.training_dummies("age")
