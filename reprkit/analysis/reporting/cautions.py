"""What limits a set of results, in plain sentences."""

from __future__ import annotations

import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.reporting.differences import closest
from reprkit.analysis.reporting.results import Results
from reprkit.analysis.reporting.wording import about, listed
from reprkit.analysis.universal.verdict import collapse_check

LEVEL = 0.05
MOST_COLLAPSED = 8
"""So many sentences on collapse are printed; the others are counted."""

MEASURED = frozenset({"n", "head", "gap", "U_rel", "U_rel_high", "L_star", "H_y", "rms", "effective_rank", "grad_norm"})
"""Columns that the check for collapse reads."""


def warning_sentences(results: Results, changes: pd.DataFrame) -> list[str]:
    """What limits these results: few seeds, missing parts, failed measurements, unlike protocols."""
    seeds = seed_counts(results)
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
    compared = pd.MultiIndex.from_frame(changes[["encoder", "baseline"]])
    judged = changes[(changes["reading"] != "") & compared.isin(closest(compared))]
    chance = len(judged) * LEVEL
    if len(judged) >= 5:
        found.append(
            f"{len(judged)} differences are judged one by one, each at 95%: about {about(chance)} of them would look"
            " different by chance alone, even if no encoder differed."
        )
    collapsed = [f"{sentence}." for sentence in collapse_sentences(results.universality)]
    found += collapsed[:MOST_COLLAPSED]
    if len(collapsed) > MOST_COLLAPSED:
        found.append(f"{len(collapsed) - MOST_COLLAPSED} more such sentences on other encoders are left out.")
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
        found.append(f"Not among these results: {listed(missing)}.")
    return found


def collapse_sentences(universality: pd.DataFrame) -> list[str]:
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
        shown = group.assign(encoder=group["encoder"].map(lambda name: style.display(str(name))))
        places = shown[[*where, *keys]].drop_duplicates().astype(str).agg(" / ".join, axis=1).tolist()
        named = listed(places[:6]) + (f" and {len(places) - 6} more" if len(places) > 6 else "")
        meaning = MEANINGS.get(str(status))
        told.append(f"{name}, {status}{f' ({meaning})' if meaning else ''}: {named}.")
    return told


MEANINGS = {
    "no_headroom": "the best predictor is not told apart from guessing: U_rel does not exist, a high U means nothing",
    "unresolved": "the gap is not told apart from 0, so U does not exist",
    "optimiser_failed": "the best predictor was not found, so U and U_rel are withheld",
}


def seed_counts(results: Results) -> list[int]:
    """Training seeds of every encoder with a result."""
    frames = [
        f[["encoder", "seed"]] for f in (results.scores, results.probes, results.universality, results.tsne) if len(f)
    ]
    frames = frames or [results.curves[["encoder", "seed"]]]
    counts = pd.concat(frames).drop_duplicates().groupby("encoder")["seed"].nunique()
    return [int(count) for count in counts]
