"""CamVid in 11 classes: folder and tar."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reprkit.data import ImageDataset, load_dataset
from reprkit.data.boundaries import label_boundaries
from reprkit.errors import InputError
from reprkit.recipe import DataConfig

H, W = 12, 16
COUNTS = {"train": 6, "val": 2, "test": 3}


def labels(part: str, i: int) -> np.ndarray:
    blocks = np.random.RandomState(i + 50 * len(part)).randint(12, size=(3, 4))
    return np.kron(blocks, np.ones((4, 4))).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part, count in COUNTS.items():
        for kind in ("image", "label11"):
            (tmp_path / "data" / "camvid" / part / kind).mkdir(parents=True)
        for i in range(count):
            top = tmp_path / "data" / "camvid" / part
            colours = np.repeat(labels(part, i)[..., None] * 20, 3, axis=2)
            Image.fromarray(colours).save(top / "image" / f"0001TP_{i:06d}.jpg", quality=95)
            Image.fromarray(labels(part, i)).save(top / "label11" / f"0001TP_{i:06d}.png")
    return tmp_path / "data"


def load(root: Path, cache: Path, size: tuple[int, int] = (H, W), **rest) -> ImageDataset:
    return load_dataset(DataConfig(name="camvid", root=str(root), image_size=size, **rest), cache)


def test_folder_and_tar_are_one(folder: Path, cache: Path) -> None:
    data = load(folder, cache)
    with tarfile.open(folder.parent / "camvid.tar", "w") as tar:
        tar.add(folder / "camvid", "camvid")
    packed = load(folder.parent / "camvid.tar", cache)
    inside = load(folder / "camvid", cache)
    for other in (packed, inside):
        assert other.fingerprint == data.fingerprint
        assert other.split_fingerprint == data.split_fingerprint
        assert np.array_equal(other.images, data.images)
    assert [len(data.rows(part)) for part in COUNTS] == list(COUNTS.values())
    assert [(t.name, t.kind) for t in data.tasks] == [("segmentation", "segmentation"), ("edges", "edges")]
    for row, name in enumerate(data.ids.tolist()):
        part, file = name.split("/")
        truth = labels(part, int(file[-6:])).astype(int)
        truth[truth == 11] = -1
        assert np.array_equal(data.targets["segmentation"][row], truth)
        assert np.array_equal(data.targets["edges"][row], label_boundaries(truth))
        assert np.abs(data.images[row, 0].astype(int) - labels(part, int(file[-6:])) * 20).mean() < 12


def test_edges_are_drawn_at_the_size_asked_for(folder: Path, cache: Path) -> None:
    large = load(folder, cache, (36, 48), tasks=("edges", "segmentation"))
    for row in range(len(large)):
        assert np.array_equal(large.targets["edges"][row], label_boundaries(large.targets["segmentation"][row]))


def test_what_can_be_wrong(folder: Path, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name the folder or tar of CamVid"):
        load(tmp_path / "nowhere", cache)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds neither images nor a tar"):
        load(tmp_path / "empty", cache)
    with pytest.raises(InputError, match="camvid has no task 'depth'; choose from segmentation, edges"):
        load(folder, cache, tasks=("depth",))
    label = folder / "camvid/val/label11/0001TP_000001.png"
    Image.fromarray(np.full((H, W), 12, np.uint8)).save(label)
    with pytest.raises(InputError, match=r"val/label11/0001TP_000001\.png: holds the label 12, beyond 0 to 11"):
        load(folder, cache)
    Image.fromarray(np.zeros((H, W - 1), np.uint8)).save(label)
    with pytest.raises(InputError, match=r"is 12 x 15 in label11 but 12 x 16 in image"):
        load(folder, cache)
    label.unlink()
    with pytest.raises(InputError, match="'val/0001TP_000001' is in image but not in label11"):
        load(folder, cache)


def test_a_split_of_void_alone_is_refused(folder: Path, cache: Path) -> None:
    for i in range(2):
        Image.fromarray(np.full((H, W), 11, np.uint8)).save(folder / f"camvid/val/label11/0001TP_{i:06d}.png")
    with pytest.raises(InputError, match="no pixel of the val split is labelled for task 'segmentation'"):
        load(folder, cache)


REAL = Path(os.environ.get("REPRKIT_CAMVID") or "no-camvid")


@pytest.mark.skipif(not REAL.exists(), reason="no copy of CamVid")
def test_the_real_set(cache: Path) -> None:
    data = load(REAL, cache, (180, 240))
    assert [len(data.rows(part)) for part in COUNTS] == [367, 101, 233]
    found = np.bincount(data.targets["segmentation"][:].ravel() + 1, minlength=12)
    assert found[1:4].tolist() == [4815492, 7308383, 298412]  # sky, building, pole
    assert found[0] == 1080867
    sky = np.asarray(data.images)[:, 2][data.targets["segmentation"] == 0].mean()
    road = np.asarray(data.images)[:, 2][data.targets["segmentation"] == 3].mean()
    assert sky > road + 50  # the sky is bright
