"""Tables 2, 3 and 4: the paper's own rows give its printed gains, and folders become blocks."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from reprkit.analysis.reporting.dummies_table import dummies_rows, write_dummies_table
from reprkit.analysis.reporting.results import load_results
from reprkit.analysis.reporting.score_tables import read_blocks, write_score_table
from reprkit.errors import InputError
from reprkit.tasks import Task

ROOT = Path(__file__).parents[3]
NYU = {
    "normals": (
        Task("normals", "normals", 3),
        ("mean_angle", "median_angle", "within_11.25", "within_22.5", "within_30"),
    ),
    "segmentation": (Task("segmentation", "segmentation", 13), ("miou", "pixel_accuracy")),
    "depth": (Task("depth", "depth", 1, unit="m"), ("abs_error", "rel_error")),
}
CITY = {
    "segmentation": (Task("segmentation", "segmentation", 19), ("miou", "pixel_accuracy")),
    "parts": (Task("parts", "segmentation", 10), ("miou", "pixel_accuracy")),
    "disparity": (Task("disparity", "disparity", 1), ("abs_error", "rel_error")),
}
# Shin et al., ECCV 2024: a row's headline scores in the order above, and the printed gain.
TABLE_2 = {
    "single": ((22.40, 43.37, 52.24), None),
    "vanilla": ((24.19, 46.02, 41.36), 6.32),
    "vanilla+dgr": ((23.98, 47.11, 40.11), 8.26),
    "uncertainty": ((24.24, 46.46, 41.04), 6.78),
    "pcgrad": ((24.55, 45.41, 42.32), 4.70),
    "pcgrad+dgr": ((24.03, 46.71, 41.20), 7.19),
    "imtl+dgr": ((22.37, 49.62, 37.70), 14.13),
    "nash_mtl+dgr": ((22.54, 48.25, 39.53), 11.65),
}
TABLE_3 = {
    "single": ((56.20, 52.74, 0.84), None),
    "vanilla": ((56.29, 52.31, 0.75), 3.35),
    "vanilla+dgr": ((56.27, 52.45, 0.74), 3.83),
    "cagrad+dgr": ((57.05, 55.16, 0.71), 7.19),
    "imtl": ((58.33, 55.43, 0.76), 6.14),
}
TABLE_3_MTAN = {
    "vanilla": ((56.64, 52.52, 0.74), 4.09),
    "uncertainty": ((56.66, 55.03, 0.76), 4.89),
    "cagrad+dgr": ((56.66, 56.07, 0.72), 7.14),
}
SWIN_CITY = {
    "single": ((56.08, 53.33, 0.74), None),
    "vanilla": ((56.02, 54.18, 0.69), 2.79),
    "vanilla+dgr": ((57.13, 54.37, 0.68), 3.98),
}
SWIN_NYU = {  # printed are 6.74 and 8.77: the sums over the three tasks
    "single": ((22.03, 53.81, 38.87), None),
    "vanilla": ((23.12, 54.87, 35.09), 2.25),
    "vanilla+dgr": ((22.78, 54.98, 34.98), 2.93),
}


def write_folder(
    folder, rows, tasks, *, data="nyuv2", structure="split", encoder="resnet50", seeds=(0,), shift=0.0, dummies=3
):
    """A folder of `reprkit run` with these headline scores (percents as such); every seed adds `shift` to them."""
    folder.mkdir(parents=True)
    recipe = {"name": folder.name, "data": {"name": data, "tasks": list(tasks)}, "dgr": {"num_dummies": dummies}}
    recipe["model"] = {"structure": structure, "encoder": encoder}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    for method, (values, _) in rows.items():
        for seed in seeds:
            records = {}
            for (name, (task, metrics)), value in zip(tasks.items(), values, strict=True):
                score = (value + shift * seed) / (
                    100 if task.kind in ("segmentation", "depth", "classification") else 1
                )
                others = {metric: 0.1 * number + score / 2 for number, metric in enumerate(metrics[1:])}
                records[name] = {"metric": metrics[0], "score": score, "loss": 1.0, "n": 9, "task": task.to_json()}
                records[name]["metrics"] = {metrics[0]: score, **others}
            parts = [{name: record} for name, record in records.items()] if method.startswith("single") else [records]
            for part in parts:
                run = folder / "runs" / method / f"seed{seed}" / (next(iter(part)) if len(parts) > 1 else "")
                run.mkdir(parents=True)
                record = {"method": method, "seed": seed, "tasks": part, "epoch": 3, "checkpoint": "best"}
                (run / "test_scores.json").write_text(json.dumps(record, sort_keys=True))
    return folder


def gains_in(path, **where):
    frame = pd.read_csv(path)
    for column, value in where.items():
        frame = frame[frame[column] == value]
    return frame[frame["metric"] == "delta"].set_index("encoder")["value"]


def expected(rows):
    return {name: gain for name, (_, gain) in rows.items() if gain is not None}


def check(found, rows, within=0.0101):
    """`within` a hundredth of a point, since scores are printed with four digits."""
    assert dict(found) == pytest.approx(expected(rows), abs=within)


def test_table_2_of_the_paper_comes_out(tmp_path):
    folder = write_folder(tmp_path / "nyu", TABLE_2, NYU)
    paths = write_score_table([folder], tmp_path / "out", "table2")
    assert [path.name for path in paths] == [
        f"table2{x}.{end}" for x in ("", "_dgr_gain") for end in ("csv", "md", "tex")
    ]
    check(gains_in(paths[0]), TABLE_2)
    text = paths[1].read_text()
    head, _, *lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert head == [
        "Method", "normals: Mean angle (°) ↓ *", "normals: Median angle (°) ↓", "normals: Within 11.25° (%) ↑",
        "normals: Within 22.5° (%) ↑", "normals: Within 30° (%) ↑", "segmentation: Mean IoU (%) ↑ *",
        "segmentation: Pixel accuracy (%) ↑", "depth: Absolute error ↓ *", "depth: Relative error ↓", "Δ (%)",
    ]  # fmt: skip
    assert [line[0] for line in lines] == [
        "Single", "Vanilla", "Vanilla + DGR", "Uncertainty", "PCGrad", "PCGrad + DGR", "IMTL + DGR", "Nash-MTL + DGR",
    ]  # fmt: skip
    assert (lines[2][1], lines[2][6], lines[2][8], lines[2][-1]) == ("23.98", "47.1", "0.401", "8.26")
    assert lines[0][-1] == "–"
    assert "One training seed, without intervals" in text
    tex = paths[2].read_text()
    assert r"normals: Mean angle ($^\circ$) $\downarrow$ *" in tex
    assert not set("".join(line for line in tex.splitlines() if line[:1] != "%")) & set("↓↑°±Δ–")


def test_table_3_of_the_paper_comes_out_and_mtan_borrows_single(tmp_path):
    split = write_folder(tmp_path / "split", TABLE_3, CITY, data="cityscapes")
    mtan = write_folder(tmp_path / "mtan", TABLE_3_MTAN, CITY, data="cityscapes", structure="mtan")
    paths = write_score_table([mtan, split], tmp_path / "out", "table3")
    check(gains_in(paths[0], structure="split"), TABLE_3)
    check(gains_in(paths[0], structure="mtan"), TABLE_3_MTAN)
    text = paths[1].read_text()
    assert "MTAN is measured against Single of Split." in text
    first = [line.split(" | ")[0].strip("| ") for line in text.splitlines()[2:10]]
    assert first == ["Split"] * 5 + ["MTAN"] * 3
    assert r"\addlinespace" in paths[2].read_text()
    assert r"\begin{tabular}{llrrrrrrr}" in paths[2].read_text()
    assert text.splitlines()[1] == "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    alone = write_score_table([mtan], tmp_path / "alone", "table3")
    assert not len(gains_in(alone[0]))
    assert "no Δ, since Single was not trained" in alone[1].read_text()


def test_table_4b_of_the_paper_comes_out(tmp_path):
    city = write_folder(tmp_path / "city", SWIN_CITY, CITY, data="cityscapes", encoder="swin_t")
    nyu = write_folder(tmp_path / "nyu", SWIN_NYU, NYU, encoder="swin_t")
    paths = {path.name: path for path in write_score_table([nyu, city], tmp_path / "out", "table4b")}
    check(gains_in(paths["table4b_cityscapes.csv"]), SWIN_CITY, within=0.05)  # a disparity of 0.69 has two digits
    check(gains_in(paths["table4b_nyuv2.csv"]), SWIN_NYU)


def test_backbones_of_one_data_set_stand_in_blocks(tmp_path):
    swin = write_folder(tmp_path / "swin", SWIN_NYU, NYU, encoder="swin_t")
    plain = write_folder(tmp_path / "plain", TABLE_2, NYU)
    mtan = write_folder(tmp_path / "mtan", {"vanilla": TABLE_2["vanilla"]}, NYU, structure="mtan")
    blocks = read_blocks([swin, plain, mtan])
    assert [block.label for block in blocks] == ["ResNet-50, Split", "ResNet-50, MTAN", "Swin-T, Split"]
    assert [block.borrowed for block in blocks] == ["", "ResNet-50, Split", ""]
    assert blocks[1].gains["delta"].tolist() == pytest.approx([6.32], abs=0.0101)


def test_methods_run_apart_make_one_block(tmp_path):
    names = list(TABLE_2)
    first = write_folder(tmp_path / "a", {name: TABLE_2[name] for name in names[:4]}, NYU)
    second = write_folder(tmp_path / "b", {name: TABLE_2[name] for name in names[4:]}, NYU)
    together = write_folder(tmp_path / "c", TABLE_2, NYU)
    one, other = (write_score_table(f, tmp_path / str(len(f)), "t") for f in ([first, second], [together]))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]
    with pytest.raises(InputError, match=r"c: holds single, seed 0 again, which is in .*a; leave one out"):
        read_blocks([first, together])


def test_cells_are_means_with_students_intervals(tmp_path):
    folder = write_folder(tmp_path / "nyu", TABLE_2, NYU, seeds=(0, 1, 2), shift=0.4)
    path = write_score_table([folder], tmp_path / "out", "t")[0]
    frame = pd.read_csv(path).set_index(["encoder", "task", "metric"])
    row = frame.loc[("vanilla", "segmentation", "miou")]
    seeds = np.array([0.4602, 0.4642, 0.4682])
    wanted = stats.ttest_1samp(seeds, 0).confidence_interval(0.95)
    assert row[["value", "low", "high"]].tolist() == pytest.approx([seeds.mean(), *wanted])
    assert (row["n_seeds"], row["interval"], row["headline"]) == (3, "seeds", True)
    assert not frame.loc[("vanilla", "segmentation", "pixel_accuracy"), "headline"]
    gains = load_results(folder)
    assert set(gains.scores["metric"]) == {"mean_angle", "miou", "abs_error"}
    single = np.array(TABLE_2["single"][0]) + 0.4
    each = []
    for seed in range(3):
        change = (np.array(TABLE_2["vanilla"][0]) + 0.4 * seed - single) / single
        each.append(100 * (-change[0] + change[1] - change[2]) / 3)
    delta = frame.loc[("vanilla", "Δ", "delta")]
    wanted = stats.ttest_1samp(each, 0).confidence_interval(0.95)
    assert delta[["value", "low", "high"]].tolist() == pytest.approx([np.mean(each), *wanted], rel=1e-4)


def test_results_know_every_metric_and_the_tasks(tmp_path):
    results = load_results(write_folder(tmp_path / "nyu", TABLE_2, NYU))
    assert {name: task.kind for name, task in results.tasks.items()} == {
        "depth": "depth", "normals": "normals", "segmentation": "segmentation",
    }  # fmt: skip
    own = results.all_scores[(results.all_scores["encoder"] == "vanilla") & (results.all_scores["task"] == "normals")]
    assert list(own["metric"]) == list(NYU["normals"][1])
    assert list(own["headline"]) == [True, False, False, False, False]
    assert len(results.scores) == 3 * len(TABLE_2)
    assert "headline" not in results.scores


def test_scores_without_metrics_are_read_as_ever(tmp_path, make, write):
    results = load_results(write(tmp_path / "old", make(seeds=1)))
    assert results.all_scores["headline"].all()
    pd.testing.assert_frame_equal(results.all_scores.drop(columns="headline"), results.scores)


ONE = {"label": (Task("label", "classification", 1000), ("accuracy",))}
DUMMY_ROWS = {"single": ((22.40, 43.37, 52.24), None), "vanilla": ((24.19, 46.02, 41.36), 6.32)}


def test_dummies_are_columns_and_task_sets_rows(tmp_path):
    folders = [
        write_folder(tmp_path / "d1", {**DUMMY_ROWS, "vanilla+dgr": TABLE_2["pcgrad+dgr"]}, NYU, dummies=1),
        write_folder(tmp_path / "d3", {"vanilla+dgr": TABLE_2["vanilla+dgr"], "single+dgr": DUMMY_ROWS["single"]}, NYU),
        write_folder(
            tmp_path / "i3", {"single": ((76.13,), None), "single+dgr": ((76.50,), None)}, ONE, data="imagefolder"
        ),
    ]
    rows = {(row.data, row.together, row.metric): row for row in dummies_rows(folders)}
    together = rows["nyuv2", True, "delta"]
    assert together.plain.value == pytest.approx(6.32, abs=0.0101)
    assert {count: cell.value for count, cell in together.dgr.items()} == pytest.approx({1: 7.19, 3: 8.26}, abs=0.0101)
    alone = rows["nyuv2", False, "delta"]
    assert (alone.plain.value, alone.dgr[3].value) == (0, 0)
    assert rows["imagefolder", False, "accuracy"].dgr[3].value == pytest.approx(0.765)
    assert rows["imagefolder", False, "delta"].dgr[3].value == pytest.approx(100 * (76.5 / 76.13 - 1))
    assert len(rows) == 4
    csv, md, _ = write_dummies_table(folders, tmp_path / "out", "table4a")
    lines = [line.strip("| ").split(" | ") for line in md.read_text().splitlines() if line.startswith("|")]
    assert lines[0] == ["Data", "Tasks", "Learnt", "Metric", "Without DGR", "+ DGR, 1 dummy", "+ DGR, 3 dummies"]
    assert ["imagefolder", "label", "alone", "Accuracy (%)", "76.1", "–", "76.5"] in lines
    frame = pd.read_csv(csv)
    assert frame.loc[(frame.num_dummies == 1) & frame.together, "value"].tolist() == pytest.approx([7.19], abs=0.0101)


def test_dummies_of_a_chosen_grid_point_are_those_of_its_run(tmp_path):
    folder = write_folder(tmp_path / "g", {**DUMMY_ROWS, "vanilla+dgr": TABLE_2["vanilla+dgr"]}, NYU)
    (folder / "runs" / "vanilla+dgr" / "seed0" / "recipe.yaml").write_text("dgr: {num_dummies: 7}")
    (row,) = dummies_rows([folder])
    assert list(row.dgr) == [7]


def test_dummies_that_do_not_make_a_table_are_refused(tmp_path):
    one, same = (
        write_folder(tmp_path / name, {**DUMMY_ROWS, "vanilla+dgr": TABLE_2["vanilla+dgr"]}, NYU) for name in "ab"
    )
    with pytest.raises(InputError, match="b: has vanilla[+]dgr with 3 dummies, as .*a has"):
        dummies_rows([one, same])
    with pytest.raises(InputError, match="hold neither"):
        dummies_rows([write_folder(tmp_path / "c", DUMMY_ROWS, NYU)])


def run_script(name, *words):
    spec = importlib.util.spec_from_file_location(name, ROOT / "analysis" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        return module.main([str(word) for word in words])
    except SystemExit as stop:
        return stop.code


def test_scripts_write_the_tables(tmp_path, capsys):
    nyu = write_folder(tmp_path / "nyu", TABLE_2, NYU)
    mtan = write_folder(tmp_path / "mtan", {"vanilla": TABLE_2["vanilla"]}, NYU, structure="mtan")
    assert run_script("table2", "--runs", nyu, "--runs", mtan, "--out", tmp_path / "o") == 0
    assert "| MTAN | Vanilla |" in capsys.readouterr().out
    assert run_script("table3", "--runs", nyu, mtan, "--out", tmp_path / "o") == 0
    assert run_script("table4", "--dummies", nyu, "--pascal", nyu, mtan, "--out", tmp_path / "o") == 0
    assert {"table2.tex", "table3.md", "table4a.md", "table4c.csv"} <= {p.name for p in (tmp_path / "o").iterdir()}


@pytest.mark.parametrize(
    ("script", "words", "told"),
    [
        ("table3", ["--runs", "nowhere"], "nowhere: no such folder"),
        ("table4", ["--swin", "."], "holds no"),
        ("table4", [], "--dummies, --swin or --pascal"),
    ],
)
def test_scripts_tell_wrong_input_in_one_line(tmp_path, capsys, script, words, told):
    words = [str(tmp_path) if word == "." else word for word in words]
    assert run_script(script, *words, "--out", tmp_path / "o") == 2
    assert told in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "o").exists()
