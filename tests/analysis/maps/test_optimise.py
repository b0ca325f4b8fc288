"""t-SNE: the same bits for any number of threads, and maps that mean something."""

import sys

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_limits

from reprkit.analysis.maps import optimise, placing
from reprkit.analysis.maps.cloud import Cloud
from reprkit.analysis.maps.linear import principal_map
from reprkit.analysis.maps.optimise import BARNES_HUT_BELOW, embed_in_plane, initial_points
from reprkit.analysis.maps.quality import map_quality
from reprkit.errors import InputError


def test_power_of_two_scale_changes_no_bit(blob_map):
    z, _, made = blob_map
    assert made.points.tobytes() == embed_in_plane(z * 8, perplexity=20, iterations=150).points.tobytes()


def test_map_keeps_clusters_and_beats_a_random_plane(blob_map):
    z, y, made = blob_map
    distance = cdist(made.points, made.points)
    np.fill_diagonal(distance, np.inf)
    assert (y[distance.argmin(axis=1)] == y).mean() > 0.97
    quality = map_quality(z, made)
    assert quality["knn_recall"] > 0.4
    assert quality["spearman"] > 0.3


@pytest.mark.parametrize("shape", [(40, 6), (10, 30), (20, 1)])
def test_start_is_the_principal_plane(shape):
    z = np.random.default_rng(1).normal(size=shape)
    points = initial_points(z)
    assert points.std(axis=0)[0] == pytest.approx(1e-4)
    centred = z - z.mean(axis=0)
    left, values, right = np.linalg.svd(centred, full_matrices=False)
    for axis in range(min(2, shape[1])):
        expected = left[:, axis] * values[axis] * np.sign(right[axis, np.abs(right[axis]).argmax()])
        assert points[:, axis] / points[:, 0].std() == pytest.approx(
            expected / (left[:, 0] * values[0]).std(), abs=1e-8
        )
    assert points[:, 1].std() > 0  # even where z has one dimension only: points on a line would stay there


@pytest.mark.parametrize(
    ("z", "words"),
    [
        (np.full((30, 4), 3.0), "constant"),
        (np.full((30, 4), 3.0) + 1e-7 * np.random.default_rng(0).normal(size=(30, 4)), "constant"),
        (np.ones((3, 4)), "3 samples"),
        (np.ones((0, 4)), "0 samples"),
    ],
)
def test_nothing_to_map_is_said_not_raised(z, words):
    for made in (embed_in_plane(z), principal_map(Cloud.of(z))):
        assert words in made.status
        assert not made.drawn
        assert not made.points.any()
        assert np.isnan(made.kl)
        assert np.isnan(list(map_quality(z, made).values())).all()
        with pytest.raises(InputError, match="no new samples can be placed"):
            made.transform(z)


def test_few_distinct_points_are_said():
    made = embed_in_plane(np.repeat(np.eye(4), 10, axis=0), iterations=20)
    assert "4 distinct embeddings among 40" in made.status
    assert np.isfinite(made.points).all()


def test_perplexity_is_lowered_for_few_samples(blobs):
    z, _ = blobs(n=16)
    made = embed_in_plane(z, perplexity=30, iterations=20)
    assert made.perplexity == 5
    assert np.isfinite(made.points).all()


def test_nan_is_refused(blobs):
    z, _ = blobs(n=20)
    z[3, 1] = np.nan
    with pytest.raises(InputError, match="NaN"):
        embed_in_plane(z)


def test_without_opentsne_scikit_learn_draws(blobs, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "openTSNE", None)
    z, y = blobs(n=60)
    made = embed_in_plane(z, perplexity=10, iterations=60)
    assert "openTSNE is not installed" in caplog.text
    assert made.status.startswith("ok (by scikit-learn")
    assert np.isfinite(made.points).all()
    assert np.isfinite(made.kl)


@pytest.mark.parametrize("n", [150, BARNES_HUT_BELOW + 100])
def test_same_bits_for_any_number_of_threads(blobs, monkeypatch, n):
    """Of the optimiser, of NumPy's products and of ours; for both ways to sum repulsion."""
    monkeypatch.setattr(optimise, "EARLY_ITERATIONS", 15)
    monkeypatch.setattr(placing, "ITERATIONS", 15)  # on busy cores threads wait long for one another
    z, _ = blobs(n)
    new, _ = blobs(n=40, seed=3)

    def everything(threads):
        monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
        with threadpool_limits(threads):
            made = embed_in_plane(z, perplexity=20, iterations=15, n_jobs=threads)
            quality = map_quality(z, made)
            placed = made.transform(new, n_jobs=threads)
        return made.points.tobytes(), made.kl, made.neighbors.tobytes(), quality, placed.tobytes()

    assert everything(1) == everything(2)


def test_one_search_serves_every_perplexity(blobs):
    z, _ = blobs()
    cloud = Cloud.of(z, [5, 30])
    assert cloud.neighbors.shape == (150, 90)
    for perplexity in (5, 30):
        shared = embed_in_plane(cloud, perplexity=perplexity, iterations=20)
        alone = embed_in_plane(z, perplexity=perplexity, iterations=20)
        assert shared.points.tobytes() == alone.points.tobytes()
        assert shared.perplexity == perplexity
