"""What an addition (DGR, SAM, PTA) changes in the multi-task gain of each method, seed by seed."""

from __future__ import annotations

import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.reporting.delta import delta_frame
from reprkit.analysis.reporting.differences import UNCLEAR, reading
from reprkit.analysis.reporting.results import Results
from reprkit.analysis.reporting.seeds import over_seeds
from reprkit.analysis.stats import t_interval

GAIN_COLUMNS = [
    "method", "addition", "encoder", "delta", "low", "high", "n_seeds", "interval", "difference", "difference_low",
    "difference_high", "common_seeds", "reading",
]  # fmt: skip
LEVEL = 0.05


def seed_gains(results: Results, *, baseline: str = "single") -> pd.DataFrame:
    """Multi-task gain (the paper's equation 6, percent) of every encoder and seed that has a score for every task.

    Each seed's gain is against the baseline's mean over its seeds, as in the paper.

    Returns:
        encoder, seed, delta; no rows without the baseline.
    """
    return score_gains(results.scores, baseline=baseline)


def score_gains(scores: pd.DataFrame, *, baseline: str = "single") -> pd.DataFrame:
    """`seed_gains` of headline scores: encoder, seed, task, metric, value."""
    scores = scores[scores["value"].notna()]
    reference = scores[scores["encoder"] == baseline]
    tasks = set(reference["task"])
    runs = [group for _, group in scores[scores["encoder"] != baseline].groupby(["encoder", "seed"], sort=False)]
    whole = [group for group in runs if set(group["task"]) == tasks]
    if not whole:
        return pd.DataFrame(columns=["encoder", "seed", "delta"])
    return delta_frame(pd.concat([*whole, reference]), baseline=baseline)


def addition_gains(gains: pd.DataFrame) -> pd.DataFrame:
    """The gain of each method and of each of its additions, and what the addition changes.

    The change is the mean over common seeds of (method + addition) - (method alone), with Student's 95% interval: the
    same seed gives both the same start and order of samples, and both are measured against the same baseline.

    Args:
        gains: rows of `seed_gains`.

    Returns:
        A row an encoder whose method has an addition, in the paper's order: method, addition (`""`: the method alone;
        several joined by `+`), encoder, delta with low and high (95%, over seeds; percent), n_seeds, interval,
        difference with difference_low and difference_high (percentage points), common_seeds, reading (`better`,
        `worse`, `not distinguishable`, empty without an interval).
    """
    names = style.encoder_order(gains["encoder"])
    added = {base for name in names if (base := style.split_label(name)[0]) != name}
    summary = over_seeds(gains, by=["encoder"], value="delta").set_index("encoder")
    by_seed = gains.pivot(index="seed", columns="encoder", values="delta")
    rows = []
    for name in names:
        base, additions = style.split_label(name)
        if base not in added:
            continue
        own = summary.loc[name]
        change = (by_seed[name] - by_seed[base]).dropna() if additions and base in by_seed else pd.Series(dtype=float)
        difference = t_interval(change)
        row = (base, "+".join(additions), name, own["value"], own["low"], own["high"], own["n_seeds"], own["interval"])
        rows.append((*row, *difference, len(change), reading(*difference)))
    return pd.DataFrame(rows, columns=GAIN_COLUMNS)


def gain_sentence(gains: pd.DataFrame, addition: str = "dgr") -> str:
    """On how many methods the 95% interval of an addition's change excludes 0; empty if no method has the addition.

    Args:
        gains: result of `addition_gains`.
    """
    own = gains[(gains["addition"] == addition) & (gains["common_seeds"] > 0)]
    if not len(own):
        return ""
    name = "+".join(style.ADDITION_NAMES.get(part, part) for part in addition.split("+"))
    judged = own[own["reading"] != ""]
    methods = "one method" if len(own) == 1 else f"{len(own)} methods"
    if not len(judged):
        return f"{name} was added to {methods}; with one common seed there is no interval, so nothing is judged."
    better, worse, unclear = (int((judged["reading"] == what).sum()) for what in ("better", "worse", UNCLEAR))
    least, most = int(judged["common_seeds"].min()), int(judged["common_seeds"].max())
    seeds = f"{least}" if least == most else f"{least} to {most}"
    text = (
        f"{name} was added to {methods}: the 95% interval of the paired change of Δ over {seeds} seeds excludes 0 on"
        f" {better + worse} of {len(judged)} ({better} better, {worse} worse), and covers it on {unclear}."
    )
    if len(judged) > 1:
        text += f" By chance alone about {LEVEL * len(judged):.1f} of {len(judged)} would exclude it."
    return text
