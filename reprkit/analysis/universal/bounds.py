"""The gradient norm that DGR penalises, and the bound that Theorem 3.1 makes of it, as columns of universality."""

from __future__ import annotations

import numpy as np

from reprkit.analysis.universal.dummies import Dummies
from reprkit.analysis.universal.gauges import ClassGauge, make_views
from reprkit.analysis.universal.gradients import distances, gradient_norms, predictor_groups
from reprkit.analysis.universal.measuring import Measured
from reprkit.analysis.universal.optimal import Linear
from reprkit.analysis.universal.scoring import CrossEntropy, Request, SquaredError
from reprkit.analysis.universal.study import Study

GRADIENT_MLPS = 16
"""Of the mlp dummies, the number whose gradient norm is averaged (all linear dummies are)."""


def gradient_columns(study: Study, dummies: Dummies, found: Measured, name: str) -> dict[str, float]:
    """`grad_norm`, `grad_norm_rms1`, `bound`, `looseness` and `U_bound` of one task (see `universality`).

    Args:
        study: rows and targets; the test rows are used.
        dummies: the predictors.
        found: their gauge, and the predictor of L*.
        name: the task.
    """
    target, star = study.targets[name], found.star.predictor
    y = target.values["test"]
    gauge = found.gauge if isinstance(found.gauge, ClassGauge) else None
    few = dummies if dummies.head == "linear" else dummies.first_few(GRADIENT_MLPS)
    # A class without training rows has no output in L*'s predictor: its bias would be minus infinity.
    convex = dummies.head == "linear" and isinstance(star, Linear) and target.fitted == target.outputs
    plain: dict[str, list[np.ndarray]] = {"raw": [], "rms1": []}
    bounds: list[np.ndarray] = []
    for group in predictor_groups(few, target.outputs):
        some = few.part(group)
        views = make_views(study, some)
        requests: list[Request] = []
        if gauge is None:
            requests = [SquaredError(view, y) for view in views.values()]
        else:
            identity = np.tile(np.arange(target.outputs), (some.count, 1))
            requests = [CrossEntropy(view, y, identity) for view in views.values()]
        permutations = None if gauge is None else gauge.raw[group]
        if convex and permutations is not None:
            requests.append(CrossEntropy(views["raw"], y, permutations))
        norms = gradient_norms(study.ws.blocks("test"), some, requests, mean=study.ws.mean)
        for view, values in zip(views, norms, strict=False):
            plain[view].append(values)
        if convex and isinstance(star, Linear):
            at_permuted = norms[0] if permutations is None else norms[-1]
            bounds.append(at_permuted * distances(some, permutations, star, study.ws.mean))
    bound, gap = float(np.concatenate(bounds).mean()) if bounds else np.nan, found.gap.value
    return {
        "grad_norm": float(np.concatenate(plain["raw"]).mean()),
        "grad_norm_rms1": float(np.concatenate(plain["rms1"]).mean()),
        "bound": bound,
        "looseness": bound / gap if gap > 0 else np.nan,
        "U_bound": 1 / bound if bound > 0 else np.nan,
    }
