"""NYUv2 in both forms, written as they are published."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from reprkit.data import ImageDataset, load_dataset
from reprkit.data.frames import unit_vectors
from reprkit.data.nyuv2 import CLASS_OF_40, CLASSES, load_nyuv2
from reprkit.errors import InputError
from reprkit.recipe import DataConfig

H, W = 12, 16


def frame(seed: int) -> dict[str, np.ndarray]:
    """One frame of MTAN's form: float64, classes as floats, zeros for no depth and no normal."""
    stream = np.random.RandomState(seed)
    normal = stream.randn(H, W, 3)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    normal[2, 3] = 0
    normal[4, 5] = (0.6, -0.6, 0.0)  # its components sum to zero, and it is valid
    depth = stream.uniform(0.7, 9, (H, W, 1))
    depth[0, :4] = 0
    label = stream.randint(-1, 13, (H, W)).astype(np.float64)
    return {"image": stream.randint(256, size=(H, W, 3)) / 255, "label": label, "depth": depth, "normal": normal}


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for part, count, start in (("train", 24, 0), ("val", 11, 100)):
        for folder in ("image", "label", "depth", "normal"):
            (tmp_path / "nyuv2" / part / folder).mkdir(parents=True)
        for i in range(count):
            for folder, values in frame(start + i).items():
                np.save(tmp_path / "nyuv2" / part / folder / f"{i}.npy", values)
    return tmp_path / "nyuv2"


def load(root: Path, cache: Path, size: tuple[int, int] = (H, W), **rest) -> ImageDataset:
    return load_dataset(DataConfig(name="nyuv2", root=str(root), image_size=size, **rest), cache)


def test_folders_come_back_as_they_were_written(folders: Path, cache: Path) -> None:
    data = load(folders, cache)
    assert [(t.name, t.kind, t.num_outputs) for t in data.tasks] == [
        ("segmentation", "segmentation", 13),
        ("depth", "depth", 1),
        ("normals", "normals", 3),
    ]
    assert data.tasks[0].classes[:3] == ("bed", "books", "ceiling")
    assert data.ids.tolist() == [*(f"train/{i}" for i in range(24)), *(f"val/{i}" for i in range(11))]
    for row, name in enumerate(data.ids.tolist()):
        part, number = name.split("/")
        truth = frame(int(number) + (100 if part == "val" else 0))
        assert np.array_equal(data.images[row], np.rint(truth["image"] * 255).transpose(2, 0, 1))
        assert np.array_equal(data.targets["segmentation"][row], truth["label"])
        depth = truth["depth"][..., 0]
        assert np.array_equal(np.isnan(data.targets["depth"][row]), depth == 0)
        assert np.allclose(data.targets["depth"][row][depth > 0], depth[depth > 0])
        normals = data.targets["normals"][row]
        void = np.zeros((H, W), dtype=bool)
        void[2, 3] = True
        assert np.array_equal(np.isnan(normals), np.broadcast_to(void, (3, H, W)))
        exact = truth["normal"] / np.maximum(np.linalg.norm(truth["normal"], axis=-1, keepdims=True), 1e-9)
        assert np.abs(normals - exact.transpose(2, 0, 1))[:, ~void].max() < 1e-3
    assert {d.dtype for d in data.targets.values()} == {np.dtype("int8"), np.dtype("float32"), np.dtype("float16")}


def test_the_publishers_val_is_test_and_ours_is_an_eighth_of_train(folders: Path, cache: Path) -> None:
    data = load(folders, cache)
    assert [len(data.rows(part)) for part in ("train", "val", "test")] == [21, 3, 11]
    assert all(name.startswith("val/") for name in data.ids[data.rows("test")])
    assert "an eighth" in data.split_rule or "first eighth" in data.split_rule
    (folders / "train" / "image" / "0.npy").touch()  # times of change do not matter
    again = load(folders, cache)
    assert np.array_equal(again.split, data.split)
    assert again.fingerprint == data.fingerprint


def test_fingerprints_follow_contents_not_places(folders: Path, cache: Path, tmp_path: Path) -> None:
    data = load(folders, cache)
    moved = folders.rename(tmp_path / "elsewhere")
    assert load(moved, cache).fingerprint == data.fingerprint
    assert load(moved, cache, tasks=("depth",)).fingerprint == data.fingerprint
    small = load(moved, cache, (8, 8))
    assert small.fingerprint == data.fingerprint
    assert small.transform_fingerprint != data.transform_fingerprint
    values = np.load(moved / "val" / "depth" / "3.npy")
    values[5, 5] += 0.25
    np.save(moved / "val" / "depth" / "3.npy", values)
    changed = load(moved, cache)
    assert changed.fingerprint != data.fingerprint
    assert changed.targets["depth"][27, 5, 5] == pytest.approx(values[5, 5, 0])


