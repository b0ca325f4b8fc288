"""How far an arrangement of points follows an order: class means, triplets of samples, and rank correlation."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from reprkit.analysis.bootstrap import percentile_interval, resample_counts
from reprkit.analysis.groups import Codes, count_units
from reprkit.analysis.linalg import one_hot, row_slices

ENUMERATED = 8
"""Up to so many classes the Mantel test tries every order, beyond it `PERMUTATIONS` random ones."""

PERMUTATIONS = 9999
TRIPLETS = 50_000
RESAMPLES = 1000

Triple = tuple[float, float, float]
NOTHING: Triple = (float("nan"),) * 3


def centroid_gram(z: NDArray, groups: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Inner products [C, C] of the class means, about the mean of all rows, without the noise of the means.

    The noise of a mean adds s / n to its own squared norm (s: total variance within the class, n: its rows), which is
    subtracted. Rows and columns of classes with fewer than two rows are NaN.

    Args:
        z: [N, D].
        groups: [N] class indices.
        classes: C.
    """
    centred = z - z.mean(axis=0, dtype=np.float64)
    counts = np.bincount(groups, minlength=classes).astype(np.float64)
    counts[counts < 2] = np.nan
    means = one_hot(groups, classes) @ centred / counts[:, None]
    squares = np.bincount(groups, np.einsum("nd,nd->n", centred, centred), classes)
    products = means @ means.T
    within = (squares - counts * np.diag(products)) / (counts - 1)
    products[np.diag_indices(classes)] -= within / counts
    return products


def mantel(
    distances: NDArray, values: ArrayLike, *, permutations: int = PERMUTATIONS, seed: int = 0
) -> tuple[float, float]:
    """Mantel's test that distances between classes grow with the differences of their values.

    Args:
        distances: [C, C], symmetric; only their order matters, so squared ones will do. C >= 3.
        values: [C] value of each class.
        permutations: random orders if C is above `ENUMERATED`.
        seed: of those.

    Returns:
        Rank correlation over the C (C - 1) / 2 pairs of classes: Spearman's, over the highest that is possible where
        many pairs have equal differences; 1 if and only if distances never fall as differences rise. And the
        one-sided p-value: the share of orders of the classes with one at least as high. NaN if all distances are
        equal.
    """
    from scipy.stats import rankdata

    value = np.asarray(values, np.float64)
    count = len(value)
    i, j = np.triu_indices(count, 1)
    ranks = np.zeros((count, count))
    ranks[i, j] = rankdata(distances[i, j])
    ranks += ranks.T
    wanted = rankdata(np.abs(value[i] - value[j]))
    wanted -= wanted.mean()
    observed, highest = ranks[i, j] @ wanted, wanted @ wanted
    if not np.ptp(ranks[i, j]) or not highest:
        return float("nan"), float("nan")
    exact = count <= ENUMERATED
    reached = total = 0 if exact else 1
    for orders in _orders(count, permutations, seed):
        statistics = ranks[orders[:, i], orders[:, j]] @ wanted
        reached += int((statistics >= observed - 1e-9 * highest).sum())  # equal ones may differ in the last digit
        total += len(orders)
    return float(observed / highest), reached / total


def first_axis_share(gram: NDArray, counts: ArrayLike) -> float:
    """Share of the variance between class means on its first axis, in [1 / (C - 1), 1].

    Args:
        gram: [C, C] of `centroid_gram`.
        counts: [C] rows of each class, its weights.

    Returns:
        NaN if the means differ by no more than their noise.
    """
    weights = np.asarray(counts, np.float64) / np.sum(counts)
    centring = np.eye(len(weights)) - weights
    scaled = np.sqrt(weights)[:, None] * (centring @ gram @ centring.T) * np.sqrt(weights)
    values = np.maximum(np.linalg.eigvalsh(scaled), 0.0)  # below zero where the noise was less than expected
    return float(values.max() / values.sum()) if np.trace(scaled) > 0 else float("nan")


