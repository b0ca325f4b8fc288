"""The repulsion between the points of a t-SNE map, gathered on a grid with fast Fourier transforms.

Repulsion is a sum over all pairs of a smooth function of their difference. Each point is spread over the 3 x 3 nodes
about it, the nodes act on one another by convolution, and each point reads its sum from the same nodes (G. Linderman et
al., "Fast interpolation-based t-SNE for improved visualization of single-cell RNA-seq data", Nature Methods 16, 2019,
pp. 243-245). Three things make it cheaper here than where the idea comes from:

- points are spread by quadratic B-splines whose smoothing the transformed kernels undo, as in particle-mesh Ewald sums
  (U. Essmann et al., "A smooth particle mesh Ewald method", J. Chem. Phys. 103, 1995), so that the nodes of a map that
  is as exact stand nearly twice as far apart as those of cells with Lagrange polynomials;
- forces are convolved as such, K^2 dx and K^2 dy beside K, instead of being put together from the sums of K^2 weighted
  by 1, x, y and x^2 + y^2: one transform forward and three back, not four and four;
- spacings of nodes are a fixed ladder, so that the transformed kernels of one iteration serve most of the next ones.

Transforms are float32. Their rounding (1e-6) is far below the error of the grid, which the spacing decides: 4 % of the
forces of a wide map, less than openTSNE's there, and little of a small one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NODES = 3
"""Nodes along each axis that a point is spread over."""

WIDEST = 0.5
"""Largest spacing of nodes, in units of the map (the kernel falls to one half at distance 1)."""

LEAST_NODES = 40
"""Spacings along the longer side of the map, at least."""

STEPS = 4
"""Spacings to an octave."""


class Repulsion:
    """Repulsion between points; holds the transformed kernels of the last grid."""

    def __init__(self) -> None:
        self._grid: tuple[float, int] = (0.0, 0)
        self._kernels = np.empty((3, 0, 0), np.complex64)
        self._near = np.empty((NODES**2, NODES**2))

    def __call__(self, points: NDArray, *, workers: int = 1) -> tuple[NDArray[np.float64], float]:
        """Forces [N, 2], sum over j of K_ij^2 (y_i - y_j), and the sum over i != j of K_ij = 1 / (1 + |y_i - y_j|^2).

        The result does not depend on `workers`, the threads of the transforms.
        """
        from scipy import fft
        from scipy.sparse import csr_array

        columns = np.ascontiguousarray(points.T)
        low = columns.min(axis=1, keepdims=True)
        span = float((columns.max(axis=1, keepdims=True) - low).max())
        spacing = node_spacing(span)
        size = int(span / spacing + 0.5) + NODES
        length = fft.next_fast_len(2 * size - 1, real=True)
        self._prepare(spacing, length)

        place = (columns - low) / spacing
        first = np.rint(place).astype(np.int64)  # the map starts at node 1, so that node 0 is the first one of `low`
        shares = spline(place - first)
        node = first + np.arange(NODES)[:, None, None]  # [NODES, 2, N]
        nodes: NDArray[np.int64] = (node[:, None, 0] * size + node[None, :, 1]).reshape(NODES**2, -1).T.ravel()
        weights = (shares[:, None, 0] * shares[None, :, 1]).reshape(NODES**2, -1).T
        charge = np.bincount(nodes, weights.ravel(), size**2).reshape(size, size).astype(np.float32)

        # axis by axis, so that rows and columns of zeros are neither transformed nor made
        turned = fft.fft(fft.rfft(charge, length, axis=1, workers=workers), length, axis=0, workers=workers)
        half = fft.ifft(self._kernels * turned, axis=1, workers=workers)[:, :size]
        fields = fft.irfft(half, length, axis=2, workers=workers)[:, :, :size].reshape(3, -1)
        spread = csr_array(
            (weights.ravel(), nodes, np.arange(0, len(nodes) + 1, NODES**2)), shape=(len(points), size**2)
        )
        found = spread @ np.ascontiguousarray(fields.T)
        on_itself = np.einsum("na,ab,nb->", weights, self._near, weights, optimize=True)
        return found[:, 1:], float(found[:, 0].sum()) - float(on_itself)

    def _prepare(self, spacing: float, length: int) -> None:
        """Transforms [3, length, length / 2 + 1] of K, K^2 dx and K^2 dy on a grid that is closed to a torus.

        Beside them, what K becomes between the nodes of one point, [NODES^2, NODES^2].
        """
        from scipy import fft

        if self._grid == (spacing, length):
            return
        apart = fft.fftfreq(length, 1 / length) * spacing
        kernel = 1 / (1 + apart[:, None] ** 2 + apart**2)
        force = kernel**2 * apart[:, None]
        smoothed = spline_power(fft.fftfreq(length))
        kernels = fft.rfft2(np.stack([kernel, force, force.T]))
        kernels /= smoothed[:, None] * smoothed[: kernels.shape[2]]
        x, y = np.divmod(np.arange(NODES**2), NODES)
        self._near = fft.irfft2(kernels[0], (length, length))[x[:, None] - x, y[:, None] - y]
        self._kernels, self._grid = kernels.astype(np.complex64), (spacing, length)


def node_spacing(span: float) -> float:
    """Spacing of the nodes of a map that is `span` wide: the next on the ladder below `span / LEAST_NODES`."""
    wanted = min(WIDEST, max(span, 1e-9) / LEAST_NODES)
    return float(WIDEST * 2.0 ** (-np.ceil(STEPS * np.log2(WIDEST / wanted)) / STEPS))


def spline(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """[NODES, ...] values at `places`, -1/2 to 1/2, of the quadratic B-splines about the nodes -1, 0 and 1."""
    return np.stack([(0.5 - places) ** 2 / 2, 0.75 - places**2, (0.5 + places) ** 2 / 2])


def spline_power(frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
    """What spreading and reading by `spline` leave of a wave, its aliases included, at cycles a node.

    The sum over m of sinc(f + m)^6: the transform of the B-spline of degree 5 at the nodes.
    """
    turn = 2 * np.pi * frequencies
    return (33 + 26 * np.cos(turn) + np.cos(2 * turn)) / 60


class Divergence:
    """Kullback-Leibler divergence of a map and its gradient, as openTSNE's optimiser asks for them.

    Attraction is openTSNE's own sum over the neighbours; repulsion is `Repulsion`.
    """

    def __init__(self) -> None:
        self._repulsion = Repulsion()

    def __call__(
        self, embedding: Any, P: Any, *, n_jobs: int = 1, should_eval_error: bool = False, **_: Any
    ) -> tuple[float, NDArray[np.float64]]:
        """Divergence in nats (0 unless `should_eval_error`) and gradient [N, 2], of affinities P (CSR)."""
        from openTSNE._tsne import estimate_positive_gradient_nn

        forces, total = self._repulsion(np.asarray(embedding), workers=n_jobs)
        gradient = forces / -total
        sum_p, divergence = estimate_positive_gradient_nn(
            P.indices, P.indptr, P.data, embedding, embedding, gradient, 1, n_jobs, should_eval_error
        )
        if should_eval_error:
            divergence += sum_p * np.log(total)
        return divergence, gradient
