# %% [markdown]
# # The paper's figures from run folders
#
# `reprkit run RECIPE` leaves a folder of plain tables. Everything drawn from it can be drawn again, figure by figure,
# and every figure keeps the numbers behind it in a CSV. Here a small run of the embedded digits; or a folder of yours.

# %%
from pathlib import Path

from reprkit.analysis.figures import probe_figure, tsne_figure, universality_figure
from reprkit.analysis.reporting.results import load_results
from reprkit.recipe import ProbeConfig, Recipe, TrainConfig, TsneConfig, UniversalityConfig
from reprkit.run import run

recipe = Recipe(
    name="notebook",
    methods=("vanilla", "vanilla+dgr"),
    seeds=(0, 1),
    train=TrainConfig(epochs=1),
    probe=ProbeConfig(probes=("knn", "linear"), few_shot_draws=0),
    universality=UniversalityConfig(num_dummies=16, bootstrap=100),
    tsne=TsneConfig(samples=300, iterations=250),
)
report = run(recipe, Path("runs") / recipe.name, progress=False)
results = load_results(report.parent)
report

# %% [markdown]
# ## Figure 3(a): simple predictors on frozen embeddings

# %%
probe_figure(results.probes, tasks=results.tasks)

# %% [markdown]
# ## Figure 3(b): maps of the same test samples

# %%
tsne_figure(results.tsne, results.tasks, results.tsne_quality)

# %% [markdown]
# ## Universality, with what it must be read with

# %%
universality_figure(results.universality)

# %% [markdown]
# The scripts in `analysis/` write the same as PDF, PNG and CSV, and the tables as CSV, Markdown and LaTeX:
# `python analysis/figure3a.py --runs runs/notebook --out figures`.
