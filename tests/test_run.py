"""The whole way on a small data set: every file there, finished pieces skipped, a kill that changes no bit."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

import reprkit.data
from reprkit.cli import main
from reprkit.config import write_recipe
from reprkit.embeddings import Embeddings, fingerprint_file
from reprkit.errors import Failed, InputError
from reprkit.pieces import pieces
from reprkit.recipe import METHODS, BalancingConfig, Recipe, TrainConfig
from reprkit.run import parse_shard, run, select

RESULTS = (
    "probes.csv", "sensitivity.csv", "few_shot.csv", "universality.csv", "geometry.csv", "ordinal.csv", "tsne.csv",
    "tsne_quality.csv", "selection.csv", "pieces.json",
)  # fmt: skip


@pytest.fixture
def use_small(monkeypatch, small_digits):
    monkeypatch.setattr(reprkit.data, "load_dataset", lambda config: small_digits)


@pytest.fixture
def recipe(tiny) -> Recipe:
    return replace(tiny, methods=("single", "vanilla", "vanilla+dgr"), train=TrainConfig(epochs=1))


def hashes(folder: Path, *patterns: str) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): fingerprint_file(file)
        for pattern in patterns
        for file in sorted(folder.rglob(pattern))
        if file.name != "cost_table.csv"  # times
    }


def test_whole_way(tmp_path, recipe, use_small):
    out = tmp_path / "run"
    report = run(recipe, out)
    assert report == out / "report.html"
    folders = {p["folder"] for p in json.loads((out / "pieces.json").read_text())}
    assert folders == {
        "runs/single/seed0/left", "runs/single/seed0/right", "runs/single/seed0/sum",
        "runs/vanilla/seed0", "runs/vanilla+dgr/seed0",
    }  # fmt: skip
    probes = pd.read_csv(out / "probes.csv")
    found = set(probes[["encoder", "task"]].itertuples(index=False, name=None))
    assert found == {(m, t) for m in recipe.methods for t in ("left", "right", "sum")}
    with Embeddings(out / "runs/single/seed0/sum/embeddings.h5") as single:
        assert single.trained_tasks == ("sum",) or single.trained_tasks == ["sum"]
        assert set(single.tasks) >= {"sum"}
    for folder in folders:
        assert {"predictions", "embeddings.h5", "test_scores.json"} <= {p.name for p in (out / folder).iterdir()}
    controls = pd.read_csv(out / "controls/universality.csv")
    assert list(dict.fromkeys(controls["encoder"])) == ["constant", "shuffled", "pixels", "random_init"]
    assert set(controls.loc[controls["encoder"] == "constant", "status"]) == {"no_headroom"}
    assert {pd.read_csv(out / name)["encoder"].nunique() for name in RESULTS[:6]} == {3}
    text = report.read_text()
    assert "vanilla+dgr" in text
    assert all((out / f"figures/{name}.png").is_file() for name in ("controls", "sensitivity", "few_shot"))
    assert "http://" not in text.replace("http://www.w3.org", "")

    before = {file: file.stat().st_mtime_ns for file in out.rglob("*.safetensors")}
    kept = hashes(out, "*.csv", "*.h5")
    run(recipe, out)
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*.safetensors")} == before
    assert hashes(out, "*.csv", "*.h5") == kept

    (out / "runs/vanilla/seed0/probes.csv").unlink()
    (out / "runs/single/seed0/left/embeddings.h5").unlink()
    run(recipe, out)
    assert hashes(out, "*.csv", "*.h5") == kept


def test_changed_settings_are_measured_again(tmp_path, recipe, use_small):
    one = replace(recipe, methods=("vanilla",))
    out = tmp_path / "run"
    run(one, out)
    first = pd.read_csv(out / "probes.csv")
    run(replace(one, probe=replace(one.probe, probes=("knn",))), out)
    assert set(pd.read_csv(out / "probes.csv").probe) < set(first.probe)
    with pytest.raises(InputError, match=r"train\.lr"):
        run(replace(one, train=TrainConfig(epochs=1, lr=0.5)), out)


def test_grid_is_chosen_on_validation(tmp_path, recipe, use_small):
    gridded = replace(recipe, methods=("vanilla", "vanilla+dgr"), grid={"dgr.weight": [0.01, 1000.0]})
    out = tmp_path / "run"
    run(gridded, out)
    table = pd.read_csv(out / "selection.csv", keep_default_na=False)
    assert len(table) == 3
    dgr = table[table.method == "vanilla+dgr"]
    assert dgr.set_index("point").chosen.to_dict() == {"dgr.weight=0.01": True, "dgr.weight=1000.0": False}
    lost = out / "runs/vanilla+dgr/dgr.weight=1000.0/seed0"
    assert (lost / "training.json").exists()
    assert not (lost / "test_scores.json").exists(), "a setting that was not chosen never sees the test split"


def record(piece, val_score: float, test_score: float) -> None:
    """What training would leave in a piece's folder, as far as the choice could look at it."""
    piece.folder.mkdir(parents=True)
    (piece.folder / "training.json").write_text(json.dumps({"best_val_score": val_score}))
    (piece.folder / "test_scores.json").write_text(json.dumps({"tasks": {"left": {"score": test_score}}}))


