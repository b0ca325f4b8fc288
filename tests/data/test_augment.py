"""Random transforms: per image, repeatable, joint with the labels, and without a trace in torch's own random state."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from reprkit.data import make_augment, normalise
from reprkit.data.augment import AUGMENTS, SCALES
from reprkit.errors import InputError
from reprkit.tasks import Task

TASKS = (
    Task("label", "classification", 3),
    Task("segmentation", "segmentation", 7),
    Task("depth", "depth", 1),
    Task("disparity", "disparity", 1),
    Task("normals", "normals", 3),
    Task("edges", "edges", 1),
)


@pytest.fixture
def images() -> Tensor:
    return torch.from_numpy(np.random.RandomState(0).randint(256, size=(40, 3, 16, 16)).astype(np.uint8))


def scene(count: int = 6, height: int = 40, width: int = 56) -> tuple[Tensor, dict[str, Tensor]]:
    """Images that show where each pixel was (red: column, green: row), and labels that tell the same."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    images = torch.stack([columns * 4, rows * 4, torch.full_like(rows, 200)]).to(torch.uint8)
    targets = {
        "label": torch.arange(count) % 3,
        "segmentation": (rows * width + columns).to(torch.int16),
        "depth": 1.0 + rows / 10 + columns / 100,
        "disparity": 0.5 * columns + 3.0,
        "normals": torch.stack([columns / width, rows / height, (columns + rows) / 200.0]),
        "edges": ((rows + columns) % 2).to(torch.int8),
    }
    dense = {k: v if k == "label" else v[None].repeat(count, *[1] * v.ndim) for k, v in targets.items()}
    return images[None].repeat(count, 1, 1, 1), dense


def test_none_is_the_identity(images: Tensor) -> None:
    assert make_augment("none")(images, {}, 3)[0] is images


def test_flip_mirrors_about_half_of_the_images_one_by_one(images: Tensor) -> None:
    out, _ = make_augment("flip")(images, {}, (7, 0, 1))
    same = (out == images).flatten(1).all(1)
    mirrored = (out == images.flip(-1)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert 10 < int(mirrored.sum()) < 30


def test_crop_flip_shows_a_window_of_the_reflected_image(images: Tensor) -> None:
    out, _ = make_augment("crop_flip")(images, {}, 5)
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
@pytest.mark.parametrize("seed", [0, (1, 2, 3)])
def test_the_stream_is_torchvisions(images: Tensor, name: str, seed: int | tuple[int, ...]) -> None:
    """A run that was started before labels were transformed too goes on as it would have."""
    wide, steps = images, [v2.RandomHorizontalFlip()]
    if name == "crop_flip":
        wide, steps = v2.functional.pad(images, [2] * 4, padding_mode="reflect"), [v2.RandomCrop((16, 16)), *steps]
    word = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> np.uint64(1))
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(word)
        expected = torch.stack([v2.Compose(steps)(image) for image in wide])
    assert torch.equal(make_augment(name)(images, {}, seed)[0], expected)


@pytest.mark.parametrize("name", AUGMENTS)
@pytest.mark.parametrize("crop", [(), (24, 32)])
def test_the_seed_alone_decides(name: str, crop: tuple[int, ...]) -> None:
    images, targets = scene()
    augment = make_augment(name, TASKS, crop)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, labels = augment(images, targets, (1, 2, 3))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    again, repeated = augment(images, targets, (1, 2, 3))
    assert torch.equal(again, first)
    assert all(torch.equal(repeated[k].nan_to_num(-9), labels[k].nan_to_num(-9)) for k in labels)
    if name != "none" or crop:
        assert not torch.equal(augment(images, targets, (1, 2, 4))[0], first)
        assert not torch.equal(augment(images, targets, (2, 2, 3))[0], first)


@pytest.mark.parametrize("name", AUGMENTS)
@pytest.mark.parametrize("crop", [(), (24, 32)])
def test_shapes_dtypes_and_what_is_left_alone(name: str, crop: tuple[int, ...]) -> None:
    images, targets = scene()
    kept = {k: v.clone() for k, v in targets.items()}
    out, labels = make_augment(name, TASKS, crop)(images, targets, 1)
    size = crop or (40, 56)
    assert out.shape == (6, 3, *size)
    assert list(labels) == list(targets)
    assert labels["label"] is targets["label"]
    for key, values in labels.items():
        assert values.dtype == targets[key].dtype
        assert torch.equal(targets[key], kept[key])
        if key != "label":
            assert values.shape == (*targets[key].shape[:-2], *size)


