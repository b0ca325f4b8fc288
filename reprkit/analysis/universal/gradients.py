"""Full-batch gradient norms of dummy predictors: what DGR penalises, and what bounds the gap of linear dummies.

Theorem 3.1 of the paper, for a loss that is convex in the predictor phi and any other predictor phi*:

    L(phi) - L(phi*)  <=  <grad L(phi), phi - phi*>  <=  ||grad L(phi)|| ||phi - phi*||.

Cross-entropy and squared error are convex in a linear predictor; in a two-layer one they are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from reprkit.analysis import linalg
from reprkit.analysis.universal.dummies import Dummies
from reprkit.analysis.universal.optimal import Linear
from reprkit.analysis.universal.scoring import CrossEntropy, Request, located, log_sum_exp_prefixes
from reprkit.analysis.universal.targets import valid

MAX_SUMS = 1 << 24
"""Entries of all gradients that are summed in one pass."""


def predictor_groups(dummies: Dummies, outputs: int) -> Iterator[slice]:
    """Slices of the predictors whose gradients fit in memory together."""
    rows = outputs if dummies.second is None else dummies.first.shape[1]
    return linalg.row_slices(dummies.count, max(1, MAX_SUMS // (rows * dummies.dim)))


def gradient_norms(
    blocks: Iterable[np.ndarray],
    dummies: Dummies,
    requests: Sequence[Request],
    *,
    mean: np.ndarray,
    dtype: np.dtype | type = np.float32,
    workers: int | None = None,
) -> list[np.ndarray]:
    """Norms of the full-batch gradients of mean losses w.r.t. all parameters of each predictor.

    A mean over minibatches would be larger: the norm of a noisy gradient counts its noise.

    Args:
        blocks: [n, D] row blocks of raw z, in order.
        dummies: M predictors.
        requests: losses; permutations permute the last layer's outputs, temperatures and affine maps take no part.
        mean: [D], what views centre z by.
        dtype: of the products.
        workers: threads; the cores available by default.

    Returns:
        For each request [M] float64 norms.
    """
    weights, centre = dummies.projection(dtype), mean.astype(dtype)
    rows = linalg.rows_for_cache(len(weights), itemsize=weights.itemsize)

    def partial(item: tuple[slice, np.ndarray]) -> list[list[np.ndarray]]:
        where, block = item
        sums: list[list[np.ndarray]] = []
        for part in linalg.row_slices(len(block), rows):
            z = block[part].astype(dtype, copy=False) - centre
            projected = weights @ z.T
            place = slice(where.start + part.start, where.start + part.stop)
            sums = _added(sums, [_sums(z, projected, dummies, request, place) for request in requests])
        return sums

    total: list[list[np.ndarray]] = []
    for sums in linalg.ordered_map(partial, located(blocks), workers=workers):
        total = _added(total, [[values.astype(np.float64) for values in terms] for terms in sums])
    return [_norms(terms, dummies, request) for terms, request in zip(total, requests, strict=True)]


def _added(total: list[list[np.ndarray]], terms: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
    if not total:
        return terms
    return [[a + b for a, b in zip(left, right, strict=True)] for left, right in zip(total, terms, strict=True)]


def _sums(z: np.ndarray, projected: np.ndarray, dummies: Dummies, request: Request, rows: slice) -> list[np.ndarray]:
    """Sums over some rows of the derivatives w.r.t. each layer's weights and biases, on centred z."""
    y = request.targets[rows]
    error = _errors(dummies.logits(projected, request.view), request, y)
    if dummies.second is None:
        return [error.reshape(-1, len(y)) @ z, error.sum(axis=2).ravel()]
    second = dummies.second[:, : len(error)].astype(z.dtype)
    hidden = dummies.hidden(projected, request.view).reshape(dummies.count, -1, len(y))
    per_head = np.ascontiguousarray(error.transpose(1, 0, 2))
    back = second.transpose(0, 2, 1) @ per_head * (hidden > 0)
    terms = [back.reshape(-1, len(y)) @ z, back.sum(axis=2).ravel()]
    return [*terms, per_head @ hidden.transpose(0, 2, 1), per_head.sum(axis=2)]


def _norms(terms: Sequence[np.ndarray], dummies: Dummies, request: Request) -> np.ndarray:
    first, bias, *outer = terms
    view = request.view
    first = first * view.scale + bias[:, None] * view.origin  # sums ran over z - mean: map them into the view
    squares = np.sum(first**2, axis=1) + bias**2
    squares = (
        squares.reshape(-1, dummies.count).sum(axis=0)
        if dummies.second is None
        else squares.reshape(dummies.count, -1).sum(axis=1)
    )
    squares = squares + sum((values**2).reshape(dummies.count, -1).sum(axis=1) for values in outer)
    return np.sqrt(squares) / np.count_nonzero(valid(request.targets))


def _errors(logits: np.ndarray, request: Request, targets: np.ndarray) -> np.ndarray:
    """Derivative of the loss w.r.t. the outputs that take part, [C, M, n]; 0 for missing targets."""
    missing = ~valid(targets)
    if not isinstance(request, CrossEntropy):
        error = 2 * (logits[:1] - targets.astype(logits.dtype))
    else:
        logits = logits[: request.classes]
        error = np.exp(logits - log_sum_exp_prefixes(logits, {request.classes})[request.classes])
        known = np.flatnonzero(~missing)
        error[request.permutations[:, targets[known]], np.arange(logits.shape[1])[:, None], known] -= 1
    if missing.any():
        error[:, :, missing] = 0
    return error


def distances(dummies: Dummies, permutations: np.ndarray | None, star: Linear, mean: np.ndarray) -> np.ndarray:
    """||phi_m - phi*|| of linear dummies on raw z, weights and bias, with the outputs of each dummy permuted.

    Args:
        dummies: M linear predictors.
        permutations: [M, C]: the output that stands for each class; None for the first output alone.
        star: phi*, a predictor of z - mean with as many outputs.
        mean: [D].

    Returns:
        [M] distances.
    """
    outputs = len(star.bias)
    chosen = np.zeros((dummies.count, 1), dtype=np.int64) if permutations is None else permutations
    if chosen.shape[1] != outputs:
        raise ValueError(f"phi* has {outputs} outputs, the dummies have {chosen.shape[1]}")
    bias = star.bias - star.weights @ mean
    squares = np.zeros(dummies.count)
    for c in range(outputs):  # [M, D] at a time
        own, predictor = chosen[:, c], np.arange(dummies.count)
        squares += ((dummies.first[own, predictor] - star.weights[c]) ** 2).sum(axis=1)
        squares += (dummies.first_bias[own, predictor] - bias[c]) ** 2
    return np.sqrt(squares)
