from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprkit.data.columns import infer_kind
from reprkit.data.columns import natural_key as key_of_tables
from reprkit.embeddings import Embeddings
from reprkit.embeddings.columns import Labels, natural_key, read_cells, read_target
from reprkit.errors import InputError
from reprkit.tasks import Task

NUMBERS = st.one_of(st.integers(-30, 30).map(str), st.floats(-3, 3).map(lambda x: f"{x:.1f}"))
WORDS = st.sampled_from(["a", "b", "x 10", "x 9", "10_19", "True", "", "NA", "nan", " null "])


def read(column: object, **options: object) -> tuple[Task, list[float]]:
    rows = len(column.codes if isinstance(column, Labels) else column)  # type: ignore[arg-type]
    task, values = read_target("t", column, train=np.arange(rows), rows=rows, **options)  # type: ignore[arg-type]
    return task, values.tolist()


@given(st.lists(st.one_of(NUMBERS, WORDS), min_size=1, max_size=60))
def test_one_rule_for_labels_of_images_and_of_embeddings(cells: list[str]) -> None:
    """A CSV of labels means the same beside images and beside embeddings."""
    expected = infer_kind(cells)
    try:
        found = read(read_cells(cells), marked=False)[0].kind
    except InputError as error:
        found = expected if "1 class: nothing to learn" in str(error) else None
    assert found == expected


@given(st.lists(st.text(max_size=6), max_size=20))
def test_one_order_of_classes(names: list[str]) -> None:
    assert sorted(names, key=natural_key) == sorted(names, key=key_of_tables)


@given(st.lists(st.sampled_from(["b", "a", "c", ""]), min_size=12, max_size=60))
def test_names_and_codes_are_one_column(names: list[str]) -> None:
    if len(set(names) - {""}) < 2:
        return
    order = ["c", "", "b", "unused", "a"]
    as_labels = Labels(np.array([-1 if name == "" else order.index(name) for name in names]), order)
    assert read(np.array(names)) == read(as_labels)
    assert read(np.array([name.encode() for name in names])) == read(as_labels)
    task, codes = read(as_labels)
    assert list(task.classes) == sorted(set(names) - {""})
    assert [("", *task.classes)[int(code) + 1] for code in codes] == names


def test_ordered_categories_keep_order_and_empty_classes() -> None:
    task, values = read(Labels(np.array([2, 0, -1, 2, 0]), ["low", "never", "high"], ordered=True))
    assert (task.kind, task.classes) == ("ordinal", ("low", "never", "high"))
    assert values == [2, 0, -1, 2, 0]


def test_marked_numbers_are_indices_and_others_are_names() -> None:
    years = np.array([1990, 1992, 1990, 1992])
    task, values = read(years, marked=False)
    assert (task.classes, values) == (("1990", "1992"), [0, 1, 0, 1])
    with pytest.raises(InputError, match="class index 1992 for 4 samples"):
        read(years, marked=True)
    task, values = read(np.array([-1, 0, 1, 1]), marked=False)  # -1 means missing only where it is an index
    assert (task.classes, values) == (("-1", "0", "1"), [0, 1, 2, 2])
    task, values = read(np.array([-1, 0, 1, 1]), marked=True)
    assert (task.num_outputs, task.classes, values) == (2, (), [-1, 0, 1, 1])


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.bool_])
def test_masked_numbers_are_missing(dtype: type) -> None:
    column = np.ma.array(np.array([1, 0, 1, 1], dtype), mask=[False, False, True, False])
    assert read(column, marked=True)[1] == [1, 0, -1, 1]
    assert read(column, marked=False)[1] == [1, 0, -1, 1]


def test_many_whole_numbers_are_real_values() -> None:
    column = np.ma.array(np.arange(-5, 25), mask=np.arange(30) == 3)
    task, values = read(column, marked=False)
    assert task.kind == "regression"
    assert np.isnan(values[3])
    assert values[0] == -5
    assert (task.mean, task.std) == pytest.approx((np.nanmean(values), np.nanstd(values)))


def test_codes_outside_the_categories() -> None:
    for codes in ([0, 2], [-2, 0]):
        with pytest.raises(InputError, match="codes .* for 2 categories"):
            read(Labels(np.array(codes), ["a", "b"]))


def test_names_of_a_given_task() -> None:
    z, task = np.ones((3, 1)), Task("t", "ordinal", 3, classes=("low", "mid", "high"))
    given_task = Embeddings.from_arrays(z, {"t": np.array(["high", "", "low"])}, tasks=[task], split=["train"] * 3)
    assert given_task.targets("train", "t").tolist() == [2, -1, 0]
    with pytest.raises(InputError, match="label 'top', which is no class of the given task"):
        Embeddings.from_arrays(z, {"t": np.array(["high", "top", "low"])}, tasks=[task])
    with pytest.raises(InputError, match="no targets for the task 't', only for \\['u'\\]"):
        Embeddings.from_arrays(z, {"u": np.array([0, 1, 0])}, tasks=[task])


@pytest.mark.parametrize(("count", "kind"), [(20, "classification"), (21, "regression")])
def test_the_most_whole_numbers_that_are_classes(count: int, kind: str) -> None:
    numbers = np.arange(count).repeat(3) * 5
    assert read(numbers, marked=False)[0].kind == kind == infer_kind([str(number) for number in numbers])


@pytest.mark.parametrize(("count", "rows"), [(10, 12), (11, 21), (11, 22), (1000, 2000), (1001, 4000)])
def test_the_most_words_that_are_classes(count: int, rows: int) -> None:
    words = [f"word {i % count}" for i in range(rows)]
    if infer_kind(words) is None:
        with pytest.raises(InputError, match=f"looks like free text: {count:,} different labels in {rows:,} samples"):
            read(np.array(words), marked=False)
    else:
        assert read(np.array(words), marked=False)[0].num_outputs == count
    assert (infer_kind(words) is None) == ((count, rows) in [(11, 21), (1001, 4000)])


def test_a_category_that_means_missing() -> None:
    for ordered in (False, True):
        task, values = read(Labels(np.array([0, 1, 2, 1]), ["b", " NaN ", "a"], ordered))
        assert sorted(task.classes) == ["a", "b"]
        assert values[1] == values[3] == -1
