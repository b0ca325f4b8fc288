"""What additions change: gains paired over seeds, Table 1 of many methods, and Figure 2."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reprkit.analysis import style
from reprkit.analysis.figures.additions import additions_figure, chosen_bases, write_figure2
from reprkit.analysis.reporting.gains import addition_gains, gain_sentence, seed_gains
from reprkit.analysis.reporting.method_table import dgr_table, write_table1
from reprkit.analysis.reporting.results import load_results
from reprkit.analysis.reporting.typeset import latex_table, markdown_table, signed
from reprkit.errors import InputError
from reprkit.tasks import Task

ROOT = Path(__file__).parents[3]
TASKS = (Task("left", "classification", 3),)
METHODS = ("single", "vanilla", "vanilla+dgr", "vanilla+sam", "cagrad", "cagrad+dgr", "dwa")


def gains_of(**deltas):
    """seed_gains of encoders by their values over seeds 0, 1, ...; `_plus_` stands for `+`."""
    return pd.DataFrame(
        [(name.replace("_plus_", "+"), seed, value) for name, found in deltas.items() for seed, value in found.items()],
        columns=["encoder", "seed", "delta"],
    )


@pytest.fixture
def sweep(tmp_path, make, write):
    return write(tmp_path / "sweep", make(seeds=3, methods=METHODS, tasks=TASKS))


def test_change_is_students_paired_interval(sweep):
    gains = seed_gains(load_results(sweep))
    table = addition_gains(gains).set_index("encoder")
    assert list(table.index) == ["vanilla", "vanilla+dgr", "vanilla+sam", "cagrad", "cagrad+dgr"]
    wide = gains.pivot(index="seed", columns="encoder", values="delta")
    for base, name in (("vanilla", "vanilla+dgr"), ("vanilla", "vanilla+sam"), ("cagrad", "cagrad+dgr")):
        expected = stats.ttest_rel(wide[name], wide[base]).confidence_interval(0.95)
        row = table.loc[name]
        assert row["difference"] == pytest.approx((wide[name] - wide[base]).mean())
        assert (row["difference_low"], row["difference_high"]) == pytest.approx((expected.low, expected.high))
        assert row["common_seeds"] == 3
    assert table.loc["vanilla", "common_seeds"] == 0


def test_only_common_seeds_are_paired():
    table = addition_gains(gains_of(dwa={0: 1.0, 1: 2.0, 2: 9.0}, dwa_plus_dgr={1: 5.0, 2: 10.0, 7: 99.0}))
    row = table.set_index("encoder").loc["dwa+dgr"]
    assert (row["difference"], row["common_seeds"]) == (2.0, 2)
    alone = addition_gains(gains_of(dwa={0: 1.0}, dwa_plus_dgr={3: 2.0}))
    assert gain_sentence(alone) == ""
    assert np.isnan(alone["difference"]).all()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(-50, 50), min_size=3, max_size=6),
    st.lists(st.floats(-5, 5), min_size=6, max_size=6),
    st.floats(-20, 20),
)
def test_what_both_share_cancels(level, change, shift):
    """A constant in every seed of method and addition moves no difference: the baseline hardly enters."""
    alone = dict(enumerate(level))
    added = {seed: value + change[seed] for seed, value in alone.items()}
    one, other = (
        addition_gains(
            gains_of(mgda={k: v + s for k, v in alone.items()}, mgda_plus_sam={k: v + s for k, v in added.items()})
        ).iloc[1]
        for s in (0.0, shift)
    )
    for column in ("difference", "difference_low", "difference_high"):
        assert one[column] == pytest.approx(other[column], abs=1e-9)
    assert one["difference"] == pytest.approx(np.mean(change[: len(level)]), abs=1e-9)


def test_sentence_counts_the_intervals_that_exclude_0():
    found = gains_of(
        vanilla={0: 0.0, 1: 1.0, 2: 2.0}, vanilla_plus_dgr={0: 5.0, 1: 6.1, 2: 7.0},
        dwa={0: 0.0, 1: 1.0, 2: 2.0}, dwa_plus_dgr={0: -5.0, 1: -4.1, 2: -3.0},
        imtl={0: 0.0, 1: 1.0, 2: 2.0}, imtl_plus_dgr={0: 5.0, 1: -5.0, 2: 2.0},
    )  # fmt: skip
    table = addition_gains(found)
    text = gain_sentence(table)
    assert "DGR was added to 3 methods" in text
    assert "over 3 seeds excludes 0 on 2 of 3 (1 better, 1 worse), and covers it on 1." in text
    assert gain_sentence(table, "sam") == ""
    _, cells, _ = dgr_table(table)
    assert [(row[0], row[-1]) for row in cells] == [
        ("Vanilla", "better"), ("DWA", "worse"), ("IMTL", "not distinguishable"),
    ]  # fmt: skip
    single = addition_gains(found[found.seed == 0])
    assert "nothing is judged" in gain_sentence(single)
    assert [row[4] for row in dgr_table(single)[1]] == ["–", "–", "–"]


def test_tables_are_written_in_the_papers_order(sweep, tmp_path):
    paths = write_table1(sweep, tmp_path)
    assert [path.name for path in paths] == [
        f"{stem}.{end}" for stem in ("table1", "dgr_gain") for end in ("csv", "md", "tex")
    ]
    lines = (tmp_path / "table1.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in lines[2:9]] == [
        "| Single", "| Vanilla", "| Vanilla + DGR", "| Vanilla + SAM", "| DWA", "| CAGrad", "| CAGrad + DGR",
    ]  # fmt: skip
    frame = pd.read_csv(tmp_path / "dgr_gain.csv")
    assert list(frame["encoder"]) == ["vanilla+dgr", "cagrad+dgr"]
    assert (frame["delta"] - frame["alone"]).tolist() == pytest.approx(frame["difference"].tolist(), abs=1e-3)
    tex = (tmp_path / "dgr_gain.tex").read_text()
    assert r"$\Delta$ alone (\%)" in tex
    assert tex.count(r"\\") == 3
    assert (tmp_path / "table1.tex").read_text().count(r"\addlinespace") == 3


def test_without_dgr_or_single_there_is_no_second_table(tmp_path, make, write):
    for methods in (("single", "vanilla", "vanilla+sam"), ("vanilla", "vanilla+dgr")):
        folder = write(tmp_path / methods[0] / "s", make(seeds=2, methods=methods, tasks=TASKS))
        assert len(write_table1(folder, tmp_path / "out")) == 3


def test_figure2_shows_what_the_table_says(sweep):
    gains = seed_gains(load_results(sweep))
    table = addition_gains(gains).set_index("encoder")
    figure = additions_figure(gains)
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["Vanilla", "CAGrad"]
    drawn = {container.get_label(): container.lines for container in axes.containers}
    assert set(drawn) == set(table.index)
    for name, (mark, _, (whisker,)) in drawn.items():
        row = table.loc[name]
        assert mark.get_ydata() == pytest.approx([row["delta"]])
        assert whisker.get_segments()[0][:, 1] == pytest.approx([row["low"], row["high"]])
        assert round(mark.get_xdata()[0]) == ["vanilla", "cagrad"].index(row["method"])
        dots = next(c for c in axes.collections if c.get_label() == f"_seeds {name}")
        assert sorted(dots.get_offsets()[:, 1]) == pytest.approx(sorted(gains.loc[gains.encoder == name, "delta"]))
    for base in ("vanilla", "cagrad"):
        line = next(line for line in axes.lines if line.get_label() == f"_alone {base}")
        assert set(line.get_ydata()) == {table.loc[base, "delta"]}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["alone", "+ DGR", "+ SAM"]


def test_bases_are_those_with_an_addition_or_as_asked(sweep, tmp_path):
    results = load_results(sweep)
    assert chosen_bases(results) == ["vanilla", "cagrad"]
    write_figure2(sweep, tmp_path, bases=["cagrad", "vanilla"])
    assert list(dict.fromkeys(pd.read_csv(tmp_path / "figure2.csv")["method"])) == ["cagrad", "vanilla"]
    with pytest.raises(InputError, match="--bases: .* 'dwa' with an addition; choose from vanilla, cagrad"):
        chosen_bases(results, ["vanilla", "dwa"])


@pytest.mark.parametrize(
    ("methods", "told"),
    [(("single", "vanilla", "dwa"), "no method has an addition"), (("vanilla", "vanilla+dgr"), "add single")],
)
def test_figure2_says_what_it_lacks_in_one_line(tmp_path, make, write, methods, told):
    folder = write(tmp_path / "s", make(seeds=1, methods=methods, tasks=TASKS))
    command = [sys.executable, str(ROOT / "analysis/figure2.py"), "--runs", str(folder), "--out", str(tmp_path / "o")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert told in done.stderr


def test_names_are_proper_and_unknown_ones_stay():
    assert style.display("nash_mtl+dgr") == "Nash-MTL + DGR"
    assert style.display("auto_lambda+dgr+sam") == "Auto-λ + DGR + SAM"
    for other in ("mine", "vanilla+other", "vanilla+sam+dgr", "vanilla+dgr, seed 7", "+dgr", "single "):
        assert style.display(other) == other
        assert style.split_label(other) == (other, ())
    assert style.row_names(["dwa", "dwa+dgr", "imtl+sam", "x+dgr"]) == ["DWA", "+ DGR", "IMTL + SAM", "x+dgr"]


def test_table_cells_are_escaped():
    assert markdown_table(["a|b"], [["c|d"]]).splitlines()[0] == r"| a\|b |"
    tex = latex_table(["a", "b"], [["Auto-λ", f"{signed(-1.5, 1)} ± 2"], ["x_y", "–"]], "one\ntwo", spaced=[1])
    assert r"Auto-$\lambda$ & $-$1.5 $\pm$ 2 \\" in tex
    assert "\\addlinespace\nx\\_y & -- \\\\" in tex
    assert "% one\n% two" in tex
    assert signed(-0.04, 1) == "0.0"


def test_recipe_knows_the_names():
    """Every method and addition that can be trained has a name to print."""
    from reprkit.recipe import ADDITIONS, METHODS

    assert set(METHODS) == set(style.METHOD_NAMES)
    assert tuple(style.ADDITION_NAMES) == ADDITIONS
    assert json.dumps([style.display(f"{m}+{a}") for m in METHODS for a in ADDITIONS]).count("+") == 39
