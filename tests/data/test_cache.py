"""The cache: decoded once, right after any kill or damage, never in the way."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np
import pytest

from reprkit.data import cache as module
from reprkit.data.cache import cache_root, pixels, scan
from reprkit.data.decode import decode_rgb
from reprkit.data.sources import FileSource
from reprkit.errors import InputError


class Counted(FileSource):
    """A source that counts what is read."""

    reads = 0

    def blobs(self, keys: Collection[str] | None = None) -> Iterator[tuple[str, bytes]]:
        for item in super().blobs(keys):
            self.reads += 1
            yield item


@pytest.fixture
def source(tmp_path: Path, picture: Callable[..., bytes]) -> Counted:
    files = {f"{i:02d}.png": tmp_path / f"{i:02d}.png" for i in range(40)}
    for i, path in enumerate(files.values()):
        path.write_bytes(picture(i))
    return Counted("pictures", files)


def load(source: Counted, cache: Path, side: int = 12) -> tuple[np.ndarray, dict[str, str]]:
    digests = scan(source, "toy", cache)
    keys = sorted(digests)
    return pixels(source, keys, [digests[k] for k in keys], side, "toy", cache)


def expected(source: Counted, side: int = 12) -> np.ndarray:
    return np.stack([decode_rgb(source.files[key].read_bytes(), side) for key in sorted(source.files)])


def test_decoded_once_and_memory_mapped_read_only(source: Counted, cache: Path) -> None:
    images, broken = load(source, cache)
    assert np.array_equal(images, expected(source))
    assert broken == {}
    assert isinstance(images, np.memmap)
    assert not images.flags.writeable
    reads = source.reads
    again, _ = load(source, cache)
    assert source.reads == reads
    assert np.array_equal(again, images)


def test_another_size_or_content_is_another_entry(source: Counted, cache: Path, picture: Callable[..., bytes]) -> None:
    load(source, cache)
    assert load(source, cache, 16)[0].shape == (40, 3, 16, 16)
    source.files["07.png"].write_bytes(picture(777, 13))
    images, _ = load(source, cache)
    assert np.array_equal(images, expected(source))


@pytest.mark.parametrize("damage", ["truncate", "flip", "grow", "empty", "remove", "swap record", "text"])
@pytest.mark.parametrize("which", ["npy", "json"])
def test_damage_is_seen_and_mended(source: Counted, cache: Path, which: str, damage: str) -> None:
    load(source, cache)
    for path in sorted(cache.glob(f"*.{which}")):
        blob = path.read_bytes()
        middle = len(blob) // 2
        path.write_bytes(
            {
                "truncate": blob[:-5],
                "flip": blob[:middle] + bytes([blob[middle] ^ 1]) + blob[middle + 1 :],
                "grow": blob + b"\0" * 10,
                "empty": b"",
                "remove": b"",
                "swap record": b"{}\n{}",
                "text": b"no record\n\xff",
            }[damage]
        )
        if damage == "remove":
            path.unlink()
    images, broken = load(source, cache)
    assert np.array_equal(images, expected(source))
    assert broken == {}
    contents = {key: hashlib.sha256(path.read_bytes()).hexdigest() for key, path in source.files.items()}
    assert scan(source, "toy", cache) == contents


def test_broken_images_are_left_out_by_name_and_remembered(source: Counted, cache: Path) -> None:
    source.files["00.png"].write_bytes(b"not an image")
    blob = source.files["23.png"].read_bytes()
    source.files["23.png"].write_bytes(blob[:100])
    for _ in range(2):
        images, broken = load(source, cache)
        assert broken == {"00.png": "not an image", "23.png": "damaged image (OSError)"}
        whole = [key for key in sorted(source.files) if key not in broken]
        assert np.array_equal(images, np.stack([decode_rgb(source.files[k].read_bytes(), 12) for k in whole]))


def test_too_many_broken_images_are_an_error_every_time(source: Counted, cache: Path) -> None:
    for i in range(3):
        source.files[f"{i:02d}.png"].write_bytes(b"")
    for _ in range(2):
        with pytest.raises(InputError, match=r"pictures: 3 of 40 images are broken, such as 00.png"):
            load(source, cache)


def test_the_sampled_check_of_large_files_sees_both_ends(
    source: Counted, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 64)
    monkeypatch.setattr(module, "_CHECKED_CHUNKS", 5)
    load(source, cache)
    path = next(cache.glob("*.npy"))
    blob = path.read_bytes()
    for place in (3, len(blob) - 1):
        path.write_bytes(blob[:place] + bytes([blob[place] ^ 1]) + blob[place + 1 :])
        assert np.array_equal(load(source, cache)[0], expected(source))


KILLED = """
import sys, time
from pathlib import Path
from reprkit.data import cache
from reprkit.data.sources import FileSource
folder, out = map(Path, sys.argv[1:])
decode = cache.decode_rgb
def slow(blob, side):
    time.sleep(0.05)
    print("decoding", flush=True)
    return decode(blob, side)
cache.decode_rgb = slow
cache._BATCH = 4
source = FileSource("pictures", {p.name: p for p in sorted(folder.glob("*.png"))})
digests = cache.scan(source, "toy", out)
keys = sorted(digests)
print(len(cache.pixels(source, keys, [digests[k] for k in keys], 12, "toy", out)[0]))
"""


def start(source: Counted, cache: Path) -> subprocess.Popen[str]:
    folder = next(iter(source.files.values())).parent
    return subprocess.Popen([sys.executable, "-c", KILLED, folder, cache], stdout=subprocess.PIPE, text=True)


def test_a_kill_half_way_leaves_nothing_wrong(source: Counted, cache: Path) -> None:
    process = start(source, cache)
    assert process.stdout is not None
    for _ in range(12):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not list(cache.glob("*.npy"))
    leftovers = list(cache.glob(".*.tmp"))
    images, _ = load(source, cache)
    assert np.array_equal(images, expected(source))
    # What the dead process left goes away once it is old enough to be surely dead.
    assert len(leftovers) == 1
    assert leftovers[0].exists()
    os.utime(leftovers[0], (time.time() - 7200,) * 2)
    next(cache.glob("*.npy")).unlink()
    load(source, cache)
    assert not leftovers[0].exists()


def test_two_processes_at_once(source: Counted, cache: Path) -> None:
    both = [start(source, cache) for _ in range(2)]
    assert [process.communicate()[0].split()[-1] for process in both] == ["40", "40"]
    assert [process.returncode for process in both] == [0, 0]
    reads = source.reads
    assert np.array_equal(load(source, cache)[0], expected(source))
    assert source.reads == reads


def test_where_the_cache_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("REPRKIT_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_root() == tmp_path / ".cache" / "reprkit"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "reprkit"
    monkeypatch.setenv("REPRKIT_CACHE", str(tmp_path / "own"))
    assert cache_root() == tmp_path / "own"
    assert cache_root(tmp_path / "given") == tmp_path / "given"


def test_a_folder_that_cannot_be_written_says_what_to_set(source: Counted, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="REPRKIT_CACHE"):
        load(source, tmp_path / "file" / "cache")
    with pytest.raises(InputError, match="REPRKIT_CACHE"):
        pixels(source, ["00.png"], ["0"], 12, "toy", tmp_path / "file")


def test_a_file_that_vanishes_is_named(source: Counted, cache: Path) -> None:
    source.files["05.png"].unlink()
    with pytest.raises(InputError, match="05.png"):
        load(source, cache)
