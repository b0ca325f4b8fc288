"""Losses and gradients of many dummy predictors in one pass over z.

One product of the centred z with the weights of all predictors serves raw and RMS-1 z, every temperature and every
task; a row block's logits are laid out [K, M, n] (output, predictor, sample), so that a task with C classes owns the
contiguous prefix [:C] and the running sum of exponentials over the outputs is the normaliser of every task at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from reprkit.analysis import linalg
from reprkit.analysis.assignment import best_permutations, class_sums
from reprkit.analysis.dummies import Dummies, View

SAFE_EXPONENT = 60.0
"""Logits within +-60 need no shift before exp in float32 (the sum of 1e12 terms still fits)."""

LOG_TEMPERATURES = (-9.0, 9.0)
"""Range of the natural logarithm of the dummy's inverse temperature; its lower end is a loss of log C."""


@dataclass(frozen=True)
class Request:
    """One loss to compute: a task, a view of z, and the permutation (and temperature) of each predictor.

    Attributes:
        view: raw or RMS-1 z.
        targets: [N] class indices of all rows of the pass; -1 takes no part.
        permutations: [M, C]: the output that stands for each class.
        temperatures: [M] factors of the logits, or None for 1.
    """

    view: View
    targets: np.ndarray
    permutations: np.ndarray
    temperatures: np.ndarray | None = None

    @property
    def classes(self) -> int:
        """C."""
        return self.permutations.shape[1]


def dummy_losses(
    blocks: Iterable[np.ndarray],
    dummies: Dummies,
    requests: Sequence[Request],
    *,
    mean: np.ndarray,
    dtype: np.dtype | type = np.float32,
    workers: int | None = None,
) -> Iterator[tuple[slice, list[np.ndarray]]]:
    """Stream per-sample cross-entropies of every predictor.

    Args:
        blocks: [n, D] row blocks of raw z, in order.
        dummies: M predictors.
        requests: what to compute; requests with the same `view` object share its exponentials.
        mean: [D], what views centre z by.
        dtype: of the products; float32 agrees with float64 to about 1e-6 nats.
        workers: threads; the cores available by default.

    Yields:
        The rows of a block, and one [M, n] array of losses in nats for each request; 0 where a target is missing.
    """
    weights = dummies.projection(dtype)
    centre = mean.astype(dtype)
    rows = linalg.rows_for_cache(len(weights), itemsize=weights.itemsize)

    def losses_of(item: tuple[slice, np.ndarray]) -> tuple[slice, list[np.ndarray]]:
        where, block = item
        out = [np.empty((dummies.count, len(block)), dtype=dtype) for _ in requests]
        for part in linalg.row_slices(len(block), rows):
            projected = weights @ (block[part].astype(dtype, copy=False) - centre).T
            _losses(projected, dummies, requests, slice(where.start + part.start, where.start + part.stop), part, out)
        return where, out

    yield from linalg.ordered_map(losses_of, _located(blocks), workers=workers)


def _located(blocks: Iterable[np.ndarray]) -> Iterator[tuple[slice, np.ndarray]]:
    start = 0
    for block in blocks:
        yield slice(start, start + len(block)), block
        start += len(block)


def _losses(
    projected: np.ndarray,
    dummies: Dummies,
    requests: Sequence[Request],
    rows: slice,
    part: slice,
    out: list[np.ndarray],
) -> None:
    for view in {id(request.view): request.view for request in requests}.values():
        logits = dummies.logits(projected, view)
        sharing = [i for i, request in enumerate(requests) if request.view is view]
        plain = {requests[i].classes for i in sharing if requests[i].temperatures is None}
        normalisers = log_sum_exp_prefixes(logits, plain)
        for i in sharing:
            request = requests[i]
            if request.temperatures is None:
                scaled, lse = logits, normalisers[request.classes]
            else:
                scaled = logits[: request.classes] * request.temperatures.astype(logits.dtype)[:, None]
                lse = log_sum_exp_prefixes(scaled, {request.classes})[request.classes]
            targets = request.targets[rows]
            np.subtract(lse, _picked(scaled, request.permutations, targets), out=out[i][:, part])
            if (targets < 0).any():
                out[i][:, part][:, targets < 0] = 0


