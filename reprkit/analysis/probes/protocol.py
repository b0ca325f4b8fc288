"""The probe protocol: which hyperparameters are tried, what chooses them, and the id that names all of it.

The rules, for every probe alike:

- models, the scaler and the neighbour bank are fitted on the train split only, and never refitted on train + val;
- hyperparameters are chosen on the val split: lowest log-loss for the linear probe, highest accuracy for the others,
  highest R2 for regression targets; equal values go to the simpler model (grids run from simple to complex);
- the test split is predicted once, by the chosen model;
- samples whose target is missing are left out of their task, in each split.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reprkit.errors import InputError
from reprkit.recipe import PROBES, config_digest

FLOOR = "prior"
"""The floor that every table starts with: the majority class, or the mean, of the train split."""


def half_decades(low: int, high: int) -> tuple[float, ...]:
    """Powers of ten from 10^low to 10^high in steps of half a decade."""
    return tuple(float(f"{10 ** (i / 2):.4g}") for i in range(2 * low, 2 * high + 1))


@dataclass(frozen=True)
class Protocol:
    """Everything that settles a probe's numbers besides the embeddings; grids run from simple to complex.

    Attributes:
        version: raised whenever a change of code changes results.
        neighbors: kNN, k. Larger than the number of train samples are left out.
        votes: kNN, `uniform` or `exp`: exp(cosine / temperature), as in instance discrimination and DINO.
        temperature: of the `exp` vote.
        linear_c: inverse regularisation strength of the logistic probe (scikit-learn's C). The path is walked from
            strong to weak and left after two steps on which the validation loss rose.
        ridge_alpha: regularisation of the linear probe of regression targets (scikit-learn's alpha).
        svm_linear_c: C of the linear SVM (squared hinge, one against the rest).
        svm_rbf_c: C of the RBF SVM (hinge, one against one); gamma is 1 / (D * variance) of the standardised train
            split, scikit-learn's "scale".
        epsilon: half-width of the tube of both regression SVMs, in standard deviations of the target.
        depths: decision tree, largest depth; None has no limit.
        leaves: decision tree, fewest train samples of a leaf.
        max_svm: train samples for the exact RBF SVM; above it a stratified subsample is used.
        bootstrap: resamples of the test samples for intervals.
        seed: of the subsample, the tree's tie-breaking, and the resamples.
        carve: one in `carve` train samples, chosen by a hash of their ids, stands in for a val split that a file
            does not have; 0 when it has one.
    """

    version: int = 1
    neighbors: tuple[int, ...] = (100, 50, 20, 10, 5, 1)
    votes: tuple[str, ...] = ("uniform", "exp")
    temperature: float = 0.07
    linear_c: tuple[float, ...] = half_decades(-5, 2)
    ridge_alpha: tuple[float, ...] = half_decades(-2, 6)[::-1]
    svm_linear_c: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    svm_rbf_c: tuple[float, ...] = (0.1, 1.0, 10.0, 100.0)
    epsilon: float = 0.1
    depths: tuple[int | None, ...] = (5, 10, 20, None)
    leaves: tuple[int, ...] = (20, 5, 1)
    max_svm: int = 10000
    bootstrap: int = 1000
    seed: int = 0
    carve: int = 0

    @property
    def id(self) -> str:
        """Digest of all settings: numbers with the same id may be compared.

        It does not depend on which probes or tasks were asked for.
        """
        return config_digest(self)


def expand_probes(names: Iterable[str]) -> tuple[str, ...]:
    """Probe names in table order, with `svm` expanded to both SVMs.

    Raises:
        InputError: an unknown name, or none.
    """
    asked: set[str] = set()
    for name in names:
        if name == "svm":
            asked.update(("svm_linear", "svm_rbf"))
        elif name in PROBES:
            asked.add(name)
        elif name != FLOOR:  # the floor is always there
            raise InputError(f"probe '{name}' is unknown; choose from {', '.join(PROBES)}, svm")
    return tuple(name for name in PROBES if name in asked)


def choose_tasks(
    available: Sequence[str], trained: Sequence[str], asked: Iterable[str] | None, source: str
) -> list[str]:
    """The tasks to evaluate: those asked for, else those the encoder was trained on, else all of the file.

    Raises:
        InputError: an unknown task, or none at all.
    """
    names = list(asked) if asked is not None else [name for name in trained if name in available] or list(available)
    for name in names:
        if name not in available:
            raise InputError(f"{source}: has no task '{name}'; choose from {', '.join(available)}")
    if not names:
        raise InputError(f"{source}: holds no task to evaluate; store targets next to the embeddings")
    return list(dict.fromkeys(names))
