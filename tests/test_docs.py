"""The documentation names only what exists, and its examples run."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import json
import re
import shlex
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from reprkit import cli
from reprkit.config import parse_recipe
from reprkit.recipe import Recipe

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("[a-z]*/README.md")])
SECTIONS = {f.name: f.default_factory for f in fields(Recipe) if is_dataclass(f.default_factory)}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
RUNS = re.compile(r"^<!-- runs -->\n```python\n(.*?)^```\n(?:\n```\n(.*?)^```$)?", flags=re.MULTILINE | re.DOTALL)
CALL = re.compile(r" *(?:\$ )?(?:\w+=\S+ |torchrun .*-m )*(?:\.venv/bin/)?(reprkit|python -m reprkit\.probe) ")
OWN_FOLDERS = "reprkit|docs|training|analysis|notebooks|benchmarks|tests"
pages = pytest.mark.parametrize("page", dict.fromkeys(PAGES), ids=lambda page: page.relative_to(ROOT).as_posix())


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def inline(page: Path) -> list[str]:
    """What stands in backticks; a line break in it is a space."""
    return [" ".join(code.split()) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose(page))]


def commands(page: Path) -> list[str]:
    """Whole command lines of reprkit that a page prints for copying, without their comments."""
    blocks = [body for kind, body in FENCE.findall(page.read_text(encoding="utf-8")) if kind in ("", "sh", "bash")]
    blocks += re.findall(r"^ {4}.*$", prose(page), flags=re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    found = []
    for line in lines:
        call = CALL.match(line)
        if call:
            found.append(call[1] + " " + re.sub(r"\s#.*$", "", line[call.end() :]))
    return found


def anchors(page: Path) -> set[str]:
    """Names of a page's headings in links."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for target, _, anchor in re.findall(r"\]\(([^)#\s]*)(#([^)\s]+))?\)", prose(page)):
        if re.match(r"\w+:", target):
            continue
        place = (page.parent / target).resolve() if target else page
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), f"{target}#{anchor}"


@pages
def test_files_that_are_named_exist(page: Path) -> None:
    for code in inline(page):
        path = re.fullmatch(rf"((?:{OWN_FOLDERS})/[\w./]+)", code)
        assert not path or (ROOT / path[1]).exists() or list(ROOT.glob(f"{path[1]}.*")), code


@pages
def test_commands_exist(page: Path) -> None:
    known = set(cli._parser()._subparsers._group_actions[0].choices)
    for code in inline(page):
        named = re.match(r"reprkit ([a-z]\w*)", code)
        assert not named or named[1] in known, code


@pages
def test_command_lines_parse(page: Path) -> None:
    for line in commands(page):
        program, *words = shlex.split(line.replace("python -m reprkit.probe", "probe"))
        if program == "probe":
            continue  # its parser is made where it runs
        plain, overrides = (words, []) if words[0] == "compare" else cli.split_overrides(words)
        try:
            cli._parser().parse_args(plain)
        except SystemExit:
            pytest.fail(f"does not parse: {line}")
        parse_recipe({}, overrides)


@pages
def test_recipe_fields_exist(page: Path) -> None:
    for code in inline(page):
        named = re.match(r"-{0,2}(\w+)\.(\w+)(?:$|[ :=])", code)
        if named and named[1] in SECTIONS and named[2] != "csv":
            assert named[2] in {f.name for f in fields(SECTIONS[named[1]])}, code


def test_the_page_of_recipes_has_every_field_and_its_default() -> None:
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    parts = re.split(r"^## `(\w+)`.*$", text, flags=re.MULTILINE)
    documented = {
        name: dict(re.findall(r"^\| `(\w+)` \| `(.*?)` \|", body, flags=re.MULTILINE))
        for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }
    recipe = Recipe().to_json()
    assert documented == {
        name: {field: json.dumps(value) for field, value in recipe[name].items()} for name in SECTIONS
    }


@pages
def test_python_that_is_shown_imports_what_exists(page: Path) -> None:
    for kind, body in FENCE.findall(page.read_text(encoding="utf-8")):
        for node in ast.walk(ast.parse(body)) if kind == "python" else ():
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "reprkit":
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module}.{alias.name}"


EXAMPLES = [
    pytest.param(*match, id=f"{page.relative_to(ROOT)}:{number}")
    for page in PAGES
    for number, match in enumerate(RUNS.findall(page.read_text(encoding="utf-8")))
]


@pytest.mark.parametrize(("code", "output"), EXAMPLES)
def test_examples_run(code: str, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They print what the page shows, but for digits: those may differ between machines."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPRKIT_CACHE", str(tmp_path / "cache"))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "example", "exec"), {"__name__": "example"})
    assert without_numbers(printed.getvalue()) == without_numbers(output)


def without_numbers(text: str) -> str:
    """Words and signs alone."""
    return " ".join(re.sub(r"-?\d+(\.\d*)?(e[-+]?\d+)?", "#", text).split())
