"""From a column of text to a task."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprkit.data.columns import infer_kind, natural_key, read_column
from reprkit.errors import InputError


def read(cells: list[str], kind: str, train: list[bool] | None = None):
    mask = np.ones(len(cells), dtype=bool) if train is None else np.array(train)
    return read_column("c", cells, kind, mask, range(2, len(cells) + 2), "t.csv")


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["red", "green"] * 10, "classification"),
        (["True", "false"] * 10, "classification"),
        (["0", "1", "2", ""] * 10, "classification"),
        (["0.0", "1.0"] * 10, "classification"),
        ([str(i) for i in range(20)] * 3, "classification"),
        ([str(i) for i in range(21)] * 3, "regression"),
        (["0.5", "1.5"] * 10, "regression"),
        (["-1e3", "NaN", "2"] * 10, "classification"),
        (["1", "2", "x"] * 10, "classification"),
        (["0_9", "10_19", "20_29"] * 10, "classification"),
        ([f"a sentence about picture {i}" for i in range(40)], None),
        (["", "NA", " nan ", "null", "N/A"], None),
        ([f"city {i}" for i in range(10)] * 2, "classification"),
        ([f"city {i}" for i in range(1001)] * 3, None),
    ],
)
def test_inferred_kinds(cells: list[str], kind: str | None) -> None:
    assert infer_kind(cells) == kind


def test_classes_are_in_numeric_or_natural_order() -> None:
    assert read(["10", "9", "-2", "10"], "classification").task.classes == ("-2", "9", "10")
    assert read(["10_1", "9_02", "8", "nan+"], "classification").task.classes == ("8", "9_02", "10_1", "nan+")
    assert read(["60+", "0-9", "10-19"], "ordinal").task.classes == ("0-9", "10-19", "60+")
    assert read(["b", "B", "a", "3"], "classification").task.classes == ("3", "B", "a", "b")
    assert read(["2.0", "10", "2"], "ordinal").task.classes == ("2", "10")


@given(st.lists(st.text(max_size=6), min_size=2, max_size=20))
def test_natural_keys_order_any_text(labels: list[str]) -> None:
    ordered = sorted(labels, key=natural_key)
    backwards = ordered[::-1]
    assert sorted(backwards, key=natural_key) == ordered


def test_targets_name_their_class_and_gaps_are_missing() -> None:
    column = read(["b", "", "a", " b ", "NA"], "classification")
    assert column.target.tolist() == [1, -1, 0, 1, -1]
    assert column.target.dtype == np.int64
    assert column.notes == ()
    values = read(["1.5", "", "-2e1"], "regression").target
    assert values.dtype == np.float64
    assert np.array_equal(values, [1.5, np.nan, -20], equal_nan=True)


def test_labels_never_seen_in_training_count_as_missing_and_are_noted() -> None:
    column = read(["a", "b", "c", "c", "a"], "classification", [True, True, False, False, False])
    assert column.task.classes == ("a", "b")
    assert column.target.tolist() == [0, 1, -1, -1, 0]
    assert column.notes == ("c: 2 val/test labels never seen in training count as missing (c)",)


def test_the_order_of_ordinal_classes_is_noted() -> None:
    assert read(["low", "high", "mid"], "ordinal").notes == ("c: order of classes high < low < mid",)


@pytest.mark.parametrize(
    ("cells", "kind", "says"),
    [
        (["a", "a", ""], "classification", "one class only .'a'.*data.tasks"),
        (["", "", ""], "classification", "no label in the training split"),
        (["1", "two", "3"], "regression", "t.csv, line 3: 'two' in column 'c'"),
        (["1", "inf", "3"], "regression", "line 3: 'inf'"),
        (["1", "2", "3"], "segmentation", "data.kinds: 'segmentation'.*classification, ordinal, regression"),
    ],
)
def test_wrong_columns(cells: list[str], kind: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read(cells, kind)
