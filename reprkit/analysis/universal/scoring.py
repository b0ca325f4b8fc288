"""Losses of many dummy predictors in one pass over z.

One product of the centred z with the weights of all predictors serves raw and RMS-1 z, every temperature and every
task; a row block's logits are laid out [K, M, n] (output, predictor, sample), so that a task with C classes owns the
contiguous prefix [:C] and the running sum of exponentials over the outputs is the normaliser of every task at once.
A real-valued task owns the first output.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reprkit.analysis import linalg
from reprkit.analysis.universal.dummies import Dummies, View

COLUMNS = 512
"""Columns of z's product with the weights of predictors that are scored together: their weights and a block of rows
stay in a core's cache, however many predictors there are."""

SAFE_EXPONENT = 60.0
"""Logits within +-60 need no shift before exp in float32 (the sum of 1e12 terms still fits)."""


@dataclass(frozen=True)
class CrossEntropy:
    """One loss to compute: a discrete task, a view of z, and the permutation (and temperature) of each predictor.

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

    def of_part(self, view: View, predictors: slice) -> CrossEntropy:
        """The same of some predictors, in their view."""
        temperatures = None if self.temperatures is None else self.temperatures[predictors]
        return replace(self, view=view, permutations=self.permutations[predictors], temperatures=temperatures)


@dataclass(frozen=True)
class SquaredError:
    """One loss to compute: a real-valued task, a view of z, and what each predictor's output is mapped to.

    Attributes:
        view: raw or RMS-1 z.
        targets: [N] values of all rows of the pass; NaN takes no part.
        slopes, offsets: [M] the affine map `slope * output + offset`; None leaves outputs as they are.
    """

    view: View
    targets: np.ndarray
    slopes: np.ndarray | None = None
    offsets: np.ndarray | None = None

    def of_part(self, view: View, predictors: slice) -> SquaredError:
        """The same of some predictors, in their view."""
        slopes, offsets = (None if values is None else values[predictors] for values in (self.slopes, self.offsets))
        return replace(self, view=view, slopes=slopes, offsets=offsets)


Request = CrossEntropy | SquaredError


def dummy_losses(
    blocks: Iterable[np.ndarray],
    dummies: Dummies,
    requests: Sequence[Request],
    *,
    mean: np.ndarray,
    dtype: np.dtype | type = np.float32,
    workers: int | None = None,
) -> Iterator[tuple[slice, list[np.ndarray]]]:
    """Stream per-sample losses of every predictor.

    Args:
        blocks: [n, D] row blocks of raw z, in order.
        dummies: M predictors.
        requests: what to compute; requests with the same `view` object share its exponentials.
        mean: [D], what views centre z by.
        dtype: of the products; float32 agrees with float64 to about 1e-6 nats.
        workers: threads; the cores available by default.

    Yields:
        The rows of a block, and one [M, n] array of losses (nats, or squared units) for each request; 0 where a
        target is missing.
    """
    centre = mean.astype(dtype)
    rows = linalg.rows_for_cache(COLUMNS, itemsize=centre.itemsize)
    # What a predictor's outputs have in common is nothing to cross-entropy: the first one's product with z is saved.
    relative = dummies.second is None and all(isinstance(request, CrossEntropy) for request in requests)
    parts = []
    for predictors in dummies.parts(COLUMNS):
        some = dummies.part(predictors)
        views = {id(request.view): dummies.view_of_part(request.view, predictors) for request in requests}
        weights = some.relative_projection(dtype) if relative else some.projection(dtype)
        asked = [request.of_part(views[id(request.view)], predictors) for request in requests]
        parts.append((predictors, some, weights, asked))

    def losses_of(item: tuple[slice, np.ndarray]) -> tuple[slice, list[np.ndarray]]:
        where, block = item
        out = [np.empty((dummies.count, len(block)), dtype=dtype) for _ in requests]
        for part in linalg.row_slices(len(block), rows):
            centred = (block[part].astype(dtype, copy=False) - centre).T
            place = slice(where.start + part.start, where.start + part.stop)
            for predictors, some, weights, asked in parts:
                projected = weights @ centred
                if relative:
                    projected = np.concatenate([np.zeros((some.count, centred.shape[1]), dtype), projected])
                _losses(projected, some, asked, place, part, [loss[predictors] for loss in out])
        return where, out

    yield from linalg.ordered_map(losses_of, located(blocks), workers=workers)


def located(blocks: Iterable[np.ndarray]) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks with their places."""
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
        sharing = [(request, loss) for request, loss in zip(requests, out, strict=True) if request.view is view]
        plain = {r.classes for r, _ in sharing if isinstance(r, CrossEntropy) and r.temperatures is None}
        normalisers = log_sum_exp_prefixes(logits, plain)
        for request, loss in sharing:
            targets = request.targets[rows]
            if isinstance(request, SquaredError):
                loss[:, part] = _squared_errors(logits[0], request, targets)
                continue
            if request.temperatures is None:
                scaled, lse = logits, normalisers[request.classes]
            else:
                scaled = logits[: request.classes] * request.temperatures.astype(logits.dtype)[:, None]
                lse = log_sum_exp_prefixes(scaled, {request.classes})[request.classes]
            np.subtract(lse, picked(scaled, request.permutations, targets), out=loss[:, part])
            if (targets < 0).any():
                loss[:, part][:, targets < 0] = 0


def _squared_errors(outputs: np.ndarray, request: SquaredError, targets: np.ndarray) -> np.ndarray:
    """[M, n] squared errors of outputs [M, n]; 0 for missing targets."""
    error = outputs - targets.astype(outputs.dtype)
    if request.slopes is not None and request.offsets is not None:
        mapped = outputs * request.slopes.astype(outputs.dtype)[:, None]
        error = mapped + (request.offsets[:, None] - targets).astype(outputs.dtype)
    return np.nan_to_num(error**2)


def picked(logits: np.ndarray, permutations: np.ndarray, targets: np.ndarray) -> np.ndarray:
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
