"""Linear maps against scikit-learn, and their signs."""

import numpy as np
import pytest
from scipy.linalg import eigh
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from threadpoolctl import threadpool_limits

from reprkit.analysis.maps import linear
from reprkit.analysis.maps.cloud import Cloud
from reprkit.analysis.maps.linear import discriminant_map, discriminant_plane, principal_map, principal_plane
from reprkit.analysis.probes.data import TaskData
from reprkit.analysis.probes.discriminant import fit_lda
from reprkit.analysis.probes.protocol import Protocol
from reprkit.analysis.workspace import Workspace
from reprkit.errors import InputError


@pytest.mark.parametrize("shape", [(60, 7), (9, 30)])
def test_principal_components_are_those_of_scikit_learn(shape):
    z = np.random.default_rng(0).normal(size=shape) * np.arange(1, shape[1] + 1) + 5
    plane, theirs = principal_plane(z), PCA(2).fit(z)
    assert plane.explained == pytest.approx(theirs.explained_variance_ratio_.sum())
    expected = theirs.components_.T
    expected = expected * np.sign(expected[np.abs(expected).argmax(axis=0), [0, 1]])
    np.testing.assert_allclose(plane.axes, expected, atol=1e-9)
    np.testing.assert_allclose(plane.transform(z), (z - z.mean(axis=0)) @ expected, atol=1e-9)


@pytest.mark.parametrize("missing", [False, True])
def test_discriminants_solve_fishers_eigenproblem(toy, missing):
    """On standardised train rows that have a label, with the shrinkage that the probe `lda` chose."""
    embeddings = toy(classes={"left": 5}, dim=9, sizes=(400, 100, 80), noise=2.0)
    if missing:
        embeddings._targets["left"]["train"][::3] = -1
    ws = Workspace(embeddings)
    plane, status = discriminant_plane(ws, "left")
    assert status == "ok"
    s = fit_lda(ws, TaskData.of(ws, "left"), Protocol()).params["shrinkage"]
    known = embeddings.targets("train", "left") >= 0
    x, y = ((ws.z("train") - ws.mean) * ws.scale)[known], embeddings.targets("train", "left")[known]
    means = np.stack([x[y == c].mean(axis=0) for c in range(5)])[y]
    within, between = (d.T @ d / len(d) for d in (x - means, means - x.mean(axis=0)))
    values, vectors = eigh(between, (1 - s) * within + s * np.trace(within) / 9 * np.eye(9))
    test = (ws.z("test") - ws.mean) * ws.scale
    expected = (test - x.mean(axis=0)) @ vectors[:, :-3:-1]
    ours = plane.transform(ws.z("test"))
    np.testing.assert_allclose(ours, expected * np.sign((ours * expected).sum(axis=0)), atol=1e-5)
    assert plane.explained == pytest.approx(values[-2:].sum() / values[-4:].sum(), abs=1e-6)
    loading = plane.axes / ws.scale[:, None]
    assert (loading[np.abs(loading).argmax(axis=0), [0, 1]] > 0).all()


def test_without_shrinkage_they_are_scikit_learns(toy, monkeypatch):
    monkeypatch.setattr(linear, "Protocol", lambda: Protocol(shrinkage=(0.0,)))
    embeddings = toy(classes={"left": 5}, dim=9, noise=2.0)
    plane, _ = discriminant_plane(Workspace(embeddings), "left")
    theirs = LinearDiscriminantAnalysis(solver="eigen").fit(embeddings.z("train"), embeddings.targets("train", "left"))
    ours, expected = plane.transform(embeddings.z("test")), theirs.transform(embeddings.z("test"))[:, :2]
    correlation = np.corrcoef(ours.T, expected.T)[:2, 2:]
    np.testing.assert_allclose(np.abs(correlation.diagonal()), 1, atol=1e-6)
    np.testing.assert_allclose(ours.std(axis=0), expected.std(axis=0), rtol=1e-4)
    assert plane.explained == pytest.approx(theirs.explained_variance_ratio_[:2].sum(), abs=1e-6)


def test_two_classes_have_one_discriminant_and_a_second_axis_that_says_nothing_of_them(toy):
    embeddings = toy(classes={"left": 2}, dim=6, sizes=(600, 150, 50))
    ws = Workspace(embeddings)
    plane, _ = discriminant_plane(ws, "left")
    assert plane.explained == pytest.approx(1)
    points, y = plane.transform(ws.z("train")), embeddings.targets("train", "left")
    first, second = np.abs(points[y == 0].mean(axis=0) - points[y == 1].mean(axis=0))
    assert first > 1
    assert second < 1e-4 * first
    within = np.concatenate([points[y == c] - points[y == c].mean(axis=0) for c in (0, 1)])
    np.testing.assert_allclose(within.T @ within / len(within), np.eye(2), atol=0.05)  # but for the shrinkage


def test_what_the_samples_on_the_map_carry_as_labels_plays_no_part(toy):
    embeddings = toy()
    ws, z = Workspace(embeddings), embeddings.z("test")
    made = discriminant_map(Cloud.of(z), z, ws, "left")
    embeddings._targets["left"]["test"] = embeddings._targets["left"]["test"][::-1].copy()
    again = discriminant_map(Cloud.of(z), z, Workspace(embeddings), "left")
    assert made.points.tobytes() == again.points.tobytes()
    assert made.kind == "lda:left"


def test_a_task_without_two_classes_has_no_plane(toy):
    embeddings = toy()
    embeddings._targets["left"]["train"] = np.zeros_like(embeddings._targets["left"]["train"])
    z = embeddings.z("test")
    made = discriminant_map(Cloud.of(z), z, Workspace(embeddings), "left")
    assert made.status == "no map: one class only in train"
    assert not made.points.any()


def test_threads_change_no_bit(toy, monkeypatch):
    def everything(threads):
        monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
        embeddings = toy(dim=40, sizes=(6000, 500, 500))
        z = embeddings.z("test")
        with threadpool_limits(threads):
            maps = principal_map(Cloud.of(z)), discriminant_map(Cloud.of(z), z, Workspace(embeddings), "left")
        return [made.points.tobytes() for made in maps]

    assert everything(1) == everything(2)


def test_new_samples_are_projected_and_must_fit(toy):
    embeddings = toy()
    z = embeddings.z("test")
    for made in (principal_map(Cloud.of(z)), discriminant_map(Cloud.of(z), z, Workspace(embeddings), "left")):
        np.testing.assert_allclose(made.transform(z[7:20]), made.points[7:20], atol=1e-6)
        with pytest.raises(InputError, match="12 dimensions, the map's 16"):
            made.transform(z[:, :12])
        with pytest.raises(InputError, match="NaN"):
            made.transform(np.where(np.arange(len(z))[:, None] == 3, np.nan, z))
