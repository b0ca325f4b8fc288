"""Size and shape of a representation, from one streamed pass of sufficient statistics in float64.

The pass keeps the count, the mean, the scatter matrix, class counts and class sums; every number here follows from
them. Reference for the effective rank: Roy and Vetterli, "The effective rank", EUSIPCO 2007.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from reprkit.analysis import linalg

PIECE = 1024
"""Rows that one worker takes at a time."""


@dataclass(frozen=True)
class SufficientStatistics:
    """What a pass over the rows of Z [N, D] leaves behind; everything is float64.

    Attributes:
        count: N.
        mean: [D].
        scatter: [D, D], the centred Z'Z (divide by N for the covariance).
        norm_sum: sum of the Euclidean norms of the raw rows.
        unit_sum: [D], sum of the raw rows scaled to length one (rows of zeros stay zero).
        class_counts: task -> [C] rows of each class; rows without a target count nowhere.
        class_sums: task -> [C, D] sums of the *centred* rows of each class.
        class_squares: task -> [C] sums of the squared distances of the rows of each class from the mean of all rows.
        quartic: sum of the fourth powers of the distances of the rows from their mean.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray
    norm_sum: float
    unit_sum: np.ndarray
    class_counts: Mapping[str, np.ndarray] = field(default_factory=dict)
    class_sums: Mapping[str, np.ndarray] = field(default_factory=dict)
    class_squares: Mapping[str, np.ndarray] = field(default_factory=dict)
    quartic: float = float("nan")

    @property
    def dim(self) -> int:
        """D."""
        return len(self.mean)

    @property
    def rms(self) -> float:
        """Root mean square of the entries of the centred Z; 0 for a constant (up to float32 rounding)."""
        value = float(np.sqrt(np.trace(self.scatter) / (self.count * self.dim)))
        rounding = 1e-6 * float(np.sqrt(np.mean(self.mean**2)))
        return value if value > rounding else 0.0

    @property
    def mean_norm(self) -> float:
        """Mean Euclidean norm of the raw rows."""
        return self.norm_sum / self.count

    @property
    def anisotropy(self) -> float:
        """Mean cosine between two different raw rows, in [-1/(N-1), 1]; NaN for one row."""
        if self.count < 2:
            return float("nan")
        return float((self.unit_sum @ self.unit_sum - self.count) / (self.count * (self.count - 1)))

    @cached_property
    def eigen(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues of the covariance (descending, rounding noise set to 0) and eigenvectors as columns [D, D]."""
        values, vectors = np.linalg.eigh(self.scatter / self.count)
        values, vectors = values[::-1], vectors[:, ::-1]
        floor = max(values[0], 0.0) * self.dim * np.finfo(np.float64).eps if self.rms else np.inf
        return np.where(values > floor, values, 0.0), vectors

    @property
    def effective_rank(self) -> float:
        """exp of the entropy of the normalised singular values of the centred Z; 0 for a constant Z.

        Between 1 and min(N - 1, D); unchanged by scale, shift and rotation.
        """
        singular = np.sqrt(self.eigen[0])
        return float(np.exp(entropy(singular / singular.sum()))) if singular.any() else 0.0

    @property
    def participation_ratio(self) -> float:
        """(sum of covariance eigenvalues)^2 / sum of their squares, by traces alone; 0 for a constant Z."""
        squares = float(np.sum(self.scatter**2))
        return float(np.trace(self.scatter) ** 2 / squares) if self.rms else 0.0

    def between_share(self, task: str) -> float:
        """Share of the total variance that lies between the classes of `task`, in [0, 1]; NaN for a constant Z.

        Rows without a target widen only the denominator.
        """
        counts, sums = self.class_counts[task], self.class_sums[task]
        seen = counts > 0
        between = float(np.sum(np.sum(sums[seen] ** 2, axis=1) / counts[seen]))
        return between / float(np.trace(self.scatter)) if self.rms else float("nan")


def entropy(shares: np.ndarray) -> float:
    """Shannon entropy in nats of shares that sum to one; 0 log 0 = 0."""
    positive = shares[shares > 0]
    return float(-(positive * np.log(positive)).sum())


def mean_and_variance(blocks: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean [D] and variance [D] of each feature over row blocks [n, D], in float64; the variance divides by N.

    Raises:
        ValueError: there are no rows.
    """
    count, shift, total, squares = 0, np.zeros(1), np.zeros(1), np.zeros(1)
    for block in blocks:
        for part in linalg.row_slices(len(block), PIECE):
            raw = block[part].astype(np.float64)
            if not count:
                shift = raw.mean(axis=0)  # a large common offset costs no precision
            raw -= shift
            count += len(raw)
            total = total + raw.sum(axis=0)
            squares = squares + np.einsum("nd,nd->d", raw, raw)
    if not count:
        raise ValueError("no rows: a representation needs at least one")
    offset = total / count
    return shift + offset, np.maximum(squares / count - offset**2, 0.0)


def sufficient_statistics(
    blocks: Iterable[np.ndarray],
    targets: Mapping[str, tuple[np.ndarray, int]] | None = None,
    *,
    workers: int | None = None,
) -> SufficientStatistics:
    """Stream row blocks of Z once.

    Sums are taken about the mean of the first block, so that a large common offset costs no precision.

    Args:
        blocks: float [n, D] arrays, in row order; at least one row in all.
        targets: task -> (class indices [N] with -1 for missing, number of classes).
        workers: threads; the cores available by default.

    Raises:
        ValueError: there are no rows.
    """
    targets = targets or {}
    stream = iter(blocks)
    first = next((block for block in stream if len(block)), None)
    if first is None:
        raise ValueError("no rows: a representation needs at least one")
    shift = first.mean(axis=0, dtype=np.float64)

    def with_starts() -> Iterator[tuple[int, np.ndarray]]:
        start = 0
        for block in itertools.chain([first], stream):
            for part in linalg.row_slices(len(block), PIECE):  # few blocks keep all workers busy
                yield start + part.start, block[part]
            start += len(block)

    def partial(
        item: tuple[int, np.ndarray],
    ) -> tuple[int, np.ndarray, np.ndarray, float, np.ndarray, float, np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
        start, block = item
        raw = block.astype(np.float64)
        norms = np.sqrt(np.einsum("nd,nd->n", raw, raw))
        unit = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0) @ raw
        raw -= shift
        squares = np.einsum("nd,nd->n", raw, raw)
        hot = [linalg.one_hot(y[start : start + len(raw)], classes) for y, classes in targets.values()]
        sums = [(classes @ raw, classes @ squares) for classes in hot]
        quartic = float(squares @ squares)
        return len(raw), raw.sum(axis=0), linalg.scatter(raw), float(norms.sum()), unit, quartic, squares @ raw, sums

    dim = len(shift)
    count, total, scatter, norm_sum, unit_sum = 0, np.zeros(dim), np.zeros((dim, dim)), 0.0, np.zeros(dim)
    quartic, cubic = 0.0, np.zeros(dim)
    class_sums = {name: np.zeros((classes, dim)) for name, (_, classes) in targets.items()}
    class_squares = {name: np.zeros(classes) for name, (_, classes) in targets.items()}
    for n, part, product, norms, unit, fourth, third, sums in linalg.ordered_map(
        partial, with_starts(), workers=workers
    ):
        count += n
        total += part
        scatter += product
        norm_sum += norms
        unit_sum += unit
        quartic += fourth
        cubic += third
        for name, (values, squares) in zip(class_sums, sums, strict=True):
            class_sums[name] += values
            class_squares[name] += squares

    offset = total / count
    far = float(offset @ offset)
    # of |r - o|^4, with the scatter of r about the shift and sum r = N o
    quartic += 4 * float(offset @ scatter @ offset - offset @ cubic) + 2 * far * float(np.trace(scatter))
    quartic -= 3 * count * far**2
    counts = {name: np.bincount(y[y >= 0], minlength=classes) for name, (y, classes) in targets.items()}
    return SufficientStatistics(
        count=count,
        mean=shift + offset,
        scatter=scatter - count * np.outer(offset, offset),
        norm_sum=norm_sum,
        unit_sum=unit_sum,
        class_counts=counts,
        class_sums={name: sums - counts[name][:, None] * offset for name, sums in class_sums.items()},
        class_squares={
            name: squares - 2 * class_sums[name] @ offset + counts[name] * (offset @ offset)
            for name, squares in class_squares.items()
        },
        quartic=quartic,
    )
