"""Label efficiency: what a simple predictor reads from an encoder with 1, 2, 4, ... labelled samples a class.

The draws are nested (the four-shot set holds the two-shot set) and follow from ids, labels and a seed alone, so that
all encoders of a data set see the same ones in whatever order their files list the samples. They come from the train
split. Labels of val are never touched: what is chosen on it would cost more labels than the curve owns up to. So
nothing is chosen:

- features are standardised with mean and variance of all train rows, which need no label, and divided by one number
  that makes their mean squared norm 1;
- `ncm` takes the nearest class mean;
- `linear` is logistic regression at C = 1, the sum of the losses against half the squared norm of the weights. Rows of
  norm 1 give that C the same meaning in every dimension; the pairing is that of Tian et al., "Rethinking few-shot image
  classification", ECCV 2020, who scale each row by itself.

The reference is the same predictor fitted to all train rows. A draw holds as many samples of each class, so there the
classes weigh alike too: it is what the curve ends in. That is why `balanced_accuracy` stands beside `accuracy`: on
uneven classes a predictor that knows their shares has an advantage in the latter, which no curve here has.

Of a dense task a shot is a labelled pixel. All pixels of an image are on one side, since its split is theirs; several
of a draw may be of one image.

An encoder that was trained for the task has seen the labels of all train rows. Its curve tells how readily the classes
fall apart in its space, not how few labels an application needs.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from reprkit.analysis.bootstrap import bootstrap_sums, percentile_interval
from reprkit.analysis.groups import Codes, count_units, some_groups
from reprkit.analysis.linalg import ordered_map
from reprkit.analysis.probes.protocol import choose_tasks
from reprkit.analysis.rows import Rows
from reprkit.analysis.solver import Eigen, Loss, fit_linear, log_softmax, logistic_curvature
from reprkit.analysis.workspace import Workspace
from reprkit.errors import InputError
from reprkit.recipe import config_digest

if TYPE_CHECKING:
    from reprkit.embeddings import Embeddings
    from reprkit.tasks import Task

SHOTS = (1, 2, 4, 8, 16, 32, 64)
ALL = 0
"""What the column `shots` says of the reference: all train samples."""

PROBES = ("ncm", "linear")
METRICS = ("accuracy", "balanced_accuracy")
GRADIENT = 1e-6
COLUMNS = [
    "encoder", "seed", "task", "probe", "shots", "draw", "metric", "value", "samples_low", "samples_high", "n_train",
    "n_test", "status", "protocol_id",
]  # fmt: skip
Linear = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Weights [K, D], to be multiplied with standardised rows, and bias [K]; the class of the highest score wins."""


@dataclass(frozen=True)
class FewShotProtocol:
    """Everything that settles the numbers besides the embeddings.

    Attributes:
        version: raised whenever a change of code changes results.
        shots: samples a class, rising.
        draws: nested draws of each task.
        seed: of the draws.
        c: inverse regularisation of `linear`.
        resamples: of the test samples, for intervals.
        carve: True if val had to be taken out of train.
        groups: separator before which ids name the group of a row, where rows come in groups.
    """

    version: int = 1
    shots: tuple[int, ...] = SHOTS
    draws: int = 10
    seed: int = 0
    c: float = 1.0
    resamples: int = 1000
    carve: bool = False
    groups: str = ""

    @property
    def id(self) -> str:
        """Digest of all settings: numbers with the same id may be compared."""
        settings = asdict(self)
        return config_digest(settings if self.groups else {k: v for k, v in settings.items() if k != "groups"})


