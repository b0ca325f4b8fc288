"""Open files that outlive pickling and forking."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """A resource that is opened when first needed, and anew in every process: handles must not cross a fork.

    Args:
        opener: makes the resource; must be possible to pickle. If what it makes has `close`, that is called.
    """

    def __init__(self, opener: Callable[[], T]) -> None:
        self._opener = opener
        self._held: T | None = None
        self._owner = -1

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_held": None, "_owner": -1}

    def get(self) -> T:
        """The resource of this process."""
        if self._held is None or self._owner != os.getpid():
            self._held, self._owner = self._opener(), os.getpid()
        return self._held

    def close(self) -> None:
        """Release it; the next `get` opens it again."""
        if self._held is not None and self._owner == os.getpid():
            getattr(self._held, "close", lambda: None)()
        self._held = None
