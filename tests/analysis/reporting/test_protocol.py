"""The report's verdicts, what it says was compared, and its commands: words from the records."""

import json
import shlex

import numpy as np
import pytest

from reprkit.analysis.reporting.differences import OWN_HEAD, differences, universality_differences
from reprkit.analysis.reporting.gains import seed_gains
from reprkit.analysis.reporting.protocol import compared_rows, repeat_commands, task_words
from reprkit.analysis.reporting.results import load_results
from reprkit.analysis.reporting.summary import summary_findings
from reprkit.analysis.reporting.verdicts import CHANCE, UNTOLD, VERDICT_COLUMNS, verdict_of, verdicts, verdicts_table
from reprkit.analysis.stats import t_interval
from reprkit.tasks import Task


def records_of(results):
    changes = differences(results)
    return verdicts(results, changes, universality_differences(results.universality)), changes


def test_few_differences_decide_nothing():
    assert verdict_of(0, 0, 0) == "not judged: no intervals"
    assert verdict_of(0, 0, 5) == UNTOLD
    assert verdict_of(1, 0, 10) == verdict_of(0, 1, 29) == verdict_of(1, 1, 40) == CHANCE
    assert verdict_of(2, 0, 10) == "better somewhere, worse nowhere"
    assert verdict_of(10, 0, 10) == "better everywhere"
    assert verdict_of(0, 3, 10) == "worse somewhere, better nowhere"
    assert verdict_of(3, 3, 10).startswith("mixed")


def test_records_count_the_differences_and_pair_the_gain(tmp_path, make, write):
    frames = make(seeds=3)
    worse = (frames.probes.encoder == "vanilla+dgr") & (frames.probes.probe == "knn") & (frames.probes.task == "left")
    frames.probes.loc[worse, "value"] -= 0.5
    results = load_results(write(tmp_path / "s", frames))
    records, changes = records_of(results)
    assert list(records.columns) == VERDICT_COLUMNS
    assert list(zip(records.encoder, records.baseline, strict=True)) == [
        ("single", "vanilla"), ("vanilla+dgr", "vanilla"),
    ]  # fmt: skip
    row = records.iloc[1]
    own = changes[(changes.encoder == "vanilla+dgr") & (changes.baseline == "vanilla")]
    for kind, group in (("heads", own[own.predictor == OWN_HEAD]), ("probes", own[own.predictor != OWN_HEAD])):
        for what in ("better", "worse"):
            assert row[f"{kind}_{what}"] == (group.reading == what).sum()
        assert row[f"{kind}_judged"] == len(group)
    assert row.probes_worse >= 1
    gains = seed_gains(results).pivot(index="seed", columns="encoder", values="delta")
    change = t_interval(gains["vanilla+dgr"] - gains["vanilla"])
    assert (row.delta_change, row.delta_change_low, row.delta_change_high) == pytest.approx(change)
    assert np.isnan(records.iloc[0].delta_change)
    (table,) = verdicts_table(records)
    text = [entry.text for entry in table.rows[1]]
    unclear = row.probes_judged - row.probes_better - row.probes_worse
    assert text[3] == f"{row.probes_better} / {row.probes_worse} / {unclear}"
    assert text[-1] == row.verdict
    found = {one.subject: one.text for one in summary_findings(
        results, changes, universality_differences(results.universality))}  # fmt: skip
    told = found["Did DGR help (Vanilla + DGR against Vanilla)?"]
    assert told.lower().startswith(row.verdict)
    assert f"probes: {row.probes_better} better, {row.probes_worse} worse" in told.lower()
    total = records[["heads_judged", "probes_judged"]].to_numpy().sum()
    assert found["In short:"].startswith(f"of {total} paired differences")
    assert verdicts_table(records[:0]) == []


def test_rows_tell_data_split_seeds_and_protocols(tmp_path, make, write):
    frames = make(seeds=2)
    folder = write(tmp_path / "s", frames)
    environment = json.loads((folder / "environment.json").read_text())
    lines = ["digits: 9 images of 12x12x1 (4 train, 2 val, 3 test)", "  left: 10 classes", "  split: 60/20/20, v1"]
    (folder / "environment.json").write_text(json.dumps({**environment, "data": lines}))
    recipe = (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(
        recipe + "model: {encoder: convnet, structure: split}\n"
        "train: {epochs: 12, batch_size: 64, optimizer: adam, lr: 0.001, schedule: cosine, precision: float32}\n"
        "dgr: {weight: 0.1, num_dummies: 3, power: 1}\n"
    )
    prints = {"dataset": "d" * 64, "split": "5" * 64}
    run = folder / "runs" / "vanilla" / "seed0" / "identity.json"
    run.write_text(json.dumps({"fingerprints": prints}))
    rows = dict(compared_rows(load_results(folder)))
    assert rows["Data"] == lines[0]
    assert rows["Split"] == "60/20/20, v1"
    assert rows["Training seeds"] == "0, 1"
    assert rows["Fingerprints"] == "dataset dddddddddddd, split 555555555555"
    assert rows["Training"] == (
        "12 epochs; batches of 64; adam, learning rate 0.001; cosine schedule; float32; DGR: weight 0.1, three dummies"
        " a task, power 1"
    )
    assert rows["Probes"].startswith("kNN and Linear on frozen embeddings; fitted on 99 training samples")
    assert "scored once on 40 test samples (protocol p)" in rows["Probes"]
    assert "(protocol u)" in rows["Universality"]
    assert rows["Checkpoint"].startswith("the epoch of the best validation score")
    run.unlink()
    (folder / "environment.json").unlink()
    bare = dict(compared_rows(load_results(folder)))
    assert "Fingerprints" not in bare
    assert bare["Data"] == "digits"


def test_components_are_told_with_their_task():
    tasks = [Task("depth", "depth", 1, unit="m"), Task("normals", "normals", 3)]
    tasks += [Task(f"normals.{axis}", "regression", 1) for axis in "xyz"]
    assert task_words({task.name: task for task in tasks}) == [
        "depth (of every pixel)", "normals (of every pixel, measured as x, y and z, each a regression)",
    ]  # fmt: skip


def test_commands_name_versions_and_what_was_typed(tmp_path, make, write):
    results = load_results(write(tmp_path / "s", make(seeds=1, methods=["vanilla"])))
    commands = dict(repeat_commands(results))
    assert shlex.split(commands["As it was started"]) == ["reprkit", "run", "my recipe.yaml"]
    (pins,) = [name for name in commands if name.startswith("The same versions")]
    assert pins.endswith("reprkit 0.1.0")
    assert commands[pins] == "python -m pip install numpy==2.0"
    assert any(line.startswith("reprkit run recipe.yaml") for line in commands.values())