def few_shot(
    embeddings: Embeddings | Workspace,
    *,
    tasks: Iterable[str] | None = None,
    draws: int = 10,
    shots: Sequence[int] = SHOTS,
    seed: int = 0,
    label: str | None = None,
) -> pd.DataFrame:
    """Test scores of simple predictors fitted to a few labelled train samples a class.

    Sizes that a class of train is too small for have one row with value NaN and a status. Regression targets have no
    classes to draw from and are left out, with a status.

    Args:
        embeddings: an open file, or its workspace; streamed if it does not fit memory.
        tasks: names of tasks; None takes those the encoder was trained for.
        draws: nested draws.
        shots: samples a class.
        seed: of the draws.
        label: name in the column `encoder`; None takes the file's.

    Returns:
        One row a task, probe (`ncm`, `linear`), number of shots, draw and metric (`accuracy`, `balanced_accuracy`):
        encoder, seed, task, probe, shots (0: all train samples, one draw), draw, metric, value; samples_low,
        samples_high: 95% bootstrap interval over test samples (or the groups they come in) of the mean over the draws,
        the same on all of them;
        n_train, n_test, status, protocol_id. `few_shot_summary` averages over the draws.

    Raises:
        InputError: unknown tasks, shots that do not rise from at least 1, no draws, or a file without train or test.
    """
    sizes = tuple(int(n) for n in shots)
    if not sizes or sizes[0] < 1 or any(a >= b for a, b in itertools.pairwise(sizes)):
        raise InputError(f"few-shot: shots {list(shots)} should be rising numbers from 1 on")
    if draws < 1:
        raise InputError(f"few-shot: draws: {draws} should be at least 1")
    ws = Workspace.of(embeddings)
    names = choose_tasks(list(ws.tasks), ws.trained_tasks, tasks, ws.source)
    protocol = FewShotProtocol(shots=sizes, draws=draws, seed=seed, carve=ws.carved, groups=ws.groups)
    common = {"encoder": label or ws.label, "seed": ws.seed, "protocol_id": protocol.id}
    rows = [common | {"task": name} | row for name in names for row in _task_rows(ws, ws.tasks[name], protocol)]
    return pd.DataFrame(rows, columns=COLUMNS)


def nested_draws(ids: NDArray, targets: NDArray, *, size: int, draws: int, seed: int = 0) -> NDArray[np.int64]:
    """Row numbers [draws, size, K] of samples of each class present: the first n of them are the n-shot draw.

    Samples are ranked by a hash of the seed and their id; more draws or a larger size leave the others as they are.

    Args:
        ids: [N] unique names.
        targets: [N] class indices, -1 where missing.
        size: samples a class; no class present may have fewer.
        draws: how many.
        seed: another one gives other draws.
    """
    digests = (hashlib.shake_128(f"{seed}:{name}".encode()).digest(8 * draws) for name in ids)
    ranks = np.frombuffer(b"".join(digests), ">u8").reshape(len(ids), draws)
    members = [np.flatnonzero(targets == k) for k in np.unique(targets[targets >= 0])]
    found = [rows[np.argsort(ranks[rows], axis=0, kind="stable")[:size]] for rows in members]
    return np.stack(found).transpose(2, 1, 0)


def class_means(shots: NDArray) -> Linear:
    """The nearest class mean as a linear predictor, of rows [n, K, D]: n of each class."""
    return _nearest(shots.mean(axis=0))


def logistic(shots: NDArray, sizes: Sequence[int], *, norm: float = 1.0, c: float = 1.0) -> list[Linear]:
    """Logistic regression on nested sets of rows / `norm`.

    With W in the span of the rows, m rows need m dimensions at most. Of rows in nested order the QR decomposition of
    X' gives bases of all the spans at once: the first m rows lie in its first m directions.

    Args:
        shots: [n, K, D] rows, n of each class.
        sizes: the first so many of each class make a set.
        norm: rows are divided by it; the weights that come back are for undivided rows.
        c: scikit-learn's C.
    """
    _, classes, dim = shots.shape
    basis, triangle = np.linalg.qr(shots.reshape(-1, dim).T / norm)
    fits = []
    for size in sizes:
        count = size * classes
        rank = min(count, dim)
        target = np.tile(np.arange(classes), size)
        fit = fit_linear(
            Rows.of(triangle[:rank, :count].T), _cross_entropy(target, np.ones(classes)), classes, c, count=count,
            curvature=logistic_curvature(np.ones(classes)), dtype=np.float64, gradient=GRADIENT,
        )  # fmt: skip
        fits.append((fit.weights @ basis[:, :rank].T / norm, fit.bias))
    return fits


