"""Universality against probes: the rank correlation, the marks of the figure, and several folders read as one."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from reprkit.analysis import style
from reprkit.analysis.figures import agreement_figure
from reprkit.analysis.reporting.agreement import MARK_COLUMNS, agreement_marks, agreement_tests, spearman
from reprkit.analysis.reporting.joined import load_folders
from reprkit.analysis.reporting.results import load_results
from reprkit.errors import InputError
from reprkit.tasks import Task

TASKS = (Task("left", "classification", 3), Task("age", "regression", 1))
METHODS = ("single", "vanilla", "vanilla+dgr", "pcgrad", "cagrad")


def marks_of(*, seeds=2, controls=()):
    """Marks in which y rises with x over encoders, but falls with it over the seeds of each."""
    rows = [
        (name, seed, "left", "linear", "U_rel", "linear", "accuracy", i + 0.1 * seed, 10 * i - 0.2 * seed, False)
        for i, name in enumerate(METHODS) for seed in range(seeds)
    ]  # fmt: skip
    rows += [(name, 0, "left", "linear", "U_rel", "linear", "accuracy", x, y, True) for name, x, y in controls]
    return pd.DataFrame(rows, columns=MARK_COLUMNS)


@pytest.mark.parametrize("n", [3, 5, 8, 9, 30])
def test_rho_is_scipys_with_and_without_ties(n):
    rng = np.random.default_rng(n)
    for x in (rng.normal(size=n), rng.integers(0, 3, size=n) + np.eye(n)[0]):
        y = rng.normal(size=n)
        assert spearman(x, y).rho == pytest.approx(scipy.stats.spearmanr(x, y).statistic)


def test_p_value_is_that_of_all_permutations():
    rng = np.random.default_rng(1)
    for n in (4, 6):
        x, y = rng.normal(size=(2, n))
        exact = scipy.stats.permutation_test(
            (x,), lambda a, y=y: scipy.stats.spearmanr(a, y).statistic, permutation_type="pairings", n_resamples=np.inf
        )
        assert spearman(x, y).p_value == pytest.approx(min(exact.pvalue, 1))
    x = rng.normal(size=40)
    y = x + 2 * rng.normal(size=40)
    assert spearman(x, y).p_value == pytest.approx(scipy.stats.spearmanr(x, y).pvalue, abs=0.01)


def test_interval_is_that_of_bonett_and_wright():
    found = spearman([1, 2, 3, 4, 5], [1, 4, 2, 3, 5])
    assert found.rho == pytest.approx(0.7)
    z, error = np.arctanh(0.7), np.sqrt((1 + 0.49 / 2) / 2)
    bounds = np.tanh(scipy.stats.norm.ppf([0.025, 0.975], z, error))
    assert (found.low, found.high) == pytest.approx(tuple(bounds))


def test_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(2)
    truth, n = 0.6, 12  # of a normal pair: rho_S = 6 / pi asin(r / 2)
    r = 2 * np.sin(np.pi * truth / 6)
    found = [spearman(x, r * x + np.sqrt(1 - r * r) * y) for x, y in rng.normal(size=(300, 2, n))]
    assert 0.91 < np.mean([one.low <= truth <= one.high for one in found]) <= 0.99


def test_few_or_equal_values_claim_nothing():
    perfect = spearman([1, 2, 3, 4], [1, 2, 3, 4])
    assert (perfect.rho, perfect.high) == (1, 1)
    assert perfect.low < 0  # one order of four in 24 is no proof
    assert perfect.p_value == pytest.approx(2 / 24)
    assert np.isnan(spearman([1, 2, 3], [1, 2, 3]).low)
    assert np.isnan(spearman([1, 2], [1, 2]).rho)
    assert np.isnan(spearman([1, 1, 1, 1], [1, 2, 3, 4]).rho)
    reverse = spearman([1, 2, 3, 4, 5], [5, 4, 3, 2, 1])
    assert (reverse.rho, reverse.low) == (-1, -1)


def test_an_encoder_counts_once_and_controls_not_at_all():
    table = marks_of(seeds=3, controls=[("pixels", -50.0, 99.0), ("random_init", -60.0, 98.0)])
    (row,) = agreement_tests(table).to_dict("records")
    assert row["rho"] == 1  # over all 15 marks it would be less
    assert (row["n_encoders"], row["n_marks"], row["reading"]) == (5, 15, "follows")
    (row,) = agreement_tests(table.assign(y=-table.y)).to_dict("records")
    assert row["reading"] == "runs against"
    (row,) = agreement_tests(table[table.encoder.isin(METHODS[:3])]).to_dict("records")
    assert row["reading"] == ""


def test_figure_shows_every_mark_and_the_test():
    table = marks_of(controls=[("random_init", 0.5, 1.0), ("pixels", -100.0, 3.0)])
    figure = agreement_figure(table)
    (axes,) = [axes for axes in figure.axes if axes.get_title() == "left"]
    drawn = {c.get_label(): np.asarray(c.get_offsets()) for c in axes.collections}
    assert list(drawn) == ["_control random_init", *style.encoder_order(METHODS)]
    for name in METHODS:
        own = table[table.encoder == name]
        assert drawn[name] == pytest.approx(own[["x", "y"]].to_numpy())
    assert drawn["_control random_init"] == pytest.approx(np.array([[0.5, 1.0]]))
    told = sorted((text.get_text() for text in axes.texts), reverse=True)
    p_value = spearman(range(5), range(5)).p_value
    assert told[0].startswith("rho = 1.00 (")
    assert told[0].endswith(f"p = {p_value:.2g}, 5 encoders")
    assert told[1] == "outside: Raw pixels (−100.00, 3.00)"  # noqa: RUF001  the sign that figures print
    assert axes.get_xlim()[0] > -2
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == [*map(style.display, style.encoder_order(METHODS)), "Untrained encoder", "Raw pixels"]
    assert axes.get_xlabel() == "U_rel"
    assert axes.get_ylabel() == "Linear probe: accuracy"
    with pytest.raises(InputError, match="no encoder has both"):
        agreement_figure(table[table.control])


def test_marks_join_both_tables_and_leave_out_what_does_not_exist(tmp_path, make, write):
    frames = make(seeds=2, tasks=TASKS)
    gone = (frames.universality.encoder == "vanilla") & (frames.universality.task == "left")
    frames.universality.loc[gone, "U_rel"] = np.nan
    folder = write(tmp_path / "s", frames)
    (folder / "controls").mkdir()
    for name in ("probes", "universality"):
        own = getattr(frames, name)
        style.write_csv(own[(own.encoder == "single") & (own.seed == 0)].assign(encoder="pixels"),
                        folder / "controls" / f"{name}.csv")  # fmt: skip
    table = agreement_marks(load_results(folder), probe="knn")
    assert list(table.columns) == MARK_COLUMNS
    assert table[~table.control].groupby("task").size().to_dict() == {"left": 4, "age": 6}
    assert set(table[table.control].encoder) == {"pixels"}
    assert dict(zip(table.task, table.metric, strict=True)) == {"left": "accuracy", "age": "r2"}
    row = table.iloc[0]
    probes, measured = (f[(f.encoder == row.encoder) & (f.seed == row.seed) & (f.task == row.task)]
                        for f in (frames.probes, frames.universality))  # fmt: skip
    assert row.x == pytest.approx(measured.U_rel.iloc[0], rel=1e-5)
    wanted = probes[(probes.probe == "knn") & (probes.metric == row.metric)].value.iloc[0]
    assert row.y == pytest.approx(wanted, rel=1e-5)
    for options, problem in (({"score": "L_star"}, "--score.*choose from U_rel, "), ({"probe": "x"}, "--probe.*knn")):
        with pytest.raises(InputError, match=problem):
            agreement_marks(load_results(folder), **options)
    (folder / "probes.csv").unlink()
    with pytest.raises(InputError, match=r"holds no probes\.csv"):
        agreement_marks(load_results(folder))


def test_folders_of_the_same_data_are_one(tmp_path, make, write):
    one = write(tmp_path / "a", make(seeds=2, tasks=TASKS, methods=METHODS[:2]))
    two = write(tmp_path / "b", make(seeds=1, tasks=TASKS, methods=METHODS[2:]))
    control = pd.DataFrame({"encoder": ["pixels"], "seed": [0], "task": ["left"], "head": ["linear"], "U_rel": [0.1]})
    for folder in (one, two):
        (folder / "controls").mkdir()
        control.to_csv(folder / "controls" / "universality.csv", index=False)
    both = load_folders([one, two])
    assert len(both.control_universality) == 1  # they depend on the data alone
    assert both.encoders == style.encoder_order(METHODS)
    for name in ("probes", "universality", "tsne", "scores", "curves"):
        assert len(getattr(both, name)) == sum(len(getattr(load_results(folder), name)) for folder in (one, two))
    assert len(both.runs) == 2 * 3 + 3  # single has a run a task
    with pytest.raises(InputError, match="seed 0 is also"):
        load_folders([one, one])
    run = two / "runs" / "pcgrad" / "seed0" / "identity.json"
    for folder, value in ((one / "runs" / "vanilla" / "seed0" / "identity.json", "x"), (run, "y")):
        folder.write_text(json.dumps({"fingerprints": {"dataset": "d", "split": value}}))
    with pytest.raises(InputError, match="another split"):
        load_folders([one, two])
    (two / "recipe.yaml").write_text("data: {name: rooms}\n")
    with pytest.raises(InputError, match="data set rooms"):
        load_folders([one, two])
    other = write(tmp_path / "c", make(seeds=1, tasks=TASKS[:1], methods=METHODS[2:]))
    with pytest.raises(InputError, match="same tasks"):
        load_folders([one, other])
