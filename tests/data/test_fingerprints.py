"""Digests of the files behind a set."""

from __future__ import annotations

from pathlib import Path

import pytest

from reprkit.data.fingerprints import file_digests
from reprkit.errors import InputError


def test_digests_of_files_of_any_size(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reprkit.data.fingerprints._PIECE", 10)
    files = {}
    for name, content in (("empty", b""), ("small", b"abc"), ("large", b"x" * 35)):
        files[name] = tmp_path / name
        files[name].write_bytes(content)
    digests, rule = file_digests("x", "root", files, cache)
    assert len(set(digests.values())) == 3
    assert rule == ""
    files["large"].write_bytes(b"x" * 34 + b"y")
    changed, _ = file_digests("x", "root", files, cache)
    assert {name for name in files if changed[name] != digests[name]} == {"large"}
    files["small"].unlink()
    with pytest.raises(InputError, match="small: cannot be read"):
        file_digests("x", "root", files, cache)
