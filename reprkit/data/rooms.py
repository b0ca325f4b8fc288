"""The embedded default of the dense half: generated indoor scenes with exact segmentation, depth and normals.

Every pixel is the surface that the ray through its centre meets first, so labels, depth and normals hold exactly.
Scenes depend on their index alone; training, validation and test have indices of their own.

    segmentation  13 classes (`scenes.CLASSES`)
    depth         metres along the optical axis
    normals       unit vectors in camera axes: x right, y down, z ahead; they face the camera
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from reprkit.data.base import ImageDataset, split_fingerprint
from reprkit.data.cache import kept_arrays
from reprkit.data.raycast import F32, Camera, first_hits, in_shadow, room_exit, surface
from reprkit.data.scenes import CEILING, CLASSES, FLOOR, VERSION, WALL, Scene, make_scene
from reprkit.data.textures import pattern
from reprkit.errors import InputError
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


# Of the room's faces: near x, floor, near z, far x, ceiling, far z.
_LABEL = np.array([WALL, FLOOR, WALL, WALL, CEILING, WALL], np.int8)
_PART = np.array([2, 0, 2, 2, 1, 2])
_INWARD = np.concatenate([np.eye(3), -np.eye(3)], axis=1, dtype=np.float32)


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

    Raises:
        InputError: more training scenes than lie before the first of validation, or a cache that cannot be written.
    """
    train = count or COUNT
    if train > FIRST[1]:
        raise InputError(f"data.count: {train:,} rooms would run into those of validation; give at most {FIRST[1]:,}")
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
    rotation = scene.camera.rotation
    # z = 1 in camera axes, so that distances along rays are depths.
    ways = np.ascontiguousarray((scene.camera.rays(size) @ rotation).T, np.float32)
    origin = scene.camera.position.astype(np.float32)
    depth, face = room_exit(origin, ways, scene.size.astype(np.float32))
    hits = first_hits(scene.solids, origin, ways)
    seen = np.flatnonzero(hits.distance < depth)
    depth[seen] = hits.distance[seen]
    points = origin[:, None] + depth * ways
    label, albedo, normal, glow = _room(scene, face, points)
    if len(seen):
        solids, solid = scene.solids, hits.solid[seen]
        normal[:, seen], place = surface(solids, solid, points[:, seen])
        bright = pattern(solids.texture[solid], place, solids.scale[solid])
        albedo[:, seen] = solids.colour[solid].T * bright
        label[seen], glow[seen] = solids.label[solid], solids.glow[solid]
    colour = albedo * np.maximum(_light(scene, points, normal), glow)
    colour += np.random.default_rng([VERSION, index]).normal(0, NOISE, colour.shape[::-1]).T
    pixels = 255 * np.clip(colour, 0, 1) ** (1 / 2.2)
    in_camera = np.ascontiguousarray(normal.T) @ rotation.T.astype(np.float32)
    return View(
        np.rint(pixels).astype(np.uint8).reshape(3, height, width),
        label.reshape(size),
        depth.reshape(size),
        np.ascontiguousarray(in_camera.T, np.float32).reshape(3, height, width),
    )


def camera(index: int) -> Camera:
    """The camera of a scene, for projecting its depth back into space."""
    return make_scene(index).camera


def _room(scene: Scene, face: NDArray[np.int64], points: F32) -> tuple[NDArray[np.int8], F32, F32, F32]:
    """Label [R], albedo [3, R], inward normal [3, R] and glow [R] of the room at points [3, R] on given faces [R]."""
    x, y, z = points
    place = np.stack([np.where(face % 3 == 0, z, x), np.where(face % 3 == 1, z, y)])
    part = _PART[face]
    bright = pattern(np.asarray(scene.textures)[part], place, np.asarray(scene.scales, np.float32)[part])
    label, albedo = _LABEL[face], scene.colours.astype(np.float32).T[:, part] * bright
    glow = np.zeros(len(face), np.float32)
    for panel in scene.panels:
        on = np.flatnonzero(face == panel.face)
        corners = np.array([panel.low, panel.high])[:, :, None]
        on = on[((place[:, on] >= corners[0]) & (place[:, on] <= corners[1])).all(axis=0)]
        label[on], albedo[:, on], glow[on] = panel.label, panel.colour[:, None], panel.glow
    return label, albedo, _INWARD[:, face], glow


def _light(scene: Scene, points: F32, normal: F32) -> F32:
    """Brightness [R] of points [3, R]: ambient light, and what of the lamps' light is not in shadow."""
    total = np.full(points.shape[1], scene.ambient, np.float32)
    lifted = points + np.float32(2e-3) * normal
    for *lamp, power in scene.lights.astype(np.float32):
        place = np.array(lamp)
        x, y, z = place[:, None] - lifted
        squared = x * x + y * y + z * z
        facing = (x * normal[0] + y * normal[1] + z * normal[2]) / np.sqrt(squared)
        lit = np.flatnonzero(facing > 0)
        lit = lit[~in_shadow(scene.solids, lifted[:, lit], place)]
        total[lit] += power * facing[lit] / (1 + squared[lit])
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

    for row, index in enumerate(tqdm(indices, desc="rooms: rendering", unit="image", disable=None)):
        view = render(int(index), size)  # many small steps: threads would only wait for one another
        for name, array in made.items():
            array[row] = getattr(view, name)
    return made
