"""Figures, words and the page where a run holds far more encoders than fit side by side."""

import re

import numpy as np
import pandas as pd
import pytest

from reprkit.analysis import style
from reprkit.analysis.bootstrap import paired_bootstrap, paired_bootstraps
from reprkit.analysis.figures import changes_figure, curves_figure, probe_figure, tsne_figure, universality_figure
from reprkit.analysis.figures.marks import family_bands, limits
from reprkit.analysis.reporting.cautions import warning_sentences
from reprkit.analysis.reporting.differences import closest, differences, universality_differences
from reprkit.analysis.reporting.report import render
from reprkit.analysis.reporting.results import load_results
from reprkit.analysis.reporting.summary import compared_sentence, summary_findings
from reprkit.analysis.reporting.typeset import signed
from reprkit.analysis.stats import t_interval
from reprkit.tasks import Task

TASKS = (Task("left", "classification", 3), Task("sum", "ordinal", 5))
MANY = ("single", *(f"{m}{a}" for m in list(style.METHOD_NAMES)[1:] for a in ("", "+dgr", "+sam", "+pta")))


def rows_of(figure):
    """(row title, column title) -> axes, of a figure with a row an encoder."""
    columns = max(len(figure.axes) // len(TASKS), 1)
    return {
        (TASKS[i // columns].name, axes.get_title()): axes
        for i, axes in enumerate(figure.axes)
    }  # fmt: skip


def drawn_rows(axes):
    """encoder -> (x, row, low, high)."""
    found = {}
    for container in axes.containers:
        mark, _, (bars,) = container.lines
        (x,), (y,) = mark.get_data()
        found[container.get_label()] = (x, y, *bars.get_segments()[0][:, 0])
    return found


def test_every_encoder_has_a_row_with_its_own_numbers(make):
    frame = make(methods=MANY, tasks=TASKS).probes
    figure = probe_figure(frame, tasks={task.name: task for task in TASKS})
    assert len(figure.axes) == 4  # two tasks, kNN and linear
    axes = rows_of(figure)["sum", "Linear"]
    drawn = drawn_rows(axes)
    assert list(drawn) == style.encoder_order(MANY)
    for row, (encoder, (x, y, low, high)) in enumerate(drawn.items()):
        own = frame[(frame.encoder == encoder) & (frame.task == "sum") & (frame.probe == "linear")]
        assert y == row
        assert (x, low, high) == pytest.approx(t_interval(own[own.metric == "accuracy"].value))
    names = [label.get_text() for label in rows_of(figure)["sum", "kNN"].get_yticklabels()]
    assert names[:7] == ["Single", "Vanilla", "+ DGR", "+ SAM", "+ PTA", "DWA", "+ DGR"]
    line = next(line for line in axes.lines if line.get_label() == "_vanilla")
    assert line.get_xdata()[0] == drawn["vanilla"][0]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first on top
    assert not figure.legends  # every row is named


def test_eight_encoders_stand_side_by_side_and_nine_do_not(make):
    for count, rows in ((8, False), (9, True)):
        frames = make(methods=MANY[:count], tasks=TASKS, seeds=1)
        for draw, frame in ((probe_figure, frames.probes), (universality_figure, frames.universality)):
            assert bool(draw(frame).legends) is not rows


def test_many_tasks_beside_few_encoders_have_rows_too(make):
    tasks = [Task(f"t{i}", "classification", 3) for i in range(5)]
    frame = make(methods=MANY[:7], tasks=tasks, seeds=1).universality
    assert len(universality_figure(frame).axes) == 5 * 6  # a panel a task and quantity
    assert len(universality_figure(frame[frame.task < "t3"]).axes) == 6


def test_single_far_off_is_printed_at_the_edge(make):
    frame = make(methods=MANY[:12], tasks=TASKS, seeds=1).probes
    at = (frame.encoder == "single") & (frame.probe == "knn")
    frame.loc[at, ["value", "low", "high"]] -= 0.6
    axes = rows_of(probe_figure(frame))["left", "kNN"]
    low, high = axes.get_xlim()
    others = frame[(frame.probe == "knn") & (frame.task == "left") & ~at].value
    assert low < others.min() < others.max() < high
    value = frame[at & (frame.task == "left")].value.mean()
    assert value < low
    assert [text.get_text() for text in axes.texts] == [f"◂ {value:.2f}"]


def test_universality_rows_print_what_has_no_value(make):
    frame = make(methods=MANY[:12], tasks=TASKS, seeds=1).universality
    gone = (frame.encoder == "dwa") & (frame.task == "sum")
    frame.loc[gone, ["U_rel", "U_rel_low", "U_rel_high"]] = np.nan
    frame.loc[gone, "status"] = "no_headroom"
    panels = rows_of(universality_figure(frame))
    axes = panels["sum", "U_rel"]
    (text,) = [text for text in axes.texts if "headroom" in text.get_text()]
    assert text.get_position()[1] == style.encoder_order(frame.encoder).index("dwa")
    assert "dwa" not in drawn_rows(axes)
    assert "dwa" in drawn_rows(panels["left", "U_rel"])
    assert {title for _, title in panels} == {"U_rel", "U_rel_τ", "U = 1/gap", "RMS", "Effective rank", "L* (nats)"}


def test_maps_and_curves_show_a_stated_choice(tmp_path, make, write):
    frames = make(methods=MANY, tasks=TASKS, seeds=1)
    chosen = [style.display(name) for name in style.pictured(MANY)]
    figure = tsne_figure(frames.tsne, frames.tasks, frames.tsne_quality)
    assert sorted(axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()) == sorted(chosen)
    assert f"12 of {len(MANY)} encoders, chosen by name, not by result" in figure.get_supxlabel()
    curves = load_results(write(tmp_path / "s", frames)).curves
    figure = curves_figure(curves)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == chosen
    assert f"12 of {len(MANY)} encoders" in figure.get_supxlabel()
    solid, dashed = (
        next(line for line in figure.axes[0].lines if line.get_label() == name) for name in ("vanilla", "vanilla+dgr")
    )
    assert solid.get_linestyle() != dashed.get_linestyle()


def test_the_choice_depends_on_names_alone():
    assert style.pictured(MANY) == style.pictured(reversed(MANY))
    assert style.pictured(MANY) == [
        "single", "vanilla", "vanilla+dgr", "dwa", "dwa+dgr", "uncertainty", "auto_lambda", "auto_lambda+dgr", "cagrad",
        "cagrad+dgr", "nash_mtl", "nash_mtl+dgr",
    ]  # fmt: skip
    assert style.pictured(MANY[:5]) == style.encoder_order(MANY[:5])
    assert len(style.pictured([f"x{i}" for i in range(40)])) == style.MOST_PICTURED


def test_looks_are_distinct_and_do_not_depend_on_company():
    every = style.encoder_styles(MANY)
    assert len({tuple(look.values()) for look in every.values()}) == len(MANY)
    for name in MANY:
        assert style.encoder_styles([name, "mine", "vanilla"])[name] == every[name]
    assert len({look["marker"] for name, look in every.items() if name.endswith("+dgr")}) == 1
    for method in list(style.METHOD_NAMES)[1:]:
        markers = {every[f"{method}{a}"]["marker"] for a in ("", "+dgr", "+sam", "+pta")}
        assert len(markers) == 4
    assert every["single"] == {"color": "#6E6E6E", "marker": "o"}
    assert every["vanilla"] == {"color": "#0072B2", "marker": "s"}
    assert every["vanilla+dgr"] == {"color": "#D55E00", "marker": "D"}


def test_many_differences_have_a_row_each_against_the_closest(tmp_path, make, write):
    results = load_results(write(tmp_path / "s", make(methods=MANY[:9], tasks=TASKS, seeds=3)))
    changes = differences(results)
    figure = changes_figure(changes)
    panels = {axes.get_title(): axes for axes in figure.axes if axes.get_title()}
    assert list(panels) == ["left", "sum"]
    kept = closest(changes[["encoder", "baseline"]].itertuples(index=False, name=None))
    assert ("dwa+sam", "dwa") in kept
    labels = [text.get_text() for text in panels["left"].get_yticklabels()]
    assert labels == [f"{style.display(a)} − {style.display(b)}" for a, b in kept]
    assert [encoder for encoder, _ in kept] == style.encoder_order(MANY[:9])[:1] + style.encoder_order(MANY[:9])[2:]
    predictors = [text.get_text() for text in panels["left"].get_xticklabels()]
    texts = [text.get_text() for text in panels["left"].texts]
    row = changes[(changes.encoder == "dwa+sam") & (changes.baseline == "dwa") & (changes.task == "left")]
    expected = row.set_index("predictor").loc["knn", "difference"]
    at = labels.index("DWA + SAM − DWA") * len(predictors) + predictors.index("kNN")
    assert texts[at] == signed(100 * expected, 1)


def test_words_stay_short_and_count(tmp_path, make, write):
    results = load_results(write(tmp_path / "s", make(methods=MANY, tasks=TASKS, seeds=3)))
    changes = differences(results)
    told = [str(one) for one in summary_findings(results, changes, universality_differences(results.universality))]
    assert len(told) < 15
    assert max(map(len, told)) < 900
    assert "alone and with DGR or SAM or PTA" in compared_sentence(results)
    own = changes[changes.encoder.str.endswith("+sam") & (changes.predictor != "own head")]
    own = own[own.baseline == own.encoder.str.removesuffix("+sam")]
    better, worse = ((own.reading == what).sum() for what in ("better", "worse"))
    line = next(line for line in told if line.startswith("Did SAM help (12 methods"))
    assert f"Probes: better in {better}, worse in {worse}, " in line
    assert f"of {len(own)} comparisons" in line
    cautions = warning_sentences(results, changes)
    assert len(cautions) < 15
    counted = next(line for line in cautions if "are judged one by one" in line).split(" differences")[0]
    assert f"of {counted} paired differences" in next(line for line in told if line.startswith("In short"))


def test_page_computes_the_differences_once(tmp_path, make, write, monkeypatch):
    from reprkit.analysis.figures import write as figures
    from reprkit.analysis.reporting import report

    calls = []
    for module in (report, figures):
        monkeypatch.setattr(module, "differences", lambda results: calls.append(1) or differences(results))
    report.write_report(write(tmp_path / "s", make(methods=MANY[:3], tasks=TASKS, seeds=1)))
    assert len(calls) == 1


def test_long_tables_scroll_and_short_ones_do_not(tmp_path, make, write):
    for count, tall in ((3, False), (30, True)):
        html = render(load_results(write(tmp_path / str(count), make(methods=MANY[:count], tasks=TASKS, seeds=2))), [])
        section = re.search(r'<section id="table-heads">.*?</section>', html, re.DOTALL)[0]
        assert ('class="scroll tall"' in section) is tall
        assert ('id="table-gains"' in html) is tall  # one method with DGR stands in the first table
        assert section.count("<tr>") == count + 1


def test_bootstraps_of_many_columns_are_those_of_each_alone():
    rng = np.random.default_rng(0)
    right = rng.random((80, 5)) < 0.7
    together = paired_bootstraps((right[:, 1:].astype(int) - right[:, :1]), resamples=300, seed=4)
    for column, found in enumerate(together, 1):
        alone = paired_bootstrap(right[:, 0], right[:, column], resamples=300, seed=4)
        assert found == pytest.approx(alone, abs=1e-12)


def test_limits_and_bands():
    assert limits([0.5, np.nan, 0.7, np.inf]) == (pytest.approx(0.486), pytest.approx(0.714), False)
    low, high, seen = limits([0.5, 0.7], keep=0.45)
    assert low < 0.45
    assert high > 0.7
    assert seen
    assert limits([0.5, 0.52], keep=0.0)[2] is False
    assert family_bands(["single", "dwa", "dwa+dgr", "imtl", "mgda"]) == [(0.5, 2.5), (3.5, 4.5)]
    assert pd.isna(limits([np.nan])[0])
