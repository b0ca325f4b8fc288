"""The dummy heads that an encoder was trained against, kept beside its embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from reprkit.errors import InputError

LINEAR = ("weight", "bias")
TWO_LAYER = ("first", "first_bias", "second", "second_bias")


@dataclass(frozen=True, eq=False)
class TrainingDummies:
    """M heads of one task with fixed random weights, as they were when training began (nothing ever trains them).

    Attributes:
        layers: float32 arrays by name. Linear heads: `weight` [M, C, D] and `bias` [M, C]. Two-layer heads:
            `first` [M, H, D], `first_bias` [M, H], `second` [M, C, H] and `second_bias` [M, C].
        activation: between the two layers: `relu`; empty for linear heads.
    """

    layers: Mapping[str, np.ndarray]
    activation: str = ""

    @property
    def is_linear(self) -> bool:
        """True for linear heads."""
        return set(self.layers) == set(LINEAR)

    def check(self, dim: int, outputs: int, what: str) -> TrainingDummies:
        """Itself, as float32, if its shapes fit each other, D and C.

        Raises:
            InputError: they do not, or a value is not finite; the message begins with `what`.
        """
        shapes = {name: values.shape for name, values in self.layers.items()}
        expected: dict[str, tuple[int, ...]] = {}
        if set(shapes) == set(LINEAR) and not self.activation:
            count = shapes["bias"][0] if shapes["bias"] else 0
            expected = {"weight": (count, outputs, dim), "bias": (count, outputs)}
        elif set(shapes) == set(TWO_LAYER) and self.activation == "relu" and len(shapes["first_bias"]) == 2:
            count, hidden = shapes["first_bias"]
            expected = {
                "first": (count, hidden, dim),
                "first_bias": (count, hidden),
                "second": (count, outputs, hidden),
                "second_bias": (count, outputs),
            }
        if not expected or shapes != expected or 0 in next(iter(expected.values())):
            raise InputError(f"{what} have shapes {shapes} (activation '{self.activation}'), expected {expected}")
        layers = {name: np.ascontiguousarray(self.layers[name], np.float32) for name in expected}
        if not all(np.isfinite(values).all() for values in layers.values()):
            raise InputError(f"{what} hold NaN or infinity")
        return TrainingDummies(layers, self.activation)
