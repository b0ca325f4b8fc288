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

A real value has no permutations. On raw z its dummies are taken to the letter, `gap = mean_f E(y - f)^2 - L*` with y
standardised on the training rows (as heads are trained), so that the scale of the outputs decides. U_rel gives each
dummy the affine map of its output that is best on train, min over (a, b) of E(y - a f - b)^2: H(y) is the error of the
training mean, L* that of the best ridge regression (or two-layer predictor), and an affine change of y or of the scale
of z changes nothing. That map contains the temperature: U_rel_tau is U_rel, and tau is the size of a.

Everything is chosen on the training and validation splits (permutations, temperatures, maps, C, the family of L*)
and scored on the test split. L* found this way is at least the true infimum, so gaps are, if anything, too small.

A dense task is measured per pixel sample: its file has one row for each sampled pixel, z of that pixel with its label,
and ids such as `image7#12,40`. Pixels of one image are not independent: whole images are resampled, as the file says
(`reprkit.analysis.groups`), or as `groups` does.

Deviations from the paper, on purpose: L* is held out (on training data it is 0 for any separable z, whatever the
encoder); the permutation is fitted on the training split, since choosing it on the scored samples is optimistic;
ordinal tasks, whose heads are trained with cross-entropy, use all permutations, as Definition 2 says: their loss sees
a class only through its index, so the assignment is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pandas as pd
from tqdm import tqdm

from reprkit.analysis.groups import group_codes
from reprkit.analysis.universal.adaptation import adaptation
from reprkit.analysis.universal.bounds import gradient_columns
from reprkit.analysis.universal.dummies import Dummies, draw_dummies
from reprkit.analysis.universal.gauges import SAMPLE_ROWS
from reprkit.analysis.universal.intervals import Counts
from reprkit.analysis.universal.measuring import Measured, measure
from reprkit.analysis.universal.separation import separation_columns
from reprkit.analysis.universal.study import SUBSAMPLE, Study
from reprkit.analysis.workspace import Workspace
from reprkit.errors import InputError
from reprkit.recipe import UniversalityConfig, config_digest

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from reprkit.embeddings import Embeddings

COLUMNS = (
    "encoder", "seed", "task", "head", "status",
    "U_rel", "U_rel_low", "U_rel_high", "U_rel_tau", "U_rel_tau_low", "U_rel_tau_high", "tau_median",
    "gap", "gap_low", "gap_high", "U", "U_low", "U_high",
    "L_star", "L_dummy", "L_dummy_sd", "H_y", "C", "certificate", "grad_norm", "grad_norm_rms1",
    "rms", "mean_norm", "effective_rank", "n", "num_classes", "num_dummies", "init", "dummy_seed", "dummy_sha",
    "pi_fit_split", "star_family", "protocol_id", "bound", "looseness", "U_bound",
    "L_dummy_seen", "adaptation", "adaptation_low", "adaptation_high", "separation", "closest_class",
)  # fmt: skip
"""Columns of the result, documented in `universality`."""

PROTOCOL = 3
"""Raised whenever the same embeddings and config would give other numbers."""

Head = Literal["linear", "mlp"]
DEFAULT = UniversalityConfig()


