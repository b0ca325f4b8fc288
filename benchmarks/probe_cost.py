"""What the probes and the maps cost beside scikit-learn and openTSNE doing the same work.

    python benchmarks/probe_cost.py                              # all sections: half an hour on two cores
    python benchmarks/probe_cost.py --only knn svm --rounds 5
    python benchmarks/probe_cost.py --only suite --probes tree   # in pieces: one probe; `--probes` alone: ours together
    python benchmarks/probe_cost.py --only suite --full          # 20,000 train rows: the naive suite takes an hour
    python benchmarks/probe_cost.py --smoke                      # a minute, to see that it runs

Data are synthetic (`synthetic.py`), with 3 tasks of 7, 2 and 5 classes. All variants may use `--threads` threads; they
take turns inside each round, and ratios are taken within a round. Sections:

- knn: one exact search, and the votes of 3 tasks x k = 1, 5, 15, 50, beside 12 calls of KNeighborsClassifier (brute
  force; on unit rows, where its quick Euclidean path ranks as the cosine does; metric="cosine" takes it longer);
- svm: the RBF SVM of 3 tasks, one C, beside SVC task by task. Ours is `probe`, file reading included;
- linear: logistic regressions of 3 tasks along the C grid of the probe, and at one C, beside LogisticRegression, from
  zero and warm-started. Both objectives are computed in float64;
- ridge: 10 alphas x 3 tasks exactly, beside one fit of LogisticRegression;
- suite: `probe` with its defaults beside `naive_suite.py`, accuracies compared;
- tsne: the map of 10,000 samples beside openTSNE's and scikit-learn's defaults, with the share of the 15 nearest
  neighbours that each map keeps;
- map: the map of 50,000 samples step by step, its quality, and the peak memory of the process.

The thousand dummies of the universality score have a benchmark of their own: `universality_cost.py --dummies 1000`.

On a busy machine, `--clock cpu --threads 1` gives the steadier ratios.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from common import Timing, interleave, markdown_table, report, spread, timing_table
from naive_suite import fit as naive_fit
from scale import peak_bytes
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from synthetic import TASKS, Source
from threadpoolctl import threadpool_limits

from reprkit.analysis import linalg, probe
from reprkit.analysis.maps.cloud import Cloud
from reprkit.analysis.maps.optimise import embed_in_plane
from reprkit.analysis.maps.quality import map_quality
from reprkit.analysis.neighbors import exact_neighbors, unit_rows
from reprkit.analysis.probes import Protocol, probe_with_predictions
from reprkit.analysis.probes.knn import votes
from reprkit.analysis.probes.ridge import ridge_path
from reprkit.analysis.solver import cross_entropy, fit_linear, logistic_curvature
from reprkit.analysis.workspace import Workspace
from reprkit.embeddings import Embeddings
from reprkit.recipe import ProbeConfig

GRID = (1, 5, 15, 50)
ALPHAS = tuple(np.logspace(-1, 3.5, 10))
NAMES = [task.name for task in TASKS]
Variants = Mapping[str, Callable[[], Any]]


def times_faster(timings: list[Timing], ours: str, peer: str) -> str:
    """The peer's time over ours, round by round."""
    seconds = {timing.name: timing.seconds for timing in timings}
    return spread([b / a for a, b in zip(seconds[ours], seconds[peer], strict=True)])


def timed(args: argparse.Namespace, title: str, variants: Variants, ours: str, note: str = "") -> str:
    """A section's table: every variant, and how much faster ours is than each peer."""
    timings = interleave(variants, args.rounds, clock=args.clock, warmup=0)
    against = "; ".join(f"{times_faster(timings, ours, t.name)} x {t.name}" for t in timings if t.name != ours)
    return "\n\n".join(
        part for part in (f"### {title}", timing_table(timings), f"{ours}, faster: {against}", note) if part
    )


