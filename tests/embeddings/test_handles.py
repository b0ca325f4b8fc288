from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from reprkit.embeddings.handles import PerProcess


class Log:
    """Notes in a file when it is opened and closed, and by which process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.note("open")

    def note(self, word: str) -> None:
        with open(self.path, "a") as handle:
            handle.write(f"{word} {os.getpid()}\n")

    def close(self) -> None:
        self.note("close")


class Opener:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self) -> Log:
        return Log(self.path)


def notes(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_opened_when_needed_and_once(tmp_path: Path) -> None:
    resource, me = PerProcess(Opener(tmp_path / "log")), os.getpid()
    resource.close()
    assert notes(tmp_path / "log") == []
    assert resource.get() is resource.get()
    resource.close()
    resource.close()
    resource.get()
    assert notes(tmp_path / "log") == [f"open {me}", f"close {me}", f"open {me}"]
    copy = pickle.loads(pickle.dumps(resource))  # noqa: S301
    copy.close()
    assert copy.get() is not resource.get()
    assert len(notes(tmp_path / "log")) == 4


@pytest.mark.skipif(os.name != "posix", reason="needs fork")
def test_a_child_opens_its_own_and_leaves_the_parents_alone(tmp_path: Path) -> None:
    resource, me = PerProcess(Opener(tmp_path / "log")), os.getpid()
    held = resource.get()
    child = os.fork()
    if child == 0:
        resource.get()
        resource.close()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert notes(tmp_path / "log") == [f"open {me}", f"open {child}", f"close {child}"]
    child = os.fork()
    if child == 0:
        resource.close()  # not its own
        os._exit(0)
    os.waitpid(child, 0)
    assert len(notes(tmp_path / "log")) == 3
    assert resource.get() is held
