"""Controls are measured like encoders, and say what they must."""

from __future__ import annotations

import numpy as np
import pytest

from reprkit.analysis import universality
from reprkit.analysis.controls import controls
from reprkit.analysis.workspace import Workspace
from reprkit.embeddings import EmbeddingsWriter, SplitRows
from reprkit.errors import InputError
from reprkit.recipe import ProbeConfig, UniversalityConfig

QUICK = UniversalityConfig(num_dummies=8, bootstrap=60)
PROBES = ProbeConfig(probes=("ncm", "linear"), bootstrap=60)
OPTIONS = {"config": QUICK, "probes": PROBES, "progress": False}


@pytest.fixture(scope="module")
def encoder(toy):
    return toy(classes={"left": 3, "years": 4}, kinds={"years": "regression"}, noise=0.6, label="vanilla")


def write(path, like, z, **changes):
    """A file of the same samples with another z."""
    rows = {
        split: SplitRows(like.ids(split), {name: like.targets(split, name) for name in like.tasks})
        for split in like.splits
    }
    options = {"splits": rows, "tasks": list(like.tasks.values()), "dim": z["train"].shape[1], **changes}
    with EmbeddingsWriter(path, **options) as writer:
        for split in options["splits"]:
            writer.append(split, z[split])
        return writer.finish()


@pytest.fixture(scope="module")
def found(encoder, tmp_path_factory):
    z = {split: 5 * encoder.z(split) for split in encoder.splits}
    path = write(tmp_path_factory.mktemp("controls") / "scaled.h5", encoder, z)
    return controls(encoder, others={"scaled": path}, **OPTIONS)


def test_a_constant_is_not_universal_by_u_rel(found) -> None:
    rows = found.universality[found.universality["encoder"] == "constant"].set_index("task")
    assert set(rows["status"]) == {"no_headroom"}
    assert rows["U_rel"].isna().all()
    assert (rows["effective_rank"] == 0).all()
    np.testing.assert_allclose(rows["L_star"], rows["H_y"])
    np.testing.assert_allclose(rows["L_dummy"], [np.log(3), rows["H_y"]["years"]], rtol=1e-6)
    encoders = found.universality[found.universality["encoder"] == "scaled"].set_index("task")
    assert rows["gap"]["left"] < 0.1 < 1 < encoders["gap"]["left"], "U alone would prefer the constant"
    accuracy = found.probes[(found.probes["encoder"] == "constant") & (found.probes["metric"] == "accuracy")]
    floor = accuracy[accuracy["probe"] == "prior"]["value"].iloc[0]
    assert accuracy[accuracy["probe"] == "linear"]["value"].iloc[0] == floor


def test_shuffled_labels_leave_nothing_to_find(found, encoder) -> None:
    rows = found.universality[found.universality["encoder"] == "shuffled"]
    assert set(rows["status"]) == {"no_headroom"}
    own = universality(encoder, config=QUICK)
    assert set(own["status"]) == {"ok"}
    np.testing.assert_allclose(rows["rms"].to_numpy(), own["rms"])
    probes = found.probes.set_index(["encoder", "task", "probe", "metric"])["value"]
    assert probes["shuffled", "left", "linear", "accuracy"] < 0.5 < 0.8 < probes["scaled", "left", "linear", "accuracy"]
    assert probes["shuffled", "years", "linear", "r2"] < 0.1 < 0.5 < probes["scaled", "years", "linear", "r2"]


def test_other_files_are_measured_as_encoders_are(found, encoder) -> None:
    own, scaled = universality(encoder, config=QUICK), found.universality.query("encoder == 'scaled'")
    for column in ("U_rel", "L_star", "H_y"):
        np.testing.assert_allclose(scaled[column].to_numpy(), own[column], rtol=1e-4)
    assert list(dict.fromkeys(found.universality["encoder"])) == ["constant", "shuffled", "scaled"]
    assert set(found.probes["encoder"]) == {"constant", "shuffled", "scaled"}


def test_tasks_of_a_row_stay_together_and_the_seed_decides(encoder) -> None:
    a = controls(encoder, tasks=["left"], **OPTIONS).universality
    assert set(a["task"]) == {"left"}
    b = controls(Workspace.of(encoder), tasks=["left"], seed=1, **OPTIONS).universality
    shuffled = a["encoder"] == "shuffled"
    assert (a[shuffled]["L_dummy"].to_numpy() != b[shuffled]["L_dummy"].to_numpy()).all()
    again = controls(encoder, tasks=["left"], **OPTIONS).universality
    assert again["L_dummy"].equals(a["L_dummy"])


def test_files_of_other_samples_are_refused(encoder, tmp_path) -> None:
    z = {split: encoder.z(split) for split in encoder.splits}
    rows = {
        split: SplitRows(encoder.ids(split)[::-1], {n: encoder.targets(split, n) for n in encoder.tasks})
        for split in encoder.splits
    }
    path = write(tmp_path / "turned.h5", encoder, z, splits=rows)
    with pytest.raises(InputError, match=r"turned\.h5: its train samples are not those of vanilla\.h5"):
        controls(encoder, others={"turned": path}, **OPTIONS)
    rows = {s: SplitRows(encoder.ids(s), {"left": encoder.targets(s, "left")}) for s in encoder.splits}
    path = write(tmp_path / "fewer.h5", encoder, z, splits=rows, tasks=[encoder.tasks["left"]])
    with pytest.raises(InputError, match=r"fewer\.h5: has no task 'years'"):
        controls(encoder, others={"fewer": path}, **OPTIONS)
    with pytest.raises(InputError, match="has no task 'shoe'"):
        controls(encoder, tasks=["shoe"], **OPTIONS)
