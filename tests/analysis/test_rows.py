from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprkit.analysis.rows import Rows, stratified_rows


@pytest.mark.parametrize("size", [1, 7, 10, 100])
def test_blocks_cover_all_rows_in_order(size):
    z = np.random.default_rng(0).normal(size=(23, 3)).astype(np.float32)
    held = Rows.of(z)
    streamed = Rows(23, 3, stream=lambda rows: (z[i : i + rows] for i in range(0, 23, rows)))
    assert held.array is z
    for rows in (held, streamed, held):
        parts = list(rows.blocks(size))
        np.testing.assert_array_equal(np.concatenate([block for _, block in parts]), z)
        np.testing.assert_array_equal(np.concatenate([np.arange(23)[where] for where, _ in parts]), np.arange(23))
        assert max(len(block) for _, block in parts) <= size


def test_rows_are_float32():
    rows = Rows.of(np.ones((4, 2)))
    assert rows.array.dtype == np.float32
    assert (rows.count, rows.dim) == (4, 2)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(12, 80), st.integers(0, 30), st.integers(0, 9)
)
def test_shares_are_kept_and_no_class_is_lost(counts, limit, missing, seed):
    targets = np.concatenate([np.repeat(np.arange(len(counts)), counts), np.full(missing, -1)])
    targets = np.random.default_rng(0).permutation(targets)
    rows = stratified_rows(targets, limit, seed=seed)
    total = sum(counts)
    assert (np.diff(rows) > 0).all()
    assert (targets[rows] >= 0).all()
    assert len(rows) == min(limit, total)
    found = np.bincount(targets[rows], minlength=len(counts))
    assert ((found > 0) == (np.array(counts) > 0)).all()
    rare = sum(1 for n in counts if 0 < n * limit < total)  # these take a row each that is more than their share
    for n, kept in zip(counts, found, strict=True):
        share = n * min(1, limit / max(total, 1))
        assert share - 1 - rare <= kept <= max(share + 1, 1)
    np.testing.assert_array_equal(rows, stratified_rows(targets, limit, seed=seed))


def test_the_seed_draws_and_every_row_can_be_drawn():
    targets = np.repeat([0, 1, 2, 5], [600, 300, 99, 1])
    drawn = [stratified_rows(targets, 100, seed=seed) for seed in range(60)]
    assert not np.array_equal(drawn[0], drawn[1])
    times = np.bincount(np.concatenate(drawn), minlength=1000)
    assert times[:999].min() > 0 or (times[:999] == 0).mean() < 0.01
    assert times[999] == 60
    assert times[:600].mean() == pytest.approx(6, rel=0.05)


def test_values_are_drawn_plainly():
    values = np.random.default_rng(0).normal(size=200)
    values[::4] = np.nan
    rows = stratified_rows(values, 50, seed=1)
    assert len(set(rows)) == 50
    assert not np.isnan(values[rows]).any()
    np.testing.assert_array_equal(stratified_rows(values, 500), np.flatnonzero(~np.isnan(values)))
