"""Says when a better universality is only a smaller or poorer representation, or one that suits its own dummies.

U = 1 / gap and the dummy gradient norm improve when z shrinks, loses rank or loses what the task needs. U_rel does not:
an improvement of U that U_rel does not share, together with shrinkage, is explained by the shrinkage. This holds for
real values as for classes. Dummies that DGR trained against may fare better than fresh ones, and one class may be lost
while the others hide it: neither shows in means over dummies or classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from reprkit.analysis import style

IMPROVED = 1.05
"""Factor from which a rise of U, or a fall of the gradient norm, counts."""

SHRUNK = 1.5
"""Factor from which a fall of the RMS or of the effective rank counts."""

LOST = 0.05
"""Share of the baseline's usable information (H_y - L_star) from which a loss of it counts."""

MERGED = 3.0
"""Factor from which a fall of the least separation of a class counts."""


def collapse_check(frame: pd.DataFrame, baseline: str | None = None) -> list[str]:
    """Compare every encoder with its baseline and name improvements that shrinkage explains.

    Values are averaged over seeds (U through its gap). An improvement stands, and nothing is said, if U_rel rose
    above the end of the baseline's interval, or if the representation neither shrank nor lost anything. Beside that,
    encoders whose training dummies fit better than fresh ones, which themselves gained nothing, are named; and classes
    that have moved into their neighbours.

    Args:
        frame: rows of `universality` of several encoders.
        baseline: encoder that all are compared with; by default the own method of an encoder with an addition, as
            `nash_mtl` of `nash_mtl+dgr`, if it is there, else `vanilla`, else the first one.

    Returns:
        One sentence for each encoder, head and cause, such as "Vanilla + DGR: U rose on left, right but RMS fell 3.1x
        and effective rank fell from 41 to 12: improvement explained by shrinkage". Empty if nothing is suspicious.
        Tables without the columns of adaptation or separation are read as if nothing was seen there.
    """
    measured = frame[frame["n"].notna() & frame["gap"].notna()]
    encoders = list(dict.fromkeys(measured["encoder"]))
    if not encoders:
        return []
    baselines = {str(name): _baseline(str(name), encoders) if baseline is None else baseline for name in encoders}
    cells: dict[tuple[str, str, str], pd.DataFrame] = {
        (str(encoder), str(head), str(task)): rows
        for (encoder, head, task), rows in measured.groupby(["encoder", "head", "task"], sort=False)
    }
    found: dict[tuple[str, str, str, str], list[str]] = {}
    for (encoder, head, task), rows in cells.items():
        reference = cells.get((baselines[encoder], head, task))
        if encoder == baselines[encoder] or reference is None:
            continue
        before, after = reference[_NUMBERS].mean(), rows[_NUMBERS].mean()
        if _empty(rows) and not _empty(reference):
            found.setdefault((encoder, head, "", "no usable information is left"), []).append(task)
            continue
        what, why = _improvements(before, after), _shrinkage(before, after)
        if what and why and not after["U_rel"] > before["U_rel_high"]:
            found.setdefault((encoder, head, what, why), []).append(task)
    heads = {head for _, head, _ in cells}
    sentences = [
        _sentence(encoder, head if len(heads) > 1 else "", what, why, tasks)
        for (encoder, head, what, why), tasks in found.items()
    ]
    return sentences + _adapted(measured, baselines) + _merged(measured, baselines)


def _baseline(encoder: str, encoders: Sequence[str]) -> str:
    """What an encoder is compared with."""
    own, _ = style.split_label(encoder)
    if own != encoder and own in encoders:
        return own
    return "vanilla" if "vanilla" in encoders else encoders[0]


