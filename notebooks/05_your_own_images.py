# %% [markdown]
# # Your own images and labels
#
# A CSV with a column `image` and any number of label columns is a data set. Here one is made from scikit-learn's
# digits, with a class, an ordered class and a real value a picture, and some labels missing.

# %%
import csv
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from reprkit import Embeddings
from reprkit.analysis import probe
from reprkit.data import load_dataset
from reprkit.recipe import DataConfig, ModelConfig, ProbeConfig, Recipe, TrainConfig
from reprkit.training import embed, score_test_split, train

digits = load_digits()
folder = Path("own_images")
folder.mkdir(exist_ok=True)
with open(folder / "labels.csv", "w", newline="") as handle:
    writer = csv.writer(handle)
    writer.writerow(["image", "digit", "size", "ink"])
    for i, (picture, digit) in enumerate(zip(digits.images[:600], digits.target, strict=False)):
        Image.fromarray((picture * 255 / 16).astype(np.uint8)).save(folder / f"{i:04d}.png")
        ink = picture.mean() / 16
        size = ["small", "medium", "large"][min(2, int(ink * 8) - 1)] if i % 10 else ""  # a tenth is not labelled
        writer.writerow([f"{i:04d}.png", digit, size, f"{ink:.4f}"])

# %% [markdown]
# Kinds are inferred: whole numbers and text are classes, other numbers are regression. Say so where that is wrong.

# %%
recipe = Recipe(
    name="own_images",
    methods=("vanilla+dgr",),
    data=DataConfig(name="table", root=str(folder / "labels.csv"), image_size=16, kinds={"digit": "classification"}),
    model=ModelConfig(encoder="convnet"),
    train=TrainConfig(epochs=3, batch_size=32),
)
dataset = load_dataset(recipe.data)
print(dataset.summary())

# %%
run_folder = train(recipe, "runs/own_images", dataset=dataset, progress=False)
print(score_test_split(run_folder, dataset).read_text())

# %% [markdown]
# Frozen, dumped to HDF5, and probed. `reprkit run RECIPE --data labels.csv` does all of this for methods x seeds.

# %%
with Embeddings(embed(run_folder, dataset=dataset, progress=False)) as embeddings:
    table = probe(embeddings, config=ProbeConfig(probes=("knn", "linear")))
table.loc[table["metric"].isin(["accuracy", "r2"]), ["task", "probe", "metric", "value", "low", "high"]]
