"""From one row a seed to one row an encoder, with an interval that says what it covers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from reprkit.analysis.stats import summarise_seeds

OVER_SEEDS = "seeds"
OVER_SAMPLES = "samples"


def over_seeds(
    frame: pd.DataFrame, *, by: Sequence[str], value: str = "value", low: str = "low", high: str = "high"
) -> pd.DataFrame:
    """Mean over training seeds of each group, with a 95% interval.

    Args:
        frame: rows with the columns `by`, `seed` and `value`, one a seed in each group; `low` and `high`, if there,
            are each row's own interval over test samples.
        by: columns that make a group.
        value, low, high: columns to read.

    Returns:
        One row a group: `by`, value, low, high, n_seeds, interval. With several seeds it is Student's interval over
        them (interval = "seeds"); with one it is that row's own ("samples"), which says nothing about another
        training run; "" if neither is known.
    """
    columns = [*by, "value", "low", "high", "n_seeds", "interval"]
    if not len(frame):
        return pd.DataFrame(columns=columns)
    table = summarise_seeds(frame, by=by, value=value).rename(columns={value: "value"})
    present = frame[frame[value].notna()]
    bounds = {f"own_{side}": present.get(name, np.nan) for side, name in (("low", low), ("high", high))}
    own = present[list(by)].assign(**bounds).drop_duplicates(list(by))
    table = table.merge(own, on=list(by), how="left")
    several, one = table["n_seeds"] > 1, table["n_seeds"] == 1
    for side in ("low", "high"):
        table[side] = table[side].where(several, table[f"own_{side}"].where(one))
    known = one & table["low"].notna() & table["high"].notna()
    table["interval"] = np.select([several, known], [OVER_SEEDS, OVER_SAMPLES], "")
    return table[columns]
