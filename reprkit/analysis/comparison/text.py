"""A comparison as tables and sentences: for a terminal, and as Markdown to paste."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.comparison.measures import NEIGHBOURS, SIMILARITIES
from reprkit.analysis.comparison.pairs import OVER_BOTH
from reprkit.analysis.reporting.headlines import HEAD, PROBE_NAMES, task_order
from reprkit.analysis.reporting.metric_names import metric_name, printed_with
from reprkit.analysis.reporting.typeset import DASH, MINUS, markdown_table, signed
from reprkit.analysis.reporting.wording import about, listed, plural

MARKS = {"better": "▲", "worse": "▼", "apart": "≠", "higher": "▲", "lower": "▼"}
ARROW = "\N{RIGHTWARDS ARROW}"
CLEAR = 0.05
TASKS_ABREAST = 4
ALIKE = dict(zip(SIMILARITIES, ("CKA (debiased)", f"{NEIGHBOURS} neighbours shared", "above chance"), strict=True))
NAMES = {**PROBE_NAMES, HEAD: "Own head"}


@dataclass(frozen=True)
class Section:
    """A table with its title and the sentence below it."""

    title: str
    heads: list[str]
    rows: list[list[str]]
    note: str = ""


def plain_text(frame: pd.DataFrame, sentences: Sequence[str], notes: Sequence[str], view: str) -> str:
    """All of a comparison for a terminal."""
    parts = []
    for section in sections(frame):
        parts.append("\n".join([section.title, _aligned(section.heads, section.rows), *_lines(section.note)]))
    if sentences:
        parts.append("\n".join([f"Trade-offs ({_view(view)})", *sentences]))
    parts.append("\n".join([*_chance(frame), *notes]))
    return "\n\n".join(part for part in parts if part)


def report_text(
    frame: pd.DataFrame,
    sentences: Sequence[str],
    notes: Sequence[str],
    view: str,
    pictures: Sequence[tuple[str, str]] = (),
) -> str:
    """All of a comparison as Markdown."""
    parts = ["# Comparison of encoders"]
    if sentences:
        parts.append("\n".join([f"Trade-offs ({_view(view)}):\n", *(f"- {line}" for line in sentences)]))
    parts += [f"![{title}]({name}.png)" for name, title in pictures]
    for section in sections(frame, every_metric=True):
        parts.append(f"## {section.title}\n\n{markdown_table(section.heads, section.rows)}\n{section.note}".rstrip())
    limits = [*_chance(frame), *notes]
    if limits:
        parts.append("\n".join(["## Limits\n", *(f"- {line}" for line in limits)]))
    return "\n\n".join(parts) + "\n"


def sections(frame: pd.DataFrame, *, every_metric: bool = False) -> list[Section]:
    """The tables of a comparison, in reading order.

    Args:
        frame: its rows.
        every_metric: also metrics of probes beside the headline and the mean absolute error.
    """
    made = []
    pairs = frame.loc[frame["kind"] != "similarity", ["encoder", "baseline"]].drop_duplicates()
    for encoder, baseline in pairs.itertuples(index=False, name=None):
        own = frame[(frame["encoder"] == encoder) & (frame["baseline"] == baseline)]
        who = f"{style.display(encoder)} minus {style.display(baseline)}"
        made += _probe_sections(own[own["kind"] == "probe"], who, every_metric)
        for kind in ("universality", "geometry"):
            for some in (
                own[(own["kind"] == kind) & (own["task"] == "")],
                own[(own["kind"] == kind) & (own["task"] != "")],
            ):
                if len(some):
                    made.append(_measured_section(some, f"{who}: {kind}"))
    alike = frame[frame["kind"] == "similarity"]
    if len(alike):
        made.append(_similarity_section(alike))
    return made


def _probe_sections(own: pd.DataFrame, who: str, every_metric: bool) -> list[Section]:
    made = []
    headline, others = own["metric"].isin(["accuracy", "r2"]), ["mae"] + ["balanced_accuracy"] * every_metric
    for metric, rows in [("", own[headline]), *((m, own[own["metric"] == m]) for m in others)]:
        if not len(rows):
            continue
        names = [_metric_name(m) for m in dict.fromkeys(rows["metric"])]
        kind = "seeds and test samples" if (rows["interval"] == OVER_BOTH).any() else "test samples"
        title = f"{who}: {', '.join(names)}"
        note = f"In brackets: 95% interval over {kind}, paired. ▲ better, ▼ worse, nothing: not distinguishable."
        note += " *: also after Holm's adjustment within the task." if rows["p_holm"].notna().any() else ""
        note += " Last line: difference that such a test finds with 80% power." if not metric else ""
        tasks = task_order(rows["task"])
        for start in range(0, len(tasks), TASKS_ABREAST):
            some = tasks[start : start + TASKS_ABREAST]
            made.append(Section(title, ["Probe", *some], _probe_lines(rows, some, last=not metric), note))
    return made


def _probe_lines(rows: pd.DataFrame, tasks: Sequence[str], *, last: bool) -> list[list[str]]:
    lines = []
    cells = {(row["name"], row["task"]): row for row in rows.to_dict("records")}
    for name in dict.fromkeys(rows["name"]):
        line = [NAMES.get(name, name)]
        for task in tasks:
            line.append(_difference(cells[name, task]) if (name, task) in cells else DASH)
        lines.append(line)
    if last:
        line = ["detectable"]
        for task in tasks:
            own = rows[(rows["task"] == task) & rows["smallest_detectable"].notna()]
            line.append(_number_range(own) if len(own) else DASH)
        lines.append(line)
    return lines


def _number_range(rows: pd.DataFrame) -> str:
    factor, digits = printed_with(str(rows["metric"].iloc[0]))
    low, high = (
        f"{factor * v:.{digits}f}" for v in (rows["smallest_detectable"].min(), rows["smallest_detectable"].max())
    )
    return low if low == high else f"{low} to {high}"


def _difference(row: dict) -> str:
    factor, digits = printed_with(row["metric"])
    if not np.isfinite(row["difference"]):
        return DASH
    text = signed(factor * row["difference"], digits)
    if np.isfinite([row["low"], row["high"]]).all():
        text += f" [{signed(factor * row['low'], digits)}, {signed(factor * row['high'], digits)}]"
    mark = MARKS.get(row["reading"], "")
    return f"{text} {mark}{'*' if mark and row['p_holm'] < CLEAR else ''}".rstrip()


def _measured_section(own: pd.DataFrame, title: str) -> Section:
    tasks = task_order(own["task"])
    several = own["name"].nunique() > 1
    lines = []
    for name, metric in own[["name", "metric"]].drop_duplicates().itertuples(index=False, name=None):
        line = [f"{metric} ({name})" if several else metric]
        for task in tasks:
            cell = own[(own["name"] == name) & (own["metric"] == metric) & (own["task"] == task)]
            line.append(_change(cell.iloc[0]) if len(cell) else DASH)
        lines.append(line)
    note = f"Baseline {ARROW} encoder. "
    if own["low"].notna().any():
        over = listed([str(kind) for kind in dict.fromkeys(own["interval"]) if kind])
        note += f"In brackets: 95% interval of the difference, over {over}; ▲ higher, ▼ lower."
    elif (own["reading"] != "").any():
        note += "≠: the two 95% intervals are apart, which is stricter than a test of the difference."
    return Section(title, ["Metric", *[task or "all" for task in tasks]], lines, note.strip())


def _change(row: pd.Series) -> str:
    text = f"{_short(row['baseline_value'])} {ARROW} {_short(row['value'])}"
    if np.isfinite([row["low"], row["high"]]).all():
        text += f" [{_short(row['low'], sign=True)}, {_short(row['high'], sign=True)}]"
    return f"{text} {MARKS.get(row['reading'], '')}".rstrip()


def _similarity_section(alike: pd.DataFrame) -> Section:
    metrics = list(dict.fromkeys(alike["metric"]))
    lines = []
    for encoder, baseline in alike[["encoder", "baseline"]].drop_duplicates().itertuples(index=False, name=None):
        line = [f"{style.display(baseline)} and {style.display(encoder)}"]
        for metric in metrics:
            cell = alike[(alike["encoder"] == encoder) & (alike["baseline"] == baseline) & (alike["metric"] == metric)]
            line.append(_bounded(cell.iloc[0]) if len(cell) else DASH)
        lines.append(line)
    note = f"On {int(alike['n'].max()):,} test samples. 1: alike up to rotation and scale; about 0: nothing in common."
    if (alike["encoder"] == alike["baseline"]).any():
        note += " An encoder and itself: different seeds, the yardstick for the others."
    return Section("Similarity", ["Encoders", *(ALIKE.get(m, m) for m in metrics)], lines, note)


def _bounded(row: pd.Series) -> str:
    text = _short(row["value"])
    return text + (
        f" [{_short(row['low'])}, {_short(row['high'])}]" if np.isfinite([row["low"], row["high"]]).all() else ""
    )


def _chance(frame: pd.DataFrame) -> list[str]:
    """How many comparisons were made, and how many of them chance alone would call clear."""
    probes = frame[(frame["kind"] == "probe") & (frame["reading"] != "")]
    counts = probes.loc[probes["p_mcnemar"].notna()].groupby("task").size()
    told = []
    if len(probes) >= 5:
        chance = CLEAR * len(probes)
        told.append(
            f"{len(probes)} differences of probes and heads are judged, each at 95%: about {about(chance)} would look"
            " clear by chance alone if no encoder differed."
        )
    if len(counts):
        least, most = int(counts.min()), int(counts.max())
        count = plural(most, "comparison") if least == most else f"{least} to {most} comparisons"
        critical = f" (the smallest p must be below {CLEAR / most:.2g})" if most > 1 else ""
        told.append(f"Holm's adjustment: {count} of accuracy a task{critical}.")
    return told


def _aligned(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in (heads, *rows)]
    return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])


def _lines(note: str) -> list[str]:
    return [note] if note else []


def _view(view: str) -> str:
    return f"{NAMES.get(view, view)} predictor" if view != HEAD else "the encoders' own heads"


def _metric_name(metric: str) -> str:
    name = metric_name(metric)
    return (
        f"{name} in points"
        if "accuracy" in metric
        else "mean absolute error (lower is better)"
        if metric == "mae"
        else name
    )


def _short(value: float, *, sign: bool = False) -> str:
    return f"{value:{'+' if sign else ''}.3g}".replace("-", MINUS) if np.isfinite(value) else DASH
