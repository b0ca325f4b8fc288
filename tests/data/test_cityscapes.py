"""Cityscapes in its three forms, written as they are published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reprkit.data import ImageDataset, load_dataset
from reprkit.data.cityscapes import CLASSES, PARTS, part_classes
from reprkit.errors import InputError
from reprkit.recipe import DataConfig

H, W = 16, 32
CITIES = {"train": ("aachen", "bochum"), "val": ("lindau",)}


def stream_of(name: str) -> np.random.RandomState:
    return np.random.RandomState(sum(map(ord, name)))


def frame(name: str) -> dict[str, np.ndarray]:
    """What a frame's files hold: colours, 34 label ids, universal ids of panoptic parts, 16-bit disparities."""
    stream = stream_of(name)
    sid = stream.randint(34, size=(H, W))
    instance, part = stream.randint(1, 1000, size=(H, W)), stream.randint(6, size=(H, W))
    depth_of_id = stream.randint(3, size=(H, W))
    uids = np.where(
        depth_of_id == 0, sid, np.where(depth_of_id == 1, sid * 1000 + instance, (sid * 1000 + instance) * 100 + part)
    )
    disparity = stream.randint(0, 32000, size=(H, W)).astype(np.uint16)
    disparity[stream.rand(H, W) < 0.2] = 0
    return {
        "image": stream.randint(256, size=(H, W, 3)).astype(np.uint8),
        "ids": sid.astype(np.uint8),
        "uids": uids.astype(np.int32),
        "disparity": disparity,
        "sid": sid,
        "part": np.where(depth_of_id == 2, part, -1),
    }


def names() -> dict[str, list[str]]:
    return {part: [f"{city}_{i:06d}_000019" for city in cities for i in range(7)] for part, cities in CITIES.items()}


@pytest.fixture
def published(tmp_path: Path) -> Path:
    root = tmp_path / "cityscapes"
    for part, frames in names().items():
        for name in frames:
            truth, city = frame(name), name.split("_")[0]
            for folder, suffix, values in (
                ("leftImg8bit", "leftImg8bit.png", truth["image"]),
                ("gtFine", "gtFine_labelIds.png", truth["ids"]),
                ("gtFinePanopticParts", "gtFinePanopticParts.tif", truth["uids"]),
                ("disparity", "disparity.png", truth["disparity"]),
            ):
                path = root / folder / part / city / f"{name}_{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(path)
            (root / "gtFine" / part / city / f"{name}_gtFine_polygons.json").write_text("{}")
            Image.fromarray(truth["ids"]).save(root / "gtFine" / part / city / f"{name}_gtFine_instanceIds.png")
    return root


def load(root: Path, cache: Path, size: tuple[int, int] = (H, W), **rest) -> ImageDataset:
    return load_dataset(DataConfig(name="cityscapes", root=str(root), image_size=size, **rest), cache)


TRAIN_ID = {
    "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19,
    "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26, "truck": 27,
    "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33,
}  # fmt: skip


def check(data: ImageDataset, row: int, truth: dict[str, np.ndarray]) -> None:
    assert np.array_equal(data.images[row], truth["image"].transpose(2, 0, 1))
    for y, x in np.ndindex(H, W):
        sid, part = int(truth["sid"][y, x]), int(truth["part"][y, x])
        index = int(data.targets["segmentation"][row, y, x])
        assert (TRAIN_ID.get(CLASSES[index]) if index >= 0 else None) == (sid if sid in TRAIN_ID.values() else None)
        named = PARTS[data.targets["parts"][row, y, x]]
        if sid in (24, 25) and 1 <= part <= 4:
            assert named == ("torso", "head", "arms", "legs")[part - 1]
        elif sid in (26, 27, 28) and part >= 1:
            assert named == ("windows", "wheels", "lights", "license plate", "chassis")[part - 1]
        else:
            assert named == "background"
    known = truth["disparity"] > 0
    pixels = (truth["disparity"].astype(float) - 1) / 256 * W / 2048
    found = data.targets["disparity"][row]
    assert np.array_equal(np.isfinite(found), known)
    assert np.allclose(found[known], pixels[known], rtol=1e-5)


def test_published_folders(published: Path, cache: Path) -> None:
    data = load(published, cache)
    assert [(t.name, t.kind, t.num_outputs) for t in data.tasks] == [
        ("segmentation", "segmentation", 19),
        ("parts", "segmentation", 10),
        ("disparity", "disparity", 1),
    ]
    assert [len(data.rows(part)) for part in ("train", "val", "test")] == [12, 2, 7]
    assert data.ids[0] == "train/aachen/aachen_000000_000019"
    assert set(data.ids[data.rows("test")]) == {f"val/lindau/lindau_{i:06d}_000019" for i in range(7)}
    for row, name in enumerate(data.ids.tolist()):
        check(data, row, frame(name.rsplit("/", 1)[1]))