def _task_rows(ws: Workspace, task: Task, protocol: FewShotProtocol) -> Iterator[dict[str, Any]]:
    if not task.is_discrete:
        why = "skipped: shots are counted a class, which a regression target does not have"
        yield from (_row(probe, ALL, task.metric, status=why) for probe in PROBES)
        return
    target, truth = ws.targets("train", task.name), ws.targets("test", task.name)
    counts = np.bincount(target[target >= 0], minlength=task.num_outputs)
    present, tested = np.flatnonzero(counts), np.flatnonzero(truth >= 0)
    sizes = {"n_train": int(counts.sum()), "n_test": len(tested)}
    if len(present) < 2 or not len(tested):
        why = (
            "skipped: no test sample has a target" if len(present) > 1 else "skipped: train holds fewer than 2 classes"
        )
        yield from (_row(probe, ALL, metric, status=why, **sizes) for probe in PROBES for metric in METRICS)
        return
    shots = [n for n in protocol.shots if n <= counts[present].min()]
    lost = task.num_outputs - len(present)
    status = f"{lost} of {task.num_outputs} classes are not in train" if lost else "ok"
    predictors = _fit(ws, task, shots, protocol)
    right = _right(ws, [fit for fits in predictors.values() for fit in fits], present, truth)
    ends = np.cumsum([len(fits) for fits in predictors.values()])
    units = some_groups(ws.group_codes("test"), tested)
    for (probe, n), own in zip(predictors, np.split(right, ends[:-1]), strict=True):
        scores, intervals = _scores(own[:, tested], truth[tested], protocol.resamples, units)
        used = {**sizes, "n_train": n * len(present)} if n else sizes
        for metric in METRICS:
            low, high = intervals[metric]
            for draw, value in enumerate(scores[metric]):
                numbers = {"value": float(value), "samples_low": low, "samples_high": high}
                yield _row(probe, n, metric, draw=draw, status=status, **numbers, **used)
    rare = int(present[counts[present].argmin()])
    for n in protocol.shots:
        if n not in shots:
            why = f"skipped: class {task.class_names[rare]} has {counts[rare]} train samples"
            yield from (_row(probe, n, metric, status=why, **sizes) for probe in PROBES for metric in METRICS)


