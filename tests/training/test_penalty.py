"""The dummies of training: one rule makes them, and the embeddings file keeps what training used."""

import numpy as np
import pytest
import torch

from reprkit.embeddings import Embeddings
from reprkit.recipe import DGRConfig, ModelConfig, Recipe, TrainConfig
from reprkit.training import embed
from reprkit.training.build import build_update
from reprkit.training.checkpoint import save_checkpoint
from reprkit.training.job import Job, fingerprints
from reprkit.training.ranks import Ranks


def untrained(folder, dataset, *, method="vanilla+dgr", seed=5, hidden=8, **dgr):
    """A checkpoint as training begins, and the penalty that it would train against."""
    recipe = Recipe(
        methods=(method,), model=ModelConfig(head_hidden=hidden), dgr=DGRConfig(num_dummies=2, **dgr),
        train=TrainConfig(epochs=1),
    )  # fmt: skip
    job = Job(recipe, method, seed)
    update = build_update(job, dataset, Ranks(), torch.device("cpu"))
    meta = {
        "recipe": job.portable_recipe(),
        "method": method,
        "seed": seed,
        "task": "",
        "tasks": [task.to_json() for task in dataset.tasks],
        "image_shape": list(dataset.image_shape),
        "epoch": 0,
        "step": 0,
        "val_score": None,
        "fingerprints": fingerprints(dataset),
    }
    save_checkpoint(folder / "best.safetensors", update.objective.model, meta)
    return update.objective.penalty


@pytest.mark.parametrize(
    ("options", "linear"),
    [
        ({}, False),
        ({"hidden": 0}, True),
        ({"activation": "linear"}, True),
        ({"activation": "relu", "power": 2, "control": "random_direction"}, False),
        ({"seed": 6, "method": "pcgrad+dgr+sam"}, False),
    ],
)
def test_the_file_keeps_the_dummies_of_training(tmp_path, small_digits, options, linear):
    penalty = untrained(tmp_path, small_digits, **options)
    with Embeddings(embed(tmp_path, dataset=small_digits)) as embeddings:
        for k, task in enumerate(small_digits.tasks):
            found = embeddings.training_dummies(task.name)
            assert found.is_linear == linear
            for m, heads in enumerate(penalty.sets):
                z = torch.randn(6, embeddings.dim)
                with torch.no_grad():
                    expected = heads[k](z).numpy()
                if linear:
                    logits = z.numpy() @ found.layers["weight"][m].T + found.layers["bias"][m]
                else:
                    hidden = np.maximum(z.numpy() @ found.layers["first"][m].T + found.layers["first_bias"][m], 0)
                    logits = hidden @ found.layers["second"][m].T + found.layers["second_bias"][m]
                np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{"method": "vanilla"}, {"activation": "gelu"}])
def test_files_without_dummies(tmp_path, small_digits, options):
    untrained(tmp_path, small_digits, **options)
    with Embeddings(embed(tmp_path, dataset=small_digits)) as embeddings:
        assert embeddings.training_dummies("sum") is None


@pytest.mark.filterwarnings("error::UserWarning")
def test_embedding_does_not_repeat_the_warning_of_the_finite_difference(tmp_path, small_digits):
    with pytest.warns(UserWarning, match="finite differences"):
        untrained(tmp_path, small_digits, estimator="finite_difference")
    with Embeddings(embed(tmp_path, dataset=small_digits)) as embeddings:
        assert embeddings.training_dummies("sum") is not None