def _adapted(measured: pd.DataFrame, baselines: Mapping[str, str]) -> list[str]:
    """Encoders whose dummies of training fit better than fresh ones, which gained nothing over the baseline."""
    if not {"adaptation", "adaptation_low"} <= set(measured):
        return []
    before = measured.groupby(["encoder", "head", "task"])["U_rel_high"].mean()
    found: dict[str, list[str]] = {}
    for (encoder, task), rows in measured.groupby(["encoder", "task"], sort=False):
        scores = rows.groupby("head")["U_rel"].mean()
        other = baselines[str(encoder)]
        gained = any(score > before.get((other, head, task), float("inf")) for head, score in scores.items())
        if rows["adaptation_low"].mean() > 0 and not gained:
            found.setdefault(str(encoder), []).append(f"{task} (by {rows['adaptation'].mean():.2g})")
    return [
        f"{style.display(encoder)}: the dummies of its training fit better than fresh ones on {', '.join(tasks)}, and "
        "fresh ones gained nothing: adaptation to the fixed dummies"
        for encoder, tasks in found.items()
    ]


def _merged(measured: pd.DataFrame, baselines: Mapping[str, str]) -> list[str]:
    """Classes that are hardly apart from a neighbour any more, where the baseline kept all of them apart."""
    if not {"separation", "closest_class"} <= set(measured):
        return []
    known = measured[measured["separation"].notna()]
    least = {
        (str(encoder), str(task)): rows for (encoder, task), rows in known.groupby(["encoder", "task"], sort=False)
    }
    sentences = []
    for (encoder, task), rows in least.items():
        reference = least.get((baselines[encoder], task))
        if reference is None or _empty(rows):
            continue
        before, after = reference["separation"].mean(), rows["separation"].mean()
        if not before > 0 or after * MERGED > before:
            continue
        name = rows["closest_class"].iloc[int(np.argmin(rows["separation"]))]
        shown = f"{name:g}" if isinstance(name, float) else str(name)  # a table read from disk may hold numbers
        sentences.append(
            f"{style.display(encoder)}: class {shown} of {task} has moved into its neighbour: the least separation of "
            f"a class fell from {before:.2g} to {after:.2g}"
        )
    return sentences


_NUMBERS = ["gap", "grad_norm", "U_rel", "U_rel_high", "L_star", "H_y", "rms", "effective_rank"]


def _empty(rows: pd.DataFrame) -> bool:
    """True if no seed left anything to learn."""
    return bool(rows["status"].eq("no_headroom").all())


def _improvements(before: pd.Series, after: pd.Series) -> str:
    """Which of the paper's two measures got better, as words; empty if none."""
    words = []
    if 0 < after["gap"] * IMPROVED <= before["gap"]:
        words.append("U rose")
    if after["grad_norm"] * IMPROVED <= before["grad_norm"]:
        words.append("the dummy gradient norm fell")
    return " and ".join(words)


def _shrinkage(before: pd.Series, after: pd.Series) -> str:
    """What became smaller, as words; empty if nothing did."""
    words = []
    if after["rms"] * SHRUNK <= before["rms"]:
        factor = f"{before['rms'] / after['rms']:.2g}x" if after["rms"] > 0 else "to 0"
        words.append(f"RMS fell {factor}")
    if after["effective_rank"] * SHRUNK <= before["effective_rank"]:
        words.append(f"effective rank fell from {before['effective_rank']:.3g} to {after['effective_rank']:.3g}")
    if after["L_star"] - before["L_star"] >= LOST * (before["H_y"] - before["L_star"]) > 0:
        words.append(f"the optimal loss rose from {before['L_star']:.3f} to {after['L_star']:.3f}")
    return ", ".join(words[:-1]) + (" and " if len(words) > 1 else "") + words[-1] if words else ""


def _sentence(encoder: str, head: str, what: str, why: str, tasks: list[str]) -> str:
    who = f"{style.display(encoder)} ({head} heads)" if head else style.display(encoder)
    where = ", ".join(tasks)
    if not what:
        return f"{who}: {why} on {where}: the representation has collapsed for it"
    return f"{who}: {what} on {where} but {why}: improvement explained by shrinkage"
