"""Adaptation to the fixed dummies: are those that DGR trained against served better than fresh ones like them?

DGR lowers the gradient norm of a few dummies that stay the same for the whole training. The paper names the risk
itself (section 3.3): an encoder may come to suit just these. A file of such an encoder keeps their weights, so that

    adaptation = L_dummy of fresh dummies - L_dummy of the seen ones

can be measured, on raw z, with dummies of the same architecture and PyTorch's initialisation, each under the
permutation that is best on train. It is 0 on average for an encoder that never met them, and positive for one that
suits them. The interval covers the choice of samples, of fresh dummies, and the luck of having drawn just these few.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from reprkit.analysis.rows import stratified_rows
from reprkit.analysis.universal.dummies import HIDDEN, Dummies, draw_dummies
from reprkit.analysis.universal.gauges import SAMPLE_ROWS, fit_permutations
from reprkit.analysis.universal.intervals import Counts, TwoWayBootstrap, interval, predictor_shares
from reprkit.analysis.universal.scoring import CrossEntropy, Request, SquaredError, dummy_losses
from reprkit.analysis.universal.study import Study
from reprkit.recipe import UniversalityConfig

FRESH = 64
"""Fresh dummies at most."""


def adaptation(study: Study, config: UniversalityConfig, counts: Counts) -> dict[str, dict[str, float]]:
    """The columns `L_dummy_seen`, `adaptation`, `adaptation_low` and `adaptation_high` of each task that has dummies.

    Args:
        study: rows and targets.
        config: number of resamples, seed, and number of fresh dummies (64 at most).
        counts: of test rows in each resample.
    """
    seen = {name: dummies for name in study.names if (dummies := seen_dummies(study, name)) is not None}
    found = {}
    for shape in dict.fromkeys(_shape(dummies) for dummies in seen.values()):
        names = [name for name, dummies in seen.items() if _shape(dummies) == shape]
        fresh = draw_dummies(
            seen[names[0]].head,
            dim=study.ws.dim,
            outputs=max(study.targets[name].outputs for name in names),
            count=min(config.num_dummies, FRESH),
            seed=config.seed,
            init="paper",
            hidden=shape[1],
        )
        on_seen = {name: _mean_losses(study, seen[name], name) for name in names}
        boots = _bootstrap(study, fresh, on_seen, config, counts)
        for name, boot in boots.items():
            found[name] = _columns(boot, seen[name].count, config)
    return found


def seen_dummies(study: Study, name: str) -> Dummies | None:
    """The dummies that the encoder was trained against, as universality holds its own; None if the file has none."""
    read = getattr(study.ws.embeddings, "training_dummies", None)
    stored = read(name) if read else None
    if stored is None:
        return None
    layers: Mapping[str, np.ndarray] = {key: values.astype(np.float64) for key, values in stored.layers.items()}
    if stored.is_linear:
        first = np.ascontiguousarray(layers["weight"].transpose(1, 0, 2))
        return Dummies("linear", first, np.ascontiguousarray(layers["bias"].T), None, None, study.ws.seed, "paper")
    two = (layers["first"], layers["first_bias"], layers["second"], layers["second_bias"])
    return Dummies("mlp", *two, study.ws.seed, "paper")


def _shape(dummies: Dummies) -> tuple[str, int]:
    """Architecture: dummies of one can share a pass."""
    return dummies.head, HIDDEN if dummies.second is None else dummies.second.shape[2]


def _requests(study: Study, dummies: Dummies, names: Iterable[str]) -> list[Request]:
    """The loss on raw z of each task: classes under the best permutations on train, real values to the letter."""
    view = dummies.view(study.ws.mean, None)
    made: list[Request] = []
    for name in names:
        target = study.targets[name]
        y, fit_y = target.values["test"], target.values["train"]
        if not target.discrete:
            made.append(SquaredError(view, y))
            continue
        rows = np.empty(0, np.int64)
        if dummies.head == "mlp":
            rows = stratified_rows(fit_y, max(target.outputs, SAMPLE_ROWS))
        sample = study.ws.rows("train", rows)
        made.append(CrossEntropy(view, y, fit_permutations(study, dummies, view, name, sample, fit_y[rows])))
    return made


def _mean_losses(study: Study, dummies: Dummies, name: str) -> np.ndarray:
    """[N_test] mean over dummies of each row's loss."""
    made = []
    requests = _requests(study, dummies, [name])
    for _, losses in dummy_losses(study.ws.blocks("test"), dummies, requests, mean=study.ws.mean):
        made.append(losses[0].mean(axis=0, dtype=np.float64))
    return np.concatenate(made)


def _bootstrap(
    study: Study,
    fresh: Dummies,
    on_seen: Mapping[str, np.ndarray],
    config: UniversalityConfig,
    counts: Counts,
) -> dict[str, TwoWayBootstrap]:
    names: Sequence[str] = list(on_seen)
    boots = {
        name: TwoWayBootstrap(
            fresh.count, config.bootstrap, config.seed, views=["raw"], rows_per_unit=counts.rows_per_unit
        )
        for name in names
    }
    draw = counts.stream()
    requests = _requests(study, fresh, names)
    for where, losses in dummy_losses(study.ws.blocks("test"), fresh, requests, mean=study.ws.mean):
        weights = draw(where.stop - where.start)
        for name, values in zip(names, losses, strict=True):
            taking = study.targets[name].valid("test")[where]
            boots[name].add(weights, taking, {"raw": values}, {"seen": on_seen[name][where]})
    return boots


def _columns(boot: TwoWayBootstrap, count: int, config: UniversalityConfig) -> dict[str, float]:
    means, resampled = boot.dummy_losses()
    mean, seen = boot.single_loss("seen")
    predictors = boot.per_predictor("raw")
    shares = predictor_shares(np.random.RandomState([config.seed, 5]), count, config.bootstrap, of=len(predictors))
    luck = np.einsum("bm,mb->b", shares - 1 / len(predictors), predictors)
    low, high = interval(resampled["raw"] - seen - luck)
    value = float(means["raw"].mean()) - mean
    return {"L_dummy_seen": mean, "adaptation": value, "adaptation_low": low, "adaptation_high": high}
