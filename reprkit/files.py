"""Writing files so that a kill at any moment leaves either the old file or the new one."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import platform
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprkit.errors import InputError

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    import pandas as pd


_STALE = 3600.0  # seconds after which no writer is still at work on a temporary file


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed to disk and renamed to `path`.

    If the body raises, the temporary file is removed and `path` is left as it was.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):  # of a process that was killed
        if time.time() - leftover.stat().st_mtime > _STALE:
            leftover.unlink(missing_ok=True)
    temporary = target.with_name(f".{target.name}.{platform.node()}-{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        temporary.chmod(0o666 & ~_umask())  # some writers create files that only the owner can read
        os.replace(temporary, target)
        sync_directory(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder for the body (POSIX; elsewhere nothing is done).

    Raises:
        InputError: another process is at work there.
    """
    if fcntl is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder}: another process is at work there; wait for it or change --out") from None
        yield


def check_out_folder(path: str | os.PathLike[str], option: str = "--out") -> None:
    """Refuse a folder to write to that cannot be one, before the work is done.

    Raises:
        InputError: the path or a parent of it is a file, or cannot be written to.
    """
    nearest = Path(path).absolute()
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise InputError(f"{option}: {nearest} is a file; name a folder")
    if not os.access(nearest, os.W_OK):
        raise InputError(f"{option}: {nearest} cannot be written to; name another folder")


def check_out_file(path: str | os.PathLike[str], option: str = "--out") -> None:
    """Refuse a file to write to that cannot be one, before the work is done.

    Raises:
        InputError: the path is a folder, or its parent cannot be one or be written to.
    """
    if Path(path).is_dir():
        raise InputError(f"{option}: {path} is a folder; name a file in it")
    check_out_folder(Path(path).parent, option)


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value


def sync_directory(path: Path) -> None:
    """Flush a directory entry to disk, where the platform can (POSIX)."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` (UTF-8) to `path` in one step."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, in one step."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def write_frame(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a table as CSV, in one step and with the same bytes for the same content."""
    with replacing(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")


def json_digest(value: Mapping[str, Any] | list[Any] | str) -> str:
    """SHA-256 (hex) of the canonical JSON form of `value`: the same for equal content, whatever the key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def slug(text: str) -> str:
    """A name safe as one path component: letters of any script, digits, `+ - _ . , =`; never empty or a dot name.

    Where characters had to go, a digest of the text is appended, so that different texts keep different names.
    """
    cleaned = re.sub(r"[^\w+.,=-]+", "-", text).strip(".-")[:80]
    if cleaned == text:
        return text
    return f"{cleaned or 'unnamed'}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
