"""The command line as a user meets it: help, exit codes, one clear line on wrong input."""

import json
import pickle

import h5py
import numpy as np
import pandas as pd
import pytest

from reprkit.cli import main
from reprkit.probe import main as probe_main


def one_line(capsys):
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.strip()]
    assert "Traceback" not in captured.err
    assert len(lines) == 1, captured.err
    return lines[0]


@pytest.fixture
def npz(tmp_path):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 300)
    z = rng.normal(size=(300, 5)).astype(np.float32)
    z[:, 0] += 4 * y
    path = tmp_path / "mine.npz"
    np.savez(path, z=z, y_kind=y, ids=np.array([f"s{i}" for i in range(300)]))
    return path


def test_help_teaches(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for name in ("demo", "run", "train", "embed", "predict", "universality", "tsne", "report", "inspect", "doctor"):
        assert name in text
    for name in ("run", "train", "demo"):
        assert main([name, "--help"]) == 0
        assert "--train.epochs" in capsys.readouterr().out
    assert probe_main(["--help"]) == 0


def test_help_imports_nothing_heavy(command):
    code = (
        "import sys, reprkit, reprkit.cli, reprkit.analysis, reprkit.embeddings, reprkit.data\n"
        "reprkit.cli._parser().format_help()\n"
        "print([m for m in ('torch','matplotlib','sklearn','pandas','torchvision','jsonargparse') if m in sys.modules])"
    )
    assert command("timeit", "-h").returncode == 0
    import subprocess
    import sys

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def test_unknown_commands_and_options(capsys):
    assert main(["dance"]) == 2
    assert "invalid choice" in one_line(capsys)
    assert main(["embed", "x", "--frobnicate"]) == 2
    assert "frobnicate" in one_line(capsys)
    assert main([]) == 2
    assert "COMMAND" in one_line(capsys)


def test_wrong_input_gives_one_line_and_exit_2(tmp_path, capsys, npz):
    (tmp_path / "empty").mkdir()
    (tmp_path / "pickle.h5").write_bytes(pickle.dumps({"z": 1}))
    (tmp_path / "evil.safetensors").write_bytes(pickle.dumps(print))
    (tmp_path / "cut.npz").write_bytes(npz.read_bytes()[:200])
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = [1.0]
    np.savez(tmp_path / "nan.npz", z=np.full((30, 2), np.nan), y_a=np.arange(30) % 2)
    np.savez(tmp_path / "one.npz", z=np.zeros((30, 2)), y_a=np.zeros(30, int))
    (tmp_path / "bad.yaml").write_text("train: {epochs: lots}")
    cases = {
        "empty": "empty",
        "pickle.h5": "pickle.h5",
        "evil.safetensors": "evil.safetensors",
        "cut.npz": "cut.npz",
        "other.h5": "other.h5",
        "nan.npz": "nan.npz",
        "one.npz": "a",
        "absent.h5": "absent.h5",
    }
    for name, word in cases.items():
        assert probe_main([str(tmp_path / name)]) == 2, name
        assert word in one_line(capsys)
    assert main(["run", str(tmp_path / "bad.yaml")]) == 2
    assert "train.epochs" in one_line(capsys)
    assert main(["run", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in one_line(capsys)
    assert main(["report", str(tmp_path / "empty")]) == 2
    assert "empty" in one_line(capsys)
    assert main(["inspect", str(tmp_path / "empty")]) == 2
    assert "empty" in one_line(capsys)
    assert probe_main([str(npz), "--probes", "crystal_ball"]) == 2
    assert "crystal_ball" in one_line(capsys)
    assert probe_main([str(npz), "--tasks", "age"]) == 2
    assert "kind" in one_line(capsys)


def test_split_overrides():
    from reprkit.cli import split_overrides

    words = ["run", "r.yaml", "--data", "D", "--train.epochs", "3", "--seeds=[1]", "--data.tasks", "[a]", "--out", "O"]
    plain, overrides = split_overrides(words)
    assert plain == ["run", "r.yaml", "--data", "D", "--out", "O"]
    assert overrides == ["--train.epochs", "3", "--seeds=[1]", "--data.tasks", "[a]"]


def test_data_option_reaches_the_loader(tmp_path, capsys, monkeypatch, small_digits):
    import reprkit.data

    seen = []
    monkeypatch.setattr(reprkit.data, "load_dataset", lambda config: seen.append(config.root) or small_digits)
    out = tmp_path / "run"
    arguments = ["--method", "vanilla", "--train.epochs", "1", "--data", "SOMEWHERE", "--out", str(out)]
    assert main(["train", *arguments]) == 0
    assert seen == ["SOMEWHERE"]


def test_train_says_what_data_is_missing(tmp_path, capsys):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("data: {name: utkface}\nmethods: [vanilla]")
    assert main(["train", str(recipe), "--out", str(tmp_path / "o")]) == 2
    assert "--data" in one_line(capsys)
    assert main(["train", str(recipe), "--data", str(tmp_path / "nowhere"), "--out", str(tmp_path / "o")]) == 2
    assert "nowhere" in one_line(capsys)
    assert not (tmp_path / "o").exists()


def test_probe_of_embeddings_made_elsewhere(tmp_path, npz, capsys):
    out = tmp_path / "probes.csv"
    assert probe_main([str(npz), "--probes", "knn", "tree", "--out", str(out), "--bootstrap", "50"]) == 0
    text = capsys.readouterr().out
    assert "mine" in text
    assert "knn" in text
    assert out.read_text().startswith("encoder,seed,task,probe,metric,value")
    assert list((tmp_path / "probes_predictions").glob("*.csv"))
    first = out.read_bytes()
    assert probe_main([str(npz), "--probes", "knn", "tree", "--out", str(out), "--bootstrap", "50"]) == 0
    assert out.read_bytes() == first


def test_rows_in_groups_are_resampled_in_groups(tmp_path, capsys):
    """Ten rows a patient that are all alike tell as much as one: intervals widen by about the square root of ten."""
    rng = np.random.default_rng(0)
    patients, rows = np.repeat(np.arange(60), 10), 600
    y = rng.integers(0, 2, 60)[patients]
    z = (rng.normal(size=(60, 4)) + 0.7 * y[::10, None])[patients].astype(np.float32)
    ids = [f"p{patient}#{row}" for row, patient in enumerate(patients)]
    split = np.where(patients < 30, "train", np.where(patients < 40, "val", "test"))
    for name in ("a", "b"):
        np.savez(tmp_path / f"{name}.npz", z=z, y_kind=y, ids=np.array(ids), split=split)
    a, b = str(tmp_path / "a.npz"), str(tmp_path / "b.npz")

    def widths(*options):
        out = tmp_path / "probes.csv"
        assert probe_main([a, "--probes", "ncm", "--bootstrap", "300", "--out", str(out), *options]) == 0
        frame = pd.read_csv(out).query("probe == 'ncm' and metric == 'accuracy'")
        return float((frame["high"] - frame["low"]).iloc[0])

    assert rows == len(z)
    assert widths("--groups", "#") > 2 * widths()
    assert main(["universality", a, "--groups", "#", "--num_dummies", "8"]) == 0
    capsys.readouterr()
    compare = ["compare", a, b, "--probes", "ncm", "--parts", "probes"]
    assert main(compare) == 0
    assert "Samples come in groups" not in capsys.readouterr().out
    assert main([*compare, "--groups", "#"]) == 0
    assert "Samples come in groups" in capsys.readouterr().out
    assert main(["universality", a, "--groups", "@"]) == 2
    assert "has no '@'" in one_line(capsys)
    assert main(["compare", "--seeds", str(tmp_path), "--groups", "#"]) == 2
    assert "--groups is for files" in one_line(capsys)


def test_universality_tsne_and_inspect(tmp_path, npz, capsys):
    out = tmp_path / "u.csv"
    assert main(["universality", str(npz), "--num_dummies", "8", "--out", str(out)]) == 0
    assert "U_rel" in out.read_text()
    assert main(["tsne", str(npz), "--out", str(tmp_path / "maps"), "--samples", "60", "--perplexity", "5"]) == 0
    assert {"tsne.csv", "tsne_quality.csv", "tsne.png", "tsne.pdf"} <= {p.name for p in (tmp_path / "maps").iterdir()}
    capsys.readouterr()
    assert main(["inspect", str(npz)]) == 0
    assert "kind" in capsys.readouterr().out


def test_inspect_checkpoint_folder_and_recipe(trained, capsys):
    for target in (trained, trained / "best.safetensors", trained / "recipe.yaml"):
        assert main(["inspect", str(target)]) == 0
        assert "vanilla" in capsys.readouterr().out


def test_print_config_is_a_recipe(tmp_path, capsys):
    from reprkit.config import load_recipe

    source = tmp_path / "r.yaml"
    source.write_text("methods: [vanilla+dgr]")
    assert main(["train", "--config", str(source), "--print_config", "--train.epochs", "3"]) == 0
    again = tmp_path / "again.yaml"
    again.write_text(capsys.readouterr().out)
    recipe = load_recipe(again)
    assert (recipe.methods, recipe.train.epochs) == (("vanilla+dgr",), 3)


def test_train_command_prints_test_scores(tmp_path, capsys, monkeypatch, small_digits):
    import reprkit.data

    monkeypatch.setattr(reprkit.data, "load_dataset", lambda config: small_digits)
    out = tmp_path / "run"
    assert main(["train", "--method", "vanilla", "--train.epochs", "1", "--out", str(out)]) == 0
    assert "test left: accuracy" in capsys.readouterr().out
    assert json.loads((out / "test_scores.json").read_text())["tasks"]["sum"]["n"] == 128


def test_wrong_outputs_are_found_before_the_work(tmp_path, capsys, npz):
    file = tmp_path / "file.txt"
    file.write_text("")
    for arguments in (
        ["universality", npz, "--out", tmp_path],
        ["tsne", npz, "--out", file],
        ["tsne", npz, "--out", file / "x"],
    ):
        assert main([str(a) for a in arguments]) == 2
        assert "--out" in one_line(capsys)
    assert probe_main([str(npz), "--out", str(tmp_path)]) == 2
    assert "--out" in one_line(capsys)
    assert probe_main([str(npz), str(npz)]) == 2
    assert "named twice" in one_line(capsys)


def test_a_flipped_bit_in_a_checkpoint_is_refused(trained, tmp_path, capsys):
    damaged = tmp_path / "flip.safetensors"
    content = bytearray((trained / "best.safetensors").read_bytes())
    content[-5] ^= 1
    damaged.write_bytes(content)
    assert main(["embed", str(damaged)]) == 2
    assert "damaged" in one_line(capsys)


def test_two_processes_do_not_share_a_folder(tmp_path):
    from reprkit.errors import InputError
    from reprkit.files import working_in

    with working_in(tmp_path), pytest.raises(InputError, match="another process"), working_in(tmp_path):
        pass
    with working_in(tmp_path):
        pass


def test_splits_that_were_made_up_are_said(tmp_path, capsys):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "mine.npz", z=rng.normal(size=(200, 4)), y_kind=rng.integers(0, 2, 200))
    assert main(["universality", str(tmp_path / "mine.npz")]) == 0
    assert "mine.npz names no splits; taken: train 70 %" in capsys.readouterr().out


def test_probe_is_pointed_to_its_own_command(capsys):
    assert main(["probe", "mine.npz"]) == 2
    assert "python -m reprkit.probe" in capsys.readouterr().err
