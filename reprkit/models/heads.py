"""Task-specific predictors over a pooled representation."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

Activation = Literal["relu", "gelu", "tanh"]
_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}


class LinearHead(nn.Module):
    """One linear layer: [B, D] -> [B, C].

    Args:
        dim: D.
        num_outputs: C classes, or 1 for a real value.
    """

    def __init__(self, dim: int, num_outputs: int) -> None:
        super().__init__()
        self.out = nn.Linear(dim, num_outputs)

    def forward(self, z: Tensor) -> Tensor:
        """Logits [B, C] of z [B, D]."""
        return self.out(z)


class MLPHead(nn.Module):
    """Two fully connected layers, the paper's predictor: [B, D] -> hidden -> [B, C].

    The published code also puts a ReLU on the logits; it is left out here, since a class whose logit is never
    positive then gets no gradient at all.

    Args:
        dim: D.
        num_outputs: C classes, or 1 for a real value.
        hidden: width of the layer between.
        activation: behind it; a smooth one (`gelu`, `tanh`) makes DGR's penalty differentiable everywhere.
    """

    def __init__(self, dim: int, num_outputs: int, hidden: int = 64, activation: Activation = "relu") -> None:
        super().__init__()
        self.hidden = nn.Linear(dim, hidden)
        self.activation = activation
        self.act = _ACTIVATIONS[activation]()
        self.out = nn.Linear(hidden, num_outputs)

    def forward(self, z: Tensor) -> Tensor:
        """Logits [B, C] of z [B, D]."""
        return self.out(self.act(self.hidden(z)))