def knn(args: argparse.Namespace) -> list[str]:
    blocks = []
    for dim in args.dims:
        rows, asked = args.size(args.rows, 5000)
        source = Source(dim)
        (train, y), (test, _) = source.table("train", rows), source.table("test", asked)
        bank, queries = unit_rows(train), unit_rows(test)

        def one_call(name: str = "age", k: int = 15, bank: Any = bank, y: Any = y, queries: Any = queries) -> Any:
            return KNeighborsClassifier(k, algorithm="brute").fit(bank, y[name]).predict(queries)

        def calls(one_call: Any = one_call) -> dict[tuple[str, int], np.ndarray]:
            return {(name, k): one_call(name, k) for name in NAMES for k in GRID}

        def ours(train: Any = train, y: Any = y, test: Any = test) -> dict[tuple[str, int], np.ndarray]:
            indices, cosines = exact_neighbors(train, max(GRID), test)
            found = {}
            for task in TASKS:
                tallies = votes(y[task.name][indices], np.ones_like(cosines), list(GRID), task.num_outputs)
                found |= {(task.name, k): tally.argmax(axis=1) for k, tally in zip(GRID, tallies, strict=True)}
            return found

        def product(bank: Any = bank, queries: Any = queries) -> None:
            parts = linalg.row_slices(len(queries), 256)
            for _ in linalg.ordered_map(lambda part: (queries[part] @ bank.T).shape, parts):
                pass

        peers, mine = calls(), ours()
        different = {key: int((peers[key] != mine[key]).sum()) for key in peers}
        note = f"Labels that differ: {sum(different.values())} of {sum(len(v) for v in peers.values())}"
        variants = {
            "scikit-learn, 12 calls": calls,
            "scikit-learn, one call": one_call,
            "the product alone": product,
            "reprkit, all 12": ours,
        }
        title = f"kNN: {rows} + {asked} rows of {dim}, 3 tasks x k in {GRID}"
        blocks.append(timed(args, title, variants, "reprkit, all 12", note))
    return blocks


def svm(args: argparse.Namespace) -> list[str]:
    blocks = []
    for dim, count in zip(args.dims, (5000, 3000), strict=False):
        rows, asked = args.size(count, 1000)
        source, sizes = Source(dim), {"train": rows, "val": 200, "test": asked}
        path = source.write(args.folder / f"svm{dim}.h5", sizes)
        data = {split: source.table(split, n) for split, n in sizes.items()}
        config = ProbeConfig(probes=("svm_rbf",), bootstrap=2)
        rules = Protocol(svm_rbf_c=(1.0,))

        def ours(path: Path = path, config: Any = config, rules: Any = rules) -> dict[str, np.ndarray]:
            with Embeddings(path) as embeddings:
                tables = probe_with_predictions(embeddings, config=config, protocol=rules, progress=False).predictions
            return {name: table["svm_rbf"].to_numpy() for name, table in tables.items()}

        def task_by_task(data: Any = data) -> dict[str, np.ndarray]:
            found = {}
            for name in NAMES:
                scaler = StandardScaler().fit(data["train"][0])
                model = SVC(C=1.0).fit(scaler.transform(data["train"][0]), data["train"][1][name])
                model.predict(scaler.transform(data["val"][0]))
                found[name] = model.predict(scaler.transform(data["test"][0]))
            return found

        mine, theirs = ours(), task_by_task()
        different = sum(int((mine[name] != theirs[name]).sum()) for name in NAMES)
        variants = {"scikit-learn SVC": task_by_task, "reprkit": ours}
        note = f"Labels that differ: {different} of {len(NAMES) * asked}"
        title = f"RBF SVM: {rows} + {asked} rows of {dim}, 3 tasks, C = 1"
        blocks.append(timed(args, title, variants, "reprkit", note))
    return blocks


