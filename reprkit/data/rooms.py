"""The embedded default of the dense half: generated indoor scenes with exact segmentation, depth and normals.

Every pixel is the surface that the ray through its centre meets first, so labels, depth and normals hold exactly.
Scenes depend on their index alone; training, validation and test have indices of their own.

    segmentation  13 classes (`scenes.CLASSES`)
    depth         metres along the optical axis
    normals       unit vectors in camera axes: x right, y down, z ahead; they face the camera
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from reprkit.data.base import ImageDataset, split_fingerprint
from reprkit.data.cache import kept_arrays
from reprkit.data.raycast import F32, Camera, first_hits, pattern, room_exit, surface
from reprkit.data.scenes import CEILING, CLASSES, FLOOR, VERSION, WALL, Scene, make_scene
from reprkit.files import json_digest
from reprkit.tasks import Task

COUNT = 1200
"""Training scenes unless told otherwise."""

FIRST = (0, 1_000_000, 2_000_000)
"""Index of the first scene of train, val and test."""

NOISE = 0.015
"""Standard deviation of the sensor's noise, of brightness in 0..1."""

SPLIT_RULE = "scenes of their own by index: train from 0, val from 1,000,000, test from 2,000,000"
TASKS = (
    Task("segmentation", "segmentation", len(CLASSES), CLASSES),
    Task("depth", "depth", 1, unit="m"),
    Task("normals", "normals", 3),
)


@dataclass(frozen=True)
class View:
    """One rendered scene of H x W pixels.

    Attributes:
        image: uint8 [3, H, W].
        segmentation: int8 [H, W].
        depth: float32 [H, W], metres along the optical axis.
        normals: float32 [3, H, W], camera axes.
    """

    image: NDArray[np.uint8]
    segmentation: NDArray[np.int8]
    depth: F32
    normals: F32


