"""What decides the bits of one trained encoder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from reprkit.data.base import ImageDataset
from reprkit.errors import InputError
from reprkit.recipe import ADDITIONS, BalancingConfig, Recipe, check_level, reads, split_method


@dataclass(frozen=True)
class Job:
    """One encoder to train.

    Attributes:
        recipe: settings.
        method: such as `vanilla+dgr`.
        seed: of the weights, the order of samples and the dummies.
        task: the one task of a `single` encoder; empty for the others.
    """

    recipe: Recipe
    method: str
    seed: int
    task: str = ""

    def __post_init__(self) -> None:
        base = split_method(self.method)[0]
        if base == "single" and not self.task:
            raise InputError("method 'single' trains one encoder a task: name it with --task")
        if base != "single" and self.task:
            raise InputError(f"method '{self.method}' learns all tasks at once: leave --task out, or use single")
        check_level(self.recipe, tuple(dict.fromkeys((*self.recipe.methods, self.method))))
        if not 0 <= self.seed < 2**32:
            raise InputError(f"--seed: {self.seed} should be from 0 to 2^32 - 1")

    def identity(self) -> dict[str, Any]:
        """All that decides the trained bits, as JSON types; a folder continues only a run of equal identity."""
        plain = self.recipe.to_json()
        keep = {"data": {**plain["data"], "root": None}, "model": plain["model"], "train": {**plain["train"]}}
        for machine_only in ("save_every", "device", "tensorboard"):
            keep["train"].pop(machine_only)
        for section in ("balancing", *ADDITIONS):
            read = {name: v for name, v in plain[section].items() if reads(self.method, f"{section}.{name}")}
            if read:
                keep[section] = read
        return {**keep, "method": self.method, "seed": self.seed, "task": self.task}

    def own_recipe(self) -> Recipe:
        """The recipe of this encoder alone; what its method does not read is at its default."""
        plain = self.recipe.to_json()["balancing"]
        read = {name: value for name, value in plain.items() if reads(self.method, f"balancing.{name}")}
        return replace(
            self.recipe, methods=(self.method,), seeds=(self.seed,), grid={}, balancing=BalancingConfig(**read)
        )

    def portable_recipe(self) -> dict[str, Any]:
        """The recipe as a checkpoint carries it: this encoder's, without what belongs to a machine (paths, device).

        Its method stands beside it, not in it: a checkpoint is read where an external method is not installed too.
        """
        recipe = replace(
            self.recipe,
            grid={},
            data=replace(self.recipe.data, root=None),
            model=replace(self.recipe.model, weights=None),
        )
        record = {**recipe.to_json(), "balancing": self.own_recipe().to_json()["balancing"], "seeds": [self.seed]}
        record.pop("methods")
        for machine_only in ("save_every", "device", "tensorboard"):
            record["train"].pop(machine_only)
        return record

    @property
    def title(self) -> str:
        """Such as `vanilla+dgr seed 0`, or `single seed 0 left`."""
        return f"{self.method} seed {self.seed}" + (f" {self.task}" if self.task else "")


def fingerprints(dataset: ImageDataset) -> dict[str, str]:
    """The fingerprints of a data set, as they are recorded beside everything made from it."""
    return {
        "dataset": dataset.fingerprint,
        "split": dataset.split_fingerprint,
        "transform": dataset.transform_fingerprint,
    }


def differences(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of the fields in which two nested records differ."""
    for key in sorted(a.keys() | b.keys()):
        x, y = a.get(key), b.get(key)
        if isinstance(x, Mapping) and isinstance(y, Mapping):
            yield from differences(x, y, f"{prefix}{key}.")
        elif x != y:
            yield f"{prefix}{key}"
