"""One entry for every data set."""

from __future__ import annotations

import subprocess
import sys

import pytest

from reprkit.data import load_dataset
from reprkit.errors import InputError
from reprkit.recipe import DataConfig


def test_unknown_names_are_answered_with_those_that_exist() -> None:
    with pytest.raises(InputError, match="'imagenet' is not a data set; choose from digits, rooms, utkface, table"):
        load_dataset(DataConfig(name="imagenet"))
    with pytest.raises(InputError, match="digits has no task 'top'; choose from left, right, sum"):
        load_dataset(DataConfig(tasks=("top",)))


def test_square_sets_want_one_side() -> None:
    for name in ("utkface", "table"):
        with pytest.raises(InputError, match=f"data.image_size: {name} has square images; give one number, not 8 x 9"):
            load_dataset(DataConfig(name=name, root="anywhere", image_size=(8, 9)))


@pytest.mark.parametrize("name", ["nyuv2", "cityscapes", "pascal_context", "camvid", "imagefolder"])
def test_sets_in_files_need_a_root(name: str) -> None:
    with pytest.raises(InputError, match=f"data.root: {name} needs .*; name it with --data"):
        load_dataset(DataConfig(name=name))


def test_tasks_come_in_the_order_asked_for() -> None:
    data = load_dataset(DataConfig(tasks=("sum", "left")))
    assert [t.name for t in data.tasks] == ["sum", "left"]
    assert set(data.targets) == {"sum", "left"}


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, reprkit.data; print([m for m in ('torch', 'sklearn', 'PIL', 'numpy') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
