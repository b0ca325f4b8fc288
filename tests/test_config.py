from pathlib import Path

import pytest
import yaml

from reprkit.config import grid_points, load_recipe, parse_recipe, write_recipe
from reprkit.errors import InputError
from reprkit.recipe import Recipe, split_method

RECIPES = sorted((Path(__file__).resolve().parents[1] / "training").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_shipped_recipe_loads_and_round_trips(path, tmp_path):
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    write_recipe(recipe, tmp_path / "again.yaml")
    assert load_recipe(tmp_path / "again.yaml") == recipe
    assert parse_recipe(recipe.to_json()) == recipe


def test_there_are_recipes():
    assert {"digits", "utkface", "utkface_small"} <= {path.stem for path in RECIPES}


def test_overrides_win_over_the_file(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("name: mine\ntrain: {epochs: 3, lr: 0.1}\nseeds: [4, 5]\n")
    recipe = load_recipe(file, ["--train.epochs", "7", "--dgr.weight=1e-3", "--data.tasks", "[left, sum]"])
    assert (recipe.train.epochs, recipe.train.lr, recipe.dgr.weight) == (7, 0.1, 1e-3)
    assert recipe.seeds == (4, 5)
    assert recipe.data.tasks == ("left", "sum")
    assert recipe.model == Recipe().model


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: {epoch: 3}", ["epoch"]),
        ("trian: {}", ["trian"]),
        ("train: {epochs: many}", ["train.epochs"]),
        ("train: {optimizer: lion}", ["optimizer"]),
        ("methods: [vanila]", ["vanila", "vanilla+dgr"]),
        ("methods: []", ["at least one method"]),
        ("methods: [vanilla, vanilla]", ["without repeats"]),
        ("seeds: [0, 0]", ["without repeats"]),
        ("seeds: [-1]", ["seeds"]),
        ("train: {batch_size: 0}", ["train.batch_size"]),
        ("train: {epochs: 0}", ["train.epochs"]),
        ("train: {lr: -1}", ["train.lr"]),
        ("dgr: {num_dummies: 0}", ["dgr.num_dummies"]),
        ("dgr: {weight: -1}", ["dgr.weight"]),
        ("model: {head_hidden: -3}", ["model.head_hidden"]),
        ("embed: {batch_size: 0}", ["embed.batch_size"]),
        ("grid: {data.root: [a, b]}", ["data.root"]),
        ("grid: {train.lr: []}", ["train.lr"]),
        ("seeds: [99999999999]", ["seeds"]),
        ("probe: {probes: [forest]}", ["forest"]),
        ("universality: {seed: -1}", ["universality.seed"]),
        ("a: &x 1\nb: *x", ["alias"]),
        ("data: {class_path: os.system}", ["class_path"]),
        ("!!python/object:os.system {}", ["YAML"]),
        ("- 1", ["mapping"]),
        ("a: [", ["YAML"]),
    ],
)
def test_wrong_recipes_give_one_line_that_names_the_file(tmp_path, text, words):
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        load_recipe(file)
    message = str(caught.value)
    assert "\n" not in message
    assert "wrong.yaml" in message
    assert all(word in message for word in words), message


def test_missing_recipe():
    with pytest.raises(InputError, match="no such recipe"):
        load_recipe("nowhere.yaml")


def test_grid_concerns_only_methods_that_use_it():
    recipe = Recipe(grid={"dgr.weight": [0.1, 1.0], "train.lr": [0.01]})
    assert [p.name for p in grid_points(recipe, "vanilla")] == ["train.lr=0.01"]
    points = grid_points(recipe, "vanilla+dgr")
    assert [p.recipe.dgr.weight for p in points] == [0.1, 1.0]
    assert all(p.recipe.grid == {} and p.recipe.train.lr == 0.01 for p in points)
    with pytest.raises(InputError, match="nothing"):
        grid_points(Recipe(grid={"train.nothing": [1]}), "vanilla")


def test_split_method():
    assert split_method("vanilla+dgr") == ("vanilla", ("dgr",))
    assert split_method("single") == ("single", ())
    for wrong in ("", "dgr", "vanilla+dgr+dgr", "vanilla+sam", "vanilla+"):
        with pytest.raises(InputError):
            split_method(wrong)


def test_recipes_are_plain_yaml():
    for path in RECIPES:
        assert isinstance(yaml.safe_load(path.read_text()), dict)
