"""The report: complete, offline, honest, and the same bytes for the same results."""

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from reprkit.analysis.reporting.cautions import warning_sentences
from reprkit.analysis.reporting.delta import delta_mtl
from reprkit.analysis.reporting.differences import (
    OWN_HEAD,
    closest,
    differences,
    pairs,
    reading,
    universality_differences,
)
from reprkit.analysis.reporting.method_table import DELTA, latex, table1, table1_columns
from reprkit.analysis.reporting.report import render, write_report
from reprkit.analysis.reporting.results import load_results
from reprkit.analysis.reporting.seeds import over_seeds
from reprkit.analysis.reporting.summary import compared_sentence, summary_findings
from reprkit.analysis.reporting.typeset import tex_escape
from reprkit.errors import InputError


class Page(HTMLParser):
    """Tags that are open, attributes that point somewhere, and the text of list items and cells."""

    def __init__(self, html):
        super().__init__()
        self.links, self.open, self.items, self.scripts = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ("src", "href", "action", "srcset", "data")]
        if tag not in ("meta", "img", "br", "link", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "li":
            self.items.append(data)
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)


@pytest.fixture
def sweep(tmp_path, frames, write):
    return write(tmp_path / "sweep", frames)


def words(folder):
    results = load_results(folder)
    changes = differences(results)
    found = summary_findings(results, changes, universality_differences(results.universality))
    told = [compared_sentence(results), *map(str, found)]
    return "\n".join(told), "\n".join(warning_sentences(results, changes))


def test_report_is_one_offline_well_formed_file_with_all_parts(sweep):
    path = write_report(sweep)
    assert path == sweep / "report.html"
    html = path.read_text()
    page = Page(html)
    assert page.open == []
    files = [link for link in page.links if not link.startswith(("#", "data:image/png;base64,"))]
    assert {"probes.csv", "tables/table1.csv", "tables/verdicts.csv", "figures/probes.pdf"} <= set(files)
    assert all((sweep / link).is_file() for link in files)
    assert not re.search(r"https?://|//[a-z]+\.|@import|url\(", html)
    assert "default-src 'none'" in html
    for part in ("table-heads", "table-probes", "table-universality", "table-maps", "figure-probes", "figure-tsne",
                 "figure-universality", "figure-agreement", "figure-curves", "compared", "table-verdicts", "repeat",
                 "warnings"):  # fmt: skip
        assert f'id="{part}"' in html
    assert "reprkit run &#39;my recipe.yaml&#39;" in html
    assert "numpy" in html
    for anchor in (link[1:] for link in page.links if link.startswith("#")):
        assert f'id="{anchor}"' in html
    assert (sweep / "figures" / "probes.pdf").is_file()
    assert (sweep / "figures" / "tsne-seed1.png").is_file()


def test_same_results_same_bytes(tmp_path, make, write):
    small = make(seeds=1, methods=["vanilla"])
    first, second = (write(tmp_path / name / "sweep", small) for name in "ab")
    assert write_report(first).read_bytes() == write_report(second).read_bytes()


def test_names_from_files_stay_text(tmp_path, make, write):
    evil = "<b>x</b><script>alert(1)</script>"
    frames = make(seeds=1, methods=["vanilla"])
    for frame in (frames.probes, frames.universality, frames.tsne, frames.tsne_quality):
        frame["encoder"] = evil
        frame["status"] = evil
    folder = write(tmp_path / "s", frames, name=evil, tables=True)
    html = render(load_results(folder), [])
    assert evil not in html
    assert "&lt;b&gt;x&lt;/b&gt;" in html
    assert len(Page(html).scripts) == 1


def test_parts_that_are_missing_are_left_out_and_named(sweep):
    for name in ("universality", "tsne", "tsne_quality"):
        (sweep / f"{name}.csv").unlink()
    html = render(load_results(sweep), [])
    assert "table-universality" not in html
    assert "Not among these results: universality and t-SNE maps." in html


def test_tables_of_runs_stand_in_for_those_of_the_sweep(tmp_path, frames, write):
    whole, parts = write(tmp_path / "a", frames), write(tmp_path / "b", frames, tables=False)
    one, other = load_results(whole), load_results(parts)
    for name in ("probes", "universality", "tsne"):
        keys = list(getattr(one, name).columns[:4])
        first, second = (getattr(r, name).sort_values(keys).reset_index(drop=True) for r in (one, other))
        pd.testing.assert_frame_equal(first, second)


def test_one_run_folder_has_a_report_of_its_own(tmp_path, make, write):
    folder = write(tmp_path / "s", make(seeds=1, methods=["vanilla"]), tables=False)
    run = folder / "runs" / "vanilla" / "seed0"
    html = render(load_results(run), [])
    assert "One encoder was measured" in html


