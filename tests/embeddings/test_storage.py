from __future__ import annotations

import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprkit.embeddings import storage


def reference_fletcher32(content: bytes) -> int:
    """The textbook loop over big-endian words."""
    first = second = 0
    for (word,) in struct.iter_unpack(">H", content):
        first += word
        second += first
    return (second % 65535 or 65535 * bool(second)) << 16 | (first % 65535 or 65535 * bool(first))


@given(st.binary(max_size=400).filter(lambda b: len(b) % 2 == 0))
def test_checksum_agrees_with_the_textbook(content: bytes) -> None:
    assert storage.fletcher32(content) == reference_fletcher32(content)


@pytest.mark.parametrize("fill", [b"\x00\x00", b"\xff\xff", b"\x00\x01", b"\xff\xfe"])
@pytest.mark.parametrize("words", [1, 65535, 65536, 65537, 200_000])
def test_checksum_at_its_borders(fill: bytes, words: int) -> None:
    assert storage.fletcher32(fill * words) == reference_fletcher32(fill * words)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 300), dtype=st.sampled_from(["<f4", "<f2"]))
def test_checksum_agrees_with_the_library(
    tmp_path_factory: pytest.TempPathFactory, seed: int, rows: int, dtype: str
) -> None:
    path = tmp_path_factory.mktemp("f") / "x.h5"
    with h5py.File(path, "w") as file:
        made = storage.create_rows(file, "z", (rows, 3), np.dtype(dtype), chunk=rows, fill=np.nan)
        made[...] = np.random.default_rng(seed).normal(size=(rows, 3))
        file.flush()
        stored = made.id.read_direct_chunk((0, 0))[1]
    assert storage.fletcher32(stored[:-4]) == struct.unpack("<I", stored[-4:])[0]


def addresses(dataset: h5py.Dataset) -> list[tuple[int, int]]:
    infos = [dataset.id.get_chunk_info(i) for i in range(dataset.id.get_num_chunks())]
    return [(info.byte_offset, info.size) for info in infos]


def test_writing_moves_nothing_and_heals_torn_chunks(tmp_path: Path) -> None:
    path, z = tmp_path / "x.h5", np.random.default_rng(0).normal(size=(25, 4)).astype("<f4")
    with h5py.File(path, "w", libver=storage.LIBVER) as file:
        made = storage.create_rows(file, "z", z.shape, z.dtype, chunk=10, fill=np.nan)
        file.flush()
        before = addresses(made)
    size = path.stat().st_size
    assert len(before) == 3
    with open(path, "r+b") as raw:
        for offset, length in before:
            raw.seek(offset + length // 2)
            raw.write(b"torn")
    with h5py.File(path, "r+", libver=storage.LIBVER) as file:
        for start in (0, 10, 20):
            with pytest.raises(OSError):
                file["z"][start : start + 10]
            storage.write_chunk(file["z"], start, z[start : start + 10])
        np.testing.assert_array_equal(file["z"][...], z)
        assert addresses(file["z"]) == before
    assert path.stat().st_size == size
