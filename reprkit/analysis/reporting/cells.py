"""The tables of a report: what each cell says, how it sorts, and nothing about HTML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.reporting.cost import cost_cells, cost_note, cost_table, read_costs
from reprkit.analysis.reporting.differences import OWN_HEAD, UNCLEAR
from reprkit.analysis.reporting.gains import addition_gains, seed_gains
from reprkit.analysis.reporting.headlines import FLOORS, PROBE_NAMES, headline, task_order
from reprkit.analysis.reporting.method_table import DELTA, dgr_rows, dgr_table, head_scores, note, table1
from reprkit.analysis.reporting.metric_names import heading, metric_name, printed_with
from reprkit.analysis.reporting.results import Results
from reprkit.analysis.reporting.seeds import OVER_SEEDS, over_seeds
from reprkit.analysis.reporting.typeset import DASH, MINUS, plain, signed

MARKS = {"better": "▲", "worse": "▼"}


@dataclass(frozen=True)
class Entry:
    """One cell of a table.

    Attributes:
        text: what it says.
        detail: a second, smaller line (an interval).
        mark: a sign before the text, with `meaning` as its words.
        sort: what it sorts by; None sorts by `text`.
        meaning: words for `mark`.
    """

    text: str
    detail: str = ""
    mark: str = ""
    sort: float | None = None
    meaning: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a heading, a note below it, named columns, and the CSV file of its numbers in the folder."""

    name: str
    title: str
    columns: list[str]
    rows: list[list[Entry]]
    note: str = ""
    numeric: frozenset[int] = field(default_factory=frozenset)
    source: str = ""


def all_tables(results: Results, changes: pd.DataFrame) -> list[Table]:
    """The tables that the results allow, in reading order."""
    made = []
    if len(results.scores):
        made.append(heads_table(results, changes))
        made += gains_table(results)
    if len(results.probes):
        made.append(probes_table(results, changes))
    if len(results.universality):
        made.append(universality_table(results))
    if len(results.tsne_quality):
        made.append(maps_table(results))
    made += cost_section(results)
    if len(results.selection) and results.selection.iloc[:, 0].duplicated().any():  # else there was nothing to choose
        made.append(selection_table(results))
    return made


def heads_table(results: Results, changes: pd.DataFrame) -> Table:
    """Test scores of the models' own heads: the paper's Table 1, with intervals and paired differences."""
    summary = head_scores(results)
    tasks = task_order(summary["task"], list(results.tasks))
    gains = table1(results)
    has_gain = any(DELTA in row for row in gains.values())
    own, base = _against_one(changes[changes["predictor"] == OWN_HEAD])
    rows = []
    for encoder in style.encoder_order(summary["encoder"]):
        row = [Entry(style.display(encoder))]
        for task in tasks:
            found = summary[(summary["encoder"] == encoder) & (summary["task"] == task)]
            if not len(found):
                row.append(Entry(DASH))
                continue
            change = own[(own["encoder"] == encoder) & (own["task"] == task)]
            row.append(_score(found.iloc[0], change.iloc[0] if len(change) else None))
        if has_gain:
            gain = gains[encoder].get(DELTA)
            bounds = "" if gain is None else between(gain.low, gain.high, 2)
            row.append(Entry(DASH) if gain is None else Entry(f"{signed(gain.value, 2)}%", bounds, sort=gain.value))
        rows.append(row)
    text = note(gains, "in brackets:")
    if base:
        text += f" Line below: paired difference from {base}, in the units of the column. {_legend(base)}"
    if has_gain:
        text += f" {DELTA}: mean relative gain over single-task encoders (the paper's equation 6)."
    columns = ["Encoder", *[_with_metric(task, summary, results) for task in tasks], *([DELTA] if has_gain else [])]
    return make_table(
        "heads", "The models' own heads on the test split", columns, rows, text, source="tables/table1.csv"
    )


