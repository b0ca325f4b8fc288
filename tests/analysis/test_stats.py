from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats

from reprkit.analysis.bootstrap import bootstrap_mean, bootstrap_sums, paired_bootstrap, percentile_interval
from reprkit.analysis.paired import paired_difference
from reprkit.analysis.stats import holm, mcnemar, smallest_detectable_difference, summarise_seeds, t_interval, wilson
from reprkit.errors import InputError

p_values = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_bootstrap_sums_are_sums_over_resampled_rows():
    table = np.random.default_rng(0).normal(size=(50, 3))
    counts = bootstrap_sums(np.eye(50), 130, seed=4)  # the sums of unit rows are the counts themselves
    assert (counts.sum(axis=1) == 50).all()
    assert (counts >= 0).all()
    np.testing.assert_allclose(bootstrap_sums(table, 130, seed=4), counts @ table)
    np.testing.assert_allclose(bootstrap_sums(sparse.csr_array(table), 130, seed=4), counts @ table)
    assert not np.array_equal(counts, bootstrap_sums(np.eye(50), 130, seed=5))
    np.testing.assert_allclose(counts.var(axis=0).mean(), 1 - 1 / 50, rtol=0.1)  # multinomial


def test_bootstrap_interval_agrees_with_scipy():
    x = np.random.default_rng(1).exponential(size=200)
    mean, low, high = bootstrap_mean(x, resamples=4000)
    expected = stats.bootstrap((x,), np.mean, n_resamples=4000, method="percentile", rng=0).confidence_interval
    assert mean == pytest.approx(x.mean())
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.02)


def test_integer_weights_are_repetitions_in_the_mean():
    x, w = np.array([1.0, 5.0, 2.0]), np.array([2, 1, 3])
    mean, low, high = bootstrap_mean(x, weights=w, resamples=200)
    assert mean == pytest.approx(np.repeat(x, w).mean())
    assert low <= mean <= high


def test_bootstrap_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(2)
    covered = 0
    for trial in range(300):
        _, low, high = bootstrap_mean(rng.random(150) < 0.7, resamples=300, seed=trial)
        covered += low <= 0.7 <= high
    assert 0.90 <= covered / 300 <= 0.98


def test_pairing_removes_what_two_predictors_share():
    rng = np.random.default_rng(3)
    hard = rng.random(500) < 0.5
    a, b = hard | (rng.random(500) < 0.02), hard | (rng.random(500) < 0.06)
    difference, low, high = paired_bootstrap(a, b)
    assert difference == pytest.approx(b.mean() - a.mean())
    assert 0 < high - low < 0.5 * 2 * 1.96 * math.sqrt(2 * 0.25 / 500)


def test_nothing_to_average_is_nan():
    assert np.isnan(bootstrap_mean([])).all()
    assert np.isnan(percentile_interval([np.nan])).all()
    assert np.isnan(wilson(0, 0)).all()


def test_mcnemar_equals_the_sum_over_all_coin_tosses():
    rng = np.random.default_rng(4)
    for _ in range(20):
        a, b = rng.random((2, 14)) < 0.6
        first, n = int((a & ~b).sum()), int((a != b).sum())
        extreme = [abs(sum(toss) - n / 2) >= abs(first - n / 2) - 1e-12 for toss in itertools.product((0, 1), repeat=n)]
        assert mcnemar(a, b) == pytest.approx(np.mean(extreme))
        assert mcnemar(a, b) == mcnemar(b, a)
    assert mcnemar(np.ones(5), np.ones(5)) == 1.0


@given(p_values)
def test_holm_lies_between_p_and_bonferroni_and_keeps_the_order(p):
    adjusted = holm(p)
    assert (adjusted >= np.asarray(p)).all()
    assert (adjusted <= np.minimum(1, len(p) * np.asarray(p)) + 1e-15).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
    assert adjusted[order[0]] == pytest.approx(min(1, len(p) * min(p)))


@given(p_values, st.randoms())
def test_holm_follows_a_permutation_of_its_input(p, random):
    order = list(range(len(p)))
    random.shuffle(order)
    np.testing.assert_array_equal(holm(np.asarray(p)[order]), holm(p)[order])


def test_holm_textbook_values_and_missing_ones():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.01, np.nan, 0.04]), [0.02, np.nan, 0.04])


def test_t_interval_equals_scipy():
    x = [0.51, 0.53, 0.55, 0.5]
    mean, low, high = t_interval(x)
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 3, loc=np.mean(x), scale=stats.sem(x)))
    assert mean == pytest.approx(np.mean(x))
    assert t_interval([*x, np.nan]) == (mean, low, high)


def test_one_seed_has_no_interval():
    mean, low, high = t_interval([0.5])
    assert mean == 0.5
    assert math.isnan(low)
    assert math.isnan(high)


@given(st.integers(1, 400), st.floats(0, 1))
def test_wilson_equals_scipy(n, share):
    k = round(share * n)
    expected = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert wilson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_smallest_detectable_difference_is_found_with_its_power():
    n, discordant = 2000, 0.1
    d = smallest_detectable_difference(n, discordant)
    rng = np.random.default_rng(5)
    shares = [(discordant + d) / 2, (discordant - d) / 2, 1 - discordant]
    second, first, _ = rng.multinomial(n, shares, size=4000).T
    z = (second - first) / np.sqrt(second + first)
    assert (z > 1.96).mean() == pytest.approx(0.8, abs=0.03)


