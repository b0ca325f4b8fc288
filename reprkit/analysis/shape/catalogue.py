"""Every geometry metric, registered once: what it needs, what leaves it unchanged, how to read it, where it is from.

The table drives `geometry` and `similarity`, the tests (each declared invariance is checked, and each one that is not
declared is shown to fail) and the documentation (`table`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reprkit.analysis.moments import SufficientStatistics
from reprkit.analysis.shape import collapse, distances, spectrum, transfer
from reprkit.analysis.shape.estimates import Estimate, Undefined
from reprkit.analysis.shape.metric import NEIGHBOURS, RIGID, TRANSFORMATIONS, Given, Metric, Pair
from reprkit.analysis.shape.similarity import above_chance
from reprkit.analysis.stats import sample_interval


def _varying(value: Callable[[SufficientStatistics], float]) -> Callable[[Given], Estimate]:
    """A property of moments that says nothing of a constant."""

    def compute(given: Given) -> Estimate:
        _varies(given)
        return Estimate(value(given.moments))

    return compute


def _varies(given: Given) -> None:
    """Raise Undefined for a constant, up to the rounding of float32."""
    if not given.moments.rms:
        raise Undefined("the embeddings are constant")


def _of_classes(value: Callable[[collapse.Classes], float], remark_of_two: str = "") -> Callable[[Given], Estimate]:
    def compute(given: Given) -> Estimate:
        classes = collapse.Classes.of(given.moments, given.task)
        return Estimate(value(classes), remark=remark_of_two if len(classes.counts) == 2 else "")

    return compute


def _anisotropy(given: Given) -> Estimate:
    if given.moments.count < 2:
        raise Undefined("one row only")
    if not given.moments.norm_sum:
        raise Undefined("all embeddings are zero")
    return Estimate(given.moments.anisotropy)


def _power_law(field: Literal["alpha", "r2"]) -> Callable[[Given], Estimate]:
    def compute(given: Given) -> Estimate:
        law = spectrum.alpha_req(given.moments.eigen[0])
        if np.isnan(law.r2) and field == "r2":
            raise Undefined("all eigenvalues are equal")
        return Estimate(getattr(law, field), remark=f"fitted to eigenvalues {law.first} to {law.last}")

    return compute


def _discriminating(value: Callable[[NDArray[np.float64]], float], chance: bool = False) -> Callable[[Given], Estimate]:
    def compute(given: Given) -> Estimate:
        shares, rank = collapse.discriminants(given.moments, given.task)
        classes = int((given.moments.class_counts[given.task] > 0).sum())
        at_random = (classes - 1) * min(rank / (given.moments.count - 1), 1.0)
        return Estimate(value(shares), remark=f"labels at random give {at_random:.3g}" if chance else "")

    return compute


def _logme(given: Given) -> Estimate:
    if given.products is not None and given.squares is not None:
        return Estimate(transfer.logme(given.moments, given.products, given.squares))
    classes = collapse.Classes.of(given.moments, given.task)
    return Estimate(transfer.logme(given.moments, classes.means * classes.counts[:, None], classes.counts))


def _two_nn(given: Given) -> Estimate:
    _varies(given)
    found = distances.two_nn(given.sample)
    remark = f"{found.duplicates} duplicates left out" if found.duplicates else ""
    return Estimate(found.value, n=found.rows, remark=remark)


def _silhouette(given: Given) -> Estimate:
    assert given.targets is not None
    _varies(given)
    return Estimate(float(distances.silhouette(given.sample, given.targets).mean()))


def _uniformity(given: Given) -> Estimate:
    keep, remark = _nonzero(given)
    return Estimate(distances.uniformity(given.sample[keep]), n=int(keep.sum()), remark=remark)


def _alignment(given: Given) -> Estimate:
    assert given.targets is not None
    keep, remark = _nonzero(given)
    values = distances.alignment(given.sample[keep], given.targets[keep])
    return Estimate(float(np.nanmean(values)), n=int((~np.isnan(values)).sum()), remark=remark)


def _nonzero(given: Given) -> tuple[NDArray[np.bool_], str]:
    """Rows that have a direction, and a remark on the others."""
    keep: NDArray[np.bool_] = np.asarray(given.sample.any(axis=1))
    if not keep.any():
        raise Undefined("all embeddings are zero")
    lost = int((~keep).sum())
    return keep, f"{lost} zero rows left out" if lost else ""


def _mutual(pair: Pair) -> Estimate:
    return Estimate(float(pair.shared.mean()), remark=f"k = {NEIGHBOURS}")


def _mutual_above_chance(pair: Pair) -> Estimate:
    chance = NEIGHBOURS / (len(pair.shared) - 1)
    value = above_chance(float(pair.shared.mean()), chance)
    return Estimate(value, remark=f"k = {NEIGHBOURS}, chance {chance:.3g}")


INF = float("inf")
NOTHING: frozenset[str] = frozenset()
PAPYAN = "Papyan, Han and Donoho, PNAS 2020"

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "rms", "moments", "none", RIGID - {"scale"}, "", 0, INF,
            "root mean square of the entries of the centred z", "-",
            lambda given: Estimate(given.moments.rms),
        ),
        Metric(
            "anisotropy", "moments", "none", RIGID - {"shift"}, "", -1, 1,
            "mean cosine between two rows: 1 if all point one way", "Ethayarajh, EMNLP 2019",
            _anisotropy,
        ),
        Metric(
            "effective_rank", "moments", "none", RIGID, "", 1, INF,
            "directions in use: exp of the entropy of the centred singular values", "Roy and Vetterli, EUSIPCO 2007",
            _varying(lambda moments: moments.effective_rank),
        ),
        Metric(
            "rankme", "moments", "none", RIGID - {"shift"}, "", 1 - 1e-6, INF,
            "the same of z as it is, not centred, as published", "Garrido et al., ICML 2023",
            lambda given: Estimate(spectrum.rankme(spectrum.singular_values(given.moments))),
        ),
        Metric(
            "participation_ratio", "moments", "none", RIGID, "", 1, INF,
            "directions in use, by variances: (sum of eigenvalues)^2 / sum of squares", "Gao et al., bioRxiv 2017",
            _varying(lambda moments: moments.participation_ratio),
        ),
        Metric(
            "stable_rank", "moments", "none", RIGID, "", 1, INF,
            "total variance over that of the first direction", "Rudelson and Vershynin, J. ACM 2007",
            _varying(lambda moments: spectrum.stable_rank(moments.eigen[0])),
        ),
        Metric(
            "alpha_req", "moments", "none", RIGID, "", 0, INF,
            "power-law decay of the covariance eigenvalues; near 1 is reported as best", "Agrawal et al., NeurIPS 2022",
            _power_law("alpha"),
        ),
        Metric(
            "alpha_req_r2", "moments", "none", RIGID, "", 0, 1,
            "how well the power law fits; if badly, alpha_req says little", "Agrawal et al., NeurIPS 2022",
            _power_law("r2"),
        ),
        Metric(
            "two_nn", "rows", "none", RIGID, "", 0, INF,
            "intrinsic dimension, from each row's two nearest neighbours", "Facco et al., Sci. Rep. 2017",
            _two_nn,
        ),
        Metric(
            "uniformity", "rows", "none", RIGID - {"shift"}, "lower", -8, 0,
            "log mean exp(-2 d^2) on the sphere: 0 if all rows point one way", "Wang and Isola, ICML 2020",
            _uniformity,
        ),
        Metric(
            "nc1", "moments", "classes", RIGID, "", 0, INF,
            "spread within classes against that of their means: tr(S_W pinv(S_B)) / C; 0 is collapse", PAPYAN,
            _of_classes(collapse.nc1),
        ),
        Metric(
            "nc2_norms", "moments", "classes", RIGID, "", 0, INF,
            "inequality of the class means' lengths, from the mean of the means; 0 is collapse", PAPYAN,
            _of_classes(collapse.nc2_norms, "always 0 for two classes"),
        ),
        Metric(
            "nc2_angles", "moments", "classes", RIGID, "", 0, 2,
            "mean |cos + 1/(C-1)| between class means; 0 is a simplex", PAPYAN,
            _of_classes(collapse.nc2_angles, "always 0 for two classes"),
        ),
        Metric(
            "cdnv", "moments", "classes", RIGID, "lower", 0, INF,
            "variance of two classes over the squared distance of their means", "Galanti et al., ICLR 2022",
            _of_classes(collapse.cdnv),
        ),
        Metric(
            "between_share", "moments", "classes", RIGID, "higher", 0, 1,
            "share of the total variance that lies between the classes", "-",
            lambda given: Estimate(_between_share(given)),
        ),
        Metric(
            "fisher_ratio", "moments", "classes", frozenset(TRANSFORMATIONS), "higher", 0, INF,
            "tr(S_W^-1 S_B): separation of the classes in whitened space", "Fukunaga 1990, 10.2",
            _discriminating(collapse.fisher_ratio),
        ),
        Metric(
            "h_score", "moments", "classes", frozenset(TRANSFORMATIONS), "higher", 0, INF,
            "tr(pinv(S_T) S_B), up to C - 1: inflated when rows are few", "Bao et al., ICIP 2019",
            _discriminating(transfer.h_score, chance=True),
        ),
        Metric(
            "h_score_regularised", "moments", "classes", RIGID - {"duplicated_columns"}, "higher", 0, INF,
            "the same with the Ledoit-Wolf covariance: not inflated", "Ibrahim et al., ECML 2022",
            lambda given: Estimate(transfer.regularised_h_score(given.moments, given.task)),
        ),
        Metric(
            "logme", "moments", "any", RIGID, "higher", -INF, INF,
            "log evidence per row of a Bayesian linear model on centred z", "You et al., ICML 2021",
            _logme,
        ),
        Metric(
            "silhouette", "rows", "classes", RIGID, "higher", -1, 1,
            "how much nearer a row is to its class than to the next", "Rousseeuw 1987",
            _silhouette,
        ),
        Metric(
            "alignment", "rows", "classes", RIGID - {"shift"}, "lower", 0, 4,
            "mean squared distance on the sphere to the rows of one's class", "Wang and Isola, ICML 2020",
            _alignment,
        ),
        Metric(
            "leep", "head", "classes", NOTHING, "higher", -INF, 0,
            "log likelihood of a task given the soft predictions of another task's head", "Nguyen et al., ICML 2020",
            lambda logits, targets, groups=None: Estimate(
                float(transfer.leep(transfer.probabilities(logits), targets).mean())
            ),
        ),
        Metric(
            "nce", "head", "classes", NOTHING, "higher", -INF, 0,
            "minus the entropy of a task given the hard predictions of another task's head", "Tran et al., ICCV 2019",
            lambda logits, targets, groups=None: Estimate(
                *sample_interval(transfer.nce(logits.argmax(axis=1), targets), groups)
            ),
        ),
        Metric(
            "cka", "pair", "none", RIGID, "", -INF, INF,
            "likeness of two representations: 0 for independent ones (debiased), 1 for rotated copies",
            "Kornblith et al., ICML 2019; Song et al., JMLR 2012",
            lambda pair: Estimate(pair.cka.debiased),
        ),
        Metric(
            "cka_biased", "pair", "none", RIGID, "", 0, 1,
            "the same, biased: near 1 for any two once features outnumber rows", "Kornblith et al., ICML 2019",
            lambda pair: Estimate(pair.cka.biased),
        ),
        Metric(
            "mutual_knn", "pair_rows", "none", RIGID, "", 0, 1,
            "share of nearest neighbours (cosine, centred) in common", "Huh et al., ICML 2024",
            _mutual,
        ),
        Metric(
            "mutual_knn_above_chance", "pair_rows", "none", RIGID, "", -INF, 1,
            "the same, 0 at chance", "Huh et al., ICML 2024",
            _mutual_above_chance,
        ),
    )
}  # fmt: skip


def _between_share(given: Given) -> float:
    collapse.Classes.of(given.moments, given.task)  # undefined for one class or a constant
    return given.moments.between_share(given.task)


def table() -> pd.DataFrame:
    """One row a metric for the documentation: name, needs, task, each transformation (True: unchanged), and so on."""
    rows: list[dict[str, Any]] = []
    for metric in METRICS.values():
        declared = {name: name in metric.invariant if metric.needs != "head" else None for name in TRANSFORMATIONS}
        rows.append(
            {"metric": metric.name, "needs": metric.needs, "task": metric.task}
            | declared
            | {"direction": metric.direction, "low": metric.low, "high": metric.high}
            | {"meaning": metric.meaning, "source": metric.source}
        )
    return pd.DataFrame(rows)
