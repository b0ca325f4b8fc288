"""Clusters, and a map of them."""

import numpy as np
import pytest

from reprkit.analysis.maps.optimise import embed_in_plane


def make_blobs(n=150, classes=5, dim=12, seed=0, spread=0.6):
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=n)
    return (4 * rng.normal(size=(classes, dim))[y] + spread * rng.normal(size=(n, dim))).astype(np.float32), y


@pytest.fixture(scope="session")
def blobs():
    """Factory: blobs(n=, classes=, dim=, seed=, spread=) -> z, classes."""
    return make_blobs


@pytest.fixture(scope="session")
def blob_map():
    z, y = make_blobs()
    return z, y, embed_in_plane(z, perplexity=20, iterations=150)
