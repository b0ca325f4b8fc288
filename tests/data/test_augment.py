"""Random transforms: per image, repeatable, and without a trace in torch's own random state."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reprkit.data import make_augment, normalise
from reprkit.errors import InputError


@pytest.fixture
def images() -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(0).randint(256, size=(40, 3, 16, 16)).astype(np.uint8))


def test_none_is_the_identity(images: torch.Tensor) -> None:
    assert make_augment("none")(images, 3) is images


def test_flip_mirrors_about_half_of_the_images_one_by_one(images: torch.Tensor) -> None:
    out = make_augment("flip")(images, (7, 0, 1))
    same = (out == images).flatten(1).all(1)
    mirrored = (out == images.flip(-1)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert 10 < int(mirrored.sum()) < 30


def test_crop_flip_shows_a_window_of_the_reflected_image(images: torch.Tensor) -> None:
    out = make_augment("crop_flip")(images, 5)
    assert out.shape == images.shape
    assert out.dtype == torch.uint8
    padded = torch.nn.functional.pad(images.float(), [2] * 4, mode="reflect").to(torch.uint8)
    places = set()
    for picture, wide in zip(out, padded, strict=True):
        hits = [
            (y, x, flip)
            for y in range(5)
            for x in range(5)
            for flip in (False, True)
            if torch.equal(picture.flip(-1) if flip else picture, wide[:, y : y + 16, x : x + 16])
        ]
        assert len(hits) == 1
        places.update(hits)
    assert len(places) > 15


@pytest.mark.parametrize("name", ["flip", "crop_flip"])
def test_the_seed_alone_decides(images: torch.Tensor, name: str) -> None:
    augment = make_augment(name)
    torch.manual_seed(0)
    first = augment(images, (1, 2, 3))
    torch.manual_seed(99)
    assert torch.equal(augment(images, (1, 2, 3)), first)
    assert not torch.equal(augment(images, (1, 2, 4)), first)
    assert not torch.equal(augment(images, (2, 2, 3)), first)


@pytest.mark.parametrize("name", ["none", "flip", "crop_flip"])
def test_torchs_random_state_is_untouched(images: torch.Tensor, name: str) -> None:
    before = torch.get_rng_state()
    make_augment(name)(images, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_unknown_name() -> None:
    with pytest.raises(InputError, match="none, flip, crop_flip"):
        make_augment("mixup")


def test_normalise_by_hand(images: torch.Tensor) -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    out = normalise(images, mean, std)
    expected = (images.numpy() / 255.0 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    assert out.dtype == torch.float32
    assert np.allclose(out.numpy(), expected, atol=1e-5)
    assert normalise(images, mean, std, torch.bfloat16).dtype == torch.bfloat16
    with pytest.raises(ValueError):
        normalise(images, mean, std[:2])
