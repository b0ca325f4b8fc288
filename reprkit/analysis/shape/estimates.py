"""What a metric gives: a value with its interval and the rows behind it, or the reason why there is none."""

from __future__ import annotations

from typing import NamedTuple


class Undefined(ValueError):
    """The number does not exist for this input; the message says why, in a few words."""


class Estimate(NamedTuple):
    """A measured number.

    Attributes:
        value: the number.
        low, high: ends of its 95% interval; NaN where none is given.
        n: rows behind it; None means all that were handed over.
        remark: what a reader of the number must know.
    """

    value: float
    low: float = float("nan")
    high: float = float("nan")
    n: int | None = None
    remark: str = ""