def test_folders_that_are_none_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        write_report(tmp_path / "nope")
    with pytest.raises(InputError, match="holds no results"):
        write_report(tmp_path)
    (tmp_path / "probes.csv").write_bytes(b'a,b\n1,2,3\n"')
    with pytest.raises(InputError, match=r"probes\.csv: not a result table"):
        write_report(tmp_path)


def test_pieces_name_the_chosen_runs(tmp_path, make, write):
    folder = write(tmp_path / "s", make(seeds=1, methods=["vanilla", "vanilla+dgr"]))
    chosen = '[{"encoder": "vanilla", "seed": 0, "task": "", "point": "", "folder": "runs/vanilla/seed0"}]'
    (folder / "pieces.json").write_text(chosen)
    assert [run.encoder for run in load_results(folder).runs] == ["vanilla"]
    (folder / "pieces.json").write_text('[{"encoder": 1}]')
    with pytest.raises(InputError, match=r"pieces\.json"):
        load_results(folder)


def test_words_call_only_clear_differences_different(tmp_path, make, write):
    frames = make(seeds=3, methods=["vanilla", "vanilla+dgr"])
    values = {("vanilla", "left"): (0.7, 0.71, 0.72), ("vanilla+dgr", "left"): (0.8, 0.81, 0.82),
              ("vanilla", "sum"): (0.7, 0.75, 0.8), ("vanilla+dgr", "sum"): (0.8, 0.75, 0.71)}  # fmt: skip
    for (encoder, task), scores in values.items():
        frames.scores.loc[(frames.scores.encoder == encoder) & (frames.scores.task == task), "value"] = scores
    told, _ = words(write(tmp_path / "s", frames))
    left, total = (next(line for line in told.split("\n") if line.startswith(f"{t}:")) for t in ("left", "sum"))
    assert "by Vanilla + DGR" in left
    assert "Vanilla + DGR +10.0 points (+10.0 to +10.0), better." in left
    assert "not distinguishable here" in total
    assert "three training seeds each" in told
    assert "left (3 classes), sum (5 ordered classes) and age (regression" in told


def test_words_warn_of_few_seeds_and_many_comparisons(tmp_path, make, write):
    _, one = words(write(tmp_path / "one", make(seeds=1)))
    assert "One training seed" in one
    _, two = words(write(tmp_path / "two", make(seeds=2)))
    assert "Two training seeds cannot establish much" in two
    assert re.search(r"\d+ differences are judged one by one", two)
    _, three = words(write(tmp_path / "three", make(seeds=3)))
    assert "raining seed" not in three


def test_words_name_collapse_and_missing_headroom(tmp_path, make, write):
    frames = make(seeds=1, methods=["vanilla", "vanilla+dgr"])
    dgr = frames.universality.encoder == "vanilla+dgr"
    frames.universality.loc[dgr, ["gap", "rms", "effective_rank", "U_rel"]] = [0.01, 0.001, 1.5, 0.1]
    frames.universality.loc[dgr & (frames.universality.task == "sum"), "status"] = "no_headroom"
    told, warned = words(write(tmp_path / "s", frames))
    assert "Vanilla + DGR RMS 0.001, effective rank 1.5" in told
    assert "explained by shrinkage" in warned
    assert "no_headroom" in warned
    assert "Vanilla + DGR / sum / linear" in warned


def test_unlike_protocols_are_named(tmp_path, frames, write):
    frames.probes.loc[0, "protocol_id"] = "other"
    _, warned = words(write(tmp_path / "s", frames))
    assert "Probes were measured under different protocols" in warned


def test_without_a_baseline_nothing_is_compared(tmp_path, make, write):
    told, warned = words(write(tmp_path / "s", make(seeds=2, methods=["single", "pcgrad"])))
    assert "no vanilla encoder" in warned
    assert "Against" not in told


def test_differences_of_seeds_are_student_intervals(sweep, frames):
    changes = differences(load_results(sweep))
    row = changes[(changes.task == "left") & (changes.predictor == OWN_HEAD) & (changes.encoder == "single")].iloc[0]
    scores = frames.scores[frames.scores.task == "left"].pivot(index="seed", columns="encoder", values="value")
    change = scores["single"] - scores["vanilla"]
    half = 12.706204736432095 * change.std(ddof=1) / np.sqrt(2)  # t quantile at 0.975 with 1 degree of freedom
    expected = (change.mean(), change.mean() - half, change.mean() + half)
    assert (row.difference, row.low, row.high) == pytest.approx(expected)