@given(st.integers(20, 10**5), st.floats(0.01, 1))
def test_smallest_detectable_difference_solves_its_equation(n, discordant):
    d = smallest_detectable_difference(n, discordant, power=0.9)
    if not math.isnan(d):
        null, alternative = np.sqrt(discordant / n), np.sqrt(max(discordant - d * d, 0.0) / n)
        assert d == pytest.approx(stats.norm.ppf(0.975) * null + stats.norm.ppf(0.9) * alternative)


@given(st.integers(20, 10**5), st.floats(0.01, 1))
def test_more_samples_detect_smaller_differences(n, discordant):
    d, finer = (smallest_detectable_difference(size, discordant) for size in (n, 4 * n))
    if not math.isnan(d):
        assert 0 < finer < d <= discordant


def test_too_few_samples_detect_nothing():
    assert math.isnan(smallest_detectable_difference(5, 0.1))
    with pytest.raises(ValueError, match="n must be positive"):
        smallest_detectable_difference(0, 0.1)


def test_summarise_seeds_averages_each_group_in_its_order():
    frame = pd.DataFrame(
        {
            "encoder": ["vanilla"] * 3 + ["single"],
            "seed": [0, 1, 2, 0],
            "task": ["left"] * 4,
            "value": [0.5, 0.6, 0.7, 0.4],
        }
    )
    table = summarise_seeds(frame, by=["encoder", "task"])
    assert list(table.columns) == ["encoder", "task", "value", "low", "high", "n_seeds"]
    assert list(table["encoder"]) == ["vanilla", "single"]
    assert table.loc[0, ["value", "low", "high"]].tolist() == pytest.approx(t_interval([0.5, 0.6, 0.7]))
    assert table["n_seeds"].tolist() == [3, 1]
    assert np.isnan(table.loc[1, ["low", "high"]].astype(float)).all()
    with pytest.raises(InputError, match="a seed twice"):
        summarise_seeds(pd.concat([frame, frame]), by=["encoder", "task"])
    with pytest.raises(InputError, match="no column probe"):
        summarise_seeds(frame, by=["probe"])


def predictions(seed, n=60, target=None, **columns):
    rng = np.random.default_rng(seed)
    target = np.arange(n) % 3 if target is None else target
    return pd.DataFrame({"id": [f"i{i:03d}" for i in range(n)], "target": target, "knn": rng.integers(3, size=n)})


def test_paired_difference_does_not_depend_on_the_order_of_rows():
    a, b = predictions(0), predictions(1)
    right = [(table["knn"] == table["target"]).to_numpy() for table in (a, b)]
    found = paired_difference(a, b, probe="knn")
    assert found.difference == pytest.approx(right[1].mean() - right[0].mean())
    assert found.p_mcnemar == mcnemar(*right)
    assert found.discordant == pytest.approx((right[0] != right[1]).mean())
    assert (found.low <= found.difference <= found.high, found.n) == (True, 60)
    assert paired_difference(a.sample(frac=1, random_state=0), b, probe="knn") == found
    swapped = paired_difference(b, a, probe="knn")
    assert (swapped.difference, swapped.low, swapped.high) == pytest.approx(
        (-found.difference, -found.high, -found.low)
    )


def test_paired_difference_of_absolute_errors():
    a, b = predictions(0), predictions(1)
    found = paired_difference(a, b, probe="knn", metric="mae")
    error = [np.abs(table["knn"] - table["target"]).mean() for table in (a, b)]
    assert found.difference == pytest.approx(error[1] - error[0])
    assert math.isnan(found.p_mcnemar)


def test_paired_difference_refuses_what_is_not_paired():
    a = predictions(0)
    with pytest.raises(InputError, match="2 ids are in one table only"):
        paired_difference(a, a.assign(id=["other", *a["id"][1:]]), probe="knn")
    with pytest.raises(InputError, match="different targets"):
        paired_difference(a, a.assign(target=(a["target"] + 1) % 3), probe="knn")
    with pytest.raises(InputError, match="an id twice"):
        paired_difference(a.assign(id="same"), a, probe="knn")
    with pytest.raises(InputError, match="no column tree; it has id, target, knn"):
        paired_difference(a, a, probe="tree")
    with pytest.raises(InputError, match="choose accuracy or mae"):
        paired_difference(a, a, probe="knn", metric="log_loss")
    with pytest.raises(InputError, match="empty"):
        paired_difference(a[:0], a[:0], probe="knn")


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_resamples_depend_on_the_seed_and_size_alone(seed):
    x, y = np.random.default_rng(seed).normal(size=(2, 30, 1))
    together = bootstrap_sums(np.hstack([x, y]), 70, seed=seed)
    np.testing.assert_allclose(together[:, :1], bootstrap_sums(x, 70, seed=seed))
    np.testing.assert_allclose(together[:, 1:], bootstrap_sums(y, 70, seed=seed))
