"""What every benchmark here shares: the environment line, fair interleaved timing, and Markdown tables.

Absolute seconds depend on the machine and its mood; ratios within one run are what to keep. So the variants
take turns inside each round, the order alternates from round to round, and a ratio is formed per round and
summed up as `median [min..max]`.
"""

from __future__ import annotations

import gc
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from reprkit.environment import usable_cores

Clock = Literal["wall", "cpu"]
_CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Timing:
    """Times of one variant over the rounds, and its ratio to the baseline of the same round."""

    name: str
    seconds: tuple[float, ...]
    ratios: tuple[float, ...]

    @property
    def median_seconds(self) -> float:
        return statistics.median(self.seconds)

    @property
    def median_ratio(self) -> float:
        return statistics.median(self.ratios)

    def cells(self) -> list[str]:
        """Table cells: name, median seconds, ratio as `median [min..max]`."""
        return [self.name, f"{self.median_seconds:.4g}", spread(self.ratios)]


TIMING_HEADERS = ["variant", "seconds (median)", "ratio to baseline"]


def interleave(
    variants: Mapping[str, Callable[[], object]],
    rounds: int = 5,
    *,
    baseline: str | None = None,
    clock: Clock = "wall",
    warmup: int = 1,
    setup: Callable[[], object] | None = None,
) -> list[Timing]:
    """Time `variants` in turn, round by round, in alternating order.

    Args:
        variants: name -> function without arguments; the first is the baseline unless `baseline` names another.
        rounds: timed rounds, after `warmup` untimed ones.
        clock: `wall`, or `cpu` (process CPU seconds of all threads: steadier on a shared machine).
        setup: called untimed before every single measurement, for example to reseed or to remove old files.
    """
    names = list(variants)
    base = baseline if baseline is not None else names[0]
    if base not in variants:
        raise ValueError(f"baseline {base!r} is not among {names}")
    now = _CLOCKS[clock]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for round_index in range(-warmup, rounds):
        for name in names if round_index % 2 == 0 else reversed(names):
            if setup is not None:
                setup()
            gc.collect()
            gc.disable()
            try:
                start = now()
                variants[name]()
                elapsed = now() - start
            finally:
                gc.enable()
            if round_index >= 0:
                seconds[name].append(elapsed)
    return [
        Timing(name, tuple(seconds[name]), tuple(t / b for t, b in zip(seconds[name], seconds[base], strict=True)))
        for name in names
    ]


def timing_table(timings: Iterable[Timing]) -> str:
    """Markdown table of `interleave`'s result."""
    return markdown_table(TIMING_HEADERS, [timing.cells() for timing in timings])


def spread(values: Sequence[float], digits: int = 3) -> str:
    """`median [min..max]` with `digits` significant digits."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}g} [{low:.{digits}g}..{high:.{digits}g}]"


def markdown_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table with padded columns."""
    body = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(headers), *body]) for i in range(len(headers))]
    lines = [[h.ljust(w) for h, w in zip(headers, widths, strict=True)], ["-" * w for w in widths]]
    lines += [[cell.ljust(w) for cell, w in zip(row, widths, strict=True)] for row in body]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def environment() -> dict[str, Any]:
    """The facts that timings depend on. Imports torch, since thread pools only show once they are loaded."""
    import numpy as np
    import torch
    from threadpoolctl import threadpool_info

    np.ones((2, 2)) @ np.ones((2, 2))
    blas = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return {
        "cpu": _cpu_model(),
        "cores": usable_cores(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "blas": [f"{p['internal_api']} {p['version']} {p.get('architecture', '?')} x{p['num_threads']}" for p in blas],
        "torch_threads": torch.get_num_threads(),
    }


def environment_line() -> str:
    """`environment()` as one line for the head of a report."""
    e = environment()
    parts = [f"{e['cpu']}, {e['cores']} cores", *([e["gpu"]] if e["gpu"] else []), f"Python {e['python']}"]
    parts += [f"torch {e['torch']} ({e['torch_threads']} threads)", f"NumPy {e['numpy']}", *e["blas"]]
    return "Environment: " + "; ".join(parts)


def _cpu_model() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def rss_bytes() -> int:
    """Resident memory of this process now, in bytes (Linux); elsewhere the peak so far."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def report(title: str, *blocks: str) -> None:
    """Print one benchmark report as Markdown: title, environment line, blocks."""
    print("\n\n".join([f"## {title}", environment_line(), *blocks]))
