"""The embedded default: right labels, no leak, the same bytes everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from reprkit.data import digits as module
from reprkit.data import load_dataset
from reprkit.recipe import DataConfig


@pytest.fixture(scope="module")
def data():
    return load_dataset(DataConfig())


def test_shape_and_counts(data) -> None:
    assert data.images.shape == (10500, 1, 12, 12)
    assert data.images.dtype == np.uint8
    assert [len(data.rows(s)) for s in ("train", "val", "test")] == [6000, 1500, 3000]
    assert [(t.name, t.kind, t.num_outputs) for t in data.tasks] == [
        ("left", "classification", 10),
        ("right", "classification", 10),
        ("sum", "ordinal", 19),
    ]


def test_the_sum_is_the_sum_and_every_class_is_there(data) -> None:
    assert np.array_equal(data.targets["sum"], data.targets["left"] + data.targets["right"])
    for split in ("train", "val", "test"):
        rows = data.rows(split)
        for side in ("left", "right"):
            assert np.bincount(data.targets[side][rows], minlength=10).min() > 0.05 * len(rows)


def test_the_bytes_are_frozen(data) -> None:
    """A change here invalidates every published number on this data set."""
    assert data.fingerprint == FINGERPRINT
    assert (data.mean, data.std) == ((0.2141,), (0.2923,))


def test_source_digits_never_cross_splits() -> None:
    labels = load_digits().target
    parts = module.split_source(labels)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    for part, share in zip(parts, (0.6, 0.2, 0.2), strict=True):
        for label in range(10):
            assert abs((labels[part] == label).sum() - share * (labels == label).sum()) < 2


def test_a_canvas_shows_the_two_drawings_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without jitter and noise, the corners that do not overlap are the source pixels."""
    monkeypatch.setattr(module, "SHIFT", 0)
    monkeypatch.setattr(module, "CONTRAST", 1.0)
    monkeypatch.setattr(module, "NOISE", 0.0)
    drawings = load_digits().images / 16
    pool = np.array([3, 77, 500, 1200])
    canvases, pairs = module.compose(drawings, pool, 50, np.random.RandomState(0))
    assert set(pairs.ravel().tolist()) == set(pool.tolist())
    for canvas, (left, right) in zip(canvases, pairs, strict=True):
        assert np.array_equal(canvas[:4, :4], np.rint(drawings[left][:4, :4] * 255))
        assert np.array_equal(canvas[-4:, -4:], np.rint(drawings[right][-4:, -4:] * 255))
        assert np.array_equal(
            canvas[4:8, 4:8], np.rint(np.maximum(drawings[left][4:, 4:], drawings[right][:4, :4]) * 255)
        )


def test_a_linear_reader_is_neither_blind_nor_done(data) -> None:
    """Pixels alone leave room for an encoder, and the labels belong to the pictures."""
    from sklearn.linear_model import RidgeClassifier

    train, test = data.rows("train"), data.rows("test")
    flat = data.images.reshape(len(data), -1) / 255.0
    score = (
        RidgeClassifier().fit(flat[train], data.targets["left"][train]).score(flat[test], data.targets["left"][test])
    )
    assert 0.5 < score < 0.85


FINGERPRINT = "c9acb652e48492182b246d31202e8da47baf67d7568dfddd0a749cf51ae54135"
