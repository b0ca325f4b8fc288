"""Linear maps: axes that mean the same everywhere, so that distances on them can be read as such.

They stand beside t-SNE because they cannot tear apart what lies together: a gap on a linear map is a gap in z.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.linalg import row_slices, single_thread_blas
from reprkit.analysis.maps.cloud import BLOCK_ROWS, Cloud
from reprkit.analysis.maps.plane import PlaneMap
from reprkit.analysis.probes.data import Moments, TaskData, cannot_be_probed
from reprkit.analysis.probes.discriminant import fit_lda
from reprkit.analysis.probes.protocol import Protocol
from reprkit.analysis.workspace import Workspace
from reprkit.errors import InputError

NO_AXIS = 1e-9
"""An axis that holds less than this share of what the first one holds is rounding."""


@dataclass(frozen=True)
class LinearPlane:
    """A projection to the plane, (z - centre) axes - shift.

    Attributes:
        centre: [D].
        axes: [D, 2]; the largest loading of each in magnitude is positive, so that signs do not depend on the LAPACK
            at hand. Zeros for an axis that there is not.
        shift: [2].
        explained: share of the variance (for discriminants: of that between classes) that the plane holds.
    """

    centre: NDArray[np.float64]
    axes: NDArray[np.float64]
    shift: NDArray[np.float64]
    explained: float

    def transform(self, z: NDArray) -> NDArray[np.float64]:
        """Coordinates [M, 2] of rows z [M, D], the same for any number of threads.

        Raises:
            InputError: another number of columns, or values that are not finite.
        """
        if z.ndim != 2 or z.shape[1] != len(self.centre):
            raise InputError(
                f"map: new samples have {z.shape[-1]} dimensions, the map's {len(self.centre)}; use the same encoder"
            )
        points = np.empty((len(z), 2))
        with single_thread_blas():
            for part in row_slices(len(z), BLOCK_ROWS):
                points[part] = (z[part] - self.centre) @ self.axes
        if not np.isfinite(points).all():
            raise InputError("map: new samples hold NaN or infinite values; drop those rows")
        return points - self.shift


def principal_map(cloud: Cloud) -> PlaneMap:
    """The first two principal components of the rows of a cloud, in units of their root mean square."""
    if not cloud.status.startswith("ok"):
        return PlaneMap("pca", np.zeros((len(cloud.rows), 2)), cloud.neighbors, cloud.status)
    plane = principal_plane(cloud.rows)
    return PlaneMap(
        "pca", plane.transform(cloud.rows), cloud.neighbors, cloud.status, explained=plane.explained,
        placement=partial(_project, plane, cloud),
    )  # fmt: skip


def principal_plane(rows: NDArray) -> LinearPlane:
    """First two principal axes, of length 1, of rows [N, D]."""
    centre = rows.mean(axis=0, dtype=np.float64)
    with single_thread_blas():  # sums in an order that does not depend on the machine's cores
        if rows.shape[1] <= len(rows):
            scatter = np.zeros((rows.shape[1], rows.shape[1]))
            for part in row_slices(len(rows), BLOCK_ROWS):
                block = rows[part] - centre
                scatter += block.T @ block
            values, vectors = np.linalg.eigh(scatter)
            axes = vectors[:, ::-1][:, :2]
        else:
            centred = rows - centre
            values, weights = np.linalg.eigh(centred @ centred.T)
            axes = centred.T @ weights[:, ::-1][:, :2]
            axes /= np.maximum(np.linalg.norm(axes, axis=0), np.finfo(float).tiny)
    total = float(values.sum())
    return LinearPlane(centre, _two(axes), np.zeros(2), float(values[-2:].sum() / total) if total > 0 else np.nan)


def discriminant_map(cloud: Cloud, z: NDArray, workspace: Workspace, task: str) -> PlaneMap:
    """Rows z [N, D], those of the cloud, on the plane that tells the classes of a task apart best on train."""
    kind, plane = f"lda:{task}", None
    status = cloud.status
    if status.startswith("ok"):
        plane, status = discriminant_plane(workspace, task)
    if plane is None:
        return PlaneMap(kind, np.zeros((len(z), 2)), cloud.neighbors, status)
    return PlaneMap(
        kind, plane.transform(z), cloud.neighbors, status, explained=plane.explained,
        placement=partial(_project, plane, None),
    )  # fmt: skip


def discriminant_plane(workspace: Workspace, task: str) -> tuple[LinearPlane | None, str]:
    """The first two canonical variates of a task's classes on the train split, and `ok` or why there are none.

    The generalised eigenvectors of the covariance between classes and (1 - s) S + s t I, S the covariance within
    classes and t its mean variance (Fisher, 1936; Rao, 1948), in standardised coordinates: the plane of the probe
    `lda`, s the one that it chooses on val. Units are standard deviations within classes. Two classes have one such
    axis; the second is then the principal axis of train that differs most from it, uncorrelated with it within classes.
    """
    data, protocol = TaskData.of(workspace, task), Protocol()
    reason = cannot_be_probed(data)
    if reason:
        return None, f"no map: {reason.removeprefix('skipped: ')}"
    shrinkage = float(fit_lda(workspace, data, protocol).params["shrinkage"])
    moments = Moments.of(workspace, data)
    counts, means = moments.class_counts[data.present], moments.class_means[data.present]
    with single_thread_blas():
        vectors = moments.eigen.vectors
        assert vectors is not None
        apart = np.sqrt(counts / counts.sum())[:, None] * (means - moments.mean)
        within = (vectors * moments.eigen.values) @ vectors.T - apart.T @ apart
        variance = float(np.trace(within)) / len(within)
        if not variance > 0:
            return None, "no map: samples of a class do not differ"
        metric = (1 - shrinkage) * within + shrinkage * variance * np.eye(len(within))
        solved = np.linalg.solve(metric, apart.T)
        values, turned = np.linalg.eigh(apart @ solved)
        if not values[-1] > 0:
            return None, "no map: class means are equal"
        kept = [-1] if values[-2] <= NO_AXIS * values[-1] else [-1, -2]
        axes = solved @ turned[:, kept] / np.sqrt(values[kept])
        if len(kept) == 1 and len(metric) > 1:
            axes = np.stack([axes[:, 0], _second_axis(axes[:, 0], vectors[:, :-3:-1], metric)], axis=1)
        axes = _two(axes)
        plane = LinearPlane(
            workspace.mean,
            axes * workspace.scale[:, None],
            moments.mean @ axes,
            float(values[kept].sum() / values[values > 0].sum()),
        )
    return plane, "ok"


def _second_axis(first: NDArray, candidates: NDArray, metric: NDArray) -> NDArray[np.float64]:
    """Of the candidates [D, n], the one that keeps most without the first axis, of length 1 in the metric."""
    rest = candidates - np.outer(first, first @ metric @ candidates)
    lengths = np.sqrt(np.einsum("dn,de,en->n", rest, metric, rest))
    best = int(np.argmax(lengths))
    return np.asarray(rest[:, best] / lengths[best])


def _two(axes: NDArray) -> NDArray[np.float64]:
    """[D, 2], each with a fixed sign."""
    signs = np.sign(np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0))
    axes = axes * np.where(signs == 0, 1.0, signs)
    return np.concatenate([axes, np.zeros((len(axes), 2 - axes.shape[1]))], axis=1)


def _project(plane: LinearPlane, cloud: Cloud | None, z: NDArray, n_jobs: int) -> NDArray[np.float64]:
    return plane.transform(z if cloud is None else cloud.standardise(z))
