"""Writing files so that a kill at any moment leaves either the old file or the new one."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        temporary.chmod(0o666 & ~_umask())  # some writers create files that only the owner can read
        os.replace(temporary, target)
        sync_directory(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


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
