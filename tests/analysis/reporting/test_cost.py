"""The cost table: sums over single-task encoders, means over seeds, ratios, and what old folders show."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from reprkit.analysis.reporting.cost import cost_note, cost_table, read_costs, write_cost_table
from reprkit.analysis.reporting.report import render
from reprkit.analysis.reporting.results import load_results
from reprkit.errors import InputError
from reprkit.tasks import Task

ROOT = Path(__file__).parents[3]
TASKS = (Task("left", "classification", 3), Task("right", "classification", 3))
RECORD = {
    "steps": 10, "seconds": 0.5, "seconds_per_step": 0.05, "images_per_second": 100.0, "encoder_forwards": 1.0,
    "encoder_backwards": 1.0, "head_forwards": 2.0, "head_backwards": 2.0, "parameters_shared": 1000,
    "peak_memory_mb": 400.0, "memory": "resident", "processes": 1, "threads": 2, "device": "cpu",
}  # fmt: skip


def put(folder, run, **changes):
    (folder / "runs" / run / "cost.json").write_text(json.dumps(RECORD | changes))


@pytest.fixture
def sweep(tmp_path, make, write):
    folder = write(tmp_path / "s", make(seeds=2, methods=("single", "vanilla", "pcgrad", "mgda"), tasks=TASKS))
    for seed in (0, 1):
        for task, seconds, memory in (("left", 0.02, 300.0), ("right", 0.04, 350.0)):
            put(folder, f"single/seed{seed}/{task}", seconds_per_step=seconds, peak_memory_mb=memory, head_forwards=1.0)
        put(folder, f"vanilla/seed{seed}", seconds_per_step=0.03 + 0.02 * seed)
    put(folder, "pcgrad/seed1", encoder_backwards=2.0, seconds_per_step=0.1)
    return folder


def test_single_is_summed_and_seeds_are_averaged(sweep):
    table = cost_table(load_results(sweep)).set_index("encoder")
    assert list(table.index) == ["single", "vanilla", "pcgrad", "mgda"]
    single, vanilla, pcgrad, mgda = (row for _, row in table.iterrows())
    assert (single.encoder_forwards, single.encoder_backwards, single.head_forwards) == (2, 2, 2)
    assert (single.summed_over, single.n_seeds, single.parameters_shared) == (2, 2, 2000)
    assert single.seconds_per_step == pytest.approx(0.06)
    assert single.peak_memory_mb == 350  # one after another: not 650
    assert vanilla.seconds_per_step == pytest.approx(0.04)
    assert (vanilla.passes, vanilla.passes_ratio, vanilla.seconds_ratio) == (1, 1, 1)
    assert (pcgrad.n_seeds, pcgrad.passes_ratio) == (1, pytest.approx(5 / 3))
    assert (single.passes_ratio, single.seconds_ratio) == (2, pytest.approx(1.5))
    assert mgda.n_seeds == 0
    assert pd.isna(mgda.drop(["n_seeds", "summed_over"])).all()


def test_a_part_of_single_is_not_taken_for_the_whole(sweep):
    (sweep / "runs/single/seed0/left/cost.json").unlink()
    put(sweep, "single/seed1/left", seconds_per_step=None)
    single = cost_table(load_results(sweep)).iloc[0]
    assert single.n_seeds == 0
    assert pd.isna(single.seconds_per_step)
    assert single.encoder_forwards == 2  # seed 1 is whole in that
    assert single.peak_memory_mb == 400  # of seed 1 alone


def test_note_tells_what_the_numbers_do_not(sweep):
    results = load_results(sweep)
    text = cost_note(cost_table(results), read_costs(results))
    assert "1 to 2 seeds" in text
    assert "Single: sums over the encoders of all tasks (2), memory of the largest." in text
    assert "not interleaved" in text
    assert "indicative" in text
    assert "must not be compared" not in text
    put(sweep, "pcgrad/seed1", device="cuda", memory="cuda")
    results = load_results(sweep)
    text = cost_note(cost_table(results), read_costs(results))
    assert "different devices (cpu, cuda): their times must not be compared" in text
    assert "allocated on the GPU or of the whole process" in text


def test_files_and_script(sweep, tmp_path):
    command = [sys.executable, str(ROOT / "analysis/cost_table.py"), "--runs", str(sweep), "--out", str(tmp_path / "o")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert "| MGDA | – | – | – | – | – | – | – | – |" in done.stdout
    assert "| PCGrad | 1 | 2 | 2 | 2 | 1.67 | 100.00 | 2.50 | 400 |" in done.stdout
    assert pd.read_csv(tmp_path / "o/cost_table.csv")["encoder"].tolist() == ["single", "vanilla", "pcgrad", "mgda"]
    assert r"PCGrad & 1 & 2" in (tmp_path / "o/cost_table.tex").read_text()


def test_old_folders_show_dashes_and_no_section(tmp_path, make, write):
    folder = write(tmp_path / "s", make(seeds=1, methods=("vanilla",), tasks=TASKS))
    write_cost_table(folder, tmp_path / "o")
    text = (tmp_path / "o/cost_table.md").read_text()
    assert "| Vanilla | – |" in text
    assert "before costs were recorded" in text
    assert 'id="table-cost"' not in render(load_results(folder), [])
    put(folder, "vanilla/seed0")
    assert 'id="table-cost"' in render(load_results(folder), [])
    (folder / "runs/vanilla/seed0/cost.json").write_text("{")
    with pytest.raises(InputError, match=r"cost\.json: not valid JSON"):
        cost_table(load_results(folder))


def test_without_vanilla_there_are_no_ratios(tmp_path, make, write):
    folder = write(tmp_path / "s", make(seeds=1, methods=("dwa",), tasks=TASKS))
    put(folder, "dwa/seed0")
    row = cost_table(load_results(folder)).iloc[0]
    assert row.passes == 1
    assert pd.isna([row.passes_ratio, row.seconds_ratio]).all()
