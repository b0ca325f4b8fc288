"""Tables of maps: the same samples for every encoder, one row a map and sample, new samples beside them."""

import subprocess
import sys

import numpy as np
import pytest

from reprkit.analysis.maps.tsne import KEYS, draw_maps, tsne_with_quality
from reprkit.errors import InputError
from reprkit.recipe import TsneConfig

QUICK = TsneConfig(samples=80, perplexity=15, iterations=120)


def test_frames_have_the_promised_columns_and_one_sample_set(toy):
    classes = {"left": 3, "right": 2, "age": 4}
    kinds = {"age": "regression"}
    whole = toy(classes=classes, kinds=kinds, label="vanilla", sizes=(10, 5, 200))
    alone = toy(classes=classes, kinds=kinds, label="single", trained_tasks=["right"], sizes=(10, 5, 200))
    frame, quality = tsne_with_quality(whole, config=QUICK)
    assert list(frame) == [*KEYS, "left", "right", "age"]
    assert len(frame) == 80
    assert set(frame["map"]) == {"tsne"}
    assert set(frame["perplexity"]) == set(quality["perplexity"]) == {15}
    assert set(frame["encoder"]) == {"vanilla"}
    assert set(frame["task"]) == {""}
    rows = {name: row for row, name in enumerate(whole.ids("test"))}
    order = [rows[name] for name in frame["id"]]
    assert (frame["left"].to_numpy() == whole.targets("test", "left")[order]).all()
    assert {
        "n",
        "perplexity",
        "kl",
        "knn_recall",
        "trustworthiness",
        "spearman",
        "status",
        "hit_left",
        "hit_right",
    } <= set(quality)
    assert "hit_age" not in quality
    assert quality["status"].tolist() == ["ok"]
    other, _ = tsne_with_quality(alone, config=QUICK)
    assert other["id"].tolist() == frame["id"].tolist()
    assert set(other["task"]) == {"right"}


def test_given_ids_are_mapped_in_their_order_and_must_exist(toy):
    embeddings = toy(sizes=(10, 5, 60))
    ids = [f"test-{i:05d}" for i in (7, 3, 50, 21, 4, 9, 33)]
    frame, _ = tsne_with_quality(embeddings, config=QUICK, ids=ids)
    assert frame["id"].tolist() == ids
    with pytest.raises(InputError, match="test-99999"):
        tsne_with_quality(embeddings, ids=["test-99999"])
    with pytest.raises(InputError, match="no split 'dev'"):
        tsne_with_quality(embeddings, split="dev")


def test_import_is_light():
    heavy = ("openTSNE", "torch", "matplotlib", "sklearn")
    code = f"import sys, reprkit.analysis.maps.tsne; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_several_maps_of_one_encoder(toy):
    embeddings = toy(kinds={"age": "regression"}, classes={"left": 3, "right": 2, "age": 4}, sizes=(200, 50, 90))
    maps = draw_maps(embeddings, config=QUICK, kinds=("tsne", "pca", "lda"), perplexities=(5, 15, 40, 90))
    frame, quality = maps.frame(), maps.quality()
    assert list(quality["map"]) == ["tsne", "tsne", "tsne", "pca", "lda:left", "lda:right"]
    assert quality["perplexity"].dropna().tolist() == [5, 15, 79 / 3]  # 40 and 90 are too many for 80 samples
    assert len(frame) == 6 * 80
    assert frame.groupby(["map", "perplexity"], dropna=False)["id"].agg(tuple).nunique() == 1
    assert quality["status"].eq("ok").all()
    numbers = quality[["knn_recall", "trustworthiness", "spearman", "hit_left", "chance_right"]]
    assert numbers.notna().all(axis=None)
    assert quality["kl"].isna().tolist() == [False] * 3 + [True] * 3
    assert quality["explained"].isna().tolist() == [True] * 3 + [False] * 3
    assert quality["hit_left"].to_numpy()[4] > quality["hit_left"].to_numpy()[5]
    alone, _ = tsne_with_quality(embeddings, config=QUICK)
    shared = frame[(frame["map"] == "tsne") & (frame["perplexity"] == 15)]
    assert shared[["x", "y"]].to_numpy().tobytes() == alone[["x", "y"]].to_numpy().tobytes()


def test_new_samples_have_tables_like_mapped_ones(toy):
    embeddings = toy(sizes=(200, 50, 200))
    maps = draw_maps(embeddings, config=QUICK, kinds=("tsne", "lda"))
    on_map = set(maps.ids)
    rest = [str(name) for name in embeddings.ids("test") if name not in on_map]
    frame, quality = maps.place(embeddings, rest)
    assert list(frame) == list(maps.frame())
    assert list(quality) == list(maps.quality())
    assert len(frame) == 3 * 120
    assert quality["status"].eq("ok (placed on a map of 80 samples)").all()
    mapped = maps.quality()
    np.testing.assert_allclose(quality["hit_left"], mapped["hit_left"], atol=0.15)
    assert (quality["knn_recall"] > 0.1).all()
    assert quality[["kl", "trustworthiness", "spearman"]].isna().all(axis=None)


def test_samples_of_another_encoder_are_not_placed(toy):
    maps = draw_maps(toy(), config=QUICK, kinds=("pca",))
    with pytest.raises(InputError, match=r"other.h5: has 9 dimensions, the map's encoder 16"):
        maps.place(toy(dim=9, label="other"), ["test-00001"])
    prints = {"fingerprints": {"checkpoint": "another"}}
    with pytest.raises(InputError, match=r"other.h5: was embedded by another checkpoint \(another\)"):
        maps.place(toy(label="other", meta=prints), ["test-00001"])


def test_what_cannot_be_mapped_is_said_in_one_line(toy, fake_embeddings):
    with pytest.raises(InputError, match="'umap' is unknown; choose from tsne, pca, lda"):
        draw_maps(toy(), kinds=("umap",))
    with pytest.raises(InputError, match="task 'x' has the name of a column"):
        draw_maps(toy(classes={"x": 2}))
    with pytest.raises(InputError, match="needs a task of classes"):
        draw_maps(toy(kinds={"left": "regression", "right": "regression"}), config=QUICK, kinds=("lda",))
    with pytest.raises(InputError, match="fitted on train"):
        draw_maps(toy(), config=QUICK, kinds=("lda",), split="train")
    alone = toy()
    untrained = fake_embeddings(
        {"test": alone.z("test")},
        {name: {"test": alone.targets("test", name)} for name in alone.tasks},
        list(alone.tasks.values()),
    )
    with pytest.raises(InputError, match="has no train split"):
        draw_maps(untrained, config=QUICK, kinds=("lda",))
