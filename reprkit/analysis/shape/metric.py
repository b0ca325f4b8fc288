"""What a geometry metric declares about itself, and what it is computed from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.moments import SufficientStatistics, sufficient_statistics
from reprkit.analysis.rows import Rows
from reprkit.analysis.shape.estimates import Estimate
from reprkit.analysis.shape.similarity import Alignment, linear_cka, mutual_knn

NEIGHBOURS = 10
"""k of the mutual nearest neighbours."""

TRANSFORMATIONS = ("scale", "shift", "rotation", "linear", "row_order", "duplicated_columns", "float16")
"""What z may undergo: times a number; plus a vector; times an orthogonal matrix; times any invertible matrix; rows in
another order; every column twice; rounding to float16 (up to its precision)."""

RIGID = frozenset(TRANSFORMATIONS) - {"linear"}
"""All but a general linear map."""


@dataclass(frozen=True)
class Given:
    """What the metrics of one representation, and of one task, are made from.

    Attributes:
        moments: of all rows; for a task, of the rows that have a target.
        sample: [n, D] rows for what compares each with every other.
        task: name, or "".
        targets: [n] classes of the sample.
        products, squares: [1, D] and [1], (Z - mean)' y and y'y of a standardised real-valued target; else None.
    """

    moments: SufficientStatistics
    sample: NDArray
    task: str = ""
    targets: NDArray | None = None
    products: NDArray | None = None
    squares: NDArray | None = None

    @classmethod
    def of_arrays(cls, z: NDArray, targets: NDArray | None = None) -> Given:
        """All there is to know about z [N, D] and the classes [N] of its rows, without a sample drawn."""
        classes = {} if targets is None else {"task": (targets, int(targets.max()) + 1)}
        moments = sufficient_statistics([z], classes)
        return cls(moments, z, "task" if classes else "", targets)


@dataclass(frozen=True)
class Pair:
    """What the metrics of two representations of the same samples are made from.

    Attributes:
        rows: all rows of both.
        samples: the rows whose neighbours are compared.
    """

    rows: tuple[Rows, Rows]
    samples: tuple[NDArray, NDArray]

    @classmethod
    def of_arrays(cls, first: NDArray, second: NDArray) -> Pair:
        """All of two arrays [N, D] and [N, E]."""
        return cls((Rows.of(first), Rows.of(second)), (first, second))

    @cached_property
    def cka(self) -> Alignment:
        """Linear CKA."""
        return linear_cka(*self.rows)

    @cached_property
    def shared(self) -> NDArray[np.float64]:
        """[n] shares of the nearest neighbours in common."""
        return mutual_knn(*self.samples, NEIGHBOURS)


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: what it is called in the column `metric`.
        needs: `moments`: one streamed pass; `rows`: a sample; `head`: outputs of another task's head; `pair`: two
            representations; `pair_rows`: a sample of two.
        task: `none`; `classes`: class indices; `any`: classes or a real-valued target.
        invariant: the `TRANSFORMATIONS` of z that leave it unchanged (for a pair: of either); of a head's outputs,
            which are taken as they are, none is declared.
        direction: `higher` or `lower` where one is better; empty where it describes.
        low, high: limits of its value; that of H is C - 1.
        meaning: one line.
        source: paper.
        compute: `Given` (`Pair` for a pair; logits [N, S], targets [N] and groups [N] or None for a head) -> Estimate,
            or raises Undefined.
    """

    name: str
    needs: Literal["moments", "rows", "head", "pair", "pair_rows"]
    task: Literal["none", "classes", "any"]
    invariant: frozenset[str]
    direction: Literal["", "higher", "lower"]
    low: float
    high: float
    meaning: str
    source: str
    compute: Callable[..., Estimate]
