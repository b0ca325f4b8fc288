"""The universality of an encoder: how close an arbitrary, untrained predictor comes to the optimal one.

Definition 2 of Shin, Do and Son, "Learning Representation for Multitask Learning through Self-Supervised Auxiliary
Learning" (ECCV 2024), read per task: with the mean over random dummy predictors f and one permutation pi of the
classes for each,

    gap = mean_f [ min_pi L(pi o f) ] - L*,        U = 1 / gap.

U alone misleads: a constant z makes the gap vanish, and the gap moves with the scale of z. So every row also has

    U_rel = (H(y) - L_dummy) / (H(y) - L*)    on centred, RMS-1 z: the share of the usable information that an
                                              untrained predictor has already (1: all, 0: none, < 0: misled),
    U_rel_tau                                 the same with each dummy's best temperature: exactly free of scale,

the gradient norm that DGR penalises, the scale and the rank of z, 95% intervals over dummies and test samples, and a
status. A silenced dummy (temperature 0) costs log C, which exceeds H(y) where classes are unequal: for such tasks both
relative scores may lie well below 0.

Everything is chosen on the training and validation splits (permutations, temperatures, C, the family of L*)
and scored on the test split. L* found this way is at least the true infimum, so gaps are, if anything, too small.

Deviations from the paper, on purpose: L* is held out (on training data it is 0 for any separable z, whatever the
encoder); the permutation is fitted on the training split, since choosing it on the scored samples is optimistic;
ordinal tasks, whose heads are trained with cross-entropy, use all permutations, as Definition 2 says: their loss sees
a class only through its index, so the assignment is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pandas as pd
from tqdm import tqdm

from reprkit.analysis.dummies import Dummies, View, draw_dummies
from reprkit.analysis.intervals import Lead, TwoWayBootstrap, interval
from reprkit.analysis.optimal import LinearFit
from reprkit.analysis.scoring import (
    Request,
    all_logits,
    dummy_losses,
    fit_temperatures,
    gradient_norms,
    linear_permutations,
    sampled_permutations,
)
from reprkit.analysis.study import Part, Star, Study, prior_losses, row_blocks, stratified_rows
from reprkit.errors import InputError
from reprkit.recipe import UniversalityConfig, config_digest

if TYPE_CHECKING:
    from reprkit.embeddings import Embeddings

COLUMNS = (
    "encoder", "seed", "task", "head", "status",
    "U_rel", "U_rel_low", "U_rel_high", "U_rel_tau", "U_rel_tau_low", "U_rel_tau_high", "tau_median",
    "gap", "gap_low", "gap_high", "U", "U_low", "U_high",
    "L_star", "L_dummy", "L_dummy_sd", "H_y", "C", "certificate", "grad_norm", "grad_norm_rms1",
    "rms", "mean_norm", "effective_rank", "n", "num_classes", "num_dummies", "init", "dummy_seed", "dummy_sha",
    "pi_fit_split", "star_family", "protocol_id",
)  # fmt: skip
"""Columns of the result, documented in `universality`."""

PROTOCOL = 1
"""Raised whenever the same embeddings and config would give other numbers."""

SAMPLE_ROWS = 4096
"""Training rows, stratified by class, on which temperatures (and the permutations of mlp dummies) are fitted."""

GRADIENT_MLPS = 16
"""Of the mlp dummies, the number whose gradient norm is averaged (all linear dummies are)."""

MAX_CERTIFICATE = 1e-4
"""Nats: a linear fit that may be this far from its optimum is reported as `optimiser_failed`."""

BEATEN = 4.0
"""Standard errors, paired on val, by which a dummy must beat L* before the optimiser counts as failed. There are
hundreds of dummies to look at, so that 2 would be chance."""

Head = Literal["linear", "mlp"]
DEFAULT = UniversalityConfig()


def universality(
    embeddings: Embeddings,
    *,
    tasks: Sequence[str] | None = None,
    config: UniversalityConfig = DEFAULT,
    label: str | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Measure the universality of the encoder behind `embeddings`, one row per task and head.

    Reads the splits train, val and test; without val, a fifth of train (by a hash of the ids) takes its place.
    Holds the embeddings in memory, the training split in float64. Losses are in nats.

    Args:
        embeddings: an open embeddings file.
        tasks: names; the tasks the encoder was trained for by default.
        config: dummies, heads and resamples.
        label: name of the encoder in the result, instead of the file's own.
        progress: show a bar on standard error, if that is a terminal.

    Returns:
        Rows with `COLUMNS`:
        status: `ok`; `no_headroom`: the interval of H_y - L_star holds 0, so U_rel is NaN (collapse, or nothing to
        learn); `unresolved`: the interval of the gap reaches 0, so U is NaN; `optimiser_failed`: the certificate of
        the linear fit is above 1e-4 nats, or an untrained dummy is clearly better than L* on val: U, U_rel are NaN.
        Otherwise a sentence, and all values are NaN. `ok` may be followed by `; ` and a remark.
        U_rel, U_rel_tau, tau_median (median factor of the dummies' logits), gap, U: see the module; `*_low` and
        `*_high` are ends of 95% intervals. L_dummy (mean over dummies) and L_dummy_sd are on raw z, so that
        gap = L_dummy - L_star. H_y: loss of the training frequencies. C: inverse regularisation of L*, and
        certificate: bound in nats on how far its training objective is from optimal. grad_norm, grad_norm_rms1: mean
        over dummies of the full-batch gradient norm w.r.t. the dummy, labels unpermuted, raw and RMS-1 z.
        rms (of the centred z), mean_norm (of the raw rows), effective_rank: training split. n: test rows scored.
        dummy_sha: digest of the dummies' weights. star_family: linear | mlp | prior, whichever val chose.

    Raises:
        InputError: an unknown task or head, a missing split, or z that is not finite.
    """
    names = _task_names(embeddings, tasks)
    encoder, seed = label or embeddings.label, int(embeddings.seed)
    measured = [name for name in names if embeddings.tasks[name].is_discrete]
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    if measured:
        study = Study(embeddings, measured)
        total = len(config.heads) * sum(not study.problem(name) for name in measured)
        quiet = None if progress else True
        with tqdm(total=total, desc=f"universality of {encoder}", leave=False, disable=quiet) as bar:
            for head in config.heads:
                for name, row in _measure(study, cast(Head, head), config, bar).items():
                    rows[name, head] = row
    frame = []
    for name in names:
        for head in config.heads:
            row = rows.get((name, head), {"status": "not defined for regression yet"})
            frame.append({"encoder": encoder, "seed": seed, "task": name, "head": head, **row})
    return pd.DataFrame(frame, columns=list(COLUMNS))