@pytest.mark.parametrize(
    ("field", "values", "methods"),
    [
        ("balancing.c", [0.2, 0.4, 0.8], ("vanilla", "cagrad")),
        ("dgr.weight", [0.01, 0.1, 1.0], ("pcgrad", "pcgrad+dgr")),
        ("sam.rho", [0.02, 0.05, 0.1], ("vanilla+dgr", "vanilla+dgr+sam")),
    ],
)
def test_a_field_is_chosen_on_validation_for_the_methods_that_read_it(tmp_path, field, values, methods):
    """Means over two seeds of 0.5, 0.7, 0.6 on validation; the test split would have chosen the first."""
    recipe = Recipe(methods=methods, seeds=(0, 1), grid={field: values})
    every = list(pieces(recipe, tmp_path, ["left", "right"]))
    assert len(every) == 2 * (1 + len(values))
    for piece in every:
        rank = values.index(piece.point.values[field]) if piece.point.values else 0
        record(piece, [0.5, 0.7, 0.6][rank] + [-0.15, 0.15][piece.seed], 0.9 - 0.2 * rank)
    chosen = select(every, tmp_path)
    table = pd.read_csv(tmp_path / "selection.csv", keep_default_na=False)
    plain, gridded = methods
    rows = [(plain, "", True), *((gridded, f"{field}={v}", v == values[1]) for v in values)]
    assert list(table[["method", "point", "chosen"]].itertuples(index=False, name=None)) == rows
    assert table.val_score.tolist() == pytest.approx([0.5, 0.5, 0.7, 0.6])
    assert [(p.method, p.seed) for p in chosen] == [(m, s) for m in methods for s in (0, 1)]
    section, _, option = field.partition(".")
    assert {getattr(getattr(p.point.recipe, section), option) for p in chosen if p.method == gridded} == {values[1]}


def test_a_level_that_no_method_has_does_not_wait_for_the_data(tmp_path, monkeypatch):
    monkeypatch.setattr(reprkit.data, "load_dataset", lambda config: pytest.fail("loaded"))
    recipe = Recipe(methods=("vanilla", "dwa"), balancing=BalancingConfig(level="representation"))
    with pytest.raises(InputError, match=r"balancing\.level.*pcgrad"):
        run(recipe, tmp_path / "run")
    with pytest.raises(InputError, match="--jobs"):
        run(Recipe(), tmp_path / "run", jobs=0)
    assert not (tmp_path / "run").exists()