def linear(args: argparse.Namespace) -> list[str]:
    dim, (rows, _) = args.dims[0], args.size(args.rows, 5000)
    source = Source(dim)
    path = source.write(args.folder / "linear.h5", {"train": rows, "val": 100, "test": 100})
    z, y = source.table("train", rows)
    exact = StandardScaler().fit_transform(z.astype(np.float64))
    blocks = []
    for title, grid in (("one fit, C = 1", (1.0,)), ("one fit, C = 0.01", (0.01,)), ("path", Protocol().linear_c)):

        def ours(grid: Any = grid) -> list[tuple[np.ndarray, np.ndarray]]:
            found = []
            with Embeddings(path) as embeddings:
                space = Workspace(embeddings)
                centred, scale, eigen = space.centred("train"), space.scale, space.correlation_eigen
                for task in TASKS:
                    target, fit = space.targets("train", task.name), None
                    for c in grid:
                        fit = fit_linear(
                            centred,
                            cross_entropy(target),
                            task.num_outputs,
                            c,
                            count=rows,
                            scale=scale,
                            eigen=eigen,
                            curvature=logistic_curvature(np.bincount(target)),
                            start=fit,
                            workers=linalg.num_workers(),
                        )
                        found.append((fit.weights / fit.scale, fit.bias))
            return found

        def theirs(grid: Any = grid, warm: bool = False) -> list[tuple[np.ndarray, np.ndarray]]:
            found = []
            for task in TASKS:
                x = StandardScaler().fit_transform(z)
                two = (
                    task.num_outputs == 2
                )  # one weight vector there, ours has two: half the penalty for the same margins
                model = LogisticRegression(max_iter=2000, warm_start=warm)
                for c in grid:
                    model.set_params(C=c * (2 if two else 1)).fit(x, y[task.name])
                    w, b = model.coef_, model.intercept_
                    found.append((np.concatenate([-w, w]) / 2, np.concatenate([-b, b]) / 2) if two else (w, b))
            return found

        pairs = [(task, c) for task in TASKS for c in grid]
        mine, peers = ours(), theirs()
        gaps = [
            objective(exact, y[task.name], c, *peer) - objective(exact, y[task.name], c, *own)
            for (task, c), own, peer in zip(pairs, mine, peers, strict=True)
        ]
        note = f"Objective of scikit-learn above ours, in nats: {spread(gaps)}"
        variants: dict[str, Callable[[], Any]] = {"scikit-learn": theirs, "reprkit": ours}
        if len(grid) > 1:
            variants["scikit-learn, warm start"] = lambda theirs=theirs: theirs(warm=True)
        title = f"Logistic regression, {title} ({len(grid)} C): {rows} rows of {dim}, 3 tasks"
        blocks.append(timed(args, title, variants, "reprkit", note))
    return blocks


def objective(x: np.ndarray, y: np.ndarray, c: float, weights: np.ndarray, bias: np.ndarray) -> float:
    """Mean cross-entropy + |W|^2 / (2 C n), in float64."""
    scores = x @ weights.T + bias
    scores -= scores.max(axis=1, keepdims=True)
    losses = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(y)), y]
    return float(losses.mean() + (weights**2).sum() / (2 * c * len(y)))


def ridge(args: argparse.Namespace) -> list[str]:
    blocks = []
    for dim in args.dims:
        rows, _ = args.size(args.rows, 5000)
        source = Source(dim)
        path = source.write(args.folder / f"ridge{dim}.h5", {"train": rows, "val": 100, "test": 100})
        z, y = source.table("train", rows)

        def path_of_alphas(path: Path = path) -> np.ndarray:
            """[alphas, classes of all tasks, D] weights of the indicators of each class."""
            with Embeddings(path) as embeddings:
                space = Workspace(embeddings)
                moments, eigen = space.statistics, space.correlation_eigen
                sums = np.concatenate([moments.class_sums[name] for name in NAMES]) * space.scale
                return np.stack(ridge_path(eigen, sums, moments.count, ALPHAS))

        def one_fit(z: np.ndarray = z, y: Any = y) -> Any:
            return LogisticRegression(max_iter=1000).fit(StandardScaler().fit_transform(z), y["age"])

        hot = np.eye(TASKS[0].num_outputs)[y["age"]]
        peer = Ridge(ALPHAS[5]).fit(StandardScaler().fit_transform(z.astype(np.float64)), hot).coef_
        off = np.abs(path_of_alphas()[5, : TASKS[0].num_outputs] - peer).max() / np.abs(peer).max()
        variants = {"LogisticRegression, one fit of 7 classes": one_fit, "reprkit": path_of_alphas}
        note = f"Largest difference to scikit-learn's Ridge at alpha = {ALPHAS[5]:.3g}: {off:.1e} of the largest weight"
        title = f"Ridge path: {len(ALPHAS)} alphas x 3 tasks, {rows} rows of {dim}"
        blocks.append(timed(args, title, variants, "reprkit", note))
    return blocks


