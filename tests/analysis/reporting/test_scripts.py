"""The scripts of analysis/: the same way of use, the same files, one line where the input is not one."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[3]
FIGURES = {"figure2": "figure2", "figure3a": "figure3a", "figure3b": "figure3b", "learning_curves": "learning_curves",
           "universality_vs_probe": "universality_vs_probe"}  # fmt: skip
TABLES = {"table1": "table1", "cost_table": "cost_table"}


def call(script, *arguments):
    """The exit code of a script, in this process."""
    place = importlib.util.spec_from_file_location(script, ROOT / "analysis" / f"{script}.py")
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module.main([str(part) for part in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make, write):
    path = write(tmp_path_factory.mktemp("scripts") / "s", make(seeds=2))
    for run in (path / "runs").glob("*/seed*"):
        for part in [run, *filter(Path.is_dir, run.iterdir())]:
            (part / "cost.json").write_text(json.dumps({"seconds_per_step": 1.0}))
    return path


@pytest.mark.parametrize("script", [*FIGURES, *TABLES])
def test_each_takes_folders_and_writes_the_data_beside(script, folder, tmp_path, capsys):
    assert call(script, "--runs", folder, "--out", tmp_path / "out") == 0
    stem = (FIGURES | TABLES)[script]
    endings = ("pdf", "png", "csv") if script in FIGURES else ("csv", "md", "tex")
    for ending in endings:
        assert (tmp_path / "out" / f"{stem}.{ending}").is_file()
    assert len(pd.read_csv(tmp_path / "out" / f"{stem}.csv"))
    told = capsys.readouterr().out
    assert all(f"{stem}.{ending}\n" in told for ending in endings)


@pytest.mark.parametrize("script", [*FIGURES, *TABLES])
def test_what_is_no_folder_is_refused_in_one_line(script, folder, tmp_path, capsys):
    for wrong, problem in ((tmp_path / "nope", "no such folder"), (tmp_path, "holds no results")):
        assert call(script, "--runs", wrong, "--out", tmp_path / "out") == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert problem in told
    assert call(script, "--runs", folder, folder, "--out", tmp_path / "out") == 2
    assert "give one of the two" in capsys.readouterr().err


def test_settings_reach_the_figure(folder, tmp_path, capsys):
    options = ("--score", "U_rel_tau", "--probe", "knn")
    assert call("universality_vs_probe", "--runs", folder, "--out", tmp_path, *options) == 0
    test = pd.read_csv(tmp_path / "universality_vs_probe_test.csv")
    assert set(test["score"]) == {"U_rel_tau"}
    assert set(test["probe"]) == {"knn"}
    assert set(test["n_encoders"]) == {3}
    assert call("universality_vs_probe", "--runs", folder, "--out", tmp_path, "--probe", "svm") == 2
    assert "choose from prior, knn, linear" in capsys.readouterr().err
    assert call("figure3b", "--runs", folder, "--out", tmp_path, "--seed", 7) == 2
    assert "seed 7" in capsys.readouterr().err


def test_the_readme_lists_every_script():
    page = (ROOT / "analysis" / "README.md").read_text()
    scripts = {path.name for path in (ROOT / "analysis").glob("*.py")}
    assert scripts == {part.split()[0] for part in page.split("`python analysis/")[1:]}


def test_help_needs_no_matplotlib():
    code = (
        "import runpy, sys; sys.argv = ['figure3a.py', '--help']\n"
        f"try: runpy.run_path({str(ROOT / 'analysis' / 'figure3a.py')!r}, run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert 'matplotlib' not in sys.modules and 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--runs" in done.stdout
