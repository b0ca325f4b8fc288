"""Rendered scenes against closed forms, numerical geometry, and themselves."""

from dataclasses import replace

import numpy as np
import pytest

from reprkit.data import load_dataset
from reprkit.data.raycast import FAR, Camera, Solids, first_hits, room_exit
from reprkit.data.rooms import camera, load_rooms, render
from reprkit.data.scenes import CLASSES, make_scene
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
        (0, (0.5, 0.3, 0.8), lambda p: (np.abs(p) <= [0.5, 0.3, 0.8]).all(1)),
        (1, (0.5, 0.9, 0.5), lambda p: (np.hypot(p[:, 0], p[:, 2]) <= 0.5) & (np.abs(p[:, 1]) <= 0.9)),
        (2, (0.7, 0.7, 0.7), lambda p: np.linalg.norm(p, axis=1) <= 0.7),
    ],
)
def test_solids_are_met_where_small_steps_meet_them(shape, half, inside):
    centre, origin, yaw = np.array([0.3, -0.2, 2.0]), np.array([0.1, 0.4, -0.5], np.float32), 0.4
    things = solid(shape, centre, half, yaw)
    aimed = (centre + np.random.default_rng(1).normal(0, 0.5, (60, 3)) - origin).astype(np.float32)
    aimed /= np.linalg.norm(aimed, axis=1, keepdims=True)
    found = first_hits(things, origin, aimed).distance
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
    expected = [marched(lambda p: inside((p - centre) @ turn.T), origin, w) for w in aimed]
    assert 10 < np.isfinite(expected).sum() < 60
    for ours, theirs in zip(found, expected, strict=True):
        if np.isfinite(theirs) != (ours < FAR):  # a ray that only grazes
            continue
        assert min(ours, 1e9) == pytest.approx(min(theirs, FAR), abs=3e-4)


def test_the_room_is_closed():
    size = np.array([4, 2.5, 5], np.float32)
    origin, w = np.array([[1, 1.2, 3]], np.float32), ways()
    far, face = room_exit(origin, w, size)
    points = origin + far[:, None] * w
    axis = face % 3
    rows = np.arange(len(w))
    np.testing.assert_allclose(points[rows, axis], np.where(face >= 3, size[axis], 0), atol=1e-5)
    assert ((points > -1e-5) & (points < size + 1e-5)).all()


@pytest.mark.parametrize("index", range(6))
def test_normals_are_the_gradient_of_depth(index):
    size = (120, 160)
    view = render(index, size)
    points = (camera(index).rays(size) * view.depth.reshape(-1, 1)).reshape(*size, 3)
    across, down = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
    numeric = np.cross(down, across)
    numeric /= np.linalg.norm(numeric, axis=-1, keepdims=True)
    exact = view.normals.transpose(1, 2, 0)
    inner = exact[1:-1, 1:-1]
    around = [exact[1:-1, :-2], exact[1:-1, 2:], exact[:-2, 1:-1], exact[2:, 1:-1]]
    flat = np.logical_and.reduce([(inner * other).sum(-1) > 1 - 1e-6 for other in around])
    # Depth may still jump between parallel surfaces: there the second difference of its inverse is not 0.
    inverse = 1 / view.depth
    bend = np.abs(inverse[1:-1, 2:] + inverse[1:-1, :-2] - 2 * inverse[1:-1, 1:-1])
    bend += np.abs(inverse[2:, 1:-1] + inverse[:-2, 1:-1] - 2 * inverse[1:-1, 1:-1])
    flat &= bend < 1e-4
    assert flat.mean() > 0.5
    angle = np.degrees(np.arccos((numeric * inner).sum(-1).clip(-1, 1)))[flat]
    assert np.quantile(angle, 0.99) < 1.0


def test_what_is_seen_faces_the_camera():
    rays = None
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
