"""Numbers and lists as sentences say them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from reprkit.analysis.reporting.metric_names import in_percent, printed_with
from reprkit.analysis.reporting.typeset import MINUS, signed


def score_text(value: float, metric: str) -> str:
    """A score: shares in percent."""
    factor, digits = printed_with(metric)
    return f"{factor * value:.{digits}f}{'%' if in_percent(metric) else ''}".replace("-", MINUS)


def change_text(value: float, metric: str, *, unit: bool = True) -> str:
    """A difference of scores, of shares in points."""
    factor, digits = printed_with(metric)
    return signed(factor * value, digits) + (" points" if unit and in_percent(metric) else "")


def span(values: pd.Series) -> str:
    """The least and the most of whole numbers."""
    low, high = int(values.min()), int(values.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def about(value: float) -> str:
    """About how many."""
    return "one" if round(value) == 1 else f"{value:.1f}" if value < 1 else str(round(value))


def plural(count: int, noun: str) -> str:
    """A number, in words if it is small, and what is counted."""
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return f"{words[count] if count < len(words) else count} {noun}{'' if count == 1 else 's'}"


def capitals(texts: Sequence[str]) -> list[str]:
    """Texts that begin with a capital."""
    return [text[:1].upper() + text[1:] for text in texts]


def listed(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else "".join(parts)
