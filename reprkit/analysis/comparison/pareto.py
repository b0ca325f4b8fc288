"""Which encoders are not dominated over tasks, and what each gains at the price of what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from reprkit.analysis import style
from reprkit.analysis.comparison.pairs import common_seeds, predictors
from reprkit.analysis.comparison.panel import Key, Panel, metrics_of
from reprkit.analysis.reporting.wording import change_text, listed

Scores = Mapping[Key, Mapping[str, NDArray]]
COLUMNS = ("name", "encoder", "task", "metric", "value", "on_front", "front_share", "dominated_by", "protocol_id")
MOST_LOST = 4
"""So many dominated encoders are named one by one."""


def dominates(values: ArrayLike) -> NDArray[np.bool_]:
    """Who dominates whom: at least as good on every task, and better on one.

    Args:
        values: [..., encoders, tasks], higher is better; a NaN is neither better nor as good.

    Returns:
        [..., encoders, encoders]: does the row's encoder dominate the column's?
    """
    table = np.asarray(values, np.float64)
    first, second = table[..., :, None, :], table[..., None, :, :]
    return np.logical_and((first >= second).all(axis=-1), (first > second).any(axis=-1))


def pareto_rows(
    panels: Sequence[Panel],
    scores: Sequence[Mapping[Key, Mapping[str, NDArray]]],
    encoders: Sequence[str],
    baseline: str,
) -> pd.DataFrame:
    """The front of every predictor that all the encoders named have for all tasks under one protocol.

    Returns:
        Rows of `COLUMNS`: value (headline metric, mean over the seeds shared with the baseline); on_front: no other
        encoder is at least as good on all tasks and better on one; front_share: share of the resamples of the test
        samples in which that holds; dominated_by: encoders, joined by "; ".
    """
    rows = []
    for predictor in predictors(panels[0]) if panels else []:
        kept, drawn, protocols = _table(panels, scores, encoders, baseline, predictor)
        if len(kept) < 2:
            continue
        beaten = dominates(drawn.transpose(2, 0, 1))  # [1 + resamples, encoders, encoders]
        share = 1 - beaten[1:].any(axis=1).mean(axis=0)
        for i, encoder in enumerate(kept):
            by = "; ".join(other for other, wins in zip(kept, beaten[0, :, i], strict=True) if wins)
            for j, panel in enumerate(panels):
                row = (predictor, encoder, panel.task.name, metrics_of(panel.task)[0], float(drawn[i, j, 0]))
                rows.append((*row, not by, float(share[i]), by, protocols[j]))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _table(
    panels: Sequence[Panel], scores: Sequence[Scores], encoders: Sequence[str], baseline: str, predictor: str
) -> tuple[list[str], NDArray, list[str]]:
    """The encoders with all tasks, their headline scores [encoders, tasks, 1 + resamples], each task's protocol."""
    seeds = {
        name: [common_seeds(panel, name, baseline, predictor) for panel in panels] for name in (baseline, *encoders)
    }
    protocols = [min(found, default="") for found in seeds[baseline]]
    kept = [
        name
        for name in encoders
        if all(protocol in found for protocol, found in zip(protocols, seeds[name], strict=True))
    ]
    drawn = [
        [
            np.mean(
                [scored[Key(name, seed, predictor, protocol)][metrics_of(panel.task)[0]] for seed in own[protocol]],
                axis=0,
            )
            for panel, scored, protocol, own in zip(panels, scores, protocols, seeds[name], strict=True)
        ]
        for name in kept
    ]
    return kept, np.asarray(drawn), protocols


def pareto_sentences(pareto: pd.DataFrame, frame: pd.DataFrame, name: str) -> list[str]:
    """What each encoder gains over the baseline and at which price, and who is dominated, with one predictor.

    Only differences whose interval excludes 0 count as a gain or a price.

    Args:
        pareto: result of `pareto_rows`.
        frame: rows of `paired_rows`.
        name: the predictor.
    """
    told: list[str] = []
    alike: list[str] = []
    rows = frame[(frame["name"] == name) & frame["metric"].isin(["accuracy", "r2"])]
    other = style.display(str(rows["baseline"].iloc[0])) if len(rows) else ""
    for encoder, own in rows.groupby("encoder", sort=False):
        gains, losses = (_changes(own[own["reading"] == side]) for side in ("better", "worse"))
        unclear = listed([str(task) for task in own.loc[~own["reading"].isin(["better", "worse"]), "task"]])
        rest = f"; {unclear} cannot be told apart" if unclear else ""
        if gains and losses:
            told.append(
                f"{style.display(str(encoder))} gains on {gains} at the price of {losses}, against {other}{rest}."
            )
        elif gains or losses:
            verb = "gains" if gains else "loses"
            told.append(f"{style.display(str(encoder))} {verb} on {gains or losses} against {other}{rest}.")
        else:
            alike.append(style.display(str(encoder)))
    if alike:
        told.append(f"Not distinguishable from {other} on any task: {listed(alike)}.")
    front = pareto[pareto["name"] == name].drop_duplicates("encoder").to_dict("records")
    kept, lost = ([row for row in front if row["on_front"] == side] for side in (True, False))
    if kept:
        names = listed([f"{style.display(row['encoder'])} ({_share(row)})" for row in kept])
        told.append(f"Not dominated, by values alone (share of the resamples of the test samples): {names}.")
    for row in lost if len(lost) <= MOST_LOST else ():
        by = listed([style.display(winner) for winner in row["dominated_by"].split("; ")])
        told.append(
            f"By values alone {style.display(row['encoder'])} is dominated by {by}; in {_share(row)} of the resamples"
            " it is not."
        )
    if len(lost) > MOST_LOST:
        told.append(f"{len(lost)} encoders are dominated: by whom stands in pareto.csv.")
    return told


def _share(row: dict) -> str:
    return f"{100 * row['front_share']:.0f}%"


def _changes(rows: pd.DataFrame) -> str:
    return listed([f"{r['task']} ({change_text(r['difference'], r['metric'])})" for r in rows.to_dict("records")])
