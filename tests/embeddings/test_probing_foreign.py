"""`python -m reprkit.probe` and `reprkit inspect` on files that others made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from reprkit.analysis.probes.spread import own_tasks
from reprkit.cli import main
from reprkit.embeddings import Embeddings, sources
from reprkit.probe import main as probe_main

QUICK = ["--probes", "knn", "--bootstrap", "20"]


@pytest.fixture
def files(foreign: Callable[..., Any], good_file: Path, tmp_path: Path) -> dict[str, Path]:
    """One file of every kind; their tasks differ."""
    table = foreign(rows=200)
    kinds = {
        "npz": table.change(y_size=None),
        "npy": table.change(y_name=None),
        "parquet": table.change(y_kind=None, y_name=None, y_weight=np.arange(200) / 7),
        "h5ad": table,
    }
    return {kind: each.write(kind, tmp_path, stem=f"by_{kind}") for kind, each in kinds.items()} | {"h5": good_file}


def test_all_kinds_at_once_make_one_table(files: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "probes.csv"
    assert probe_main([*map(str, files.values()), *QUICK, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    frame = pd.read_csv(out)
    assert list(frame.columns[:3]) == ["encoder", "seed", "task"]
    tasks = {encoder: set(group.task) for encoder, group in frame.groupby("encoder")}
    assert tasks == {
        "by_npz": {"kind", "name"},
        "by_npy": {"kind", "size"},
        "by_parquet": {"size", "weight"},
        "by_h5ad": {"kind", "name", "size"},
        "vanilla+dgr": {"age", "kind"},  # those it was trained for
    }
    assert all(encoder in printed for encoder in tasks)
    shared = frame[(frame.task == "kind") & (frame.probe == "knn")].drop(columns=["encoder"])
    npz, npy = (shared[frame.encoder[shared.index] == name].reset_index(drop=True) for name in ("by_npz", "by_npy"))
    pd.testing.assert_frame_equal(npz, npy)  # whoever holds the numbers
    assert len(list((tmp_path / "probes_predictions").glob("*.csv"))) == 11


def test_named_tasks_are_probed_where_they_are(files: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "probes.csv"
    chosen = [str(files[kind]) for kind in ("npz", "parquet", "h5ad")]
    assert probe_main([*chosen, *QUICK, "--tasks", "name", "size", "--out", str(out)]) == 0
    tasks = {encoder: set(group.task) for encoder, group in pd.read_csv(out).groupby("encoder")}
    assert tasks == {"by_npz": {"name"}, "by_parquet": {"size"}, "by_h5ad": {"name", "size"}}
    capsys.readouterr()
    for wrong, told in ((["name", "nose"], "nose"), (["weight"], "weight")):
        assert probe_main([*chosen, *QUICK, "--tasks", *wrong]) == 2  # in no file; in the others only
        assert f"'{told}'" in capsys.readouterr().err
    opened = [Embeddings(path) for path in chosen]
    assert own_tasks(opened[0], opened, None) is None


@pytest.mark.parametrize("kind", ["npz", "npy", "parquet", "h5ad", "h5"])
def test_inspect(files: dict[str, Path], kind: str, capsys: Any) -> None:
    assert main(["inspect", str(files[kind])]) == 0
    text = capsys.readouterr().out
    assert "verified" in text
    assert {"h5": "reprkit embeddings (HDF5)", "parquet": "Parquet; z float32"}.get(kind, "z float32") in text


def test_inspect_shows_every_embedding_of_a_file(foreign: Callable[..., Any], tmp_path: Path, capsys: Any) -> None:
    import h5py

    path = foreign().write("h5ad", tmp_path)
    with h5py.File(path, "r+") as file:
        file["obsm"].create_dataset("X_umap", data=np.random.default_rng(0).normal(size=(120, 2)))
    assert main(["inspect", str(path)]) == 0
    text = capsys.readouterr().out
    assert f"{path}::X_emb: " in text
    assert f"{path}::X_umap: " in text
    assert main(["inspect", f"{path}::X_umap"]) == 0
    assert "2 features" in capsys.readouterr().out
    assert probe_main([str(path), *QUICK]) == 2
    assert "name one, as in" in capsys.readouterr().err
    assert probe_main([f"{path}::X_emb", f"{path}::X_umap", *QUICK]) == 0
    assert "e X_umap" in capsys.readouterr().out


def test_help_documents_every_kind(capsys: Any) -> None:
    assert probe_main(["--help"]) == 0
    text = capsys.readouterr().out
    assert sources().strip() in text
    for kind in (".h5", ".npz", ".npy", ".parquet", ".h5ad", "FILE::NAME", "y_<task>", "split"):
        assert kind in sources()


def truncate(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-100])
    return path


HOSTILE: dict[str, Callable[[Any, Path], Path]] = {
    "a truncated parquet": lambda table, home: truncate(table.write("parquet", home)),
    "a truncated npy": lambda table, home: truncate(table.write("npy", home)),
    "a truncated h5ad": lambda table, home: truncate(table.write("h5ad", home)),
    "objects in a npy": lambda table, home: table.change(z=np.array([["x", {}]] * 120, object)).write("npy", home),
    "duplicate ids": lambda table, home: table.change(id=np.array(["a"] * 120)).write("parquet", home),
    "NaN in z": lambda table, home: table.change(z=np.full((120, 2), np.nan)).write("h5ad", home),
    "a file that is not there": lambda table, home: home / "e.parquet",
    "an array that is not there": lambda table, home: Path(f"{table.write('h5ad', home)}::nothing"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_one_line_and_exit_code_2(
    foreign: Callable[..., Any], tmp_path: Path, capsys: Any, name: str
) -> None:
    path = HOSTILE[name](foreign(), tmp_path)
    assert probe_main([str(path), *QUICK]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert str(path.with_suffix("")) in error


def test_from_the_shell(foreign: Callable[..., Any], tmp_path: Path, command: Callable[..., Any]) -> None:
    path = foreign().write("npy", tmp_path)
    (tmp_path / "e.csv").write_text("id,y_kind\na,0\nb,1\n")
    result = command("reprkit.probe", path, check=2)
    assert result.stderr == (
        f"error: {tmp_path / 'e.csv'}: has 2 rows, but e.npy is of shape (120, 12); write a line for each row\n"
    )
