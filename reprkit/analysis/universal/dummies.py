"""Dummy predictors: heads with fresh random weights that no training ever sees, evaluated many at a time.

The dummies of training come from PyTorch generators; these come from `np.random.RandomState`, whose stream is frozen
by NumPy's compatibility promise, so the same seed gives the same predictors in ten years, and never a training one.

Predictor m draws from `RandomState([seed, m])`, layer by layer and output by output. Hence a task with C classes
sees the first C outputs of the same predictors whatever the other tasks are, 64 predictors are the first 64 of 1000,
and all tasks share one product with z.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

Init = Literal["gaussian", "paper"]
HIDDEN = 64
"""Hidden units of an `mlp` dummy: the paper's head."""


@dataclass(frozen=True)
class View:
    """How the projection p = W(z - mean) becomes the first layer's output: `p * scale + offset`.

    A view is an affine change of z (raw, or RMS-1), so one product with the centred z serves all views.

    Attributes:
        scale: 1 for raw z, 1 / rms for RMS-1 z.
        offset: [P], what the mean of z and the biases add.
        origin: [D], where the mean of z lies in the view: itself for raw z, 0 for RMS-1 z.
    """

    scale: float
    offset: np.ndarray
    origin: np.ndarray


@dataclass(frozen=True)
class Dummies:
    """M random predictors with up to K outputs each.

    Attributes:
        head: `linear`, or `mlp` (D -> H -> K with ReLU between).
        first: weights of the layer that reads z, float64: [K, M, D] (linear) or [M, H, D] (mlp).
        first_bias: [K, M] or [M, H].
        second: [M, K, H] output weights of an mlp; None for linear.
        second_bias: [M, K], or None.
        seed, init: what they were drawn from.
    """

    head: Literal["linear", "mlp"]
    first: np.ndarray
    first_bias: np.ndarray
    second: np.ndarray | None
    second_bias: np.ndarray | None
    seed: int
    init: Init

    @property
    def count(self) -> int:
        """M."""
        return self.first.shape[1] if self.second is None else self.first.shape[0]

    @property
    def outputs(self) -> int:
        """K."""
        return self.first.shape[0] if self.second is None else self.second.shape[1]

    @property
    def dim(self) -> int:
        """D."""
        return self.first.shape[2]

    def projection(self, dtype: np.dtype | type = np.float32) -> np.ndarray:
        """[P, D] contiguous matrix of the product with z: P = K*M, output-major (linear), or M*H (mlp)."""
        return np.ascontiguousarray(self.first.reshape(-1, self.dim), dtype=dtype)

    def relative_projection(self, dtype: np.dtype | type = np.float32) -> np.ndarray:
        """[(K - 1) * M, D]: `projection` of linear predictors less that of their first output, which is left out."""
        relative = self.first[1:] - self.first[0]
        return np.ascontiguousarray(relative.reshape(-1, self.dim), dtype=dtype)

    def view(self, mean: np.ndarray, rms: float | None) -> View:
        """The view of raw z (`rms` None), or of (z - mean) / rms; an `rms` of 0 (constant z) maps all rows to 0."""
        bias = self.first_bias.ravel()
        if rms is None:
            return View(1.0, self.first.reshape(-1, self.dim) @ mean + bias, mean)
        return View(1.0 / rms if rms > 0 else 0.0, bias, np.zeros_like(mean))

    def hidden(self, projected: np.ndarray, view: View) -> np.ndarray:
        """First layer's output [P, n] of a projected block [P, n]; after the ReLU for an mlp."""
        out = projected * projected.dtype.type(view.scale)
        out += view.offset.astype(out.dtype)[:, None]
        return out if self.second is None else np.maximum(out, 0, out=out)

    def logits(self, projected: np.ndarray, view: View) -> np.ndarray:
        """[K, M, n] logits of a projected block [P, n]."""
        first = self.hidden(projected, view)
        n = first.shape[1]
        if self.second is None or self.second_bias is None:
            return first.reshape(self.outputs, self.count, n)
        out = np.empty((self.outputs, self.count, n), dtype=first.dtype)
        np.matmul(self.second.astype(first.dtype), first.reshape(self.count, -1, n), out=out.transpose(1, 0, 2))
        out += self.second_bias.T.astype(first.dtype)[:, :, None]
        return out

    def part(self, predictors: slice) -> Dummies:
        """Some of the predictors."""
        if self.second is None or self.second_bias is None:
            return replace(self, first=self.first[:, predictors], first_bias=self.first_bias[:, predictors])
        return replace(
            self,
            first=self.first[predictors],
            first_bias=self.first_bias[predictors],
            second=self.second[predictors],
            second_bias=self.second_bias[predictors],
        )

    def parts(self, columns: int) -> list[slice]:
        """Predictors in parts whose projections have about so many columns, at least one predictor each."""
        step = max(1, columns * self.count // self.first_bias.size)
        return [slice(start, start + step) for start in range(0, self.count, step)]

    def view_of_part(self, view: View, predictors: slice) -> View:
        """What `view` is to `part(predictors)`."""
        offsets = view.offset.reshape(self.first_bias.shape)
        return replace(view, offset=(offsets[:, predictors] if self.second is None else offsets[predictors]).ravel())

    def first_few(self, count: int) -> Dummies:
        """The first `count` predictors (all, if there are fewer)."""
        return self.part(slice(count))

    def digest(self, outputs: int) -> str:
        """First 16 hex digits of the SHA-256 of the float32 weights and biases that a task with `outputs` uses."""
        if self.second is None or self.second_bias is None:
            arrays = [self.first[:outputs], self.first_bias[:outputs]]
        else:
            arrays = [self.first, self.first_bias, self.second[:, :outputs], self.second_bias[:, :outputs]]
        sha = hashlib.sha256()
        for array in arrays:
            sha.update(str(array.shape).encode())
            sha.update(np.ascontiguousarray(array, dtype="<f4").tobytes())
        return sha.hexdigest()[:16]


def draw_dummies(
    head: Literal["linear", "mlp"],
    *,
    dim: int,
    outputs: int,
    count: int = 64,
    seed: int = 0,
    init: Init = "gaussian",
    hidden: int = HIDDEN,
) -> Dummies:
    """Draw fresh predictors.

    Args:
        head: `linear` or `mlp`.
        dim: D, the width of z.
        outputs: K, the largest number of classes among the tasks.
        count: M, how many predictors.
        seed: start of the streams.
        init: `gaussian`: weights N(0, 1/fan-in), biases 0; the law does not change when z is rotated.
            `paper`: PyTorch's default for linear layers, uniform in +-1/sqrt(fan-in) for weights and biases.
        hidden: hidden units of an `mlp`.
    """
    widths = [(outputs, dim)] if head == "linear" else [(hidden, dim), (outputs, hidden)]
    drawn = [
        [_layer(np.random.RandomState([seed, m, depth]), *width, init) for m in range(count)]
        for depth, width in enumerate(widths)
    ]
    weights = [np.stack([weight for weight, _ in layer]) for layer in drawn]
    biases = [np.stack([bias for _, bias in layer]) for layer in drawn]
    if head == "linear":
        first = np.ascontiguousarray(weights[0].transpose(1, 0, 2))
        return Dummies(head, first, np.ascontiguousarray(biases[0].T), None, None, seed, init)
    return Dummies(head, weights[0], biases[0], weights[1], biases[1], seed, init)


def _layer(rng: np.random.RandomState, rows: int, columns: int, init: Init) -> tuple[np.ndarray, np.ndarray]:
    if init == "gaussian":
        return rng.standard_normal((rows, columns)) / np.sqrt(columns), np.zeros(rows)
    drawn = rng.uniform(-1, 1, (rows, columns + 1)) / np.sqrt(columns)  # the bias ends its row: outputs stay a prefix
    return drawn[:, :columns], drawn[:, columns]