def test_disparities_are_pixels_of_the_loaded_width(published: Path, cache: Path) -> None:
    whole, half = load(published, cache), load(published, cache, (8, 16))
    nearest = whole.targets["disparity"][:][:, 1::2, 1::2]
    assert np.allclose(half.targets["disparity"][:] * 2, nearest, equal_nan=True, rtol=1e-5)


def test_numbered_folders(tmp_path: Path, cache: Path) -> None:
    root = tmp_path / "small"
    truths = {}
    for part, frames in names().items():
        for i, name in enumerate(frames):
            truth = truths[f"{part}/{i}"] = frame(name)
            for folder, kind, values in (
                ("image", "png", "image"),
                ("seg", "png", "ids"),
                ("part_seg", "tif", "uids"),
                ("depth", "png", "disparity"),
            ):
                path = root / part / folder / f"{i}.{kind}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(truth[values]).save(path)
    data = load(root, cache)
    assert data.ids.tolist()[:14] == [f"train/{i}" for i in range(14)]  # 2 before 10
    for row, name in enumerate(data.ids.tolist()):
        check(data, row, truths[name])


@pytest.mark.parametrize("label", ["label_7", "label"])
def test_arrays_of_seven_classes(tmp_path: Path, cache: Path, label: str) -> None:
    stream = np.random.RandomState(0)
    truths = {}
    for part, count in (("train", 9), ("val", 2)):
        for i in range(count):
            truth = truths[f"{part}/{i}"] = {
                "image": stream.randint(256, size=(H, W, 3)) / 255,
                label: stream.randint(-1, 7, size=(H, W)).astype(float),
                "depth": stream.uniform(size=(H, W, 1)) * (stream.uniform(size=(H, W, 1)) > 0.3),
            }
            for folder, values in truth.items():
                (tmp_path / part / folder).mkdir(parents=True, exist_ok=True)
                np.save(tmp_path / part / folder / f"{i}.npy", values)
    data = load(tmp_path, cache)
    assert [(t.name, t.num_outputs) for t in data.tasks] == [("segmentation", 7), ("disparity", 1)]
    for row, name in enumerate(data.ids.tolist()):
        assert np.array_equal(data.targets["segmentation"][row], truths[name][label])
        depth = truths[name]["depth"][..., 0]
        assert np.allclose(data.targets["disparity"][row], np.where(depth > 0, depth, np.nan), equal_nan=True)
    with pytest.raises(InputError, match=r"cityscapes of \.npy files has no task 'parts'"):
        load(tmp_path, cache, tasks=("parts",))


@pytest.mark.parametrize(
    ("uid", "part"),
    [(0, 0), (7, 0), (24, 0), (24001, 0), (2400100, 0), (2400101, 1), (2599904, 4), (2400105, 0), (2600101, 5)]
    + [(2700205, 9), (2800001, 5), (3200101, 0), (26999, 0)],
)
def test_universal_ids_by_hand(uid: int, part: int) -> None:
    assert int(part_classes(np.array([[uid]]))[0, 0]) == part


def test_wrong_folders_and_files(published: Path, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds neither leftImg8bit/ nor train/image/"):
        load(tmp_path / "empty", cache)
    with pytest.raises(InputError, match="does not exist; name the folder of Cityscapes"):
        load(tmp_path / "nowhere", cache)

    label = published / "gtFine/train/aachen/aachen_000003_000019_gtFine_labelIds.png"
    Image.fromarray(np.full((H, W), 34, np.uint8)).save(label)
    with pytest.raises(
        InputError, match=r"aachen_000003_000019_gtFine_labelIds\.png: holds the label 34, beyond 0 to 33"
    ):
        load(published, cache)
    Image.fromarray(np.zeros((H, W, 3), np.uint8)).save(label)
    with pytest.raises(InputError, match=r"labelIds\.png: has pixels of kind RGB, a label image has one channel"):
        load(published, cache)
    label.write_bytes(label.read_bytes()[:40])
    with pytest.raises(InputError, match=r"labelIds\.png: not a readable label image"):
        load(published, cache)
    label.unlink()
    with pytest.raises(InputError, match="'train/aachen/aachen_000003_000019' is in leftImg8bit but not in gtFine"):
        load(published, cache)
    (published / "disparity").rename(published / "elsewhere")
    with pytest.raises(InputError, match=r"disparity/train: no such folder; unpack disparity of Cityscapes there"):
        load(published, cache)
