"""What the dummy losses of the universality score cost beside a loop over dummies and beside the bare product.

    python benchmarks/universality_cost.py [--rows 20000] [--dims 512 2048] [--dummies 64] [--rounds 5] [--threads 2]
    python benchmarks/universality_cost.py --dummies 1000 --without-torch --rounds 2     # minutes

The job: 3 tasks (7, 2 and 5 classes), the permutation-minimised cross-entropy of every dummy on every sample. Variants:

- `loop`: for each task and dummy its logits, log_softmax, the C x C matrix of losses and its assignment (NumPy, SciPy);
- `loop (PyTorch)`: the same with PyTorch's product and log_softmax;
- `products alone`: the logits of all dummies, one NumPy product a task, and nothing else;
- `reprkit`: class sums, `linear_permutations` and `dummy_losses`, as `universality` runs them.

All variants may use `--threads` threads. The results agree (checked before timing). Rounds are interleaved and ratios
are taken within a round, as median [min..max]. NumPy's OpenBLAS kernel is part of the environment line: a variable
OPENBLAS_CORETYPE that names an old one slows every NumPy variant.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

import numpy as np
import torch
from common import interleave, report, timing_table
from scipy.optimize import linear_sum_assignment
from scipy.special import log_softmax
from threadpoolctl import threadpool_limits

from reprkit.analysis import linalg
from reprkit.analysis.rows import Rows
from reprkit.analysis.universal.dummies import draw_dummies
from reprkit.analysis.universal.gauges import linear_permutations
from reprkit.analysis.universal.scoring import CrossEntropy, dummy_losses

CLASSES = (7, 2, 5)


def variants(rows: int, dim: int, count: int) -> dict[str, Callable[[], list[np.ndarray]]]:
    """name -> function that returns, for each task, the mean loss of every dummy."""
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(rows, 64)).astype(np.float32)
    mixing = (rng.normal(size=(64, dim)) * np.arange(1, 65)[:, None] ** -0.5).astype(np.float32)
    z = np.maximum(latent @ mixing + 0.3 * rng.normal(size=(rows, dim)).astype(np.float32), 0)
    targets = [(latent[:, :c] + 0.7 * rng.gumbel(size=(rows, c))).argmax(axis=1) for c in CLASSES]
    dummies = draw_dummies("linear", dim=dim, outputs=max(CLASSES), count=count, seed=0)
    weights = dummies.first.astype(np.float32)
    tensor = torch.from_numpy(z)

    def assigned(logs: np.ndarray, y: np.ndarray, classes: int) -> float:
        cost = -np.stack([logs[y == c].sum(axis=0, dtype=np.float64) for c in range(classes)])
        chosen = linear_sum_assignment(cost)
        return float(cost[chosen].sum() / len(y))

    def loop() -> list[np.ndarray]:
        return [
            np.array([assigned(log_softmax(z @ weights[:c, m].T, axis=1), y, c) for m in range(count)])
            for c, y in zip(CLASSES, targets, strict=True)
        ]

    def loop_torch() -> list[np.ndarray]:
        found = []
        for c, y in zip(CLASSES, targets, strict=True):
            heads = torch.from_numpy(weights[:c])
            logs = ((tensor @ heads[:, m].T).log_softmax(dim=1).numpy() for m in range(count))
            found.append(np.array([assigned(values, y, c) for values in logs]))
        return found

    def products() -> list[np.ndarray]:
        return [z @ weights[:c].reshape(-1, dim).T for c in CLASSES]

    def ours() -> list[np.ndarray]:
        # The share of `sufficient_statistics` that the dummies need: counts, mean and class sums, in one product.
        hot = np.concatenate([linalg.one_hot(y, c, np.float32) for c, y in zip(CLASSES, targets, strict=True)])
        counts, sums = hot.sum(axis=1), hot @ z
        mean = sums[: CLASSES[0]].sum(axis=0, dtype=np.float64) / rows
        view, requests, start = dummies.view(mean, None), [], 0
        for c, y in zip(CLASSES, targets, strict=True):
            n = counts[start : start + c]
            centred = sums[start : start + c] - n[:, None] * mean
            requests.append(CrossEntropy(view, y, linear_permutations(dummies, view, n, centred)))
            start += c
        totals = [np.zeros(count) for _ in CLASSES]
        for _, losses in dummy_losses((block for _, block in Rows.of(z).blocks()), dummies, requests, mean=mean):
            for total, block in zip(totals, losses, strict=True):
                total += block.sum(axis=1, dtype=np.float64)
        return [total / rows for total in totals]

    return {"loop": loop, "loop (PyTorch)": loop_torch, "products alone": products, "reprkit": ours}


def check(made: dict[str, Callable[[], list[np.ndarray]]]) -> float:
    """Largest difference in nats between reprkit and the loop; fails above 1e-4."""
    worst = max(float(np.abs(a - b).max()) for a, b in zip(made["reprkit"](), made["loop"](), strict=True))
    if worst > 1e-4:
        raise SystemExit(f"reprkit and the loop differ by {worst:.2g} nats")
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dims", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--dummies", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=linalg.num_workers())
    parser.add_argument("--without-torch", action="store_true", help="leave the loop in PyTorch out")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # read by linalg.num_workers
    torch.set_num_threads(args.threads)
    blocks = []
    with threadpool_limits(args.threads):
        for dim in args.dims:
            made = variants(args.rows, dim, args.dummies)
            if args.without_torch:
                del made["loop (PyTorch)"]
            worst = check(made)  # runs what matters once: no other warm-up
            by_loop = interleave(made, args.rounds, baseline="loop", clock=args.clock, warmup=0)
            against = next(t for t in by_loop if t.name == "products alone")
            ours = next(t for t in by_loop if t.name == "reprkit")
            share = sorted(a / b for a, b in zip(ours.seconds, against.seconds, strict=True))
            blocks.append(
                f"N = {args.rows}, D = {dim}, {args.dummies} dummies, {CLASSES} classes, {args.threads} threads "
                f"({args.clock} time); largest difference to the loop {worst:.1e} nats"
            )
            blocks.append(timing_table(by_loop))
            blocks.append(
                f"Faster than the loop {1 / ours.median_ratio:.1f}x; time over that of the products alone "
                f"{share[len(share) // 2]:.2f} [{share[0]:.2f}..{share[-1]:.2f}]"
            )
    report("Cost of the dummy losses", *blocks)


if __name__ == "__main__":
    main()
