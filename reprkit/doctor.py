"""`reprkit doctor`: what is wrong with this installation, machine or folder, and the line that mends each."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reprkit import plugins
from reprkit.environment import environment, usable_cores, versions
from reprkit.errors import Failed, InputError

DAY = 86400.0
"""Seconds after which no writer is still at work on a temporary file."""

LEAST_MEMORY, LEAST_DISK = 2 << 30, 1 << 30
"""Bytes that a run of the embedded data needs, with a margin."""

EXTRAS = {"tensorboard": "tensorboard", "parquet": "pyarrow"}
"""Extra of reprkit -> the package that it brings."""


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        problem: what, in one line.
        mend: the line to type, or what to do.
        broken: False if everything works all the same, with less.
    """

    problem: str
    mend: str
    broken: bool = True


Check = Callable[[Sequence[Path]], Iterator[Finding]]


def packages(paths: Sequence[Path]) -> Iterator[Finding]:
    """Packages that are not there, or do not fit together."""
    found = versions()
    if missing := [name for name, version in found.items() if version is None]:
        yield Finding(f"missing packages: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    try:
        import torch
        import torchvision

        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except (RuntimeError, ImportError, AttributeError) as error:
        both = f"torchvision {found['torchvision']} and torch {found['torch']} do not fit together ({_line(error)})"
        yield Finding(both, "pip install --force-reinstall torch torchvision")
    for name in ("openTSNE", "seaborn", "h5py", "sklearn"):
        try:
            __import__(name)
        except Exception as error:  # compiled modules fail in many ways
            wanted = "scikit-learn" if name == "sklearn" else name
            yield Finding(f"{name} cannot be imported ({_line(error)})", f"pip install --force-reinstall {wanted}")


def extras(paths: Sequence[Path]) -> Iterator[Finding]:
    """Extras that are not installed."""
    from importlib.util import find_spec

    for extra, module in EXTRAS.items():
        if find_spec(module) is None:
            yield Finding(f"the extra {extra} is not installed", f'pip install "reprkit[{extra}]"', broken=False)


def threads(paths: Sequence[Path]) -> Iterator[Finding]:
    """More threads than cores: they wait for each other."""
    import numpy  # noqa: F401  # so that its BLAS is counted
    from threadpoolctl import threadpool_info

    cores = usable_cores()
    most = max((int(pool["num_threads"]) for pool in threadpool_info()), default=1)
    if most > cores:
        problem = f"{most} threads for numerical libraries on {cores} usable core{'s' if cores > 1 else ''}"
        yield Finding(problem, f"export OMP_NUM_THREADS={cores} OPENBLAS_NUM_THREADS={cores}")


def gpu(paths: Sequence[Path]) -> Iterator[Finding]:
    """A GPU that PyTorch cannot use."""
    try:
        import torch
    except ImportError:
        return
    if torch.cuda.is_available():
        return
    there = has_nvidia_device()
    if there and torch.version.cuda is None:
        yield Finding(
            "there is an NVIDIA GPU, but this PyTorch is built for CPUs",
            "pip install --force-reinstall torch torchvision, of a CUDA build (see PyTorch's installation page)",
        )
    elif there:
        yield Finding(
            f"there is an NVIDIA GPU, but PyTorch (CUDA {torch.version.cuda}) finds no driver that it can use",
            f"install an NVIDIA driver for CUDA {torch.version.cuda} or newer; `nvidia-smi` names the present one",
        )
    elif torch.version.cuda is not None:
        problem = (
            f"PyTorch is built for CUDA {torch.version.cuda}, and there is no NVIDIA driver: it computes on the CPU"
        )
        yield Finding(problem, "nothing to do; a CPU build of torch and torchvision takes less disk", broken=False)


def folders(paths: Sequence[Path]) -> Iterator[Finding]:
    """Folders that cannot be written to or locked, or have no room."""
    from reprkit.data.cache import cache_root

    for folder, option in ((_runs(paths), "--out FOLDER"), (cache_root(), "export REPRKIT_CACHE=FOLDER")):
        nearest = _nearest(folder)
        if not nearest.is_dir() or not os.access(nearest, os.W_OK):
            yield Finding(f"{folder} cannot be written to", f"{option}, one that can; or: chmod u+w {nearest}")
            continue
        if (free := shutil.disk_usage(nearest).free) < LEAST_DISK:
            yield Finding(f"{nearest}: {free >> 20} MiB free, less than {LEAST_DISK >> 20}", f"free some, or {option}")
            continue
        if why := cannot_lock(nearest):
            yield Finding(f"{nearest}: HDF5 files cannot be locked there ({why})", "export HDF5_USE_FILE_LOCKING=FALSE")


def memory(paths: Sequence[Path]) -> Iterator[Finding]:
    """Too little memory."""
    free = free_memory()
    if free is not None and free < LEAST_MEMORY:
        mend = "close other programs, or run with --train.batch_size 16 --probe.memory_mb 128"
        yield Finding(f"{free >> 20} MiB of memory available, less than {LEAST_MEMORY >> 20}", mend)


def data_roots(paths: Sequence[Path]) -> Iterator[Finding]:
    """Recipes, or recipes of run folders, whose data is not where they say."""
    from reprkit.config import load_recipe

    for path in paths:
        recipes = [path] if path.suffix in (".yaml", ".yml") else sorted(path.rglob("recipe.yaml"))
        for file in recipes:
            try:
                data = load_recipe(file).data
            except InputError as error:
                yield Finding(_line(error), f"mend {file}; `reprkit inspect {file}` checks it again")
                continue
            if data.root is not None and not Path(data.root).expanduser().exists():
                mend = f"--data FOLDER with every command on it, or put the folder's path under data.root in {file}"
                yield Finding(f"{file}: there is no {data.root}", mend)


def plug_ins(paths: Sequence[Path]) -> Iterator[Finding]:
    """Plug-ins that cannot be used."""
    from reprkit.recipe import DATASETS, ENCODERS, METHODS, PROBE_GROUPS, PROBES

    own = {"datasets": DATASETS, "encoders": ENCODERS, "methods": METHODS, "probes": (*PROBES, *PROBE_GROUPS)}
    for kind in plugins.KINDS:
        for name in plugins.names(kind):
            try:
                if name in own[kind]:
                    plugins.refuse_taken(kind, name)
                plugins.load(kind, name)
            except InputError as error:
                problem, _, mend = str(error).rpartition("; ")
                yield Finding(problem, mend)


def leftovers(paths: Sequence[Path]) -> Iterator[Finding]:
    """Half-written files of processes that were killed."""
    if stale := stale_files(paths):
        size = sum(file.stat().st_size for file in stale) / (1 << 20)
        more = f" and {len(stale) - 1} more" if len(stale) > 1 else ""
        problem = f"half-written files of killed processes ({size:.1f} MiB): {stale[0]}{more}"
        yield Finding(problem, " ".join(["reprkit doctor --mend", *map(str, paths)]), broken=False)


CHECKS: tuple[Check, ...] = (extras, threads, gpu, memory, folders, data_roots, plug_ins, leftovers)
"""All but `packages`, on which these depend."""


def doctor(paths: Sequence[Path] = (), *, mend: bool = False) -> None:
    """Print versions, what is wrong and how to mend it.

    Args:
        paths: recipes and folders of runs to look at as well.
        mend: remove half-written files of killed processes, older than a day, in these folders and the cache. Nothing
            else is ever changed.

    Raises:
        InputError: a path that is not there.
        Failed: something is broken.
    """
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such recipe or folder")
    record = environment()
    print(f"reprkit {record['reprkit']}, Python {record['python']}, {record['platform']}")
    print(f"{record['processor']}, {record['cores']} cores")
    for name, version in record["packages"].items():
        print(f"  {name} {version or 'MISSING'}")
    for line in plugins.described():
        print(line)
    if mend:
        for file in stale_files(paths):
            file.unlink(missing_ok=True)
            print(f"removed {file}")
    findings = list(packages(paths))
    if not findings:
        findings = [finding for check in CHECKS for finding in check(paths)]
    for finding in sorted(findings, key=lambda one: not one.broken):
        print(f"{'WRONG' if finding.broken else 'note'}: {finding.problem}\n  mend: {finding.mend}")
    if broken := [finding for finding in findings if finding.broken]:
        raise Failed(f"{len(broken)} thing{'s' if len(broken) > 1 else ''} to mend, named above")
    import torch

    where = torch.cuda.get_device_name(0) if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(f"computes on: {where}")
    print("all is well")


def stale_files(paths: Sequence[Path]) -> list[Path]:
    """Temporary files of reprkit, older than a day, in the folders and the cache (`.partial` files are resumed)."""
    from reprkit.data.cache import cache_root

    roots = [*(path for path in paths if path.is_dir()), cache_root()]
    every = {file for root in roots if root.is_dir() for file in root.rglob(".*.tmp") if file.is_file()}
    return sorted(file for file in every if time.time() - file.stat().st_mtime > DAY)


def free_memory() -> int | None:
    """Bytes of memory that can be had, within the limit of this process's container; None where it is not told."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return None
    try:
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("max", "current"))
        return min(free, limit - used)
    except (OSError, ValueError):
        return free


def has_nvidia_device() -> bool:
    """True if the machine has an NVIDIA GPU, whatever its driver."""
    return Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None


def cannot_lock(folder: Path) -> str:
    """Why HDF5 files in a folder cannot be written under a lock; empty if they can."""
    import h5py

    with tempfile.TemporaryDirectory(prefix=".reprkit-doctor-", dir=folder) as scratch:
        try:
            with h5py.File(Path(scratch) / "lock.h5", "w") as file:
                file["x"] = [1.0]
        except OSError as error:
            return _line(error)
    return ""


def _runs(paths: Sequence[Path]) -> Path:
    return next((path for path in paths if path.is_dir()), Path("runs"))


def _nearest(folder: Path) -> Path:
    """The folder itself, or the nearest parent that is there."""
    nearest = folder.absolute()
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    return nearest


def _line(error: object) -> str:
    return " ".join(str(error).split())[:300]