def suite(args: argparse.Namespace) -> list[str]:
    dim = args.dims[0]
    rows, asked = (20_000, 5000) if args.full else args.size(4000, 1000)
    source, sizes = Source(dim), {"train": rows, "val": asked, "test": asked}
    path = source.write(args.folder / "suite.h5", sizes)
    data = {split: source.table(split, n) for split, n in sizes.items()}
    z = {split: table for split, (table, _) in data.items()}
    y = {task: {split: targets[task] for split, (_, targets) in data.items()} for task in NAMES}
    names, rules = ProbeConfig().probes, Protocol()
    accuracy: dict[tuple[str, str], float] = {}

    def ours(*probes: str) -> Any:
        config = ProbeConfig(probes=probes, max_svm=max(rows, 100))  # exact, as the peer is, at any size
        with Embeddings(path) as embeddings:
            return probe(embeddings, config=config, progress=False)

    def naive(name: str) -> None:
        for task in NAMES:
            accuracy[name, task] = float((naive_fit(name, z, y[task], rules) == y[task]["test"]).mean())

    plain = [name for name in names if not name.startswith("tree")]
    alone = names if args.probes is None else args.probes
    variants: dict[str, Callable[[], Any]] = {}
    if not args.probes:
        variants = {"all but trees": lambda: ours(*plain), "all": lambda: ours(*names)}
    for name in alone:
        variants[f"naive {name}"] = lambda name=name: naive(name)
        variants[name] = lambda name=name: ours(name)
    ours("ncm")  # imports
    seconds = {t.name: t.seconds[0] for t in interleave(variants, 1, clock=args.clock, warmup=0)}
    if alone == names:
        seconds["naive all but trees"] = sum(seconds[f"naive {name}"] for name in plain)
        seconds["naive all"] = sum(seconds[f"naive {name}"] for name in names)
    found = ours(*alone).set_index(["task", "probe", "metric"])["value"] if alone else {}
    pairs = {key: (float(found[key[1], key[0], "accuracy"]), value) for key, value in accuracy.items()}
    table = []
    for name in (*alone, "all but trees", "all"):
        peer, own = seconds.get(f"naive {name}", float("nan")), seconds.get(name, float("nan"))
        both = [pairs.get((name, task)) for task in NAMES]
        texts = [f"{100 * pair[0]:.1f} / {100 * pair[1]:.1f}" if pair else "" for pair in both]
        table.append([name, f"{peer:.4g}", f"{own:.4g}", f"{peer / own:.3g}", *texts])
    off = {name: 100 * max(abs(a - b) for (probe, _), (a, b) in pairs.items() if probe == name) for name in alone}
    far = ", ".join(f"{name} {points:.2f}" for name, points in off.items() if round(points, 6) > 0.5)
    return [
        f"### Suite: {rows} + {asked} + {asked} rows of {dim}, 3 tasks, default probes and grids, one round",
        markdown_table(
            ["probe", "naive s", "reprkit s", "times faster", *(f"{n} %, ours / naive" for n in NAMES)], table
        ),
        f"Accuracies more than half a point apart: {far or 'none'} (one test sample: {100 / asked:.2f} points)",
    ]


