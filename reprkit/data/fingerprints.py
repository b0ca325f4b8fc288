"""Digests of the files behind a data set.

Contents are read and hashed where that is affordable: all files of a set of up to `CONTENT_LIMIT` bytes, once, and
remembered for as long as paths, sizes and times of change hold. Of a larger set (ImageNet) the size of every file
counts, and the content of `SAMPLE` files spread evenly over it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np

from reprkit.data.cache import scan
from reprkit.data.sources import FileSource
from reprkit.errors import InputError
from reprkit.files import json_digest

CONTENT_LIMIT = 32 * 2**30
SAMPLE = 1000
_PIECE = 64 * 2**20


class PieceSource(FileSource):
    """Loose files of any size, read in pieces of 64 MiB under the keys `key#0`, `key#1`, ..."""

    def blobs(self, keys: Collection[str] | None = None) -> Iterator[tuple[str, bytes]]:
        """(piece, content) of each file."""
        for key, path in self.files.items():
            if keys is None or key in keys:
                try:
                    with open(path, "rb") as handle:
                        number = 0
                        while (piece := handle.read(_PIECE)) or number == 0:
                            yield f"{key}#{number}", piece
                            number += 1
                except OSError as error:
                    raise InputError(f"{path}: cannot be read ({error.strerror}); mend or remove the file") from None


def file_digests(
    name: str, label: str, files: Mapping[str, Path], cache_dir: Path | None = None
) -> tuple[dict[str, str], str]:
    """A digest of every file by key, and how it was made, in words that are empty where all contents were read.

    Args:
        name: data set, for file names and the progress bar.
        label: folder of the files, for messages.
        files: key -> path.
        cache_dir: see `reprkit.data.cache.cache_root`.

    Raises:
        InputError: a file cannot be read.
    """
    sizes = {}
    for key, path in files.items():
        try:
            sizes[key] = path.stat().st_size
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); mend or remove the file") from None
    return sized_digests(name, label, files, sizes, cache_dir)


def sized_digests(
    name: str, label: str, files: Mapping[str, Path], sizes: Mapping[str, int], cache_dir: Path | None = None
) -> tuple[dict[str, str], str]:
    """As `file_digests`, for files whose sizes in bytes are known already."""
    chosen, rule = list(files), ""
    if sum(sizes.values()) > CONTENT_LIMIT and len(files) > SAMPLE:
        chosen = [chosen[i] for i in np.linspace(0, len(files) - 1, SAMPLE).astype(int).tolist()]
        rule = f"the fingerprint covers the size of every file and the contents of {SAMPLE:,} of {len(files):,}"
    pieces: dict[str, list[str]] = {}
    for piece, digest in scan(PieceSource(label, {key: files[key] for key in chosen}), name, cache_dir).items():
        pieces.setdefault(piece.rsplit("#", 1)[0], []).append(digest)
    digests = {key: f"{size} bytes" for key, size in sizes.items()}
    return digests | {key: json_digest(found) for key, found in pieces.items()}, rule
