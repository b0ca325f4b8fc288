"""The real UTKFace, where $REPRKIT_UTKFACE names a copy with its manifest."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from reprkit.data import load_dataset
from reprkit.recipe import DataConfig

ROOT = Path(os.environ.get("REPRKIT_UTKFACE") or "no-copy-of-utkface")
pytestmark = pytest.mark.skipif(not (ROOT / "manifest.csv").is_file(), reason="no copy of UTKFace with its manifest")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def subset(cache: Path):
    return load_dataset(DataConfig(name="utkface", root=str(ROOT), subset="sub6000", image_size=32), cache)


def test_the_subset(subset) -> None:
    assert len(subset) == 6000
    assert subset.skipped == ()
    shares = np.bincount(subset.split) / 6000
    assert np.allclose(shares, [0.7, 0.1, 0.2], atol=0.01)
    for task in subset.tasks:
        for split in ("train", "val", "test"):
            counts = np.bincount(subset.targets[task.name][subset.rows(split)], minlength=task.num_outputs)
            assert counts.min() >= 30
    assert np.abs(subset.images.mean((0, 2, 3)) - [152, 116, 100]).max() < 10  # faces, in the order R, G, B


@pytest.mark.slow
def test_the_whole_set(subset, cache: Path) -> None:
    config = DataConfig(name="utkface", root=str(ROOT), image_size=32, tasks=("age", "age_years"))
    whole = load_dataset(config, cache)
    reasons = [reason for _, reason in whole.skipped]
    assert reasons.count("a field is missing from the name") == 3
    assert reasons.count("duplicates of this face disagree on a label") == 821
    assert len(whole) == 21659 - 3 - 821
    assert sum("odd names" in note and note.startswith("5 ") for note in whole.notes) == 1
    years = whole.targets["age_years"]
    assert np.array_equal(np.minimum(years // 10, 6).astype(int), whole.targets["age"])
    side = dict(zip(whole.ids.tolist(), whole.split.tolist(), strict=True))
    assert all(side[n] == s for n, s in zip(subset.ids.tolist(), subset.split.tolist(), strict=True))