def tsne(args: argparse.Namespace) -> list[str]:
    import openTSNE
    from scipy.spatial import cKDTree
    from sklearn.manifold import TSNE

    count, _ = args.size(10_000, 0)
    z, _ = Source(args.dims[0]).table("test", count)
    true, _ = exact_neighbors(z, 15, metric="euclidean")
    maps: dict[str, np.ndarray] = {}

    def ours() -> None:
        maps["reprkit"] = embed_in_plane(z, n_jobs=args.threads).points

    def open_tsne() -> None:
        maps["openTSNE, defaults"] = np.asarray(openTSNE.TSNE(n_jobs=args.threads, random_state=0).fit(z))

    def sklearn_tsne() -> None:
        maps["scikit-learn, defaults"] = TSNE(n_jobs=args.threads, random_state=0).fit_transform(z)

    variants = {"openTSNE, defaults": open_tsne, "scikit-learn, defaults": sklearn_tsne, "reprkit": ours}
    text = timed(args, f"t-SNE: {count} rows of {args.dims[0]}, perplexity 30", variants, "reprkit")
    kept = {}
    for name, points in maps.items():
        _, near = cKDTree(points).query(points, k=16)
        kept[name] = (true[:, :, None] == near[:, None, :]).any(axis=2).mean()
    return [text, "Recall@15 on the map: " + ", ".join(f"{name} {share:.3f}" for name, share in kept.items())]


def large_map(args: argparse.Namespace) -> list[str]:
    count, _ = args.size(50_000, 0)
    z, _ = Source(args.dims[0]).table("test", count)
    clock = time.process_time if args.clock == "cpu" else time.perf_counter
    made: dict[str, Any] = {}
    steps: dict[str, Callable[[], Any]] = {
        "neighbours of perplexity 30": lambda: Cloud.of(z, [30.0]),
        "750 iterations": lambda: embed_in_plane(made["neighbours of perplexity 30"], n_jobs=args.threads),
        "recall, trustworthiness, Spearman": lambda: map_quality(z, made["750 iterations"]),
    }
    rows = []
    for name, step in steps.items():
        start = clock()
        made[name] = step()
        rows.append([name, f"{clock() - start:.1f}"])
    return [
        f"### Map of {count} rows of {args.dims[0]}, one round",
        markdown_table(["step", f"{args.clock} seconds"], rows),
        ", ".join(f"{name} {value:.3f}" for name, value in made["recall, trustworthiness, Spearman"].items())
        + f"; peak resident memory {peak_bytes() / 1e9:.1f} GB",
    ]


def universality(args: argparse.Namespace) -> list[str]:
    return ["### Universality", "Measured by `python benchmarks/universality_cost.py --dummies 1000`."]


SECTIONS = {
    "knn": knn,
    "svm": svm,
    "linear": linear,
    "ridge": ridge,
    "suite": suite,
    "universality": universality,
    "tsne": tsne,
    "map": large_map,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--dims", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=linalg.num_workers())
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--rows", type=int, default=20_000, help="train rows of the sections knn, linear and ridge")
    parser.add_argument("--probes", nargs="*", choices=ProbeConfig().probes, help="suite: these only; none: ours alone")
    parser.add_argument("--full", action="store_true", help="suite with 20,000 train rows, one round")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: see that it runs, believe no number")
    args = parser.parse_args()
    if args.smoke:
        args.dims, args.rounds = [32, 48][: len(args.dims)], 1
    args.size = lambda train, test: (min(train, 600), min(test, 200)) if args.smoke else (train, test)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # read by linalg.num_workers
    warnings.filterwarnings("ignore", category=FutureWarning)
    with tempfile.TemporaryDirectory() as name, threadpool_limits(args.threads):
        args.folder = Path(name)
        blocks = [block for section in args.only for block in SECTIONS[section](args)]
    report("Cost of probes and maps", *blocks)


if __name__ == "__main__":
    main()
