"""How well a task can be read off a representation, or off another task's head, without training a probe.

The first three follow from moments of the labelled rows; LEEP and NCE from the outputs of a head.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from reprkit.analysis.linalg import one_hot, row_slices
from reprkit.analysis.moments import SufficientStatistics
from reprkit.analysis.rows import BLOCK_ROWS
from reprkit.analysis.shape.collapse import Classes
from reprkit.analysis.shape.estimates import Undefined

GRID_STEP = 0.5
"""Spacing of the search grid of `logme`, in log(alpha / beta)."""


def logme(moments: SufficientStatistics, products: NDArray, squares: ArrayLike) -> float:
    """Log maximum evidence per row of a Bayesian linear regression of each response on the centred Z; mean of them.

    y ~ N(Zw, 1/beta), w ~ N(0, 1/alpha), with alpha and beta at their maximum. You, Liu, Wang and Long, "LogME" (ICML
    2021), algorithm 1, whose fixed point is found here as the best t = alpha / beta: for each t the best beta is
    known in closed form, so that one dimension is searched, first on a grid. Deviation: Z is centred, since the
    published value moves with the mean of z. Responses are taken as they are: one-hot classes are not centred.

    Args:
        moments: of the N rows regressed on.
        products: [M, D], (Z - mean)' y of each response; for one-hot classes the class sums.
        squares: [M], y'y of each response; for one-hot classes the counts. Responses with 0 are left out.

    Returns:
        Nats per row, higher is better; the logarithm of a density, so it may be positive.

    Raises:
        Undefined: every response is 0, Z is constant, or a response is an exact linear function of Z.
    """
    n, total = moments.count, np.asarray(squares, np.float64)
    values, vectors = moments.eigen
    if not values.any():
        raise Undefined("the embeddings are constant")
    if not total.any():
        raise Undefined("the target does not vary")
    vectors, variances = vectors[:, values > 0], n * values[values > 0]
    explained = (products[total > 0] @ vectors) ** 2 / variances
    total = total[total > 0]
    if (total - explained.sum(axis=1) <= 1e-12 * total).any():
        raise Undefined("a target is an exact linear function of z: the evidence is infinite")

    def cost(log_t: NDArray, explained: NDArray, total: NDArray) -> NDArray:
        """Minus twice the evidence per row, up to a constant: [T, M] for log t [T]."""
        shrunk = variances / (variances + np.exp(log_t)[:, None])
        rest = np.maximum(total - shrunk @ explained.T, total * np.finfo(np.float64).eps)
        return np.log(rest / n) - np.log1p(-shrunk).sum(axis=1)[:, None] / n

    low, high = np.log(variances[-1] * 1e-8), np.log(variances[0] * n * 1e8)
    grid = np.arange(low, high, GRID_STEP)
    best = grid[cost(grid, explained, total).argmin(axis=0)]
    evidence = np.empty(len(total))
    for m, start in enumerate(best):
        one = explained[m : m + 1], total[m : m + 1]
        found = minimize_scalar(
            lambda log_t, one=one: float(cost(np.array([log_t]), *one)[0, 0]),
            bounds=(start - GRID_STEP, start + GRID_STEP),
            method="bounded",
            options={"xatol": 1e-7},
        )
        evidence[m] = -0.5 * (np.log(2 * np.pi) + 1 + found.fun)
    return float(evidence.mean())


def h_score(shares: NDArray[np.float64]) -> float:
    """H-score tr(pinv(S_T) S_B): sum of the shares of `collapse.discriminants`, between 0 and C - 1.

    Bao et al., "An information-theoretic approach to transferability in task transfer learning" (ICIP 2019).
    Labels at random give (C - 1) rank(Z) / (N - 1), which is C - 1 itself once features outnumber rows.
    """
    return float(shares.sum())


def ledoit_wolf_shrinkage(moments: SufficientStatistics) -> float:
    """Share in [0, 1] by which the covariance is shrunk towards a multiple of the identity.

    Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices" (J. Multivar. Anal. 2004).

    Raises:
        Undefined: Z is constant.
    """
    n, dim = moments.count, moments.dim
    if not moments.rms:
        raise Undefined("the embeddings are constant")
    square = float((moments.scatter**2).sum()) / n**2
    distance = square - float(np.trace(moments.scatter) / n) ** 2 / dim
    error = (moments.quartic / n - square) / n
    return min(error / distance, 1.0) if distance > 0 else 0.0


def regularised_h_score(moments: SufficientStatistics, task: str) -> float:
    """H-score with the Ledoit-Wolf covariance: tr(S_a^-1 (1 - a) S_B), at least 0, at most C - 1 for full-rank Z.

    S_a = (1 - a) S_T + a tr(S_T)/D I, with the shrinkage a. Ibrahim, Ponomareva and Mazumder, "Newer is not always
    better: rethinking transferability metrics" (ECML 2022). Not inflated by few rows, as `h_score` is.

    Raises:
        Undefined: fewer than two classes have rows, or Z is constant.
    """
    classes, share = Classes.of(moments, task), ledoit_wolf_shrinkage(moments)
    values, vectors = moments.eigen
    shrunk = (1 - share) * values + share * values.mean()
    power = classes.counts @ (classes.means @ vectors) ** 2 / classes.total
    used = shrunk > 0
    return float((1 - share) * (power[used] / shrunk[used]).sum())


def leep(probabilities: ArrayLike, targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Log expected empirical prediction of each row, in nats, at most 0; LEEP is the mean.

    log sum_s P(y | s) p(s | x), where P(y | s) is counted from the same rows. Nguyen, Hassner, Seeger and Archambeau,
    "LEEP" (ICML 2020). Depends on the temperature of the head.

    Args:
        probabilities: [N, S] of the source classes.
        targets: [N] class indices, none missing.
    """
    source = np.asarray(probabilities)
    joint = np.zeros((int(targets.max()) + 1, source.shape[1]))
    for rows in row_slices(len(source), BLOCK_ROWS):
        joint += one_hot(targets[rows], len(joint)) @ source[rows]
    mass = joint.sum(axis=0)
    conditional = np.divide(joint, mass, out=np.zeros_like(joint), where=mass > 0)
    likelihood = np.empty(len(source))
    for rows in row_slices(len(source), BLOCK_ROWS):
        likelihood[rows] = np.einsum("ns,ns->n", conditional[targets[rows]], source[rows])
    return np.minimum(np.log(likelihood), 0.0)


def nce(source: NDArray[np.int64], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """log P(y | s) of each row, in nats, at most 0; its mean is the negative conditional entropy -H(Y | S).

    Tran, Nguyen and Hassner, "Transferability and hardness of supervised classification tasks" (ICCV 2019):
    the mutual information I(S; Y) - H(Y).

    Args:
        source: [N] class indices, such as a head's predictions.
        targets: [N] class indices, none missing.
    """
    joint = np.zeros((int(targets.max()) + 1, int(source.max()) + 1))
    np.add.at(joint, (targets, source), 1)
    return np.log(joint[targets, source] / joint.sum(axis=0)[source])


def probabilities(logits: NDArray) -> NDArray:
    """Softmax of logits [N, S] over their last axis, of the same type."""
    found = np.empty_like(logits)
    for rows in row_slices(len(logits), BLOCK_ROWS):
        found[rows] = softmax(logits[rows], axis=-1)
    return found
