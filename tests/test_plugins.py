"""Packages that add data sets, encoders, methods and probes by entry points: a real one on the import path, used."""

import json
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import log_loss
from sklearn.naive_bayes import GaussianNB

from reprkit import plugins
from reprkit.analysis.probes import external, probe_with_predictions, suite
from reprkit.cli import main
from reprkit.config import load_recipe
from reprkit.data import load_dataset
from reprkit.embeddings import Embeddings
from reprkit.errors import InputError
from reprkit.models import build_encoder
from reprkit.recipe import DataConfig, ModelConfig, ProbeConfig, Recipe, TrainConfig, split_method
from reprkit.training.balancing import build_method

CODE = '''
import numpy as np
import torch
from sklearn.naive_bayes import GaussianNB
from torch import nn

from reprkit.analysis.probes import EstimatorProbe
from reprkit.data import ImageDataset
from reprkit.tasks import Task

imported = True


def stripes(config, cache_dir):
    """Images whose columns or rows are bright."""
    rng = np.random.default_rng(0)
    kind = np.arange(120) % 2
    images = rng.integers(0, 99, (120, 1, 8, 8)).astype(np.uint8)
    images[kind == 0, :, ::2] += 150
    images[kind == 1, :, :, ::2] += 150
    split = np.repeat([0, 1, 2], [72, 24, 24]).astype(np.uint8)
    return ImageDataset(
        "stripes", (Task("kind", "classification", 2),), images, {"kind": kind},
        np.array([f"s{i}" for i in range(120)]), split, (0.5,), (0.3,), "a" * 64, "b" * 64, "c" * 64, "as given",
    )


class Tiny(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, 6, 3, padding=1)

    def forward(self, images):
        return self.conv(images).relu().amax((2, 3))


def tiny(in_channels, *, dense):
    return Tiny(in_channels), 6


def first_only(gram):
    weights = torch.zeros(len(gram), dtype=gram.dtype)
    weights[0] = 0.75
    return weights


bayes = EstimatorProbe(classifier=GaussianNB(), grid={"var_smoothing": (1.0, 1e-9)})
number = 7
'''