def test_differences_of_one_seed_are_paired_over_samples(tmp_path, make, write):
    folder = write(tmp_path / "s", make(seeds=1, methods=["vanilla", "vanilla+dgr"]))
    rng = np.random.default_rng(3)
    target = rng.integers(3, size=200)
    ids = [f"s{i}" for i in range(200)]
    wrong = {"vanilla": rng.random(200) < 0.5}
    wrong["vanilla+dgr"] = wrong["vanilla"] & (rng.random(200) < 0.4)
    for name, bad in wrong.items():
        table = pd.DataFrame({"id": ids, "target": target, "knn": np.where(bad, (target + 1) % 3, target)})
        (folder / "runs" / name / "seed0" / "predictions").mkdir()
        table.sample(frac=1, random_state=1).to_csv(
            folder / "runs" / name / "seed0" / "predictions" / "left.csv", index=False
        )
    changes = differences(load_results(folder))
    row = changes[(changes.task == "left") & (changes.predictor == "knn")].iloc[0]
    change = wrong["vanilla"].astype(float) - wrong["vanilla+dgr"]
    assert row.difference == pytest.approx(change.mean())
    error = change.std() / np.sqrt(200)
    assert row.low == pytest.approx(change.mean() - 1.96 * error, abs=0.5 * error)
    assert row.high == pytest.approx(change.mean() + 1.96 * error, abs=0.5 * error)
    assert row.interval == "samples"
    assert row.reading == "better"
    linear = changes[(changes.task == "left") & (changes.predictor == "linear")].iloc[0]
    assert linear.reading == ""


def test_readings():
    assert reading(0.1, 0.05, 0.2) == "better"
    assert reading(0.1, 0.05, 0.2, lower_is_better=True) == "worse"
    assert reading(-0.1, -0.3, -0.05) == "worse"
    assert reading(0.1, -0.05, 0.2) == reading(0.1, 0.0, 0.2) == "not distinguishable"
    assert reading(0.1, np.nan, np.nan) == ""


def test_pairs_compare_with_vanilla_and_with_the_own_base():
    assert pairs(["single", "vanilla", "pcgrad", "pcgrad+dgr"]) == [
        ("single", "vanilla"), ("pcgrad", "vanilla"), ("pcgrad+dgr", "vanilla"), ("pcgrad+dgr", "pcgrad"),
    ]  # fmt: skip
    assert pairs(["single", "pcgrad"]) == []
    assert pairs(["dwa", "dwa+sam", "dwa+dgr+pta", "mgda+pta"]) == [("dwa+sam", "dwa"), ("dwa+dgr+pta", "dwa")]
    assert closest([("dwa+sam", "vanilla"), ("dwa", "vanilla"), ("dwa+sam", "dwa")]) == [
        ("dwa", "vanilla"), ("dwa+sam", "dwa"),
    ]  # fmt: skip


def test_over_seeds_says_what_its_interval_covers():
    rows = pd.DataFrame(
        {"encoder": ["a", "a", "b", "c"], "seed": [0, 1, 0, 0], "value": [1.0, 3.0, 2.0, np.nan],
         "low": [0.9, 2.9, 1.5, 0.0], "high": [1.1, 3.1, 2.5, 0.0]}
    )  # fmt: skip
    table = over_seeds(rows, by=["encoder"]).set_index("encoder")
    assert table.interval.to_dict() == {"a": "seeds", "b": "samples", "c": ""}
    assert table.loc["a", "low"] == pytest.approx(2 - 12.706204736432095)
    assert (table.loc["b", "low"], table.loc["b", "high"]) == (1.5, 2.5)
    assert np.isnan(table.loc["c", "low"])


def test_table1_agrees_with_equation_6(sweep, frames):
    results = load_results(sweep)
    rows = table1(results)
    means = frames.scores.groupby(["encoder", "task"])["value"].mean()
    expected = delta_mtl(means["vanilla"].to_dict(), means["single"].to_dict())
    assert rows["vanilla"][DELTA].value == pytest.approx(expected)
    assert DELTA not in rows["single"]
    assert table1_columns(results, rows) == ["left", "sum", "age", DELTA]
    assert rows["vanilla"]["left"].value == pytest.approx(means["vanilla", "left"])
    text = latex(rows, table1_columns(results, rows), results)
    assert text.count(r"\\") == 4
    assert text.count("&") == 4 * 4


def test_latex_specials_are_escaped():
    assert tex_escape(r"a_b & 50% {x}\y^~#$") == (
        r"a\_b \& 50\% \{x\}\textbackslash{}y\textasciicircum{}\textasciitilde{}\#\$"
    )


def test_settings_tried_are_shown_where_there_was_a_choice(tmp_path, make, write):
    folder = write(tmp_path / "s", make(seeds=1, methods=["vanilla"]))
    (folder / "selection.csv").write_text("method,point,val_score,failed,chosen\nvanilla,,0.8,,True\n")
    assert "Settings tried" not in render(load_results(folder), [])
    lines = "vanilla,lr=0.1,0.8,,True\nvanilla,lr=1,0.7,,False\n"
    (folder / "selection.csv").write_text("method,point,val_score,failed,chosen\n" + lines)
    html = render(load_results(folder), [])
    assert "Settings tried" in html
    assert "lr=0.1" in html
    assert "failed" not in html
