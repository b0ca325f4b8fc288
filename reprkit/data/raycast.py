"""A small ray caster: boxes, upright cylinders and spheres in a box-shaped room, by NumPy, a whole image at once.

World axes are x to the right, y up, z ahead, in metres. What is seen is reported in camera axes: x to the right, y
down, z ahead along the optical axis. Many vectors are one array whose first axis is x, y, z.

Rays of one image share the camera, and shadow rays share the lamp. So a solid is tried only with rays inside the
cone around its bounding sphere, and all pairs of a solid and a ray that are left are worked out together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[Any]
"""Floating point, mostly float32."""

FAR = np.float32(1e6)
NEAR = np.float32(1e-3)
"""What lies closer than this, in lengths of the ray's direction, is not met: a surface does not shade itself."""

BOX, CYLINDER, SPHERE = range(3)
"""Shapes of a solid."""

_TINY = np.float32(1e-30)


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
        """[H * W, 3] directions through pixel centres in camera axes, with z = 1.

        Times depth they are points in camera axes, and `points @ rotation + position` is where these lie in the world.
        """
        height, width = size
        v, u = np.mgrid[0:height, 0:width] + 0.5
        x, y = (u - width / 2) / (self.focal * width), (v - height / 2) / (self.focal * width)
        return np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3)

    def intrinsics(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """[3, 3] from camera axes to pixels (u right, v down; the first pixel's centre is at 0.5, 0.5)."""
        height, width = size
        focal = self.focal * width
        return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])


@dataclass(frozen=True)
class Solids:
    """Things in a room, as arrays over n of them.

    Attributes:
        shape: [n] BOX, CYLINDER (upright) or SPHERE.
        centre: [n, 3].
        half: [n, 3] half sizes of boxes; radius, half height, radius of cylinders; radius thrice of spheres.
        yaw: [n] rotation about the vertical, radians.
        label: [n] class.
        colour: [n, 3] albedo in 0..1.
        texture: [n] one of `reprkit.data.textures`.
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

    @property
    def radius(self) -> F32:
        """[n] of bounding spheres."""
        width, height, depth = self.half.T
        box, cylinder = np.sqrt(width**2 + height**2 + depth**2), np.hypot(width, height)
        return np.select([self.shape == BOX, self.shape == CYLINDER], [box, cylinder], width)


@dataclass(frozen=True)
class Hits:
    """Where rays meet their first solid.

    Attributes:
        distance: [R] in lengths of the ray's direction; FAR where nothing is met.
        solid: [R] number of the solid, -1 where nothing is met.
    """

    distance: F32
    solid: NDArray[np.int64]


@dataclass(frozen=True)
class _Pairs:
    """M pairs of a solid and a ray that may meet, all of one shape.

    Attributes:
        solid, ray: [M] their numbers.
        start, way: [3, M] the ray in the solid's own axes.
    """

    solid: NDArray[np.int64]
    ray: NDArray[np.int64]
    start: tuple[F32, F32, F32]
    way: tuple[F32, F32, F32]


def room_exit(origin: F32, direction: F32, size: F32) -> tuple[F32, NDArray[np.int64]]:
    """Where rays from inside a room [0, size] leave it.

    Args:
        origin: [3].
        direction: [3, R].
        size: [3].

    Returns:
        Distance [R] and face [R] (axis, plus 3 on its far side).
    """
    distance, face = np.full(direction.shape[1], FAR, np.float32), np.zeros(direction.shape[1], np.int64)
    for axis, way in enumerate(direction):
        ahead = way > 0
        end = np.where(ahead, size[axis] - origin[axis], -origin[axis]) / np.where(way == 0, -_TINY, way)
        closer = end < distance
        distance, face = np.where(closer, end, distance), np.where(closer, axis + 3 * ahead, face)
    return distance, face


def first_hits(solids: Solids, origin: F32, direction: F32) -> Hits:
    """The first solid that each ray from a common origin [3] along its direction [3, R] meets, in front of it."""
    rays = direction.shape[1]
    distance, solid = np.full(rays, FAR, np.float32), np.full(rays, len(solids.shape))
    met = list(_meetings(solids, _in_cones(solids, origin, direction), origin[:, None], direction))
    for _, ray, found in met:
        np.minimum.at(distance, ray, found)
    for number, ray, found in met:
        first = found == distance[ray]
        np.minimum.at(solid, ray[first], number[first])  # of two at one distance, the one with the lower number
    return Hits(distance, np.where(distance < FAR, solid, -1))


def in_shadow(solids: Solids, points: F32, lamp: F32) -> NDArray[np.bool_]:
    """Whether a solid stands between each point [3, R] and the lamp [3]."""
    way = lamp[:, None] - points
    dark = np.zeros(points.shape[1], bool)
    for _, ray, found in _meetings(solids, _in_cones(solids, lamp, -way), points, way):
        dark[ray[found < 1]] = True
    return dark


def _in_cones(solids: Solids, apex: F32, direction: F32) -> NDArray[np.bool_]:
    """Which rays from a common apex [3] along [3, R] lie in the cone around each solid's bounding sphere: [n, R]."""
    towards = solids.centre - apex
    away = np.sqrt((towards**2).sum(axis=1)) + _TINY
    sine = np.minimum(1.001 * solids.radius / away, 1)
    cosine = np.where(sine < 1, np.sqrt(1 - sine**2) - 1e-5, -2)  # rounding must not lose a ray; inside: all of them
    x, y, z = direction
    unit = direction / np.sqrt(x * x + y * y + z * z)
    found: NDArray[np.bool_] = (towards / away[:, None]) @ unit >= cosine[:, None].astype(np.float32)
    return found


