"""Panels: what the pictures show is what the arrays say."""

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb

from reprkit.analysis import style
from reprkit.analysis.figures.panels import BESIDE, Layer, in_words, panel_figures
from reprkit.analysis.figures.pixels import FALSE, FOUND, MISSED, RIGHT, WRONG
from reprkit.tasks import Task

N, H, W = 3, 6, 8
SEG = Task("area", "segmentation", 4, ("wall", "floor", "bed", "lamp"))
DEPTH = Task("depth", "depth", 1, unit="m")
NORMALS = Task("normals", "normals", 3)
EDGES = Task("edges", "edges", 1)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (N, 3, H, W)).astype(np.uint8)


def layers_of(rng):
    """A layer of each kind; classes 0, 1 and 3 occur, and the upper left corner has no truth."""
    seg = rng.choice([0, 1], (N, H, W)).astype(np.int8)
    said = np.where(rng.random(seg.shape) < 0.3, 3, seg)
    depth = rng.uniform(2, 5, (N, H, W)).astype(np.float32)
    normals = rng.normal(size=(N, 3, H, W))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    other = rng.normal(size=(N, 3, H, W))
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    edges = rng.choice([0, 1], (N, H, W)).astype(np.int8)
    layers = [
        Layer(SEG, seg, said),
        Layer(DEPTH, depth, depth + rng.normal(0, 1, depth.shape).astype(np.float32)),
        Layer(NORMALS, normals, other),
        Layer(EDGES, edges, rng.random((N, H, W))),
    ]
    for layer in layers:
        layer.truth[..., 0, :2] = -1 if layer.task.is_discrete else np.nan
    return layers


def drawn(figure):
    """[rows, columns] axes that show a picture, in reading order; then their pictures' arrays."""
    return [axes for axes in figure.axes if axes.images]


def picture_of(axes):
    return np.ma.getdata(axes.images[0].get_array())


def triple(figure, row, layers=1, number=0):
    """Truth, prediction and error axes of one layer of one row."""
    axes = drawn(figure)
    start = row * (1 + 3 * layers) + 1 + 3 * number
    return axes[start : start + 3]


def only(images, layer):
    (figure,) = panel_figures(images, [layer], ["a", "b", "c"])
    return figure


def is_hatched(axes):
    return any(patch.get_hatch() for patch in axes.patches)


def test_classes_have_their_colours_and_void_is_grey(images, rng):
    layer = layers_of(rng)[0]
    figure = only(images, layer)
    colours = np.array([to_rgb(c) for c in style.SEGMENT_COLOURS[:4]])
    for row in range(N):
        truth, said, error = triple(figure, row)
        picture = picture_of(truth)
        known = layer.truth[row] >= 0
        assert picture[known] == pytest.approx(colours[layer.truth[row][known]])
        assert {to_hex(c, keep_alpha=False).upper() for c in picture[~known]} == {style.VOID}
        assert picture_of(said) == pytest.approx(colours[layer.predicted[row]])
        wrong = layer.truth[row] != layer.predicted[row]
        shown = picture_of(error)
        for mask, colour in ((known & wrong, WRONG), (known & ~wrong, RIGHT), (~known, style.VOID)):
            assert shown[mask] == pytest.approx(np.broadcast_to(to_rgb(colour), (mask.sum(), 3)))
        assert error.get_xlabel() == f"{100 * wrong[known].mean():.0f} % wrong"
        assert not is_hatched(truth)
    legends = [[t.get_text() for t in axes.get_legend().get_texts()] for axes in figure.axes if axes.get_legend()]
    assert sorted(legends[0]) == ["floor", "lamp", "void", "wall"]  # the bed does not occur
    key = next(axes for axes in figure.axes if axes.get_legend()).get_legend()
    shown = {
        t.get_text(): to_hex(h.get_facecolor()).upper() for t, h in zip(key.get_texts(), key.get_patches(), strict=True)
    }
    assert shown["lamp"] == style.SEGMENT_COLOURS[3]


