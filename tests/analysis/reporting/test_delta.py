from __future__ import annotations

import math

import pandas as pd
import pytest

from reprkit.analysis.reporting.delta import delta_frame, delta_mtl
from reprkit.errors import InputError

# Shin et al., ECCV 2024, Table 1 (UTKFace): accuracy of age, gender, ethnicity, and the printed gain in percent.
FACE_TASKS = ("age", "gender", "ethnicity")
FACE_SINGLE = (0.5233, 0.8964, 0.7728)
FACES = {
    "vanilla": ((0.5391, 0.9153, 0.7948), 2.66),
    "vanilla+dgr": ((0.5605, 0.9019, 0.7942), 3.50),
    "dwa": ((0.5370, 0.9148, 0.7989), 2.68),
    "dwa+dgr": ((0.5336, 0.9135, 0.8056), 2.71),
    "uncertainty": ((0.5385, 0.9137, 0.7961), 2.62),
    "uncertainty+dgr": ((0.5455, 0.9118, 0.7988), 3.11),
    "auto_lambda": ((0.5405, 0.9171, 0.7965), 2.89),
    "auto_lambda+dgr": ((0.5503, 0.9163, 0.8014), 3.69),
    "pcgrad": ((0.5417, 0.9134, 0.7960), 2.80),
    "pcgrad+dgr": ((0.5431, 0.8999, 0.7986), 2.50),
    "cagrad": ((0.5390, 0.9239, 0.7994), 3.17),
    "cagrad+dgr": ((0.5510, 0.9169, 0.8094), 4.11),
    "imtl": ((0.5250, 0.9173, 0.8039), 2.23),
    "imtl+dgr": ((0.5430, 0.9020, 0.8051), 2.86),
    "nash_mtl": ((0.5485, 0.9172, 0.8021), 3.64),
    "nash_mtl+dgr": ((0.5545, 0.9063, 0.8055), 3.77),
}
# Table 2 (NYUv2, Split): mean angle of normals (less is better), mIoU, absolute depth error (less is better).
ROOM_TASKS = ("normals", "segmentation", "depth")
ROOM_SINGLE = (22.40, 43.37, 52.24)
ROOMS = {
    "vanilla": ((24.19, 46.02, 41.36), 6.32),
    "vanilla+dgr": ((23.98, 47.11, 40.11), 8.26),
    "dwa": ((24.20, 45.84, 41.58), 6.02),
    "dwa+dgr": ((24.18, 46.43, 41.08), 6.82),
    "uncertainty": ((24.24, 46.46, 41.04), 6.78),
    "uncertainty+dgr": ((24.34, 46.52, 40.80), 6.83),
    "auto_lambda": ((23.60, 48.20, 39.83), 9.85),
    "auto_lambda+dgr": ((23.60, 48.04, 39.45), 9.96),
    "pcgrad": ((24.55, 45.41, 42.32), 4.70),
    "pcgrad+dgr": ((24.03, 46.71, 41.20), 7.19),
    "cagrad": ((23.39, 46.79, 40.55), 8.61),
    "cagrad+dgr": ((23.28, 47.48, 39.81), 9.78),
    "imtl": ((22.45, 50.11, 38.69), 13.75),
    "imtl+dgr": ((22.37, 49.62, 37.70), 14.13),
    "nash_mtl": ((23.60, 48.20, 39.83), 9.85),
    "nash_mtl+dgr": ((22.54, 48.25, 39.53), 11.65),
}


def named(tasks, values):
    return dict(zip(tasks, values, strict=True))


@pytest.mark.parametrize("method", FACES)
def test_reproduces_the_paper_on_faces(method):
    values, printed = FACES[method]
    found = delta_mtl(named(FACE_TASKS, values), named(FACE_TASKS, FACE_SINGLE))
    assert found == pytest.approx(printed, abs=0.0101)  # scores are printed to four digits


@pytest.mark.parametrize("method", ROOMS)
def test_reproduces_the_paper_on_rooms(method):
    values, printed = ROOMS[method]
    found = delta_mtl(named(ROOM_TASKS, values), named(ROOM_TASKS, ROOM_SINGLE), lower_is_better={"normals", "depth"})
    assert found == pytest.approx(printed, abs=0.0101)


def test_no_change_is_no_gain_and_units_do_not_matter():
    assert delta_mtl({"a": 0.3, "b": 7.0}, {"a": 0.3, "b": 7.0}) == 0.0
    metres = delta_mtl({"a": 1.1, "b": 0.9}, {"a": 1.0, "b": 1.0}, lower_is_better=["b"])
    assert metres == pytest.approx(10.0)
    assert delta_mtl({"a": 1.1, "b": 900.0}, {"a": 1.0, "b": 1000.0}, lower_is_better=["b"]) == pytest.approx(metres)


def test_says_nan_or_what_is_wrong_where_there_is_no_gain_to_tell():
    assert math.isnan(delta_mtl({"a": 0.5}, {"a": 0.0}))
    assert math.isnan(delta_mtl({"a": 0.5}, {"a": -0.1}))
    assert math.isnan(delta_mtl({"a": math.nan}, {"a": 0.5}))
    with pytest.raises(InputError, match="same tasks"):
        delta_mtl({"a": 0.5}, {"a": 0.5, "b": 0.5})
    with pytest.raises(InputError, match=r"\(none\)"):
        delta_mtl({}, {})


def rows(encoder, seed, values, metric="accuracy"):
    return [
        {"encoder": encoder, "seed": seed, "task": task, "metric": metric, "value": value}
        for task, value in values.items()
    ]


def test_frame_compares_every_seed_with_the_mean_of_the_baseline():
    frame = pd.DataFrame(
        rows("single", 0, {"a": 0.4, "b": 0.8})
        + rows("single", 1, {"a": 0.6, "b": 0.8})
        + rows("vanilla", 0, {"a": 0.55, "b": 0.8})
        + rows("vanilla", 1, {"b": 0.72, "a": 0.5})
    )
    table = delta_frame(frame)
    assert table[["encoder", "seed"]].values.tolist() == [["vanilla", 0], ["vanilla", 1]]
    assert table["delta"].tolist() == pytest.approx([5.0, -5.0])


def test_frame_knows_that_an_error_is_better_when_smaller():
    frame = pd.DataFrame(rows("single", 0, {"age": 10.0}, "mae") + rows("vanilla", 0, {"age": 9.0}, "mae"))
    assert delta_frame(frame)["delta"].tolist() == pytest.approx([10.0])


def test_frame_refuses_what_it_cannot_compare():
    frame = pd.DataFrame(rows("single", 0, {"a": 0.4}) + rows("vanilla", 0, {"a": 0.5}))
    with pytest.raises(InputError, match="no rows of the baseline 'alone'; the table has single, vanilla"):
        delta_frame(frame, baseline="alone")
    with pytest.raises(InputError, match="choose one probe"):
        delta_frame(pd.concat([frame, frame]))
    with pytest.raises(InputError, match="no column value"):
        delta_frame(frame.drop(columns="value"))
