"""The package as users install it: the wheel, the layers, what must not be in the tree."""

import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import reprkit

ROOT = Path(__file__).resolve().parents[1]


def test_wheel_holds_every_module(tmp_path):
    """Build sdist and wheel, unpack the wheel in an empty folder, and import every module from there."""
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    wheel = next((tmp_path / "dist").glob("*.whl"))
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = sorted(m.name for m in pkgutil.walk_packages([str(ROOT / "reprkit")], "reprkit."))
    code = (
        "import importlib, sys\n"
        f"sys.path[:] = [{str(target)!r}] + [p for p in sys.path if p not in ('', {str(ROOT)!r})]\n"
        "import reprkit\n"
        f"assert reprkit.__file__.startswith({str(target)!r}), reprkit.__file__\n"
        f"[importlib.import_module(n) for n in {names!r} if not n.endswith('__main__')]\n"
    )
    (tmp_path / "empty").mkdir()
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=tmp_path / "empty")
    assert done.returncode == 0, done.stderr
    assert (target / "reprkit" / "py.typed").exists()
    assert list((target / "reprkit" / "analysis").rglob("*.j2")), "the report's template is missing"


def test_recipe_folders_hold_no_package():
    assert not (ROOT / "training" / "__init__.py").exists()
    assert not (ROOT / "analysis" / "__init__.py").exists()


def test_no_unsafe_loading():
    """Nothing reads a pickle: every torch.load is weights_only, every np.load forbids objects."""
    found = []
    for file in (ROOT / "reprkit").rglob("*.py"):
        text = file.read_text()
        for call in re.findall(r"torch\.load\([^)]*\)", text):
            if "weights_only=True" not in call:
                found.append((file.name, call))
        for call in re.findall(r"np\.load\([^)]*\)", text):
            if "allow_pickle=False" not in call:
                found.append((file.name, call))
        if re.search(r"\b(pickle|joblib)\.load", text) or "allow_pickle=True" in text or "weights_only=False" in text:
            found.append((file.name, "pickle"))
    assert not found


def test_names_at_the_top():
    assert set(reprkit.__all__) <= set(dir(reprkit))
    for name in reprkit.__all__:
        assert getattr(reprkit, name) is not None


def test_cli_needs_no_extra(command):
    result = command("reprkit", "--version", check=0)
    assert reprkit.__version__ in result.stdout