def universality(
    embeddings: Embeddings | Workspace,
    *,
    tasks: Sequence[str] | None = None,
    config: UniversalityConfig = DEFAULT,
    label: str | None = None,
    groups: str | ArrayLike | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Measure the universality of the encoder behind `embeddings`, one row per task and head.

    Reads the splits train, val and test; without val, a fifth of train (by a hash of the ids) takes its place. Small
    files are held in memory in float32, larger ones are streamed: there the C of classes,
    and two-layer predictors, are chosen on at most 65,536 training rows (the status says so), and the linear fit then
    runs over all. Losses are in nats, or
    squared standard deviations of the training values.

    Args:
        embeddings: an open embeddings file, or its workspace.
        tasks: names; the tasks the encoder was trained for by default.
        config: dummies, heads and resamples.
        label: name of the encoder in the result, instead of the file's own.
        groups: what intervals resample as one: labels [N_test], or a separator such as `#`, before which ids name the
            group; `config.groups` by default, and if that is empty what the file says.
        progress: show a bar on standard error, if that is a terminal.

    Returns:
        Rows with `COLUMNS`:
        status: `ok`; `no_headroom`: the interval of H_y - L_star holds 0, so U_rel is NaN (collapse, or nothing to
        learn); `unresolved`: the interval of the gap reaches 0, so U is NaN; `optimiser_failed`: the certificate of
        the linear fit is above 1e-4, or an untrained dummy is clearly better than L* on val: U, U_rel are NaN.
        Otherwise a sentence, and all values are NaN. `ok` may be followed by `; ` and a remark.
        U_rel, U_rel_tau, tau_median (median factor of the dummies' logits), gap, U: see the module; `*_low` and
        `*_high` are ends of 95% intervals. L_dummy (mean over dummies) and L_dummy_sd are on raw z, so that
        gap = L_dummy - L_star. H_y: loss of the training frequencies, or of the training mean. C: inverse
        regularisation of L* (1 / alpha of a ridge regression), and certificate: bound on how far its training
        objective is from optimal. grad_norm, grad_norm_rms1: mean over dummies of the full-batch gradient norm w.r.t.
        the dummy, unpermuted and unmapped, raw and RMS-1 z. rms (of the centred z), mean_norm (of the raw rows),
        effective_rank: training split. n: test rows scored. num_classes: NaN for real values. dummy_sha: digest of the
        dummies' weights. pi_fit_split: where permutations and maps are fitted. star_family: linear | mlp | prior,
        whichever val chose.
        bound: Theorem 3.1 on the scored rows and raw z, mean over linear dummies of ||gradient at the permuted dummy||
        times ||its distance to L*'s predictor||, weights and biases: at least the gap. looseness: bound / gap.
        U_bound: 1 / bound, which U cannot be below. All three are NaN for mlp heads, whose loss is not convex, and for
        tasks with a class that train lacks (the optimum is infinitely far away).
        L_dummy_seen: mean loss, as L_dummy, of the dummies that DGR trained the encoder against, where the file keeps
        them. adaptation: that of fresh dummies of the same architecture and PyTorch's initialisation, minus
        L_dummy_seen: above 0 if the encoder suits just the dummies it has seen. The same on every row of a task, NaN
        without them; see `reprkit.analysis.universal.adaptation`.
        separation: of the class, closest_class, that is least apart from its nearest neighbour: squared distance of
        their means over the spread of that class, on train; 0 where it coincides with the other.

    Raises:
        InputError: an unknown task or head, a missing split, z that is not finite, or labels that do not fit.
    """
    ws = Workspace.of(embeddings)
    names = task_names(ws, tasks)
    encoder = label or ws.label
    study = Study(ws, names)
    config = replace(config, groups=config.groups or ws.groups)
    codes = group_codes(ws, config.groups if groups is None else groups)
    counts = Counts(codes, config.bootstrap, config.seed)
    seen = adaptation(study, config, counts)
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    total = len(config.heads) * len(study.names)
    with tqdm(
        total=total, desc=f"universality of {encoder}", leave=False, disable=None if progress and total else True
    ) as bar:
        for head in config.heads:
            for name, row in _measure_head(study, cast(Head, head), config, counts, bar).items():
                rows[name, head] = row
    frame = [
        {"encoder": encoder, "seed": ws.seed, "task": name, "head": head, **rows[name, head], **seen.get(name, {})}
        for name in names
        for head in config.heads
    ]
    return pd.DataFrame(frame, columns=list(COLUMNS))


def task_names(ws: Workspace, tasks: Sequence[str] | None) -> list[str]:
    """The tasks to measure: those named, or those that the encoder was trained for.

    Raises:
        InputError: a task that the file does not have.
    """
    names = list(tasks) if tasks is not None else list(ws.trained_tasks)
    for name in names:
        if name not in ws.tasks:
            raise InputError(f"{ws.source}: has no task '{name}'; it has {', '.join(ws.tasks)}")
    return names


def _measure_head(
    study: Study, head: Head, config: UniversalityConfig, counts: Counts, bar: tqdm
) -> dict[str, dict[str, Any]]:
    """task -> its record, for one architecture of dummies."""
    ws, names = study.ws, study.names
    statistics = ws.statistics
    common: dict[str, Any] = {
        "num_dummies": config.num_dummies,
        "init": config.init,
        "dummy_seed": config.seed,
        "pi_fit_split": "train",
        "protocol_id": protocol_id(study, head, config),
        "rms": statistics.rms,
        "mean_norm": statistics.mean_norm,
        "effective_rank": statistics.effective_rank,
    }
    records = {
        name: common
        | separation_columns(ws, name)
        | {
            "num_classes": target.outputs if target.discrete else np.nan,
            "n": target.count("test"),
            "status": target.problem,
        }
        for name, target in study.targets.items()
    }
    if names:
        dummies = fresh_dummies(study, head, config)
        measured = measure(study, dummies, config, counts, names=names, done=bar.update)
        for name, found in measured.items():
            records[name] |= _record(found, study.remark(name, head))
            records[name] |= gradient_columns(study, dummies, found, name)
            records[name]["dummy_sha"] = dummies.digest(study.targets[name].outputs)
    return records


def protocol_id(study: Study, head: Head, config: UniversalityConfig) -> str:
    """Digest of all that rows must share to be compared."""
    ws = study.ws
    settings = {"universality": PROTOCOL, "head": head, "selection": study.selection, "sample": SAMPLE_ROWS}
    if not ws.in_memory and ws.num_rows("train") > SUBSAMPLE:
        settings["subsample"] = SUBSAMPLE
    return config_digest(settings | asdict(replace(config, heads=(head,))))


def fresh_dummies(study: Study, head: Head, config: UniversalityConfig) -> Dummies:
    """The predictors of a measurement; all its tasks share them."""
    outputs = max(study.targets[name].outputs for name in study.names)
    return draw_dummies(
        head, dim=study.ws.dim, outputs=outputs, count=config.num_dummies, seed=config.seed, init=config.init
    )


def _record(found: Measured, remark: str) -> dict[str, Any]:
    """Values, intervals and status of one task."""
    status, gap = found.status, found.gap
    low, high = gap.interval()
    record: dict[str, Any] = {"gap": gap.value, "gap_low": low, "gap_high": high}
    if low > 0 and status != "optimiser_failed":
        record |= {"U": 1 / gap.value, "U_low": 1 / high, "U_high": 1 / low}
    if status in ("ok", "unresolved"):
        for column, view in (("U_rel", "rms1"), ("U_rel_tau", "tau")):
            score = found.relative(view)
            low, high = score.interval()
            record |= {column: score.value, f"{column}_low": low, f"{column}_high": high}
    star, raw = found.star, found.boot.dummy_losses()[0]["raw"]
    record |= {"L_star": found.single("star").value, "L_dummy": raw.mean(), "L_dummy_sd": raw.std(ddof=1)}
    record |= {"H_y": found.single("prior").value, "tau_median": np.median(found.gauge.temperatures)}
    record |= {"C": star.linear.c if star.family == "linear" else np.nan, "certificate": star.linear.certificate}
    return record | {"status": status + (remark if status == "ok" else ""), "star_family": star.family}
