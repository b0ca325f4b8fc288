"""Reading recipes: YAML files and dotted overrides into a checked `Recipe`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml

from reprkit.errors import InputError
from reprkit.files import write_text
from reprkit.recipe import Recipe, reads

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

_MAX_BYTES = 1 << 20


def add_recipe_arguments(parser: ArgumentParser) -> None:
    """Give a jsonargparse parser one dotted option for each recipe field (`--train.epochs 3`)."""
    parser.add_class_arguments(Recipe, None)


def load_recipe(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe from a YAML file and overrides such as `["--train.epochs=3"]`; both optional.

    Files are untrusted: they are read with a safe loader, without aliases, up to 1 MB, and can name no classes.

    Args:
        path: of the YAML file; None starts from the defaults.
        overrides: dotted fields, later ones win.

    Raises:
        InputError: missing or malformed file, unknown field, wrong value; one line naming it.
    """
    record = read_yaml(path) if path is not None else {}
    return parse_recipe(record, overrides, source=str(path) if path is not None else "command line")


def parse_recipe(record: dict[str, Any], overrides: Sequence[str] = (), *, source: str = "recipe") -> Recipe:
    """A recipe from plain values, as `Recipe.to_json` gives them, and dotted overrides.

    Raises:
        InputError: an unknown field or a wrong value, in one line that begins with `source`.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    unknown = [name for name in record if name not in Recipe.__dataclass_fields__]
    if unknown:
        known = ", ".join(Recipe.__dataclass_fields__)
        raise InputError(f"{source}: '{unknown[0]}' is not a recipe field; the fields are {known}")
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False)
    add_recipe_arguments(parser)
    try:
        base = parser.parse_object(record) if record else parser.get_defaults()
        if overrides:
            base = parser.parse_args(_with_lists(overrides), namespace=base)
        values = parser.instantiate(base) if hasattr(parser, "instantiate") else parser.instantiate_classes(base)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    except ArgumentError as error:
        raise InputError(f"{source}: {one_line(_in_words(str(error)))}") from None
    given = {name: values[name] for name in Recipe.__dataclass_fields__}
    try:
        return Recipe(**given)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file; refuses aliases, tags, class names and files above 1 MB.

    Raises:
        InputError: no such file, no valid YAML, or what it may not hold.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{file}: no such recipe; the recipes that come with reprkit are in training/")
    if file.stat().st_size > _MAX_BYTES:
        raise InputError(f"{file}: larger than 1 MB, which no recipe is")
    try:
        text = file.read_text(encoding="utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise InputError(f"{file}: YAML aliases (*name) are not allowed; write the value out")
        record = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not valid YAML: {one_line(str(error))}") from None
    if not isinstance(record, dict):
        raise InputError(f"{file}: a recipe is a mapping of fields, such as `name: mine`")
    forbidden = {"class_path", "init_args"} & set(_keys(record))
    if forbidden:
        raise InputError(f"{file}: the key '{forbidden.pop()}' is not allowed in a recipe")
    return record


def data_root(beside: str | Path) -> str | None:
    """The `data.root` in the `recipe.yaml` of a file's folder: neither checkpoints nor embeddings carry a path."""
    recipe = Path(beside).parent / "recipe.yaml"
    root = (read_yaml(recipe).get("data") or {}).get("root") if recipe.is_file() else None
    return None if root is None else str(root)


def write_recipe(recipe: Recipe, path: str | Path) -> None:
    """Write a recipe as YAML that `load_recipe` reads back to an equal one."""
    write_text(path, yaml.safe_dump(recipe.to_json(), sort_keys=False, allow_unicode=True, width=100))


def one_line(text: str, limit: int = 400) -> str:
    """Text folded to one line of at most `limit` characters."""
    folded = re.sub(r"\s+", " ", text).strip()
    return folded if len(folded) <= limit else folded[: limit - 3] + "..."


@dataclass(frozen=True)
class GridPoint:
    """One combination of grid values for a method.

    Attributes:
        values: dotted field -> value; empty without a grid.
        recipe: the recipe with those values set.
    """

    values: dict[str, Any]
    recipe: Recipe

    @property
    def name(self) -> str:
        """Such as `dgr.weight=0.1`; empty without a grid."""
        return ",".join(f"{field}={value}" for field, value in self.values.items())


def grid_points(recipe: Recipe, method: str) -> list[GridPoint]:
    """Every combination of the fields of `recipe.grid` that `method` reads.

    Raises:
        InputError: a grid field that does not exist, or a value it cannot take.
    """
    axes = {field: values for field, values in recipe.grid.items() if reads(method, field)}
    points = []
    for combination in itertools.product(*axes.values()):
        values = dict(zip(axes, combination, strict=True))
        overrides = [f"--{field}={value}" for field, value in values.items()]
        resolved = parse_recipe(replace(recipe, grid={}).to_json(), overrides, source="recipe: grid")
        points.append(GridPoint(values, resolved))
    return points


def _with_lists(overrides: Sequence[str]) -> list[str]:
    """Overrides in which one bare value, or several with commas, stand for a list: `--methods vanilla`."""
    lists = {f"--{name}" for name in _list_fields(Recipe)}
    written, name = [], ""
    for word in overrides:
        option, equals, value = word.partition("=")
        if option in lists and equals:
            word = f"{option}={_as_list(value)}"
        elif name in lists:
            word = _as_list(word)
        name = "" if name or equals else option
        written.append(word)
    return written


def _as_list(value: str) -> str:
    bare = value.strip()
    return value if not bare or bare[0] in "[{" or bare in ("null", "~") else f"[{bare}]"


def _list_fields(record: type) -> Iterator[str]:
    """Dotted names of the fields that hold lists."""
    for item in fields(record):
        inner = item.default_factory
        if is_dataclass(inner):
            yield from (f"{item.name}.{name}" for name in _list_fields(cast(type, inner)))
        elif str(item.type).startswith("tuple"):
            yield item.name


def _in_words(text: str) -> str:
    """A message of the parser without the names of Python's types."""
    kinds = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "tuple": "a list"}
    return re.sub(r"an? <class '(\w+)'>", lambda match: kinds.get(match[1], match[0]), text)


def _keys(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [str(k) for k in value] + [name for v in value.values() for name in _keys(v)]
    if isinstance(value, list):
        return [name for v in value for name in _keys(v)]
    return []