@pytest.mark.parametrize("name", AUGMENTS)
@pytest.mark.parametrize("crop", [None, (24, 32)])
def test_labels_stay_with_their_pixels(name: str, crop: tuple[int, int] | None) -> None:
    """The image's colours say where a pixel was; each label must come from there (to half a pixel, and a rounding)."""
    images, targets = scene(count=24)
    out, labels = make_augment(name, TASKS, crop)(images, targets, 4)
    known = labels["segmentation"] >= 0
    assert known.float().mean() > (0.8 if name == "crop_flip" else 0.75)
    if name in ("none", "flip", "scale_crop_flip"):
        assert known.all()
    at = labels["segmentation"].long()
    row, column = at // 56, at % 56
    reach = 0 if name in ("none", "flip", "crop_flip") else 2 + 1
    assert ((out[:, 0].long() - 4 * column).abs()[known] <= reach).all()
    assert ((out[:, 1].long() - 4 * row).abs()[known] <= reach).all()
    assert torch.equal(labels["edges"][known].long(), ((row + column) % 2)[known])
    for key in ("depth", "disparity", "normals"):
        there = labels[key].isfinite() if key != "normals" else labels[key].isfinite().all(1)
        assert torch.equal(there, known)
        assert torch.equal(labels[key].isnan().any(1) if key == "normals" else labels[key].isnan(), ~known)
    assert (labels["edges"][~known] == -1).all()
    scale = ((1.0 + row / 10 + column / 100) / labels["depth"])[known]
    assert torch.allclose((labels["disparity"] / (0.5 * column + 3))[known], scale, rtol=1e-5)
    if name == "scale_crop_flip":
        assert {round(float(s), 3) for s in scale} == set(SCALES)
    elif name == "scale_rotate_flip":
        per_image = [(1.0 + row / 10 + column / 100)[i][known[i]] / labels["depth"][i][known[i]] for i in range(24)]
        factors = [float(values.mean()) for values in per_image]
        assert all(values.std() < 1e-5 for values in per_image)
        assert 0.75 <= min(factors) < 0.85
        assert 1.15 < max(factors) <= 1.25
    else:
        assert torch.allclose(scale, torch.ones(()))


@pytest.mark.parametrize("name", ["flip", "scale_crop_flip", "scale_rotate_flip"])
def test_depth_and_normals_of_a_plane_agree_afterwards(name: str) -> None:
    """Points of tilted planes, projected back with the lens that the view stands for, still have the plane's normal."""
    height, width, focal, count = 60, 80, 70.0, 16
    tilt = torch.nn.functional.normalize(torch.randn(count, 3, generator=torch.Generator().manual_seed(0)) / 3, dim=1)
    normal = torch.nn.functional.normalize(tilt - torch.tensor([0.0, 0.0, 1.5]), dim=1)  # faces the camera
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    rays = torch.stack([(columns - width / 2) / focal, (rows - height / 2) / focal, torch.ones_like(rows)])
    depth = -3.0 / torch.einsum("nc,chw->nhw", normal, rays)
    assert (depth > 0).all()
    targets = {
        "depth": depth,
        "normals": normal[:, :, None, None].expand(-1, -1, height, width).clone(),
    }
    images = torch.zeros(count, 3, height, width, dtype=torch.uint8)
    _, seen = make_augment(name, TASKS)(images, targets, 3)
    turned = 0
    for i in range(count):
        valid = seen["depth"][i].isfinite()
        ys, xs = valid.nonzero(as_tuple=True)
        z = seen["depth"][i][valid].double()
        vectors = seen["normals"][i][:, valid]
        assert torch.allclose(vectors.norm(dim=0), torch.ones(()), atol=1e-5)
        assert torch.allclose(vectors, vectors[:, :1].expand_as(vectors), atol=1e-6)
        # The depth of a plane is 1 over a linear function of the pixel: fit it, and read the normal off.
        design = torch.stack([xs + 0.5, ys + 0.5, torch.ones(len(xs))], 1).double()
        solution = torch.linalg.lstsq(design, 1 / z[:, None]).solution
        fits = (design @ solution)[:, 0]
        assert (fits * z - 1).abs().max() < 0.02  # nearest pixels are up to half a pixel away
        # n . X = -d, so 1/z = -(n . ray) / d, whose gradient is -(n_x, n_y) / (d f).
        expected = vectors[:2, 0].double()
        direction = -solution[:2, 0] / solution[:2, 0].norm()
        assert torch.dot(direction, expected / expected.norm()) > math.cos(math.radians(4))
        turned += int(abs(float(vectors[0, 0] - normal[i, 0])) > 1e-6)
    assert turned > 3