def _meetings(
    solids: Solids, near: NDArray[np.bool_], origin: F32, direction: F32
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], F32]]:
    """Solid, ray and distance of all meetings of the pairs in `near` [n, R], in front of the origin; shape by shape."""
    cos, sin = np.cos(solids.yaw), np.sin(solids.yaw)
    for shape, meet in ((BOX, _boxes), (CYLINDER, _cylinders), (SPHERE, _spheres)):
        own = np.flatnonzero(solids.shape == shape)
        which, ray = np.nonzero(near[own])
        solid = own[which]
        c, s = cos[solid], sin[solid]
        ox, oy, oz = (np.broadcast_to(origin[i], near.shape[1:])[ray] - solids.centre[solid, i] for i in range(3))
        dx, dy, dz = (direction[i][ray] for i in range(3))
        start, way = (c * ox - s * oz, oy, s * ox + c * oz), (c * dx - s * dz, dy, s * dx + c * dz)
        found = meet(solids.half, _Pairs(solid, ray, start, way))
        hit = np.flatnonzero(found < FAR)
        yield solid[hit], ray[hit], found[hit]


def _boxes(half: F32, pairs: _Pairs) -> F32:
    near, far = np.full(len(pairs.ray), -FAR, np.float32), np.full(len(pairs.ray), FAR, np.float32)
    for axis, (start, way) in enumerate(zip(pairs.start, pairs.way, strict=True)):
        inverse = 1 / np.where(way == 0, _TINY, way)
        middle, reach = -start * inverse, np.abs(half[pairs.solid, axis] * inverse)
        np.maximum(near, middle - reach, out=near)
        np.minimum(far, middle + reach, out=far)
    return np.where((near <= far) & (near > NEAR), near, FAR)


def _cylinders(half: F32, pairs: _Pairs) -> F32:
    (ox, oy, oz), (dx, dy, dz) = pairs.start, pairs.way
    radius, tall = half[pairs.solid, 0], half[pairs.solid, 1]
    a, b, c = dx**2 + dz**2, ox * dx + oz * dz, ox**2 + oz**2 - radius**2
    inside = b * b - a * c
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        side = (-b - np.sqrt(inside)) / a
        good = (inside >= 0) & (side > NEAR) & (np.abs(oy + side * dy) <= tall)
        found = np.where(good, side, FAR)
        cap = (-np.sign(dy) * tall - oy) / dy
        x, z = ox + cap * dx, oz + cap * dz
        good = (cap > NEAR) & (x * x + z * z <= radius**2)
    return np.minimum(found, np.where(good, cap, FAR))


def _spheres(half: F32, pairs: _Pairs) -> F32:
    (ox, oy, oz), (dx, dy, dz) = pairs.start, pairs.way
    a, b = dx * dx + dy * dy + dz * dz, ox * dx + oy * dy + oz * dz
    c = ox * ox + oy * oy + oz * oz - half[pairs.solid, 0] ** 2
    inside = b * b - a * c
    with np.errstate(invalid="ignore"):
        found = (-b - np.sqrt(inside)) / a
    return np.where((inside >= 0) & (found > NEAR), found, FAR)


def surface(solids: Solids, solid: NDArray[np.int64], points: F32) -> tuple[F32, F32]:
    """Where points [3, M] on given solids [M] lie on their surface.

    Returns:
        Outward normals [3, M] in the world, and places on the surface [2, M] in metres.
    """
    cos, sin = np.cos(solids.yaw)[solid], np.sin(solids.yaw)[solid]
    x, y, z = (points[i] - solids.centre[solid, i] for i in range(3))
    x, z = cos * x - sin * z, sin * x + cos * z
    normal, place = np.zeros((3, len(solid))), np.empty((2, len(solid)), np.float32)
    for shape, describe in ((BOX, _on_box), (CYLINDER, _on_cylinder), (SPHERE, _on_sphere)):
        own = np.flatnonzero(solids.shape[solid] == shape)
        if len(own):
            half = solids.half[solid[own]].T
            normal[:, own], place[:, own] = describe(np.stack([x[own], y[own], z[own]]), half)
    nx, ny, nz = normal
    return np.stack([cos * nx + sin * nz, ny, -sin * nx + cos * nz]).astype(np.float32), place


def _on_box(local: F32, half: F32) -> tuple[F32, F32]:
    axis = (np.abs(local) / half).argmax(axis=0)  # the face that the point lies on
    column = np.arange(local.shape[1])
    normal = np.zeros_like(local)
    normal[axis, column] = np.sign(local[axis, column])
    first, second = np.array([2, 0, 0])[axis], np.array([1, 2, 1])[axis]
    return normal, np.stack([local[first, column], local[second, column]])


def _on_cylinder(local: F32, half: F32) -> tuple[F32, F32]:
    capped = half[1] - np.abs(local[1]) < 1e-3 * half[1]  # its side, or a cap where that is nearer
    normal = np.where(capped, local * [[0], [1], [0]], local * [[1], [0], [1]])
    return _unit(normal), _wound(local, half)


def _on_sphere(local: F32, half: F32) -> tuple[F32, F32]:
    return _unit(local), _wound(local, half)


def _unit(vectors: F32) -> F32:
    x, y, z = vectors = vectors.astype(np.float64)
    return np.asarray(vectors / np.sqrt(x * x + y * y + z * z))


def _wound(local: F32, half: F32) -> F32:
    return np.stack([np.arctan2(local[2], local[0]) * half[0], local[1]])
