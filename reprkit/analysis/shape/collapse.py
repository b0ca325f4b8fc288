"""How the classes of a task lie in a representation: neural collapse, and the ratios of spread between and within.

All follow from the moments of the labelled rows. With m_c the mean of class c among C classes that have rows, n_c of
N rows each:

    S_W = 1/N sum over rows of (z - m_y)(z - m_y)'                 pooled over rows: large classes weigh more
    S_B = 1/C sum_c (m_c - m)(m_c - m)',  m = 1/C sum_c m_c        neural collapse: every class weighs the same
    S_B = sum_c n_c/N (m_c - mu)(m_c - mu)',  mu the mean of rows  Fisher, H-score: S_T = S_W + S_B

Papyan, Han and Donoho, "Prevalence of neural collapse" (PNAS 2020), define the former for classes of one size, where
both agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from reprkit.analysis.linalg import row_slices
from reprkit.analysis.moments import SufficientStatistics
from reprkit.analysis.shape.estimates import Undefined

CLASS_ROWS = 1024
"""Rows of a class-by-class matrix that are held at a time."""


@dataclass(frozen=True)
class Classes:
    """The C classes of one task that have rows.

    Attributes:
        total: N.
        counts: [C].
        means: [C, D], relative to the mean of all rows.
        variances: [C] mean squared distances of the rows of a class from its mean.
        scatter: [D, D], centred Z'Z of the labelled rows.
    """

    total: int
    counts: NDArray[np.int64]
    means: NDArray[np.float64]
    variances: NDArray[np.float64]
    scatter: NDArray[np.float64]

    @classmethod
    def of(cls, moments: SufficientStatistics, task: str) -> Classes:
        """The classes of `task` in moments of its labelled rows.

        Raises:
            ValueError: the moments hold rows without a target, whose scatter cannot be told apart.
            Undefined: fewer than two classes have rows, none has two, or all rows are equal.
        """
        counts = moments.class_counts[task]
        if counts.sum() != moments.count:
            raise ValueError(f"the moments hold rows without a target of '{task}'; collect them over labelled rows")
        seen = np.flatnonzero(counts)
        if len(seen) < 2:
            raise Undefined("only one class has rows")
        if counts.max() < 2:
            raise Undefined("no class has two rows")
        if not moments.rms:
            raise Undefined("the embeddings are constant")
        means = moments.class_sums[task][seen] / counts[seen, None]
        squares = moments.class_squares[task][seen] / counts[seen]
        variances = np.maximum(squares - np.einsum("cd,cd->c", means, means), 0.0)
        return cls(moments.count, counts[seen], means, variances, moments.scatter)

    @property
    def balanced(self) -> NDArray[np.float64]:
        """[C, D] class means relative to the mean of the class means."""
        return self.means - self.means.mean(axis=0)


def nc1(classes: Classes) -> float:
    """Spread within classes relative to the distances of their means: tr(S_W pinv(S_B)) / C, 0 at full collapse.

    NC1 of Papyan et al. (2020), about the mean of the class means.

    Raises:
        Undefined: all class means are equal.
    """
    basis, scales = _between(classes)
    inside = np.einsum("kd,de,ke->k", basis, classes.scatter, basis, optimize=True)
    inside -= classes.counts @ (classes.means @ basis.T) ** 2
    return float(max(0.0, (inside / scales**2).sum() / (classes.total * len(classes.counts))))


def nc2_norms(classes: Classes) -> float:
    """Inequality of the class means' lengths: their standard deviation over their mean; 0 if all are equal.

    NC2 (equinormness) of Papyan et al. (2020), about the mean of the class means.

    Raises:
        Undefined: all class means are equal.
    """
    _between(classes)
    lengths = np.linalg.norm(classes.balanced, axis=1)
    return float(lengths.std() / lengths.mean())


def nc2_angles(classes: Classes) -> float:
    """Mean over pairs of classes of |cos + 1/(C-1)|: 0 if the class means are a simplex, seen from their mean.

    NC2 (maximal equiangularity) of Papyan et al. (2020).

    Raises:
        Undefined: a class mean lies at the mean of all, so that it has no direction.
    """
    means, count = classes.balanced, len(classes.counts)
    lengths = np.linalg.norm(means, axis=1)
    if lengths.min() <= _noise(classes):
        raise Undefined("a class mean lies at the mean of the class means: no direction")
    unit = means / lengths[:, None]
    total = sum(float(np.abs(unit[rows] @ unit.T + 1 / (count - 1)).sum()) for rows in row_slices(count, CLASS_ROWS))
    diagonal = float(np.abs(np.einsum("cd,cd->c", unit, unit) + 1 / (count - 1)).sum())
    return (total - diagonal) / (count * (count - 1))


def cdnv(classes: Classes) -> float:
    """Class-distance normalised variance: mean over pairs c, c' of (v_c + v_c') / (2 |m_c - m_c'|^2), at least 0.

    Galanti, Gyorgy and Hutter, "On the role of neural collapse in transfer learning" (ICLR 2022). A
    class of one row has variance 0.

    Raises:
        Undefined: two classes have the same mean.
    """
    total, count = 0.0, len(classes.counts)
    for rows in row_slices(count, CLASS_ROWS):
        square = cdist(classes.means[rows], classes.means, "sqeuclidean")
        square[np.arange(len(square)), np.arange(rows.start, rows.stop)] = np.inf
        if square.min() <= _noise(classes) ** 2:
            raise Undefined("two classes have the same mean")
        total += float(((classes.variances[rows, None] + classes.variances) / (2 * square)).sum())
    return total / (count * (count - 1))


def discriminants(moments: SufficientStatistics, task: str) -> tuple[NDArray[np.float64], int]:
    """Share of the variance that lies between classes along each discriminant direction, and the rank of Z.

    The nonzero eigenvalues of pinv(S_T) S_B, in [0, 1] (squared canonical correlations): a discriminant eigenvalue
    l of S_W^-1 S_B appears as l / (1 + l). Unchanged by any invertible affine map of z.

    Raises:
        Undefined: fewer than two classes have rows, or all rows are equal.
    """
    classes = Classes.of(moments, task)
    values, vectors = moments.eigen
    rank = int((values > 0).sum())
    white = classes.means @ (vectors[:, :rank] / np.sqrt(values[:rank]))
    white *= np.sqrt(classes.counts / classes.total)[:, None]
    shares = np.linalg.svd(white, compute_uv=False)[: len(classes.counts) - 1] ** 2
    return np.clip(shares, 0.0, 1.0), rank


def fisher_ratio(shares: NDArray[np.float64]) -> float:
    """Fisher's criterion tr(S_W^-1 S_B) = sum h / (1 - h) of the shares h of `discriminants`, at least 0.

    Fukunaga, "Introduction to statistical pattern recognition" (1990), section 10.2.

    Raises:
        Undefined: along some direction all the variance lies between the classes.
    """
    if shares.max() > 1 - 1e-9:
        raise Undefined("some direction does not vary within the classes: the ratio is infinite")
    return float((shares / (1 - shares)).sum())


def _between(classes: Classes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Directions [K, D] in which the balanced class means differ, and the root of S_B's eigenvalue along each."""
    _, scales, basis = np.linalg.svd(classes.balanced / np.sqrt(len(classes.counts)), full_matrices=False)
    real = scales > max(_noise(classes), scales[0] * max(classes.means.shape) * np.finfo(np.float64).eps)
    if not real.any():
        raise Undefined("all classes have the same mean")
    return basis[real], scales[real]


def _noise(classes: Classes) -> float:
    """Length below which a difference of class means is rounding."""
    return float(1e-12 * np.sqrt(np.trace(classes.scatter) / classes.total))
