"""PASCAL_MT, written as it is published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from reprkit.data import ImageDataset, load_dataset
from reprkit.data.boundaries import thin_boundaries
from reprkit.data.pascal_context import INDOORS, PART_OF_NAME, PARTS
from reprkit.errors import InputError
from reprkit.recipe import DataConfig

H, W = 18, 24
IDS = {"train": [f"2008_{i:06d}" for i in range(17)], "val": [f"2010_{i:06d}" for i in range(5)]}


def frame(name: str) -> dict[str, np.ndarray]:
    stream = np.random.RandomState(int(name.replace("_", "")) % 100003)
    semseg = stream.randint(21, size=(H, W)).astype(np.uint8)
    semseg[:2] = 255
    label_map = np.kron(stream.randint(1, 460, size=(3, 4)), np.ones((6, 6), dtype=int)).astype(np.uint16)
    return {
        "image": np.kron(stream.randint(256, size=(3, 4, 1)), np.ones((6, 6, 3), dtype=int)).astype(np.uint8),
        "semseg": semseg,
        "LabelMap": label_map,
        "normals": stream.randint((0, 0, 170), (256, 256, 256), size=(H, W, 3)).astype(np.uint8),
        "sal": stream.randint(256, size=(H, W)).astype(np.uint8),
    }


def struct(records: list[dict], fields: tuple[str, ...]) -> np.ndarray:
    """A MATLAB struct array [1, N]."""
    out = np.empty((1, len(records)), dtype=[(field, object) for field in fields])
    for i, record in enumerate(records):
        for field in fields:
            out[field][0, i] = record[field]
    return out


def box(top: int, bottom: int) -> np.ndarray:
    mask = np.zeros((H, W), dtype=np.uint8)
    mask[top:bottom, 5:15] = 1
    return mask


def annotation(kind: str) -> dict[str, np.ndarray]:
    """anno.objects(i).{class, class_ind, mask, parts(j).{part_name, mask}}: a person, one without parts, or a dog."""
    parts = struct([{"part_name": "head", "mask": box(0, 4)}, {"part_name": "torso", "mask": box(3, 9)},
                    {"part_name": "rlleg", "mask": box(9, 12)}], ("part_name", "mask"))  # fmt: skip
    dog = {"class": "dog", "class_ind": np.array([[12.0]]), "mask": box(0, 18),
           "parts": struct([{"part_name": "tail", "mask": box(14, 18)}], ("part_name", "mask"))}  # fmt: skip
    person = {"class": "person", "class_ind": np.array([[15.0]]), "mask": box(0, 18), "parts": parts}
    bare = {**person, "parts": np.zeros((0, 0))}
    objects = {"person": [dog, person, bare], "bare": [bare, dog], "dog": [dog]}[kind]
    whole = {"imname": "x", "objects": struct(objects, ("class", "class_ind", "mask", "parts"))}
    return {"anno": struct([whole], ("imname", "objects"))}


def kind_of(name: str) -> str:
    return ("person", "bare", "person", "dog", "person")[int(name[-1]) % 5]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    top = tmp_path / "PASCAL_MT"
    for folder in ("JPEGImages", "ImageSets/Context", "semseg/VOC12", "semseg/pascal-context", "human_parts",
                   "normals_distill", "sal_distill", "pascal-context/trainval"):  # fmt: skip
        (top / folder).mkdir(parents=True)
    for part, ids in IDS.items():
        (top / "ImageSets/Context" / f"{part}.txt").write_text("\n".join(ids) + "\n")
        for name in ids:
            truth = frame(name)
            Image.fromarray(truth["image"]).save(top / f"JPEGImages/{name}.jpg", quality=95)
            picture = Image.fromarray(truth["semseg"]).convert("P")
            picture.putdata(truth["semseg"].ravel().tolist())
            picture.putpalette([i * 37 % 256 for i in range(768)])
            first = "VOC12" if int(name[-1]) % 2 else "pascal-context"
            picture.save(top / f"semseg/{first}/{name}.png")
            if first == "VOC12":  # the other one must not be read
                Image.fromarray(np.zeros((H, W), np.uint8)).save(top / f"semseg/pascal-context/{name}.png")
            savemat(top / f"human_parts/{name}.mat", annotation(kind_of(name)))
            Image.fromarray(truth["normals"]).save(top / f"normals_distill/{name}.png")
            Image.fromarray(truth["sal"]).save(top / f"sal_distill/{name}.png")
            savemat(top / f"pascal-context/trainval/{name}.mat", {"LabelMap": truth["LabelMap"]})
    return top


def load(root: Path, cache: Path, size: tuple[int, int] = (H, W), **rest) -> ImageDataset:
    return load_dataset(DataConfig(name="pascal_context", root=str(root), image_size=size, **rest), cache)


def test_all_five_tasks(root: Path, cache: Path) -> None:
    data = load(root, cache)
    assert [(t.name, t.kind, t.num_outputs, t.weight) for t in data.tasks] == [
        ("segmentation", "segmentation", 21, 1),
        ("human_parts", "segmentation", 7, 2),
        ("normals", "normals", 3, 10),
        ("saliency", "saliency", 1, 5),
        ("edges", "edges", 1, 50),
    ]
    assert data.ids.tolist() == IDS["train"] + IDS["val"]
    assert data.ids[data.rows("test")].tolist() == IDS["val"]
    assert len(data.rows("val")) == 2
    for row, name in enumerate(data.ids.tolist()):
        truth = frame(name)
        assert np.abs(data.images[row].astype(int) - truth["image"].transpose(2, 0, 1)).mean() < 8  # a JPEG
        expected = truth["semseg"].astype(int)
        expected[expected == 255] = -1
        assert np.array_equal(data.targets["segmentation"][row], expected)
        assert np.array_equal(data.targets["saliency"][row], truth["sal"] > 127.5)
        vectors = truth["normals"] * (2 / 255) - 1
        vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
        vectors[~np.isin(truth["LabelMap"], INDOORS)] = np.nan
        found = data.targets["normals"][row].transpose(1, 2, 0)
        assert np.allclose(found, vectors, atol=1e-3, equal_nan=True)
        assert np.array_equal(data.targets["edges"][row], thin_boundaries(truth["LabelMap"]))


def test_human_parts(root: Path, cache: Path) -> None:
    data = load(root, cache, tasks=("human_parts",))
    for row, name in enumerate(data.ids.tolist()):
        found = data.targets["human_parts"][row]
        if kind_of(name) != "person":
            assert (found == -1).all()
            continue
        column = [PARTS[i] for i in found[:, 7]]
        assert column == ["head"] * 3 + ["torso"] * 6 + ["lower leg"] * 3 + ["background"] * 6
        assert not found[:, :5].any()
    assert any("have no label of human_parts anywhere" in note for note in data.notes)
    assert len(PART_OF_NAME) == 24
    assert set(PART_OF_NAME.values()) == set(range(1, 7))


def test_classes_of_normals() -> None:
    assert len(INDOORS) == len(set(INDOORS)) == 170
    assert {113, 284, 427} <= set(INDOORS)  # dog, person, tvmonitor: names that NYUv2 knows, and the one put in by hand
    assert not {2, 23, 25, 31} & {i for i in INDOORS if i != 23}  # aeroplane, bird, boat


def test_files_of_a_frame_may_differ_in_size(root: Path, cache: Path) -> None:
    file = root / f"sal_distill/{IDS['val'][0]}.png"
    Image.open(file).resize((W * 2, H * 2), Image.Resampling.NEAREST).save(file)
    assert np.array_equal(load(root, cache).targets["saliency"][17], frame(IDS["val"][0])["sal"] > 127.5)


def test_wrong_files_are_named(root: Path, cache: Path) -> None:
    name = IDS["train"][4]
    savemat(root / f"human_parts/{name}.mat", {"anno": 3})
    with pytest.raises(InputError, match=rf"human_parts/{name}\.mat: has no field 'objects'"):
        load(root, cache)
    (root / f"human_parts/{name}.mat").write_bytes(b"MATLAB")
    with pytest.raises(InputError, match=rf"human_parts/{name}\.mat: not a readable \.mat file"):
        load(root, cache)
    assert load(root, cache, tasks=("edges", "normals"))
    savemat(root / f"pascal-context/trainval/{name}.mat", {"LabelMap": np.ones((H, W + 1))})
    with pytest.raises(
        InputError, match=rf"{name}\.mat of .*normals_distill/{name}\.png: is 18 x 24, LabelMap 18 x 25"
    ):
        load(root, cache, tasks=("normals",))
    savemat(root / f"pascal-context/trainval/{name}.mat", {"Map": np.ones((H, W))})
    with pytest.raises(InputError, match=rf"trainval/{name}\.mat: has no variable LabelMap"):
        load(root, cache, tasks=("edges",))
    (root / f"sal_distill/{name}.png").unlink()
    with pytest.raises(
        InputError, match=rf"sal_distill/{name}\.png: does not exist, but ImageSets/Context lists '{name}'"
    ):
        load(root, cache)
    (root / "ImageSets/Context/val.txt").write_text("\n")
    with pytest.raises(InputError, match=r"val\.txt: holds no ids"):
        load(root, cache)
    (root / "ImageSets/Context/val.txt").unlink()
    with pytest.raises(InputError, match=r"val\.txt: no readable list of ids; point --data to the folder PASCAL_MT"):
        load(root, cache)
