"""The multi-task gain: how much better all tasks are together than each learned alone."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import pandas as pd

from reprkit.errors import InputError
from reprkit.tasks import LOWER_IS_BETTER

__all__ = ["LOWER_IS_BETTER", "delta_frame", "delta_mtl"]


def delta_mtl(
    scores: Mapping[str, float], single: Mapping[str, float], *, lower_is_better: Collection[str] = ()
) -> float:
    """Mean over tasks of the relative change against single-task encoders, in percent; positive is better.

    Equation 6 of the paper, with one metric a task: 100 / K * sum over tasks of (-1)^l (M - M_single) / M_single,
    where l is 1 if less is better. (Other papers average several metrics a task, which gives other numbers.)

    Args:
        scores: task -> its metric.
        single: task -> the metric of the encoder trained for that task alone.
        lower_is_better: tasks whose metric is an error.

    Returns:
        Percent; NaN if a score is missing (NaN), or a single-task score is not positive, since a relative change of
        that says nothing.

    Raises:
        InputError: the two name different tasks.
    """
    if set(scores) != set(single) or not scores:
        raise InputError(
            f"multi-task gain: tasks {', '.join(sorted(scores)) or '(none)'} against single-task "
            f"{', '.join(sorted(single)) or '(none)'}; both must name the same tasks"
        )
    changes = []
    for task, value in scores.items():
        if not single[task] > 0:
            return math.nan
        change = (value - single[task]) / single[task]
        changes.append(-change if task in lower_is_better else change)
    return 100 * math.fsum(changes) / len(changes)


def delta_frame(frame: pd.DataFrame, *, baseline: str = "single") -> pd.DataFrame:
    """`delta_mtl` of every encoder and seed of a result table against the baseline's mean over its seeds.

    The same baseline serves all seeds, as in the paper's tables: training seeds of different methods have nothing in
    common that pairing them would cancel.

    Args:
        frame: rows with encoder, seed, task, metric, value; one a task for each encoder and seed (choose a probe and a
            metric first).
        baseline: `encoder` of the single-task rows.

    Returns:
        encoder, seed, delta (percent), in order of first appearance, without the baseline.

    Raises:
        InputError: no baseline rows, several rows a task, or tasks that differ from the baseline's.
    """
    missing = [column for column in ("encoder", "seed", "task", "metric", "value") if column not in frame]
    if missing:
        raise InputError(f"multi-task gain: the table has no column {', '.join(missing)}")
    if frame.duplicated(["encoder", "seed", "task"]).any():
        raise InputError(
            "multi-task gain: several rows for one encoder, seed and task; choose one probe and one metric"
        )
    single = frame[frame["encoder"] == baseline]
    if not len(single):
        known = ", ".join(dict.fromkeys(frame["encoder"].astype(str)))
        raise InputError(f"multi-task gain: no rows of the baseline '{baseline}'; the table has {known}")
    reference = {str(task): float(value) for task, value in single.groupby("task")["value"].mean().items()}
    errors = set(frame.loc[frame["metric"].isin(LOWER_IS_BETTER), "task"].astype(str))
    rows = []
    for (encoder, seed), group in frame[frame["encoder"] != baseline].groupby(["encoder", "seed"], sort=False):
        scores = dict(zip(group["task"].astype(str), group["value"].astype(float), strict=True))
        rows.append((encoder, seed, delta_mtl(scores, reference, lower_is_better=errors)))
    return pd.DataFrame(rows, columns=["encoder", "seed", "delta"])
