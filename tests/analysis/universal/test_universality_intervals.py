"""Resampling against explicit weighted means, and the threads and samples that feed it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from scipy.stats import norm, t
from threadpoolctl import threadpool_info

from reprkit.analysis import linalg
from reprkit.analysis.rows import stratified_rows
from reprkit.analysis.universal.intervals import Counts, Lead, TwoWayBootstrap, interval

M, N, B = 5, 200, 300


def filled(losses: np.ndarray, star: np.ndarray, valid: np.ndarray, rows: int, seed: int = 0) -> TwoWayBootstrap:
    boot, draw = TwoWayBootstrap(M, B, seed, views=["raw"]), TwoWayBootstrap.sample_weights(B, seed)
    for start in range(0, N, rows):
        part = slice(start, min(start + rows, N))
        boot.add(draw(part.stop - start), valid[part], {"raw": losses[:, part]}, {"star": star[part]})
    return boot


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    valid = rng.random(N) < 0.9
    difficulty, skill = rng.normal(size=N), rng.normal(size=(M, 1))
    losses = (2 + difficulty + skill + 0.3 * rng.normal(size=(M, N))) * valid
    return losses, (1 + 0.8 * difficulty) * valid, valid


def test_resamples_are_weighted_means_of_valid_samples(data) -> None:
    losses, star, valid = data
    boot = filled(losses, star, valid, N)
    weights = TwoWayBootstrap.sample_weights(B, 0)(N)[valid]
    means, resampled = boot.dummy_losses()
    expected = np.einsum("bm,mn,nb->b", boot.shares, losses[:, valid], weights) / weights.sum(axis=0)
    np.testing.assert_allclose(means["raw"], losses[:, valid].mean(axis=1))
    # Deviations over samples are those of Student's interval.
    n = int(valid.sum())
    factor = t.ppf(0.975, n - 1) / norm.ppf(0.975) * np.sqrt(n / (n - 1))
    centre = boot.shares @ means["raw"]
    np.testing.assert_allclose(resampled["raw"], centre + factor * (expected - centre), rtol=1e-6)
    value, single = boot.single_loss("star")
    assert value == pytest.approx(star[valid].mean())
    drawn = star[valid] @ weights / weights.sum(axis=0)
    np.testing.assert_allclose(single, value + factor * (drawn - value), rtol=1e-6)
    np.testing.assert_allclose(boot.shares.sum(axis=1), 1)
    assert weights.mean() == pytest.approx(1, abs=0.02)
    assert weights.var() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_blocks_do_not_matter(data, rows: int) -> None:
    whole, parts = filled(*data, N), filled(*data, rows)
    np.testing.assert_allclose(parts.dummy_losses()[1]["raw"], whole.dummy_losses()[1]["raw"], rtol=1e-6)
    np.testing.assert_allclose(parts.single_loss("star")[1], whole.single_loss("star")[1], rtol=1e-6)


def test_groups_come_and_go_together(data) -> None:
    losses, star, valid = data
    single = TwoWayBootstrap.sample_weights(B, 0)(N)
    numbered = TwoWayBootstrap.group_weights(np.arange(N), B, 0)
    np.testing.assert_array_equal(np.concatenate([numbered(70), numbered(N - 70)]), single)
    groups = np.repeat(np.arange(N // 4), 4)
    groups[7] = -1
    drawn = TwoWayBootstrap.group_weights(groups, B, 0)
    weights = np.concatenate([drawn(30), drawn(N - 30)])
    np.testing.assert_array_equal(weights[8:].reshape(-1, 4, B).std(axis=1), 0)
    np.testing.assert_array_equal(weights[::4], single[: N // 4])
    assert not weights[7].any()


def test_few_groups_widen_the_interval_as_student_does() -> None:
    rng, rows, groups = np.random.default_rng(0), 60, 6
    losses = np.repeat(rng.normal(size=groups), rows // groups)
    codes = np.repeat(np.arange(groups), rows // groups)
    counts = Counts(codes, 20_000, 0)
    boot = TwoWayBootstrap(2, counts.resamples, 0, views=[], rows_per_unit=counts.rows_per_unit)
    boot.add(counts.stream()(rows), np.ones(rows, bool), {}, {"star": losses})
    low, high = interval(boot.single_loss("star")[1])
    values = losses[:: rows // groups]
    half = t.ppf(0.975, groups - 1) * values.std(ddof=1) / np.sqrt(groups)
    assert (high - low) / (2 * half) == pytest.approx(1, abs=0.2)
    assert Counts(None, 10, 0).rows_per_unit == 1
    assert Counts(np.array([0, 0, 1, -1, 1, 1]), 10, 0).rows_per_unit == 2.5


def test_differences_are_paired_on_samples(data) -> None:
    # Samples hard for one predictor are hard for the other: their difference varies less than either.
    boot = filled(*data, N)
    dummy, star = boot.dummy_losses()[1]["raw"], boot.single_loss("star")[1]
    assert np.corrcoef(dummy, star)[0, 1] > 0
    independent = filled(*data, N, seed=1).single_loss("star")[1]
    assert (dummy - star).std() < (dummy - independent).std()


def test_both_ways_are_resampled() -> None:
    rng = np.random.default_rng(0)
    everyone = np.ones(N, dtype=bool)
    by_sample = np.tile(rng.normal(size=N), (M, 1))
    by_predictor = np.tile(rng.normal(size=(M, 1)), (1, N))
    few = t.ppf(0.975, M - 1) / 1.96  # Student's factor
    for losses, deviation in (
        (by_sample, by_sample[0].std() / np.sqrt(N)),
        (by_predictor, few * by_predictor[:, 0].std(ddof=1) / M**0.5),
    ):
        resampled = filled(losses, losses[0], everyone, N).dummy_losses()[1]["raw"]
        assert resampled.std() == pytest.approx(deviation, rel=0.15)


def test_interval_is_the_central_mass() -> None:
    assert interval(np.arange(1001.0)) == (pytest.approx(25), pytest.approx(975))
    assert interval(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0)


def test_lead_in_standard_errors() -> None:
    rng = np.random.default_rng(0)
    lead = rng.normal(size=(3, 400)) + np.array([[-1], [0.5], [0.1]])
    found = Lead(400)
    found.add("raw", lead[:, :150])
    found.add("tau", lead[:1])
    found.add("raw", lead[:, 150:])
    expected = lead.mean(axis=1) / (lead.std(axis=1) / np.sqrt(400))
    assert found.largest_z() == pytest.approx(expected.max(), rel=1e-9)


def test_stratified_rows_keep_the_shares() -> None:
    y = np.repeat([0, 1, 2, -1], [700, 200, 100, 50])
    y = np.random.default_rng(0).permutation(y)
    rows = stratified_rows(y, 100)
    assert len(set(rows)) == 100
    np.testing.assert_allclose(np.bincount(y[rows]), [70, 20, 10], atol=1)
    np.testing.assert_array_equal(rows, stratified_rows(y, 100))
    np.testing.assert_array_equal(stratified_rows(y, 5000), np.flatnonzero(y >= 0))


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_ordered_map_keeps_order_and_streams(workers: int) -> None:
    taken, done = [], []

    def items() -> Iterator[int]:
        for i in range(20):
            taken.append(i)
            yield i

    for value in linalg.ordered_map(lambda i: i * i, items(), workers=workers):
        done.append(value)
        assert len(taken) - len(done) <= 2 * workers, "items are not drawn ahead without bound"
    assert done == [i * i for i in range(20)]


def test_ordered_map_holds_blas_to_one_thread_and_lets_it_go() -> None:
    def threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    before = threads()
    assert list(linalg.ordered_map(lambda _: threads(), range(3), workers=2)) == [{1}] * 3
    assert threads() == before


def test_ordered_map_raises_what_a_worker_raises() -> None:
    def fail(i: int) -> int:
        if i == 3:
            raise ZeroDivisionError(threading.current_thread().name)
        return i

    with pytest.raises(ZeroDivisionError):
        list(linalg.ordered_map(fail, range(9), workers=2))


def test_number_of_workers_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert linalg.num_workers() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert linalg.num_workers() >= 1


def test_one_hot_skips_missing_targets() -> None:
    np.testing.assert_array_equal(linalg.one_hot(np.array([1, -1, 0]), 2), [[0, 0, 1], [1, 0, 0]])
