"""How time and memory of the analyses grow with the rows of an embeddings file, up to a million.

    python benchmarks/scale.py --out DIR                         # 10^4, 10^5 and 10^6 train rows: needs 2.4 GB of disk
    python benchmarks/scale.py --out DIR --rows 1000000 --only knn      # a piece of it

Files of 512 features and 2 tasks are written to DIR, streamed (and found there by the next run); val and test have
5,000 and 10,000 rows at any size. `geometry`, `universality`, and `probe` with linear and with kNN alone run with their
defaults, each in a process of its own, which tells its seconds (without imports) and its peak resident memory. Files
above 1 GiB are streamed by the analyses as well; `--memory-mb 0` streams them all. What was measured stays in
DIR/scale.json, so that a long run can be had in pieces; the table and DIR/scale.png show all of it. Targets: below 3 GB
resident, and a cost per row that does not rise.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from reprkit.environment import usable_cores

DIM, VAL, TEST = 512, 5000, 10_000
ANALYSES = ("geometry", "universality", "linear", "knn")
LIMIT = 3e9

Measured = dict[int, dict[str, dict[str, float]]]
"""Rows -> analysis -> seconds, CPU seconds and peak bytes."""


def run(analysis: str, path: Path, megabytes: int) -> dict[str, float]:
    """One analysis in this process."""
    from reprkit.analysis import Workspace, geometry, probe, universality
    from reprkit.embeddings import Embeddings
    from reprkit.recipe import ProbeConfig

    def work(embeddings: Any) -> Any:
        workspace = Workspace(embeddings, memory=megabytes << 20)
        if analysis in ("linear", "knn"):
            return probe(workspace, config=ProbeConfig(probes=(analysis,)), progress=False)
        return {"geometry": geometry, "universality": universality}[analysis](workspace, progress=False)

    with Embeddings(path) as embeddings:
        start, used = time.perf_counter(), time.process_time()
        found = work(embeddings)
        seconds, cpu = time.perf_counter() - start, time.process_time() - used
    print(found.to_string(), file=sys.stderr)
    return {"seconds": seconds, "cpu": cpu, "peak": peak_bytes()}


def peak_bytes() -> int:
    """Highest resident memory of this process. Linux's `ru_maxrss` may be that of the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def measure(path: Path, analysis: str, threads: int, megabytes: int) -> dict[str, float]:
    """One analysis in a process of its own."""
    command = [sys.executable, __file__, "--run", analysis, "--out", str(path), "--memory-mb", str(megabytes)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{analysis} of {path} failed:\n{done.stderr}")
    path.with_suffix(f".{analysis}.txt").write_text(done.stderr, encoding="utf-8")
    found: dict[str, float] = json.loads(done.stdout)
    print(f"{path.name}: {analysis} {found['seconds']:.1f} s", file=sys.stderr)
    return found


def written(folder: Path, rows: int) -> Path:
    """The file of some size; made if it is not there."""
    from synthetic import TASKS, Source

    path = folder / f"rows{rows}.h5"
    if not path.exists():
        start = time.perf_counter()
        Source(DIM).write(path, {"train": rows, "val": VAL, "test": TEST}, TASKS[:2])
        print(f"{path.name}: written in {time.perf_counter() - start:.1f} s", file=sys.stderr)
    return path


def table(found: Measured) -> str:
    """One row a size and analysis; cost per row beside that of the smallest size."""
    from common import markdown_table

    body = []
    for rows, analyses in sorted(found.items()):
        for name, one in analyses.items():
            smallest = min(size for size in found if name in found[size])
            each, first = one["seconds"] / rows, found[smallest][name]["seconds"] / smallest
            cells = [
                f"{one['seconds']:.1f}",
                f"{one['cpu']:.1f}",
                f"{1e6 * each:.1f}",
                f"{each / first:.2f}",
                f"{one['peak'] / 1e6:.0f}",
            ]
            body.append([f"{rows:,}", name, *cells])
    return markdown_table(
        ["train rows", "analysis", "seconds", "CPU seconds", "microseconds a row", "to the smallest", "peak MB"], body
    )


def draw(found: Measured, path: Path) -> None:
    """Seconds and memory against rows."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for name in ANALYSES:
        sizes = sorted(rows for rows in found if name in found[rows])
        left.plot(sizes, [found[rows][name]["seconds"] for rows in sizes], marker="o", label=name)
        right.plot(sizes, [found[rows][name]["peak"] / 1e9 for rows in sizes], marker="o", label=name)
    right.axhline(LIMIT / 1e9, color="0.5", linestyle="--", linewidth=1)
    left.set(xscale="log", yscale="log", xlabel="train rows", ylabel="seconds")
    right.set(xscale="log", ylim=(0, None), xlabel="train rows", ylabel="peak resident memory (GB)")
    left.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the files and the figure")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--only", nargs="+", choices=ANALYSES, default=ANALYSES)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--memory-mb", type=int, default=1024, help="size of a file above which it is streamed")
    parser.add_argument("--run", choices=ANALYSES, help=argparse.SUPPRESS)  # this file, as the process measured
    args = parser.parse_args()
    if args.run:
        print(json.dumps(run(args.run, args.out, args.memory_mb)))
        return
    from common import report

    args.out.mkdir(parents=True, exist_ok=True)
    kept = args.out / "scale.json"
    found: Measured = {}
    if kept.exists():
        found = {int(rows): each for rows, each in json.loads(kept.read_text(encoding="utf-8")).items()}
    for rows in args.rows:
        path = written(args.out, rows)
        for analysis in args.only:
            found.setdefault(rows, {})[analysis] = measure(path, analysis, args.threads, args.memory_mb)
            kept.write_text(json.dumps(found), encoding="utf-8")
    draw(found, args.out / "scale.png")
    peak = max(one["peak"] for analyses in found.values() for one in analyses.values())
    report(
        f"Growth with the rows: {DIM} features, 2 tasks, val {VAL}, test {TEST}",
        table(found),
        f"Highest peak: {peak / 1e9:.2f} GB (target: below {LIMIT / 1e9:.0f})",
    )


if __name__ == "__main__":
    main()
