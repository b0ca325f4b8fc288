"""Runs in several processes: the same bits as in one, the same errors, and nothing left behind by a signal."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from reprkit.config import grid_points, write_recipe
from reprkit.data import load_dataset
from reprkit.embeddings import fingerprint_file
from reprkit.errors import Failed, InputError
from reprkit.pieces import Piece, pieces, train_piece
from reprkit.recipe import DataConfig, ProbeConfig, Recipe, TrainConfig, TsneConfig, UniversalityConfig
from reprkit.run import run
from reprkit.training import train
from reprkit.workers import num_workers, spread

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ("*.safetensors", "*.h5", "*.csv", "pieces.json")


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> DataConfig:
    """360 images of 12x12 pixels on disk, which any process can load, with two tasks that show in them."""
    folder = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(0)
    kind, side = rng.integers(0, 3, 360), rng.integers(0, 2, 360)
    pixels = rng.integers(0, 60, (360, 12, 12, 3)) + 60 * kind[:, None, None, None]
    pixels[:, :, :6] += 70 * side[:, None, None, None]
    for i, image in enumerate(pixels.astype(np.uint8)):
        Image.fromarray(image).save(folder / f"{i}.png")
    split = np.repeat(["train", "val", "test"], [180, 60, 120])
    names = [f"{i}.png" for i in range(360)]
    pd.DataFrame({"image": names, "kind": kind, "side": side, "split": split}).to_csv(folder / "t.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPRKIT_CACHE", str(folder / "cache"))
        yield DataConfig(name="table", root=str(folder / "t.csv"), image_size=12)


@pytest.fixture(scope="module")
def recipe(table) -> Recipe:
    return Recipe(
        name="parallel",
        methods=("single", "vanilla+dgr"),
        data=table,
        train=TrainConfig(epochs=2, batch_size=16, save_every=1e9),
        probe=ProbeConfig(probes=("knn", "tree"), bootstrap=50),
        universality=UniversalityConfig(num_dummies=8, bootstrap=50),
        tsne=TsneConfig(samples=100, perplexity=10, iterations=50),
    )


@pytest.fixture
def one_thread(monkeypatch):
    """Bits depend on the number of threads."""
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def dataset(table):
    return load_dataset(table)


def hashes(folder: Path) -> dict[str, str]:
    files = {file.relative_to(folder).as_posix(): file for p in RESULTS for file in folder.rglob(p)}
    files.pop("tables/cost_table.csv", None)  # times
    assert len(files) > 20
    return {name: fingerprint_file(file) for name, file in files.items()}


def some_pieces(recipe: Recipe, folder: Path, count: int) -> list[Piece]:
    point = grid_points(replace(recipe, grid={}), "vanilla")[0]
    return [Piece("vanilla", seed, "", point, folder / str(seed)) for seed in range(count)]


@pytest.fixture(scope="module")
def wanted(tmp_path_factory, recipe) -> dict[str, str]:
    """What one process leaves."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("one")
    run(recipe, out, jobs=1)
    torch.set_num_threads(before)
    return hashes(out)


def test_two_processes_leave_the_bits_of_one(tmp_path, recipe, one_thread, wanted, monkeypatch):
    jobs = []

    def spy(*arguments, **options):
        jobs.append(options["jobs"])
        spread(*arguments, **options)

    monkeypatch.setattr("reprkit.run.spread", spy)
    assert run(recipe, tmp_path, jobs=2) == tmp_path / "report.html"
    assert hashes(tmp_path) == wanted
    assert jobs == [2, 2]  # to train and to measure


def has_worked() -> bool:
    return bool(sys.modules["reprkit.workers"]._loaded)


