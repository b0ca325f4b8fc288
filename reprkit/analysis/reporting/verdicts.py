"""Verdicts: what the paired differences between two encoders add up to, as records, and as a table of the report."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.reporting.cautions import LEVEL
from reprkit.analysis.reporting.cells import MARKS, Entry, Table, between, make_table
from reprkit.analysis.reporting.differences import OWN_HEAD, UNCLEAR, closest, pairs
from reprkit.analysis.reporting.gains import addition_gains, seed_gains
from reprkit.analysis.reporting.results import Results
from reprkit.analysis.reporting.typeset import DASH, signed

VERDICT_COLUMNS = [
    "encoder", "baseline", "heads_better", "heads_worse", "heads_judged", "heads", "probes_better", "probes_worse",
    "probes_judged", "probes", "u_higher", "u_lower", "u_judged", "delta_alone", "delta", "delta_change",
    "delta_change_low", "delta_change_high", "delta_reading", "verdict",
]  # fmt: skip
NO_INTERVAL = "not judged: no intervals"
CHANCE = "no more than chance would show"
UNTOLD = "not distinguishable in any comparison"


def verdict_of(better: int, worse: int, judged: int) -> str:
    """What counts of differences whose 95% interval excludes 0 add up to, in words.

    Up to `LEVEL` of the judged ones (at least one) differ by chance, so that so few decide nothing.
    """
    if not judged:
        return NO_INTERVAL
    if not better + worse:
        return UNTOLD
    if better + worse <= max(1, round(LEVEL * judged)):
        return CHANCE
    if better and worse:
        return "mixed: better in some comparisons, worse in others"
    if worse:
        return "worse somewhere, better nowhere"
    return "better everywhere" if better == judged else "better somewhere, worse nowhere"


def verdicts(results: Results, changes: pd.DataFrame, universality_changes: pd.DataFrame) -> pd.DataFrame:
    """One row for each encoder and the one it is compared with: its method without an addition, else vanilla.

    Args:
        results: what `load_results` read.
        changes: result of `differences`.
        universality_changes: result of `universality_differences`.

    Returns:
        `VERDICT_COLUMNS`: of own heads and of probes, how many paired differences are better, worse and judged (have
        an interval), and how many there are; of U_rel_tau of the first kind of head, how many are higher, lower and
        judged; the multi-task gain alone and with the addition, the change paired over seeds (percentage points) with
        its 95% interval and reading; and `verdict_of` own heads and probes together.
    """
    gains = {row["encoder"]: row for row in addition_gains(seed_gains(results)).to_dict("records")}
    u_tau = universality_changes[universality_changes["metric"] == "U_rel_tau"]
    u_tau = u_tau[u_tau["predictor"] == u_tau["predictor"].iloc[0]] if len(u_tau) else u_tau
    rows: list[dict[str, Any]] = []
    for encoder, baseline in closest(pairs(results.encoders)):
        own = changes[(changes["encoder"] == encoder) & (changes["baseline"] == baseline)]
        u_own = u_tau[(u_tau["encoder"] == encoder) & (u_tau["baseline"] == baseline)]
        if not len(own) and not len(u_own):
            continue
        at_head = own["predictor"] == OWN_HEAD
        row: dict[str, Any] = {"encoder": encoder, "baseline": baseline}
        for name, group in (("heads", own[at_head]), ("probes", own[~at_head])):
            counts = [int((group["reading"] == what).sum()) for what in ("better", "worse")]
            row |= {f"{name}_better": counts[0], f"{name}_worse": counts[1], name: len(group)}
            row[f"{name}_judged"] = int((group["reading"] != "").sum())
        row |= {f"u_{what}": int((u_own["reading"] == what).sum()) for what in ("higher", "lower")}
        row["u_judged"] = int(u_own["reading"].isin(["higher", "lower", UNCLEAR]).sum())
        known = encoder in gains and style.split_label(encoder)[0] == baseline and baseline in gains
        one = gains[encoder] if known else None
        row["delta_alone"] = float(gains[baseline]["delta"]) if known else np.nan
        for name, column in (
            ("delta", "delta"), ("delta_change", "difference"), ("delta_change_low", "difference_low"),
            ("delta_change_high", "difference_high"),
        ):  # fmt: skip
            row[name] = np.nan if one is None else float(one[column])
        row["delta_reading"] = "" if one is None else str(one["reading"])
        counts = [row[f"heads_{what}"] + row[f"probes_{what}"] for what in ("better", "worse", "judged")]
        rows.append({**row, "verdict": verdict_of(*counts)})
    return pd.DataFrame(rows, columns=VERDICT_COLUMNS)


def verdicts_table(records: pd.DataFrame) -> list[Table]:
    """The records as a table; none without a record."""
    if not len(records):
        return []
    has_gain = records["delta_change"].notna().any()
    rows = []
    for one in records.to_dict("records"):
        row = [Entry(style.display(one["encoder"])), Entry(style.display(one["baseline"]))]
        row += [_counts(one, kind) for kind in ("heads", "probes")]
        u_counts = f"{one['u_higher']} / {one['u_lower']} / {one['u_judged'] - one['u_higher'] - one['u_lower']}"
        row.append(Entry(u_counts if one["u_judged"] else DASH))
        if has_gain:
            change = one["delta_change"]
            bounds = between(one["delta_change_low"], one["delta_change_high"], 2, signs=True)
            mark = MARKS.get(one["delta_reading"], "")
            known = np.isfinite(change)
            row.append(Entry(signed(change, 2), bounds, mark, change, one["delta_reading"]) if known else Entry(DASH))
        rows.append([*row, Entry(one["verdict"])])
    heads = ["Encoder", "Against", "Own heads", "Probes", "U_rel_τ", *(["Δ, change (points)"] if has_gain else [])]
    text = (
        "Paired differences whose 95% interval lies above 0 / below 0 / covers it: better / worse / neither (U_rel_τ:"
        " higher / lower / neither). Each encoder against its method without the addition, else against Vanilla. The"
        " verdict counts own heads and probes; one in twenty, and one at least, is put down to chance."
    )
    return [make_table("verdicts", "Verdicts", [*heads, "Verdict"], rows, text, source="tables/verdicts.csv")]


def _counts(one: dict[Any, Any], kind: str) -> Entry:
    better, worse, judged = (int(one[f"{kind}_{what}"]) for what in ("better", "worse", "judged"))
    return Entry(f"{better} / {worse} / {judged - better - worse}" if judged else DASH)
