"""How alike two representations of the same samples are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.linalg import ordered_map
from reprkit.analysis.neighbors import exact_neighbors
from reprkit.analysis.rows import Rows
from reprkit.analysis.shape.estimates import Undefined


class Alignment(NamedTuple):
    """Linear CKA of two representations.

    Attributes:
        debiased: ratio of unbiased estimates: about 0 for independent ones (below it by chance), at most about 1.
        biased: ratio of plug-in estimates, in [0, 1]: large for any two once features outnumber rows.
    """

    debiased: float
    biased: float


def linear_cka(first: Rows, second: Rows) -> Alignment:
    """Linear centred kernel alignment, biased and debiased, in the feature form: two passes, no N x N matrix.

    HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y)). Kornblith, Norouzi, Lee and Hinton, "Similarity of neural network
    representations revisited" (ICML 2019); debiased with HSIC_1 of Song, Smola, Gretton, Bedo and Borgwardt,
    "Feature selection via dependence maximization" (JMLR 2012), which for centred rows is, up to a factor,

        |X'Y|^2 - N/(N-2) sum_i |x_i|^2 |y_i|^2 + tr(X'X) tr(Y'Y) / ((N-1)(N-2)).

    Args:
        first, second: rows [N, D] and [N, E] of the same samples in the same order.

    Raises:
        Undefined: fewer than four rows, a constant representation, or an unbiased HSIC(X, X) that is not positive.
        ValueError: unequal numbers of rows.
    """
    n = first.count
    if second.count != n:
        raise ValueError(f"{n} rows against {second.count}: the representations are of different samples")
    if n < 4:
        raise Undefined(f"{n} rows; 4 are needed")
    x_mean, y_mean = _mean(first), _mean(second)

    def partial(blocks: tuple[NDArray, NDArray]) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        x, y = blocks[0] - x_mean, blocks[1] - y_mean
        norms = np.stack([np.einsum("nd,nd->n", x, x), np.einsum("nd,nd->n", y, y)])
        return x.T @ x, x.T @ y, y.T @ y, np.column_stack([norms @ norms.T, norms.sum(axis=1)])

    xx, xy, yy, sums = (
        np.zeros(shape) for shape in ((first.dim,) * 2, (first.dim, second.dim), (second.dim,) * 2, (2, 3))
    )
    for parts in ordered_map(partial, _paired(first, second)):
        for total, part in zip((xx, xy, yy, sums), parts, strict=True):
            total += part

    traces = sums[:, 2]
    if (traces <= 1e-12 * n * np.array([x_mean @ x_mean, y_mean @ y_mean])).any() or not traces.all():
        raise Undefined("a representation is constant")
    plain = np.array([(xx**2).sum(), (xy**2).sum(), (yy**2).sum()])
    pairs = [(0, 0), (0, 1), (1, 1)]
    unbiased = plain - np.array(
        [n / (n - 2) * sums[i, j] - traces[i] * traces[j] / ((n - 1) * (n - 2)) for i, j in pairs]
    )
    if min(unbiased[0], unbiased[2]) <= 1e-12 * min(plain[0], plain[2]):
        raise Undefined("the unbiased HSIC of a representation with itself is not positive")
    debiased, biased = (float(h[1] / np.sqrt(h[0] * h[2])) for h in (unbiased, plain))
    return Alignment(debiased, min(biased, 1.0))


def mutual_knn(first: NDArray, second: NDArray, k: int = 10) -> NDArray[np.float64]:
    """Share of the `k` nearest rows that each row has in common in both representations: [N], each in [0, 1].

    The alignment is the mean. Neighbours by cosine of the centred rows, so that neither scale nor offset counts. Huh,
    Cheung, Wang and Isola, "The platonic representation hypothesis" (ICML 2024); chance is k / (N - 1).

    Args:
        first, second: [N, D] and [N, E] of the same samples in the same order.
        k: neighbours, fewer than N.

    Raises:
        Undefined: N is not above k, or a representation is constant.
    """
    n = len(first)
    if n <= k:
        raise Undefined(f"{n} rows; more than k = {k} are needed")
    found = []
    for rows in (first, second):
        centred = np.asarray(rows, np.float64) - np.mean(rows, axis=0, dtype=np.float64)
        if (np.asarray(rows) == rows[0]).all():
            raise Undefined("a representation is constant")
        found.append(np.sort(exact_neighbors(centred, k)[0], axis=1))
    both = np.sort(np.concatenate(found, axis=1), axis=1)  # each row's lists hold no index twice
    return (both[:, 1:] == both[:, :-1]).sum(axis=1) / k


def above_chance(value: float, chance: float) -> float:
    """A share corrected so that chance is 0 and agreement is 1: (v - c) / (1 - c)."""
    return (value - chance) / (1 - chance)


def _mean(rows: Rows) -> NDArray[np.float64]:
    total = np.zeros(rows.dim)
    for _, block in rows.blocks():
        total += block.sum(axis=0, dtype=np.float64)
    return total / rows.count


def _paired(first: Rows, second: Rows) -> Iterator[tuple[NDArray, NDArray]]:
    """Blocks of the same rows of both, however each is cut."""
    stream = (block for _, block in second.blocks())
    rest = np.empty((0, second.dim), np.float32)
    for _, block in first.blocks():
        while len(rest) < len(block):
            rest = np.concatenate([rest, next(stream)])
        yield block, rest[: len(block)]
        rest = rest[len(block) :]