def _task_names(embeddings: Embeddings, tasks: Sequence[str] | None) -> list[str]:
    where = getattr(embeddings, "path", embeddings.label)
    for split in ("train", "test"):
        if split not in embeddings.splits:
            raise InputError(f"{where}: has no '{split}' split; universality is fitted on train and scored on test")
    names = list(tasks) if tasks is not None else list(embeddings.trained_tasks)
    for name in names:
        if name not in embeddings.tasks:
            raise InputError(f"{where}: has no task '{name}'; it has {', '.join(embeddings.tasks)}")
    return names


VIEWS = ("raw", "rms1", "tau")
"""The losses of each dummy: on raw z, on centred RMS-1 z, and there at its best temperature."""


def _measure(study: Study, head: Head, config: UniversalityConfig, bar: tqdm) -> dict[str, dict[str, Any]]:
    """task -> its record, for one architecture of dummies."""
    names = [name for name in study.classes if not study.problem(name)]
    settings = {"universality": PROTOCOL, "head": head, "selection": study.selection, "sample": SAMPLE_ROWS}
    common: dict[str, Any] = {
        "num_dummies": config.num_dummies,
        "init": config.init,
        "dummy_seed": config.seed,
        "pi_fit_split": "train",
        "protocol_id": config_digest(settings | asdict(replace(config, heads=(head,)))),
        "rms": study.statistics.rms,
        "mean_norm": study.statistics.mean_norm,
        "effective_rank": study.statistics.effective_rank,
    }
    scores = {name: {"status": study.problem(name)} for name in study.classes}
    if names:
        width = {"dim": study.statistics.dim, "outputs": max(study.classes[name] for name in names)}
        dummies = draw_dummies(head, **width, count=config.num_dummies, seed=config.seed, init=config.init)
        scores |= _score(study, dummies, names, config, bar)
    counted = {name: int((study.test.targets[name] >= 0).sum()) for name in study.classes}
    return {
        name: common | {"num_classes": study.classes[name], "n": counted[name]} | scores[name] for name in study.classes
    }


@dataclass(frozen=True)
class _Fitted:
    """What the training rows decide about each dummy: permutations [M, C] on raw and RMS-1 z, temperatures [M]."""

    raw: np.ndarray
    rms1: np.ndarray
    temperatures: np.ndarray


