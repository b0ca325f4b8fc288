"""Two processes started by torchrun against one process with the doubled batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from reprkit.embeddings import fingerprint_file
from reprkit.training.ranks import Ranks

ROOT = Path(__file__).resolve().parents[2]
WORKERS = ROOT / "tests" / "rank_workers.py"


def torchrun(*arguments, cwd, ranks=2):
    """Run a script or `-m module` in `ranks` processes, or in this one's child alone."""
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)] if ranks > 1 else []
    return subprocess.run(
        [sys.executable, *start, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=500,
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
    )


def test_two_ranks_make_the_update_of_one_process(tmp_path):
    """Every method and level, DGR in all its forms, SAM and PTA: parameters after two updates, in float64."""
    out = tmp_path / "differences.json"
    done = torchrun(WORKERS, "updates", out, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = json.loads(out.read_text())
    assert len(ranks) == 2
    assert len(ranks[0]) > 60
    for differences in ranks:
        worst = max(differences, key=differences.get)
        assert differences[worst] < 1e-12, worst


def test_training_on_two_ranks_equals_training_on_one(tmp_path):
    """The whole trainer in float32, with augmentation, on an encoder without BatchNorm; interrupted, the same bits."""
    for ranks in (1, 2):
        done = torchrun(WORKERS, "training", tmp_path / str(ranks), ranks, cwd=tmp_path, ranks=ranks)
        assert done.returncode == 0, done.stderr[-3000:]
        cut, whole = (tmp_path / str(ranks) / name for name in ("cut", "vanilla+dgr+sam+pta"))
        assert (cut / "training.json").exists()
        assert fingerprint_file(cut / "last.safetensors") == fingerprint_file(whole / "last.safetensors")
    methods = sorted(path.name for path in (tmp_path / "1").iterdir() if path.name != "cut")
    assert len(methods) == 3
    for method in methods:
        one, two = (tmp_path / n / method for n in ("1", "2"))
        a, b = (load_file(folder / "last.safetensors") for folder in (one, two))
        for name, value in a.items():
            torch.testing.assert_close(b[name], value, rtol=1e-5, atol=1e-6)
        logs = [[json.loads(line) for line in (f / "metrics.jsonl").read_text().splitlines()] for f in (one, two)]
        for x, y in zip(*logs, strict=True):
            assert y["loss"] == pytest.approx(x["loss"], rel=1e-5)
        assert json.loads((two / "cost.json").read_text())["processes"] == 2


def test_torchrun_trains_and_embeds_from_the_command_line(tmp_path):
    """With BatchNorm: one set of files, and embeddings that are the bytes of a single process."""
    options = ["--train.epochs", "1", "--train.batch_size", "256"]
    train = ["-m", "reprkit", "train", "--method", "pcgrad+dgr", *options, "--out", tmp_path / "run"]
    done = torchrun(*train, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("run folder:") == 1
    assert done.stdout.count("test sum:") == 1
    identity = json.loads((tmp_path / "run" / "identity.json").read_text())
    assert identity["processes"] == 2
    for ranks in (1, 2):
        out = tmp_path / f"{ranks}.h5"
        done = torchrun("-m", "reprkit", "embed", tmp_path / "run", "--out", out, cwd=tmp_path, ranks=ranks)
        assert done.returncode == 0, done.stderr[-3000:]
    assert fingerprint_file(tmp_path / "1.h5") == fingerprint_file(tmp_path / "2.h5")
    alone = torchrun(*train, cwd=tmp_path, ranks=1)
    assert alone.returncode == 2
    assert "processes" in alone.stderr


def test_one_rank_touches_nothing():
    ranks, x = Ranks(), torch.arange(3.0)
    ranks.average([x])
    assert ranks.mean_through(x) is x
    assert ranks.total(x) is x
    assert ranks.gather("a") == ["a"]
    assert ranks.from_first("a") == "a"
    assert ranks.slice(6) == slice(0, 6)