def test_scaling_keeps_the_normal_under_a_longer_lens() -> None:
    """1/z of a plane grows s^2 times slower a pixel: s from the pixels, s from the depth; the lens s f gives n back."""
    height, width, focal = 60, 80, 70.0
    normal = torch.nn.functional.normalize(torch.tensor([0.3, -0.4, -1.0]), dim=0)
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    rays = torch.stack([(columns - width / 2) / focal, (rows - height / 2) / focal, torch.ones_like(rows)])
    depth = -2.0 / torch.einsum("c,chw->hw", normal, rays)
    count = 12
    targets = {"depth": depth.repeat(count, 1, 1), "segmentation": torch.arange(height * width).reshape(height, width)}
    targets["segmentation"] = targets["segmentation"].repeat(count, 1, 1)
    images = torch.zeros(count, 3, height, width, dtype=torch.uint8)
    _, seen = make_augment("scale_crop_flip", TASKS)(images, targets, 0)
    scales = set()
    for i in range(count):
        at = seen["segmentation"][i]
        scale = round(float((depth.flatten()[at.flatten()] / seen["depth"][i].flatten()).mean()), 3)
        ys, xs = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        design = torch.stack([xs.flatten(), ys.flatten(), torch.ones(height * width)], 1).double()
        a, b, _ = torch.linalg.lstsq(design, 1 / seen["depth"][i].flatten().double()[:, None]).solution[:, 0].tolist()
        mirrored = bool(at[0, 0] % width > at[0, -1] % width)
        # n / d of the scene that is s times smaller, seen through the lens s f.
        found = -torch.tensor([-a if mirrored else a, b]) * (scale * focal) * (2.0 / scale)
        assert torch.allclose(found, normal[:2], atol=0.01)
        scales.add(scale)
    assert scales == set(SCALES)


def test_turning_is_counter_clockwise_and_takes_normals_along() -> None:
    """A vector drawn into the image, from the middle to a dot, points the way its normal does afterwards."""
    height = width = 101
    images = torch.zeros(24, 1, height, width, dtype=torch.uint8)
    label = torch.zeros(24, height, width, dtype=torch.int16)
    label[:, 45:56, 80:91] = 1  # right of the middle
    vector = torch.tensor([1.0, 0.0, 0.0])[None, :, None, None].expand(24, 3, height, width).clone()
    _, seen = make_augment("scale_rotate_flip", TASKS)(images, {"segmentation": label, "normals": vector}, 2)
    angles = []
    for i in range(24):
        ys, xs = (seen["segmentation"][i] == 1).nonzero(as_tuple=True)
        across, down = float(xs.float().mean() - 50), float(ys.float().mean() - 50)
        x, y = seen["normals"][i, :2, 50, 50].tolist()
        assert math.hypot(x, y) == pytest.approx(1, abs=1e-5)
        assert across * x + down * y == pytest.approx(math.hypot(across, down), rel=1e-3)
        angles.append(math.degrees(math.atan2(y, abs(x))))
    assert max(angles) > 10
    assert min(angles) < -10
    assert max(map(abs, angles)) <= 20.01


def test_the_windows_are_spread_over_the_image() -> None:
    images, targets = scene(count=200)
    _, labels = make_augment("none", TASKS, (24, 32))(images, targets, 0)
    corner = labels["segmentation"][:, 0, 0].long()
    assert {int(c) // 56 for c in corner} == set(range(17))
    assert {int(c) % 56 for c in corner} == set(range(25))


def test_wrong_use(images: Tensor) -> None:
    with pytest.raises(InputError, match="none, flip, crop_flip, scale_crop_flip, scale_rotate_flip"):
        make_augment("mixup")
    with pytest.raises(InputError, match=r"data\.crop: 8 x 17 is more than the images' 16 x 16"):
        make_augment("flip", crop=(8, 17))(images, {}, 0)


def test_normalise_by_hand(images: Tensor) -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    out = normalise(images, mean, std)
    expected = (images.numpy() / 255.0 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    assert out.dtype == torch.float32
    assert np.allclose(out.numpy(), expected, atol=1e-5)
    assert normalise(images, mean, std, torch.bfloat16).dtype == torch.bfloat16
    with pytest.raises(ValueError):
        normalise(images, mean, std[:2])
