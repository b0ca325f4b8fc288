"""What a set of results says, and does not say, in plain sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.differences import OWN_HEAD, UNCLEAR, pairs
from reprkit.analysis.results import Results
from reprkit.analysis.seeds import OVER_SEEDS, over_seeds
from reprkit.analysis.tables import head_scores
from reprkit.analysis.typeset import MINUS, signed
from reprkit.analysis.verdict import collapse_check
from reprkit.tasks import Task

MOST_NAMED = 4
"""So many encoders are compared by name in one sentence; of more, only those that differ."""

LEVEL = 0.05
MEASURED = frozenset({"n", "head", "gap", "U_rel", "U_rel_high", "L_star", "H_y", "rms", "effective_rank", "grad_norm"})
"""Columns that the check for collapse reads."""


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
    sentences += [_dgr(changes, *pair) for pair in pairs(results.encoders) if pair[0].endswith("+dgr")]
    if universality_changes is not None:
        sentences += _universality(results, universality_changes)
    return [sentence for sentence in sentences if sentence]


def warning_sentences(results: Results, changes: pd.DataFrame) -> list[str]:
    """What limits these results: few seeds, missing parts, failed measurements, unlike protocols."""
    seeds = _seed_counts(results)
    found = []
    if seeds and max(seeds) == 1:
        found.append(
            "One training seed: intervals cover the choice of test samples only. Another training run may well differ"
            " by more; run at least three seeds before concluding anything about a method."
        )
    elif seeds and min(seeds) == 2:
        found.append(
            "Two training seeds cannot establish much: with one degree of freedom an interval is 12.7 standard errors"
            " wide to each side. Run more seeds."
        )
    elif seeds and min(seeds) < max(seeds):
        found.append(
            f"Encoders have {min(seeds)} to {max(seeds)} training seeds; those with fewer are known less well."
        )
    if len(results.encoders) > 1 and not len(changes):
        found.append("There is no vanilla encoder among the results, so no paired differences are given.")
    judged = changes[changes["reading"] != ""]
    chance = len(judged) * LEVEL
    if len(judged) >= 5:
        found.append(
            f"{len(judged)} differences are judged one by one, each at 95%: about {_count(chance)} of them would look"
            " different by chance alone, even if no encoder differed."
        )
    found += [f"{sentence}." for sentence in _collapse(results.universality)]
    found += _statuses(results.universality, "Universality")
    found += _statuses(results.probes, "Probes")
    for frame, name in ((results.probes, "Probes"), (results.universality, "Universality")):
        keys = [k for k in ("probe", "head") if k in frame]
        if "protocol_id" in frame and len(frame) and (frame.groupby(keys)["protocol_id"].nunique() > 1).any():
            found.append(f"{name} were measured under different protocols: their rows must not be compared.")
    missing = [
        name
        for name, frame in (
            ("own-head test scores", results.scores), ("probes", results.probes),
            ("universality", results.universality), ("t-SNE maps", results.tsne),
        )
        if not len(frame)
    ]  # fmt: skip
    if missing:
        found.append(f"Not among these results: {_listed(missing)}.")
    return found


def _compared(results: Results) -> str:
    encoders, seeds = results.encoders, _seed_counts(results)
    count = f"{min(seeds)} to {max(seeds)} seeds" if min(seeds) != max(seeds) else _plural(min(seeds), "training seed")
    data = (results.recipe.get("data") or {}).get("name")
    where = f" on {data}" if data else ""
    tasks = _listed([f"{task.name} ({_size(task)})" for task in results.tasks.values()])
    verb = "was measured" if len(encoders) == 1 else "were compared"
    each = " each" if len(encoders) > 1 else ""
    return (
        f"{_plural(len(encoders), 'encoder').capitalize()} {verb}{where}: {_listed(encoders)}, with {count}{each}."
        f" {'Task' if len(results.tasks) == 1 else 'Tasks'}: {tasks}."
    )


def _protocol(results: Results) -> Iterable[str]:
    epochs = list(results.scores["checkpoint"].dropna().unique())
    if len(epochs) == 1:
        which = {"best": "the epoch with the best validation score", "last": "the last epoch"}.get(epochs[0], epochs[0])
        n = results.scores["n"].dropna()
        size = f" of {_range(n)} samples" if len(n) else ""
        yield f"Every encoder is the one of {which}; its own heads were scored on the test split{size}."
    if len(results.probes) and "n_train" in results.probes:
        trained = results.probes.loc[results.probes["probe"] != "prior", "n_train"].dropna()
        size = f"{_range(trained)} training samples" if len(trained) else "training samples"
        yield (
            f"Encoders were frozen; probes were fitted on {size}, their settings chosen on validation samples, and"
            f" scored once on {_range(results.probes['n_test'].dropna())} test samples."
        )


def _best(results: Results, changes: pd.DataFrame, task: str) -> str:
    """Who scores highest on a task, and how the others stand to the baseline."""
    scores = head_scores(results)
    own = scores[(scores["task"] == task) & scores["value"].notna()].sort_values(
        "value", ascending=False, kind="stable"
    )
    metric = str(own["metric"].iloc[0])
    first = own.iloc[0]
    interval = f" (95% interval {_value(first['low'], metric)} to {_value(first['high'], metric)})"
    known = np.isfinite([first["low"], first["high"]]).all()
    name = "accuracy" if metric == "accuracy" else "R²"
    sentence = f"{task}: highest {name} of the own heads is {_value(first['value'], metric)}{interval if known else ''}"
    sentence += f", by {first['encoder']}."
    others = changes[(changes["task"] == task) & (changes["predictor"] == OWN_HEAD)]
    if not len(others):
        return sentence
    parts = []
    for baseline, group in others.groupby("baseline", sort=False):
        named = group if len(group) <= MOST_NAMED else group[group["reading"].isin(["better", "worse"])]
        told = [_change(row, metric) for row in named.to_dict("records")]
        if len(named) < len(group):
            told.append(f"{len(group) - len(named)} others are not distinguishable or have no interval")
        parts.append(f"Against {baseline}: {'; '.join(told)}.")
    return " ".join([sentence, *parts])


def _change(row: dict[Any, Any], metric: str) -> str:
    low, high = row["low"], row["high"]
    number = f"{row['encoder']} {_points(row['difference'], metric)}"
    if not np.isfinite([low, high]).all():
        return f"{number} (no interval, so not judged)"
    says = f"{UNCLEAR} here" if row["reading"] == UNCLEAR else row["reading"]
    return f"{number} ({_points(low, metric, unit=False)} to {_points(high, metric, unit=False)}), {says}"


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
    return (
        f"Did DGR help ({encoder} against {baseline})? {verdict[:1].upper() + verdict[1:]}. {'. '.join(_upper(parts))}."
    )


def _universality(results: Results, changes: pd.DataFrame) -> Iterable[str]:
    frame = results.universality
    for encoder, baseline in pairs(results.encoders):
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
        told = "; ".join(parts)
        yield f"Universality, free of scale (U_rel_tau, fresh {head} heads), {encoder} minus {baseline}: {told}."
    yield from scale_sentences(frame)


def scale_sentences(universality: pd.DataFrame) -> Iterable[str]:
    """RMS and effective rank of every encoder beside one another: U can rise because z shrank or lost dimensions."""
    if not len(universality) or not {"rms", "effective_rank"} <= set(universality):
        return
    table = universality.drop_duplicates(["encoder", "seed", "task"])
    rms = over_seeds(table, by=["encoder", "task"], value="rms").groupby("encoder")["value"].mean()
    rank = over_seeds(table, by=["encoder", "task"], value="effective_rank").groupby("encoder")["value"].mean()
    order = style.encoder_order(rms.index)
    suspicious = _collapse(universality)
    told = [f"{name} RMS {rms[name]:.3g}, effective rank {rank[name]:.3g}" for name in order]
    text = f"Scale and dimension of z, which U must be read with: {'; '.join(told)}."
    if suspicious:
        text += " Shrinkage of z explains an improvement that U shows: see what to read with care."
    elif len(order) > 1 and set(universality) >= MEASURED:
        text += " No rise of U is explained by shrinkage of z alone."
    yield text


def _collapse(universality: pd.DataFrame) -> list[str]:
    """Sentences of `collapse_check`; none if the table lacks what it reads."""
    return collapse_check(universality) if len(universality) and set(universality) >= MEASURED else []


def _statuses(frame: pd.DataFrame, name: str) -> list[str]:
    if "status" not in frame:
        return []
    odd = frame[~frame["status"].fillna("ok").astype(str).str.match(r"ok$")]
    where = ["encoder", "task"]
    keys = [k for k in ("probe", "head") if k in odd]
    told = []
    for status, group in odd.groupby("status", sort=False):
        places = group[[*where, *keys]].drop_duplicates().astype(str).agg(" / ".join, axis=1).tolist()
        shown = _listed(places[:6]) + (f" and {len(places) - 6} more" if len(places) > 6 else "")
        meaning = MEANINGS.get(str(status))
        told.append(f"{name}, {status}{f' ({meaning})' if meaning else ''}: {shown}.")
    return told


MEANINGS = {
    "no_headroom": "the best predictor is not told apart from guessing: U_rel does not exist, a high U means nothing",
    "unresolved": "the gap is not told apart from 0, so U does not exist",
    "optimiser_failed": "the best predictor was not found, so U and U_rel are withheld",
}


def _has_score(results: Results, task: str) -> bool:
    return bool((results.scores.loc[results.scores["task"] == task, "value"].notna()).any())


def _seed_counts(results: Results) -> list[int]:
    frames = [
        f[["encoder", "seed"]] for f in (results.scores, results.probes, results.universality, results.tsne) if len(f)
    ]
    frames = frames or [results.curves[["encoder", "seed"]]]
    counts = pd.concat(frames).drop_duplicates().groupby("encoder")["seed"].nunique()
    return [int(count) for count in counts]


def _size(task: Task) -> str:
    if task.kind == "regression":
        return f"regression{f', in {task.unit}' if task.unit else ''}"
    return f"{task.num_outputs} {'ordered ' if task.kind == 'ordinal' else ''}classes"


def _value(value: float, metric: str) -> str:
    return f"{100 * value:.1f}%" if metric == "accuracy" else f"{value:.3f}".replace("-", MINUS)


def _points(value: float, metric: str, *, unit: bool = True) -> str:
    if metric != "accuracy":
        return signed(value, 3)
    return signed(100 * value, 1) + (" points" if unit else "")


def _range(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _count(value: float) -> str:
    return "one" if round(value) == 1 else f"{value:.1f}" if value < 1 else str(round(value))


def _plural(count: int, noun: str) -> str:
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return f"{words[count] if count < len(words) else count} {noun}{'' if count == 1 else 's'}"


def _upper(texts: Sequence[str]) -> list[str]:
    return [text[:1].upper() + text[1:] for text in texts]


def _listed(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else "".join(parts)
