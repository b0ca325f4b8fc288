"""Probes in several processes: the tables of one, whoever does what."""

from __future__ import annotations

import os
import signal

import joblib
import numpy as np
import pandas as pd
import pytest

from reprkit.analysis.probes import Protocol, probe_many, probe_with_predictions, spread
from reprkit.embeddings import Embeddings
from reprkit.errors import Failed, InputError
from reprkit.recipe import ProbeConfig

CONFIG = ProbeConfig(probes=("ncm", "knn", "linear", "svm_rbf", "tree_rotated"), bootstrap=20)
PROTOCOL = Protocol(rotations=2, prunings=(0.02,))


def write(path, seed, *, tasks=("left", "right")):
    rng = np.random.default_rng(seed)
    sizes = {"train": 120, "val": 40, "test": 60}
    y = {task: rng.integers(3, size=220) for task in tasks}
    z = rng.normal(size=(220, 8)) + sum(rng.normal(size=(3, 8))[values] for values in y.values())
    ids = np.array([f"{i:04d}" for i in range(220)])
    split = np.repeat(list(sizes), list(sizes.values()))
    arrays = {f"y_{task}": values for task, values in y.items()}
    np.savez(path, z=z.astype(np.float32), ids=ids, split=split, **arrays)
    return path


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spread")
    return [write(folder / "a.npz", 0), write(folder / "b.npz", 1), write(folder / "c.npz", 2, tasks=("left",))]


@pytest.fixture(scope="module")
def expected(paths):
    found = []
    for path in paths:
        with Embeddings(path) as file:
            found.append(probe_with_predictions(file, config=CONFIG, protocol=PROTOCOL))
    return found


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        pd.testing.assert_frame_equal(one.frame, other.frame, check_exact=True)
        assert list(one.predictions) == list(other.predictions)
        for task, table in one.predictions.items():
            pd.testing.assert_frame_equal(table, other.predictions[task], check_exact=True)


@pytest.mark.parametrize("jobs", [1, 2])
def test_two_processes_find_what_one_finds(paths, expected, jobs):
    assert_same(probe_many(paths, config=CONFIG, protocol=PROTOCOL, jobs=jobs, progress=False), expected)


def test_the_open_backend_of_joblib_is_used(paths, expected, monkeypatch):
    """Threads take turns: the limit on BLAS threads belongs to the process."""
    done, do = [], spread._do
    monkeypatch.setattr(spread, "_do", lambda *call: done.append(call[0]) or do(*call))
    with joblib.parallel_config(backend="threading", n_jobs=3):
        found = probe_many(paths, config=CONFIG, protocol=PROTOCOL, progress=False)
    assert_same(found, expected)
    assert sorted(done) == [0] * 10 + [1] * 10 + [2] * 5


@pytest.mark.slow
def test_workers_of_a_cluster_find_it_too(paths, expected):
    distributed = pytest.importorskip("dask.distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        with joblib.parallel_config(backend="dask"):
            found = probe_many(paths, config=CONFIG, protocol=PROTOCOL, progress=False)
        assert sorted(client.run(lambda: bool(spread._kept)).values()) == [True, True]
    assert_same(found, expected)


def test_files_keep_their_own_tasks_and_labels(paths):
    config = ProbeConfig(probes=("ncm",), bootstrap=10)
    found = probe_many(paths, tasks=["right", "left"], config=config, labels=["x", "y", "z"], jobs=2, progress=False)
    assert [list(one.predictions) for one in found] == [["right", "left"], ["right", "left"], ["left"]]
    assert [set(one.frame["encoder"]) for one in found] == [{"x"}, {"y"}, {"z"}]
    with pytest.raises(InputError, match="has no task 'mood'"):
        probe_many(paths, tasks=["left", "mood"], jobs=2)


def test_a_relative_path_is_the_callers(paths, expected, monkeypatch):
    monkeypatch.chdir(paths[0].parent)
    assert_same(probe_many(["a.npz"], config=CONFIG, protocol=PROTOCOL, jobs=2, progress=False), expected[:1])


def test_a_worker_that_finds_another_file(paths, tmp_path):
    path = write(tmp_path / "a.npz", 0)
    mark = spread._mark(Embeddings(path), spread.make_plan(Embeddings(path)))
    spread._kept.clear()
    assert spread._plan(str(path), mark, {}).jobs
    write(path, 7)
    spread._kept.clear()
    with pytest.raises(InputError, match=r"a\.npz: a worker found another file"):
        spread._plan(str(path), mark, {})


def test_a_worker_that_is_killed(paths, monkeypatch):
    monkeypatch.setattr(spread, "_do", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(Failed, match="fewer jobs"):
        probe_many(paths, config=CONFIG, jobs=2, progress=False)


def test_an_error_of_a_worker_is_that_of_the_caller(paths, monkeypatch):
    def fail(*_):
        raise InputError("a.npz: no such thing")

    monkeypatch.setattr(spread, "_do", fail)
    with pytest.raises(InputError, match=r"^a\.npz: no such thing$"):
        probe_many(paths, config=CONFIG, jobs=2, progress=False)
