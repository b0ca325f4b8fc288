"""Stopping long work at a safe moment."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class StopFlag:
    """Set when the user (SIGINT) or the system (SIGTERM) asks to stop."""

    requested: bool = False


@contextmanager
def stop_flag() -> Iterator[StopFlag]:
    """Turn SIGINT and SIGTERM into a flag for the body; a second SIGINT, more than a second later, stops at once.

    (One Ctrl-C can arrive twice: from the terminal, and passed on by torchrun.) Outside the main thread signals are
    left alone.
    """
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    first = float("inf")

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if number == signal.SIGINT and time.monotonic() > first + 1:
            raise KeyboardInterrupt
        first = min(first, time.monotonic())
        flag.requested = True

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
