"""Tables of a report on shape: size and rank of z, the classes in it, their order, and what controls reach."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from reprkit.analysis import style
from reprkit.analysis.reporting.cells import Entry, Table, make_table, number_entry
from reprkit.analysis.reporting.headlines import task_order
from reprkit.analysis.reporting.results import Results
from reprkit.analysis.reporting.seeds import over_seeds
from reprkit.analysis.reporting.typeset import DASH

SHAPE = (
    ("rms", "RMS", 3), ("anisotropy", "Anisotropy", 2), ("effective_rank", "Effective rank", 1),
    ("rankme", "RankMe", 1), ("participation_ratio", "Participation ratio", 1), ("stable_rank", "Stable rank", 1),
    ("alpha_req", "Spectral decay", 2), ("two_nn", "TwoNN dimension", 1), ("uniformity", "Uniformity", 2),
)  # fmt: skip
CLASSES = (
    ("nc1", "NC1", 2), ("cdnv", "CDNV", 2), ("between_share", "Between share", 3), ("fisher_ratio", "Fisher ratio", 1),
    ("h_score_regularised", "H-score (reg.)", 3), ("logme", "LogME", 3), ("silhouette", "Silhouette", 3),
    ("alignment", "Alignment", 2),
)  # fmt: skip
ORDER = (
    ("centroid_spearman", "Centroids (Spearman)"), ("first_axis_share", "First-axis share"),
    ("triplet_accuracy", "Triplet accuracy"), ("direction_spearman", "Direction (Spearman)"),
)  # fmt: skip


def shape_tables(results: Results) -> list[Table]:
    """Geometry without and with classes, and ordinal alignment, as far as the results hold them."""
    made = []
    if len(results.geometry):
        made += [_shape(results), _classes(results)]
    if len(results.ordinal):
        made.append(_order(results))
    return [one for one in made if one.rows]


def _shape(results: Results) -> Table:
    frame = results.geometry[results.geometry["task"] == ""].fillna({"trained_for": ""})
    summary = over_seeds(frame, by=["encoder", "trained_for", "metric"])
    shown = [entry for entry in SHAPE if entry[0] in set(frame["metric"])]
    rows = []
    for encoder in style.encoder_order(summary["encoder"]):
        for (task,), own in summary[summary["encoder"] == encoder].groupby(["trained_for"], sort=False):
            name = f"{style.display(encoder)} ({task})" if task else style.display(encoder)
            rows.append([Entry(name), *_cells(own, shown)])
    text = (
        "On the train split, means over seeds. RMS of centred z; anisotropy: mean cosine of two samples; ranks: how"
        " many directions carry the variance; spectral decay: alpha-ReQ; TwoNN: intrinsic dimension; uniformity: lower"
        " is more spread over the sphere. None of them is better when it is higher or lower as such."
    )
    return make_table(
        "geometry",
        "Size and dimension of z",
        ["Encoder", *[title for _, title, _ in shown]],
        rows,
        text,
        source="geometry.csv",
    )


def _classes(results: Results) -> Table:
    frame = results.geometry[results.geometry["task"] != ""]
    summary = over_seeds(frame, by=["encoder", "task", "metric"])
    shown = [entry for entry in CLASSES if entry[0] in set(frame["metric"])]
    rows = []
    for task in task_order(summary["task"], list(results.tasks)):
        own = summary[summary["task"] == task]
        rows += [
            [Entry(task), Entry(style.display(encoder)), *_cells(own[own["encoder"] == encoder], shown)]
            for encoder in style.encoder_order(own["encoder"])
        ]
    text = (
        "On the train split, means over seeds. NC1, CDNV: spread within classes over distance between them (0:"
        " collapsed onto the class means); between share, Fisher ratio, H-score, LogME, silhouette: higher where"
        " classes lie apart; alignment: mean squared distance of two samples of a class on the sphere."
    )
    return make_table(
        "classes",
        "Classes in z",
        ["Task", "Encoder", *[title for _, title, _ in shown]],
        rows,
        text,
        source="geometry.csv",
    )


def _order(results: Results) -> Table:
    frame = results.ordinal
    summary = over_seeds(frame, by=["encoder", "task", "space", "metric"])
    rows = []
    for task in task_order(summary["task"], list(results.tasks)):
        for space in dict.fromkeys(summary["space"]):
            own = summary[(summary["task"] == task) & (summary["space"] == space)]
            for encoder in style.encoder_order(own["encoder"]):
                mine = own[own["encoder"] == encoder]
                cells = _cells(mine, [(name, title, 3) for name, title in ORDER], bounds=True)
                at = (frame["encoder"] == encoder) & (frame["task"] == task) & (frame["space"] == space)
                p = frame.loc[at & (frame["metric"] == "centroid_spearman"), "p_value"].max()
                shown = Entry(DASH) if pd.isna(p) else Entry(f"{p:.2g}", sort=float(p))
                rows.append([Entry(task), Entry(str(space)), Entry(style.display(encoder)), *cells, shown])
    text = (
        "Does z lay ordered classes out in their order (the paper's reading of Figure 3b)? Test split, in z and on the"
        " t-SNE map. Centroids: distances between class means against differences of class values, with the p-value of"
        " the Mantel test (the largest over seeds); triplets: 0.5 is chance; direction: held-out rank correlation along"
        " the best linear direction."
    )
    heads = ["Task", "Space", "Encoder", *[title for _, title in ORDER], "Mantel p"]
    return make_table("order", "Alignment with the order of classes", heads, rows, text, source="ordinal.csv")


def _cells(summary: pd.DataFrame, shown: Sequence[tuple[str, str, int]], *, bounds: bool = False) -> list[Entry]:
    found = {str(row["metric"]): row for _, row in summary.iterrows()}
    return [
        number_entry(found[name], digits, bounds=bounds) if name in found else Entry(DASH) for name, _, digits in shown
    ]
