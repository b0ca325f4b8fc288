"""Files larger than memory, read in blocks alone, have the results of memory; and the limits of large files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from reprkit.analysis.probes import PROBES, Protocol, probe_with_predictions
from reprkit.analysis.probes.suite import FITS, make_plan
from reprkit.analysis.rows import BLOCK_ROWS
from reprkit.analysis.workspace import Workspace
from reprkit.embeddings import Embeddings, EmbeddingsWriter, SplitRows
from reprkit.recipe import ProbeConfig

KINDS = {"age": "regression"}
SMALL = ProbeConfig(bootstrap=20)
FEW = 64


class OnlyBlocks:
    """A file that hands out a few rows at a time, never a whole split, and counts the passes over train."""

    def __init__(self, made):
        self._made, self.passes = made, 0

    def __getattr__(self, name):
        return getattr(self._made, name)

    def z(self, split):
        raise AssertionError(f"all of {split} was read at once")

    def blocks(self, split, rows=BLOCK_ROWS):
        self.passes += split == "train"
        yield from self._made.blocks(split, min(rows, FEW))


@pytest.fixture(scope="module")
def made(toy):
    """Several blocks of train and test, two complete tasks and one with gaps."""
    sizes = (10 * FEW + 9, 2 * FEW + 3, 4 * FEW + 5)
    found = toy(dim=6, classes={"left": 3, "age": 4, "right": 4}, kinds=KINDS, sizes=sizes, noise=1.2)
    rng = np.random.default_rng(0)
    for split in found.splits:
        found.targets(split, "right")[rng.random(found.num_rows(split)) < 0.3] = -1
    return found


@pytest.mark.parametrize("limits", [{}, {"subsample": 300, "max_fit": 200, "max_val": 60}])
def test_a_streamed_file_has_the_results_of_memory(made, limits):
    config = replace(SMALL, max_svm=400)
    protocol = Protocol(landmarks=50, prunings=(0.02,), rotations=2, **limits)
    source = OnlyBlocks(made)
    held = probe_with_predictions(made, config=config, protocol=protocol)
    streamed = probe_with_predictions(source, config=replace(config, memory_mb=0), protocol=protocol)
    pd.testing.assert_frame_equal(streamed.frame, held.frame, rtol=1e-4)
    for task, table in held.predictions.items():
        assert len(table.columns) == (12 if task == "age" else 14)
        for column in table.columns[2:]:
            found = streamed.predictions[task][column]
            if task == "age":
                np.testing.assert_allclose(found, table[column], rtol=1e-3, atol=1e-3)
            else:
                assert (found == table[column]).mean() > 0.99, (task, column)


LIMITED = Protocol(subsample=300, max_fit=200, max_val=60, landmarks=50, rotations=2)


@pytest.fixture(scope="module")
def limited(made):
    """The plan of the streamed file under low limits."""
    return make_plan(Workspace(OnlyBlocks(made), memory=0), config=replace(SMALL, max_svm=250), protocol=LIMITED)


def status(outcome):
    return "; ".join(part for part in outcome.remarks if "edge" not in part)


@pytest.mark.parametrize("task", ["left", "right", "age"])
def test_limits_of_large_files_are_told(limited, task):
    plan = limited
    n, val = len(plan.data[task].y["train"]), len(plan.data[task].y["val"])
    on_part = f"fitted to a subsample of 200 of {n} train samples"
    chosen_on_part = f"chosen on 60 of {val} val samples"
    c_on_part = f"C chosen on 300 of {n} train samples"
    expected = {
        "ncm": (n, ""),
        "lda": (n, ""),
        "knn": (n, chosen_on_part),
        "linear": (n, "" if task == "age" else c_on_part),
        "svm_linear": (n, c_on_part),
        "svm_rbf": (n, "Nystroem with 50 landmarks"),
        "tree": (200, on_part),
        "tree_pca": (200, on_part),
        "tree_rotated": (200, on_part),
        "mlp": (200, f"{on_part}; {chosen_on_part}"),
    }
    assert set(expected) == set(PROBES) == set(FITS)
    for name in plan.probes_of(task):
        found = plan.fit(task, name)
        assert (found.n_train, status(found)) == expected[name], name
    unlimited = make_plan(plan.workspace, config=SMALL)
    for name in ("linear", "knn", "svm_rbf", "mlp"):
        found = unlimited.fit(task, name)
        assert (found.n_train, status(found)) == (n, "")


@pytest.mark.parametrize("task", ["left", "right"])
def test_linear_probes_are_fitted_to_all_rows_at_the_chosen_c(limited, made, task):
    plan = limited
    data = plan.data[task]
    scaler = StandardScaler().fit(made.z("train").astype(np.float64))
    x = {split: scaler.transform(made.z(split)[rows].astype(np.float64)) for split, rows in data.rows.items()}
    found = plan.fit(task, "linear")
    model = LogisticRegression(C=found.params["C"], tol=1e-8, max_iter=5000).fit(x["train"], data.y["train"])
    np.testing.assert_allclose(found.log_probabilities, model.predict_log_proba(x["test"]), atol=3e-3)
    found = plan.fit(task, "svm_linear")
    model = LinearSVC(C=found.params["C"], tol=1e-8, dual=False, max_iter=20000).fit(x["train"], data.y["train"])
    assert (found.test == model.predict(x["test"])).mean() > 0.99


@pytest.mark.parametrize("task", ["left", "right", "age"])
def test_streamed_neighbours_vote_as_in_memory(limited, made, task):
    found = limited.fit(task, "knn")
    config = ProbeConfig(probes=("knn",))
    same = Protocol(neighbors=(found.params["k"],), votes=(found.params["vote"],))
    held = make_plan(made, config=config, protocol=same).fit(task, "knn")
    np.testing.assert_array_equal(found.test, held.test)


def test_trees_grow_on_a_stratified_subsample(limited):
    everything = make_plan(limited.workspace, config=SMALL).fit("left", "tree")
    found = limited.fit("left", "tree")
    assert (found.n_train, everything.n_train) == (200, 10 * FEW + 9)
    assert (found.test != everything.test).any()


def test_several_threads_read_one_file(made, tmp_path, monkeypatch):
    splits = {
        split: SplitRows(list(made.ids(split)), {name: made.targets(split, name) for name in made.tasks})
        for split in made.splits
    }
    path = tmp_path / "made.h5"
    with EmbeddingsWriter(path, splits=splits, tasks=list(made.tasks.values()), dim=made.dim) as writer:
        for split in made.splits:
            writer.append(split, made.z(split), start=0)
        writer.finish()
    monkeypatch.setattr("reprkit.analysis.probes.suite._threads", lambda plan: 4)
    config = ProbeConfig(probes=("ncm", "lda", "knn", "linear", "svm_linear", "tree"), bootstrap=10, memory_mb=0)
    with Embeddings(path) as file:
        streamed = probe_with_predictions(file, config=config, label="fake")
    held = probe_with_predictions(made, config=replace(config, memory_mb=1024))
    pd.testing.assert_frame_equal(streamed.frame, held.frame, rtol=1e-4)


def test_passes_over_a_streamed_file_do_not_grow_with_tasks(made):
    """Of what follows from moments: a pass for the scale of features, one for all tasks without gaps, one for each with
    gaps."""
    source = OnlyBlocks(made)
    probe_with_predictions(source, config=ProbeConfig(probes=("ncm", "lda"), bootstrap=10, memory_mb=0))
    assert source.passes == 3
