"""The probe protocol: which hyperparameters are tried, what chooses them, and the id that names all of it.

The rules, for every probe alike:

- models, the scaler, the principal axes and the neighbour bank are fitted on the train split only, and never refitted
  on train + val;
- hyperparameters are chosen on the val split: lowest log-loss for the probes that report one (LDA, linear, MLP),
  highest accuracy for the others, highest R2 for regression targets; equal values go to the simpler model (grids run
  from simple to complex);
- the test split is predicted once, by the chosen model;
- samples whose target is missing are left out of their task, in each split;
- class mean, LDA, linear, SVM and MLP see standardised features, kNN and the tree the raw ones.

Large files keep to the same rules with less work, and the status column tells it: linear probe and linear SVM choose C
on `subsample` train rows and are fitted once more, to all of them, at that C; trees and MLP are fitted to `max_fit`
train rows; kNN and MLP choose on `max_val` val rows; the RBF SVM has its own limit. Subsamples are stratified by class
and drawn by the seed. Whether a file is held in memory or streamed changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from reprkit import plugins
from reprkit.errors import InputError
from reprkit.recipe import PROBE_GROUPS, PROBES, config_digest

FLOOR = "prior"
"""The floor that every table starts with: the majority class, or the mean, of the train split."""

HEAD = "head"
"""The encoder's own head, by the outputs that the file holds for the test split; no row without them."""

ALWAYS = (FLOOR, HEAD)
"""Rows that need no fit and are there whatever is asked for."""


def decades(low: int, high: int, steps: int) -> tuple[float, ...]:
    """Powers of ten from 10^low to 10^high, so many steps a decade."""
    return tuple(float(f"{10 ** (i / steps):.4g}") for i in range(steps * low, steps * high + 1))


@dataclass(frozen=True)
class Protocol:
    """Everything that settles a probe's numbers besides the embeddings; grids run from simple to complex.

    Attributes:
        version: raised whenever a change of code changes results.
        shrinkage: LDA, the share of a multiple of the identity in the covariance within classes: from 1 (priors and
            distances alone) to almost none.
        neighbors: kNN, k. Larger than the number of train samples are left out.
        votes: kNN, `uniform` or `exp`: exp(cosine / temperature), as in instance discrimination and DINO.
        temperature: of the `exp` vote.
        linear_c: inverse regularisation strength of the logistic probe (scikit-learn's C). The path is walked from
            strong to weak and left after two steps on which the validation loss rose.
        ridge_alpha: regularisation of the linear probe of regression targets (scikit-learn's alpha).
        svm_linear_c: C of the linear SVM (squared hinge, one against the rest).
        svm_rbf_c: C of the RBF SVM (hinge, one against one); gamma is 1 / (D * variance) of the standardised train
            split, scikit-learn's "scale".
        nystroem_c: C of the Nystroem approximation (squared loss), 1 / alpha of its ridge regression.
        epsilon: half-width of the tube of both regression SVMs, in standard deviations of the target.
        prunings: decision tree, what a leaf costs, as a share of the impurity of the root (scikit-learn's `ccp_alpha`
            is this times that impurity), from much pruned to fully grown.
        components: decision tree on principal components, how many at most.
        rotations: decision tree on random rotations, how many.
        max_svm: train samples for the exact RBF SVM; above it, its Nystroem approximation is fitted to all of them.
        landmarks: of the Nystroem approximation, at most.
        bootstrap: resamples of the test samples for intervals.
        seed: of subsamples, landmarks, rotations, the tree's tie-breaking, the MLP, and the resamples.
        carve: one in `carve` train samples, chosen by a hash of their ids, stands in for a val split that a file
            does not have; 0 when it has one.
        groups: separator before which ids name the group of a row, where rows come in groups: carving takes whole
            groups and resamples draw whole groups.
        subsample: train samples, at most, on which the linear probe and the linear SVM choose C.
        max_fit: train samples, at most, of trees and MLP.
        max_val: val samples, at most, on which kNN and MLP choose.
    """

    version: int = 3
    shrinkage: tuple[float, ...] = (1.0, 0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.001, 0.0001)
    neighbors: tuple[int, ...] = (100, 50, 20, 10, 5, 1)
    votes: tuple[str, ...] = ("uniform", "exp")
    temperature: float = 0.07
    linear_c: tuple[float, ...] = decades(-5, 2, 2)
    ridge_alpha: tuple[float, ...] = decades(-2, 6, 2)[::-1]
    svm_linear_c: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    svm_rbf_c: tuple[float, ...] = (0.1, 1.0, 10.0, 100.0)
    nystroem_c: tuple[float, ...] = (0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0)
    epsilon: float = 0.1
    prunings: tuple[float, ...] = (*decades(-4, -1, 4)[::-1], 0.0)
    components: int = 64
    rotations: int = 5
    max_svm: int = 10000
    landmarks: int = 2048
    bootstrap: int = 1000
    seed: int = 0
    carve: int = 0
    subsample: int = 65536
    max_fit: int = 50000
    max_val: int = 10000
    groups: str = ""

    @property
    def id(self) -> str:
        """Digest of all settings: numbers with the same id may be compared.

        It does not depend on which probes or tasks were asked for.
        """
        settings = asdict(self)
        return config_digest(settings if self.groups else {k: v for k, v in settings.items() if k != "groups"})


def expand_probes(names: Iterable[str]) -> tuple[str, ...]:
    """Probe names in table order, with `svm` expanded to both SVMs and `trees` to the trees on all three bases.

    `tree` alone is the tree on the raw axes. Probes of installed packages (`external`) come last.

    Raises:
        InputError: an unknown name, or one of an installed package that cannot be used.
    """
    asked: set[str] = set()
    others = plugins.names("probes")
    for name in names:
        if name in (*PROBES, *PROBE_GROUPS, *ALWAYS):
            plugins.refuse_taken("probes", name)
        elif name in others:
            from reprkit.analysis.probes.external import enrol

            enrol(name)
        else:
            raise InputError(f"probe '{name}' is unknown; {plugins.choices('probes', (*PROBES, *PROBE_GROUPS))}")
        asked.update(PROBE_GROUPS.get(name, (name,)))
    return tuple(name for name in dict.fromkeys((*PROBES, *others)) if name in asked)


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
