"""The repulsion between the points of a t-SNE map, interpolated on a grid with fast Fourier transforms.

Repulsion is a sum over all pairs of a smooth function of their difference. Each point is spread over the 3 x 3 nodes of
its cell (Lagrange polynomials), the nodes act on one another by convolution, and each point reads its sum from the same
nodes (G. Linderman et al., "Fast interpolation-based t-SNE for improved visualization of single-cell RNA-seq data",
Nature Methods 16, 2019, pp. 243-245). Two things make it cheaper here than where the idea comes from:

- forces are convolved as such, K^2 dx and K^2 dy beside K, instead of being put together from the sums of K^2 weighted
  by 1, x, y and x^2 + y^2: one transform forward and three back, not four and four;
- the widths of cells are a fixed ladder, so that the transformed kernels of one iteration serve most of the next ones.

Transforms are float32. Their rounding (1e-6) is far below the error of the interpolation, which the width of the cells
decides: 3 % of the forces of a wide map, less than openTSNE's there, and little of a small one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NODES = 3
"""Nodes of a cell along each axis."""

WIDEST = 0.8
"""Largest width of a cell, in units of the map (the kernel falls to one half at distance 1)."""

LEAST_CELLS = 25
"""Cells along each axis, at least."""

STEPS = 4
"""Widths of cells to an octave."""


class Repulsion:
    """Repulsion between points; holds the transformed kernels of the last grid."""

    def __init__(self) -> None:
        self._grid: tuple[float, int] = (0.0, 0)
        self._kernels = np.empty((3, 0, 0), np.complex64)

    def __call__(self, points: NDArray, *, workers: int = 1) -> tuple[NDArray[np.float64], float]:
        """Forces [N, 2], sum over j of K_ij^2 (y_i - y_j), and the sum over i != j of K_ij = 1 / (1 + |y_i - y_j|^2).

        The result does not depend on `workers`, the threads of the transforms.
        """
        from scipy import fft
        from scipy.sparse import csr_array

        low = points.min(axis=0)
        span = float(np.ptp(points, axis=0).max())
        width = cell_width(span)
        size = NODES * (int(span / width) + 1)
        length = fft.next_fast_len(2 * size - 1, real=True)

        place = (points - low) / width
        cell = place.astype(np.int64)
        shares = lagrange(NODES * (place - cell) - 0.5)
        node = NODES * cell + np.arange(NODES)[:, None, None]  # [NODES, N, 2]
        nodes: NDArray[np.int64] = (node[:, None, :, 0] * size + node[None, :, :, 1]).reshape(NODES**2, -1).T.ravel()
        weights = (shares[:, None, :, 0] * shares[None, :, :, 1]).reshape(NODES**2, -1).T
        charge = np.bincount(nodes, weights.ravel(), size**2).reshape(size, size).astype(np.float32)

        # axis by axis, so that rows and columns of zeros are neither transformed nor made
        turned = fft.fft(fft.rfft(charge, length, axis=1, workers=workers), length, axis=0, workers=workers)
        half = fft.ifft(self._transformed(width, length) * turned, axis=1, workers=workers)[:, :size]
        fields = fft.irfft(half, length, axis=2, workers=workers)[:, :, :size].reshape(3, -1)
        spread = csr_array(
            (weights.ravel(), nodes, np.arange(0, len(nodes) + 1, NODES**2)), shape=(len(points), size**2)
        )
        found = spread @ np.ascontiguousarray(fields.T)
        on_itself = np.einsum("na,ab,nb->", weights, kernel_in_cell(width), weights, optimize=True)
        return found[:, 1:], float(found[:, 0].sum()) - float(on_itself)

    def _transformed(self, width: float, length: int) -> NDArray[np.complex64]:
        """[3, length, length / 2 + 1] transforms of K, K^2 dx and K^2 dy on a grid that is closed to a torus."""
        from scipy import fft

        if self._grid != (width, length):
            apart = fft.fftfreq(length, 1 / length) * width / NODES
            kernel = 1 / (1 + apart[:, None] ** 2 + apart**2)
            force = kernel**2 * apart[:, None]
            self._kernels = fft.rfft2(np.stack([kernel, force, force.T]).astype(np.float32))
            self._grid = width, length
        return self._kernels


def cell_width(span: float) -> float:
    """Width of the cells of a map that is `span` wide: the next on the ladder below `span / LEAST_CELLS`."""
    wanted = min(WIDEST, max(span, 1e-9) / LEAST_CELLS)
    return float(WIDEST * 2.0 ** (-np.ceil(STEPS * np.log2(WIDEST / wanted)) / STEPS))


def kernel_in_cell(width: float) -> NDArray[np.float64]:
    """[NODES^2, NODES^2] of K between the nodes of one cell: what interpolation makes of a point's K with itself."""
    place = np.stack(np.divmod(np.arange(NODES**2), NODES), axis=1) * (width / NODES)
    return 1 / (1 + ((place[:, None] - place) ** 2).sum(axis=2))


def lagrange(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """[NODES, ...] values at `places` of the polynomials that are 1 at one of the nodes 0, 1, 2 and 0 at the others."""
    shares = np.ones((NODES, *places.shape))
    for node in range(NODES):
        for other in range(NODES):
            if other != node:
                shares[node] *= (places - other) / (node - other)
    return shares


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
