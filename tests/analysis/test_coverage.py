"""Do 95% intervals hold the truth 95% of the time? Simulated encoders, whose truth is known, say so.

Every cell is simulated `n_sims` times, so that its coverage has a standard error of 100 sqrt(0.95 * 0.05 / n_sims)
percentage points: 0.34 for 4000. An interval passes between 93% and 97%, which is at least 3.5 standard errors either
side of 95%. Where a method errs on the wide side by design, only the lower bound holds. Run with -s for the table.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from reprkit.analysis import universality
from reprkit.analysis.bootstrap import (
    bootstrap_mean,
    hierarchical_bootstrap,
    paired_bootstrap,
    paired_bootstraps,
    percentile_interval,
)
from reprkit.analysis.groups import number_groups
from reprkit.analysis.probes.metrics import measure
from reprkit.analysis.probes.outcome import Outcome
from reprkit.analysis.shape.order import spearman_interval, triplet_accuracy
from reprkit.analysis.stats import sample_interval, t_interval, wilson
from reprkit.analysis.universal.intervals import Counts, TwoWayBootstrap, interval
from reprkit.recipe import UniversalityConfig
from reprkit.tasks import Task

LOWEST, HIGHEST = 0.93, 0.97

pytestmark = pytest.mark.timeout(3600)


def check(what, bounds, truth, *, highest=HIGHEST):
    """The share of `bounds` [n_sims, 2] that hold the truth is what it should be."""
    low, high = np.asarray(bounds, np.float64).T
    covered = float(((low <= truth) & (truth <= high)).mean())
    print(f"{what:60s} {100 * covered:5.1f}%  ({len(low)} simulations)")
    assert LOWEST <= covered <= highest, what


@pytest.mark.parametrize("n", [5, 10, 30])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_of_normal_resamples_the_interval_is_students(n, level):
    x = np.random.default_rng(n).normal(size=n)
    resampled = x.mean() + x.std() / np.sqrt(n) * stats.norm.ppf((np.arange(10**6) + 0.5) / 10**6)
    assert percentile_interval(resampled, level=level, n=n) == pytest.approx(t_interval(x, level=level)[1:], rel=2e-3)


# Means over samples ---------------------------------------------------------------------------------------------------

LAWS = {
    "normal": (lambda rng, shape: rng.normal(size=shape), 0.0),
    "right half of the time": (lambda rng, shape: rng.random(shape) < 0.5, 0.5),
    "right 9 times in 10": (lambda rng, shape: rng.random(shape) < 0.9, 0.9),
    # One of two encoders is right: 7% of samples the second, 5% the first.
    "difference of two": (lambda rng, shape: rng.choice([-1, 0, 1], p=[0.05, 0.88, 0.07], size=shape), 0.02),
    # Most losses are near 0 and a few are large; log-normal.
    "skewed loss": (lambda rng, shape: rng.lognormal(-1, 1, size=shape), np.exp(-0.5)),
}


SMALLEST = {
    "normal": 10,
    "right half of the time": 20,
    "right 9 times in 10": 50,
    "difference of two": 100,
    "skewed loss": 500,
}
"""Samples from which an interval keeps its word; below, a percentile interval of such values is too narrow."""


@pytest.mark.parametrize("law", LAWS)
def test_bootstrap_of_a_mean(law):
    check_means(law, SMALLEST[law], 2)


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("n", [20, 50, 200, 1000, 3000])
def test_bootstrap_of_a_mean_of_many(law, n):
    if n > SMALLEST[law]:
        check_means(law, n, 4)


def check_means(law, n, thousands):
    draw, truth = LAWS[law]
    rng = np.random.default_rng(n)
    tables = [draw(rng, (n, 1000)).astype(np.float64) for _ in range(thousands)]
    bounds = [ends for seed, x in enumerate(tables) for _, *ends in paired_bootstraps(x, resamples=1000, seed=seed)]
    check(f"bootstrap of a mean, {law}, n = {n}", bounds, truth)
    x = tables[0][:, 0]
    assert bootstrap_mean(x)[1:] == pytest.approx(tuple(bounds[0]))
    assert paired_bootstrap(np.ones(n), x + 1)[1:] == pytest.approx(tuple(bounds[0]))


@pytest.mark.slow
def test_bootstrap_of_a_weighted_mean():
    """Values that depend on their weights: the truth is E[w^2] / E[w]."""
    rng, bounds = np.random.default_rng(0), []
    for seed in range(1500):
        weights = rng.integers(1, 6, size=100)
        values = weights + rng.normal(size=100)
        bounds.append(bootstrap_mean(values, weights=weights, resamples=500, seed=seed)[1:])
    check("bootstrap of a weighted mean, n = 100", bounds, 11 / 3)


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_students_interval_over_seeds(seeds):
    values = np.random.default_rng(seeds).normal(0.7, 0.01, size=(4000, seeds))
    check(f"Student, {seeds} seeds", [t_interval(row)[1:] for row in values], 0.7)


@pytest.mark.parametrize("n", [30, 100, 1000])
def test_wilson(n):
    """Coverage is a sum over all outcomes: exact. It swings with p, so its mean and its worst value are checked."""
    bounds = np.array([wilson(k, n) for k in range(n + 1)])
    shares = np.linspace(0.05, 0.95, 181)
    inside = (bounds[:, 0] <= shares[:, None]) & (shares[:, None] <= bounds[:, 1])
    covered = (stats.binom.pmf(np.arange(n + 1), n, shares[:, None]) * inside).sum(axis=1)
    print(f"Wilson, n = {n}: mean {100 * covered.mean():.1f}%, worst {100 * covered.min():.1f}%, exact")
    assert covered.mean() == pytest.approx(0.95, abs=0.01)
    assert covered.min() > 0.91


# Metrics of probes ----------------------------------------------------------------------------------------------------

PER_CALL = 20


def outcome_of_classes(y, recall, rng):
    """A classifier with a normal margin as its logit, right with probability `recall` [C] for each class."""
    margin = rng.normal(stats.norm.ppf(recall)[y], 1.0)
    log_p = np.full((len(y), len(recall)), -30.0)
    log_p[np.arange(len(y)), y] = -np.logaddexp(0, -margin)
    predicted = np.where(margin > 0, y, (y + 1) % len(recall))
    return Outcome(predicted, {}, 0.0, 1, log_p)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "prior"), [(150, [0.25] * 4), (1000, [0.7, 0.2, 0.07, 0.03])])
def test_metrics_of_classes(n, prior):
    recall, task, rng = np.array([0.9, 0.8, 0.7, 0.5]), Task("t", "classification", 4), np.random.default_rng(n)
    losses = [stats.norm(m).expect(lambda x: np.logaddexp(0, -x)) for m in stats.norm.ppf(recall)]
    truth = {"accuracy": recall @ prior, "balanced_accuracy": recall.mean(), "log_loss": np.dot(losses, prior)}
    bounds = {metric: [] for metric in truth}
    for seed in range(200):
        y = rng.choice(4, p=prior, size=n)
        while len(np.unique(y)) < 4:
            y = rng.choice(4, p=prior, size=n)
        outcomes = {str(i): outcome_of_classes(y, recall, rng) for i in range(PER_CALL)}
        for row in measure(task, y, outcomes, resamples=1000, seed=seed).values():
            for metric in truth:
                bounds[metric].append(row[metric][1:])
    for metric, value in truth.items():
        check(f"{metric}, n = {n}, rarest class {min(prior) * n:.0f}", bounds[metric], value)


@pytest.mark.slow
@pytest.mark.parametrize("n", [150, 1000])
def test_metrics_of_values(n):
    """Targets are drawn anew for each simulation: R2 depends on their spread as well."""
    task, rng, truth = (
        Task("t", "regression", 1),
        np.random.default_rng(n),
        {"r2": 0.64, "mae": 0.6 * np.sqrt(2 / np.pi)},
    )
    bounds = {metric: [] for metric in truth}
    for seed in range(2000):
        y = rng.normal(size=n)
        outcome = Outcome(y + 0.6 * rng.normal(size=n), {}, 0.0, 1)
        row = measure(task, y, {"ridge": outcome}, resamples=1000, seed=seed)["ridge"]
        for metric in truth:
            bounds[metric].append(row[metric][1:])
    for metric, value in truth.items():
        check(f"{metric}, n = {n}", bounds[metric], value)


# Several sources of chance --------------------------------------------------------------------------------------------

SOURCES = {"seeds": (1.0, 1.0, 1.0), "samples": (0.0, 10.0, 1.0), "both": (0.5, 10.0, 1.0)}


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("source", SOURCES)
def test_seeds_and_samples(source, seeds):
    """On the wide side between the extremes by design, hence no upper bound but 1."""
    by_seed, by_sample, rest = SOURCES[source]
    rng, bounds = np.random.default_rng(seeds), []
    for seed in range(1500):
        values = rng.normal(size=(seeds, 200)) * rest + by_sample * rng.normal(size=200)
        values += by_seed * rng.normal(size=(seeds, 1))
        bounds.append(hierarchical_bootstrap(values, resamples=500, seed=seed)[1:])
    check(f"hierarchical bootstrap, {seeds} seeds, spread of {source}", bounds, 0.0, highest=1.0)


# Standard deviations of a dummy's, a sample's and a pair's effect, as functions of M and n.
EFFECTS = {
    "dummies": lambda m, n: (1.0, 0.0, 0.1),
    "samples": lambda m, n: (0.0, 1.0, 0.5),
    "both": lambda m, n: (np.sqrt(m / n), 1.0, 0.5),
}


@pytest.mark.slow
@pytest.mark.parametrize("effects", EFFECTS)
@pytest.mark.parametrize(("m", "n"), [(3, 300), (8, 100), (16, 300), (64, 300)])
def test_two_way_bootstrap(effects, m, n):
    rng, (by_dummy, by_sample, rest) = np.random.default_rng(m * n), EFFECTS[effects](m, n)
    bounds = []
    for seed in range(100):
        weights = TwoWayBootstrap.sample_weights(400, seed)(n)
        for _ in range(20):
            losses = (
                by_dummy * rng.normal(size=(m, 1)) + by_sample * rng.normal(size=n) + rest * rng.normal(size=(m, n))
            )
            boot = TwoWayBootstrap(m, 400, seed, views=["raw"])
            boot.add(weights, np.ones(n, bool), {"raw": losses.astype(np.float32)}, {})
            bounds.append(interval(boot.dummy_losses()[1]["raw"]))
    # Widening for three dummies holds for any share of the variance that they have.
    check(f"two-way, {m} dummies, n = {n}, spread of {effects}", bounds, 0.0, highest=1.0 if m < 8 else HIGHEST)


def gaussian_classes(fake_embeddings, test_rows, seed):
    """Three Gaussian classes in 6 dimensions; train and val are the same for every seed, test is fresh."""
    means = np.random.default_rng(0).normal(size=(3, 6))
    z, y = {}, {}
    for split, n, stream in (("train", 300, 1), ("val", 150, 2), ("test", test_rows, 3 + seed)):
        rng = np.random.default_rng([7, stream])
        y[split] = rng.choice(3, p=[0.5, 0.3, 0.2], size=n)
        z[split] = means[y[split]] + rng.normal(size=(n, 6))
    return fake_embeddings(z, {"kind": y}, [Task("kind", "classification", 3)])


@pytest.mark.slow
def test_universality_end_to_end(fake_embeddings):
    """The gap and U_rel of a fixed encoder, with L* fitted on one train split, over fresh dummies and test samples.

    The truth is that of 20,000 test samples and 3,000 other dummies; what the fit of L* owes to its train sample is
    no part of these intervals, and none of this truth.
    """

    def measured(test_rows, seed, **options):
        file = gaussian_classes(fake_embeddings, test_rows, seed)
        return universality(file, config=UniversalityConfig(seed=seed, **options), progress=False).iloc[0]

    truth = measured(20_000, 10**6, num_dummies=3000, bootstrap=2)
    rows = [measured(250, seed, num_dummies=16, bootstrap=400) for seed in range(1500)]
    for name in ("gap", "U_rel", "U_rel_tau"):
        bounds = [(row[f"{name}_low"], row[f"{name}_high"]) for row in rows]
        check(f"universality: {name}, 16 dummies, n = 250", bounds, truth[name])


# Order ----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("n", [100, 400])
def test_spearman(n):
    """Of two normal variables with correlation 0.8: (6 / pi) asin(0.4)."""
    rng, bounds = np.random.default_rng(n), []
    for seed in range(2000):
        x = rng.normal(size=n)
        bounds.append(spearman_interval(x, 0.8 * x + 0.6 * rng.normal(size=n), resamples=500, seed=seed)[1:])
    check(f"Spearman, n = {n}", bounds, 6 / np.pi * np.arcsin(0.4))


@pytest.mark.slow
@pytest.mark.parametrize(("n", "triplets"), [(100, 1000), (100, 20_000), (400, 3000)])
def test_triplets(n, triplets):
    def sample(rng, size):
        y = rng.integers(5, size=size)
        return y[:, None] * np.array([1.0, 0.5, 0.0]) + 1.5 * rng.normal(size=(size, 3)), y

    rng, bounds = np.random.default_rng(n), []
    truth, low, high = triplet_accuracy(*sample(rng, 200_000), triplets=2_000_000)
    assert high - low < 0.005
    for seed in range(1500):
        bounds.append(triplet_accuracy(*sample(rng, n), triplets=triplets, seed=seed)[1:])
    check(f"triplet accuracy, n = {n}, {triplets} triplets", bounds, truth)


# Pixels of images -----------------------------------------------------------------------------------------------------

IMAGES, PIXELS = 40, 16
SHARED = 0.3
"""Share of the variance that pixels of an image have in common."""


def clustered(rng, images=IMAGES):
    """Standard normal values of pixels, correlated within an image, and their groups; some pixels have no target."""
    common = np.repeat(rng.normal(size=images), PIXELS)
    values = np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * rng.normal(size=images * PIXELS)
    kept = rng.random(len(values)) < np.repeat(rng.uniform(0.3, 1.0, size=images), PIXELS)
    return values[kept], number_groups(np.repeat(np.arange(images), PIXELS)[kept])


def check_clustered(what, by_image, by_pixel, truth, *, most=0.8):
    """Intervals that resample images keep their word; those that resample pixels clearly do not."""
    check(f"{what}, by image", by_image, truth)
    low, high = np.asarray(by_pixel, np.float64).T
    covered = float(((low <= truth) & (truth <= high)).mean())
    print(f"{what + ', by pixel':60s} {100 * covered:5.1f}%  ({len(low)} simulations)")
    assert covered < most, what


def bounds_of_pixels(task, metric, sims, predict):
    """Intervals by image and by pixel of a metric of what `predict` makes of targets and errors."""
    rng, bounds = np.random.default_rng(0), ([], [])
    for seed in range(sims):
        errors, groups = clustered(rng)
        y = rng.integers(2, size=len(errors))
        outcomes = {"a": Outcome(predict(y, errors), {}, 0.0, 1)}
        for kind, codes in enumerate((groups, None)):
            found = measure(task, y, outcomes, resamples=300, seed=seed, groups=codes)
            bounds[kind].append(found["a"][metric][1:])
    return bounds


def test_accuracy_of_pixels():
    """Of a classifier that is wrong on some images more than on others."""
    task, limit = Task("t", "classification", 2), stats.norm.ppf(0.7)
    bounds = bounds_of_pixels(task, "accuracy", 600, lambda y, errors: np.where(errors < limit, y, 1 - y))
    check_clustered(f"accuracy, {IMAGES} images", *bounds, 0.7)


@pytest.mark.slow
def test_errors_of_pixels():
    bounds = bounds_of_pixels(Task("d", "regression", 1), "mae", 2000, lambda y, errors: y + errors)
    check_clustered(f"mae, {IMAGES} images", *bounds, np.sqrt(2 / np.pi), most=0.9)


@pytest.mark.slow
@pytest.mark.parametrize("images", [15, 40, 150])
def test_means_of_pixels(images):
    rng = np.random.default_rng(images)
    found = {name: ([], []) for name in ("bootstrap", "Student")}
    for seed in range(2000):
        values, groups = clustered(rng, images)
        for kind, codes in enumerate((groups, None)):
            found["bootstrap"][kind].append(bootstrap_mean(values, resamples=500, seed=seed, groups=codes)[1:])
            found["Student"][kind].append(sample_interval(values, codes)[1:])
    for name, bounds in found.items():
        check_clustered(f"{name}, {images} images", *bounds, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("images", [8, 40])
def test_order_of_pixels(images):
    """Prediction and target that share an effect of the image besides what is right everywhere."""
    rng, bounds, triplets = np.random.default_rng(0), ([], []), ([], [])

    def sample(images):
        x, groups = clustered(rng, images)
        drift = rng.normal(size=images)[groups]  # of the target, in whole images
        return x, x + drift + rng.normal(size=len(x)), groups

    x, y, _ = sample(100_000)
    truth, share = stats.spearmanr(x, y).statistic, triplet_accuracy(x[:, None], y, triplets=2_000_000)[0]
    for seed in range(1000):
        x, y, groups = sample(images)
        for kind, codes in enumerate((groups, None)):
            bounds[kind].append(spearman_interval(x, y, resamples=500, seed=seed, groups=codes)[1:])
            triplets[kind].append(triplet_accuracy(x[:, None], y, triplets=5000, seed=seed, groups=codes)[1:])
    check_clustered(f"triplet accuracy, {images} images", *triplets, share, most=0.9)
    if images > 8:  # percentiles of few resampled images say little of a rank correlation
        check_clustered(f"Spearman, {images} images", *bounds, truth, most=0.9)


@pytest.mark.slow
@pytest.mark.parametrize("images", [6, IMAGES])
def test_universality_of_pixels(images):
    rng, dummies, bounds = np.random.default_rng(0), 16, ([], [])
    for seed in range(1500):
        values, groups = clustered(rng, images)
        losses = (values + 0.1 * rng.normal(size=(dummies, 1)) + 0.5 * rng.normal(size=(dummies, len(values)))).astype(
            "f4"
        )
        for kind, codes in enumerate((groups, None)):
            counts = Counts(codes, 400, seed)
            boot = TwoWayBootstrap(dummies, 400, seed, views=["raw"], rows_per_unit=counts.rows_per_unit)
            boot.add(counts.stream()(len(values)), np.ones(len(values), bool), {"raw": losses}, {})
            bounds[kind].append(interval(boot.dummy_losses()[1]["raw"]))
    check_clustered(f"two-way, {images} images, {dummies} dummies", *bounds, 0.0)
