"""A small ray caster: boxes, upright cylinders and spheres in a box-shaped room, by NumPy, a whole image at once.

World axes are x to the right, y up, z ahead, in metres. What is seen is reported in camera axes: x to the right, y
down, z ahead along the optical axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[Any]
"""Floating point, mostly float32."""

FAR = np.float32(1e6)
PLAIN, CHECKER, STRIPES, NOISE, WOOD = range(5)
"""Textures of a material."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Attributes:
        position: [3] in the world.
        rotation: [3, 3] whose rows are the camera's x (right), y (down) and z (ahead) axes in the world.
        focal: focal length as a share of the image's width.
    """

    position: NDArray[np.float64]
    rotation: NDArray[np.float64]
    focal: float

    def rays(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """[H * W, 3] directions through pixel centres in camera axes, with z = 1."""
        height, width = size
        v, u = np.mgrid[0:height, 0:width] + 0.5
        x, y = (u - width / 2) / (self.focal * width), (v - height / 2) / (self.focal * width)
        return np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3)


@dataclass(frozen=True)
class Solids:
    """Things in a room, as arrays over n of them.

    Attributes:
        shape: [n] 0 box, 1 upright cylinder, 2 sphere.
        centre: [n, 3].
        half: [n, 3] half sizes of boxes; radius, half height, radius of cylinders; radius thrice of spheres.
        yaw: [n] rotation about the vertical, radians.
        label: [n] class.
        colour: [n, 3] albedo in 0..1.
        texture: [n] one of the textures above.
        scale: [n] size of the texture's pattern, metres.
        glow: [n] light that it gives off itself, 0..1.
    """

    shape: NDArray[np.int64]
    centre: F32
    half: F32
    yaw: F32
    label: NDArray[np.int64]
    colour: F32
    texture: NDArray[np.int64]
    scale: F32
    glow: F32

    def of(self, shape: int) -> NDArray[np.int64]:
        """Numbers of the solids of one shape."""
        return np.flatnonzero(self.shape == shape)


@dataclass(frozen=True)
class Hits:
    """Where rays meet their first solid.

    Attributes:
        distance: [R] in lengths of the ray's direction; FAR where nothing is met.
        solid: [R] number of the solid, -1 where nothing is met.
    """

    distance: F32
    solid: NDArray[np.int64]


def room_exit(origin: F32, direction: F32, size: F32) -> tuple[F32, NDArray[np.int64]]:
    """Where rays from inside a room [0, size] leave it: distance [R] and face [R] (axis, plus 3 on its far side)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = np.where(direction > 0, size - origin, -origin) / direction
    ends = np.where(direction == 0, FAR, ends)
    axis = ends.argmin(axis=1)
    rows = np.arange(len(axis))
    return ends[rows, axis], axis + 3 * (direction[rows, axis] > 0)


def first_hits(solids: Solids, origin: F32, direction: F32) -> Hits:
    """The first solid that each ray from `origin` [3] or [R, 3] meets, in front of it."""
    found = np.full((len(solids.shape), len(direction)), FAR, np.float32)
    for shape, meet in enumerate((_boxes, _cylinders, _spheres)):
        own = solids.of(shape)
        if len(own):
            found[own] = meet(solids, own, origin, direction)
    if not len(found):
        return Hits(np.full(len(direction), FAR, np.float32), np.full(len(direction), -1))
    solid = found.argmin(axis=0)
    distance = found[solid, np.arange(len(direction))]
    return Hits(distance, np.where(distance < FAR, solid, -1))


def _local(solids: Solids, own: NDArray[np.int64], origin: F32, direction: F32) -> tuple[list[F32], list[F32]]:
    """Origins and directions in the solids' own axes: lists of x, y, z, each [n, R] (or [n, 1])."""
    cos, sin = np.cos(solids.yaw[own])[:, None], np.sin(solids.yaw[own])[:, None]
    start = np.atleast_2d(origin)[None] - solids.centre[own][:, None]  # [n, 1 or R, 3]
    ox, oy, oz = (start[..., i] for i in range(3))
    dx, dy, dz = (direction[None, :, i] for i in range(3))
    return [cos * ox - sin * oz, oy, sin * ox + cos * oz], [cos * dx - sin * dz, dy + 0 * cos, sin * dx + cos * dz]


def _boxes(solids: Solids, own: NDArray[np.int64], origin: F32, direction: F32) -> F32:
    start, way = _local(solids, own, origin, direction)
    near = np.full((len(own), len(direction)), -FAR, np.float32)
    far = np.full_like(near, FAR)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for axis in range(3):
            inverse = np.float32(1) / way[axis]
            middle = -start[axis] * inverse
            reach = np.abs(solids.half[own][:, axis, None] * inverse)
            np.fmax(near, middle - reach, out=near)  # a ray along a face gives NaN, which is passed over
            np.fmin(far, middle + reach, out=far)
    return np.where((near <= far) & (near > 1e-3), near, FAR)