OFFERED = {
    "datasets": {"stripes": "stripes"},
    "encoders": {"tiny": "tiny"},
    "methods": {"first_only": "first_only"},
    "probes": {"bayes": "bayes"},
}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a package with entry points on the import path, as pip would leave it there."""
    for name in ("FITS", "CLASSES_ONLY"):  # what it adds is taken away again
        monkeypatch.setattr(suite, name, type(getattr(suite, name))(getattr(suite, name)))

    def make(points=OFFERED, *, code=CODE, package="striped"):
        site = tmp_path / package
        info = site / f"{package}-1.2.dist-info"
        info.mkdir(parents=True)
        (site / f"{package}_code.py").write_text(textwrap.dedent(code))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        lines = []
        for kind, names in points.items():
            lines += [f"[reprkit.{kind}]", *(f"{name} = {package}_code:{at}" for name, at in names.items()), ""]
        (info / "entry_points.txt").write_text("\n".join(lines))
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.delitem(sys.modules, f"{package}_code", raising=False)
        return site

    return make


@pytest.fixture
def file(tmp_path):
    """Embeddings of one task of classes and one of values."""
    rng = np.random.default_rng(0)
    left, split = rng.integers(0, 3, 340), np.repeat(["train", "val", "test"], [160, 80, 100])
    z = rng.normal(size=(340, 6)) + left[:, None]
    np.savez(tmp_path / "mine.npz", z=z, y_left=left, y_age=z[:, 0] + 0.1 * left, split=split, ids=np.arange(340))
    with Embeddings(tmp_path / "mine.npz") as opened:
        yield opened


def test_without_packages_nothing_is_offered():
    assert all(plugins.names(kind) == () for kind in plugins.KINDS)
    assert plugins.described() == []


def test_an_epoch_on_its_data_with_its_encoder_and_method(install, tmp_path):
    install()
    from reprkit.training import train
    from reprkit.training.checkpoint import read_header

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "methods: [first_only+dgr]\ndata: {name: stripes}\nmodel: {encoder: tiny}\ntrain: {epochs: 1, batch_size: 24}"
    )
    folder = train(load_recipe(recipe), tmp_path / "run")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["weight"] for row in rows if row["split"] == "train"] == [{"kind": 0.75}]
    header = read_header(folder / "best.safetensors")
    assert (header["recipe"]["model"]["encoder"], header["recipe"]["data"]["name"]) == ("tiny", "stripes")


@pytest.mark.slow
def test_all_four_kinds_in_one_run_of_a_recipe(install, tmp_path, capsys):
    install()
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "methods: [first_only+dgr]\ndata: {name: stripes}\nmodel: {encoder: tiny}\n"
        "train: {epochs: 1, batch_size: 24}\nprobe: {probes: [bayes, linear], bootstrap: 50, few_shot_draws: 0}\n"
        "universality: {num_dummies: 4, bootstrap: 20}\ntsne: {samples: 20, perplexity: 5, iterations: 20}\n"
    )
    assert main(["run", str(recipe), "--out", str(tmp_path / "run")]) == 0, capsys.readouterr().err
    folder = tmp_path / "run" / "runs" / "first_only+dgr" / "seed0"
    table = pd.read_csv(folder / "probes.csv")
    bayes = table[table["probe"] == "bayes"]
    assert len(bayes) == len(table[table["probe"] == "linear"].query("metric in @bayes.metric")) > 0
    assert bayes["status"].str.contains("probe of striped 1.2", regex=False).all()
    assert bayes["n_test"].eq(24).all()
    assert "bayes" in (tmp_path / "run" / "report.html").read_text().lower()
    assert main(["inspect", str(folder)]) == 0
    assert "encoder: tiny" in capsys.readouterr().out


def test_nothing_is_imported_before_its_use_but_names_are_known(install, capsys):
    install()
    assert split_method("first_only+dgr") == ("first_only", ("dgr",))
    ModelConfig(encoder="tiny")
    ProbeConfig(probes=("bayes",))
    for words, expected in ((["run", "--help"], "stripes (striped 1.2)"), (["compare", "--help"], "mlp bayes")):
        assert main(words) == 0
        assert expected in " ".join(capsys.readouterr().out.split())
    for kind, own in (("method", lambda: split_method("x")), ("encoder", lambda: ModelConfig(encoder="x"))):
        with pytest.raises(InputError, match=rf"{kind}.*choose from .*(tiny|first_only)"):
            own()
    assert "striped_code" not in sys.modules
    with pytest.raises(InputError, match="camvid, stripes"):
        load_dataset(DataConfig(name="x"))
    assert "striped_code" not in sys.modules


def test_a_probe_is_chosen_on_val_and_predicts_test_once(install, file):
    install()
    found = probe_with_predictions(file, config=ProbeConfig(probes=("bayes",), bootstrap=20), progress=False)
    assert set(found.frame.query("probe == 'bayes'")["task"]) == {"left"}  # no regressor, no row
    assert file.tasks["age"].kind == "regression"
    z = {split: file.z(split).astype(np.float64) for split in file.splits}
    mean, std = z["train"].mean(0), z["train"].std(0)
    z = {split: (rows - mean) / std for split, rows in z.items()}
    y = {split: file.targets(split, "left") for split in file.splits}
    models = {v: GaussianNB(var_smoothing=v).fit(z["train"], y["train"]) for v in (1.0, 1e-9)}
    best = max(models, key=lambda v: models[v].score(z["val"], y["val"]))
    row = found.frame.query("probe == 'bayes' and metric == 'accuracy'").iloc[0]
    assert json.loads(row["params"]) == {"var_smoothing": best}
    assert "probe of striped 1.2" in row["status"]
    assert row["val_value"] == pytest.approx(models[best].score(z["val"], y["val"]))
    assert row["value"] == pytest.approx(models[best].score(z["test"], y["test"]))
    np.testing.assert_array_equal(found.predictions["left"]["bayes"], models[best].predict(z["test"]))
    loss = found.frame.query("probe == 'bayes' and metric == 'log_loss'")["value"].item()
    assert loss == pytest.approx(log_loss(y["test"], models[best].predict_proba(z["test"])), rel=1e-6)


def test_a_class_that_a_probe_has_not_seen_is_impossible_to_it():
    model = GaussianNB().fit([[0.0], [1], [0], [1]], [0, 2, 0, 2])
    log_p = external._log_probabilities(model, np.array([[0.4], [0.9]]), 4)
    np.testing.assert_allclose(np.exp(log_p[:, [0, 2]]), model.predict_proba([[0.4], [0.9]]))
    assert np.isneginf(log_p[:, [1, 3]]).all()


def use(kind, name):
    """Make use of a name, whatever its kind."""
    if kind == "datasets":
        return load_dataset(DataConfig(name=name))
    if kind == "encoders":
        return build_encoder(name, 1)
    if kind == "methods":
        return build_method(name, Recipe().balancing, 2, 0)
    from reprkit.analysis.probes.protocol import expand_probes

    return expand_probes([name])


@pytest.mark.parametrize("kind", plugins.KINDS)
@pytest.mark.parametrize(
    ("at", "words"),
    [("absent", "AttributeError"), ("number", "striped_code:number"), ("Tiny", "striped_code:Tiny")],
)
def test_what_cannot_be_used_is_named_in_one_line(install, kind, at, words):
    """Neither a missing object, nor a number, nor a class is a data set, an encoder, a method or a probe."""
    install({kind: {"mine": at}}, code=CODE.replace("def forward", "def backward"))
    with pytest.raises(InputError) as caught:
        use(kind, "mine")
    message = str(caught.value)
    assert "\n" not in message
    for word in ("'mine' of striped 1.2", words, "pip uninstall striped"):
        assert word in message


def test_a_package_that_fails_to_import(install, capsys, tmp_path):
    install({"datasets": {"mine": "x"}}, code="raise RuntimeError('no\\nluck')")
    (tmp_path / "recipe.yaml").write_text("data: {name: mine}")
    assert main(["run", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "cannot be imported (RuntimeError: no luck)" in lines[0]


@pytest.mark.parametrize(
    ("kind", "name"), [("datasets", "digits"), ("encoders", "convnet"), ("methods", "vanilla"), ("probes", "ncm")]
)
def test_names_that_are_taken(install, kind, name):
    install({kind: {name: next(iter(OFFERED[kind].values())), "mine": "number"}})
    with pytest.raises(InputError, match=f"'{name}' of striped 1.2.*is taken.*pip uninstall striped"):
        use(kind, name)
    install({kind: {"mine": "number"}}, package="second")
    with pytest.raises(InputError, match=r"that (second|striped) 1.2 takes too"):
        use(kind, "mine")


def test_weights_of_another_shape_are_refused(install, tmp_path):
    install({"methods": {"scalar": "scalar"}}, code="import torch\nscalar = torch.sum")
    from reprkit.training import train

    recipe = Recipe(methods=("scalar",), train=TrainConfig(epochs=1))
    with pytest.raises(InputError, match=r"weights \[3\], but gave \[\]"):
        train(recipe, tmp_path / "run")


def test_wrong_outcomes_of_a_probe_are_refused(install, file):
    code = """
    import numpy as np
    from reprkit.analysis.probes import Outcome

    def nothing(workspace, data, protocol):
        return 1.0

    def short(workspace, data, protocol):
        return Outcome(np.zeros(3, int), {}, 0.0, 5)

    def beyond(workspace, data, protocol):
        return Outcome(np.full(len(data.y["test"]), 9), {}, 0.0, 5)
    """
    names = ("nothing", "short", "beyond")
    install({"probes": {name: name for name in names}}, code=code)
    for name, why in zip(names, ("returned a float", r"predicted \(3,\) of 100", "no class index"), strict=True):
        with pytest.raises(InputError, match=why):
            probe_with_predictions(file, config=ProbeConfig(probes=(name,), bootstrap=20), progress=False)


def test_every_encoder_has_its_own_weighting(install):
    install(
        {"methods": {"counting": "counting"}},
        code="""
        import torch

        class Counting(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("calls", torch.zeros(()))

        counting = Counting()
        """,
    )
    first, second = use("methods", "counting"), use("methods", "counting")
    first.weighting.calls += 1
    assert torch.equal(second.weighting.calls, torch.zeros(()))
