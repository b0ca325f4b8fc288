"""How far the published finite difference of the DGR penalty is from the exact gradient: direction and length at z.

    python benchmarks/penalty_estimators.py

One dummy 512-64-7, a batch of 64, power 2, float32; median and range over draws of heads, rows and targets. Nothing is
timed.
"""

from __future__ import annotations

import argparse
import warnings

import torch
from common import markdown_table, report, spread

from reprkit.models.heads import MLPHead
from reprkit.tasks import Task
from reprkit.training import DummyGradientNorm

ACTIVATIONS, STEPS = ("relu", "gelu"), (1e-1, 1e-2, 1e-3, 1e-4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # the estimator warns of what is shown here
    rows = []
    for activation in ACTIVATIONS:
        for step in STEPS:
            found = [compare(activation, step, seed) for seed in range(options.draws)]
            rows.append([activation, f"{step:g}", *(spread(values) for values in zip(*found, strict=True))])
    table = markdown_table(["dummies", "h", "cosine", "length / exact"], rows)
    report("Finite difference beside the exact gradient", table)


def compare(activation: str, step: float, seed: int) -> tuple[float, float]:
    """Cosine of the two gradients with respect to z, and the ratio of their lengths."""
    torch.manual_seed(seed)
    heads = {"task": MLPHead(512, 7)}
    z = torch.randn(64, 512).relu().requires_grad_()
    targets = {"task": torch.randint(0, 7, (64,))}

    def gradient(**options: object) -> torch.Tensor:
        common = {"num_dummies": 1, "power": 2, "activation": activation, "seed": seed}
        penalty = DummyGradientNorm(heads, [Task("task", "classification", 7)], **common, **options)
        return torch.autograd.grad(penalty(z, targets), z)[0]

    exact, estimate = gradient(), gradient(estimator="finite_difference", step=step)
    lengths = exact.norm(), estimate.norm()
    return float((exact * estimate).sum() / (lengths[0] * lengths[1])), float(lengths[1] / lengths[0])


if __name__ == "__main__":
    main()
