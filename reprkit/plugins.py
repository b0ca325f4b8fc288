"""What other packages add by name: data sets, encoders, methods and probes, found by entry points.

A package offers one in its `pyproject.toml`::

    [project.entry-points."reprkit.encoders"]
    tiny = "my_package:tiny_encoder"

and recipes and commands know `tiny` once it is installed. Nothing of it is imported before the name is used. What each
kind of object must be is said where it is used: `reprkit.data.load.load_dataset`,
`reprkit.models.encoders.build_encoder`, `reprkit.training.balancing.register` and `reprkit.analysis.probes.external`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, get_args

from reprkit.errors import InputError

Kind = Literal["datasets", "encoders", "methods", "probes"]
KINDS: tuple[Kind, ...] = get_args(Kind)

SINGULAR: dict[Kind, str] = {"datasets": "data set", "encoders": "encoder", "methods": "method", "probes": "probe"}


@dataclass(frozen=True)
class Plugin:
    """One name that a package offers.

    Attributes:
        kind: what it is.
        point: where its object is.
    """

    kind: Kind
    point: EntryPoint

    @property
    def package(self) -> str:
        """Name and version of the package, such as `my-package 1.2`."""
        return f"{self.point.dist.name} {self.point.dist.version}" if self.point.dist else "an unnamed package"

    def load(self) -> Any:
        """Import the object.

        Raises:
            InputError: whatever its import raises, in one line that names the package.
        """
        try:
            return self.point.load()
        except Exception as error:  # another package's code may raise anything
            raise self.unusable(
                f"cannot be imported ({type(error).__name__}: {' '.join(str(error).split())})"
            ) from None

    def call(self, function: Any, *arguments: Any, **options: Any) -> Any:
        """The result of the plug-in's function.

        Raises:
            InputError: it is no function, or one of other arguments. What it raises itself is not caught.
        """
        try:
            inspect.signature(function).bind(*arguments, **options)
        except TypeError as error:
            raise self.unusable(f"cannot be called as it should be ({error})") from None
        except ValueError:  # a builtin that does not tell its arguments
            pass
        return function(*arguments, **options)

    def unusable(self, why: str) -> InputError:
        """The error that tells what is wrong with this plug-in and how to mend it."""
        name = self.point.dist.name if self.point.dist else self.package
        return InputError(
            f"{SINGULAR[self.kind]} '{self.point.name}' of {self.package} ({self.point.value}) {why}; "
            f"mend or update that package, or: pip uninstall {name}"
        )


def names(kind: Kind) -> tuple[str, ...]:
    """Names that installed packages offer, sorted. Imports nothing of them."""
    return tuple(sorted({plugin.point.name for plugin in found(kind)}))


def found(kind: Kind) -> tuple[Plugin, ...]:
    """Everything that installed packages offer, in the order of names and packages."""
    return _found(tuple(sys.path))[kind]


def load(kind: Kind, name: str) -> tuple[Any, Plugin] | None:
    """The object that a package offers under a name, and its plug-in; None if no package does.

    Raises:
        InputError: it cannot be imported, or two packages offer the name.
    """
    offers = [plugin for plugin in found(kind) if plugin.point.name == name]
    if not offers:
        return None
    if len(offers) > 1:
        raise offers[0].unusable(f"has a name that {offers[1].package} takes too")
    return offers[0].load(), offers[0]


def refuse_taken(kind: Kind, name: str) -> None:
    """Refuse a name of reprkit's own that a package offers too: it would not be clear which is meant.

    Raises:
        InputError: naming the package.
    """
    for plugin in found(kind):
        if plugin.point.name == name:
            raise plugin.unusable("has a name that is taken: reprkit has its own")


def choices(kind: Kind, own: Iterable[str]) -> str:
    """All names of a kind for an error message, reprkit's `own` first."""
    return f"choose from {', '.join(dict.fromkeys([*own, *names(kind)]))}"


def described() -> list[str]:
    """A line for each kind that packages add to, for `--help`; empty if none do."""
    lines = []
    for kind in KINDS:
        offers = ", ".join(f"{plugin.point.name} ({plugin.package})" for plugin in found(kind))
        lines += [f"  {SINGULAR[kind]}s: {offers}"] if offers else []
    return ["from installed packages:", *lines] if lines else []


@lru_cache(maxsize=4)
def _found(path: tuple[str, ...]) -> dict[Kind, tuple[Plugin, ...]]:
    """By the import path, on which it depends; a package installed later needs a new process, as its imports do."""
    every = entry_points()
    result: dict[Kind, tuple[Plugin, ...]] = {}
    for kind in KINDS:
        points = {(p.name, p.value, p.dist.name if p.dist else ""): p for p in every.select(group=f"reprkit.{kind}")}
        result[kind] = tuple(Plugin(kind, points[key]) for key in sorted(points))
    return result
