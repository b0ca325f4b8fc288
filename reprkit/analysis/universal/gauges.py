"""What training rows decide about each dummy before it is scored: its gauge.

The outputs of an arbitrary predictor have no names and no unit. For classes, a dummy may be read under the permutation
that suits it best (Definition 2), and on RMS-1 z also at its best temperature. A real value has no permutations: there
the gauge is an affine map of the output, min over (a, b) of E(y - a f - b)^2, which contains the temperature; its
least value is (1 - correlation^2) Var(y).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from reprkit.analysis import linalg
from reprkit.analysis.rows import stratified_rows
from reprkit.analysis.universal.assignment import best_permutations, class_sums
from reprkit.analysis.universal.dummies import Dummies, View
from reprkit.analysis.universal.ridge import Moments
from reprkit.analysis.universal.scoring import CrossEntropy, Request, SquaredError
from reprkit.analysis.universal.study import Study

SAMPLE_ROWS = 4096
"""Training rows, stratified by class, that temperatures (and permutations and maps of mlp dummies) are fitted on."""

LOG_TEMPERATURES = (-9.0, 9.0)
"""Range of the natural logarithm of the dummy's inverse temperature; its lower end is a loss of log C."""


@dataclass(frozen=True)
class ClassGauge:
    """Permutations [M, C] on raw and on RMS-1 z, and temperatures [M] on RMS-1 z."""

    raw: np.ndarray
    rms1: np.ndarray
    temperatures: np.ndarray

    def requests(self, views: Mapping[str, View], targets: np.ndarray) -> dict[str, Request]:
        """The losses of each dummy: on raw z, on RMS-1 z, and there at its best temperature."""
        raw, rms1 = views["raw"], views["rms1"]
        return {
            "raw": CrossEntropy(raw, targets, self.raw),
            "rms1": CrossEntropy(rms1, targets, self.rms1),
            "tau": CrossEntropy(rms1, targets, self.rms1, self.temperatures),
        }


@dataclass(frozen=True)
class AffineGauge:
    """Slopes and offsets [M] of the outputs on RMS-1 z; raw outputs are taken as they are."""

    slopes: np.ndarray
    offsets: np.ndarray

    @property
    def temperatures(self) -> np.ndarray:
        """[M] sizes of the slopes."""
        return np.abs(self.slopes)

    def requests(self, views: Mapping[str, View], targets: np.ndarray) -> dict[str, Request]:
        """The losses of each dummy: on raw z as it is, and on RMS-1 z after the affine map."""
        mapped = SquaredError(views["rms1"], targets, self.slopes, self.offsets)
        return {"raw": SquaredError(views["raw"], targets), "rms1": mapped}


Gauge = ClassGauge | AffineGauge


def make_views(study: Study, dummies: Dummies) -> dict[str, View]:
    """Raw and RMS-1 z, as these dummies see them."""
    return {"raw": dummies.view(study.ws.mean, None), "rms1": dummies.view(study.ws.mean, study.rms)}


def fit_gauge(study: Study, dummies: Dummies, views: Mapping[str, View], name: str) -> Gauge:
    """The gauge of every dummy for one task; linear dummies need the moments of train alone."""
    target = study.targets[name]
    if not target.discrete and dummies.head == "linear":
        return AffineGauge(*linear_maps(dummies, views["rms1"], study.moments[name]))
    room = (1 << 26) // (dummies.count * dummies.outputs)  # the sample's logits stay below 256 MB
    rows = stratified_rows(target.values["train"], max(256, target.outputs, min(SAMPLE_ROWS, room)))
    sample, y = study.ws.rows("train", rows), target.values["train"][rows]
    on_rms1 = all_logits(sample, dummies, views["rms1"], mean=study.ws.mean)[: target.outputs]
    if not target.discrete:
        return AffineGauge(*sampled_maps(on_rms1[0], y))
    pi = {view: fit_permutations(study, dummies, views[view], name, sample, y) for view in ("raw", "rms1")}
    return ClassGauge(pi["raw"], pi["rms1"], fit_temperatures(on_rms1, y, pi["rms1"]))


def fit_permutations(
    study: Study, dummies: Dummies, view: View, name: str, sample: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """Best permutations [M, C] on train: exactly for linear dummies, on a sample of raw rows for others."""
    if dummies.head == "linear":
        statistics = study.ws.statistics
        return linear_permutations(dummies, view, statistics.class_counts[name], statistics.class_sums[name])
    logits = all_logits(sample, dummies, view, mean=study.ws.mean)
    return best_permutations(class_sums(logits[: study.targets[name].outputs], targets))


def linear_permutations(dummies: Dummies, view: View, counts: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Best permutations [M, C] of linear dummies, from class counts [C] and class sums [C, D] of the centred z."""
    classes = len(counts)
    products = sums @ dummies.first[:classes].reshape(-1, dummies.dim).T
    offsets = view.offset.reshape(dummies.outputs, dummies.count)[:classes]
    scores = products.reshape(classes, classes, dummies.count) * view.scale + counts[:, None, None] * offsets
    return best_permutations(scores.transpose(2, 0, 1))


def linear_maps(dummies: Dummies, view: View, moments: Moments) -> tuple[np.ndarray, np.ndarray]:
    """Slopes and offsets [M] that bring the first outputs of linear dummies closest to a standardised target."""
    weights = dummies.first[0] * view.scale
    variance = np.einsum("md,md->m", weights @ moments.covariance, weights)
    slopes = _ratio(weights @ moments.cross, variance)
    return slopes, -slopes * (weights @ moments.offset + view.offset[: dummies.count])


def sampled_maps(outputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same by least squares, from outputs [M, n] and targets [n]."""
    centre = outputs.mean(axis=1, dtype=np.float64)
    centred = outputs - centre[:, None]
    slopes = _ratio(centred @ targets, np.einsum("mn,mn->m", centred, centred))
    return slopes, targets.mean() - slopes * centre


def _ratio(covariances: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Regression slopes; 0 for an output that does not vary."""
    return np.divide(covariances, variances, out=np.zeros_like(variances), where=variances > 0)


def all_logits(z: np.ndarray, dummies: Dummies, view: View, *, mean: np.ndarray) -> np.ndarray:
    """[K, M, n] float32 logits of a few thousand rows of raw z."""
    return dummies.logits(dummies.projection() @ (z - mean.astype(np.float32)).T, view)


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