@pytest.mark.slow
def test_dask_workers_leave_the_bits_of_one_process(tmp_path, recipe, one_thread, wanted):
    distributed = pytest.importorskip("dask.distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        with joblib.parallel_config(backend="dask"):
            assert run(recipe, tmp_path) == tmp_path / "report.html"
        assert list(client.run(has_worked).values()) == [True, True]
    assert hashes(tmp_path) == wanted


def test_number_of_processes():
    assert num_workers(None) == 1
    assert num_workers(3) == 3
    with joblib.parallel_config(backend="loky", n_jobs=5):
        assert num_workers(None) == 5
        assert num_workers(2) == 2
    with pytest.raises(InputError, match="--jobs: 0"):
        num_workers(0)


@pytest.mark.parametrize("jobs", [2, 4])
def test_workers_share_the_cores_and_the_pieces(tmp_path, recipe, dataset, monkeypatch, jobs):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def work(piece, data, progress):
        import torch

        from reprkit.analysis.linalg import num_workers

        assert not progress
        piece.folder.mkdir()
        seen = {"torch": torch.get_num_threads(), "numpy": num_workers(), "pid": os.getpid(), "rows": len(data)}
        (piece.folder / "seen.json").write_text(json.dumps(seen))
        time.sleep(0.5)

    done = []
    todo = some_pieces(recipe, tmp_path, 6)
    spread(work, todo, dataset, recipe.data, jobs=jobs, advance=lambda: done.append(1))
    seen = [json.loads((piece.folder / "seen.json").read_text()) for piece in todo]
    share = max(1, joblib.cpu_count() // jobs)
    assert len(done) == 6
    assert {(s["torch"], s["numpy"], s["rows"]) for s in seen} == {(share, share, 360)}
    assert len({s["pid"] for s in seen} - {os.getpid()}) > 1


def test_a_relative_folder_is_the_callers(tmp_path, recipe, dataset, monkeypatch):
    def work(piece, data, progress):
        piece.folder.mkdir(parents=True)

    for name in ("a", "b"):  # the second time in workers that are at home in the first
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        spread(work, some_pieces(recipe, Path("here"), 2), dataset, recipe.data, jobs=2, advance=int)
        assert {p.name for p in (tmp_path / name / "here").iterdir()} == {"0", "1"}


def test_threads_of_one_process_take_turns(tmp_path, recipe, dataset):
    """Workers of dask may have several threads; torch's random state has one owner."""
    now: list[int] = []
    seen = []

    def work(piece, data, progress):
        now.append(piece.seed)
        time.sleep(0.05)
        seen.append(list(now))
        now.remove(piece.seed)

    with joblib.parallel_config(backend="threading", n_jobs=3):
        spread(work, some_pieces(recipe, tmp_path, 6), dataset, recipe.data, jobs=None, advance=int)
    assert sorted(seen) == [[0], [1], [2], [3], [4], [5]]


@pytest.mark.parametrize("kind", [InputError, Failed, OSError])
def test_errors_of_a_worker_are_those_of_the_run(tmp_path, recipe, dataset, kind):
    def work(piece, data, progress):
        raise kind("train.lr: too brave")

    with pytest.raises(kind, match=r"^train\.lr: too brave$"):
        spread(work, some_pieces(recipe, tmp_path, 3), dataset, recipe.data, jobs=2, advance=int)


def test_a_worker_that_is_killed(tmp_path, recipe, dataset):
    def work(piece, data, progress):
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(Failed, match="fewer --jobs"):
        spread(work, some_pieces(recipe, tmp_path, 3), dataset, recipe.data, jobs=2, advance=int)


def test_a_signal_between_pieces_breaks_nothing(tmp_path, recipe, dataset):
    """A worker without work that dies of Ctrl-C would take those with it that are about to save."""

    def work(piece, data, progress):
        idle, busy = tmp_path / "idle", tmp_path / "busy"
        if piece.seed == 0:
            idle.write_text(str(os.getpid()))
            while not busy.is_file():  # else one worker could do both pieces
                time.sleep(0.05)
            return
        busy.touch()
        while not idle.is_file() or not idle.read_text():
            time.sleep(0.05)
        time.sleep(1)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(int(idle.read_text()), number)
        time.sleep(1)

    done = []
    spread(work, some_pieces(recipe, tmp_path, 2), dataset, recipe.data, jobs=2, advance=lambda: done.append(1))
    assert len(done) == 2


def test_a_worker_that_finds_other_data(tmp_path, recipe, dataset):
    other = replace(dataset, fingerprint="0" * 64)
    with pytest.raises(InputError, match="other data"):
        spread(print, some_pieces(recipe, tmp_path, 2), other, recipe.data, jobs=2, advance=int)


def test_warnings_of_workers_are_logged_here(tmp_path, recipe, dataset, caplog):
    def work(piece, data, progress):
        logging.getLogger("reprkit.pieces").info("too much to say")
        logging.getLogger("reprkit.pieces").warning("seed %d is odd", piece.seed)

    spread(work, some_pieces(recipe, tmp_path, 2), dataset, recipe.data, jobs=2, advance=int)
    assert sorted(record.getMessage() for record in caplog.records) == ["seed 0 is odd", "seed 1 is odd"]


def test_a_training_that_diverges_is_recorded_and_does_not_stop_the_rest(tmp_path, recipe, dataset, caplog):
    settings = TrainConfig(epochs=1, batch_size=16, optimizer="sgd")
    wild = replace(recipe, methods=("vanilla",), grid={"train.lr": [1e25, 1e-3]}, train=settings)
    lost, sound = todo = list(pieces(wild, tmp_path, ["kind", "side"]))
    spread(train_piece, todo, dataset, recipe.data, jobs=2, advance=int)
    assert sound.is_trained
    assert "NaN" in lost.failure
    assert [record.getMessage() for record in caplog.records] == [lost.failure]


def start(recipe: Recipe, folder: Path, *more: str) -> subprocess.Popen:
    write_recipe(recipe, folder / "recipe.yaml")
    words = [sys.executable, "-m", "reprkit", "run", "recipe.yaml", "--out", "out", *more]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, cwd=folder, env=env, **pipes)


def alive(group: int) -> int:
    """Processes of a session that are still there, but for joblib's janitor, which ends by itself."""
    count = 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            session = int((entry / "stat").read_text().rpartition(")")[2].split()[3])
            count += session == group and "resource_tracker" not in (entry / "cmdline").read_text()
        except OSError:
            continue
    return count


def wait_for(condition, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return bool(condition())


def test_wrong_use_of_a_folder_is_one_line(tmp_path, recipe):
    short = replace(recipe, methods=("vanilla",), seeds=(0, 1), train=TrainConfig(epochs=1, batch_size=16))
    train(short, tmp_path / "out/runs/vanilla/seed0", progress=False)
    process = start(replace(short, train=replace(short.train, lr=0.5)), tmp_path, "--jobs", "2")
    text = process.communicate(timeout=120)[1]
    assert process.returncode == 2, text
    lines = [line for line in text.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    assert "train.lr" in lines[0]
    assert "Traceback" not in text


@pytest.fixture(scope="module")
def long(table) -> Recipe:
    """Trains for seconds, in many steps."""
    settings = TrainConfig(epochs=30, batch_size=4, save_every=1e9)
    return Recipe("long", methods=("vanilla",), seeds=(0, 1, 2), data=table, train=settings)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, long) -> Path:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = train(long, tmp_path_factory.mktemp("whole") / "run", method="vanilla", seed=0, progress=False)
    torch.set_num_threads(before)
    return folder


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize(
    "how", ["all", pytest.param("parent", marks=pytest.mark.slow), pytest.param("kill", marks=pytest.mark.slow)]
)
def test_a_signal_stops_every_process_and_the_same_command_continues(tmp_path, long, uninterrupted, one_thread, how):
    """SIGTERM to the parent alone, SIGINT to all (what a terminal's Ctrl-C sends), SIGKILL to the parent."""
    idle = how == "all"  # with workers that have nothing to do, or with a piece that waits for a worker
    process = start(replace(long, seeds=(0, 1)) if idle else long, tmp_path, "--jobs", "4" if idle else "2")
    folders = [tmp_path / f"out/runs/vanilla/seed{seed}" for seed in long.seeds]
    states = [folder / "state.pt" for folder in folders[:2]]
    try:
        assert wait_for(lambda: all(state.is_file() for state in states), 60)
        if how == "all":
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGTERM if how == "parent" else signal.SIGKILL)
        text = process.communicate(timeout=30)[1]
        assert wait_for(lambda: alive(process.pid) == 0, 15), "workers outlive the run"
    finally:
        if alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
    assert not any((folder / "training.json").exists() for folder in folders)
    assert not folders[2].exists(), "nothing new is begun"
    if how != "kill":
        assert process.returncode == 130, text
        said = [line for line in text.splitlines() if "continues" in line or "Traceback" in line]
        assert said == ["stopped; the same command continues"]
    assert any(torch.load(state, weights_only=True)["progress"]["step"] for state in states), "saved when told to"
    done = train(long, folders[0], method="vanilla", seed=0, progress=False)
    assert fingerprint_file(done / "last.safetensors") == fingerprint_file(uninterrupted / "last.safetensors")