def gains_table(results: Results) -> list[Table]:
    """What DGR changes in Δ, a row a method, paired over seeds; none for fewer than two methods (Δ stands above)."""
    gains = addition_gains(seed_gains(results))
    own = dgr_rows(gains)
    if len(own) < 2:
        return []
    heads, cells, text = dgr_table(gains)
    rows = []
    heads.remove("95% interval")
    for (method, alone, with_dgr, change, _, seeds, says), record in zip(cells, own.to_dict("records"), strict=True):
        bounds = between(record["difference_low"], record["difference_high"], 2, signs=True)
        mark = MARKS.get(record["reading"], "")
        rows.append(
            [
                Entry(method), Entry(alone, sort=record["alone"]), Entry(with_dgr, sort=record["delta"]),
                Entry(change, bounds, mark, record["difference"], record["reading"]),
                Entry(seeds, sort=record["common_seeds"]), Entry(says),
            ]
        )  # fmt: skip
    text = f"In brackets: Student's 95% interval over seeds. {text}"
    return [make_table("gains", "What DGR adds to each method", heads, rows, text, source="tables/dgr_gain.csv")]


def cost_section(results: Results) -> list[Table]:
    """What each method costs; none without a cost.json."""
    table = cost_table(results)
    if not len(table) or not table["n_seeds"].any():
        return []
    heads, cells = cost_cells(table)
    rows = [
        [Entry(style.display(name)), *(Entry(text, sort=None if text == DASH else value) for text, value in row)]
        for name, row in zip(table["encoder"], cells, strict=True)
    ]
    return [
        make_table(
            "cost",
            "Cost",
            ["Encoder", *heads],
            rows,
            cost_note(table, read_costs(results)),
            source="tables/cost_table.csv",
        )
    ]


def probes_table(results: Results, changes: pd.DataFrame) -> Table:
    """Headline metric of every probe, a row a task and encoder."""
    ladder = headline(results.probes)
    summary = over_seeds(ladder, by=["encoder", "task", "probe", "metric"])
    changes, base = _against_one(changes)
    found = [str(name) for name in dict.fromkeys(summary["probe"])]
    probes = [p for p in PROBE_NAMES if p in found] + [p for p in found if p not in PROBE_NAMES]
    rows = []
    for task in task_order(summary["task"], list(results.tasks)):
        own = summary[summary["task"] == task]
        for encoder in style.encoder_order(own["encoder"]):
            row = [Entry(task), Entry(style.display(encoder))]
            for probe in probes:
                cell = own[(own["encoder"] == encoder) & (own["probe"] == probe)]
                at = (changes["encoder"] == encoder) & (changes["task"] == task) & (changes["predictor"] == probe)
                change = changes[at]
                short = None if not len(change) else change.iloc[0]
                row.append(_score(cell.iloc[0], short, brief=True) if len(cell) else Entry(DASH))
            rows.append(row)
    kind = "over seeds" if (summary["interval"] == OVER_SEEDS).any() else "over test samples"
    names = " and ".join(metric_name(m) for m in dict.fromkeys(summary["metric"]))
    text = f"{names} (accuracies in %); in brackets: 95% interval {kind}." + (f" {_legend(base)}" if base else "")
    heads = ["Task", "Encoder", *["Floor" if p in FLOORS else PROBE_NAMES.get(p, p) for p in probes]]
    return make_table("probes", "Probes on frozen embeddings", heads, rows, text, source="probes.csv")


UNIVERSALITY = (
    ("U_rel", "U_rel", 3), ("U_rel_tau", "U_rel_τ", 3), ("rms", "RMS", 3), ("effective_rank", "Effective rank", 1),
    ("L_star", "L* (nats)", 3), ("H_y", "H(y) (nats)", 3), ("gap", "Gap (nats)", 3), ("U", "U = 1/gap", 3),
    ("grad_norm", "Gradient norm", 2), ("bound", "Theorem 3.1's bound on the gap", 2),
    ("adaptation", "Adaptation (nats)", 3),
)  # fmt: skip
BOUNDED = ("U_rel", "U_rel_tau", "gap", "U", "adaptation")
"""Those with an interval of their own."""


