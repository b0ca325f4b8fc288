# %% [markdown]
# # Explore embeddings, whoever made them
#
# Features, labels and names in an `.npz` are all it takes. Here they are scikit-learn's handwritten digits, with two
# stand-ins for encoders: the raw pixels, and their principal components rescaled to equal spread.

# %%
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from reprkit import Embeddings
from reprkit.analysis import Workspace, explore, geometry, probe, universality
from reprkit.analysis.explorer import pack_sprites
from reprkit.recipe import ProbeConfig, TsneConfig, UniversalityConfig

digits = load_digits()
pixels = digits.data.astype(np.float32)
centred = pixels - pixels.mean(0)
_, values, axes = np.linalg.svd(centred, full_matrices=False)
whitened = centred @ axes[:32].T / values[:32] * np.sqrt(len(pixels))

ids = np.array([f"digit{i:04d}" for i in range(len(pixels))])
split = np.random.default_rng(0).choice(["train", "val", "test"], len(pixels), p=[0.6, 0.2, 0.2])
folder = Path("embeddings")
folder.mkdir(exist_ok=True)
for name, z in (("pixels", pixels), ("whitened", whitened)):
    np.savez(folder / f"{name}.npz", z=z, y_digit=digits.target, ids=ids, split=split)

# %% [markdown]
# ## A page to look at
#
# Hover, lasso, search; colour by target, by a linear probe's prediction, by its errors, or by *who moved*: the share of
# the ten nearest neighbours that a sample has with both encoders. `page.write("page.html")` makes a file to send.

# %%
images = [(image * 255 / 16).astype(np.uint8) for image in digits.images]
page = explore(
    folder / "pixels.npz",
    folder / "whitened.npz",
    sprites=pack_sprites(list(ids), images),
    config=TsneConfig(samples=300, iterations=250),
)
page

# %% [markdown]
# ## Numbers with intervals
#
# One `Workspace` a file lets the analyses share their work. Settings of probes are chosen on `val`; `test` serves once.

# %%
with Embeddings(folder / "pixels.npz") as embeddings:
    space = Workspace(embeddings)
    probes = probe(space, config=ProbeConfig(probes=("knn", "linear", "tree")))
    scores = universality(space, config=UniversalityConfig(num_dummies=16))
    shape = geometry(space)

probes.loc[probes["metric"] == "accuracy", ["probe", "value", "low", "high", "n_test"]]

# %%
scores[["task", "status", "U_rel", "U_rel_low", "U_rel_high", "L_star", "H_y", "rms", "effective_rank"]].T

# %%
shape.loc[shape["task"] == "", ["metric", "value", "low", "high"]].dropna(subset="value")
