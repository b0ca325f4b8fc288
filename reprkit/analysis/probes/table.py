"""From outcomes to tables: one row a task, probe and metric, and the predictions behind them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reprkit import plugins
from reprkit.analysis.groups import COLUMN as GROUP
from reprkit.analysis.groups import number_groups
from reprkit.analysis.probes.data import TaskData
from reprkit.analysis.probes.metrics import measure, metrics_of
from reprkit.analysis.probes.outcome import Outcome
from reprkit.analysis.probes.protocol import ALWAYS, FLOOR, HEAD, Protocol
from reprkit.recipe import PROBES

COLUMNS = (
    "encoder", "seed", "task", "probe", "metric", "value", "low", "high",
    "n_test", "n_train", "params", "val_value", "status", "protocol_id",
)  # fmt: skip

PROBABILISTIC = (FLOOR, HEAD, "lda", "linear", "mlp")
"""Our own probes that report log-loss and calibration error. Shares of neighbours and of leaves reach zero, where the
loss is infinite, and margins are no probabilities."""


def task_rows(
    data: TaskData, outcomes: Mapping[str, Outcome | None], skipped: str, protocol: Protocol
) -> list[dict[str, Any]]:
    """Table rows of one task, without the columns that all rows share.

    Args:
        data: the task.
        outcomes: probe -> its outcome, in table order; None where nothing was fitted.
        skipped: why nothing was, for the status column. It is `ok` where something was, and remarks may follow.
        protocol: bootstrap, seed and carve are read.
    """
    task, target = data.task, data.y["test"]
    known = {name: outcome for name, outcome in outcomes.items() if outcome is not None}
    groups = None if data.groups is None else number_groups(data.groups[data.rows["test"]])
    options: dict[str, Any] = {"resamples": protocol.bootstrap, "seed": protocol.seed, "groups": groups}
    scored = measure(task, target, known, **options) if known else {}
    rows = []
    for name, outcome in outcomes.items():
        carved = f"val is one train sample in {protocol.carve}" if protocol.carve and name not in ALWAYS else ""
        status = "; ".join(("ok", *outcome.remarks, *filter(None, [carved]))) if outcome else skipped
        common = {
            "task": task.name,
            "probe": name,
            "n_test": len(target),
            "n_train": outcome.n_train if outcome else len(data.y["train"]),
            "params": json.dumps(outcome.params if outcome else {}, sort_keys=True, separators=(",", ":")),
            "status": status,
        }
        probabilistic = outcome.log_probabilities is not None if outcome else name in PROBABILISTIC
        for metric in metrics_of(task, probabilistic):
            value, low, high = scored[name][metric] if outcome else (math.nan,) * 3
            chose = outcome is not None and metric == (outcome.selected_by or task.metric)
            val_value = outcome.val_value if outcome and chose else math.nan
            rows.append(common | {"metric": metric, "value": value, "low": low, "high": high, "val_value": val_value})
    return rows


def prediction_table(ids: NDArray[np.str_], data: TaskData, outcomes: Mapping[str, Outcome | None]) -> pd.DataFrame:
    """id, target, and what each probe predicts; a probe of several models has a numbered column for each.

    Where rows come in groups, a column `group` behind the id names them.
    """
    rows = data.rows["test"]
    columns: dict[str, NDArray] = {"id": ids[rows]}
    columns |= {} if data.groups is None else {GROUP: data.groups[rows]}
    columns["target"] = data.y["test"]
    for name, outcome in outcomes.items():
        if outcome is None:
            continue
        if outcome.test.ndim == 1:
            columns[name] = outcome.test
        else:
            columns |= {f"{name}[{number}]": one for number, one in enumerate(outcome.test)}
    return pd.DataFrame(columns)


def columns_by_probe(table: pd.DataFrame) -> dict[str, list[str]]:
    """Probe -> its columns in a table of predictions: one, or one a model; the floor and the own head among them."""
    found: dict[str, list[str]] = {}
    known = (*PROBES, *ALWAYS, *plugins.names("probes"))
    for column in map(str, table.columns):
        name = column.partition("[")[0]
        if name in known:
            found.setdefault(name, []).append(column)
    return found
