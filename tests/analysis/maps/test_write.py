"""`reprkit tsne`: what it writes, and what it refuses in one line."""

import numpy as np
import pandas as pd
import pytest

from reprkit.cli import main


@pytest.fixture
def encoder(tmp_path):
    """A file of embeddings, 200 of test: encoder(name, dim=) -> path."""

    def make(name, dim=6, seed=0):
        rng = np.random.default_rng(seed)
        y = rng.integers(0, 3, 400)
        z = rng.normal(size=(400, dim)).astype(np.float32)
        z[:, 0] += 4 * y
        z[:, 1] -= 3 * (y == 1)
        path = tmp_path / f"{name}.npz"
        split = np.repeat(["train", "val", "test"], [150, 50, 200])
        np.savez(path, z=z, y_kind=y, ids=np.array([f"s{i}" for i in range(400)]), split=split)
        return str(path)

    return make


def run(tmp_path, *words):
    return main(["tsne", *words, "--out", str(tmp_path / "maps")])


def test_several_maps_of_two_encoders_and_new_samples(encoder, tmp_path, capsys):
    a, b = encoder("a"), encoder("b", dim=9)
    more = ["--samples", "60", "--map", "pca", "lda"]
    assert run(tmp_path, a, b, *more) == 0
    names = {path.name for path in (tmp_path / "maps").iterdir()}
    figures = {f"{stem}.{end}" for stem in ("pca", "lda", "maps-kind") for end in ("png", "pdf")}
    assert names == {"tsne.csv", "tsne_quality.csv"} | figures
    frame = pd.read_csv(tmp_path / "maps" / "tsne.csv")
    assert frame.groupby(["encoder", "map", "perplexity"], dropna=False)["id"].agg(tuple).nunique() == 1
    assert len(frame) == 2 * 2 * 60
    assert "maps-kind.png" in capsys.readouterr().out

    assert run(tmp_path, a, "--samples", "60", "--perplexity", "10", "--place", a) == 0
    mapped, placed = (pd.read_csv(tmp_path / "maps" / f"{name}.csv") for name in ("tsne", "placed"))
    assert list(placed) == list(mapped)
    assert len(placed) == 60
    assert not set(placed["id"]) & set(mapped["id"])  # or each would be its own neighbour
    quality = pd.read_csv(tmp_path / "maps" / "placed_quality.csv")
    assert quality["hit_kind"].item() > quality["chance_kind"].item() + 0.3
    assert (tmp_path / "maps" / "placed.png").is_file()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--place", "b"], "b.npz: has 9 dimensions, the map's encoder 6"),
        (["--place", "a", "--samples", "500"], "all its test samples are on the map already; lower --samples"),
        (["b", "--place", "a"], "--place puts samples on the maps of one file"),
        (["--perplexity", "5", "0.5"], "tsne.perplexity"),
    ],
)
def test_wrong_use_is_one_line_and_two(encoder, tmp_path, capsys, words, told):
    files = {"a": encoder("a"), "b": encoder("b", dim=9)}
    assert run(tmp_path, files["a"], *(files.get(word, word) for word in words)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert told in lines[-1]
    assert len(lines) == 1
