"""Rendered scenes against closed forms, numerical geometry, and themselves."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from reprkit.data import load_dataset, raycast
from reprkit.data.augment import make_augment
from reprkit.data.raycast import BOX, CYLINDER, FAR, SPHERE, Camera, Solids, first_hits, in_shadow, room_exit, surface
from reprkit.data.rooms import FIRST, TASKS, camera, load_rooms, render
from reprkit.data.scenes import CLASSES, make_scene
from reprkit.data.textures import CHECKER, NOISE, PLAIN, STRIPES, WOOD, pattern
from reprkit.errors import InputError
from reprkit.recipe import DataConfig

SIZE = (48, 64)


def solid(shape, centre, half, yaw=0.0):
    one = np.ones(1, np.float32)
    return Solids(
        np.array([shape]), np.array([centre], np.float32), np.array([half], np.float32), yaw * one, np.zeros(1, int),
        np.ones((1, 3), np.float32), np.zeros(1, int), one, 0 * one,
    )  # fmt: skip


def ways(count=400, seed=0):
    w = np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)
    return w / np.linalg.norm(w, axis=1, keepdims=True)


def marched(inside, origin, direction, most=8.0, steps=80001):
    """Distance at which a ray first enters a solid, by small steps."""
    t = np.linspace(0, most, steps)
    hit = inside(origin + t[:, None] * direction)
    return t[hit.argmax()] if hit.any() else np.inf


@pytest.mark.parametrize(
    ("shape", "half", "inside"),
    [
        (BOX, (0.5, 0.3, 0.8), lambda p: (np.abs(p) <= [0.5, 0.3, 0.8]).all(1)),
        (CYLINDER, (0.5, 0.9, 0.5), lambda p: (np.hypot(p[:, 0], p[:, 2]) <= 0.5) & (np.abs(p[:, 1]) <= 0.9)),
        (SPHERE, (0.7, 0.7, 0.7), lambda p: np.linalg.norm(p, axis=1) <= 0.7),
    ],
)
def test_solids_are_met_where_small_steps_meet_them(shape, half, inside):
    centre, origin, yaw = np.array([0.3, -0.2, 2.0]), np.array([0.1, 0.4, -0.5], np.float32), 0.4
    things = solid(shape, centre, half, yaw)
    aimed = (centre + np.random.default_rng(1).normal(0, 0.5, (60, 3)) - origin).astype(np.float32)
    aimed /= np.linalg.norm(aimed, axis=1, keepdims=True)
    found = first_hits(things, origin, aimed.T).distance
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
    expected = [marched(lambda p: inside((p - centre) @ turn.T), origin, w) for w in aimed]
    assert 10 < np.isfinite(expected).sum() < 60
    for ours, theirs in zip(found, expected, strict=True):
        if np.isfinite(theirs) != (ours < FAR):  # a ray that only grazes
            continue
        assert min(ours, 1e9) == pytest.approx(min(theirs, FAR), abs=3e-4)


def many(count=24, seed=0):
    """Solids of all shapes around (0, 0, 3), in random order, overlapping at will."""
    rng = np.random.default_rng(seed)
    half = rng.uniform(0.03, 0.6, (count, 3)).astype(np.float32)
    shape = rng.integers(3, size=count)
    half[shape == CYLINDER, 2] = half[shape == CYLINDER, 0]
    half[shape == SPHERE] = half[shape == SPHERE, :1]
    return Solids(
        shape, rng.normal([0, 0, 3], 1, (count, 3)).astype(np.float32), half,
        rng.uniform(-4, 4, count).astype(np.float32), np.arange(count), np.ones((count, 3), np.float32),
        np.zeros(count, int), np.ones(count, np.float32), np.zeros(count, np.float32),
    )  # fmt: skip


def alone(things, number):
    return Solids(*(getattr(things, name)[number : number + 1] for name in Solids.__dataclass_fields__))


def signed_distance(things, number, points):
    """Of points [R, 3] to one solid (negative inside), in float64; outside of boxes and cylinders a lower bound."""
    yaw, half = float(things.yaw[number]), things.half[number].astype(float)
    d = points - things.centre[number].astype(float)
    x, y, z = np.cos(yaw) * d[:, 0] - np.sin(yaw) * d[:, 2], d[:, 1], np.sin(yaw) * d[:, 0] + np.cos(yaw) * d[:, 2]
    if things.shape[number] == BOX:
        return np.max([np.abs(x) - half[0], np.abs(y) - half[1], np.abs(z) - half[2]], axis=0)
    if things.shape[number] == CYLINDER:
        return np.maximum(np.hypot(x, z) - half[0], np.abs(y) - half[1])
    return np.sqrt(x * x + y * y + z * z) - half[0]


def test_of_many_solids_the_first_is_met(monkeypatch):
    """Against every solid alone and every ray tried, also from within bounding spheres."""
    things, w = many(), (ways(4000) * [0.4, 0.4, 1]).T.astype(np.float32)
    for origin in np.array([[0, 0, -2], [0.5, -0.4, 3.3]], np.float32):
        hits = first_hits(things, origin, w)
        with monkeypatch.context() as patch:
            patch.setattr(raycast, "_in_cones", lambda some, _, rays: np.ones((len(some.shape), rays.shape[1]), bool))
            singly = np.stack([first_hits(alone(things, k), origin, w).distance for k in things.label])
        np.testing.assert_array_equal(hits.distance, singly.min(axis=0))
        np.testing.assert_array_equal(hits.solid, np.where(singly.min(axis=0) < FAR, singly.argmin(axis=0), -1))
        assert 300 < (hits.solid >= 0).sum() < 3900


def test_points_lie_on_the_solid_that_they_are_said_to_and_normals_lead_out_of_it():
    things, origin = many(), np.array([0, 0, -2], np.float32)
    w = ways(6000).T
    hits = first_hits(things, origin, w)
    seen = np.flatnonzero(hits.solid >= 0)
    points, solid = (origin[:, None] + hits.distance * w)[:, seen], hits.solid[seen]
    normal, _ = surface(things, solid, points)
    np.testing.assert_allclose(np.linalg.norm(normal, axis=0), 1, atol=1e-6)
    assert ((normal * w[:, seen]).sum(0) < 1e-4).all()
    step, off = 1e-3, 0
    for k in np.unique(solid):
        own = solid == k
        at, n = points[:, own].T.astype(float), normal[:, own].T.astype(float)
        assert np.abs(signed_distance(things, k, at)).max() < 1e-4
        rise = signed_distance(things, k, at + step * n) - signed_distance(things, k, at - step * n)
        off += (np.abs(rise / (2 * step) - 1) > 0.02).sum()  # the points at an edge
    assert off < 0.01 * len(seen)


def test_shadows_are_where_small_steps_towards_the_lamp_meet_a_solid():
    things, lamp = many(), np.array([-0.3, -0.8, 3.3], np.float32)  # in the midst of them
    points = np.random.default_rng(1).uniform([-3, -3, 0], [3, 3, 6], (600, 3))
    outside = np.min([signed_distance(things, k, points) for k in range(len(things.shape))], axis=0) > 0.01
    points = points[outside].astype(np.float32)
    steps = np.linspace(0.002, 1, 4000)[:, None]
    nearest = np.array(
        [
            min(signed_distance(things, k, p + steps * (lamp - p)).min() for k in range(len(things.shape)))
            for p in points[:150].astype(float)
        ]
    )
    clear = np.abs(nearest) > 2e-3  # the others only graze
    expected = nearest < 0
    assert 20 < expected.sum() < 130
    np.testing.assert_array_equal(in_shadow(things, points[:150].T, lamp)[clear], expected[clear])


def test_a_plate_shades_what_lies_behind_it_seen_from_the_lamp():
    plate, lamp = solid(BOX, (0, 2, 0), (0.5, 0.05, 0.5)), np.array([0.1, 1.8, 0], np.float32)
    below, above = np.array([[0, 1.5, 0], [0.3, 1, 0.2]], np.float32).T, np.array([[0, 2.3, 0], [-0.2, 3, 0]]).T
    assert not in_shadow(plate, below, lamp).any()
    assert in_shadow(plate, above.astype(np.float32), lamp).all()


def test_rays_along_the_axes():
    """A component of exactly 0 neither excludes a solid nor lets one be met that lies aside."""
    things = solid(BOX, (0, 0, 3), (0.5, 0.5, 0.5))
    w = np.array([[0, 0, 1], [0, 0, -1], [0, 1, 0], [1, 0, 0]], np.float32).T
    on_axis = first_hits(things, np.zeros(3, np.float32), w).distance
    np.testing.assert_allclose(on_axis, [2.5, FAR, FAR, FAR])
    aside = first_hits(things, np.array([0, 1.7, 0], np.float32), w).distance
    np.testing.assert_array_equal(aside, FAR)
    level = np.array([[-2], [1.7], [3]], np.float32)
    assert not in_shadow(things, level, np.array([2, 1.7, 3.1], np.float32)).any()
    assert in_shadow(things, level * [[1], [0], [1]], np.array([2, 0, 3.1], np.float32)).all()
    far, face = room_exit(np.array([1, 1, 1], np.float32), w, np.array([4, 2.5, 5], np.float32))
    np.testing.assert_allclose(far, [4, 1, 1.5, 3])
    np.testing.assert_array_equal(face, [5, 2, 4, 3])


def test_the_room_is_closed():
    size = np.array([4, 2.5, 5], np.float32)
    origin, w = np.array([1, 1.2, 3], np.float32), ways().T
    far, face = room_exit(origin, w, size)
    points = origin[:, None] + far * w
    axis = face % 3
    np.testing.assert_allclose(points[axis, np.arange(len(axis))], np.where(face >= 3, size[axis], 0), atol=1e-5)
    assert (points > -1e-5).all()
    assert (points.max(axis=1) < size + 1e-5).all()
    assert len(np.unique(face)) == 6


@pytest.mark.parametrize("texture", [PLAIN, CHECKER, STRIPES, NOISE, WOOD])
def test_textures_are_patterns_of_their_scale(texture):
    place = np.random.default_rng(0).uniform(-3, 3, (2, 5000)).astype(np.float32)
    kinds, scale = np.full(5000, texture), np.full(5000, 0.3, np.float32)
    bright = pattern(kinds, place, scale)
    assert 0.5 <= bright.min() <= bright.max() <= 1.1
    assert (bright.std() == 0) == (texture == PLAIN)
    np.testing.assert_allclose(pattern(kinds, 2 * place, 2 * scale), bright, atol=1e-6)
    mixed = kinds.copy()
    mixed[::2] = CHECKER
    np.testing.assert_array_equal(pattern(mixed, place, scale)[1::2], bright[1::2])


def degrees_between(points, depth, exact):
    """Angles [n] between normals [H, W, 3] and the numerical ones of the points [H, W, 3], where a surface is flat."""
    across, down = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
    numeric = np.cross(down, across)
    numeric /= np.linalg.norm(numeric, axis=-1, keepdims=True)
    inner = exact[1:-1, 1:-1]
    around = [exact[1:-1, :-2], exact[1:-1, 2:], exact[:-2, 1:-1], exact[2:, 1:-1]]
    flat = np.logical_and.reduce([(inner * other).sum(-1) > 1 - 1e-6 for other in around])
    # Depth may still jump between parallel surfaces: there the second difference of its inverse is not 0.
    inverse = 1 / depth
    bend = np.abs(inverse[1:-1, 2:] + inverse[1:-1, :-2] - 2 * inverse[1:-1, 1:-1])
    bend += np.abs(inverse[2:, 1:-1] + inverse[:-2, 1:-1] - 2 * inverse[1:-1, 1:-1])
    flat &= bend < 1e-4
    assert flat.mean() > 0.5
    return np.degrees(np.arccos((numeric * inner).sum(-1).clip(-1, 1)))[flat]


@pytest.mark.parametrize("index", range(6))
def test_normals_are_the_gradient_of_depth(index):
    size = (120, 160)
    view = render(index, size)
    points = (camera(index).rays(size) * view.depth.reshape(-1, 1)).reshape(*size, 3)
    assert np.quantile(degrees_between(points, view.depth, view.normals.transpose(1, 2, 0)), 0.99) < 1.0


def test_mirrored_windows_of_rooms_are_views_of_mirrored_rooms():
    """Depth of a window, projected through the lens moved as the window was, has the window's normals; and every pixel
    shows the point that it showed, mirrored where the window is."""
    size, crop, count = (120, 160), (96, 120), 8
    views = [render(index, size) for index in range(count)]
    place = torch.arange(size[0] * size[1]).reshape(1, *size).repeat(count, 1, 1)
    targets = {name: torch.from_numpy(np.stack([getattr(view, name) for view in views]))
               for name in ("segmentation", "depth", "normals")}  # fmt: skip
    images = torch.from_numpy(np.stack([view.image for view in views]))
    _, seen = make_augment("flip", TASKS, crop)(images, {**targets, "segmentation": place}, 3)
    _, labels = make_augment("flip", TASKS, crop)(images, targets, 3)
    mirrored = 0
    for index, view in enumerate(views):
        at = seen["segmentation"][index].numpy()
        depth, normals = seen["depth"][index].numpy(), seen["normals"][index].numpy().transpose(1, 2, 0)
        top, corner, sign = at[0, 0] // size[1], at[0, 0] % size[1], 1 if at[0, 1] > at[0, 0] else -1
        left = corner if sign > 0 else size[1] - 1 - corner  # of the window in the mirrored image
        rays = camera(index).rays(size).reshape(*size, 3)[top : top + crop[0], left : left + crop[1]]
        points = rays * depth[..., None]
        assert np.quantile(degrees_between(points, depth, normals), 0.99) < 1.0
        before = camera(index).rays(size)[at.ravel()] * view.depth.ravel()[at.ravel()][:, None]
        np.testing.assert_allclose(points.reshape(-1, 3), before * [sign, 1, 1], atol=1e-5)
        np.testing.assert_array_equal(labels["segmentation"][index], view.segmentation.ravel()[at])
        mirrored += sign < 0
    assert 0 < mirrored < count


def test_what_is_seen_faces_the_camera():
    for index in range(12):
        view = render(index, SIZE)
        rays = camera(index).rays(SIZE).reshape(*SIZE, 3)
        normals = view.normals.transpose(1, 2, 0)
        np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-4)
        assert ((normals * rays).sum(-1) < 1e-3).all()
        assert np.isfinite(view.depth).all()
        assert view.depth.min() > 0.05
        assert view.depth.max() < 12


def test_a_scene_is_the_same_alone_and_at_another_size():
    again, view = render(3, SIZE), render(3, SIZE)
    for name in ("image", "segmentation", "depth", "normals"):
        np.testing.assert_array_equal(getattr(again, name), getattr(view, name))
    # A pixel of the small image lies between four of one twice as large; on a plane inverse depth is linear.
    double = render(3, (96, 128))
    inverse = 1 / double.depth
    mean = (inverse[::2, ::2] + inverse[1::2, ::2] + inverse[::2, 1::2] + inverse[1::2, 1::2]) / 4
    assert np.median(np.abs(mean * view.depth - 1)) < 1e-5


def test_all_classes_occur_and_scenes_differ():
    found = np.unique(np.concatenate([render(i, (24, 32)).segmentation.ravel() for i in range(60)]))
    np.testing.assert_array_equal(found, np.arange(len(CLASSES)))
    sizes = {tuple(make_scene(i).size) for i in range(20)}
    assert len(sizes) == 20


def test_furniture_stands_inside_and_the_camera_outside_of_it():
    for index in range(40):
        scene = make_scene(index)
        things = scene.solids
        reach = np.hypot(things.half[:, 0], things.half[:, 2])
        assert (things.centre[:, 1] - things.half[:, 1] > -1e-3).all()
        assert (things.centre[:, [0, 2]] > -1e-3).all()
        assert (things.centre[:, [0, 2]] < scene.size[[0, 2]] + 1e-3).all()
        apart = np.linalg.norm(things.centre[:, [0, 2]] - scene.camera.position[[0, 2]], axis=1)
        assert (apart > 0.25 * reach).all()
        rotation = scene.camera.rotation
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)


def test_rays_go_through_pixel_centres():
    rays = Camera(np.zeros(3), np.eye(3), 0.5).rays((2, 4)).reshape(2, 4, 3)
    np.testing.assert_allclose(rays[0, :, 0], np.array([-1.5, -0.5, 0.5, 1.5]) / 2)
    np.testing.assert_allclose(rays[:, 0, 1], np.array([-0.5, 0.5]) / 2)


def test_depth_projected_into_another_pixel_grid_comes_back():
    size, view, cam = (24, 32), render(7, (24, 32)), camera(7)
    points = cam.rays(size) * view.depth.reshape(-1, 1)
    u, v, w = cam.intrinsics(size) @ points.T
    np.testing.assert_allclose(w, view.depth.ravel(), rtol=1e-6)
    rows, columns = np.mgrid[0:24, 0:32]
    np.testing.assert_allclose([u / w, v / w], [columns.ravel() + 0.5, rows.ravel() + 0.5], atol=1e-4)
    world = points @ cam.rotation + cam.position
    room = make_scene(7).size
    assert (world > -1e-4).all()
    assert (world < room + 1e-4).all()
    floor = (view.segmentation == CLASSES.index("floor")).ravel()
    np.testing.assert_allclose(world[floor, 1], 0, atol=1e-4)
    np.testing.assert_allclose(world[(view.segmentation == CLASSES.index("ceiling")).ravel(), 1], room[1], atol=1e-4)


def test_scenes_are_frozen():
    """A change here invalidates every published number on this data set: it needs another VERSION."""
    for index, (bright, depth, tilt, most) in FROZEN.items():
        view = render(index, (48, 64))
        found = view.image.mean(), view.depth.mean(dtype=float), view.normals.mean(dtype=float)
        np.testing.assert_allclose(found, (bright, depth, tilt), rtol=2e-4)
        assert np.abs(np.bincount(view.segmentation.ravel(), minlength=len(CLASSES)) - most).max() <= 2


def test_the_data_set_is_kept_and_rebuilt_when_damaged(tmp_path, monkeypatch):
    made = load_rooms((16, 24), 12, tmp_path)
    assert made.image_shape == (3, 16, 24)
    assert [len(made.rows(split)) for split in ("train", "val", "test")] == [12, 2, 4]
    assert len(set(made.ids)) == len(made)
    np.testing.assert_array_equal(made.targets["depth"][0], render(0, (16, 24)).depth)
    test = made.rows("test")[1]
    np.testing.assert_array_equal(made.images[test], render(2_000_001, (16, 24)).image)

    calls = []
    monkeypatch.setattr("reprkit.data.rooms.render", lambda *args: calls.append(args) or render(*args))
    load_rooms((16, 24), 12, tmp_path)
    assert not calls
    path = next(tmp_path.glob("rooms-*-depth.npy"))
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    before = {task.name: np.array(made.targets[task.name]) for task in made.tasks}
    path.write_bytes(content)
    again = load_rooms((16, 24), 12, tmp_path)
    assert calls
    for task in made.tasks:
        np.testing.assert_array_equal(again.targets[task.name], before[task.name])
    assert load_rooms((16, 24), 13, tmp_path).fingerprint != made.fingerprint


def test_by_name_from_a_recipe(tmp_path):
    config = DataConfig(name="rooms", image_size=(16, 24), count=6, tasks=("depth",))
    data = load_dataset(config, tmp_path)
    assert [task.name for task in data.tasks] == ["depth"]
    assert "depth of every pixel" in data.summary()
    whole = load_dataset(replace(config, tasks=()), tmp_path)
    assert whole.fingerprint == data.fingerprint


def test_every_row_is_its_scene_whatever_the_size_of_the_set(tmp_path):
    size = (16, 24)
    small, large = load_rooms(size, 12, tmp_path), load_rooms(size, 30, tmp_path)
    for data in (small, large):
        for code, first in enumerate(FIRST):
            for place, row in enumerate(np.flatnonzero(data.split == code)):
                view = render(first + place, size)
                assert data.ids[row] == f"room{first + place:07d}"
                np.testing.assert_array_equal(data.images[row], view.image)
                for task in data.tasks:
                    np.testing.assert_array_equal(data.targets[task.name][row], getattr(view, task.name))
    assert len(set(small.ids) & set(large.ids)) == len(small)


def test_splits_share_no_scene():
    first, second, third = FIRST
    assert [b - a for a, b in ((first, second), (second, third))] == [1_000_000, 1_000_000]
    with pytest.raises(InputError, match=r"data\.count: .* at most 1,000,000"):
        load_rooms((16, 24), 1_000_001)


def test_another_version_is_another_data_set(tmp_path, monkeypatch):
    before = load_rooms((16, 24), 6, tmp_path).fingerprint
    assert load_rooms((16, 24), 6, tmp_path).fingerprint == before
    assert load_rooms((24, 16), 6, tmp_path).fingerprint != before
    monkeypatch.setattr("reprkit.data.rooms.VERSION", 2)
    assert load_rooms((16, 24), 6, tmp_path).fingerprint != before


FROZEN = {
    0: (180.677, 3.67963, -0.185922, [590, 148, 1155, 0, 432, 12, 0, 88, 336, 0, 311, 0, 0]),
    5: (178.773, 2.43931, -0.193898, [569, 192, 1837, 0, 0, 69, 0, 0, 0, 0, 405, 0, 0]),
    1_000_003: (133.758, 4.10011, -0.284776, [1006, 0, 1204, 5, 0, 25, 231, 95, 0, 173, 259, 43, 31]),
    2_000_011: (147.576, 3.28865, -0.252742, [1086, 261, 1149, 0, 133, 31, 61, 28, 0, 0, 256, 19, 48]),
}
"""Scene -> mean of its image, depth and normals, and pixels of each class, at 48 x 64."""
