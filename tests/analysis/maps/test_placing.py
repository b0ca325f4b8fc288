"""New samples on a t-SNE map: where they land means what the map means."""

import pickle
import sys

import numpy as np
import pytest

from reprkit.analysis.maps.optimise import embed_in_plane
from reprkit.analysis.maps.quality import label_hit, placed_hit
from reprkit.errors import InputError
from reprkit.tasks import Task


@pytest.fixture(scope="module")
def halves(blobs):
    z, y = blobs(n=600, classes=6, spread=2.0)
    return z, y, embed_in_plane(z[:400], perplexity=20, iterations=250)


def test_mapped_samples_land_where_they_are(halves):
    z, _, made = halves
    moved = np.linalg.norm(made.transform(z[:400]) - made.points, axis=1)
    width = np.ptp(made.points, axis=0).max()
    assert np.median(moved) < 0.02 * width
    assert np.quantile(moved, 0.9) < 0.1 * width


def test_held_out_samples_hit_like_mapped_ones(halves):
    z, y, made = halves
    task = Task("t", "classification", 6)
    hit, chance = label_hit(made.points, y[:400], task)
    found, _ = placed_hit(made.points, y[:400], made.transform(z[400:]), y[400:], task)
    assert hit > chance + 0.3
    assert found == pytest.approx(hit, abs=0.06)


def test_a_sample_lands_where_it_does_whoever_comes_along(halves):
    z, _, made = halves
    together = made.transform(z[400:])
    np.testing.assert_array_equal(made.transform(z[[450]]), together[[50]])
    np.testing.assert_array_equal(made.transform(z[:399:-1]), together[::-1])
    assert made.transform(z[:0]).shape == (0, 2)


def test_optimising_lowers_what_it_should(halves, monkeypatch):
    """Divergence of each new sample from the map, summed over pairs, against that of where it starts."""
    from openTSNE.affinity import joint_probabilities_nn

    from reprkit.analysis.maps import placing
    from reprkit.analysis.neighbors import exact_neighbors

    z, _, made = halves
    cloud = made.placement.args[0]
    neighbors, distances = exact_neighbors(cloud.rows, 15, cloud.standardise(z[400:]), metric="euclidean")
    p = joint_probabilities_nn(
        neighbors, distances, [5], symmetrize=False, normalization="point-wise", n_reference_samples=400
    ).toarray()
    assert p.sum(axis=1) == pytest.approx(1)

    def divergence(points):
        kernel = 1 / (1 + ((points[:, None] - made.points) ** 2).sum(axis=2))
        return -(p * np.log(kernel / kernel.sum(axis=1, keepdims=True))).sum(axis=1)

    done = divergence(made.transform(z[400:]))
    monkeypatch.setattr(placing, "ITERATIONS", 0)
    start = divergence(made.transform(z[400:]))
    assert done.mean() < start.mean() - 0.1
    assert (done < start + 0.05).mean() > 0.95


def test_a_map_can_be_kept(halves):
    z, _, made = halves
    kept = pickle.loads(pickle.dumps(made))  # noqa: S301  our own bytes
    assert kept.transform(z[400:410]).tobytes() == made.transform(z[400:410]).tobytes()


def test_what_cannot_be_placed_is_refused(halves, monkeypatch):
    z, _, made = halves
    with pytest.raises(InputError, match="7 dimensions, the map's 12"):
        made.transform(z[:, :7])
    with pytest.raises(InputError, match="NaN"):
        made.transform(np.full((1, 12), np.nan))
    monkeypatch.setitem(sys.modules, "openTSNE.affinity", None)
    with pytest.raises(InputError, match="pip install openTSNE"):
        made.transform(z[:3])
