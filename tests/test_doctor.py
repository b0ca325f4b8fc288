"""`reprkit doctor` names each thing that is wrong, with the line that mends it; each is made wrong here."""

import os
import shutil
import sys
import time
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch

from reprkit import doctor, environment
from reprkit.cli import main

pytestmark = pytest.mark.usefixtures("healthy")


@pytest.fixture
def healthy(tmp_path, monkeypatch):
    """A machine on which nothing is wrong, whatever this one is like."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPRKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(doctor, "usable_cores", lambda: 10_000)
    monkeypatch.setattr(doctor, "free_memory", lambda: 64 << 30)
    monkeypatch.setattr(doctor, "has_nvidia_device", lambda: False)


def findings(check, *paths):
    return list(check(paths))


def only(check, *paths):
    (finding,) = findings(check, *paths)
    assert "\n" not in finding.problem + finding.mend
    return finding


def test_all_is_well(capsys):
    assert main(["doctor"]) == 0
    captured = capsys.readouterr()
    assert "all is well" in captured.out
    assert "WRONG" not in captured.out
    assert not captured.err


def test_what_is_broken_makes_exit_code_1_and_notes_do_not(capsys, monkeypatch):
    notes, broken = doctor.Finding("p", "m", broken=False), doctor.Finding("bad", "do this")
    monkeypatch.setattr(doctor, "CHECKS", (lambda paths: iter([notes]),))
    assert main(["doctor"]) == 0
    assert "note: p\n  mend: m" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "CHECKS", (lambda paths: iter([notes, broken]),))
    assert main(["doctor"]) == 1
    captured = capsys.readouterr()
    assert captured.out.index("WRONG: bad\n  mend: do this") < captured.out.index("note: p")
    assert captured.err == "error: 1 thing to mend, named above\n"


def test_missing_packages(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "versions", lambda: {"torch": "2.11", "torchvision": "0.26", "seaborn": None})
    assert only(doctor.packages).mend == "pip install seaborn"
    monkeypatch.setattr(doctor, "CHECKS", (lambda paths: pytest.fail("needs the packages"),))
    assert main(["doctor"]) == 1
    assert "pip install seaborn" in capsys.readouterr().out


def test_torchvision_of_another_torch(monkeypatch):
    import torchvision

    def fail(*_):
        raise RuntimeError("operator torchvision::nms\ndoes not exist")

    monkeypatch.setattr(torchvision.ops, "nms", fail)
    finding = only(doctor.packages)
    assert "do not fit together (operator torchvision::nms does not exist)" in finding.problem
    assert finding.mend == "pip install --force-reinstall torch torchvision"


def test_a_package_that_does_not_import(monkeypatch):
    monkeypatch.setitem(sys.modules, "openTSNE", None)
    assert only(doctor.packages).mend == "pip install --force-reinstall openTSNE"


def test_missing_extras(monkeypatch):
    monkeypatch.setattr(doctor, "EXTRAS", {"parquet": "no_such_module", "other": "json"})
    finding = only(doctor.extras)
    assert finding.mend == 'pip install "reprkit[parquet]"'
    assert not finding.broken


def test_more_threads_than_cores(monkeypatch):
    import threadpoolctl

    assert findings(doctor.threads) == []
    monkeypatch.setattr(doctor, "usable_cores", lambda: 2)
    monkeypatch.setattr(threadpoolctl, "threadpool_info", lambda: [{"num_threads": 1}, {"num_threads": 64}])
    finding = only(doctor.threads)
    assert finding.problem == "64 threads for numerical libraries on 2 usable cores"
    assert finding.mend.startswith("export OMP_NUM_THREADS=2 ")


@pytest.mark.parametrize(
    ("device", "build", "works", "words", "broken"),
    [
        (True, "13.0", True, "", None),
        (False, None, False, "", None),
        (True, None, False, "built for CPUs", True),
        (True, "13.0", False, "no driver that it can use", True),
        (False, "13.0", False, "computes on the CPU", False),
    ],
)
def test_gpus(monkeypatch, device, build, works, words, broken):
    monkeypatch.setattr(doctor, "has_nvidia_device", lambda: device)
    monkeypatch.setattr(torch.version, "cuda", build)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: works)
    if not words:
        assert findings(doctor.gpu) == []
        return
    finding = only(doctor.gpu)
    assert words in finding.problem
    assert finding.broken == broken


def test_folders_that_cannot_be_written_to(monkeypatch, tmp_path):
    assert findings(doctor.folders) == []
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: "cache" not in str(path) and tmp_path != path)
    (tmp_path / "runs").mkdir()
    finding = only(doctor.folders)
    assert finding.problem == f"{tmp_path / 'cache'} cannot be written to"
    assert "REPRKIT_CACHE" in finding.mend
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REPRKIT_CACHE", str(tmp_path / "file" / "below"))
    assert "cannot be written to" in only(doctor.folders).problem


def test_a_full_disk(monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9 << 30, 8 << 30, 100 << 20))
    found = findings(doctor.folders)
    assert [finding.problem.split(": ")[1] for finding in found] == ["100 MiB free, less than 1024"] * 2


def test_a_folder_without_locks(monkeypatch, tmp_path):
    import h5py

    def fail(*_):
        raise BlockingIOError("unable to lock file, errno = 11")

    assert doctor.cannot_lock(tmp_path) == ""
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(h5py, "File", fail)
    (first, _) = findings(doctor.folders)
    assert "unable to lock file" in first.problem
    assert first.mend == "export HDF5_USE_FILE_LOCKING=FALSE"
    assert list(tmp_path.iterdir()) == []


def test_little_memory(monkeypatch):
    monkeypatch.setattr(doctor, "free_memory", lambda: 300 << 20)
    assert only(doctor.memory).problem == "300 MiB of memory available, less than 2048"
    monkeypatch.setattr(doctor, "free_memory", lambda: None)
    assert findings(doctor.memory) == []


def test_data_that_has_moved_and_recipes_that_are_wrong(tmp_path, capsys):
    run = tmp_path / "run" / "runs" / "vanilla" / "seed0"
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text("data: {name: utkface, root: /nowhere/faces}")
    finding = only(doctor.data_roots, tmp_path / "run")
    assert "there is no /nowhere/faces" in finding.problem
    assert "--data FOLDER" in finding.mend
    (tmp_path / "good.yaml").write_text(f"data: {{name: utkface, root: {tmp_path}}}")
    assert findings(doctor.data_roots, tmp_path / "good.yaml") == []
    (tmp_path / "bad.yaml").write_text("train: {epochs: 0}")
    assert "train.epochs" in only(doctor.data_roots, tmp_path / "bad.yaml").problem
    assert main(["doctor", str(tmp_path / "bad.yaml")]) == 1
    assert "bad.yaml" in capsys.readouterr().out
    assert main(["doctor", str(tmp_path / "none")]) == 2


def test_plug_ins_that_fail(tmp_path, monkeypatch, capsys):
    info = tmp_path / "site" / "broken-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(
        "[reprkit.encoders]\nmine = no_such_module:x\nconvnet = json:loads\nfine = json:loads\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    taken, absent = findings(doctor.plug_ins)
    assert "'convnet' of broken 0.1 (json:loads) has a name that is taken" in taken.problem
    assert "'mine' of broken 0.1" in absent.problem
    assert "No module named 'no_such_module'" in absent.problem
    assert absent.mend == "mend or update that package, or: pip uninstall broken"
    assert main(["doctor"]) == 1
    assert "fine (broken 0.1)" in capsys.readouterr().out


def test_half_written_files_are_removed_on_request_only(tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    old, new, resumable = run / ".report.html.node-1.tmp", run / ".new.node-2.tmp", run / "embeddings.h5.partial"
    for file in (old, new, resumable, run / "kept.tmp"):
        file.write_text("half")
    for file in (old, resumable, run / "kept.tmp"):
        os.utime(file, (time.time() - 2 * doctor.DAY,) * 2)
    assert main(["doctor", str(run)]) == 0  # a note
    text = capsys.readouterr().out
    assert f"reprkit doctor --mend {run}" in text
    assert str(old) in text
    assert old.exists()
    assert main(["doctor", "--mend", str(run)]) == 0
    assert f"removed {old}" in capsys.readouterr().out
    assert sorted(file.name for file in run.iterdir()) == [".new.node-2.tmp", "embeddings.h5.partial", "kept.tmp"]


def test_limits_of_a_container(monkeypatch):
    monkeypatch.undo()
    files = {"/sys/fs/cgroup/cpu.max": "150000 100000", "/sys/fs/cgroup/memory.max": str(5 << 20),
             "/sys/fs/cgroup/memory.current": str(2 << 20), "/proc/meminfo": "MemAvailable: 8192 kB"}  # fmt: skip
    reader = lambda path: SimpleNamespace(read_text=lambda: files[str(path)])  # noqa: E731
    monkeypatch.setattr(doctor, "Path", reader)
    monkeypatch.setattr(environment, "Path", reader)
    assert environment.usable_cores() == 1
    assert doctor.free_memory() == 3 << 20
    files |= {"/sys/fs/cgroup/cpu.max": "max 100000", "/sys/fs/cgroup/memory.max": "max"}
    assert environment.usable_cores() == len(os.sched_getaffinity(0))
    assert doctor.free_memory() == 8 << 20
