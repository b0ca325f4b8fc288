"""Where encoded images lie: loose files or a tar. Nothing is ever extracted to disk."""

from __future__ import annotations

import tarfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from reprkit.errors import InputError
from reprkit.files import json_digest

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
MAX_BYTES = 256 * 2**20
"""Files above this size are not read: no image of a training set is that large."""


class Source(Protocol):
    """Named blobs that can be read again and again."""

    @property
    def label(self) -> str:
        """Its path, for messages."""
        ...

    def identity(self) -> str:
        """A digest that changes when the files do, from paths, sizes and times of change; reads no content."""
        ...

    def blobs(self, keys: Collection[str] | None = None) -> Iterator[tuple[str, bytes]]:
        """(key, content) of the images with the given keys (None: of all), in any order."""
        ...


class FileSource:
    """Loose files under keys of the caller's choice."""

    def __init__(self, label: str, files: Mapping[str, Path]) -> None:
        self._label = label
        self.files = dict(files)

    @property
    def label(self) -> str:
        """The folder or table the files come from."""
        return self._label

    def identity(self) -> str:
        """Digest of keys, paths, sizes and times of change."""
        records = []
        for key, path in self.files.items():
            try:
                stat = path.stat()
            except OSError as error:
                raise _unreadable(path, error) from None
            records.append([key, str(path.absolute()), stat.st_size, stat.st_mtime_ns])
        return json_digest(sorted(records))

    def blobs(self, keys: Collection[str] | None = None) -> Iterator[tuple[str, bytes]]:
        """(key, content) of each file; an oversized file comes as an empty blob, which no decoder accepts."""
        wanted = None if keys is None else set(keys)
        for key, path in self.files.items():
            if wanted is None or key in wanted:
                try:
                    yield key, b"" if path.stat().st_size > MAX_BYTES else path.read_bytes()
                except OSError as error:
                    raise _unreadable(path, error) from None


class TarSource:
    """The image members of a tar, keyed by their names inside it; a member is read, never extracted."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def label(self) -> str:
        """Path of the tar."""
        return str(self.path)

    def identity(self) -> str:
        """Digest of path, size and time of change."""
        stat = self.path.stat()
        return json_digest([str(self.path.absolute()), stat.st_size, stat.st_mtime_ns])

    def blobs(self, keys: Collection[str] | None = None) -> Iterator[tuple[str, bytes]]:
        """(member name, content) in the tar's order; links, devices and folders are passed over."""
        wanted = None if keys is None else set(keys)
        try:
            with tarfile.open(self.path) as tar:
                for member in tar:
                    if member.isreg() and is_image_name(member.name) and (wanted is None or member.name in wanted):
                        handle = tar.extractfile(member)
                        yield member.name, b"" if handle is None or member.size > MAX_BYTES else handle.read()
                # tarfile takes a cut between two members for the end; a whole tar has a block of zeros there.
                if tar.fileobj is not None and tar.fileobj.tell() < tar.offset + tarfile.BLOCKSIZE:
                    raise tarfile.ReadError("it ends in the middle")
        except (tarfile.TarError, EOFError, OSError) as error:
            raise InputError(f"{self.path}: not a readable tar ({error}); copy it again") from None


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be read ({error.strerror}); mend or remove the file")


def is_image_name(name: str) -> bool:
    """True for names of image files; hidden ones (such as `._x.jpg` of macOS archives) do not count."""
    last = name.rsplit("/", 1)[-1]
    return not last.startswith(".") and last.lower().endswith(IMAGE_SUFFIXES)


def images_below(folder: Path) -> dict[str, Path]:
    """Every image file below `folder`, keyed by its path relative to it with forward slashes, sorted."""
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if is_image_name(p.name) and p.is_file()}
    return dict(sorted(found.items()))