def triplet_accuracy(
    z: NDArray, y: NDArray, *, triplets: int = TRIPLETS, seed: int = 0, groups: Codes | None = None
) -> Triple:
    """Share of random triplets whose distances are in the order of their targets, with a 95% interval.

    Triplets (a, b, c) are drawn evenly among those with |y_a - y_b| < |y_a - y_c|; equal distances count as half
    right. Triplets that share a sample are not independent: the interval takes samples as the unit, by the variance
    of a mean over multiway clusters (Cameron, Gelbach and Miller, JBES 2011), or by the jackknife the groups that they
    come in.

    Args:
        z: [N, D] rows.
        y: [N] targets.
        triplets: how many.
        seed: of the draw.
        groups: [N] of the rows.

    Returns:
        accuracy, low, high; NaN if no triplet is in order.
    """
    target, rng = np.asarray(y, np.float64), np.random.default_rng(seed)
    drawn, short = np.empty((0, 3), np.int64), triplets
    for _ in range(50):  # ends early unless next to no triplet qualifies
        more = rng.integers(len(target), size=(4 * short + 1000, 3))
        a, b, c = target[more].T
        drawn = np.concatenate([drawn, more[(np.abs(a - b) < np.abs(a - c)) & (more[:, 0] != more[:, 1])]])[:triplets]
        short = triplets - len(drawn)
        if not short:
            break
    if not len(drawn):
        return NOTHING
    right = np.empty(len(drawn))
    for part in row_slices(len(drawn), 2048):
        anchor, near, far = (z[column].astype(np.float64) for column in drawn[part].T)
        close, wide = np.linalg.norm(anchor - near, axis=1), np.linalg.norm(anchor - far, axis=1)
        right[part] = (close < wide) + 0.5 * (close == wide)
    value = right.mean()
    error = right - value
    if groups is None:
        by_sample = np.bincount(drawn.T.ravel(), np.tile(error, 3), len(target))
        own = (error**2).sum()  # every triplet is in three samples: its own noise counts once
        half = 1.96 * np.sqrt(max((by_sample**2).sum() - 2 * own, own)) / len(drawn)
    else:
        half = _half_over_groups(error, groups[drawn.T])
    return float(value), float(max(value - half, 0.0)), float(min(value + half, 1.0))


def _half_over_groups(error: NDArray, groups: Codes) -> float:
    """Half the width of Student's interval of a mean over triplets whose members come in groups: the jackknife.

    Of few groups a triplet touches a large part, and the variance over multiway clusters is far too small (with 8
    images intervals held the truth 84% of the time; those of the jackknife, which leaves out all triplets that touch a
    group, 94%).

    Args:
        error: [T] deviations from the mean.
        groups: [3, T].
    """
    first, second, third = groups
    once = np.stack([first == first, second != first, (third != first) & (third != second)])
    count, total = len(error), count_units(groups, 0)
    touching = np.bincount(groups.ravel(), once.ravel(), total)
    sums = np.bincount(groups.ravel(), (error * once).ravel(), total)
    used = (touching > 0) & (touching < count)
    if used.sum() < 2:
        return float("nan")
    without = -sums[used] / (count - touching[used])
    freedom = int(used.sum()) - 1
    variance = freedom / (freedom + 1) * ((without - without.mean()) ** 2).sum()
    own = (error**2).sum() / count**2  # a triplet's own noise, which is in up to three groups, counts once
    variance -= (error**2 * (once.sum(axis=0) - 1)).sum() / count**2
    return float(stdtrit(freedom, 0.975) * np.sqrt(max(variance, own)))


def spearman_interval(
    x: NDArray, y: NDArray, *, resamples: int = RESAMPLES, seed: int = 0, groups: Codes | None = None
) -> Triple:
    """Spearman correlation of x and y [N] with its 95% percentile bootstrap interval; NaN if either is constant.

    With `groups` [N] whole groups are resampled.
    """
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return NOTHING
    value = weighted_spearman(x, y, np.ones((1, len(x))))[0]
    units = count_units(groups, len(x))
    if groups is not None and units < 2:
        return float(value), float("nan"), float("nan")
    counts = (c if groups is None else c[:, groups] for c in resample_counts(units, resamples, seed))
    drawn = np.concatenate([weighted_spearman(x, y, each) for each in counts])
    return float(value), *percentile_interval(drawn, n=units)


def weighted_spearman(x: NDArray, y: NDArray, counts: NDArray) -> NDArray[np.float64]:
    """Spearman correlations [B] of samples repeated `counts` [B, N] times; NaN if all that is left is constant."""
    total = counts.sum(axis=1, keepdims=True)
    first, second = (_middle_ranks(values, counts) - total / 2 for values in (x, y))
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.sqrt((counts * first**2).sum(axis=1) * (counts * second**2).sum(axis=1))
        return np.asarray((counts * first * second).sum(axis=1) / scale)


def _middle_ranks(values: NDArray, counts: NDArray) -> NDArray[np.float64]:
    """Ranks [B, N] of repeated values, minus one half; equal values share the middle of their places."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(group.max() + 1))
    mass = np.add.reduceat(counts[:, order], starts, axis=1)
    return np.asarray((np.cumsum(mass, axis=1) - mass / 2)[:, group])


def _orders(count: int, permutations: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """All orders of `count` classes if they are few, else random ones, in blocks [b, count]."""
    if count <= ENUMERATED:
        yield np.array(list(itertools.permutations(range(count))))
        return
    rng = np.random.default_rng(seed)
    for part in row_slices(permutations, 500):
        yield rng.permuted(np.tile(np.arange(count), (part.stop - part.start, 1)), axis=1)
