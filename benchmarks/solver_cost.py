"""What a call of the Gramian methods costs and how exact it is, beside torchjd's weightings and SciPy's SLSQP.

    python benchmarks/solver_cost.py [--tasks 3 5] [--problems 8] [--rounds 3]

Gramians of K tasks that drift from problem to problem as in training: gradients of one length, and of lengths from 1 to
1000. Each variant solves all problems in turn, the quick ones several times over, on one thread, from a float64 Tensor
to a Tensor. Times are CPU seconds. Rounds are interleaved; ratios are taken within a round, against ours, as median
[min..max]. The error of a method is the worst over the problems:

- Nash-MTL: max |w (G w) - 1|;
- CAGrad (c = 0.4, without rescaling): shortfall of min_k <g_k, d> from the least dual value any variant found, relative
  to the longest gradient times the radius c |g0|;
- MGDA: duality gap u'u - min_k <g_k, u>, relative to the longest gradient squared;
- IMTL-G: spread of the projections on the unit gradients, relative to sum |w_k| |g_k|.

torchjd's solvers of Nash-MTL and CAGrad need cvxpy and ecos; variants that cannot be imported are left out. Its
Nash-MTL starts from the weights of the problem before and takes a matrix: it gets a Cholesky factor of the Gramian.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from common import interleave, markdown_table, report, spread
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits
from torch import Tensor

from reprkit.training.balancing import cagrad, imtl_g, mgda, nash_mtl, pcgrad

C = 0.4
Solver = Callable[[Tensor], Tensor]


def slsqp(G: Tensor) -> Tensor:
    """CAGrad as most published code solves it."""
    g = G.numpy() / G.diagonal().sqrt().mean().item() ** 2  # their normalisation
    count = len(g)
    b = g.mean(axis=1)
    phi = C * np.sqrt(b.mean())
    found = minimize(
        lambda w: w @ b + phi * np.sqrt(w @ g @ w + 1e-8),
        np.full(count, 1 / count),
        bounds=[(0, 1)] * count,
        constraints={"type": "eq", "fun": lambda w: 1 - w.sum()},
    )
    return torch.from_numpy(1 / count + phi * found.x / np.sqrt(found.x @ g @ found.x + 1e-8))


def solvers(count: int) -> dict[str, dict[str, Solver]]:
    """Method -> variant -> from a Gramian to weights; ours first. CAGrad in mean scale."""
    made: dict[str, dict[str, Solver]] = {
        "Nash-MTL": {"reprkit": lambda G: nash_mtl(G, scale="nash")},
        "CAGrad": {"reprkit": lambda G: cagrad(G, c=C, rescale=0) / len(G), "SciPy SLSQP": slsqp},
        "MGDA": {"reprkit": mgda},
        "IMTL-G": {"reprkit": imtl_g},
        "PCGrad": {"reprkit": pcgrad},
    }
    if importlib.util.find_spec("torchjd") is None:
        return made
    from torchjd import aggregation as theirs

    made["MGDA"]["torchjd"] = theirs.MGDAWeighting()
    made["IMTL-G"]["torchjd"] = theirs.IMTLGWeighting()
    made["PCGrad"]["torchjd"] = theirs.PCGradWeighting()
    if importlib.util.find_spec("cvxpy") is not None:
        made["CAGrad"]["torchjd (cvxpy)"] = theirs.CAGradWeighting(c=C)
        if importlib.util.find_spec("ecos") is not None:
            aggregator = theirs.NashMTL(n_tasks=count, max_norm=0.0)
            made["Nash-MTL"]["torchjd (cvxpy, ecos)"] = lambda G: aggregator.weighting(torch.linalg.cholesky(G))
    return made


def errors(method: str, problems: list[Tensor], weights: dict[str, list[np.ndarray]]) -> dict[str, float]:
    """Variant -> its worst error over the problems, as the head of this file defines it; empty for PCGrad."""
    if method == "PCGrad":  # nothing to solve
        return {}
    worst = dict.fromkeys(weights, 0.0)
    for i, problem in enumerate(problems):
        g = problem.numpy()
        norms = np.sqrt(g.diagonal())
        if method == "CAGrad":
            b = g.mean(axis=1)
            phi = C * np.sqrt(b.mean())
            mixes = [np.maximum(w[i] - 1 / len(g), 0) for w in weights.values()]  # the dual solutions, up to length
            mixes = [mix / mix.sum() for mix in mixes if mix.sum() > 0]
            bound = min(mix @ b + phi * np.sqrt(mix @ g @ mix) for mix in mixes)
        for name, found in weights.items():
            w = found[i]
            if method == "Nash-MTL":
                error = np.abs(w * (g @ w) - 1).max()
            elif method == "CAGrad":
                error = (bound - (g @ w).min()) / (norms.max() * phi)
            elif method == "MGDA":
                w = w / w.sum()
                error = (w @ g @ w - (g @ w).min()) / norms.max() ** 2
            else:
                error = np.ptp(g @ w / norms) / (np.abs(w) @ norms)
            worst[name] = max(worst[name], float(error))
    return worst


def gramians(count: int, problems: int, ratio: float) -> list[Tensor]:
    rng = np.random.default_rng(count)
    lengths = rng.permutation(np.geomspace(1, ratio, count))
    rows, made = rng.normal(size=(count, 2 * count)), []
    for _ in range(problems):
        rows = 0.95 * rows + 0.3 * rng.normal(size=rows.shape)
        J = rows * (lengths / np.linalg.norm(rows, axis=1))[:, None]
        made.append(torch.from_numpy(J @ J.T))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, nargs="+", default=[3, 5])
    parser.add_argument("--problems", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")  # cvxpy on problems it cannot cache, solvers on inaccurate solutions
    rows = []
    with threadpool_limits(1):
        for count in args.tasks:
            made = solvers(count)
            for ratio in (1.0, 1000.0):
                problems = gramians(count, args.problems, ratio)
                for method, variants in made.items():
                    weights, runs, calls = {}, {}, {}
                    for name, solve in variants.items():
                        start = time.process_time()
                        weights[name] = [solve(G).double().numpy() for G in problems]
                        passes = max(1, int(0.02 / (time.process_time() - start)))
                        runs[name] = lambda f=solve, batch=problems * passes: [f(G) for G in batch]
                        calls[name] = len(problems) * passes
                    timings = interleave(runs, args.rounds, clock=args.clock, warmup=0)
                    seconds = {t.name: [s / calls[t.name] for s in t.seconds] for t in timings}
                    worst = errors(method, problems, weights)
                    for name, each in seconds.items():
                        ratios = [s / ours for s, ours in zip(each, seconds["reprkit"], strict=True)]
                        cost = f"{1e3 * statistics.median(each):.3f}"
                        error = f"{worst[name]:.1e}" if name in worst else ""
                        rows.append([count, f"1:{ratio:g}", method, name, cost, spread(ratios), error])
    headers = ["K", "lengths", "method", "variant", "ms a call", "ratio to reprkit", "worst error"]
    report(
        "Cost of the Gramian methods",
        f"{args.problems} problems each, one thread, {args.clock} time",
        markdown_table(headers, rows),
    )


if __name__ == "__main__":
    main()