def _row(probe: str, shots: int, metric: str, **others: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(("value", "samples_low", "samples_high"), float("nan")) | {"n_train": 0, "n_test": 0}
    return {"probe": probe, "shots": shots, "draw": 0, "metric": metric} | nothing | others


def _fit(
    ws: Workspace, task: Task, shots: Sequence[int], protocol: FewShotProtocol
) -> dict[tuple[str, int], list[Linear]]:
    """(probe, shots) -> one predictor a draw; for all train samples, one."""
    target = ws.targets("train", task.name)
    variances = np.diag(ws.statistics.scatter) / ws.statistics.count * ws.scale**2
    norm = float(np.sqrt(variances.sum())) or 1.0
    made: dict[tuple[str, int], list[Linear]] = {(probe, n): [] for n in shots for probe in PROBES}
    if shots:
        drawn = nested_draws(ws.ids("train"), target, size=max(shots), draws=protocol.draws, seed=protocol.seed)
        wanted, places = np.unique(drawn, return_inverse=True)
        rows = ws.standardised("train", wanted)  # of all draws: one pass, where they are streamed
        places = places.reshape(drawn.shape)

        def fit(place: NDArray) -> list[Linear]:
            return logistic(rows[place], shots, norm=norm, c=protocol.c)

        for place, fits in zip(places, ordered_map(fit, places), strict=True):
            for n, one in zip(shots, fits, strict=True):
                made["ncm", n].append(class_means(rows[place[:n]]))
                made["linear", n].append(one)
    return made | {
        ("ncm", ALL): [_mean_of_all(ws, task)],
        ("linear", ALL): [_logistic_of_all(ws, target, norm, protocol)],
    }


def _mean_of_all(ws: Workspace, task: Task) -> Linear:
    counts, sums = ws.statistics.class_counts[task.name], ws.statistics.class_sums[task.name]
    present = counts > 0
    offset = ws.statistics.mean - ws.mean
    return _nearest((sums[present] / counts[present, None] + offset) * ws.scale)


def _nearest(means: NDArray) -> Linear:
    """argmin |x - mean_k|^2 = argmax x . mean_k - |mean_k|^2 / 2."""
    return means, -0.5 * np.einsum("kd,kd->k", means, means)


def _logistic_of_all(ws: Workspace, target: NDArray, norm: float, protocol: FewShotProtocol) -> Linear:
    """Logistic regression on all train rows, each class with the same total weight."""
    _, encoded, counts = np.unique(target[target >= 0], return_inverse=True, return_counts=True)
    classes, count = len(counts), int(counts.sum())
    y = np.full(len(target), -1, np.int64)
    y[target >= 0] = encoded
    eigen = ws.correlation_eigen
    fit = fit_linear(
        ws.centred("train"), _cross_entropy(y, count / (classes * counts)), classes, protocol.c, count=count,
        scale=ws.scale / norm, eigen=Eigen(eigen.values / norm**2, eigen.vectors),
        curvature=logistic_curvature(np.ones(classes)),
    )  # fmt: skip
    return fit.weights / ws.scale, fit.bias  # from weights of centred rows to weights of standardised ones


def _cross_entropy(targets: NDArray, weights: NDArray) -> Loss:
    """Multinomial logistic loss, each sample with the weight of its class [K]; `targets` [N], -1 where missing."""

    def loss(scores: NDArray, part: slice) -> float:
        y = targets[part]
        valid = np.flatnonzero(y >= 0)
        weight = np.where(y >= 0, weights[y], 0.0)
        log_p = log_softmax(scores)
        value = -float(weight[valid] @ log_p[y[valid], valid])
        np.exp(log_p, out=scores)
        scores[y[valid], valid] -= 1.0
        scores *= weight
        return value

    return loss


def _right(ws: Workspace, predictors: Sequence[Linear], present: NDArray, truth: NDArray) -> NDArray[np.bool_]:
    """Which test samples each predictor gets right [P, N], from one pass over the test rows."""
    weights = np.stack([weights for weights, _ in predictors]).reshape(-1, ws.dim)
    bias = np.concatenate([bias for _, bias in predictors])
    found, start = np.empty((len(predictors), len(truth)), bool), 0
    for block in ws.blocks("test"):
        part = slice(start, start := start + len(block))
        scores = (weights @ ((block - ws.mean) * ws.scale).T + bias[:, None]).reshape(len(predictors), len(present), -1)
        found[:, part] = present[scores.argmax(axis=1)] == truth[part]
    return found


def _scores(
    right: NDArray, truth: NDArray, resamples: int, groups: Codes | None = None
) -> tuple[dict[str, NDArray[np.float64]], dict[str, tuple[float, float]]]:
    """Metric -> value of each draw; metric -> interval of their mean over test samples.

    Args:
        right: [draws, n]; truth: [n] class indices; resamples: of the samples; groups: [n] that they come in.
    """
    _, encoded, counts = np.unique(truth, return_inverse=True, return_counts=True)
    hot = sparse.csr_array((np.ones(len(truth)), (np.arange(len(truth)), encoded)))
    hits = right @ hot
    values = {"accuracy": hits.sum(axis=1) / len(truth), "balanced_accuracy": (hits / counts).mean(axis=1)}
    shares = sparse.csr_array(hot * right.mean(axis=0)[:, None])
    hit, size = np.hsplit(bootstrap_sums(sparse.hstack([shares, hot], format="csr"), resamples, groups=groups), 2)
    seen = size > 0
    recall = np.where(seen, hit / np.where(seen, size, 1), 0).sum(axis=1) / seen.sum(axis=1)
    drawn = {"accuracy": hit.sum(axis=1) / size.sum(axis=1), "balanced_accuracy": recall}
    units = None if groups is None else count_units(groups, len(truth))
    return values, {metric: percentile_interval(statistic, n=units) for metric, statistic in drawn.items()}
