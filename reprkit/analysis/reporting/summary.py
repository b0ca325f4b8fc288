"""What a set of results says, and does not say, in plain sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.reporting.agreement import agreement_marks, agreement_tests, can_agree, rho_text
from reprkit.analysis.reporting.cautions import LEVEL, MEASURED, collapse_sentences, seed_counts
from reprkit.analysis.reporting.delta import LOWER_IS_BETTER
from reprkit.analysis.reporting.differences import OWN_HEAD, UNCLEAR, closest, pairs
from reprkit.analysis.reporting.gains import addition_gains, gain_sentence, seed_gains
from reprkit.analysis.reporting.method_table import head_scores
from reprkit.analysis.reporting.metric_names import in_sentence, in_unit
from reprkit.analysis.reporting.protocol import task_words
from reprkit.analysis.reporting.results import Results
from reprkit.analysis.reporting.seeds import OVER_SEEDS, over_seeds
from reprkit.analysis.reporting.typeset import signed
from reprkit.analysis.reporting.verdicts import verdicts
from reprkit.analysis.reporting.wording import about, capitals, change_text, listed, plural, score_text, span

MOST_NAMED = 4
"""So many encoders are compared by name in one sentence; of more, only those that differ."""

MOST_TOLD = 4
"""So many pairs of encoders have a sentence each; more are counted together."""

MOST_LISTED = 8
"""So many encoders are described one by one; of more, the ends."""


class Finding(NamedTuple):
    """One paragraph of the summary: what it is about, and what it says."""

    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.subject} {self.text}"


def summary_findings(results: Results, changes: pd.DataFrame, universality_changes: pd.DataFrame) -> list[Finding]:
    """The findings in words, with their numbers: what differs, who is best, what DGR changed, what universality says.

    A difference whose interval covers 0 is called not distinguishable; a missing interval is said to be missing.

    Args:
        results: what `load_results` read.
        changes: result of `differences`.
        universality_changes: result of `universality_differences`.
    """
    records = verdicts(results, changes, universality_changes)
    found = [*_in_short(records)]
    found += [_best(results, changes, task) for task in results.tasks if _has_score(results, task)]
    added = records[[name.endswith("+dgr") for name in records["encoder"]]]
    if len(added) <= MOST_TOLD:
        found += [_dgr(row) for row in added.to_dict("records")]
    else:
        found += _additions(results, changes)
    found += [Finding("Universality:", text) for text in _universality(results, universality_changes)]
    found += _agreement(results)
    found += [Finding("Scale and dimension of z:", text) for text in scale_sentences(results.universality)]
    return found


def compared_sentence(results: Results) -> str:
    """What was compared, in one sentence: encoders, data, seeds, tasks."""
    encoders, seeds = results.encoders, seed_counts(results)
    names = [style.display(name) for name in encoders] if len(encoders) <= MOST_LISTED else _families(encoders)
    count = f"{min(seeds)} to {max(seeds)} seeds" if min(seeds) != max(seeds) else plural(min(seeds), "training seed")
    data = (results.recipe.get("data") or {}).get("name")
    where = f" on {data}" if data else ""
    tasks = listed(task_words(results.tasks))
    verb = "was measured" if len(encoders) == 1 else "were compared"
    each = " each" if len(encoders) > 1 else ""
    label = "Task" if len(results.tasks) == 1 else "Tasks"
    return (
        f"{plural(len(encoders), 'encoder').capitalize()} {verb}{where}: {listed(names)}, with {count}{each}."
        f" {label}: {tasks}."
    )


def _families(encoders: Sequence[str]) -> list[str]:
    """Methods that have the same additions, named together: `A and B alone and with DGR or SAM`."""
    added: dict[str, list[str]] = {}
    for encoder in encoders:
        base, additions = style.split_label(encoder)
        added.setdefault(base, []).append(" and ".join(style.ADDITION_NAMES[name] for name in additions))
    told = []
    for kinds in dict.fromkeys(map(tuple, added.values())):
        names = listed([style.display(base) for base in added if tuple(added[base]) == kinds])
        with_them = " or ".join(kind for kind in kinds if kind)
        alone = " alone and" if "" in kinds else ""
        told.append(f"{names}{alone} with {with_them}" if with_them else names)
    return ["; ".join(told)]


def _in_short(records: pd.DataFrame) -> Iterable[Finding]:
    """How many paired differences are told apart at all, beside what chance would show, and which way they point."""
    judged = int(records[["heads_judged", "probes_judged"]].to_numpy().sum()) if len(records) else 0
    if not judged:
        return
    better, worse = (int(records[[f"heads_{what}", f"probes_{what}"]].to_numpy().sum()) for what in ("better", "worse"))
    text = (
        f"of {judged} paired differences, each encoder against its method without an addition or else against Vanilla,"
        f" {better + worse} exclude 0 ({better} better, {worse} worse); by chance about {about(LEVEL * judged)} would."
    )
    for verdict, group in records.groupby("verdict", sort=False):
        names = [
            f"{style.display(str(encoder))} against {style.display(str(baseline))}"
            for encoder, baseline in group[["encoder", "baseline"]].itertuples(index=False)
        ]
        who = listed(names) if len(names) <= MOST_NAMED else f"{len(names)} encoders"
        text += f" {capitals([str(verdict)])[0]}: {who}."
    yield Finding("In short:", text)


def _best(results: Results, changes: pd.DataFrame, task: str) -> Finding:
    """Who scores highest on a task, and how the others stand to the baseline."""
    scores = head_scores(results)
    own = scores[(scores["task"] == task) & scores["value"].notna()]
    metric = str(own["metric"].iloc[0])
    falls = metric in LOWER_IS_BETTER
    own = own.sort_values("value", ascending=falls, kind="stable")
    first = own.iloc[0]
    interval = f" (95% interval {score_text(first['low'], metric)} to {score_text(first['high'], metric)})"
    known = np.isfinite([first["low"], first["high"]]).all()
    unit = f" ({results.tasks[task].unit})" if in_unit(metric) and results.tasks[task].unit else ""
    name = f"{'lowest' if falls else 'highest'} {in_sentence(metric)}{unit}"
    value = score_text(first["value"], metric)
    sentence = f"{name} of the own heads is {value}{interval if known else ''}"
    sentence += f", by {style.display(str(first['encoder']))}."
    others = changes[(changes["task"] == task) & (changes["predictor"] == OWN_HEAD)]
    if not len(others):
        return Finding(f"{task}:", sentence)
    if others["baseline"].nunique() > MOST_TOLD:  # what additions do to their own methods is counted elsewhere
        others = others[others["baseline"] == others["baseline"].iloc[0]]
        if others["reading"].isin(["better", "worse"]).sum() > MOST_LISTED:
            against = style.display(str(others["baseline"].iloc[0]))
            return Finding(f"{task}:", f"{sentence} Against {against}: {_counted(others)}.")
    parts = []
    for baseline, group in others.groupby("baseline", sort=False):
        named = group if len(group) <= MOST_NAMED else group[group["reading"].isin(["better", "worse"])]
        told = [_change(row, metric) for row in named.to_dict("records")]
        if len(named) < len(group):
            told.append(f"{len(group) - len(named)} others are not distinguishable or have no interval")
        parts.append(f"Against {style.display(str(baseline))}: {'; '.join(told)}.")
    return Finding(f"{task}:", " ".join([sentence, *parts]))


def _change(row: dict[Any, Any], metric: str) -> str:
    low, high = row["low"], row["high"]
    number = f"{style.display(row['encoder'])} {change_text(row['difference'], metric)}"
    if not np.isfinite([low, high]).all():
        return f"{number} (no interval, so not judged)"
    says = f"{UNCLEAR} here" if row["reading"] == UNCLEAR else row["reading"]
    return f"{number} ({change_text(low, metric, unit=False)} to {change_text(high, metric, unit=False)}), {says}"


def _dgr(row: dict[Any, Any]) -> Finding:
    """What a record of `verdicts` says of DGR: its verdict, the change of the multi-task gain, and the counts."""
    parts = []
    if np.isfinite(row["delta_change"]):
        ends = row["delta_change_low"], row["delta_change_high"]
        bounds = f" ({signed(ends[0], 2)} to {signed(ends[1], 2)}), {row['delta_reading']}"
        judged = bounds if np.isfinite(ends).all() else ", no interval"
        parts.append(
            f"multi-task gain {signed(row['delta_alone'], 2)}% alone, {signed(row['delta'], 2)}% with it: change"
            f" {signed(row['delta_change'], 2)} points{judged}"
        )
    for name, label in (("heads", "own heads"), ("probes", "probes")):
        better, worse, judged = (row[f"{name}_{what}"] for what in ("better", "worse", "judged"))
        if judged:
            unclear = judged - better - worse
            parts.append(f"{label}: {better} better, {worse} worse, {unclear} {UNCLEAR} of {judged} comparisons")
        elif row[name]:
            parts.append(f"{label}: no intervals, so not judged")
    names = f"{style.display(row['encoder'])} against {style.display(row['baseline'])}"
    return Finding(f"Did DGR help ({names})?", f"{'. '.join(capitals([row['verdict'], *parts]))}.")


def _additions(results: Results, changes: pd.DataFrame) -> Iterable[Finding]:
    """What each addition does to the methods that were also trained without it, counted over all of them."""
    gains = addition_gains(seed_gains(results))
    for addition, name in style.ADDITION_NAMES.items():
        made = [encoder for encoder in results.encoders if style.split_label(encoder)[1] == (addition,)]
        bases = {encoder: style.split_label(encoder)[0] for encoder in made}
        own = changes[changes["encoder"].map(bases).eq(changes["baseline"])]
        if not len(own):
            continue
        parts = [
            f"{label}: {_counted(group)}"
            for label, group in (
                ("own heads", own[own["predictor"] == OWN_HEAD]),
                ("probes", own[own["predictor"] != OWN_HEAD]),
            )
            if len(group)
        ]
        who = f"{plural(own['encoder'].nunique(), 'method')} with it against the same without"
        text = f"{'. '.join(capitals(parts))}. {gain_sentence(gains, addition)}".strip()
        yield Finding(f"Did {name} help ({who})?", text)


def _counted(changes: pd.DataFrame) -> str:
    """How many comparisons read better, worse and neither, beside what chance would show."""
    judged = changes[changes["reading"] != ""]
    if not len(judged):
        return "no intervals, so not judged"
    better, worse, unclear = (int((judged["reading"] == what).sum()) for what in ("better", "worse", UNCLEAR))
    return (
        f"better in {better}, worse in {worse}, {UNCLEAR} in {unclear} of {len(judged)} comparisons (by chance about"
        f" {about(LEVEL * len(judged))} would differ)"
    )


def _agreement(results: Results) -> Iterable[Finding]:
    """Whether encoders of higher universality probe better, a task after the other."""
    if not can_agree(results):
        return
    tests = agreement_tests(agreement_marks(results))
    told = [f"{row['task']} {rho_text(row)}" for _, row in tests.iterrows()]
    judged = tests[tests["reading"] != ""]
    verdict = "Too few encoders to judge."
    if len(judged):
        counts = [int((judged["reading"] == what).sum()) for what in ("follows", "runs against")]
        verdict = f"It follows on {counts[0]} and runs against it on {counts[1]} of {len(judged)} tasks (p < 0.05)."
    count = span(tests["n_encoders"])
    yield Finding(
        "Does U_rel follow the linear probe?", f"{verdict} Rank correlation over {count} encoders: {'; '.join(told)}."
    )


def _universality(results: Results, changes: pd.DataFrame) -> Iterable[str]:
    compared = pairs(results.encoders)
    if len(compared) > MOST_TOLD:
        yield from _universality_counted(changes, compared)
        compared = []
    for encoder, baseline in compared:
        own = changes[
            (changes["encoder"] == encoder) & (changes["baseline"] == baseline) & (changes["metric"] == "U_rel_tau")
        ]
        if not len(own):
            continue
        parts = []
        for row in own.to_dict("records"):
            text = f"{row['task']} {signed(row['difference'], 3)}"
            if row["interval"] == OVER_SEEDS:
                text += f" ({signed(row['low'], 3)} to {signed(row['high'], 3)}), {row['reading']}"
            elif row["reading"]:
                text += f" (intervals of the two {'do not overlap' if row['reading'] == 'apart' else 'overlap'})"
            parts.append(text)
        head = own["predictor"].iloc[0]
        names, told = f"{style.display(encoder)} minus {style.display(baseline)}", "; ".join(parts)
        yield f"free of scale (U_rel_τ, fresh {head} heads), {names}: {told}."


def _universality_counted(changes: pd.DataFrame, compared: Sequence[tuple[str, str]]) -> Iterable[str]:
    """On how many tasks each kind of change moved U_rel_tau, where there are too many pairs to tell one by one."""
    own = changes[changes["metric"] == "U_rel_tau"]
    if not len(own):
        return
    own = own[own["predictor"] == own["predictor"].iloc[0]]
    kept = set(closest(compared))
    own = own[[pair in kept for pair in zip(own["encoder"], own["baseline"], strict=True)]]
    if not own["reading"].isin(["higher", "lower", UNCLEAR]).any():
        yield "one common seed gives no interval of a difference, so it compares no encoders here."
        return
    kinds = own["encoder"].map(lambda name: "+".join(style.split_label(name)[1]))
    parts = []
    for kind in dict.fromkeys(kinds):
        group = own[kinds == kind]
        names = "".join(f" + {style.ADDITION_NAMES[part]}" for part in kind.split("+") if part).strip()
        judged = group[group["reading"].isin(["higher", "lower", UNCLEAR])]
        counts = [int((judged["reading"] == what).sum()) for what in ("higher", "lower")]
        told = f"higher in {counts[0]}, lower in {counts[1]} of {len(judged)}" if len(judged) else "no interval"
        base = style.display(str(group["baseline"].iloc[0]))
        what = f"{names} against the method alone" if names else f"methods alone against {base}"
        parts.append(f"{what}: {told}")
    yield (
        "free of scale (U_rel_τ), counted over methods and tasks where the 95% interval of the"
        f" difference excludes 0: {'; '.join(parts)}."
    )


def scale_sentences(universality: pd.DataFrame) -> Iterable[str]:
    """RMS and effective rank of every encoder beside one another: U can rise because z shrank or lost dimensions."""
    if not len(universality) or not {"rms", "effective_rank"} <= set(universality):
        return
    table = universality.drop_duplicates(["encoder", "seed", "task"])
    rms = over_seeds(table, by=["encoder", "task"], value="rms").groupby("encoder")["value"].mean()
    rank = over_seeds(table, by=["encoder", "task"], value="effective_rank").groupby("encoder")["value"].mean()
    order = style.encoder_order(rms.index)
    suspicious = collapse_sentences(universality)
    told = [f"{style.display(name)} RMS {rms[name]:.3g}, effective rank {rank[name]:.3g}" for name in order]
    if len(order) > MOST_LISTED:
        told = [
            f"{what} from {values.min():.3g} ({style.display(str(values.idxmin()))}) to {values.max():.3g}"
            f" ({style.display(str(values.idxmax()))})"
            for what, values in (("RMS", rms), ("effective rank", rank))
        ]
    text = f"U must be read with them. {'; '.join(told)}."
    if suspicious:
        text += " Shrinkage of z explains an improvement that U shows: see what to read with care."
    elif len(order) > 1 and set(universality) >= MEASURED:
        text += " No rise of U is explained by shrinkage of z alone."
    yield text


def _has_score(results: Results, task: str) -> bool:
    return bool((results.scores.loc[results.scores["task"] == task, "value"].notna()).any())
