"""Dense encoders: pixel samples of maps in a file, from a data set that is read lazily, resumed to the same bytes."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reprkit.analysis import compare
from reprkit.analysis.probes import probe_with_predictions
from reprkit.analysis.universal.score import universality
from reprkit.data.augment import normalise
from reprkit.data.base import ImageDataset
from reprkit.embeddings import Embeddings, describe, fingerprint_file, verify
from reprkit.errors import InputError
from reprkit.recipe import EmbedConfig, ProbeConfig, Recipe, UniversalityConfig
from reprkit.tasks import Task
from reprkit.training import controls, embedder
from reprkit.training.file_rows import READ_IMAGES, pixel_rows
from reprkit.training.positions import Positions

SIZE, COUNT = (24, 36), 6
TASKS = (
    Task("seg", "segmentation", 3, ("floor", "wall", "lamp")),
    Task("depth", "depth", 1, unit="m"),
    Task("normals", "normals", 3),
    Task("edges", "edges", 1),
    Task("scene", "classification", 2),
)
CONFIG = EmbedConfig(positions=COUNT, batch_size=5)
SPLIT = np.array([0] * 14 + [1] * 6 + [2] * 9, np.uint8)


@dataclass(frozen=True)
class Lazy:
    """An array whose rows are read when asked for, a few at a time."""

    rows: np.ndarray
    most: ClassVar[int] = READ_IMAGES

    @property
    def shape(self):
        return self.rows.shape

    @property
    def dtype(self):
        return self.rows.dtype

    @property
    def ndim(self):
        return self.rows.ndim

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, rows):
        found = self.rows[rows]
        assert len(found) <= self.most, "more images than a batch were read at once"
        return found


@pytest.fixture(scope="module")
def scenes():
    """Stripes of two brightnesses; every task can be read off the image, and some pixels have no target."""
    rng = np.random.default_rng(0)
    n, (height, width) = len(SPLIT), SIZE
    images = np.repeat(rng.integers(256, size=(n, 3, height // 6, width // 6), dtype=np.uint8), 6, 2).repeat(6, 3)
    bright = images.mean(axis=1)
    seg = np.digitize(bright, [100, 150]).astype(np.int8)
    depth = (bright / 50 + 1).astype(np.float32)
    normals = np.stack([bright - 128, np.full_like(bright, 40), images[:, 0] - 100.0], axis=1)
    normals = (normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32)
    edges = (rng.random((n, height, width)) < 0.3).astype(np.int8)
    seg[rng.random(seg.shape) < 0.2], edges[:3] = -1, -1
    depth[rng.random(depth.shape) < 0.3] = np.nan
    normals[np.broadcast_to((rng.random((n, 1, height, width)) < 0.1), normals.shape)] = np.nan
    targets = {"seg": Lazy(seg), "depth": Lazy(depth), "normals": Lazy(normals), "edges": Lazy(edges)}
    targets["scene"] = rng.integers(2, size=n)
    return ImageDataset(
        name="scenes", tasks=TASKS, images=Lazy(images), targets=targets, ids=np.array([f"s{i}#x" for i in range(n)]),
        split=SPLIT, mean=(0.5,) * 3, std=(0.25,) * 3, fingerprint="d", split_fingerprint="s",
        transform_fingerprint="t", split_rule="by hand",
    )  # fmt: skip


class Dense(nn.Module):
    """An encoder of stride 4 with a BatchNorm, and a 1 x 1 head a dense task; the scene has a pooled head."""

    dim = 8

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, self.dim, 5, stride=4, padding=2), nn.BatchNorm2d(self.dim), nn.Tanh())
        self.heads = nn.ModuleDict({task.name: nn.Conv2d(self.dim, task.num_outputs, 1) for task in TASKS[:4]})
        self.heads["scene"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(self.dim, 2))

    def encode(self, images):
        return (images, self.body(images))

    def features(self, z):
        return z[1]


@pytest.fixture
def checkpoint(monkeypatch, tmp_path, scenes):
    """A path that is read as a checkpoint of the model."""
    meta = {
        "tasks": [task.to_json() for task in TASKS],
        "method": "vanilla",
        "seed": 3,
        "recipe": {},
        "epoch": 1,
        "step": 1,
        "val_score": None,
        "image_shape": [3, *SIZE],
        "fingerprints": {"dataset": "d", "split": "s", "transform": "t"},
    }

    def load(file):
        model = Dense().eval()
        for head in model.heads.values():  # all heads read the last of the encoder's maps
            head.register_forward_pre_hook(lambda module, inputs: (inputs[0][1],))
        return model, meta

    monkeypatch.setattr(embedder, "load_checkpoint", load)
    monkeypatch.setattr(embedder, "find_checkpoint", lambda path, which="best": path)
    return tmp_path / "best.safetensors"


@pytest.fixture
def dumped(checkpoint, scenes, tmp_path):
    return embedder.embed(checkpoint, tmp_path / "e.h5", dataset=scenes, config=CONFIG)


def test_rows_are_pixels_of_upsampled_maps(dumped, scenes):
    verify(dumped)
    model, positions = Dense().eval(), Positions(COUNT, *SIZE)
    with Embeddings(dumped) as file:
        assert file.groups == "#"
        assert "groups    one for each id up to '#'" in describe(dumped)
        names = ["seg", "depth", "normals.x", "normals.y", "normals.z", "edges", "scene"]
        assert list(file.tasks) == list(file.trained_tasks) == names
        assert file.meta["provenance"]["positions"] == positions.record()
        assert file.fingerprints["transform"] == positions.fingerprint("t")
        for split in ("train", "val", "test"):
            rows = scenes.rows(split)
            ids = file.ids(split)
            assert list(ids) == list(positions.ids(scenes.ids[rows]))
            places = [(i, *map(int, name.rpartition("#")[2].split(","))) for i, name in enumerate(ids)]
            which = np.array([(row // COUNT, y, x) for row, y, x in places]).T
            images = normalise(torch.from_numpy(scenes.images.rows[rows]), scenes.mean, scenes.std)
            with torch.no_grad():
                z = model.body(images)
                whole = {"z": z} | {name: model.heads[name](z) for name in ("seg", "depth", "normals", "edges")}
                scene = model.heads["scene"](z).numpy()
            read = {}
            for name, maps in whole.items():
                maps = F.interpolate(maps, SIZE, mode="bilinear", align_corners=False).numpy()
                read[name] = maps[which[0], :, which[1], which[2]]
            near = {"rtol": 1e-3, "atol": 1e-5}
            np.testing.assert_allclose(file.z(split), read["z"], **near)
            np.testing.assert_allclose(file.logits(split, "seg"), read["seg"], **near)
            np.testing.assert_allclose(file.logits(split, "edges")[:, 1], read["edges"][:, 0], **near)
            assert not file.logits(split, "edges")[:, 0].any()
            np.testing.assert_allclose(file.logits(split, "scene"), scene[which[0]], **near)
            depth, unit = file.tasks["depth"], read["normals"] / np.linalg.norm(read["normals"], axis=1, keepdims=True)
            assert depth.unit == "m"
            np.testing.assert_allclose(file.logits(split, "depth") * depth.std + depth.mean, read["depth"], **near)
            for i, axis in enumerate("xyz"):
                task = file.tasks[f"normals.{axis}"]
                own = file.logits(split, task.name)[:, 0] * task.std + task.mean
                np.testing.assert_allclose(own, unit[:, i], rtol=1e-3, atol=1e-4)
            truth = {name: values.rows[rows] for name, values in scenes.targets.items() if name != "scene"}
            for name in ("seg", "edges", "depth"):
                np.testing.assert_array_equal(file.targets(split, name), truth[name][tuple(which)])
            for i, axis in enumerate("xyz"):
                expected = truth["normals"][which[0], i, which[1], which[2]]
                np.testing.assert_array_equal(file.targets(split, f"normals.{axis}"), expected)
            np.testing.assert_array_equal(file.targets(split, "scene"), scenes.targets["scene"][rows][which[0]])
        values = file.targets("train", "depth")
        assert file.tasks["depth"].mean == pytest.approx(np.nanmean(values))
        assert file.tasks["depth"].std == pytest.approx(np.nanstd(values))


def test_pixels_without_a_target_are_left_out_of_their_task(dumped):
    config = ProbeConfig(probes=("linear", "ncm"), bootstrap=50)
    with Embeddings(dumped) as file:
        result = probe_with_predictions(file, config=config, progress=False)
        truth = {name: file.targets("test", name) for name in file.tasks}
        known = {name: int(file.tasks[name].valid(values).sum()) for name, values in truth.items()}
        measured = universality(file, config=UniversalityConfig(num_dummies=4, bootstrap=20), progress=False)
    assert 0 < known["depth"] < len(truth["depth"])
    assert 0 < known["seg"] < len(truth["seg"])
    counts = result.frame.groupby("task")["n_test"].first().to_dict()
    assert counts == known
    assert measured.set_index("task")["n"].to_dict() == known
    for name, table in result.predictions.items():
        assert set(table["group"]) <= {f"s{i}#x" for i in np.flatnonzero(SPLIT == 2)}, name
    best = result.frame.query("task == 'depth' and probe == 'linear' and metric == 'r2'").iloc[0]
    assert best["value"] > 0.3
    assert best["low"] < best["value"] < best["high"]
    assert not result.frame.query("probe == 'head'").empty


@pytest.mark.parametrize("stop", range(7))
def test_killed_at_any_batch_gives_the_same_bytes(stop, checkpoint, dumped, scenes, tmp_path, monkeypatch):
    """Chunks are cut to 7 rows, so that they end within an image."""
    monkeypatch.setattr("reprkit.embeddings.format.CHUNK_BYTES", 7 * 4 * Dense.dim)
    whole = embedder.embed(checkpoint, tmp_path / "whole.h5", dataset=scenes, config=CONFIG)
    encode, left = embedder._encode, [stop]

    def killed(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return encode(*arguments)

    out = tmp_path / "cut.h5"
    monkeypatch.setattr(embedder, "_encode", killed)
    with pytest.raises(KeyboardInterrupt):
        embedder.embed(checkpoint, out, dataset=scenes, config=CONFIG)
    monkeypatch.setattr(embedder, "_encode", encode)
    assert out.with_name("cut.h5.partial").exists()
    calls = []
    monkeypatch.setattr(embedder, "_encode", lambda *a: calls.append(1) or encode(*a))
    embedder.embed(checkpoint, out, dataset=scenes, config=CONFIG)
    assert fingerprint_file(out) == fingerprint_file(whole)
    assert len(calls) <= 7 - max(stop - 1, 0)


class InThreads:
    """Two ranks that are threads of this process."""

    world = 2

    def __init__(self, rank, box, barrier):
        self.rank, self.is_first, self.box, self.barrier = rank, rank == 0, box, barrier

    def gather(self, value):
        self.barrier.wait()
        self.box[self.rank] = value
        self.barrier.wait()
        return [self.box[0], self.box[1]] if self.is_first else []

    def from_first(self, value):
        self.barrier.wait()
        self.box[self.rank] = value
        self.barrier.wait()
        return self.box[0]


def test_ranks_share_the_batches(checkpoint, dumped, scenes, tmp_path, monkeypatch):
    mine, box, barrier, encode, done = threading.local(), {}, threading.Barrier(2, timeout=60), embedder._encode, []
    monkeypatch.setattr("reprkit.training.dump.joined", lambda: mine.ranks)
    monkeypatch.setattr(embedder, "_encode", lambda *a: done.append(mine.ranks.rank) or encode(*a))
    wanted = []
    monkeypatch.setattr("reprkit.training.dump.pixel_rows",
                        lambda *a, **k: wanted.append(mine.ranks.rank) or pixel_rows(*a, **k))  # fmt: skip

    def run(rank):
        mine.ranks = InThreads(rank, box, barrier)
        return embedder.embed(checkpoint, tmp_path / "ranks.h5", dataset=scenes, config=CONFIG, progress=False)

    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(run, range(2)))
    assert wanted == [0]  # only the writer reads targets
    assert sorted(done) == [0] * 4 + [1] * 3
    assert fingerprint_file(paths[1]) == fingerprint_file(dumped)


def test_other_positions_are_not_comparable(checkpoint, dumped, scenes, tmp_path):
    other = embedder.embed(checkpoint, tmp_path / "o.h5", dataset=scenes, config=replace(CONFIG, positions=COUNT + 1))
    same = embedder.embed(checkpoint, tmp_path / "s.h5", dataset=scenes, config=CONFIG)
    assert fingerprint_file(same) == fingerprint_file(dumped)
    with pytest.raises(InputError, match="their transform fingerprints differ"):
        compare(dumped, other, progress=False)
    with pytest.raises(InputError, match="ids are only in"):
        compare(dumped, other, different_transform=True, progress=False)


def test_too_many_positions(checkpoint, scenes):
    with pytest.raises(InputError, match=r"embed\.positions: 865 should be at most the 864 pixels"):
        embedder.embed(checkpoint, dataset=scenes, config=replace(CONFIG, positions=865))


def test_float16_and_bf16(checkpoint, dumped, scenes, tmp_path):
    half = embedder.embed(checkpoint, tmp_path / "h.h5", dataset=scenes, config=replace(CONFIG, dtype="float16"))
    brain = embedder.embed(checkpoint, tmp_path / "b.h5", dataset=scenes, config=replace(CONFIG, precision="bf16"))
    with Embeddings(dumped) as a, Embeddings(half) as b, Embeddings(brain) as c:
        np.testing.assert_allclose(a.z("test"), b.z("test"), rtol=2e-3, atol=1e-3)
        assert 0 < np.abs(a.z("test") - c.z("test")).max() < 0.05


def test_large_images_make_small_batches(checkpoint, scenes, tmp_path, monkeypatch):
    sizes, encode = [], embedder._encode
    monkeypatch.setattr(
        embedder, "_encode", lambda m, s, rows, *rest: sizes.append(len(rows)) or encode(m, s, rows, *rest)
    )
    monkeypatch.setattr("reprkit.training.dump.LARGE", 3 * SIZE[0] * SIZE[1] + 5)
    embedder.embed(checkpoint, tmp_path / "l.h5", dataset=scenes, config=CONFIG)
    assert max(sizes) == 3


def test_controls_are_read_at_the_same_pixels(dumped, scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(controls, "build_model", lambda *arguments: Dense())
    found = controls.embed_controls(scenes, Recipe(name="r"), tmp_path / "controls", config=CONFIG, device="cpu")
    images = normalise(torch.from_numpy(scenes.images.rows[scenes.rows("test")]), scenes.mean, scenes.std)
    with Embeddings(dumped) as file, Embeddings(found["pixels"]) as pixels, Embeddings(found["random_init"]) as random:
        for control in (pixels, random):
            assert control.groups == "#"
            assert control.fingerprints["transform"] == file.fingerprints["transform"]
            for split in file.splits:
                np.testing.assert_array_equal(control.ids(split), file.ids(split))
                for name in file.tasks:
                    np.testing.assert_array_equal(control.targets(split, name), file.targets(split, name))
            assert control.tasks == file.tasks
        assert pixels.dim == 3 * 64
        wide = F.pad(images, (8, 8, 8, 8), mode="reflect")
        for i, (name, patch) in enumerate(zip(file.ids("test"), pixels.z("test"), strict=True)):
            row, column = map(int, name.rpartition("#")[2].split(","))
            window = F.avg_pool2d(wide[i // COUNT, :, row : row + 16, column : column + 16], 2)
            np.testing.assert_allclose(patch, window.flatten().numpy(), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(random.z("test"), file.z("test"), rtol=1e-4, atol=1e-5)  # the model is untrained
        assert "16 x 16 pixels around each position" in pixels.meta["provenance"]["layer"]
    table = compare(dumped, found["pixels"], tasks=["depth"], probes=["linear"], parts=["probes"], progress=False)
    assert table["low"].notna().all()
