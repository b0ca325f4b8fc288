# %% [markdown]
# # DGR in a plain PyTorch loop
#
# Dummy Gradient norm Regularization adds to the loss how strongly fresh random heads would still have to change. It
# depends on the encoder through its output z alone, so one line in the loop is enough, and the encoder still runs once
# forward and once backward.

# %%
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from reprkit import Embeddings
from reprkit.analysis import universality
from reprkit.tasks import Task
from reprkit.training import DummyGradientNorm

digits = load_digits()
x = torch.from_numpy(digits.data / 16).float()
targets = {"digit": torch.from_numpy(digits.target), "parity": torch.from_numpy(digits.target % 2)}
tasks = [Task("digit", "classification", 10), Task("parity", "classification", 2)]
order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
train, val, test = order[:1000], order[1000:1300], order[1300:]


# %%
def fit(weight, epochs=15):
    """Train an encoder with two heads; `weight` is lambda, the price of the penalty."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32), nn.ReLU())
    heads = nn.ModuleDict({task.name: nn.Linear(32, task.num_outputs) for task in tasks})
    penalty = DummyGradientNorm(heads, tasks)  # 1: dummies like the heads, with fresh weights that nothing trains
    optimizer = torch.optim.Adam([*encoder.parameters(), *heads.parameters()], lr=2e-3)
    for _ in range(epochs):
        for rows in train[torch.randperm(len(train))].split(64):
            batch = {name: y[rows] for name, y in targets.items()}
            z = encoder(x[rows])
            loss = sum(task.loss(heads[task.name](z), batch[task.name]) for task in tasks)
            loss = loss + weight * penalty(z, batch)  # 2: the whole of DGR
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        return encoder(x).numpy()


# %% [markdown]
# ## Did it help, and is it more than a smaller z?
#
# The paper's U rises whenever z shrinks. `U_rel` (on centred, RMS-1 features) and `U_rel_tau` (free of scale) do not.

# %%
split = np.empty(len(x), dtype="<U5")
for name, rows in (("train", train), ("val", val), ("test", test)):
    split[rows.numpy()] = name
columns = ["encoder", "task", "U", "U_rel", "U_rel_low", "U_rel_high", "U_rel_tau", "L_star", "rms", "effective_rank"]
frames = []
for weight in (0.0, 0.1):
    z = fit(weight)
    made = Embeddings.from_arrays(
        z, {name: y.numpy() for name, y in targets.items()}, tasks=tasks, split=split, label=f"lambda = {weight}"
    )
    frames.append(universality(made)[columns])
import pandas as pd

pd.concat(frames).set_index(["task", "encoder"]).sort_index()

# %% [markdown]
# One seed says nothing about another. `reprkit run` trains methods x seeds and puts intervals on every difference.
