"""Fixtures shared by all tests: a small data set, a trained encoder, and a way to run commands."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reprkit.data import load_dataset
from reprkit.recipe import DataConfig, ProbeConfig, Recipe, TrainConfig, TsneConfig, UniversalityConfig

ROOT = Path(__file__).resolve().parents[1]

TINY = Recipe(
    name="tiny",
    methods=("vanilla",),
    train=TrainConfig(epochs=2, save_every=1e9),
    probe=ProbeConfig(probes=("knn", "tree"), bootstrap=50, few_shot_draws=2),
    universality=UniversalityConfig(num_dummies=8, bootstrap=50),
    tsne=TsneConfig(samples=100, perplexity=10, iterations=50),
)


@pytest.fixture(scope="session")
def small_digits():
    """The digits data set cut to 512 train, 128 val and 128 test images."""
    full = load_dataset(DataConfig())
    rows = np.concatenate([full.rows(split)[:n] for split, n in {"train": 512, "val": 128, "test": 128}.items()])
    return replace(
        full,
        images=full.images[rows],
        targets={name: values[rows] for name, values in full.targets.items()},
        ids=full.ids[rows],
        split=full.split[rows],
    )


@pytest.fixture(scope="session")
def trained(tmp_path_factory, small_digits):
    """The folder of a Vanilla encoder trained for two epochs on `small_digits`; do not write into it."""
    from reprkit.training import train

    return train(TINY, tmp_path_factory.mktemp("trained") / "run", dataset=small_digits)


@pytest.fixture
def tiny():
    """A recipe that trains and measures in seconds."""
    return TINY


@pytest.fixture
def command(tmp_path):
    """Run `python -m ...` in an empty folder and return the finished process, with text output."""

    def run(*arguments, timeout=300, check=None):
        result = subprocess.run(
            [sys.executable, "-m", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=timeout,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        if check is not None:
            assert result.returncode == check, result.stderr
        return result

    return run
