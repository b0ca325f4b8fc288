"""Procedural textures: brightness as a function of a place on a surface."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

PLAIN, CHECKER, STRIPES, NOISE, WOOD = range(5)
"""Textures of a material."""


def pattern(texture: NDArray[np.int64], place: NDArray[Any], scale: NDArray[Any]) -> NDArray[np.float32]:
    """Brightness [M], in about 0.5..1.1.

    Args:
        texture: [M] one of the textures above.
        place: [2, M] on the surface, metres.
        scale: [M] size of the pattern, metres.
    """
    bright = np.ones(len(texture), np.float32)
    for kind, painted in ((CHECKER, _checker), (STRIPES, _stripes), (NOISE, _cloudy), (WOOD, _wood)):
        own = np.flatnonzero(texture == kind)
        if len(own):
            u, v = place[:, own] / scale[own]
            bright[own] = painted(u, v)
    return bright


def _checker(u: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(0.72 + 0.28 * ((np.floor(u) + np.floor(v)) % 2))


def _stripes(u: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(0.8 + 0.2 * np.sign(np.sin(2 * np.pi * u)))


def _cloudy(u: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(0.75 + 0.3 * _value_noise(2 * u, 2 * v))


def _wood(u: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(0.8 + 0.2 * np.sin(2 * np.pi * (u + 0.7 * _value_noise(u, 0.2 * v))))


def _value_noise(u: NDArray[Any], v: NDArray[Any]) -> NDArray[np.float32]:
    """Smooth noise in 0..1: random values on a lattice, interpolated."""
    a, b = np.floor(u).astype(np.int64), np.floor(v).astype(np.int64)
    s, t = u - a, v - b
    s, t = s * s * (3 - 2 * s), t * t * (3 - 2 * t)
    column, row = a.astype(np.uint32), b.astype(np.uint32)
    low = _hash(column, row) * (1 - s) + _hash(column + 1, row) * s
    high = _hash(column, row + 1) * (1 - s) + _hash(column + 1, row + 1) * s
    return np.asarray(low * (1 - t) + high * t, np.float32)


def _hash(a: NDArray[np.uint32], b: NDArray[np.uint32]) -> NDArray[np.float32]:
    """A value in 0..1 for each point of the lattice; products wrap at 32 bits."""
    mixed = a * np.uint32(374761393) + b * np.uint32(668265263)
    mixed = (mixed ^ (mixed >> 13)) * np.uint32(1274126177)
    return ((mixed ^ (mixed >> 16)) & 0xFFFF).astype(np.float32) / np.float32(65535)
