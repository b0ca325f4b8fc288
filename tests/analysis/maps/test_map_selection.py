"""Which samples are mapped."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from reprkit.analysis.maps.selection import select_ids


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-1, 4), min_size=1, max_size=60), st.integers(0, 70), st.integers(0, 2**31))
def test_selection_is_stratified_nested_and_free_of_row_order(labels, n, seed):
    labels = np.array(labels)
    ids = np.array([f"id{i}" for i in range(len(labels))])
    chosen = select_ids(ids, labels, n)
    assert len(chosen) == len(set(chosen)) == min(n, len(ids))
    shuffle = np.random.default_rng(seed).permutation(len(ids))
    assert select_ids(ids[shuffle], labels[shuffle], n) == chosen
    assert set(chosen) <= set(select_ids(ids, labels, n + 1))
    index = [int(name[2:]) for name in chosen]
    for label in np.unique(labels):
        share = (labels == label).sum() * min(n, len(ids)) / len(ids)
        assert abs((labels[index] == label).sum() - share) <= 2.5  # the merge is even to within a few samples


def test_selection_takes_names_and_real_values():
    ids = [f"id{i}" for i in range(100)]
    assert len(select_ids(ids, np.array(["a", "b"] * 50), 10)) == 10
    values = np.linspace(0, 1, 100)
    values[::10] = np.nan
    chosen = [int(name[2:]) for name in select_ids(ids, values, 40)]
    assert 2 <= np.isnan(values[chosen]).sum() <= 6
    assert 0.4 < np.nanmedian(values[chosen]) < 0.6
