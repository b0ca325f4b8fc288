"""UTKFace: names, duplicates, folders and tars, on made-up faces."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reprkit.data import load_dataset
from reprkit.data.base import ImageDataset
from reprkit.data.utkface import Face, parse_name
from reprkit.errors import InputError
from reprkit.recipe import DataConfig


def load(root: Path | str | None, cache: Path, **options: object) -> ImageDataset:
    config = {"name": "utkface", "image_size": 8, "root": None if root is None else str(root), **options}
    return load_dataset(DataConfig(**config), cache)


def pack(folder: Path, target: Path, *, reverse: bool = False, mode: str = "w") -> Path:
    with tarfile.open(target, mode) as tar:
        for path in sorted(folder.rglob("*.jpg"), reverse=reverse):
            tar.add(path, f"UTKFace/{path.name}")
    return target


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("23_1_4_20170103212350123.jpg.chip.jpg", Face(23, 1, 4, False)),
        ("100_0_0_20170112213500903.jpg", Face(100, 0, 0, False)),
        ("24_0_1_20170116220224657 .jpg.chip.jpg", Face(24, 0, 1, True)),
        ("55_0_0_20170116232725357jpg.chip.jpg", Face(55, 0, 0, True)),
        ("14_0_0_2017011022340900.jpg.chip.jpg", Face(14, 0, 0, True)),
        ("39_1_20170116174525125.jpg.chip.jpg", "a field is missing from the name"),
        ("61_20170116174525125.jpg", "a field is missing from the name"),
        ("portrait.jpg", "the name carries no labels"),
        ("23_2_4_20170103212350123.jpg", "a label in the name is out of range"),
        ("23_1_5_20170103212350123.jpg", "a label in the name is out of range"),
        ("999_1_1_20170103212350123.jpg", "a label in the name is out of range"),
    ],
)
def test_names(name: str, expected: Face | str) -> None:
    assert parse_name(name) == expected


@pytest.mark.parametrize(
    ("age", "bin_"), [(0, 0), (1, 0), (9, 0), (10, 1), (19, 1), (20, 2), (59, 5), (60, 6), (116, 6)]
)
def test_age_bins_are_left_closed(age: int, bin_: int) -> None:
    assert Face(age, 0, 0, False).labels[0] == bin_


def test_a_folder_of_faces(faces: Callable[..., Path], cache: Path) -> None:
    data = load(faces(), cache)
    assert data.images.shape == (60, 3, 8, 8)
    assert [(t.name, t.kind, t.num_outputs) for t in data.tasks] == [
        ("age", "ordinal", 7),
        ("gender", "classification", 2),
        ("ethnicity", "classification", 5),
    ]
    for row, name in enumerate(data.ids.tolist()):
        age, gender, race = map(int, name.split("_")[:3])
        assert [data.targets[t][row] for t in ("age", "gender", "ethnicity")] == [min(age // 10, 6), gender, race]
    assert all(len(data.rows(split)) for split in ("train", "val", "test"))
    assert data.skipped == ()


def test_age_in_years_is_a_regression_standardised_on_train(faces: Callable[..., Path], cache: Path) -> None:
    data = load(faces(), cache, tasks=("age_years", "gender"))
    assert [t.name for t in data.tasks] == ["age_years", "gender"]
    years = data.targets["age_years"]
    assert years.tolist() == [float(name.split("_")[0]) for name in data.ids]
    train = years[data.rows("train")]
    assert (data.tasks[0].mean, data.tasks[0].std) == (train.mean(), train.std())
    assert data.fingerprint == load(faces(), cache).fingerprint


def test_folder_and_tar_in_any_order_are_one_data_set(faces: Callable[..., Path], tmp_path: Path, cache: Path) -> None:
    folder = faces()
    (tmp_path / "within").mkdir()
    sets = [
        load(folder, cache),
        load(folder / "UTKFace", tmp_path / "other cache"),
        load(pack(folder, tmp_path / "a.tar"), cache),
        load(pack(folder, tmp_path / "within" / "utkface.tar", reverse=True).parent, cache),
        load(pack(folder, tmp_path / "b.tar.gz", mode="w:gz"), cache),
    ]
    for other in sets[1:]:
        assert (other.fingerprint, other.split_fingerprint) == (sets[0].fingerprint, sets[0].split_fingerprint)
        assert np.array_equal(other.images, sets[0].images)
        assert np.array_equal(other.split, sets[0].split)


def test_malformed_broken_and_odd_files_are_reported_by_name(
    faces: Callable[..., Path], cache: Path, picture: Callable[..., bytes]
) -> None:
    root = faces(
        {
            "39_1_20170116174525125.jpg.chip.jpg": picture(900),
            "40_1_2_20170116174525125.jpg.chip.jpg": picture(901)[:60],
            "24_0_1_20170116220224657 .jpg.chip.jpg": picture(902),
            "41_0_1_20170116220224111.jpg": picture(903, mode="L"),
            "._41_0_1_20170116220224111.jpg": b"left by macOS",
            "readme.txt": b"hello",
        }
    )
    data = load(root, cache)
    assert len(data) == 62
    assert data.skipped == (
        ("39_1_20170116174525125.jpg.chip.jpg", "a field is missing from the name"),
        ("40_1_2_20170116174525125.jpg.chip.jpg", "damaged image (OSError)"),
    )
    assert any("24_0_1_20170116220224657 .jpg" in note for note in data.notes)
    grey = data.images[data.ids.tolist().index("41_0_1_20170116220224111.jpg")]
    assert np.array_equal(grey[0], grey[1])
    assert "39_1_20170116174525125" in data.summary()


def test_exact_duplicates_share_a_side(faces: Callable[..., Path], cache: Path, picture: Callable[..., bytes]) -> None:
    copies = {f"30_1_2_2017012017000{j}{i:04d}.jpg": picture(500 + i) for i in range(30) for j in range(3)}
    data = load(faces(copies), cache)
    side = dict(zip(data.ids.tolist(), data.split.tolist(), strict=True))
    for i in range(30):
        assert len({side[f"30_1_2_2017012017000{j}{i:04d}.jpg"] for j in range(3)}) == 1
    assert len(set(data.split[[n in copies for n in data.ids.tolist()]].tolist())) == 3
    assert any("60 images repeat a face (60 exactly)" in note for note in data.notes)


def test_duplicates_that_disagree_are_skipped_unless_the_bin_is_the_same(
    faces: Callable[..., Path], cache: Path, picture: Callable[..., bytes]
) -> None:
    root = faces(
        {
            "25_0_1_20170120170000001.jpg": picture(500),
            "35_0_1_20170120170000002.jpg": picture(500),
            "25_0_1_20170120170000003.jpg": picture(501),
            "26_0_1_20170120170000004.jpg": picture(501),
        }
    )
    data = load(root, cache)
    reason = "duplicates of this face disagree on a label"
    assert data.skipped == (("25_0_1_20170120170000001.jpg", reason), ("35_0_1_20170120170000002.jpg", reason))
    assert len(data) == 62


def write_manifest(root: Path, **columns: Callable[[str, int], object]) -> None:
    names = sorted(p.name for p in root.rglob("*.jpg"))
    rows = [["file", *columns], *([n, *(str(make(n, i)) for make in columns.values())] for i, n in enumerate(names))]
    (root / "manifest.csv").write_text("\n".join(",".join(row) for row in rows) + "\n")


def test_a_manifest_joins_groups_and_marks_rows(faces: Callable[..., Path], cache: Path) -> None:
    root = faces()
    names = sorted(p.name for p in root.rglob("*.jpg"))
    conflicted, bad = names[3], names[50]
    write_manifest(
        root,
        group=lambda n, i: i // 10 if i >= 10 else f"alone {i}",
        status=lambda n, i: "dup_conflict" if n == conflicted else "bad_name" if n == bad else "ok",
        age=lambda n, i: 1000,  # labels come from names
    )
    for name in names[10:]:  # one answer a group, or they would be conflicts
        path = next(root.rglob(name))
        path.rename(path.with_name("33_1_1_" + name.split("_", 3)[3]))
    write_manifest(
        root,
        group=lambda n, i: i // 10 if n.startswith("33_1_1") else f"alone {i}",
        status=lambda n, i: "dup_conflict" if n == conflicted else "bad_name" if i == 59 else "ok",
    )
    ordered = sorted(p.name for p in root.rglob("*.jpg"))
    data = load(root, cache)
    assert dict(data.skipped)[conflicted] == "duplicates of this face disagree on a label"
    assert dict(data.skipped)[ordered[59]] == "the manifest marks its name as bad"
    side = dict(zip(data.ids.tolist(), data.split.tolist(), strict=True))
    for group in range(1, 6):
        members = [n for i, n in enumerate(ordered) if i // 10 == group and n.startswith("33_1_1") and n in side]
        assert len({side[n] for n in members}) == 1


def test_a_subset_keeps_every_face_on_its_side(faces: Callable[..., Path], cache: Path) -> None:
    root = faces()
    write_manifest(root, group=lambda n, i: i, subset=lambda n, i: "half" if i % 2 else "")
    whole, half = load(root, cache), load(root, cache, subset="half")
    assert len(half) == 30
    side = dict(zip(whole.ids.tolist(), whole.split.tolist(), strict=True))
    assert all(side[n] == s for n, s in zip(half.ids.tolist(), half.split.tolist(), strict=True))
    with pytest.raises(InputError, match="data.subset: 'third' is not in .*manifest.csv; choose from half"):
        load(root, cache, subset="third")


def test_a_manifest_that_does_not_fit(faces: Callable[..., Path], cache: Path) -> None:
    root = faces()
    with pytest.raises(InputError, match="needs a manifest.csv"):
        load(root, cache, subset="half")
    (root / "manifest.csv").write_text("name,group\na,b\n")
    with pytest.raises(InputError, match="no column file"):
        load(root, cache)
    (root / "manifest.csv").write_bytes(b"file,group\n\xff\xfe,b\n")
    with pytest.raises(InputError, match="not a readable CSV"):
        load(root, cache)


def test_one_name_in_two_folders_counts_once(faces: Callable[..., Path], cache: Path) -> None:
    faces()
    root = faces(count=5, below="copy")
    data = load(root, cache)
    assert len(data) == 60
    assert len(data.skipped) == 5


def test_tar_members_never_touch_the_disk(
    faces: Callable[..., Path], tmp_path: Path, cache: Path, picture: Callable[..., bytes]
) -> None:
    target = pack(faces(), tmp_path / "utkface.tar")
    before = sorted(tmp_path.rglob("*"))
    with tarfile.open(target, "a") as tar:
        for name in ("../../23_0_1_20170120170000001.jpg", "/tmp/24_0_1_20170120170000002.jpg"):
            info = tarfile.TarInfo(name)
            blob = picture(len(name) + 5000)
            info.size = len(blob)
            tar.addfile(info, io.BytesIO(blob))
        link = tarfile.TarInfo("25_0_1_20170120170000003.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    data = load(target, cache)
    assert len(data) == 62
    assert [p for p in sorted(tmp_path.rglob("*")) if cache not in (p, *p.parents)] == before
    assert not Path("/tmp/24_0_1_20170120170000002.jpg").exists()


def test_wrong_roots_say_what_to_do(tmp_path: Path, cache: Path, picture: Callable[..., bytes]) -> None:
    with pytest.raises(InputError, match="--data"):
        load(None, cache)
    with pytest.raises(InputError, match="nowhere: does not exist.*--data"):
        load("nowhere", cache)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="neither images nor a tar.*--data"):
        load(empty, cache)
    (empty / "cat.jpg").write_bytes(picture(1))
    with pytest.raises(InputError, match="1 images, none named like <age>"):
        load(empty, cache)
    (empty / "cat.jpg").rename(empty / "23_1_1_20170120170000001.jpg")
    with pytest.raises(InputError, match="split is empty"):
        load(empty, cache)
    two = tmp_path / "two"
    two.mkdir()
    for name in ("a.tar", "b.tar"):
        (two / name).write_bytes(b"")
    with pytest.raises(InputError, match="several tars"):
        load(two, cache)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("damage", ["garbage", "empty", 1, 100, 512, 1000, 1500, 1536])
def test_unreadable_tars(faces: Callable[..., Path], tmp_path: Path, cache: Path, damage: str | int, mode: str) -> None:
    target = pack(faces(), tmp_path / "utkface.tar", mode=mode)
    with tarfile.open(target) as tar:
        half = tar.getmembers()[30].offset
    blob = target.read_bytes()
    if isinstance(damage, int):  # a copy that stopped in the middle: in a header, in content, between members
        blob = blob[: half + damage] if mode == "w" else blob[: len(blob) // 2 - damage]
    target.write_bytes({"garbage": b"no tar" * 999, "empty": b""}.get(damage, blob))
    with pytest.raises(InputError, match="utkface.tar: not a readable tar"):
        load(target, cache)
    assert not list(cache.glob("*"))


def test_too_small_an_image_size(faces: Callable[..., Path], cache: Path) -> None:
    with pytest.raises(InputError, match="data.image_size"):
        load(faces(), cache, image_size=2)