def load_rooms(size: tuple[int, int] = (96, 128), count: int = 0, cache_dir: Path | None = None) -> ImageDataset:
    """Rendered scenes with tasks segmentation, depth and normals; rendered once, then read from the cache.

    Args:
        size: (height, width) of the images.
        count: training scenes; 0 means 1,200. A sixth as many are for validation, a third for test.
        cache_dir: see `reprkit.data.cache.cache_root`.
    """
    train = count or COUNT
    counts = (train, max(1, train // 6), max(1, train // 3))
    indices = np.concatenate([first + np.arange(n) for first, n in zip(FIRST, counts, strict=True)])
    split = np.repeat(np.arange(3, dtype=np.uint8), counts)
    content = json_digest(["rooms", VERSION, list(size), list(counts)])
    found = kept_arrays("rooms", content, lambda: _render_all(indices, size), cache_dir)
    ids = np.array([f"room{index:07d}" for index in indices])
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    return ImageDataset(
        name="rooms",
        tasks=TASKS,
        images=found["image"],
        targets={task.name: found[task.name] for task in TASKS},
        ids=ids,
        split=split,
        mean=mean,
        std=std,
        fingerprint=content,
        split_fingerprint=split_fingerprint(ids, split),
        transform_fingerprint=json_digest({"size": list(size), "mean": mean, "std": std}),
        split_rule=SPLIT_RULE,
    )


def render(index: int, size: tuple[int, int]) -> View:
    """The view of a scene.

    Args:
        index: number of the scene.
        size: (height, width).
    """
    scene = make_scene(index)
    height, width = size
    rays = scene.camera.rays(size)
    ways = (rays @ scene.camera.rotation).astype(np.float32)  # z = 1 in camera axes: distances along them are depths
    origin = scene.camera.position.astype(np.float32)
    room = scene.size.astype(np.float32)
    far, face = room_exit(origin[None], ways, room)
    hits = first_hits(scene.solids, origin, ways)
    on_solid = hits.distance < far
    depth = np.where(on_solid, hits.distance, far)
    points = origin + depth[:, None] * ways
    label, albedo, normal, glow = _room(scene, face, points)
    if on_solid.any():
        solid = hits.solid[on_solid]
        normal[on_solid], place = surface(scene.solids, solid, points[on_solid])
        bright = pattern(scene.solids.texture[solid], place, scene.solids.scale[solid])
        albedo[on_solid] = scene.solids.colour[solid] * bright[:, None]
        label[on_solid], glow[on_solid] = scene.solids.label[solid], scene.solids.glow[solid]
    shade = np.maximum(_light(scene, points, normal), glow)
    colour = albedo * shade[:, None]
    colour += np.random.default_rng([VERSION, index]).normal(0, NOISE, colour.shape)
    pixels = 255 * np.clip(colour, 0, 1) ** (1 / 2.2)
    in_camera = normal @ scene.camera.rotation.T.astype(np.float32)
    return View(
        np.ascontiguousarray(np.rint(pixels).astype(np.uint8).reshape(height, width, 3).transpose(2, 0, 1)),
        label.astype(np.int8).reshape(size),
        depth.reshape(size).astype(np.float32),
        np.ascontiguousarray(in_camera.reshape(height, width, 3).transpose(2, 0, 1), dtype=np.float32),
    )


def camera(index: int) -> Camera:
    """The camera of a scene, for projecting its depth back into space."""
    return make_scene(index).camera


def _room(scene: Scene, face: NDArray[np.int64], points: F32) -> tuple[NDArray[np.int64], F32, F32, F32]:
    """Label, albedo, inward normal and glow of the room's own surfaces at points on given faces."""
    axis = face % 3
    rows = np.arange(len(face))
    normal = np.zeros((len(face), 3), np.float32)
    normal[rows, axis] = np.where(face >= 3, -1, 1)
    label = np.select([face == 1, face == 4], [FLOOR, CEILING], WALL)
    along = points[rows, np.where(axis == 0, 2, 0)]
    up = np.where(axis == 1, points[:, 2], points[:, 1])
    part = np.select([face == 1, face == 4], [0, 1], 2)
    scale = np.asarray(scene.scales, np.float32)[part]
    place = np.stack([along, up], axis=1)
    bright = pattern(np.asarray(scene.textures)[part], place, scale)
    albedo = scene.colours[part].astype(np.float32) * bright[:, None]
    glow = np.zeros(len(face), np.float32)
    for panel in scene.panels:
        on = (face == panel.face) & ((place >= panel.low) & (place <= panel.high)).all(axis=1)
        label[on], albedo[on], glow[on] = panel.label, panel.colour, panel.glow
    return label, albedo, normal, glow


def _light(scene: Scene, points: F32, normal: F32) -> F32:
    """Brightness of each point: ambient light, and what of the lamps' light is not in shadow."""
    total = np.full(len(points), scene.ambient, np.float32)
    lifted = points + np.float32(2e-3) * normal
    for x, y, z, power in scene.lights.astype(np.float32):
        way = np.array([x, y, z], np.float32) - lifted
        squared = (way * way).sum(axis=1)
        facing = (way * normal).sum(axis=1) / np.sqrt(squared)
        lit = np.flatnonzero(facing > 0)
        clear = first_hits(scene.solids, lifted[lit], way[lit]).distance >= 1
        total[lit] += power * facing[lit] / (1 + squared[lit]) * clear
    return total


def _render_all(indices: NDArray[np.int64], size: tuple[int, int]) -> dict[str, NDArray]:
    height, width = size
    count = len(indices)
    made: dict[str, NDArray] = {
        "image": np.empty((count, 3, height, width), np.uint8),
        "segmentation": np.empty((count, height, width), np.int8),
        "depth": np.empty((count, height, width), np.float32),
        "normals": np.empty((count, 3, height, width), np.float32),
    }

    def one(row: int) -> None:
        view = render(int(indices[row]), size)
        for name, array in made.items():
            array[row] = getattr(view, name)

    with ThreadPoolExecutor(2) as pool, tqdm(total=count, desc="rooms: rendering", unit="image", disable=None) as bar:
        for _ in pool.map(one, range(count)):
            bar.update()
    return made
