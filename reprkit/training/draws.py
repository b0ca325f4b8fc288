"""Random draws whose place in their stream is saved with the state of a module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn


class Draws(nn.Module):
    """A generator of its own, on the CPU, so that draws depend neither on the device nor on other draws.

    Args:
        seed: of a run.
        stream: tells the streams of one run apart.
    """

    generator_state: Tensor

    def __init__(self, seed: int, stream: int) -> None:
        super().__init__()
        word = np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)[0] >> np.uint64(1)
        self.register_buffer("generator_state", torch.Generator().manual_seed(int(word)).get_state())

    @contextmanager
    def generator(self) -> Iterator[torch.Generator]:
        """The generator; where it stands afterwards is remembered."""
        generator = torch.Generator()
        generator.set_state(self.generator_state.cpu())
        yield generator
        self.generator_state.copy_(generator.get_state())