def test_resizing_takes_the_nearest_pixel_of_labels(folders: Path, cache: Path) -> None:
    whole, half = load(folders, cache), load(folders, cache, (H // 3 * 2, W // 2 * 3))
    row = ((np.arange(8) + 0.5) * 1.5).astype(int)
    column = ((np.arange(24) + 0.5) / 1.5).astype(int)
    for name in ("segmentation", "depth", "normals"):
        expected = whole.targets[name][:][..., row[:, None], column]
        assert np.array_equal(half.targets[name][:], expected, equal_nan=True)
    assert half.images.shape[1:] == (3, 8, 24)
    assert abs(half.images[:].mean() - whole.images[:].mean()) < 2


def test_tasks_that_are_asked_for_need_no_other_folder(folders: Path, cache: Path) -> None:
    for part in ("train", "val"):
        (folders / part / "normal").rename(folders / part / "unused")
    data = load(folders, cache, tasks=("depth", "segmentation"))
    assert [t.name for t in data.tasks] == ["depth", "segmentation"]
    with pytest.raises(InputError, match=r"train/normal: no such folder"):
        load(folders, cache)
    with pytest.raises(InputError, match="nyuv2 has no task 'edges'; choose from segmentation, depth, normals"):
        load(folders, cache, tasks=("edges",))


def spoil(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    np.save(path, change(np.load(path)))


@pytest.mark.parametrize(
    ("where", "change", "message"),
    [
        (
            "train/label/7.npy",
            lambda v: np.where(v == 3, 13.0, v),
            r"train/label/7\.npy: holds the label 13, beyond -1",
        ),
        ("train/label/7.npy", lambda v: v + 0.25, r"7\.npy: holds the label .*25, beyond"),
        ("train/label/7.npy", lambda v: v[:-1], r"7\.npy: frame 'train/7' is 11 x 16 in label but 12 x 16 in image"),
        ("val/image/2.npy", lambda v: v * 255, r"val/image/2\.npy: has colours from .* they should lie in 0 to 1"),
        ("val/image/2.npy", lambda v: v[..., 0], r"2\.npy: has shape \(12, 16\), an image needs"),
        ("val/normal/0.npy", lambda v: v[..., :2], r"0\.npy: has shape \(12, 16, 2\), normals need"),
        ("val/depth/0.npy", lambda v: np.concatenate([v, v], -1), r"0\.npy: has shape \(12, 16, 2\), not"),
    ],
)
def test_wrong_files_are_named(folders: Path, cache: Path, where: str, change, message: str) -> None:
    spoil(folders / where, change)
    with pytest.raises(InputError, match=message) as caught:
        load(folders, cache)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_or_are_missing(folders: Path, cache: Path) -> None:
    file = folders / "train" / "depth" / "4.npy"
    whole = file.read_bytes()
    file.write_bytes(whole[:200])
    with pytest.raises(InputError, match=r"train/depth/4\.npy: not a readable \.npy file"):
        load(folders, cache)
    file.unlink()
    with pytest.raises(InputError, match="'train/4' is in image but not in depth; every frame needs all of them"):
        load(folders, cache)
    file.write_bytes(whole)
    (folders / "train" / "normal" / "99.npy").write_bytes(whole)
    with pytest.raises(InputError, match="'train/99' is in normal but not in image"):
        load(folders, cache)


def test_frames_without_labels_are_kept_and_told_but_a_split_needs_some(folders: Path, cache: Path) -> None:
    for i in range(10):
        spoil(folders / "val" / "depth" / f"{i}.npy", np.zeros_like)
    data = load(folders, cache)
    assert any("10 frames have no label of depth anywhere" in note and "val/0" in note for note in data.notes)
    spoil(folders / "val" / "depth" / "10.npy", np.zeros_like)
    with pytest.raises(InputError, match="no pixel of the test split is labelled for task 'depth'"):
        load(folders, cache)
    assert len(load(folders, cache, tasks=("normals",))) == 35


def test_large_sets_are_read_when_asked_for(folders: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = load(folders, cache)
    monkeypatch.setattr("reprkit.data.frame_sets.KEEP_LIMIT", 1000)
    lazy = load(folders, cache)
    assert any("decoded whenever they are asked for" in note for note in lazy.notes)
    assert (lazy.fingerprint, lazy.transform_fingerprint) == (kept.fingerprint, kept.transform_fingerprint)
    rows = np.array([3, 30, 0])
    assert np.array_equal(lazy.images[rows], kept.images[rows])
    for name, values in kept.targets.items():
        assert np.array_equal(lazy.targets[name][rows], values[rows], equal_nan=True)
    (folders / "train" / "depth" / "3.npy").unlink()
    with pytest.raises(InputError, match=r"train/depth/3\.npy: not a readable"):
        lazy.targets["depth"][rows]


def test_normals_whose_axes_are_unknown_are_not_turned(folders: Path, cache: Path) -> None:
    with pytest.raises(InputError, match="axes of nyuv2's are not published"):
        load(folders, cache, augment="scale_rotate_flip")
    assert load(folders, cache, augment="scale_rotate_flip", tasks=("depth",))


@pytest.fixture
def mat(tmp_path: Path) -> Path:
    """nyu_depth_v2_labeled.mat as MATLAB writes it: axes reversed, cells as references."""
    stream = np.random.RandomState(1)
    path = tmp_path / "official" / "nyu_depth_v2_labeled.mat"
    path.parent.mkdir()
    with h5py.File(path, "w", userblock_size=512) as file:
        file["images"] = stream.randint(256, size=(20, 3, W, H)).astype(np.uint8)
        file["labels"] = stream.randint(0, 895, size=(20, W, H)).astype(np.uint16)
        file["depths"] = stream.uniform(0.7, 9, size=(20, W, H)).astype(np.float32)
        cells = file.create_dataset("scenes", (1, 20), dtype=h5py.ref_dtype)
        for i in range(20):
            name = f"kitchen_{i // 2:04d}"
            file[f"#refs#/{i}"] = np.array([[ord(c)] for c in name], dtype=np.uint16)
            cells[0, i] = file[f"#refs#/{i}"].ref
    mapping = stream.randint(1, 41, size=(1, 894)).astype(np.uint8)
    savemat(path.parent / "classMapping40.mat", {"mapClass": mapping})
    savemat(
        path.parent / "splits.mat",
        {
            "trainNdxs": np.arange(1, 15, dtype=np.uint16)[:, None],
            "testNdxs": np.arange(15, 21, dtype=np.uint16)[:, None],
        },
    )
    return path


def test_the_publishers_file(mat: Path, cache: Path) -> None:
    data = load(mat.parent, cache)
    assert [t.name for t in data.tasks] == ["segmentation", "depth"]
    assert data.ids.tolist() == [f"{i:04d}" for i in range(1, 21)]
    assert data.ids[data.rows("test")].tolist() == [f"{i:04d}" for i in range(15, 21)]
    mapping = loadmat(mat.parent / "classMapping40.mat")["mapClass"].ravel()
    with h5py.File(mat) as file:
        for i in (0, 7, 19):
            assert np.array_equal(data.images[i], file["images"][i].swapaxes(1, 2))
            assert np.array_equal(data.targets["depth"][i], file["depths"][i].T)
            for y, x in ((0, 0), (3, 5), (11, 15)):
                number = int(file["labels"][i, x, y])
                expected = -1 if number == 0 else CLASS_OF_40[mapping[number - 1] - 1]
                assert data.targets["segmentation"][i, y, x] == expected
    sides = {int(name) // 2 + int(name) % 2: set() for name in data.ids}
    for name, side in zip(data.ids.tolist(), data.split.tolist(), strict=True):
        sides[int(name) // 2 + int(name) % 2].add(side)
    assert all(len(found) == 1 for found in sides.values())  # rooms stay on one side
    assert load(mat, cache).fingerprint == data.fingerprint
    assert load(mat, cache, tasks=("depth",)).fingerprint == data.fingerprint


def test_what_must_lie_beside_it(mat: Path, cache: Path) -> None:
    (mat.parent / "splits.mat").unlink()
    data = load(mat, cache)
    assert "no splits.mat" in data.split_rule
    assert any("put splits.mat beside" in note for note in data.notes)
    (mat.parent / "classMapping40.mat").unlink()
    with pytest.raises(InputError, match=r"classMapping40\.mat: does not exist; segmentation needs"):
        load(mat, cache)
    assert [t.name for t in load(mat, cache, tasks=("depth",)).tasks] == ["depth"]
    with pytest.raises(InputError, match="has no task 'normals'; choose from segmentation, depth"):
        load(mat, cache, tasks=("normals",))


def test_wrong_companions(mat: Path, cache: Path) -> None:
    savemat(mat.parent / "splits.mat", {"trainNdxs": np.arange(1, 15), "testNdxs": np.arange(14, 21)})
    with pytest.raises(InputError, match=r"splits\.mat: trainNdxs and testNdxs do not name each of the 20 frames once"):
        load(mat, cache)
    savemat(mat.parent / "classMapping40.mat", {"mapClass": np.full((1, 894), 41)})
    with pytest.raises(InputError, match=r"classMapping40\.mat: mapClass goes beyond 1 to 40"):
        load(mat, cache)
    (mat.parent / "classMapping40.mat").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"classMapping40\.mat: has no usable variable mapClass"):
        load(mat, cache)
    mat.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"nyu_depth_v2_labeled\.mat: not a readable MATLAB 7\.3 file"):
        load(mat, cache)


def test_no_data_at_all(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(InputError, match="name it with --data"):
        load_nyuv2(None, (H, W))
    with pytest.raises(InputError, match="does not exist"):
        load(tmp_path / "nowhere", cache)
    with pytest.raises(InputError, match="holds neither train/ nor nyu_depth"):
        load(tmp_path, cache)


SAMPLES = Path(os.environ.get("REPRKIT_NYUV2_SAMPLES") or "no-samples")


@pytest.mark.skipif(not (SAMPLES / "class13Mapping.mat").is_file(), reason="no official frames of NYUv2")
def test_official_frames(tmp_path: Path, cache: Path) -> None:
    """Official frames (PNG) in MTAN's form give what the PNGs say, and the mapping is the published one."""
    published = loadmat(SAMPLES / "class13Mapping.mat")["classMapping13"][0, 0]
    assert (published["labels13"].ravel() - 1).tolist() == list(CLASS_OF_40)
    assert tuple(str(name[0]) for name in published["classNames"].ravel()) == CLASSES

    def png(name: str) -> np.ndarray:
        return np.asarray(Image.open(SAMPLES / name))

    seg40, seg13 = png("0433_seg40.png").astype(int), png("0433_seg13.png").astype(int)
    table = np.array([*CLASS_OF_40, *[-1] * 216])
    assert np.array_equal(table[seg40], seg13 - 1)

    arrays = {
        "image": png("0433_rgb.png") / 255,
        "label": seg13 - 1.0,
        "depth": png("0433_depth_u16.png")[..., None] / 5000,
        "normal": png("0433_normal.png") / 255 * 2 - 1,
    }
    for part, count in (("train", 8), ("val", 1)):
        for folder, values in arrays.items():
            (tmp_path / part / folder).mkdir(parents=True)
            for i in range(count):
                np.save(tmp_path / part / folder / f"{i}.npy", values)
    data = load(tmp_path, cache, (288, 384))
    normals, depth = data.targets["normals"][0].astype(np.float64), data.targets["depth"][0]
    known = np.isfinite(normals).all(0)
    assert 0.7 < known.mean() < 0.85
    assert np.allclose(np.linalg.norm(normals, axis=0)[known], 1, atol=2e-3)
    assert np.array_equal(unit_vectors(np.zeros((3, 2, 2))), np.full((3, 2, 2), np.nan), equal_nan=True)
    assert np.isnan(depth).mean() == pytest.approx((arrays["depth"] == 0).mean(), abs=0.01)
    assert np.nanmax(depth) == pytest.approx(29649 / 5000, abs=0.05)
    # The first component is what mirroring negates: it must point sideways, along the image's rows, as depth says.
    rows, columns = np.mgrid[:288, :384] * 640 / 384
    points = np.stack([(columns - 325.6) * depth / 518.9, (rows - 253.7) * depth / 519.5, depth])
    across, down = points[:, :, 8:] - points[:, :, :-8], points[:, 8:] - points[:, :-8]
    surface = np.cross(down[:, :, 4:-4], across[:, 4:-4], axis=0)
    surface /= np.linalg.norm(surface, axis=0)
    inner = normals[:, 4:-4, 4:-4]
    good = np.isfinite(surface).all(0) & np.isfinite(inner).all(0)
    assert np.corrcoef(inner[0][good], surface[0][good])[0, 1] > 0.7
    assert np.median(np.abs(inner[0] - surface[0])[good]) < 0.15
