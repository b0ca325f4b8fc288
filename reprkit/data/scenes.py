"""Random indoor scenes: a room with openings on its walls, furniture, lamps, a camera. Everything by index alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reprkit.data.raycast import BOX, CYLINDER, SPHERE, Camera, Solids
from reprkit.data.textures import CHECKER, NOISE, PLAIN, STRIPES, WOOD

CLASSES = (
    "floor", "ceiling", "wall", "window", "door", "picture", "table", "chair", "bed", "sofa", "cabinet", "lamp", "ball",
)  # fmt: skip
FLOOR, CEILING, WALL, WINDOW, DOOR, PICTURE, TABLE, CHAIR, BED, SOFA, CABINET, LAMP, BALL = range(len(CLASSES))
STREAM = 20241026
"""With `VERSION` and its index, all that a scene depends on."""

VERSION = 1
FURNITURE = (TABLE, CHAIR, CHAIR, BED, SOFA, CABINET, CABINET, LAMP, BALL, BALL)


@dataclass(frozen=True)
class Panel:
    """A rectangle on a wall.

    Attributes:
        face: wall: axis 0 (x) or 2 (z), plus 3 on the far side.
        low, high: corners along the wall and upwards, metres.
        label: window, door or picture.
        colour: albedo.
        glow: light that it gives off.
    """

    face: int
    low: tuple[float, float]
    high: tuple[float, float]
    label: int
    colour: NDArray[np.float64]
    glow: float


@dataclass(frozen=True)
class Scene:
    """One scene.

    Attributes:
        size: [3] of the room, metres (x, height, z).
        colours: [3, 3] albedo of floor, ceiling and walls.
        textures, scales: [3] of the same.
        panels: rectangles on the walls.
        solids: furniture.
        lights: [L, 4] positions and powers of point lights.
        ambient: light from everywhere.
        camera: where it is seen from.
    """

    size: NDArray[np.float64]
    colours: NDArray[np.float64]
    textures: tuple[int, int, int]
    scales: tuple[float, float, float]
    panels: tuple[Panel, ...]
    solids: Solids
    lights: NDArray[np.float64]
    ambient: float
    camera: Camera


@dataclass
class _Parts:
    """Solids that are being collected."""

    rows: list[tuple[Any, ...]] = field(default_factory=list)

    def add(
        self, shape: int, centre: NDArray, half: tuple[float, float, float], yaw: float, label: int, look: _Look,
        glow: float = 0.0,
    ) -> None:  # fmt: skip
        self.rows.append((shape, centre, half, yaw, label, look.colour, look.texture, look.scale, glow))

    def solids(self) -> Solids:
        columns = list(zip(*self.rows, strict=True)) if self.rows else [()] * 9
        shape, centre, half, yaw, label, colour, texture, scale, glow = columns

        def real(values: Any, *width: int) -> NDArray:
            return np.array(values, np.float32).reshape(len(self.rows), *width)

        def whole(values: Any) -> NDArray[np.int64]:
            return np.array(values, np.int64)

        return Solids(
            whole(shape), real(centre, 3), real(half, 3), real(yaw), whole(label), real(colour, 3), whole(texture),
            real(scale), real(glow),
        )  # fmt: skip


@dataclass(frozen=True)
class _Look:
    colour: NDArray[np.float64]
    texture: int = PLAIN
    scale: float = 0.3


def make_scene(index: int) -> Scene:
    """The scene of a number: the same on every machine."""
    rng = np.random.default_rng([STREAM, VERSION, index])
    size = np.array([rng.uniform(3.2, 6.5), rng.uniform(2.3, 3.1), rng.uniform(3.2, 6.5)])
    camera = _camera(rng, size)
    parts = _Parts()
    taken: list[tuple[NDArray, float]] = [(camera.position[[0, 2]], 0.7)]
    for kind in rng.permutation(FURNITURE)[: rng.integers(5, len(FURNITURE) + 1)]:
        _place(int(kind), rng, size, parts, taken)
    colours = np.stack([_colour(rng, 0.35, 0.7), _colour(rng, 0.75, 0.95, 0.08), _colour(rng, 0.5, 0.9, 0.25)])
    textures = (int(rng.choice([PLAIN, CHECKER, NOISE, WOOD])), PLAIN, int(rng.choice([PLAIN, PLAIN, STRIPES, NOISE])))
    scales = (float(rng.uniform(0.25, 0.8)), 1.0, float(rng.uniform(0.15, 0.6)))
    count = int(rng.integers(1, 3))
    places = size * rng.uniform([0.2, 0.8, 0.2], [0.8, 0.95, 0.8], (count, 3))
    lights = np.concatenate([places, rng.uniform(2.5, 5.0, (count, 1)) / count], axis=1)
    return Scene(
        size, colours, textures, scales, tuple(_panels(rng, size)), parts.solids(), lights,
        float(rng.uniform(0.25, 0.45)), camera,
    )  # fmt: skip


def _camera(rng: np.random.Generator, size: NDArray) -> Camera:
    position = size * rng.uniform([0.08, 0.0, 0.08], [0.92, 0.0, 0.25]) + [0, rng.uniform(1.1, 1.8), 0]
    if rng.random() < 0.5:
        position[2] = size[2] - position[2]
    aim = size * rng.uniform([0.3, 0, 0.35], [0.7, 0, 0.65])
    yaw = np.arctan2(*(aim - position)[[0, 2]]) + rng.normal(0, 0.15)
    pitch = rng.uniform(-0.35, 0.02)
    ahead = np.array([np.cos(pitch) * np.sin(yaw), np.sin(pitch), np.cos(pitch) * np.cos(yaw)])
    right = np.array([np.cos(yaw), 0.0, -np.sin(yaw)])
    return Camera(position, np.stack([right, np.cross(right, ahead), ahead]), float(rng.uniform(0.55, 0.85)))


def _colour(rng: np.random.Generator, low: float, high: float, spread: float = 0.45) -> NDArray[np.float64]:
    """An albedo of some brightness, more or less grey."""
    tint = rng.uniform(1 - spread, 1, 3)
    return np.asarray(rng.uniform(low, high) * tint / tint.max())


def _panels(rng: np.random.Generator, size: NDArray) -> Iterator[Panel]:
    """At most one window or door and one picture a wall, clear of each other."""
    for face in (0, 3, 2, 5):
        long = float(size[2 if face % 3 == 0 else 0])
        middle = rng.uniform(0.3, 0.7) * long
        kind = rng.choice([WINDOW, DOOR, PICTURE, WALL], p=[0.35, 0.2, 0.3, 0.15])
        if kind == WINDOW:
            half, low, high = rng.uniform(0.4, 0.9), rng.uniform(0.8, 1.0), rng.uniform(1.7, 2.1)
            yield Panel(face, (middle - half, low), (middle + half, high), WINDOW, _colour(rng, 0.8, 1, 0.15), 0.75)
        elif kind == DOOR:
            yield Panel(face, (middle - 0.45, 0.0), (middle + 0.45, 2.05), DOOR, _colour(rng, 0.3, 0.7), 0.0)
        elif kind == PICTURE:
            half, low = rng.uniform(0.2, 0.5), rng.uniform(1.2, 1.5)
            high = low + rng.uniform(0.3, 0.7)
            yield Panel(face, (middle - half, low), (middle + half, high), PICTURE, _colour(rng, 0.3, 0.9, 0.8), 0.0)


def _place(
    kind: int, rng: np.random.Generator, size: NDArray, parts: _Parts, taken: list[tuple[NDArray, float]]
) -> None:
    """Put one piece of furniture where there is room for it; in a crowded room it is left out."""
    length, depth = {
        TABLE: (rng.uniform(0.5, 0.8), rng.uniform(0.35, 0.55)),
        CHAIR: (0.23, 0.23),
        BED: (0.95, rng.uniform(0.5, 0.8)),
        SOFA: (rng.uniform(0.7, 1.0), 0.4),
        CABINET: (rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.3)),
        LAMP: (0.16, 0.16),
        BALL: (0.2, 0.2),
    }[kind]
    radius = float(np.hypot(length, depth)) * 0.85
    for _ in range(12):
        yaw = float(rng.choice([0, np.pi / 2, np.pi, -np.pi / 2]) + rng.normal(0, 0.08))
        place = rng.uniform([0, 0], size[[0, 2]])
        if kind in (CABINET, BED, SOFA):  # against a wall
            wall = int(rng.integers(4))
            axis, far = wall % 2, wall // 2
            place[axis] = size[2 * axis] - depth - 0.03 if far else depth + 0.03
            yaw = (np.pi / 2 if axis == 0 else 0.0) + (np.pi if far else 0.0)
        reach = np.array([length, depth]) if abs(np.cos(yaw)) > 0.7 else np.array([depth, length])
        inside = (place > reach).all() and (place < size[[0, 2]] - reach).all()
        if inside and all(np.hypot(*(place - other)) > radius + r for other, r in taken):
            taken.append((place, radius))
            _build(kind, rng, np.array([place[0], 0.0, place[1]]), (length, depth), yaw, parts)
            return


def _build(
    kind: int, rng: np.random.Generator, base: NDArray, half: tuple[float, float], yaw: float, parts: _Parts
) -> None:
    length, depth = half
    look = _Look(_colour(rng, 0.25, 0.85, 0.7), int(rng.choice([PLAIN, WOOD, NOISE])), float(rng.uniform(0.1, 0.4)))
    cos, sin = np.cos(yaw), np.sin(yaw)

    def at(x: float, y: float, z: float) -> NDArray:
        return base + np.array([cos * x + sin * z, y, -sin * x + cos * z])

    def box(x: float, y: float, z: float, a: float, b: float, c: float, what: _Look = look) -> None:
        parts.add(BOX, at(x, y, z), (a, b, c), yaw, kind, what)

    if kind == TABLE:
        tall = rng.uniform(0.35, 0.75)
        box(0, tall, 0, length, 0.03, depth)
        for x in (-1, 1):
            for z in (-1, 1):
                parts.add(
                    CYLINDER,
                    at(x * (length - 0.06), tall / 2, z * (depth - 0.06)),
                    (0.035, tall / 2, 0.035),
                    yaw,
                    kind,
                    look,
                )
    elif kind == CHAIR:
        box(0, 0.43, 0, 0.22, 0.025, 0.22)
        box(0, 0.7, -0.2, 0.22, 0.28, 0.02)
        for x in (-1, 1):
            for z in (-1, 1):
                box(0.19 * x, 0.21, 0.19 * z, 0.02, 0.21, 0.02)
    elif kind == BED:
        sheet = int(rng.choice([PLAIN, STRIPES, CHECKER]))
        cloth = _Look(_colour(rng, 0.5, 0.95, 0.6), sheet, float(rng.uniform(0.1, 0.3)))
        box(0, 0.17, 0, length, 0.17, depth)
        box(0, 0.42, 0, length - 0.03, 0.09, depth - 0.02, cloth)
        box(-length + 0.22, 0.56, 0, 0.16, 0.06, depth * 0.6, _Look(np.full(3, 0.9)))
    elif kind == SOFA:
        box(0, 0.21, 0, length, 0.21, depth)
        box(0, 0.55, -depth + 0.1, length, 0.3, 0.1)
        for x in (-1, 1):
            box(x * (length - 0.09), 0.46, 0, 0.09, 0.1, depth)
    elif kind == CABINET:
        tall = rng.uniform(0.35, 1.0)
        box(0, tall, 0, length, tall, depth)
    elif kind == LAMP:
        tall = rng.uniform(0.6, 0.8)
        metal, shade = _Look(_colour(rng, 0.2, 0.6, 0.2)), _Look(_colour(rng, 0.85, 1, 0.2))
        parts.add(CYLINDER, at(0, 0.015, 0), (0.14, 0.015, 0.14), yaw, kind, metal)
        parts.add(CYLINDER, at(0, tall, 0), (0.02, tall, 0.02), yaw, kind, metal)
        parts.add(CYLINDER, at(0, 2 * tall, 0), (0.16, 0.12, 0.16), yaw, kind, shade, 0.6)
    else:
        radius = float(rng.uniform(0.1, 0.2))
        lively = _Look(_colour(rng, 0.5, 1, 0.9), int(rng.choice([PLAIN, STRIPES, CHECKER])), 0.12)
        parts.add(SPHERE, at(0, radius, 0), (radius,) * 3, float(rng.uniform(0, np.pi)), kind, lively)
