import itertools
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from reprkit.cli import main
from reprkit.config import grid_points, load_recipe, parse_recipe, write_recipe
from reprkit.errors import InputError
from reprkit.recipe import ADDITIONS, METHODS, BalancingConfig, Recipe, check_level, reads, split_method

RECIPES = sorted((Path(__file__).resolve().parents[1] / "training").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_shipped_recipe_loads_and_round_trips(path, tmp_path):
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    write_recipe(recipe, tmp_path / "again.yaml")
    assert load_recipe(tmp_path / "again.yaml") == recipe
    assert parse_recipe(recipe.to_json()) == recipe


def test_there_are_recipes():
    scenes = {f"{data}_{kind}" for data in ("nyuv2", "cityscapes") for kind in ("split", "mtan", "swin")}
    others = {"digits", "utkface", "utkface_small", "rooms", "rooms_mtan", "camvid", "pascal", "imagenet"}
    assert scenes | others <= {path.stem for path in RECIPES}


def commands_in(path):
    """The commands that the comments of a recipe name, each as its words."""
    text = path.read_text().replace("\\\n#", "")
    lines = [line.removeprefix("#").partition("    (")[0] for line in text.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith((" reprkit ", " python "))]


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_commands_in_recipes_are_commands(path, capsys):
    """They name this recipe, and their options and overrides exist."""
    found = commands_in(path)
    assert found[0][:3] == ["reprkit", "run", f"training/{path.name}"]
    for words in found:
        if words[0] == "reprkit":
            assert main([*words[1:2], str(path), *words[3:], "--print_config"]) == 0
            printed = parse_recipe(yaml.safe_load(capsys.readouterr().out))
            assert (printed != load_recipe(path)) == bool({"--data", "--methods"} & set(words))


def test_runs_of_a_table_differ_in_nothing_but_the_structure():
    for data in ("nyuv2", "cityscapes"):
        split, mtan = (load_recipe(RECIPES[0].with_name(f"{data}_{kind}.yaml")) for kind in ("split", "mtan"))
        assert set(split.methods) - set(mtan.methods) == {"single"}
        alike = replace(mtan, name=split.name, methods=split.methods, model=replace(mtan.model, structure="split"))
        assert alike == split


@pytest.mark.parametrize(
    ("overrides", "methods"),
    [
        (["--methods", "vanilla"], ("vanilla",)),
        (["--methods=vanilla,cagrad"], ("vanilla", "cagrad")),
        (["--methods", "[vanilla, cagrad+dgr]"], ("vanilla", "cagrad+dgr")),
        (["--name", "vanilla", "--methods", "pcgrad"], ("pcgrad",)),
    ],
)
def test_a_bare_value_stands_for_a_list_of_it(overrides, methods):
    assert load_recipe(None, overrides).methods == methods


def test_bare_values_of_inner_lists():
    assert load_recipe(None, ["--data.tasks", "left", "--seeds", "3"]).data.tasks == ("left",)
    assert load_recipe(None, ["--data.image_size=[72, 96]"]).data.image_size == (72, 96)


def test_a_shortened_field_is_not_guessed():
    with pytest.raises(InputError, match=r"--train\.epoch 5"):
        load_recipe(None, ["--train.epoch", "5"])


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
        ("train: {epochs: many}", ["train.epochs", "a whole number"]),
        ("train: {optimizer: lion}", ["optimizer"]),
        ("methods: [vanila]", ["vanila", "vanilla", "+dgr"]),
        ("methods: []", ["at least one method"]),
        ("methods: [vanilla, vanilla]", ["without repeats"]),
        ("seeds: [0, 0]", ["without repeats"]),
        ("seeds: [-1]", ["seeds"]),
        ("train: {batch_size: 0}", ["train.batch_size"]),
        ("train: {epochs: 0}", ["train.epochs"]),
        ("train: {lr: -1}", ["train.lr"]),
        ("dgr: {num_dummies: 0}", ["dgr.num_dummies"]),
        ("dgr: {weight: -1}", ["dgr.weight"]),
        ("balancing: {c: 1}", ["balancing.c"]),
        ("balancing: {level: heads}", ["balancing.level"]),
        ("balancing: {meta_fraction: 1}", ["balancing.meta_fraction"]),
        ("sam: {rho: 0}", ["sam.rho"]),
        ("pta: {decoders: 0}", ["pta.decoders"]),
        ("methods: [vanilla+sam+dgr]", ["vanilla+dgr+sam"]),
        ("grid: {balancing.c: [0.1]}", ["balancing.c", "no method of"]),
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


def test_every_method_stands_alone_and_with_every_addition():
    for base in METHODS:
        for count in range(len(ADDITIONS) + 1):
            for chosen in itertools.combinations(ADDITIONS, count):
                assert split_method("+".join([base, *chosen])) == (base, chosen)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ("", "pcgrad"),
        ("dgr", "vanilla"),
        ("vanila", "vanilla"),
        ("vanilla+", "+dgr"),
        ("vanilla+sharp", "+sharp"),
        ("vanilla+dgr+dgr", "write it 'vanilla+dgr'"),
        ("cagrad+pta+dgr", "write it 'cagrad+dgr+pta'"),
        ("Vanilla", "vanilla"),
        ("vanilla + dgr", "vanilla"),
    ],
)
def test_wrong_methods_name_the_mend(wrong, word):
    with pytest.raises(InputError) as caught:
        split_method(wrong)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_method_reads_its_own_fields():
    assert reads("cagrad", "balancing.c")
    assert not reads("pcgrad", "balancing.c")
    assert reads("vanilla+dgr", "dgr.weight")
    assert not reads("vanilla+sam", "dgr.weight")
    assert reads("vanilla+sam", "sam.rho")
    assert all(reads(method, "train.lr") and reads(method, "model.head_hidden") for method in METHODS)
    known = {f"balancing.{f}" for f in BalancingConfig.__dataclass_fields__}
    assert {f"balancing.{option}" for options in METHODS.values() for option in options} == known


def test_a_grid_needs_a_method_that_reads_it():
    Recipe(methods=("vanilla", "cagrad"), grid={"balancing.c": [0.1, 0.4]})
    for name in ("balancing.c", "dgr.weight", "sam.rho", "pta.decoders"):
        with pytest.raises(InputError, match=name):
            Recipe(methods=("vanilla", "pcgrad"), grid={name: [0.1]})
    with pytest.raises(InputError, match="methods"):
        Recipe(grid={"methods": ["vanilla"]})
    both = Recipe(grid={"method": ["vanilla", "vanilla+dgr"], "dgr.weight": [0.1, 1.0]})
    assert both.methods == ("vanilla", "vanilla+dgr")
    assert both.grid == {"dgr.weight": [0.1, 1.0]}
    assert [len(grid_points(both, method)) for method in both.methods] == [1, 2]
    with pytest.raises(InputError, match=r"balancing\.c"):
        grid_points(Recipe(methods=("cagrad",), grid={"balancing.c": [2.0]}), "cagrad")


def test_a_level_needs_a_method_that_has_one():
    recipe = Recipe(balancing=BalancingConfig(level="representation"))
    check_level(recipe, ("vanilla", "pcgrad"))
    with pytest.raises(InputError, match=r"balancing\.level.*pcgrad.*graddrop"):
        check_level(recipe, ("vanilla", "uncertainty"))
    check_level(Recipe(), ("vanilla",))


def test_recipes_are_plain_yaml():
    for path in RECIPES:
        assert isinstance(yaml.safe_load(path.read_text()), dict)
