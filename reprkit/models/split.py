"""Split: one shared encoder, one head a task (hard parameter sharing)."""

from __future__ import annotations

from torch import Tensor

from reprkit.models.model import Model


class Split(Model):
    """An encoder whose representation feeds every head.

    Attributes:
        encoder: [B, channels, H, W] -> [B, D], or [B, D, h, w].
        heads: task name -> module [B, D] -> [B, C], or [B, D, h, w] -> [B, C, h, w].
        dim: D.
    """

    def encode(self, images: Tensor) -> Tensor:
        """The shared representation z: [B, D] or [B, D, h, w]."""
        z: Tensor = self.encoder(images)
        return z
