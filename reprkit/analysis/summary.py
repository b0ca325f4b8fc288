"""What a set of results says, and does not say, in plain sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.cautions import LEVEL, MEASURED, collapse_sentences, seed_counts
from reprkit.analysis.delta import LOWER_IS_BETTER
from reprkit.analysis.differences import OWN_HEAD, UNCLEAR, closest, pairs
from reprkit.analysis.gains import addition_gains, gain_sentence, seed_gains
from reprkit.analysis.metric_names import in_sentence
from reprkit.analysis.results import Results
from reprkit.analysis.seeds import OVER_SEEDS, over_seeds
from reprkit.analysis.tables import head_scores
from reprkit.analysis.typeset import signed
from reprkit.analysis.wording import about, capitals, change_text, listed, plural, score_text, span
from reprkit.tasks import Task

MOST_NAMED = 4
"""So many encoders are compared by name in one sentence; of more, only those that differ."""

MOST_TOLD = 4
"""So many pairs of encoders have a sentence each; more are counted together."""

MOST_LISTED = 8
"""So many encoders are described one by one; of more, the ends."""


def summary_sentences(
    results: Results, changes: pd.DataFrame, universality_changes: pd.DataFrame | None = None
) -> list[str]:
    """The findings in words, with their numbers: what was compared, who is best, whether DGR helped, at what scale.

    A difference whose interval covers 0 is called not distinguishable; a missing interval is said to be missing.

    Args:
        results: what `load_results` read.
        changes: result of `differences`.
        universality_changes: result of `universality_differences`.
    """
    sentences = [_compared(results), *_protocol(results)]
    sentences += [_best(results, changes, task) for task in results.tasks if _has_score(results, task)]
    added = [pair for pair in closest(pairs(results.encoders)) if pair[0].endswith("+dgr")]
    if len(added) <= MOST_TOLD:
        sentences += [_dgr(changes, *pair) for pair in added]
    else:
        sentences += _additions(results, changes)
    if universality_changes is not None:
        sentences += _universality(results, universality_changes)
    return [sentence for sentence in sentences if sentence]


def _compared(results: Results) -> str:
    encoders, seeds = results.encoders, seed_counts(results)
    names = [style.display(name) for name in encoders] if len(encoders) <= MOST_LISTED else _families(encoders)
    count = f"{min(seeds)} to {max(seeds)} seeds" if min(seeds) != max(seeds) else plural(min(seeds), "training seed")
    data = (results.recipe.get("data") or {}).get("name")
    where = f" on {data}" if data else ""
    tasks = listed([f"{task.name} ({_size(task)})" for task in results.tasks.values()])
    verb = "was measured" if len(encoders) == 1 else "were compared"
    each = " each" if len(encoders) > 1 else ""
    return (
        f"{plural(len(encoders), 'encoder').capitalize()} {verb}{where}: {listed(names)}, with {count}{each}."
        f" {'Task' if len(results.tasks) == 1 else 'Tasks'}: {tasks}."
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


def _protocol(results: Results) -> Iterable[str]:
    epochs = list(results.scores["checkpoint"].dropna().unique())
    if len(epochs) == 1:
        which = {"best": "the epoch with the best validation score", "last": "the last epoch"}.get(epochs[0], epochs[0])
        n = results.scores["n"].dropna()
        size = f" of {span(n)} samples" if len(n) else ""
        yield f"Every encoder is the one of {which}; its own heads were scored on the test split{size}."
    if len(results.probes) and "n_train" in results.probes:
        trained = results.probes.loc[~results.probes["probe"].isin(["prior", "head"]), "n_train"].dropna()
        size = f"{span(trained)} training samples" if len(trained) else "training samples"
        yield (
            f"Encoders were frozen; probes were fitted on {size}, their settings chosen on validation samples, and"
            f" scored once on {span(results.probes['n_test'].dropna())} test samples."
        )


def _best(results: Results, changes: pd.DataFrame, task: str) -> str:
    """Who scores highest on a task, and how the others stand to the baseline."""
    scores = head_scores(results)
    own = scores[(scores["task"] == task) & scores["value"].notna()]
    metric = str(own["metric"].iloc[0])
    falls = metric in LOWER_IS_BETTER
    own = own.sort_values("value", ascending=falls, kind="stable")
    first = own.iloc[0]
    interval = f" (95% interval {score_text(first['low'], metric)} to {score_text(first['high'], metric)})"
    known = np.isfinite([first["low"], first["high"]]).all()
    name = f"{'lowest' if falls else 'highest'} {in_sentence(metric)}"
    value = score_text(first["value"], metric)
    sentence = f"{task}: {name} of the own heads is {value}{interval if known else ''}"
    sentence += f", by {style.display(str(first['encoder']))}."
    others = changes[(changes["task"] == task) & (changes["predictor"] == OWN_HEAD)]
    if not len(others):
        return sentence
    if others["baseline"].nunique() > MOST_TOLD:  # what additions do to their own methods is counted elsewhere
        others = others[others["baseline"] == others["baseline"].iloc[0]]
        if others["reading"].isin(["better", "worse"]).sum() > MOST_LISTED:
            return f"{sentence} Against {style.display(others['baseline'].iloc[0])}: {_counted(others)}."
    parts = []
    for baseline, group in others.groupby("baseline", sort=False):
        named = group if len(group) <= MOST_NAMED else group[group["reading"].isin(["better", "worse"])]
        told = [_change(row, metric) for row in named.to_dict("records")]
        if len(named) < len(group):
            told.append(f"{len(group) - len(named)} others are not distinguishable or have no interval")
        parts.append(f"Against {style.display(str(baseline))}: {'; '.join(told)}.")
    return " ".join([sentence, *parts])


def _change(row: dict[Any, Any], metric: str) -> str:
    low, high = row["low"], row["high"]
    number = f"{style.display(row['encoder'])} {change_text(row['difference'], metric)}"
    if not np.isfinite([low, high]).all():
        return f"{number} (no interval, so not judged)"
    says = f"{UNCLEAR} here" if row["reading"] == UNCLEAR else row["reading"]
    return f"{number} ({change_text(low, metric, unit=False)} to {change_text(high, metric, unit=False)}), {says}"


def _dgr(changes: pd.DataFrame, encoder: str, baseline: str) -> str:
    """Whether a +dgr encoder is told apart from its base, counted over own heads and over probes."""
    own = changes[(changes["encoder"] == encoder) & (changes["baseline"] == baseline)]
    if not len(own):
        return ""
    parts = []
    for name, group in (
        ("own heads", own[own["predictor"] == OWN_HEAD]),
        ("probes", own[own["predictor"] != OWN_HEAD]),
    ):
        judged = group[group["reading"] != ""]
        if not len(group):
            continue
        if not len(judged):
            parts.append(f"{name}: no intervals, so not judged")
            continue
        better, worse, unclear = (int((judged["reading"] == r).sum()) for r in ("better", "worse", UNCLEAR))
        parts.append(
            f"{name}: better in {better}, worse in {worse}, {UNCLEAR} in {unclear} of {len(judged)} comparisons"
        )
    judged = own[own["reading"] != ""]
    better, worse = (int((judged["reading"] == r).sum()) for r in ("better", "worse"))
    if not len(judged):
        verdict = "cannot be told from these results"
    elif better + worse and better + worse <= max(1, round(LEVEL * len(judged))):
        verdict = f"hardly told: {better + worse} of {len(judged)} comparisons differ, no more than chance would show"
    elif better and not worse:
        verdict = "in part: it is better somewhere and worse nowhere" if better < len(judged) else "yes, everywhere"
    elif worse and not better:
        verdict = "no: it is worse somewhere and better nowhere"
    elif better and worse:
        verdict = "it trades: better in some comparisons, worse in others"
    else:
        verdict = "not distinguishable here in any comparison"
    names = f"{style.display(encoder)} against {style.display(baseline)}"
    return f"Did DGR help ({names})? {'. '.join(capitals([verdict, *parts]))}."


def _additions(results: Results, changes: pd.DataFrame) -> Iterable[str]:
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
        yield f"Did {name} help ({who})? {'. '.join(capitals(parts))}. {gain_sentence(gains, addition)}".strip()


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


def _universality(results: Results, changes: pd.DataFrame) -> Iterable[str]:
    frame = results.universality
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
        yield f"Universality, free of scale (U_rel_tau, fresh {head} heads), {names}: {told}."
    yield from scale_sentences(frame)


def _universality_counted(changes: pd.DataFrame, compared: Sequence[tuple[str, str]]) -> Iterable[str]:
    """On how many tasks each kind of change moved U_rel_tau, where there are too many pairs to tell one by one."""
    own = changes[changes["metric"] == "U_rel_tau"]
    if not len(own):
        return
    own = own[own["predictor"] == own["predictor"].iloc[0]]
    kept = set(closest(compared))
    own = own[[pair in kept for pair in zip(own["encoder"], own["baseline"], strict=True)]]
    if not own["reading"].isin(["higher", "lower", UNCLEAR]).any():
        yield "Universality: one common seed gives no interval of a difference, so it compares no encoders here."
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
        "Universality, free of scale (U_rel_tau), counted over methods and tasks where the 95% interval of the"
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
    text = f"Scale and dimension of z, which U must be read with: {'; '.join(told)}."
    if suspicious:
        text += " Shrinkage of z explains an improvement that U shows: see what to read with care."
    elif len(order) > 1 and set(universality) >= MEASURED:
        text += " No rise of U is explained by shrinkage of z alone."
    yield text


def _has_score(results: Results, task: str) -> bool:
    return bool((results.scores.loc[results.scores["task"] == task, "value"].notna()).any())


def _size(task: Task) -> str:
    if task.kind == "regression":
        return f"regression{f', in {task.unit}' if task.unit else ''}"
    if task.is_dense and task.kind != "segmentation":
        return "of every pixel"
    return f"{task.num_outputs} {'ordered ' if task.kind == 'ordinal' else ''}classes"
