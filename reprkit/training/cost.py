"""What training costs: passes through the encoder and the heads, time and memory."""

from __future__ import annotations

import resource
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

PASSES = ("encoder_forwards", "encoder_backwards", "head_forwards", "head_backwards")


class PassCounter:
    """Counts passes by hooks, so that it sees what really runs.

    A backward of the encoder is counted where a gradient reaches its first layer. Heads count one by one, extra
    decoders among them; DGR's dummies do not (they are evaluated together, in closed form).
    """

    def __init__(self, encoder: nn.Module, heads: list[nn.Module]) -> None:
        self.counts: Counter[str] = Counter()
        self._on = False
        first = next(m for m in encoder.modules() if any(True for _ in m.parameters(recurse=False)))
        encoder.register_forward_hook(lambda *_: self._count("encoder_forwards"))
        first.register_forward_hook(lambda _, __, output: self._watch(output, "encoder_backwards"))
        for head in heads:
            head.register_forward_hook(lambda *_: self._count("head_forwards"))
            head.register_forward_hook(lambda _, __, output: self._watch(output, "head_backwards"))

    @contextmanager
    def on(self) -> Iterator[None]:
        """Count while the body runs."""
        self._on = True
        try:
            yield
        finally:
            self._on = False

    def _count(self, name: str) -> None:
        if self._on:
            self.counts[name] += 1

    def _watch(self, output: Any, name: str) -> None:
        if self._on and isinstance(output, torch.Tensor) and output.requires_grad:
            output.register_hook(lambda _: self._count(name))  # type: ignore[no-untyped-call]


def reset_peak_memory(device: torch.device) -> None:
    """Start measuring the peak anew, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the high-water mark


def peak_memory(device: torch.device) -> tuple[float, str]:
    """Peak memory in MB, and what it is: `cuda` (allocated tensors) or `resident` (of the whole process)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6, "cuda"
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024 / 1e6, "resident"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6, "resident"
