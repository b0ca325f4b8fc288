"""Files too large for memory, and rows that belong together."""

from __future__ import annotations

import importlib

import numpy as np
import pandas as pd
import pytest

from reprkit.analysis import universality
from reprkit.analysis.workspace import Workspace
from reprkit.errors import InputError
from reprkit.recipe import UniversalityConfig

module = importlib.import_module("reprkit.analysis.universal.score")
study = importlib.import_module("reprkit.analysis.universal.study")
QUICK = UniversalityConfig(num_dummies=16, bootstrap=100, heads=("linear", "mlp"))
CLOSE = ["U_rel", "U_rel_tau", "gap", "gap_low", "gap_high", "L_star", "L_dummy", "H_y", "grad_norm"]


@pytest.fixture(scope="module")
def mixed(toy):
    return toy(classes={"left": 3, "years": 4}, kinds={"years": "regression"}, noise=0.9, sizes=(1200, 400, 300))


def test_streamed_equals_in_memory(mixed) -> None:
    held, streamed = Workspace.of(mixed), Workspace.of(mixed, memory=0)
    assert held.in_memory and not streamed.in_memory  # noqa: PT018
    a, b = universality(held, config=QUICK), universality(streamed, config=QUICK)
    linear = a["head"] == "linear"
    pd.testing.assert_frame_equal(a[linear][CLOSE], b[linear][CLOSE], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(a[linear]["bound"], b[linear]["bound"], rtol=0.02)
    pd.testing.assert_frame_equal(a[~linear][CLOSE], b[~linear][CLOSE], rtol=3e-3, atol=3e-3)
    assert (a["protocol_id"] == b["protocol_id"]).all()


def test_large_streamed_files_choose_on_a_subsample_and_fit_on_all(mixed, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = universality(mixed, config=QUICK)
    for home in (study, module):
        monkeypatch.setattr(home, "SUBSAMPLE", 300)
    fits = []
    polish = study.polish
    monkeypatch.setattr(study, "polish", lambda problem, *a: fits.append(problem.rows.count) or polish(problem, *a))
    found = universality(Workspace.of(mixed, memory=0), config=QUICK)
    assert fits == [1200]
    told = found.set_index(["task", "head"])["status"]
    assert told["left", "linear"] == "ok; C chosen on 300 of 1200 train rows"
    assert told["left", "mlp"] == "ok; C and mlp chosen on 300 of 1200 train rows"
    assert told["years", "linear"] == "ok", "ridge regression needs no more than moments"
    assert told["years", "mlp"] == "ok; mlp chosen on 300 of 1200 train rows"
    linear = found["head"] == "linear"
    np.testing.assert_allclose(found[linear]["L_star"], whole[linear]["L_star"], atol=0.02)
    np.testing.assert_allclose(found[~linear]["L_star"], whole[~linear]["L_star"], atol=0.1)
    np.testing.assert_allclose(found["L_dummy"], whole["L_dummy"], rtol=0.01)
    assert (found["protocol_id"] != whole["protocol_id"]).all()
    assert (found["certificate"] < 1e-5).all()


def test_no_split_is_read_whole(mixed, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args):
        raise AssertionError("a streamed split was read at once")

    monkeypatch.setattr(type(mixed), "z", forbidden)
    sizes = []
    blocks = type(mixed).blocks

    def noted(self, split, rows=4096):
        for block in blocks(self, split, rows):
            sizes.append(len(block))
            yield block

    monkeypatch.setattr(type(mixed), "blocks", noted)
    found = universality(Workspace.of(mixed, memory=0), config=UniversalityConfig(num_dummies=4, bootstrap=20))
    assert set(found["status"]) == {"ok"}
    assert max(sizes) <= 4096
    assert len(sizes) > 20


def repeated(embeddings, times: int):
    """Every test row several times, as pixels of one image; ids are `<image>#<pixel>`."""
    fake = type(embeddings)
    rows = {split: 1 if split != "test" else times for split in embeddings.splits}
    ids = np.array([f"image{i}#{k}" for i in range(embeddings.num_rows("test")) for k in range(times)])
    return fake(
        {s: np.repeat(embeddings.z(s), rows[s], axis=0) for s in embeddings.splits},
        {n: {s: np.repeat(embeddings.targets(s, n), rows[s]) for s in embeddings.splits} for n in embeddings.tasks},
        list(embeddings.tasks.values()),
        ids={"test": ids},
    )


def test_groups_are_resampled_whole(mixed) -> None:
    config = UniversalityConfig(num_dummies=16, bootstrap=100)
    pixels = repeated(mixed, 9)
    plain = universality(mixed, config=config)
    grouped = universality(pixels, config=config, groups="#")
    values = ["U_rel", "gap", "L_star", "L_dummy", "H_y"]
    pd.testing.assert_frame_equal(grouped[values], plain[values], rtol=1e-5)
    # Nine copies of a row know no more than one; whoever takes them for nine rows is too sure by a factor of three.
    ends = ["U_rel_low", "U_rel_high", "gap_low", "gap_high"]
    pd.testing.assert_frame_equal(grouped[ends], plain[ends], rtol=1e-4)

    def widths(frame: pd.DataFrame) -> np.ndarray:
        return (frame["U_rel_high"] - frame["U_rel_low"]).to_numpy()

    many = UniversalityConfig(num_dummies=200, bootstrap=100)  # so that samples make the width, not dummies
    wide = widths(universality(pixels, config=many, groups="#"))
    assert (wide > 1.2 * widths(universality(pixels, config=many))).all()
    labels = [name.split("#")[0] for name in pixels.ids("test")]
    pd.testing.assert_frame_equal(universality(pixels, config=config, groups=labels), grouped)
    configured = universality(pixels, config=UniversalityConfig(num_dummies=16, bootstrap=100, groups="#"))
    pd.testing.assert_frame_equal(configured.drop(columns="protocol_id"), grouped.drop(columns="protocol_id"))


def test_rows_of_a_group_count_once_when_a_dummy_beats_the_optimum(mixed, monkeypatch: pytest.MonkeyPatch) -> None:
    config = UniversalityConfig(num_dummies=4, bootstrap=20)
    pixels = repeated(mixed, 9)
    monkeypatch.setattr("reprkit.analysis.universal.measuring.Lead.largest_z", lambda self: 6.0)
    assert set(universality(pixels, config=config)["status"]) == {"optimiser_failed"}
    assert set(universality(pixels, config=config, groups="#")["status"]) == {"ok"}


def test_groups_that_do_not_fit_are_one_clear_line(mixed) -> None:
    with pytest.raises(InputError, match=r"fake\.h5: id 'test-00000' has no '#'"):
        universality(mixed, config=QUICK, groups="#")
    with pytest.raises(InputError, match=r"fake\.h5: groups of shape \(2,\) for 300 test rows"):
        universality(mixed, config=QUICK, groups=[1, 2])