def universality_table(results: Results) -> Table:
    """Universality with its companions and status, a row a task, encoder and head."""
    frame = results.universality
    shown = [entry for entry in UNIVERSALITY if entry[0] in frame and frame[entry[0]].notna().any()]
    several = frame["head"].nunique() > 1
    summaries = {
        column: over_seeds(
            frame, by=["encoder", "task", "head"], value=column, low=f"{column}_low", high=f"{column}_high"
        )
        for column, _, _ in shown
    }
    rows = []
    for task in task_order(frame["task"], list(results.tasks)):
        own = frame[frame["task"] == task]
        for encoder in style.encoder_order(own["encoder"]):
            for head in dict.fromkeys(own.loc[own["encoder"] == encoder, "head"]):
                mine = own[(own["encoder"] == encoder) & (own["head"] == head)]
                statuses = list(dict.fromkeys(mine["status"].fillna("").astype(str)))
                row = [
                    Entry(task),
                    Entry(style.display(encoder)),
                    *([Entry(str(head))] if several else []),
                    Entry("; ".join(statuses)),
                ]
                for column, _, digits in shown:
                    table = summaries[column]
                    at = (table["task"] == task) & (table["encoder"] == encoder) & (table["head"] == head)
                    row.append(number_entry(table[at].iloc[0], digits, bounds=column in BOUNDED))
                rows.append(row)
    text = (
        f"U_rel: share of the usable information, H(y) {MINUS} L*, that a fresh untrained head has (1: all, 0: none,"
        " below 0: misled), on centred z of RMS 1; U_rel_τ: with the best temperature, free of scale. Gap and U are on"
        " raw z, as in the paper: they move with scale, and collapse raises U."
    )
    if "adaptation" in frame and frame["adaptation"].notna().any():
        text += (
            " Adaptation: loss of fresh dummies minus that of the dummies DGR trained against; above 0, the encoder has"
            " fitted itself to those."
        )
    if not several:
        text = f"Fresh {frame['head'].iloc[0]} heads. {text}"
    heads = ["Task", "Encoder", *(["Head"] if several else []), "Status", *[title for _, title, _ in shown]]
    return make_table("universality", "Universality", heads, rows, text, source="universality.csv")


def maps_table(results: Results) -> Table:
    """Quality of the t-SNE maps, mean over seeds."""
    frame = results.tsne_quality.assign(task=results.tsne_quality["task"].fillna(""))
    hits = [c for c in frame if str(c).startswith("hit_")]
    columns = [("knn_recall", "Recall@10", 2), ("trustworthiness", "Trust@10", 2), ("spearman", "Spearman", 2)]
    columns.append(("kl", "KL", 2))
    columns += [(str(c), f"NH@10 {str(c).removeprefix('hit_')}", 2) for c in hits]
    shown = [(c, title, digits) for c, title, digits in columns if c in frame]
    summaries = {c: over_seeds(frame, by=["encoder", "task"], value=c) for c, _, _ in shown}
    rows = []
    for encoder in style.encoder_order(frame["encoder"]):
        for task in dict.fromkeys(frame.loc[frame["encoder"] == encoder, "task"]):
            row = [Entry(style.display(encoder)), Entry(str(task) or "all")]
            for column, _, digits in shown:
                table = summaries[column]
                row.append(
                    number_entry(
                        table[(table["encoder"] == encoder) & (table["task"] == task)].iloc[0], digits, bounds=False
                    )
                )
            rows.append(row)
    text = (
        "Recall@10: share of the 10 nearest neighbours in z kept on the map. Trust@10: trustworthiness of its 10"
        " nearest, 1 if they are the nearest in z, less by how far down z ranks them. Spearman: rank correlation of"
        " pairwise distances. KL: divergence reached. NH@10: share of the 10 nearest on the map with the same label."
        " Means over seeds."
    )
    return make_table(
        "maps",
        "Quality of the maps",
        ["Encoder", "Trained for", *[t for _, t, _ in shown]],
        rows,
        text,
        source="tsne_quality.csv",
    )


