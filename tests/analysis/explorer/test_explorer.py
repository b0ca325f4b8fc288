import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from reprkit.analysis.explorer import Exploration, View, gather, make_page, pack_sprites
from reprkit.embeddings import Embeddings
from reprkit.recipe import TsneConfig
from reprkit.tasks import Task

NASTY = "</script><b onmouseover=alert(1)>&\u2028"


def made(count=60, seed=0, label="a"):
    rng = np.random.default_rng(seed)
    y = np.arange(3 * count) % 3
    z = rng.normal(size=(3 * count, 8)).astype(np.float32) + 3 * np.eye(3, 8)[y]
    split = np.repeat(["train", "val", "test"], count)
    task = Task("kind", "classification", 3, ("one", "two", NASTY))
    ids = [f"{s}-{i}" for i, s in enumerate(split)]
    return Embeddings.from_arrays(z, {"kind": y}, tasks=[task], ids=ids, split=split, label=label)


def record(page):
    text = re.search(r'<script id="data" type="application/json">(.*?)</script>', page.text, re.S)[1]
    return json.loads(text)


def unpacked(text):
    return np.frombuffer(base64.b64decode(text), "<f4")


def test_gather_shows_the_same_samples_of_every_encoder():
    files = [made(label="a"), made(seed=1, label="b"), made(label="again")]
    found = gather(files, config=TsneConfig(samples=40, iterations=20))
    assert len(found.ids) == 40
    assert all(name.startswith("test-") for name in found.ids)
    truth = dict(zip(files[0].ids("test"), files[0].targets("test", "kind"), strict=True))
    np.testing.assert_array_equal(found.targets["kind"], [truth[name] for name in found.ids])
    assert [view.label for view in found.views] == ["a", "b", "again"]
    np.testing.assert_allclose(found.views[2].kept, 1.0)  # the same embedding again
    assert found.views[1].kept.mean() < 0.9
    right = found.views[0].predicted["kind"] == found.targets["kind"]
    assert right.mean() > 0.8


def test_one_encoder_has_nobody_who_moved():
    found = gather([made()], config=TsneConfig(samples=40, iterations=20), probe="")
    assert found.views[0].kept is None
    assert not found.views[0].predicted


def test_the_page_carries_what_was_gathered_and_texts_stay_texts():
    points = np.array([[0.0, 0.0], [2.0, 1.0], [4.0, 0.0]])
    task = Task("kind", "classification", 2, (NASTY, "two"))
    view = View(NASTY, points, "caption", {"kind": np.array([0, 1, np.nan])}, np.array([0.1, 0.5, 1.0]))
    found = Exploration([NASTY, "b", "c"], {"kind": task}, {"kind": np.array([0, np.nan, 1])}, [view], "linear")
    page = make_page(found)
    data = record(page)
    assert data["ids"][0] == NASTY
    assert data["tasks"][0]["classes"] == [NASTY, "two"]
    np.testing.assert_array_equal(unpacked(data["tasks"][0]["targets"]), np.float32([0, np.nan, 1]))
    np.testing.assert_allclose(unpacked(data["views"][0]["x"]), [-1, 0, 1])
    np.testing.assert_allclose(unpacked(data["views"][0]["kept"]), [0.1, 0.5, 1.0], rtol=1e-6)
    assert NASTY not in page.text.replace(json.dumps(NASTY), "")
    assert "http://" not in page.text
    assert "https://" not in page.text


def test_a_notebook_shows_the_page_in_a_frame_of_its_own():
    page = make_page(Exploration(["a"], {}, {}, [View("v", np.zeros((1, 2)), "")]))
    shown = page._repr_html_()
    assert shown.startswith("<iframe srcdoc=")
    assert "<script" not in shown  # escaped, so that nothing runs outside the frame


@pytest.mark.parametrize("shape", [(12, 12), (1, 12, 12), (3, 12, 12), (12, 12, 3), (20, 12, 3)])
def test_sprites_are_found_by_id(shape):
    images = [np.full(shape, value, np.uint8) for value in (10, 120, 250)]
    sprites = pack_sprites(["a", "b", "c"], images, side=40)
    sheet = np.asarray(Image.open(io.BytesIO(sprites.sheets[0])).convert("L"), dtype=int)
    for name, value in zip("abc", (10, 120, 250), strict=True):
        row, column = divmod(sprites.place[name], sprites.per_row)
        assert abs(sheet[row * 40 + 20, column * 40 + 20] - value) < 12


def test_five_thousand_thumbnails_stay_small():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (5000, 10, 10, 3), dtype=np.uint8)  # noise is the worst case
    images = images.repeat(4, 1).repeat(4, 2)
    ids = [f"{i:05d}" for i in range(5000)]
    sprites = pack_sprites(ids, list(images))
    assert len(sprites.sheets) == 2
    task = Task("kind", "classification", 5)
    y = np.arange(5000) % 5.0
    views = [View(name, rng.normal(size=(5000, 2)), "", {"kind": y}, y / 5) for name in "ab"]
    page = make_page(Exploration(ids, {"kind": task}, {"kind": y}, views, "linear"), sprites=sprites)
    assert len(page.text.encode()) < 4_000_000
