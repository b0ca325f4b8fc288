"""The data set record: selection, fingerprints, what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprkit.data.base import SPLITS, ImageDataset, content_fingerprint, split_fingerprint, standardised
from reprkit.errors import InputError
from reprkit.tasks import Task


def make(**changes: object) -> ImageDataset:
    record = {
        "name": "toy",
        "tasks": (Task("a", "classification", 3), Task("y", "regression", 1)),
        "images": np.zeros((6, 1, 4, 5), dtype=np.uint8),
        "targets": {"a": np.array([0, 1, 2, -1, 0, 1]), "y": np.array([1.0, 3.0, np.nan, 100.0, 5.0, 6.0])},
        "ids": np.array(list("abcdef")),
        "split": np.array([0, 0, 0, 1, 2, 2], dtype=np.uint8),
        "mean": (0.5,),
        "std": (0.5,),
        "fingerprint": "f",
        "split_fingerprint": "s",
        "transform_fingerprint": "t",
        "split_rule": "by hand",
        "skipped": (("x.jpg", "not an image"), ("z.jpg", "not an image"), ("q.jpg", "no labels")),
        "notes": ("a note",),
    }
    return ImageDataset(**{**record, **changes})


def test_rows_partition_the_set_in_order() -> None:
    data = make()
    rows = [data.rows(split) for split in SPLITS]
    assert [r.tolist() for r in rows] == [[0, 1, 2], [3], [4, 5]]
    assert all(r.dtype == np.int64 for r in rows)
    with pytest.raises(InputError, match="train, val, test"):
        data.rows("dev")


def test_with_tasks_keeps_rows_and_fingerprints() -> None:
    data = make()
    one = data.with_tasks(["y"])
    assert [t.name for t in one.tasks] == ["y"]
    assert set(one.targets) == {"y"}
    assert one.images is data.images
    assert one.fingerprint == data.fingerprint
    assert [t.name for t in data.with_tasks(("y", "a")).tasks] == ["y", "a"]


@pytest.mark.parametrize(("names", "says"), [(["b"], "choose from a, y"), (["a", "a"], "twice"), ([], "at least one")])
def test_with_tasks_refuses(names: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        make().with_tasks(names)


@pytest.mark.parametrize(
    "changes",
    [
        {"ids": np.array(list("abcdee"))},
        {"ids": np.array(list("abcde"))},
        {"split": np.zeros(5, dtype=np.uint8)},
        {"images": np.zeros((6, 1, 4, 5))},
        {"tasks": (Task("a", "classification", 3),)},
    ],
)
def test_inconsistent_records_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        make(**changes)


def test_summary_says_sizes_missing_labels_and_skipped_files() -> None:
    text = make().summary()
    for part in (
        "6 images of 5x4x1",
        "3 train, 1 val, 2 test",
        "a: classification, 3 classes, 1 missing",
        "by hand",
        "skipped 2: not an image (x.jpg, ...)",
        "skipped 1: no labels (q.jpg)",
        "note: a note",
    ):
        assert part in text


def test_regression_tasks_are_standardised_on_training_rows_alone() -> None:
    data = make()
    tasks = standardised(data.tasks, data.targets, data.split)
    assert (tasks[1].mean, tasks[1].std) == (2.0, 1.0)
    assert tasks[0] == data.tasks[0]
    constant = replace(data, targets={**data.targets, "y": np.full(6, 2.0)})
    with pytest.raises(InputError, match="'y'"):
        standardised(constant.tasks, constant.targets, constant.split)


@given(st.permutations(range(5)))
def test_fingerprints_ignore_the_order_of_rows(order: list[int]) -> None:
    ids, contents, labels = np.array(list("abcde")), list("vwxyz"), {"p": np.arange(5), "q": np.arange(5) / 2}
    split = np.array([0, 0, 1, 2, 2], dtype=np.uint8)
    moved = {k: v[order] for k, v in labels.items()}
    assert content_fingerprint(ids[order], [contents[i] for i in order], moved) == content_fingerprint(
        ids, contents, dict(reversed(labels.items()))
    )
    assert split_fingerprint(ids[order], split[order]) == split_fingerprint(ids, split)


def test_fingerprints_change_with_everything_that_matters() -> None:
    ids, contents, labels = np.array(list("abc")), list("xyz"), {"p": np.arange(3)}
    prints = {
        content_fingerprint(ids, contents, labels),
        content_fingerprint(np.array(list("abd")), contents, labels),
        content_fingerprint(ids, list("xyy"), labels),
        content_fingerprint(ids, contents, {"p": np.array([0, 1, 1])}),
        content_fingerprint(ids, contents, {"q": np.arange(3)}),
        content_fingerprint(ids, contents, {"p": np.arange(3), "q": np.arange(3)}),
    }
    assert len(prints) == 6
    split = np.array([0, 1, 2], dtype=np.uint8)
    assert split_fingerprint(ids, split) != split_fingerprint(ids, split[::-1])
