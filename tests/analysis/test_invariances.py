"""Every metric under every transformation: what it declares unchanged stays, what it does not declare moves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import ortho_group

from reprkit.analysis.shape.catalogue import METRICS, table
from reprkit.analysis.shape.estimates import Undefined
from reprkit.analysis.shape.metric import TRANSFORMATIONS, Given, Metric, Pair

ROWS, DIM, CLASSES = 400, 24, 4

OF_Z = [metric for metric in METRICS.values() if metric.needs != "head"]
HEADS = [metric for metric in METRICS.values() if metric.needs == "head"]

TOLERANCE = 1e-4
"""Relative; CKA reads float32, and RankMe adds its epsilon to every singular value, also to those that are 0."""

HALF = 0.01
"""Relative, under rounding to float16."""


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Overlapping classes in directions of unequal variance, off the origin; targets; a related representation."""
    rng = np.random.default_rng(0)
    y = rng.choice(CLASSES, size=ROWS, p=[0.4, 0.3, 0.2, 0.1])
    noise = rng.normal(size=(ROWS, DIM)) * np.linspace(2, 0.3, DIM)
    z = (rng.normal(size=(CLASSES, DIM))[y] + noise) @ ortho_group.rvs(DIM, random_state=1) + rng.normal(size=DIM)
    other = z[:, :10] @ rng.normal(size=(10, 16)) + 2 * rng.normal(size=(ROWS, 16))
    return z, y, other


def permuted(rng: np.random.Generator, arrays: list[np.ndarray]) -> list[np.ndarray]:
    order = rng.permutation(ROWS)
    return [array[order] for array in arrays]


def transformed(name: str, z: np.ndarray, y: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(5)
    moves: dict[str, Callable[[], np.ndarray]] = {
        "scale": lambda: 7.3 * z,
        "shift": lambda: z + 4 * rng.normal(size=DIM),
        "rotation": lambda: z @ ortho_group.rvs(DIM, random_state=2),
        "linear": lambda: z @ (ortho_group.rvs(DIM, random_state=2) * np.linspace(1, 4, DIM)),
        "duplicated_columns": lambda: np.concatenate([z, z], axis=1),
        "float16": lambda: z.astype(np.float16).astype(np.float64),
    }
    return tuple(permuted(rng, [z, y, other])) if name == "row_order" else (moves[name](), y, other)


def value(metric: Metric, z: np.ndarray, y: np.ndarray, other: np.ndarray) -> float:
    if metric.needs in ("pair", "pair_rows"):
        first, second = metric.compute(Pair.of_arrays(z, other)), metric.compute(Pair.of_arrays(other, z))
        assert first.value == pytest.approx(second.value, rel=1e-9), "a pair has no order"
        return first.value
    return metric.compute(Given.of_arrays(z, None if metric.task == "none" else y)).value


@pytest.mark.parametrize("name", TRANSFORMATIONS)
@pytest.mark.parametrize("metric", OF_Z, ids=lambda metric: metric.name)
def test_declared_invariances_hold_and_no_others(metric: Metric, name: str, data) -> None:
    before, after = value(metric, *data), value(metric, *transformed(name, *data))
    tolerance = HALF if name == "float16" else TOLERANCE
    if name in metric.invariant:
        assert after == pytest.approx(before, rel=tolerance, abs=1e-9)
    else:
        assert abs(after - before) > 10 * TOLERANCE * abs(before), f"{metric.name} does not change: declare it"


@pytest.mark.parametrize("metric", OF_Z, ids=lambda metric: metric.name)
def test_values_lie_in_the_declared_range(metric: Metric, data) -> None:
    z, y, other = data
    cases = [data, (np.abs(z) ** 3, y, other), (z * (np.arange(DIM) < 3), y, z), (z[:30], y[:30], other[:30])]
    for case in cases:
        try:
            found = value(metric, *case)
        except Undefined:
            assert metric.name in ("fisher_ratio", "alpha_req_r2")
        else:
            assert metric.low - 1e-9 <= found <= metric.high + 1e-9


@pytest.mark.parametrize("metric", HEADS, ids=lambda metric: metric.name)
def test_scores_of_a_head_ignore_row_order_and_the_names_of_its_classes(metric: Metric) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=200)
    logits = 2 * np.eye(5)[y] + rng.normal(size=(200, 5))
    order, names = rng.permutation(200), rng.permutation(5)
    found = metric.compute(logits, y).value
    assert metric.low <= found <= metric.high
    assert metric.compute(logits[order], y[order]).value == pytest.approx(found)
    assert metric.compute(logits[:, names], y).value == pytest.approx(found)
    assert metric.compute(logits, (y + 1) % 3).value == pytest.approx(found)
    assert metric.compute(logits + 3, y).value == pytest.approx(found)
    warmer = metric.compute(0.2 * logits, y).value
    assert (abs(warmer - found) > 0.05) == (metric.name == "leep")  # only LEEP sees the temperature


@pytest.mark.parametrize("metric", HEADS, ids=lambda metric: metric.name)
def test_scores_of_a_head_reward_what_it_knows(metric: Metric) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=500)
    blind, seeing = rng.normal(size=(500, 4)), 9 * np.eye(4)[y]
    assert metric.compute(seeing, y).value == pytest.approx(0, abs=0.01)
    assert metric.compute(blind, y).value == pytest.approx(-np.log(3), abs=0.05)


def test_every_metric_is_documented() -> None:
    found = table()
    assert list(found["metric"]) == list(METRICS)
    for name in ("meaning", "source"):
        assert found[name].str.len().gt(0).all()
    assert found["direction"].isin(["", "higher", "lower"]).all()
    declared = found.set_index("metric")[list(TRANSFORMATIONS)]
    assert declared.loc["h_score"].all()
    assert not declared.loc["rankme", "shift"]
    assert declared.loc["leep"].isna().all()
    for metric in METRICS.values():
        assert metric.invariant <= set(TRANSFORMATIONS)