def _picked(logits: np.ndarray, permutations: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """[M, n] logits[pi_m(y_i), m, i]; any output for a missing target."""
    _, predictors, n = logits.shape
    start = permutations * (predictors * n) + np.arange(predictors)[:, None] * n
    index = start.take(np.maximum(targets, 0), axis=1)
    index += np.arange(n)
    return logits.ravel().take(index)


def log_sum_exp_prefixes(logits: np.ndarray, sizes: Iterable[int]) -> dict[int, np.ndarray]:
    """{C: log sum over k < C of exp(logits[k])} for each C of `sizes`; logits [K, ...], each result [...]."""
    wanted = sorted(set(sizes))
    if not wanted:
        return {}
    used = logits[: wanted[-1]]
    if max(float(used.max()), -float(used.min())) > SAFE_EXPONENT:
        result = {}
        for size in wanted:
            peak = used[:size].max(axis=0)
            result[size] = np.log(np.exp(used[:size] - peak).sum(axis=0)) + peak
        return result
    terms = np.exp(used)
    running, result = terms[0], {}
    for k in range(1, wanted[-1] + 1):
        if k in wanted:
            result[k] = np.log(running)
        if k < wanted[-1]:
            running += terms[k]
    return result


def linear_permutations(dummies: Dummies, view: View, counts: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Best permutations [M, C] of linear dummies, from class counts [C] and class sums [C, D] of the centred z."""
    classes = len(counts)
    products = sums @ dummies.first[:classes].reshape(-1, dummies.dim).T
    offsets = view.offset.reshape(dummies.outputs, dummies.count)[:classes]
    scores = products.reshape(classes, classes, dummies.count) * view.scale + counts[:, None, None] * offsets
    return best_permutations(scores.transpose(2, 0, 1))


def all_logits(z: np.ndarray, dummies: Dummies, view: View, *, mean: np.ndarray) -> np.ndarray:
    """[K, M, n] float32 logits of a few thousand rows of raw z."""
    return dummies.logits(dummies.projection() @ (z - mean.astype(np.float32)).T, view)


def sampled_permutations(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Best permutations [M, C] from logits [C, M, n]."""
    return best_permutations(class_sums(logits, targets))


def fit_temperatures(
    logits: np.ndarray, targets: np.ndarray, permutations: np.ndarray, *, steps: int = 26
) -> np.ndarray:
    """The factor of each predictor's logits with the least mean cross-entropy.

    The loss is convex in the factor, so bisection on the sign of its derivative finds the optimum; after 26 steps
    the logarithm is known to 3e-7 (the loss, flat there, far better).

    Args:
        logits: [C, M, n]; every target must be valid.
        targets: [n].
        permutations: [M, C].

    Returns:
        [M] float64 factors in exp(+-9); the lower end where the predictor is better silenced.
    """

    def of_one(m: int) -> float:
        margins = logits[:, m] - logits[permutations[m, targets], m, np.arange(len(targets))]
        peak = margins.max(axis=0)
        below = margins - peak
        mean_peak = float(peak.mean(dtype=np.float64))
        low, high = LOG_TEMPERATURES
        for _ in range(steps):
            middle = (low + high) / 2
            terms = np.exp(below * below.dtype.type(np.exp(middle)))
            slope = np.einsum("kn,kn->n", terms, below) / terms.sum(axis=0)
            if float(slope.mean(dtype=np.float64)) + mean_peak >= 0:
                high = middle
            else:
                low = middle
        return float(np.exp((low + high) / 2))

    return np.array(list(linalg.ordered_map(of_one, range(permutations.shape[0]))))


def gradient_norms(
    blocks: Iterable[np.ndarray],
    dummies: Dummies,
    targets: np.ndarray,
    classes: int,
    view: View,
    *,
    mean: np.ndarray,
    dtype: np.dtype | type = np.float32,
    workers: int | None = None,
) -> np.ndarray:
    """Norm of the full-batch gradient of the mean cross-entropy w.r.t. all parameters of each predictor.

    Labels are taken as they are (no permutation), as in training. A mean over minibatches would be larger: the norm
    of a noisy gradient counts its noise.

    Args:
        blocks: [n, D] row blocks of raw z.
        dummies: M predictors.
        targets: [N] class indices, -1 for missing; at least one valid.
        classes: C; outputs beyond it take no part.
        view: raw or RMS-1 z.
        mean: [D], what the view centres z by.

    Returns:
        [M] float64 norms.
    """
    weights, centre = dummies.projection(dtype), mean.astype(dtype)
    rows = linalg.rows_for_cache(len(weights), itemsize=weights.itemsize)
    second = None if dummies.second is None else dummies.second[:, :classes].astype(dtype)

    def partial(item: tuple[slice, np.ndarray]) -> list[np.ndarray]:
        where, block = item
        sums: list[np.ndarray] = []
        for part in linalg.row_slices(len(block), rows):
            y = targets[where.start + part.start : where.start + part.stop]
            z = block[part].astype(dtype, copy=False) - centre
            projected = weights @ z.T
            error = _errors(dummies.logits(projected, view)[:classes], y)
            if second is None:
                terms = [error.reshape(-1, len(y)) @ z, error.sum(axis=2).ravel()]
            else:
                hidden = dummies.hidden(projected, view).reshape(dummies.count, -1, len(y))
                per_head = np.ascontiguousarray(error.transpose(1, 0, 2))
                back = second.transpose(0, 2, 1) @ per_head * (hidden > 0)
                terms = [back.reshape(-1, len(y)) @ z, back.sum(axis=2).ravel()]
                terms += [per_head @ hidden.transpose(0, 2, 1), per_head.sum(axis=2)]
            sums = [a + b for a, b in zip(sums, terms, strict=True)] if sums else terms
        return sums

    total: list[np.ndarray] = []
    for sums in linalg.ordered_map(partial, _located(blocks), workers=workers):
        parts = [values.astype(np.float64) for values in sums]
        total = [a + b for a, b in zip(total, parts, strict=True)] if total else parts
    first, bias, *outer = total
    first = first * view.scale + bias[:, None] * view.origin  # sums ran over z - mean: map them into the view
    owner = (classes, dummies.count) if second is None else (dummies.count, -1)
    axis = 0 if second is None else 1
    squares = (np.sum(first**2, axis=1) + bias**2).reshape(owner).sum(axis=axis)
    squares += sum((values**2).reshape(dummies.count, -1).sum(axis=1) for values in outer)
    return np.sqrt(squares) / np.count_nonzero(targets >= 0)


def _errors(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """softmax(logits) - one-hot, [C, M, n]; 0 for missing targets."""
    lse = log_sum_exp_prefixes(logits, {len(logits)})[len(logits)]
    error = np.exp(logits - lse)
    valid = np.flatnonzero(targets >= 0)
    error[targets[valid], :, valid] -= 1
    if len(valid) < len(targets):
        error[:, :, targets < 0] = 0
    return error