def test_values_share_the_scale_of_the_truth_on_all_pages(images, rng):
    layer = layers_of(rng)[1]
    pages = list(panel_figures(images, [layer], ["a", "b", "c"], rows=2))
    assert [len(drawn(page)) for page in pages] == [2 * 4, 4]
    true = layer.truth[layer.known]
    errors = np.abs(layer.predicted - layer.truth)
    for row in range(N):
        truth, said, error = triple(pages[row // 2], row % 2)
        for axes in (truth, said):
            assert axes.images[0].get_clim() == pytest.approx((true.min(), true.max()))
        assert (np.ma.getmaskarray(truth.images[0].get_array()) == ~layer.known[row]).all()
        assert picture_of(said) == pytest.approx(layer.predicted[row])
        assert error.images[0].get_array().compressed() == pytest.approx(errors[row][layer.known[row]])
        assert error.get_xlabel() == f"off by {errors[row][layer.known[row]].mean():.2g} m"
        assert [is_hatched(axes) for axes in (truth, said, error)] == [True, False, True]
    bars = [axes for key in pages[0].axes for axes in key.child_axes]
    assert [axes.get_xlabel() for axes in bars] == ["m", "m"]
    assert bars[0].get_xlim() == pytest.approx((true.min(), true.max()))


def test_nothing_is_hatched_where_all_is_known(images, rng):
    layer = layers_of(rng)[1]
    whole = Layer(layer.task, np.nan_to_num(layer.truth, nan=3.0), layer.predicted)
    figure = only(images, whole)
    assert not any(is_hatched(axes) for axes in drawn(figure))
    assert not figure.texts
    assert [text.get_text() for text in only(images, layer).texts] == ["Hatched: no truth."]


def test_normals_are_colours_and_errors_angles(images, rng):
    layer = layers_of(rng)[2]
    figure = only(images, layer)
    for row in range(N):
        truth, said, error = triple(figure, row)
        known = layer.known[row]
        picture = picture_of(truth)
        assert picture[..., 3] == pytest.approx(known.astype(float))
        assert picture[known][:, :3] == pytest.approx(((layer.truth[row] + 1) / 2).transpose(1, 2, 0)[known])
        assert picture_of(said)[..., :3] == pytest.approx(((layer.predicted[row] + 1) / 2).transpose(1, 2, 0))
        cosine = np.einsum("chw,chw->hw", layer.truth[row], layer.predicted[row])[known]
        angles = np.degrees(np.arccos(cosine))
        assert error.images[0].get_array().compressed() == pytest.approx(angles)
        assert error.get_xlabel() == f"off by {angles.mean():.0f}°"
        assert is_hatched(truth)


def test_edges_are_found_missed_or_false(images, rng):
    layer = layers_of(rng)[3]
    figure = only(images, layer)
    for row in range(N):
        _, said, error = triple(figure, row)
        assert picture_of(said) == pytest.approx(layer.predicted[row])
        true, yes, known = layer.truth[row] == 1, layer.predicted[row] >= 0.5, layer.known[row]
        shown = picture_of(error)
        for mask, colour in ((true & yes, FOUND), (true & ~yes, MISSED), (~true & yes, FALSE), (~true & ~yes, "white")):
            mask = mask & known
            assert mask.any()
            assert shown[mask] == pytest.approx(np.broadcast_to((*to_rgb(colour), 1), (mask.sum(), 4)))
        assert (shown[~known][:, 3] == 0).all()


def test_layers_stand_side_by_side_with_names_and_titles(images, rng):
    layers = layers_of(rng)
    (figure,) = panel_figures(images, layers, ["one\nroom: bath (98 %)", "two", "three"])
    assert [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")] == [
        "area", "depth", "normals", "edges",
    ]  # fmt: skip
    first = [drawn(figure)[row * 13] for row in range(N)]
    assert [axes.get_xlabel() for axes in first] == ["one\nroom: bath (98 %)", "two", "three"]
    for axes, image in zip(first, images, strict=True):
        assert (picture_of(axes) == image.transpose(1, 2, 0)).all()


def test_the_same_arrays_give_the_same_bytes(images, rng):
    layers = layers_of(rng)[:2]
    first, again = (style.png_bytes(next(panel_figures(images, layers, ["a", "b", "c"]))) for _ in range(2))
    assert first == again


def test_images_alone_stand_beside_each_other(rng):
    many = rng.integers(0, 256, (BESIDE + 1, 1, H, W)).astype(np.uint8)
    long = "age: thirty to thirty-nine years (98 %), truth unknown"
    pages = list(panel_figures(many, [], [long] * len(many), rows=1))
    assert [len(drawn(page)) for page in pages] == [BESIDE, 1]
    text = drawn(pages[0])[0].get_xlabel()
    assert text.replace("\n", " ") == long
    assert "\n" in text


def test_unequal_lengths_are_refused(images, rng):
    with pytest.raises(ValueError, match="differ in length"):
        list(panel_figures(images, layers_of(rng), ["a"]))


def test_an_image_without_any_truth_is_drawn(images, rng):
    for layer in layers_of(rng):
        layer.truth[1] = -1 if layer.task.is_discrete else np.nan
        axes = triple(only(images, layer), 1)
        assert [a.get_xlabel() for a in axes[:2]] == ["", ""]
        assert "no truth" in [a.get_xlabel() for a in only(images, layer).axes]


def test_words():
    task = Task("digit", "classification", 3, ("a", "b", "c"))
    logits = np.log(np.array([0.1, 0.7, 0.2]))
    assert in_words(task, logits, 1) == "digit: b (70 %)"
    assert in_words(task, logits, 2) == "digit: b (70 %), truth c"
    assert in_words(task, logits, -1) == "digit: b (70 %), truth unknown"
    age = Task("age", "regression", 1, unit="years", mean=40.0, std=10.0)
    assert in_words(age, np.array([-1.0]), 33.0) == "age: 30 years, truth 33"
    assert in_words(age, np.array([-1.0]), np.nan) == "age: 30 years, truth unknown"


def test_areas_can_be_told_apart_with_every_common_colour_vision():
    """Oklab distances, as seen and as simulated by Machado et al. (2009); just visible is about 0.02."""
    protan = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    deutan = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    cones = [
        [0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]  # fmt: skip
    lab = [
        [0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]  # fmt: skip
    rgb = np.array([to_rgb(c) for c in (*style.SEGMENT_COLOURS, style.VOID)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    for sight in (np.eye(3), protan, deutan):
        seen = np.cbrt(np.clip(linear @ np.transpose(sight), 0, 1) @ np.transpose(cones)) @ np.transpose(lab)
        apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1)[np.triu_indices(len(rgb), 1)]
        assert apart.min() > 0.07
    assert len(set(style.SEGMENT_COLOURS)) == 24
