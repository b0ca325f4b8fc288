"""A CSV of pictures and labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reprkit.data import load_dataset
from reprkit.data.base import ImageDataset
from reprkit.data.decode import decode_rgb
from reprkit.errors import InputError
from reprkit.recipe import DataConfig

Write = Callable[..., Path]


def load(root: Path | str | None, cache: Path, **options: object) -> ImageDataset:
    config = {"name": "table", "image_size": 8, "root": None if root is None else str(root), **options}
    return load_dataset(DataConfig(**config), cache)


def test_every_column_becomes_a_task(table: Write, cache: Path) -> None:
    path = table()
    data = load(path, cache)
    assert [(t.name, t.kind, t.num_outputs) for t in data.tasks] == [
        ("colour", "classification", 3),
        ("size", "classification", 4),
        ("weight", "regression", 1),
    ]
    assert data.tasks[0].classes == ("blue", "green", "red")
    assert data.ids[5] == "images/005.png"
    assert np.array_equal(data.images[5], decode_rgb((path.parent / "images" / "005.png").read_bytes(), 8))
    assert data.targets["colour"][:3].tolist() == [2, 1, 0]
    assert data.targets["weight"][10] == 3.7
    assert data.tasks[2].mean == data.targets["weight"][data.rows("train")].mean()
    assert all(len(data.rows(s)) for s in ("train", "val", "test"))


def test_tasks_and_kinds_are_chosen_by_name(table: Write, cache: Path) -> None:
    path = table()
    data = load(path, cache, tasks=("size", "colour"), kinds={"size": "ordinal"})
    assert [(t.name, t.kind) for t in data.tasks] == [("size", "ordinal"), ("colour", "classification")]
    assert any("order of classes 0 < 1 < 2 < 3" in note for note in data.notes)
    assert data.fingerprint == load(path, cache).fingerprint
    with pytest.raises(InputError, match="data.tasks: .* no label column 'shape'; choose from colour, size, weight"):
        load(path, cache, tasks=("shape",))
    with pytest.raises(InputError, match="data.kinds: .*'shape'"):
        load(path, cache, kinds={"shape": "ordinal"})


def test_the_order_of_rows_moves_nothing(table: Write, cache: Path) -> None:
    path = table()
    first = load(path, cache)
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, "", *rows[::-1]]) + "\n\n")
    second = load(path, cache)
    assert second.ids.tolist() == first.ids.tolist()[::-1]
    assert np.array_equal(second.split, first.split[::-1])
    assert (second.fingerprint, second.split_fingerprint) == (first.fingerprint, first.split_fingerprint)


def test_missing_labels(table: Write, cache: Path) -> None:
    colours = ["" if i % 10 == 9 else "ab"[i % 2] for i in range(60)]
    weights = ["" if i % 10 == 8 else i * 0.5 for i in range(60)]
    data = load(table({"colour": colours, "weight": weights}), cache)
    assert (data.targets["colour"] == -1).sum() == 6
    assert np.isnan(data.targets["weight"]).sum() == 6


def test_absolute_paths_and_quoted_cells(table: Write, tmp_path: Path, cache: Path) -> None:
    path = table()
    lines = path.read_text().splitlines()
    lines[1] = f'"{tmp_path}/table/images/000.png","red",0,"0.25"'
    path.write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
    data = load(path, cache)
    assert data.ids[0] == f"{tmp_path}/table/images/000.png"
    assert data.targets["weight"][0] == 0.25


def test_a_given_split_is_kept(table: Write, cache: Path) -> None:
    names = ["train", "Valid", "test", "training", "validation"]
    data = load(table({"split": [names[i % 5] for i in range(60)]}), cache)
    assert data.split.tolist() == [[0, 1, 2, 0, 1][i % 5] for i in range(60)]
    assert "column 'split' of labels.csv" in data.split_rule


def test_labels_that_only_test_rows_have_are_missing(table: Write, cache: Path) -> None:
    split = ["train"] * 40 + ["val"] * 10 + ["test"] * 10
    data = load(table({"split": split, "colour": ["red", "blue"] * 25 + ["green", "red"] * 5}), cache)
    assert data.tasks[0].classes == ("blue", "red")
    assert data.targets["colour"].tolist() == [1, 0] * 25 + [-1, 1] * 5
    assert any("never seen in training" in note and "green" in note for note in data.notes)


def test_the_first_task_with_classes_is_stratified(table: Write, cache: Path) -> None:
    colours = ["rare" if i % 6 == 0 else "common" for i in range(60)]
    data = load(table({"colour": colours}), cache, tasks=("weight", "colour"))
    rare = data.split[data.targets["colour"] == 1]
    assert np.bincount(rare, minlength=3).tolist() == [7, 1, 2]
    assert "class of colour" in data.split_rule


def test_val_is_carved_from_train_where_none_is_given(table: Write, cache: Path) -> None:
    groups = [f"person {i // 2}" for i in range(60)]
    data = load(table({"split": ["test" if i >= 48 else "train" for i in range(60)], "group": groups}), cache)
    assert data.rows("test").tolist() == list(range(48, 60))
    assert len(data.rows("val")) == 6
    assert all(data.split[i] == data.split[i + 1] for i in range(0, 60, 2))
    assert "eighth of train" in data.split_rule


def test_groups_and_copies_stay_on_one_side(table: Write, cache: Path, picture: Callable[..., bytes]) -> None:
    path = table({"group": [f"g{i // 4}" if i < 40 else "" for i in range(60)]})
    for i in range(40, 60):
        (path.parent / "images" / f"{i:03d}.png").write_bytes(picture(i // 5))
    data = load(path, cache)
    for start, size in [*((i, 4) for i in range(0, 40, 4)), *((i, 5) for i in range(40, 60, 5))]:
        assert len(set(data.split[start : start + size].tolist())) == 1
    assert len(set(data.split.tolist())) == 3


def test_a_group_must_not_cross_a_given_split(table: Write, cache: Path, picture: Callable[..., bytes]) -> None:
    split = [("train", "val", "test", "train")[i % 4] for i in range(60)]
    path = table({"split": split, "size": None, "group": ["x"] * 60})
    with pytest.raises(InputError, match="group 'x' is in train and val and test"):
        load(path, cache)
    path = table({"split": split, "size": None})
    for i in range(2):
        (path.parent / "images" / f"{i:03d}.png").write_bytes(picture(7))
    assert any(note.startswith("1 sets of equal images") for note in load(path, cache).notes)


def test_an_id_column_names_rows(table: Write, cache: Path) -> None:
    images = [f"images/{i // 2:03d}.png" for i in range(60)]
    path = table({"image": images})
    with pytest.raises(InputError, match=r"line 3: 'images/000.png' is also on line 2; .* id column"):
        load(path, cache)
    data = load(table({"image": images, "id": [f"row {i}" for i in range(60)]}), cache)
    assert data.ids[7] == "row 7"
    with pytest.raises(InputError, match=r"line 4: 'row 0' is also on line 2; make ids unique"):
        load(table({"id": ["row 0", "row 1", "row 0", *(f"row {i}" for i in range(3, 60))]}), cache)
    with pytest.raises(InputError, match=r"line 3: the id is empty"):
        load(table({"id": ["row 0", "", *(f"row {i}" for i in range(2, 60))]}), cache)


def test_grey_pictures_become_rgb_and_broken_ones_are_skipped_by_name(
    table: Write, cache: Path, picture: Callable[..., bytes]
) -> None:
    path = table()
    (path.parent / "images" / "003.png").write_bytes(picture(3, mode="L"))
    (path.parent / "images" / "004.png").write_bytes(b"oops")
    data = load(path, cache)
    assert data.skipped == (("images/004.png", "not an image"),)
    assert len(data) == 59
    assert data.ids[4] == "images/005.png"
    assert data.targets["weight"][4] == 1.85
    assert np.array_equal(data.images[3, 0], data.images[3, 2])
    for i in range(4):
        (path.parent / "images" / f"00{i}.png").write_bytes(b"oops")
    with pytest.raises(InputError, match="labels.csv: 5 of 60 images are broken, such as images/000.png"):
        load(path, cache)


def test_text_and_empty_columns_are_no_tasks_unless_asked_for(table: Write, cache: Path) -> None:
    path = table({"caption": [f"picture number {i}" for i in range(60)], "empty": [""] * 60})
    data = load(path, cache)
    assert [t.name for t in data.tasks] == ["colour", "size", "weight"]
    assert sum("is no task" in note for note in data.notes) == 2
    with pytest.raises(InputError, match="'caption' looks like free text"):
        load(path, cache, tasks=("caption",))
    with pytest.raises(InputError, match="'empty' is empty"):
        load(path, cache, tasks=("empty",))


def test_a_column_of_one_class(table: Write, cache: Path) -> None:
    path = table({"kind": ["cat"] * 60})
    with pytest.raises(InputError, match="'kind' has one class only .'cat'.*data.tasks"):
        load(path, cache)
    assert len(load(path, cache, tasks=("colour",)).tasks) == 1


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"split": ["training day"] * 60}, "line 2: split 'training day' is not one of train, val, test"),
        ({"split": ["train"] * 60}, "the test split is empty"),
        ({"image": ["images/000.png", "images/lost.png", *["x"] * 58]}, "line 3: image images/lost.png does not exist"),
        ({"image": ["images/000.png", " ", *["x"] * 58]}, "line 3: no image in column 'image'"),
        ({"image": None, "file": ["x"] * 60}, "no column 'image'; set data.image_column to one of .*colour.*file"),
        ({"colour": None, "size": None, "weight": None}, "no label column"),
        ({"weight": [1.5] * 60}, "no two different values"),
    ],
)
def test_wrong_tables(table: Write, cache: Path, columns: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        load(table(columns), cache)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "there is no header"),
        (b"image,colour\n", "no rows"),
        (b"image,colour,image\na,b,c\n", "the header repeats 'image'"),
        (b"image,colour\na,b\n\na,b,c\n", "line 4: 3 cells for 2 columns"),
        (b'image,colour\n"a\nb",b\nc\n', "line 4: 1 cells"),
        (b"image,colour\n\xff\xfe,b\n", "not UTF-8"),
    ],
)
def test_wrong_files(tmp_path: Path, cache: Path, text: bytes, says: str) -> None:
    (tmp_path / "t.csv").write_bytes(text)
    with pytest.raises(InputError, match=f"t.csv.*{says}"):
        load(tmp_path / "t.csv", cache)


def test_wrong_roots(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(InputError, match="--data"):
        load(None, cache)
    with pytest.raises(InputError, match="is a folder.*--data"):
        load(tmp_path, cache)
    with pytest.raises(InputError, match="does not exist.*--data"):
        load(tmp_path / "none.csv", cache)


def test_another_image_column(table: Write, cache: Path) -> None:
    path = table({"image": None, "photo": [f"images/{i:03d}.png" for i in range(60)]})
    assert len(load(path, cache, image_column="photo")) == 60
