"""Splits by hash: whole groups, fixed shares, and no dependence on order or seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprkit.data.splits import check_splits, hash_split, merge_groups
from reprkit.errors import InputError

keys = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=30)


@given(
    st.lists(st.tuples(st.sampled_from("abcdefghijklmno"), st.integers(-1, 3)), min_size=1, max_size=60), st.randoms()
)
def test_groups_stay_whole_and_order_is_moot(rows: list[tuple[str, int]], random: object) -> None:
    groups, strata = [g for g, _ in rows], np.array([s for _, s in rows])
    split = hash_split(groups, strata)
    assert all(len({int(s) for g, s in zip(groups, split, strict=True) if g == name}) == 1 for name in groups)
    order = list(range(len(rows)))
    random.shuffle(order)
    assert np.array_equal(hash_split([groups[i] for i in order], strata[order]), split[order])


def test_shares_hold_within_every_stratum() -> None:
    groups = [f"person {i // 2}" for i in range(6000)]  # pairs
    strata = np.arange(6000) // 2 % 3
    split = hash_split(groups, strata)
    for stratum in range(3):
        shares = np.bincount(split[strata == stratum], minlength=3) / 2000
        assert np.allclose(shares, [0.7, 0.1, 0.2], atol=0.0011)


def test_the_rule_is_frozen() -> None:
    """A change here moves samples between the splits of every published result."""
    assert "".join(map(str, hash_split([f"g{i}" for i in range(40)]))) == FROZEN
    assert "".join(map(str, hash_split([f"g{i}" for i in range(16)], test=0.0, val=0.125))) == FROZEN_CARVED


def test_a_rare_class_is_never_missing_from_training() -> None:
    for rare in range(20):
        split = hash_split([f"{rare}-{i}" for i in range(30)], [1] + [0] * 29)
        assert split[0] == 0


@given(keys, st.data())
def test_merged_groups_are_connected_components(first: list[str], data: st.DataObject) -> None:
    second = data.draw(st.lists(st.sampled_from(["", "p", "q", "r"]), min_size=len(first), max_size=len(first)))
    merged = merge_groups(first, second)
    # Brute force: transitive closure of "shares a key".
    count = len(first)
    linked = np.array(
        [
            [first[i] == first[j] or (second[i] != "" and second[i] == second[j]) for j in range(count)]
            for i in range(count)
        ]
    )
    for _ in range(count):
        linked = linked @ linked
    assert np.array_equal(np.array(merged)[:, None] == np.array(merged)[None, :], linked)
    assert merged == [min(key for key, joined in zip(first, row, strict=True) if joined) for row in linked]


def test_empty_splits_are_named() -> None:
    with pytest.raises(InputError, match="faces: the val split is empty .2 usable images in all.; add more"):
        check_splits(np.array([0, 2]), source="faces", mend="add more")
    check_splits(np.array([0, 1, 2]), source="faces", mend="add more")


FROZEN = "0000012022020010000002000020100001002020"
FROZEN_CARVED = "0000001001000000"
