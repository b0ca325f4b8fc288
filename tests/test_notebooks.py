"""Notebooks run as they are, and the .ipynb files are those of their sources, without outputs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
SOURCES = sorted(FOLDER.glob("*.py"))
SLOW = ("04_figures_from_runs",)
by_source = pytest.mark.parametrize(
    "source", [pytest.param(s, id=s.stem, marks=[pytest.mark.slow] if s.stem in SLOW else []) for s in SOURCES]
)


def test_there_are_notebooks():
    assert [source.stem[:2] for source in SOURCES] == ["01", "02", "03", "04", "05"]


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_the_notebook_is_that_of_its_source(source):
    cells = re.split(r"^# %%(?: \[(markdown)\])?\n", source.read_text(), flags=re.M)[1:]
    expected = []
    for kind, text in zip(cells[::2], cells[1::2], strict=True):
        lines = text.strip("\n").split("\n")
        body = [re.sub(r"^# ?", "", line) for line in lines] if kind else lines
        expected.append(("markdown" if kind else "code", "\n".join(body)))
    notebook = json.loads(source.with_suffix(".ipynb").read_text())
    found = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
    assert found == expected, "run `make notebooks`"
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in notebook["cells"])


@by_source
def test_the_source_runs(source, tmp_path):
    environment = {**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": str(FOLDER.parent)}
    done = subprocess.run(
        [sys.executable, str(source)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_the_notebook_shows_something_in_jupyter(source, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    nbclient.NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any("text/html" in output.get("data", {}) or "image/png" in output.get("data", {}) for output in shown)
