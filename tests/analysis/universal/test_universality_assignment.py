"""The minimum over class permutations against enumeration of all of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.special import log_softmax

from reprkit.analysis.universal.assignment import best_loss, best_permutations, class_sums


def enumerated(logits: np.ndarray, targets: np.ndarray) -> float:
    """Least mean cross-entropy over all relabellings."""
    logs = log_softmax(logits.astype(np.float64), axis=1)
    rows = np.arange(len(targets))
    return min(-logs[rows, np.array(pi)[targets]].mean() for pi in itertools.permutations(range(logits.shape[1])))


def assigned(logits: np.ndarray, targets: np.ndarray) -> float:
    """The same by assignment on the full C x C matrix of losses, log-sum-exp included."""
    logs = log_softmax(logits.astype(np.float64), axis=1)
    classes = logits.shape[1]
    cost = np.stack([-logs[targets == c].sum(axis=0) for c in range(classes)])
    rows, columns = linear_sum_assignment(cost)
    return float(cost[rows, columns].sum() / len(targets))


@settings(max_examples=60, deadline=None)
@given(classes=st.integers(2, 6), n=st.integers(1, 60), seed=st.integers(0, 10_000), scale=st.floats(0.01, 20))
def test_equals_enumeration(classes: int, n: int, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    logits, targets = scale * rng.normal(size=(n, classes)), rng.integers(classes, size=n)
    assert best_loss(logits, targets) == pytest.approx(enumerated(logits, targets), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("classes", [7, 19, 100])
def test_equals_assignment_on_the_matrix_of_losses(classes: int) -> None:
    rng = np.random.default_rng(classes)
    logits, targets = 3 * rng.normal(size=(800, classes)), rng.integers(classes, size=800)
    assert best_loss(logits, targets) == pytest.approx(assigned(logits, targets), rel=1e-12)


def test_matching_logits_keep_the_identity() -> None:
    targets = np.repeat(np.arange(5), 10)
    logits = 9 * np.eye(5)[targets] + np.random.default_rng(0).normal(size=(50, 5))
    sums = class_sums(logits.T[:, None, :], targets)
    np.testing.assert_array_equal(best_permutations(sums), [np.arange(5)])
    assert best_loss(logits, targets) == pytest.approx(
        -log_softmax(logits, axis=1)[np.arange(50), targets].mean(), rel=1e-12
    )


@given(seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_ignores_names_of_classes_and_outputs_and_the_order_of_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, targets = rng.normal(size=(40, 5)), rng.integers(5, size=40)
    rows, names, outputs = rng.permutation(40), rng.permutation(5), rng.permutation(5)
    moved = best_loss(logits[rows][:, outputs], names[targets[rows]])
    assert moved == pytest.approx(best_loss(logits, targets), rel=1e-12)


def test_missing_targets_take_no_part() -> None:
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(30, 4)), rng.integers(4, size=30)
    holed = np.where(np.arange(30) % 3 == 0, -1, targets)
    assert best_loss(logits, holed) == pytest.approx(best_loss(logits[holed >= 0], targets[holed >= 0]))


def test_many_predictors_at_once() -> None:
    rng = np.random.default_rng(1)
    logits, targets = rng.normal(size=(4, 3, 50)), rng.integers(4, size=50)
    sums = class_sums(logits, targets)
    for m in range(3):
        np.testing.assert_array_equal(
            best_permutations(sums)[m], best_permutations(class_sums(logits[:, m : m + 1], targets))[0]
        )
        for c in range(4):
            np.testing.assert_allclose(sums[m, c], logits[:, m, targets == c].sum(axis=1))
