# %% [markdown]
# # Compare encoders honestly
#
# Two encoders on the same test samples: a difference means something only beside its interval. And one trap: the
# paper's universality U is largest for an encoder that has collapsed.

# %%
import numpy as np
from sklearn.datasets import load_digits

from reprkit import Embeddings
from reprkit.analysis import collapse_check, compare, universality

digits = load_digits()
rng = np.random.default_rng(0)
split = rng.choice(["train", "val", "test"], len(digits.data), p=[0.5, 0.2, 0.3])
pixels = (digits.data - digits.data.mean(0)).astype(np.float32) / 16


def encoder(z, label):
    """Embeddings in memory; `ids` make sure that the same samples are compared."""
    ids = [f"digit{i:04d}" for i in range(len(z))]
    return Embeddings.from_arrays(z, {"digit": digits.target}, split=split, ids=ids, label=label)


good = encoder(pixels, "pixels")
blurred = encoder(pixels @ np.kron(np.eye(8), np.ones((8, 8)) / 8).astype(np.float32) + 0.1 * pixels, "blurred")
collapsed = encoder(1 + 1e-3 * rng.normal(size=pixels.shape).astype(np.float32), "collapsed")

# %% [markdown]
# ## Paired differences
#
# Each row: the difference on the same test samples, its bootstrap interval, McNemar's exact test with Holm's correction
# over the looks taken, and the smallest difference that this test set could have shown.

# %%
found = compare(good, blurred, probes=("knn", "linear"), parts=("probes",))
found.loc[found["metric"] == "accuracy", ["task", "name", "difference", "low", "high", "p_holm", "reading"]]

# %% [markdown]
# ## The trap
#
# The collapsed encoder sends every image to the same point: nothing can be read from it. Random heads are then hardly
# worse than the best head, the gap between them is small, and the paper's U is several times that of the pixels. U_rel
# does not exist where there is nothing to extract, and the verdict says what happened.

# %%
import pandas as pd

table = pd.concat([universality(good), universality(collapsed)], ignore_index=True)
table[["encoder", "U", "gap", "U_rel", "U_rel_tau", "L_star", "rms", "effective_rank", "status"]].T

# %%
collapse_check(table, baseline="pixels")
