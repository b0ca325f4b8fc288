"""A folder of images a class."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reprkit.data import ImageDataset, load_dataset
from reprkit.data.decode import decode_rgb
from reprkit.data.lazy import FileArray
from reprkit.errors import InputError
from reprkit.recipe import DataConfig

CLASSES = ("n01440764", "n01443537", "n01484850")


@pytest.fixture
def write(tmp_path: Path, picture: Callable[..., bytes]) -> Callable[..., Path]:
    def _write(*parts: str, count: int = 16) -> Path:
        seed = 0
        for part in parts:
            for name in CLASSES:
                folder = tmp_path / "set" / part / name
                folder.mkdir(parents=True)
                for i in range(count if part in ("", "train") else 5):
                    (folder / f"{name}_{i}.JPEG").write_bytes(picture(seed, 20, kind="jpeg"))
                    seed += 1
        return tmp_path / "set"

    return _write


def load(root: Path, cache: Path, size: int | tuple[int, int] = (10, 14)) -> ImageDataset:
    return load_dataset(DataConfig(name="imagefolder", root=str(root), image_size=size), cache)


def test_imagenets_layout(write, cache: Path) -> None:
    root = write("train", "val")
    data = load(root, cache)
    (task,) = data.tasks
    assert (task.name, task.kind, task.num_outputs, task.classes) == ("class", "classification", 3, CLASSES)
    assert [len(data.rows(part)) for part in ("train", "val", "test")] == [42, 6, 15]
    assert "test is the folder val" in data.split_rule
    for part in ("train", "val", "test"):
        assert len(np.unique(data.targets["class"][data.rows(part)])) == 3
    assert isinstance(data.images, FileArray)
    assert data.images.shape == (63, 3, 10, 14)
    for row in (0, 20, 62):
        name = str(data.ids[row])
        assert (root / name).is_file()
        assert CLASSES[data.targets["class"][row]] == name.split("/")[1]
        assert np.array_equal(data.images[row], decode_rgb((root / name).read_bytes(), (10, 14)))
        assert (name.startswith("val/")) == (row in data.rows("test"))


def test_three_folders_are_taken_at_their_word(write, cache: Path) -> None:
    data = load(write("train", "val", "test"), cache)
    assert [len(data.rows(part)) for part in ("train", "val", "test")] == [48, 15, 15]
    assert {name.split("/")[0] for name in data.ids[data.rows("test")]} == {"test"}


def test_train_and_test(write, cache: Path) -> None:
    data = load(write("train", "test"), cache)
    assert [len(data.rows(part)) for part in ("train", "val", "test")] == [42, 6, 15]
    assert "test is the folder test" in data.split_rule


def test_one_folder_is_split_within_each_class(write, cache: Path) -> None:
    data = load(write("", count=20), cache)
    for part, count in (("train", 14), ("val", 2), ("test", 4)):
        assert np.bincount(data.targets["class"][data.rows(part)]).tolist() == [count] * 3
    assert data.ids[0] == "n01440764/n01440764_0.JPEG"


def test_no_image_is_decoded_before_it_is_asked_for(write, cache: Path) -> None:
    root = write("train", "val")
    broken = root / "train" / CLASSES[1] / f"{CLASSES[1]}_3.JPEG"
    broken.write_bytes(b"no image")
    data = load(root, cache)
    row = data.ids.tolist().index(broken.relative_to(root).as_posix())
    assert data.images[row + 1].shape == (3, 10, 14)
    with pytest.raises(InputError, match=rf"{broken.name}: not an image; mend or remove it"):
        data.images[np.array([row, row + 1])]


def test_fingerprints(write, cache: Path, tmp_path: Path, picture, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write("train", "val")
    first = load(root, cache)
    moved = root.rename(tmp_path / "moved")
    assert load(moved, cache).fingerprint == first.fingerprint
    assert load(moved, cache, 12).transform_fingerprint != first.transform_fingerprint
    one = moved / "train" / CLASSES[0] / f"{CLASSES[0]}_1.JPEG"
    old = one.read_bytes()
    one.write_bytes(old[:-3] + b"abc")
    assert load(moved, cache).fingerprint != first.fingerprint
    one.write_bytes(old)

    monkeypatch.setattr("reprkit.data.fingerprints.CONTENT_LIMIT", 100)
    monkeypatch.setattr("reprkit.data.fingerprints.SAMPLE", 10)
    sampled = load(moved, cache)
    assert any("the size of every file and the contents of 10 of 63" in note for note in sampled.notes)
    assert sampled.fingerprint != first.fingerprint
    one.write_bytes(old + b"x")
    assert load(moved, cache).fingerprint != sampled.fingerprint


def test_what_can_be_wrong(write, cache: Path, tmp_path: Path, picture) -> None:
    with pytest.raises(InputError, match="does not exist; name a folder with --data"):
        load(tmp_path / "nowhere", cache)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="0 folders with images; keep the images of each class in a folder"):
        load(tmp_path / "empty", cache)
    root = write("train", "val")
    (root / "val" / "n09999999").mkdir()
    (root / "val" / "n09999999" / "x.jpg").write_bytes(picture(0))
    with pytest.raises(InputError, match=r"val/n09999999: this class is not in train"):
        load(root, cache)
    (root / "val" / "loose.jpg").write_bytes(picture(0))
    with pytest.raises(InputError, match=r"val/loose\.jpg: lies beside the class folders"):
        load(root, cache)
    (root / "train").rename(root / "elsewhere")
    with pytest.raises(InputError, match=r"has val/ but no train/"):
        load(root, cache)
