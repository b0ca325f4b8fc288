"""The minimum over class permutations, exactly, as a linear assignment.

For cross-entropy of logits x the loss of a predictor whose outputs are permuted by pi is

    mean_i [ logsumexp(x_i) - x_i[pi(y_i)] ]  =  mean_i logsumexp(x_i) - (1/N) sum_c S[c, pi(c)],
    S[c, k] = sum of x_i[k] over the samples of class c.

Only S depends on pi, and the log-sum-exp does not enter it: the best permutation is the assignment that maximises
sum_c S[c, pi(c)]. For a linear predictor S follows from the class sums of z, so pi costs no pass over the logits; and
since S scales with the logits, pi is the same at every temperature.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment


def best_permutations(scores: np.ndarray) -> np.ndarray:
    """Permutations that maximise `sum_c scores[m, c, pi(c)]`, one for each predictor.

    Args:
        scores: [M, C, C] class sums of the logits, `scores[m, c, k]`; rows of absent classes are zero.

    Returns:
        [M, C] int64: `pi[m, c]` is the output of predictor m that stands for class c.
    """
    return np.stack([linear_sum_assignment(matrix, maximize=True)[1] for matrix in scores]).astype(np.int64)


def class_sums(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """S[m, c, k] in float64 from logits [C, M, N] and class indices [N]; missing targets (-1) are left out."""
    classes, predictors, _ = logits.shape
    sums = np.zeros((predictors, classes, classes))
    for c in range(classes):
        rows = np.flatnonzero(targets == c)
        if len(rows):
            sums[:, c] = logits[:, :, rows].sum(axis=2, dtype=np.float64).T
    return sums


def best_loss(logits: np.ndarray, targets: np.ndarray) -> float:
    """min over permutations of the mean cross-entropy (nats) of one predictor: logits [N, C], class indices [N].

    The minimum is taken on the very samples that are scored; that is optimistic by O(C / N) nats. The score of
    `universality` chooses the permutation on the training split instead.
    """
    valid = targets >= 0
    x, y = logits[valid].astype(np.float64), targets[valid]
    peak = x.max(axis=1)
    lse = np.log(np.exp(x - peak[:, None]).sum(axis=1)) + peak
    pi = best_permutations(class_sums(x.T[:, None, :], y))[0]
    return float(np.mean(lse - x[np.arange(len(y)), pi[y]]))