def _score(
    study: Study, dummies: Dummies, names: Sequence[str], config: UniversalityConfig, bar: tqdm
) -> dict[str, dict[str, Any]]:
    """task -> its record. All tasks share the passes over val and test."""
    raw, rms1 = _views(study, dummies)
    fitted = {name: _fit_dummies(study, dummies, raw, rms1, name) for name in names}
    keys = [(name, view) for name in names for view in VIEWS]

    def passes(part: Part) -> Iterator[tuple[slice, dict[tuple[str, str], np.ndarray]]]:
        requests = []
        for name in names:
            y, found = part.targets[name], fitted[name]
            requests += [Request(raw, y, found.raw), Request(rms1, y, found.rms1)]
            requests += [Request(rms1, y, found.rms1, found.temperatures)]
        for where, losses in dummy_losses(row_blocks(part.z), dummies, requests, mean=study.mean):
            yield where, dict(zip(keys, losses, strict=True))

    stars = {}
    for name in names:
        stars[name] = study.star(name, mlp_seed=config.seed if dummies.head == "mlp" else None)
        bar.update()
    lead = {name: Lead(int((study.val.targets[name] >= 0).sum())) for name in names}
    for where, losses in passes(study.val):
        for name, view in keys:
            lead[name].add(view, stars[name].val_losses[where] - losses[name, view])

    boots = {name: TwoWayBootstrap(dummies.count, config.bootstrap, config.seed, views=VIEWS) for name in names}
    draw = TwoWayBootstrap.sample_weights(config.bootstrap, config.seed)
    for where, losses in passes(study.test):
        weights = draw(where.stop - where.start)
        for name in names:
            y = study.test.targets[name][where]
            single = {"star": stars[name].losses[where], "prior": prior_losses(study.counts[name], y)}
            boots[name].add(weights, y >= 0, {view: losses[name, view] for view in VIEWS}, single)

    results = {}
    for name in names:
        beaten = lead[name].largest_z() > BEATEN
        record = _record(boots[name], stars[name], study.linear(name).fit, beaten=beaten, remark=study.remarks[name])
        few = dummies if dummies.head == "linear" else dummies.first_few(GRADIENT_MLPS)
        norms = [
            gradient_norms(
                row_blocks(study.test.z), few, study.test.targets[name], study.classes[name], view, mean=study.mean
            )
            for view in _views(study, few)
        ]
        record |= {"grad_norm": norms[0].mean(), "grad_norm_rms1": norms[1].mean()}
        record |= {"tau_median": np.median(fitted[name].temperatures), "dummy_sha": dummies.digest(study.classes[name])}
        results[name] = record
    return results


def _views(study: Study, dummies: Dummies) -> tuple[View, View]:
    return dummies.view(study.mean, None), dummies.view(study.mean, study.statistics.rms)


def _fit_dummies(study: Study, dummies: Dummies, raw: View, rms1: View, name: str) -> _Fitted:
    y, classes = study.train.targets[name], study.classes[name]
    room = (1 << 26) // (dummies.count * dummies.outputs)  # the sample's logits stay below 256 MB
    rows = stratified_rows(y, max(256, min(SAMPLE_ROWS, room)))
    sample, y = study.train.z[rows], y[rows]
    if dummies.head == "linear":
        counts, sums = study.statistics.class_counts[name], study.statistics.class_sums[name]
        pi = [linear_permutations(dummies, view, counts, sums) for view in (raw, rms1)]
        on_rms1 = all_logits(sample, dummies, rms1, mean=study.mean)[:classes]
    else:
        on_raw = all_logits(sample, dummies, raw, mean=study.mean)[:classes]
        on_rms1 = all_logits(sample, dummies, rms1, mean=study.mean)[:classes]
        pi = [sampled_permutations(logits, y) for logits in (on_raw, on_rms1)]
    return _Fitted(pi[0], pi[1], fit_temperatures(on_rms1, y, pi[1]))


def _record(boot: TwoWayBootstrap, star: Star, fit: LinearFit, *, beaten: bool, remark: str) -> dict[str, Any]:
    """Values, intervals and status of one task."""
    dummy, dummy_b = boot.dummy_losses()
    (best, best_b), (prior, prior_b) = boot.single_loss("star"), boot.single_loss("prior")
    gap, (gap_low, gap_high) = dummy["raw"].mean() - best, interval(dummy_b["raw"] - best_b)
    headroom, headroom_b = prior - best, prior_b - best_b

    if beaten or not fit.certificate <= MAX_CERTIFICATE:
        status = "optimiser_failed"
    elif interval(headroom_b)[0] <= 0:
        status = "no_headroom"
    else:
        status = "ok" if gap_low > 0 else "unresolved"

    record: dict[str, Any] = {"gap": gap, "gap_low": gap_low, "gap_high": gap_high}
    if gap_low > 0 and status != "optimiser_failed":
        record |= {"U": 1 / gap, "U_low": 1 / gap_high, "U_high": 1 / gap_low}
    if status in ("ok", "unresolved"):
        for column, view in (("U_rel", "rms1"), ("U_rel_tau", "tau")):
            low, high = interval((prior_b - dummy_b[view]) / headroom_b)
            record |= {column: (prior - dummy[view].mean()) / headroom, f"{column}_low": low, f"{column}_high": high}
    record |= {"L_star": best, "L_dummy": dummy["raw"].mean(), "L_dummy_sd": dummy["raw"].std(ddof=1), "H_y": prior}
    record |= {"C": fit.c if star.family == "linear" else np.nan, "certificate": fit.certificate}
    return record | {"status": status + (remark if status == "ok" else ""), "star_family": star.family}