def _cylinders(solids: Solids, own: NDArray[np.int64], origin: F32, direction: F32) -> F32:
    start, way = _local(solids, own, origin, direction)
    radius, tall = solids.half[own][:, 0, None], solids.half[own][:, 1, None]
    a = way[0] ** 2 + way[2] ** 2
    b = start[0] * way[0] + start[2] * way[2]
    c = start[0] ** 2 + start[2] ** 2 - radius**2
    inside = b * b - a * c
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        side = (-b - np.sqrt(inside)) / a
        good = (inside >= 0) & (side > 1e-3) & (np.abs(start[1] + side * way[1]) <= tall)
        found = np.where(good, side, FAR)
        cap = (-np.sign(way[1]) * tall - start[1]) / way[1]
        x, z = start[0] + cap * way[0], start[2] + cap * way[2]
        good = (cap > 1e-3) & (x * x + z * z <= radius**2)
    return np.minimum(found, np.where(good, cap, FAR)).astype(np.float32)


def _spheres(solids: Solids, own: NDArray[np.int64], origin: F32, direction: F32) -> F32:
    start, way = _local(solids, own, origin, direction)
    a = sum(w * w for w in way)
    b = sum(s * w for s, w in zip(start, way, strict=True))
    c = sum(s * s for s in start) - solids.half[own][:, 0, None] ** 2
    inside = b * b - a * c
    with np.errstate(invalid="ignore"):
        found = (-b - np.sqrt(inside)) / a
    return np.where((inside >= 0) & (found > 1e-3), found, FAR).astype(np.float32)


def surface(solids: Solids, solid: NDArray[np.int64], points: F32) -> tuple[F32, F32]:
    """Outward normals [n, 3] in the world, and places on the surface [n, 2] in metres, of points on given solids."""
    half, shape = solids.half[solid], solids.shape[solid]
    cos, sin = np.cos(solids.yaw[solid]), np.sin(solids.yaw[solid])
    d = points - solids.centre[solid]
    local = np.stack([cos * d[:, 0] - sin * d[:, 2], d[:, 1], sin * d[:, 0] + cos * d[:, 2]], axis=1)
    rows = np.arange(len(solid))
    # Box: the face that the point lies on. Cylinder: its side, or a cap where that is nearer. Sphere: from the centre.
    axis = (np.abs(local) / half).argmax(axis=1)
    box = np.zeros_like(local)
    box[rows, axis] = np.sign(local[rows, axis])
    side = local * [1, 0, 1]
    capped = half[:, 1] - np.abs(local[:, 1]) < 1e-3 * half[:, 1]
    round_part = np.where(capped[:, None], local * [0, 1, 0], side)
    n = np.select([(shape == 0)[:, None], (shape == 1)[:, None]], [box, round_part], local)
    n = n / np.linalg.norm(n, axis=1, keepdims=True)
    first, second = np.array([2, 0, 0])[axis], np.array([1, 2, 1])[axis]
    flat = np.stack([local[rows, first], local[rows, second]], axis=1)
    angle = np.arctan2(local[:, 2], local[:, 0])
    wound = np.stack([angle * half[:, 0], local[:, 1]], axis=1)
    place = np.where((shape == 0)[:, None], flat, wound)
    world = np.stack([cos * n[:, 0] + sin * n[:, 2], n[:, 1], -sin * n[:, 0] + cos * n[:, 2]], axis=1)
    return world.astype(np.float32), place.astype(np.float32)


def pattern(texture: NDArray[np.int64], place: F32, scale: F32) -> F32:
    """Brightness [n] in about 0.5..1.1 of textures at places [n, 2] on their surface."""
    u, v = (place / scale[:, None]).T
    checker = 0.72 + 0.28 * ((np.floor(u) + np.floor(v)) % 2)
    stripes = 0.8 + 0.2 * np.sign(np.sin(2 * np.pi * u))
    noise = 0.75 + 0.3 * _value_noise(2 * u, 2 * v)
    wood = 0.8 + 0.2 * np.sin(2 * np.pi * (u + 0.7 * _value_noise(u, 0.2 * v)))
    return np.select([texture == k for k in (CHECKER, STRIPES, NOISE, WOOD)], [checker, stripes, noise, wood], 1.0)


def _value_noise(u: F32, v: F32) -> F32:
    """Smooth noise in 0..1: random values on a lattice, interpolated."""
    a, b = np.floor(u).astype(np.int64), np.floor(v).astype(np.int64)
    s, t = u - a, v - b
    s, t = s * s * (3 - 2 * s), t * t * (3 - 2 * t)
    low = _hash(a, b) * (1 - s) + _hash(a + 1, b) * s
    high = _hash(a, b + 1) * (1 - s) + _hash(a + 1, b + 1) * s
    return np.asarray(low * (1 - t) + high * t, np.float32)


def _hash(a: NDArray[np.int64], b: NDArray[np.int64]) -> F32:
    mixed = (a * 374761393 + b * 668265263) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 13)) * 1274126177) & 0xFFFFFFFF
    return ((mixed ^ (mixed >> 16)) & 0xFFFF).astype(np.float32) / np.float32(65535)
