"""Image files to pixels, whatever the file holds."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from reprkit.data.decode import BrokenImage, check_side, decode_rgb, transform_record
from reprkit.errors import InputError


def encode(image: Image.Image, kind: str = "png", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_pixels_of_the_right_size_are_kept(picture: Callable[..., bytes]) -> None:
    out = decode_rgb(picture(0, 12), 12)
    expected = np.random.RandomState(0).randint(256, size=(12, 12, 3)).transpose(2, 0, 1)
    assert out.dtype == np.uint8
    assert np.array_equal(out, expected)


def test_shrinking_averages_instead_of_picking_pixels() -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 200
    assert np.abs(decode_rgb(encode(Image.fromarray(stripes)), 8)[:, :, 1:-1].astype(int) - 100).max() <= 15


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    grey = Image.fromarray(np.full((10, 10, 3), 255, dtype=np.uint8)).convert(mode)
    out = decode_rgb(encode(grey, "tiff" if mode in ("CMYK", "YCbCr") else "png"), 8)
    assert out.shape == (3, 8, 8)
    assert out.min() > 250


def test_sixteen_bit_grey_keeps_its_range() -> None:
    values = np.array([[0, 16384], [32768, 65535]], dtype=np.uint16).repeat(4, 0).repeat(4, 1)
    out = decode_rgb(encode(Image.fromarray(values)), 8)
    assert [out[0, 0, 0], out[0, 0, 7], out[0, 7, 0], out[0, 7, 7]] == [0, 64, 128, 255]


def test_photos_are_turned_upright() -> None:
    pixels = np.zeros((16, 16, 3), dtype=np.uint8)
    pixels[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # stored upside down
    out = decode_rgb(encode(Image.fromarray(pixels), exif=exif), 16)
    assert out[:, :8].max() == 0
    assert out[:, 8:].min() == 255


def test_large_jpegs_are_decoded_at_a_reduced_scale_without_a_visible_change() -> None:
    blocks = np.random.RandomState(0).randint(256, size=(64, 64, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    blob = encode(Image.fromarray(blocks), "jpeg", quality=95, subsampling=0)
    whole = Image.open(io.BytesIO(blob)).resize((40, 40), Image.Resampling.BILINEAR)
    assert np.abs(decode_rgb(blob, 40).transpose(1, 2, 0).astype(int) - np.asarray(whole)).max() <= 4


@pytest.mark.parametrize(("blob", "says"), [(b"", "not an image"), (b"hello", "not an image")])
def test_what_is_no_image_is_said(blob: bytes, says: str) -> None:
    with pytest.raises(BrokenImage, match=says):
        decode_rgb(blob, 8)


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_truncated_images_are_broken(picture: Callable[..., bytes], kind: str) -> None:
    blob = picture(0, 64, kind=kind)
    with pytest.raises(BrokenImage, match="damaged"):
        decode_rgb(blob[: len(blob) // 2], 8)


def test_decompression_bombs_are_refused(monkeypatch: pytest.MonkeyPatch, picture: Callable[..., bytes]) -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    for limit in (100, 60):  # above the limit, and above twice the limit, where Pillow itself raises
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.warns() if limit == 100 else _nothing(), pytest.raises(BrokenImage, match="bomb"):
            decode_rgb(picture(0, 12), 8)


def test_float_images_are_refused() -> None:
    with pytest.raises(BrokenImage, match="pixel type F"):
        decode_rgb(encode(Image.fromarray(np.zeros((9, 9), dtype=np.float32)), "tiff"), 8)


def test_sides_and_the_record_of_the_transform() -> None:
    for side in (0, 7, 5000, -3):
        with pytest.raises(InputError, match="data.image_size"):
            check_side(side)
    assert transform_record(64, (0.5,), (0.5,)) != transform_record(32, (0.5,), (0.5,))


class _nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...