def selection_table(results: Results) -> Table:
    """Settings that were tried, their validation scores, and which were kept."""
    frame = results.selection.dropna(axis=1, how="all")
    rows = [
        [
            Entry(f"{value:.4g}".replace("-", MINUS), sort=float(value))
            if isinstance(value, float)
            else Entry(_plain(value))
            for value in record
        ]
        for record in frame.itertuples(index=False)
    ]
    text = "Chosen on validation scores alone, before the test split was touched."
    return make_table(
        "selection", "Settings tried", [str(c) for c in frame.columns], rows, text, source="selection.csv"
    )


def make_table(name: str, title: str, columns: list[str], rows: list[list[Entry]], text: str, *, source: str) -> Table:
    """A table whose numeric columns are those with a cell that sorts by a number."""
    numeric = frozenset(i for i in range(len(columns)) if any(row[i].sort is not None for row in rows))
    return Table(name, title, columns, rows, text, numeric, source)


def _score(row: pd.Series, change: Any, *, brief: bool = False) -> Entry:
    """A score with its interval, and the paired difference in words or (brief) as a mark alone."""
    factor, digits = printed_with(str(row["metric"]))
    value = float(row["value"])
    if not np.isfinite(value):
        return Entry(DASH)
    detail = between(row["low"] * factor, row["high"] * factor, digits)
    mark = meaning = ""
    if change is not None:
        mark, meaning = MARKS.get(change["reading"], ""), str(change["reading"])
        if not brief:
            difference = signed(change["difference"] * factor, digits)
            bounds = between(change["low"] * factor, change["high"] * factor, digits, signs=True)
            detail = "\n".join(part for part in (detail, f"{difference} {bounds}".strip()) if part)
    return Entry(plain(value * factor, digits), detail, mark, value, meaning)


def number_entry(row: pd.Series, digits: int, *, bounds: bool) -> Entry:
    """A cell of a row's `value`, with its interval if `bounds`; a dash where it is not known."""
    value = float(row["value"])
    if not np.isfinite(value):
        return Entry(DASH)
    text = f"{value:.{digits}f}" if value == 0 or abs(value) >= 10.0**-digits else f"{value:.2g}"
    return Entry(text.replace("-", MINUS), between(row["low"], row["high"], digits) if bounds else "", sort=value)


def between(low: float, high: float, digits: int, *, signs: bool = False) -> str:
    """`[low, high]`; empty if an end is not known."""
    if not np.isfinite([low, high]).all():
        return ""
    show = signed if signs else plain
    return f"[{show(low, digits)}, {show(high, digits)}]"


def _with_metric(task: str, summary: pd.DataFrame, results: Results) -> str:
    metric = str(summary.loc[summary["task"] == task, "metric"].iloc[0])
    return heading(task, metric, results.tasks[task].unit if task in results.tasks else "")


def _against_one(changes: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The changes against the first baseline alone, and what it is called: one table, one meaning of its marks."""
    if not len(changes):
        return changes, ""
    first = changes["baseline"].iloc[0]
    return changes[changes["baseline"] == first], style.display(str(first))


def _legend(base: str) -> str:
    return (
        f"▲ better, ▼ worse than {base}, where the 95% interval of the paired difference excludes 0; no mark: {UNCLEAR}"
        " here, or no interval."
    )


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={v}" for k, v in value.items())
    return "" if value is None or value != value else {True: "yes", False: "no"}.get(value, str(value))
