"""The problem on the simplex behind CAGrad and MGDA, solved exactly by an active-set method.

With unit gradients l_k (the rows of L), a > 0 and a radius phi:

    minimise   f(v) = c'L'v + phi |L'v|   over   v >= 0,  a'v = 1

Its dual asks for the vector e with |e| <= phi that maximises min_k <l_k, c + e> / a_k. In CAGrad c is the mean
gradient; c = 0, phi = 1 is MGDA. The simplex of raw weights w is v_k = w_k |g_k|, a_k = 1 / |g_k|: written for unit
gradients, no linear system sees the gradients' norms, and 1e-6 beside 1e6 does no harm.

On a support, with P = (L L' + a a')^-1, p = P a, q = P L c, the minimiser over the affine hull a'v = 1 is v0 + t r:

    v0 = p / a'p  (the shortest vector),   r = (a'q / a'p) p - q,   t = |L'v| / phi = |L'v0| / sqrt(phi^2 - |L'r|^2)

because a'r = 0, <L'v0, L'r> = 0 and L L'v = t (lambda a - L c). If |L'r| >= phi, f falls along r without end.
Supports change as in Wolfe, "Finding the nearest point in a polytope", Mathematical Programming 1976: walk from v to
the minimiser; a task whose weight reaches zero leaves; at the minimiser the task that violates the dual most enters.

L is a square root of C + ridge I, as if each gradient had a tiny component of its own: every support is regular, the
solution is unique and f is smooth where 0 lies in the hull of the gradients. f moves by at most phi sqrt(ridge) |v|.
What the ridge alone decides is lost in rounding: of combinations that leave L'v and a'v alone, v takes as much as it
can from the equal weights it starts with. Identical tasks share evenly. p and q are least squares solutions of
[L a]' p = (0, 1) and [L a]' q = (c, 0): rounding is magnified by 1 / sqrt(ridge) only.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from reprkit.training.balancing.active import SolverError

EPSILON = float(np.finfo(np.float64).eps)
TOLERANCE = 1e-8
ROUNDING = 1e-4


class Minimum(NamedTuple):
    """The solution: weights `v` [k] of the unit gradients, and `x` [k] with e = L'x, the solution of the dual.

    `gap` is the largest violation of <l_k, c + e> >= f(v) a_k, relative to |c| + phi: at most 1e-8, plus rounding of
    about 1e-7 where the hull of the gradients holds 0.
    """

    v: np.ndarray
    x: np.ndarray
    gap: float


def minimise(cosines: np.ndarray, a: np.ndarray, centre: np.ndarray, phi: float, *, ridge: float) -> Minimum:
    """Minimise c'L'v + phi |L'v| over v >= 0, a'v = 1.

    Args:
        cosines: [k, k] C, Gramian of the unit gradients.
        a: [k], positive; its largest entry is taken as 1.
        centre: [k], coefficients of c in the unit gradients.
        phi: positive.
        ridge: added to C, of the size of C's rounding errors. Combinations with |L'v|^2 <= ridge |v|^2 count as zero:
            x has no part in those.

    Raises:
        SolverError: the gap stays above 1e-8, or rounding adds more than 1e-4 to it.
    """
    count = len(a)
    values, vectors = np.linalg.eigh(cosines)
    rows = vectors * np.sqrt(np.maximum(values, 0) + ridge)
    c = rows.T @ centre
    scale = math.sqrt(c @ c) + phi
    a = a / a.max()
    equal = 1 / (a * count)  # raw weights 1 / k
    v = equal.copy()
    support = np.arange(count)
    gap = math.inf
    for _ in range(50 + 10 * count):
        target, t = _affine_minimum(rows[support], a[support], c, phi)
        falling = target < 0
        if t and not falling.any():
            v[support] = target
            slope = rows @ (c + rows.T @ v / t)
            excess = (slope - a * (slope @ v)) / scale
            gap = -float(excess.min())
            excess[support] = 0  # it is, but for rounding
            entering = int(excess.argmin())
            rounding = 100 * EPSILON * math.sqrt(v @ v) / (t * scale)
            if excess[entering] >= -TOLERANCE - rounding:
                if gap > ROUNDING:
                    break
                basis = vectors[:, values > ridge]
                x = basis @ (basis.T @ v) / t
                if basis.shape[1] < count:
                    v[support] = _share(rows[support], a[support], v[support], equal[support], ridge)
                return Minimum(v, x, gap)
            support = np.append(support, entering)
        else:
            move = target - v[support] if t else target
            limits = _limits(v[support], move, falling)
            blocked = limits <= limits.min() * (1 + 1e-12)
            v[support] = np.where(blocked, 0, np.maximum(v[support] + limits.min() * move, 0))
            v /= a @ v
            support = support[~blocked]
    raise SolverError("the problem on the simplex did not converge", gap)


def _affine_minimum(rows: np.ndarray, a: np.ndarray, c: np.ndarray, phi: float) -> tuple[np.ndarray, float]:
    """The minimiser over the affine hull of a support, and t; or a direction of endless fall, and 0."""
    size, rank = rows.shape
    system, sides = np.empty((rank + 1, size)), np.zeros((rank + 1, 2))
    system[:-1], system[-1] = rows.T, a / math.sqrt(a @ a)
    sides[-1, 0], sides[:-1, 1] = 1, c
    p, q = np.linalg.lstsq(system, sides)[0].T
    shared = a @ p
    shortest = p / shared
    r = (a @ q) / shared * p - q
    across, along = rows.T @ shortest, rows.T @ r
    room = phi**2 - along @ along
    if room <= 0:
        return r, 0.0
    t = math.sqrt(across @ across / room)
    return shortest + t * r, t


def _share(rows: np.ndarray, a: np.ndarray, v: np.ndarray, equal: np.ndarray, ridge: float) -> np.ndarray:
    """`v` moved towards `equal`, by at most |v|, as far as neither L'v nor a'v nor a sign changes."""
    left, values, _ = np.linalg.svd(np.column_stack([rows, a / math.sqrt(a @ a)]))
    idle = left[:, values**2 <= 4 * ridge]
    move = idle @ (idle.T @ (equal - v))
    move *= math.sqrt(v @ v) / max(math.sqrt(move @ move), math.sqrt(v @ v))
    length = min(1.0, float(_limits(v, move, move < 0).min()))
    return np.maximum(v + length * move, 0)


def _limits(v: np.ndarray, move: np.ndarray, falling: np.ndarray) -> np.ndarray:
    """After how many `move`s each weight that falls is zero; inf for the others."""
    return np.divide(v, -move, out=np.full(len(v), math.inf), where=falling)