def test_train_checks_the_recipe_for_its_method_alone(tmp_path, capsys):
    file = tmp_path / "r.yaml"
    file.write_text("methods: [vanilla, cagrad+dgr]\nbalancing: {level: representation}\ngrid: {dgr.weight: [0.1, 1]}")
    for method in ("vanilla", "cagrad", "graddrop+sam"):
        assert main(["train", str(file), "--method", method, "--print_config"]) == 0
        shown = yaml.safe_load(capsys.readouterr().out)
        assert (shown["methods"], shown["grid"]) == ([method], {})
    assert main(["train", str(file), "--method", "vanilla", "--out", str(tmp_path / "o")]) == 2
    assert re.match(r"error: balancing\.level: .*vanilla has no level.*cagrad", capsys.readouterr().err)
    assert main(["train", str(file), "--method", "vanilla+sam+dgr"]) == 2
    assert capsys.readouterr().err.startswith("error: method 'vanilla+sam+dgr': write it 'vanilla+dgr+sam'")


def test_help_names_every_method(capsys):
    for command in ("run", "train"):
        assert main([command, "--help"]) == 0
        groups = [line.partition(": ")[2].split(", ") for line in capsys.readouterr().out.splitlines() if "  " in line]
        assert all(sum(name in group for group in groups) == 1 for name in METHODS)


def test_a_setting_that_diverges_does_not_stop_the_rest(tmp_path, recipe, use_small):
    wild = replace(recipe, methods=("vanilla",), grid={"train.lr": [1e-3, 1e25]}, train=TrainConfig(1, optimizer="sgd"))
    out = tmp_path / "run"
    for _ in range(2):
        assert run(wild, out) == out / "report.html"
        table = pd.read_csv(out / "selection.csv", keep_default_na=False).set_index("point")
        assert table.chosen.to_dict() == {"train.lr=0.001": True, "train.lr=1e+25": False}
        assert "NaN" in table.failed["train.lr=1e+25"]
    with pytest.raises(Failed, match="vanilla could not be trained"):
        run(replace(wild, grid={"train.lr": [1e25]}), tmp_path / "none")


def test_grids_over_what_a_run_shares_are_refused():
    for field in ("data.image_size", "seeds", "name", "probe.bootstrap"):
        with pytest.raises(InputError, match=field):
            Recipe(grid={field: [1, 2]})


def test_shards_share_a_run(tmp_path, recipe, use_small):
    two = replace(recipe, methods=("vanilla", "vanilla+dgr"))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(two, whole)
    assert run(two, parts, shard=parse_shard("1/2")) == parts
    assert run(two, parts, shard=parse_shard("2/2")) == parts
    assert run(two, parts, shard=parse_shard("1/2")) == parts / "report.html"
    (parts / "report.html").unlink()
    assert run(two, parts, shard=parse_shard("2/2")) == parts / "report.html"
    assert hashes(parts, *RESULTS) == hashes(whole, *RESULTS)
    for wrong in ("0/2", "3/2", "1", "a/b", "-1/2"):
        with pytest.raises(InputError, match="--shard"):
            parse_shard(wrong)


@pytest.mark.slow
def test_killed_again_and_again_ends_with_the_same_bits(tmp_path, tiny):
    """kill -9 at times that fall in training, embedding, probing and drawing; then the results of a clean run."""
    recipe = replace(
        tiny,
        methods=("single", "vanilla+dgr"),
        train=TrainConfig(epochs=1, save_every=0.5),
        data=replace(tiny.data, tasks=("left", "right")),
    )
    write_recipe(recipe, tmp_path / "recipe.yaml")
    arguments = [sys.executable, "-m", "reprkit", "run", str(tmp_path / "recipe.yaml"), "--out"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    for delay in (8, 11, 14, 17, 20, 24):
        process = subprocess.Popen([*arguments, str(cut)], start_new_session=True, **quiet)
        time.sleep(delay)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert subprocess.run([*arguments, str(cut)], **quiet).returncode == 0
    assert subprocess.run([*arguments, str(whole)], **quiet).returncode == 0
    patterns = ("*.safetensors", "*.h5", "*.csv")
    assert hashes(cut, *patterns) == hashes(whole, *patterns)
    assert not list(cut.rglob("*.partial"))
    shutil.rmtree(whole)
