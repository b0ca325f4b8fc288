"""Small image folders and tables to load."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def draw(seed: int, side: int = 12, mode: str = "RGB", kind: str = "png") -> bytes:
    """An encoded picture of random pixels."""
    values = np.random.RandomState(seed).randint(256, size=(side, side, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).convert(mode).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def picture() -> Callable[..., bytes]:
    """`picture(seed, side=12, mode="RGB", kind="png")`: an encoded picture of random pixels."""
    return draw


def face_names(count: int) -> list[str]:
    """Well-formed UTKFace names over all bins, genders and ethnicities."""
    return [f"{(7 * i) % 80}_{i % 2}_{i % 5}_201701{10 + i % 20}{i:09d}.jpg.chip.jpg" for i in range(count)]


@pytest.fixture
def faces(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder of 60 faces, plus the files given by name."""

    def write(extra: Mapping[str, bytes] | None = None, *, count: int = 60, below: str = "UTKFace") -> Path:
        folder = tmp_path / "faces" / below
        folder.mkdir(parents=True, exist_ok=True)
        for i, name in enumerate(face_names(count)):
            (folder / name).write_bytes(draw(i))
        for name, blob in (extra or {}).items():
            (folder / name).write_bytes(blob)
        return tmp_path / "faces"

    return write


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """Writes a CSV of `count` pictures with the columns image, colour, size, weight; columns can be replaced.

    None as a column drops it.
    """

    def write(columns: Mapping[str, Sequence[object] | None] | None = None, *, count: int = 60) -> Path:
        folder = tmp_path / "table"
        (folder / "images").mkdir(parents=True, exist_ok=True)
        for i in range(count):
            (folder / "images" / f"{i:03d}.png").write_bytes(draw(1000 + i))
        content: dict[str, Sequence[object] | None] = {
            "image": [f"images/{i:03d}.png" for i in range(count)],
            "colour": [("red", "green", "blue")[i % 3] for i in range(count)],
            "size": [i % 4 for i in range(count)],
            "weight": [round(i * 0.37, 2) for i in range(count)],
            **(columns or {}),
        }
        content = {k: v for k, v in content.items() if v is not None}
        path = folder / "labels.csv"
        with open(path, "w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle)
            writer.writerow(content)
            writer.writerows(zip(*content.values(), strict=True))
        return path

    return write
