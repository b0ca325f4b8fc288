"""Control embeddings: exactly the pixels, and exactly the encoder before its first step."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from reprkit.data.augment import normalise
from reprkit.embeddings import Embeddings, fingerprint_file, verify
from reprkit.recipe import EmbedConfig, ModelConfig
from reprkit.training.build import build_update
from reprkit.training.controls import embed_controls
from reprkit.training.job import Job
from reprkit.training.ranks import Ranks


@pytest.fixture(scope="module")
def files(small_digits, tmp_path_factory):
    from conftest import TINY

    return embed_controls(small_digits, TINY, tmp_path_factory.mktemp("controls"), seed=4)


def test_pixels_are_the_small_images(files, small_digits):
    verify(files["pixels"])
    with Embeddings(files["pixels"]) as embeddings:
        assert embeddings.label == "pixels"
        for split in ("train", "val", "test"):
            rows = small_digits.rows(split)
            assert list(embeddings.ids(split)) == list(small_digits.ids[rows])
            images = normalise(torch.from_numpy(small_digits.images[rows]), small_digits.mean, small_digits.std)
            height, width = images.shape[2:]
            assert max(height, width) <= 32
            np.testing.assert_allclose(embeddings.z(split), images.flatten(1).numpy(), rtol=1e-6)
            assert (embeddings.targets(split, "sum") == small_digits.targets["sum"][rows]).all()
        assert embeddings.fingerprints["dataset"] == small_digits.fingerprint
        assert "checkpoint" not in embeddings.fingerprints


def test_large_images_are_averaged(small_digits, tmp_path, tiny):
    rows = np.concatenate([small_digits.rows(split)[:20] for split in ("train", "val", "test")])
    noise = np.random.default_rng(0).integers(256, size=(60, 1, 64, 96), dtype=np.uint8)
    big = replace(
        small_digits, images=noise, ids=small_digits.ids[rows], split=small_digits.split[rows],
        targets={name: values[rows] for name, values in small_digits.targets.items()},
    )  # fmt: skip
    found = embed_controls(big, tiny, tmp_path, config=EmbedConfig(batch_size=7))
    images = normalise(torch.from_numpy(noise[big.rows("test")]), big.mean, big.std).numpy()
    with Embeddings(found["pixels"]) as embeddings:
        means = images.reshape(20, 1, 32, 2, 32, 3).mean(axis=(3, 5))
        np.testing.assert_allclose(embeddings.z("test"), means.reshape(20, -1), rtol=1e-4, atol=1e-5)


def test_random_encoder_is_the_one_that_training_starts_from(files, small_digits, tiny):
    verify(files["random_init"])
    torch.manual_seed(4)
    model = build_update(Job(tiny, "vanilla", 4), small_digits, Ranks(), torch.device("cpu")).objective.model.eval()
    rows = small_digits.rows("test")
    images = normalise(torch.from_numpy(small_digits.images[rows]), small_digits.mean, small_digits.std)
    with torch.no_grad():
        expected = model.encode(images).numpy()
    with Embeddings(files["random_init"]) as embeddings:
        assert (embeddings.label, embeddings.seed) == ("random_init", 4)
        np.testing.assert_allclose(embeddings.z("test"), expected, rtol=1e-4, atol=1e-5)
        assert embeddings.logits("test", "sum") is None
        assert embeddings.meta["provenance"]["layer"] == "untrained encoder output"


def test_same_input_same_bytes_and_no_trace_in_the_random_state(files, small_digits, tiny, tmp_path):
    state = torch.get_rng_state()
    again = embed_controls(small_digits, tiny, tmp_path, seed=4)
    assert torch.equal(state, torch.get_rng_state())
    for name, path in files.items():
        assert fingerprint_file(again[name]) == fingerprint_file(path)
    other = embed_controls(small_digits, replace(tiny, model=ModelConfig(head_hidden=0)), tmp_path / "linear", seed=5)
    assert fingerprint_file(other["random_init"]) != fingerprint_file(files["random_init"])
