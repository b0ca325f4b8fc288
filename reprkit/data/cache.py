"""Decode once: pixels in a memory-mapped .npy, and what a pass over the files learned in JSON beside it.

Every file is written whole and then renamed, so a kill leaves either no entry or a good one, and two processes
that build the same entry at once write the same bytes. An entry that does not match its record is rebuilt.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import PIL
from tqdm import tqdm

from reprkit.data.decode import DECODER, BrokenImage, decode_rgb
from reprkit.data.sources import Source
from reprkit.environment import usable_cores
from reprkit.errors import InputError
from reprkit.files import json_digest, replacing, slug, write_text

FORMAT = 1
MAX_BROKEN = 0.05
"""Share of broken images above which a data set is refused."""

_CHUNK = 2**20
_CHECKED_CHUNKS = 1024
_BATCH = 256
_STALE_SECONDS = 3600.0
T = TypeVar("T")


def cache_root(cache_dir: Path | None = None) -> Path:
    """`cache_dir`, else $REPRKIT_CACHE, else $XDG_CACHE_HOME/reprkit, else ~/.cache/reprkit."""
    if cache_dir is not None:
        return Path(cache_dir)
    if os.environ.get("REPRKIT_CACHE"):
        return Path(os.environ["REPRKIT_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "reprkit"


def scan(source: Source, name: str, cache_dir: Path | None = None) -> dict[str, str]:
    """SHA-256 (hex) of every image of a source, by key; remembered as long as `source.identity()` holds."""
    identity = source.identity()
    path = cache_root(cache_dir) / f"{slug(name)}-scan-{identity[:24]}.json"
    record = _read_record(path)
    if record.get("identity") == identity and isinstance(record.get("digests"), dict):
        return {str(key): str(value) for key, value in record["digests"].items()}
    bar = tqdm(source.blobs(), desc=f"{name}: reading", unit="image", disable=None, leave=False)
    digests = {key: hashlib.sha256(blob).hexdigest() for key, blob in bar}
    _store(path, {"identity": identity, "digests": digests})
    return digests


def pixels(
    source: Source, keys: Sequence[str], digests: Sequence[str], side: int, name: str, cache_dir: Path | None = None
) -> tuple[np.ndarray, dict[str, str]]:
    """Decoded images of a source, as a read-only memory map.

    Args:
        source: where the encoded images are.
        keys: [N] which ones, in the order of the result.
        digests: [N] SHA-256 of their contents: with `side` and the decoder, the name of the cache entry.
        side: pixels of their sides.
        name: data set, for file names and the progress bar.
        cache_dir: see `cache_root`.

    Returns:
        uint8 [N - broken, 3, side, side] without the broken ones, and broken key -> reason.

    Raises:
        InputError: more than 5% of the images are broken, or the cache folder cannot be written.
    """
    content = json_digest([FORMAT, DECODER, PIL.__version__, side, list(zip(keys, digests, strict=True))])
    target = cache_root(cache_dir) / f"{slug(name)}-{side}px-{content[:24]}.npy"
    record = _read_record(target.with_suffix(".json"))
    found = _open_checked(target, record, content)
    if found is None:
        record = _build(source, keys, side, name, target, content)
        found = _open_checked(target, record, content)
        if found is None:
            raise InputError(f"{target}: the cache did not hold what was written; check the disk or set REPRKIT_CACHE")
    broken = {str(key): str(reason) for key, reason in record["broken"].items()}
    if len(broken) > MAX_BROKEN * len(keys):
        key, reason = next(iter(broken.items()))
        raise InputError(
            f"{source.label}: {len(broken):,} of {len(keys):,} images are broken, such as {key} ({reason}); "
            "copy the data again or leave those files out"
        )
    return found, broken


def kept_arrays(
    name: str, content: str, build: Callable[[], dict[str, np.ndarray]], cache_dir: Path | None = None
) -> dict[str, np.ndarray]:
    """Arrays that are made once, as read-only memory maps.

    Args:
        name: data set, for file names.
        content: digest of all that decides them, the name of the cache entry.
        build: makes them; called where there is no sound entry.
        cache_dir: see `cache_root`.

    Raises:
        InputError: the cache folder cannot be written.
    """
    stem = cache_root(cache_dir) / f"{slug(name)}-{content[:24]}"
    record_file = stem.with_name(stem.name + ".json")
    record = _read_record(record_file)
    found = _open_all(stem, record, content)
    if found is None:
        sums = {}
        try:
            stem.parent.mkdir(parents=True, exist_ok=True)
            for key, array in build().items():
                target = stem.with_name(f"{stem.name}-{key}.npy")
                _remove_stale(target)
                with replacing(target) as temporary:
                    with open(temporary, "wb") as handle:
                        np.save(handle, array, allow_pickle=False)
                    sums[key] = _checksums(temporary)
        except OSError as error:
            raise _unwritable(stem.parent, error) from None
        record = {"content": content, "arrays": sums}
        _store(record_file, record)
        found = _open_all(stem, record, content)
        if found is None:
            raise InputError(f"{stem}: the cache did not hold what was written; check the disk or set REPRKIT_CACHE")
    return found


def _open_all(stem: Path, record: dict[str, Any], content: str) -> dict[str, np.ndarray] | None:
    """The memory maps of `kept_arrays` if the files are what their record says, else None."""
    if record.get("content") != content or not isinstance(record.get("arrays"), dict):
        return None
    found = {}
    try:
        for key, sums in record["arrays"].items():
            path = stem.with_name(f"{stem.name}-{slug(key)}.npy")
            if _checksums(path, sums) is None:
                return None
            found[key] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, TypeError, EOFError):
        return None
    return found


def _build(source: Source, keys: Sequence[str], side: int, name: str, target: Path, content: str) -> dict[str, Any]:
    row_of = {key: row for row, key in enumerate(keys)}
    stride = 3 * side * side
    reasons: dict[str, str] = {}

    def decode(item: tuple[str, bytes]) -> tuple[str, np.ndarray | str]:
        key, blob = item
        try:
            return key, decode_rgb(blob, side)
        except BrokenImage as error:
            return key, str(error)

    def work(handle: BinaryIO) -> None:
        start = _write_header(handle, (len(keys), 3, side, side))
        bar = tqdm(total=len(keys), desc=f"{name}: decoding to {side} px", unit="image", disable=None, leave=False)
        with bar, ThreadPoolExecutor(min(4, usable_cores())) as pool:
            for batch in _batches(source.blobs(row_of), _BATCH):
                for key, image in pool.map(decode, batch):
                    if isinstance(image, str):
                        reasons[key] = image
                    else:
                        handle.seek(start + row_of[key] * stride)
                        handle.write(image.tobytes())
                bar.update(len(batch))
        _close_gaps(handle, start, stride, [row for row, key in enumerate(keys) if key not in reasons])
        handle.seek(0)
        _write_header(handle, (len(keys) - len(reasons), 3, side, side))

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(target)
        with replacing(target) as temporary:
            with open(temporary, "w+b") as handle:
                work(handle)
            checks = _checksums(temporary)
    except OSError as error:
        raise _unwritable(target.parent, error) from None
    record = {"content": content, "crc32": checks, "broken": {k: reasons[k] for k in keys if k in reasons}}
    _store(target.with_suffix(".json"), record)
    return record


def _write_header(handle: BinaryIO, shape: tuple[int, ...]) -> int:
    # NumPy pads its header for a growing first axis, so that it can be rewritten in place.
    np.lib.format.write_array_header_1_0(handle, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return handle.tell()


def _close_gaps(handle: BinaryIO, start: int, stride: int, good: list[int]) -> None:
    """Move the good rows to the front, in order, and cut the file after them."""
    for place, row in enumerate(good):
        if place != row:
            handle.seek(start + row * stride)
            image = handle.read(stride)
            handle.seek(start + place * stride)
            handle.write(image)
    handle.truncate(start + len(good) * stride)


def _open_checked(path: Path, record: dict[str, Any], content: str) -> np.ndarray | None:
    """The memory map if the file is what its record says, else None."""
    if record.get("content") != content or not isinstance(record.get("broken"), dict):
        return None
    try:
        if _checksums(path, record["crc32"]) is None:
            return None
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    return array if array.dtype == np.uint8 and array.ndim == 4 else None


def _checksums(path: Path, expected: Sequence[int] | None = None) -> list[int] | None:
    """CRC-32 of every MiB of a file; or, given the expected ones, None unless they hold.

    Above 1 GiB a check reads an even sample of 1,024 chunks, first and last included; the size is always checked.
    """
    size = path.stat().st_size
    count = -(-size // _CHUNK)
    if expected is not None and (len(expected) != count + 1 or expected[-1] != size):
        return None
    chosen = range(count)
    if expected is not None and count > _CHECKED_CHUNKS:
        chosen = np.unique(np.linspace(0, count - 1, _CHECKED_CHUNKS).astype(int)).tolist()
    sums = []
    with open(path, "rb") as handle:
        for chunk in chosen:
            handle.seek(chunk * _CHUNK)
            sums.append(zlib.crc32(handle.read(_CHUNK)))
            if expected is not None and sums[-1] != expected[chunk]:
                return None
    return [*sums, size]


def _store(path: Path, record: dict[str, Any]) -> None:
    body = json.dumps(record, separators=(",", ":"))
    head = json.dumps({"format": FORMAT, "sha256": hashlib.sha256(body.encode()).hexdigest()})
    try:
        write_text(path, f"{head}\n{body}")
    except OSError as error:
        raise _unwritable(path.parent, error) from None


def _read_record(path: Path) -> dict[str, Any]:
    """A record written by `_store`; empty if there is none or it is damaged."""
    try:
        head, body = path.read_text(encoding="utf-8").split("\n", 1)
        stamp = json.loads(head)
        if stamp != {"format": FORMAT, "sha256": hashlib.sha256(body.encode()).hexdigest()}:
            return {}
        record = json.loads(body)
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _remove_stale(target: Path) -> None:
    """Remove what killed processes left behind; a living writer touches its file all the time."""
    for leftover in target.parent.glob(f".{target.name}.*.tmp"):
        try:
            if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
                leftover.unlink()
        except OSError:
            continue


def _unwritable(folder: Path, error: OSError) -> InputError:
    reason = error.strerror or str(error)
    return InputError(f"{folder}: the cache cannot be written ({reason}); set REPRKIT_CACHE to a folder with room")


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
