"""What DGR and every method cost in a training step: time and peak memory beside Vanilla and beside the peers.

    python benchmarks/step_cost.py [--encoders resnet18 resnet50] [--tables dgr methods] [--rounds 7] [--threads 2]

Every round runs one step of each variant in turn; ratios are taken within a round and reported as
median [min..max]. The peer "published" follows the released procedure: for each dummy set one more forward of
the whole encoder and two more backwards through it, with a finite difference of the squared norm. Peak memory
is the highest sum of live tensors during a step above that between steps, as PyTorch's allocator saw it.

The methods' table runs reprkit's own update, as training does, at both levels. Floors, with a backward at twice the
cost of a forward: (1 + 2 K) / 3 = 2.33 for one encoder backward a task (K = 3), 3.00 with DGR's on top, 2.00 for SAM,
10/3 for Auto-lambda, 8/3 lagged. The peer is torchjd's `mtl_backward` (if installed), with its defaults and with one
backward at a time.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from common import TIMING_HEADERS, interleave, markdown_table, report, timing_table
from torch import Tensor

from reprkit.models import build_model
from reprkit.recipe import BalancingConfig, ModelConfig
from reprkit.tasks import Task
from reprkit.training.balancing import build_method
from reprkit.training.batches import Batch
from reprkit.training.dgr import DummyGradientNorm
from reprkit.training.objective import ExtraDecoders, Objective
from reprkit.training.update import Update

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler's own chatter

TASKS = (Task("age", "ordinal", 7), Task("gender", "classification", 2), Task("ethnicity", "classification", 5))
BATCH = {"resnet18": 64, "resnet50": 32}
WEIGHT = 0.1


def variants(encoder: str, names: list[str] | None = None) -> dict[str, Callable[[], None]]:
    """One training step (forward, backward, Adam) a variant, each with its own model."""
    made: dict[str, Callable[[], None]] = {}
    options = {
        "vanilla": {"dummies": 0},
        "vanilla+dgr (1 dummy)": {"dummies": 1},
        "vanilla+dgr (3 dummies)": {"dummies": 3},
        "vanilla+dgr, gelu (3 dummies)": {"dummies": 3, "activation": "gelu"},
        "published (1 dummy)": {"dummies": 1, "published": True},
        "published (3 dummies)": {"dummies": 3, "published": True},
        "vanilla, bf16 channels_last": {"dummies": 0, "bf16": True},
        "vanilla+dgr, bf16 channels_last (3 dummies)": {"dummies": 3, "bf16": True},
    }
    for name, option in options.items():
        if names is None or name in names:
            made[name] = _step(encoder, **option)
    return made


def _step(
    encoder: str, dummies: int, published: bool = False, bf16: bool = False, activation: str = "same"
) -> Callable[[], None]:
    torch.manual_seed(0)
    model = build_model(ModelConfig(encoder), TASKS, 3).train()
    images = torch.randn(BATCH[encoder], 3, 64, 64)
    if bf16:
        model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    targets = {task.name: torch.randint(0, task.num_outputs, (len(images),)) for task in TASKS}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    penalty = DummyGradientNorm(model.heads, TASKS, num_dummies=dummies, activation=activation) if dummies else None

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            z = model.encode(images)
            outputs = {task.name: model.heads[task.name](z) for task in TASKS}
        loss = torch.stack([task.loss(outputs[task.name].float(), targets[task.name]) for task in TASKS]).sum()
        if penalty is not None and published:
            _published_backward(model, penalty, images, targets, z, loss)
        else:
            (loss if penalty is None else loss + WEIGHT * penalty(z, targets)).backward()
        optimizer.step()

    return step


def methods(encoder: str, only: list[str]) -> dict[str, Callable[[], None]]:
    """One update a method, where its name contains one of `only`; the first is Vanilla."""
    gramian = ["pcgrad", "cagrad", "imtl", "nash_mtl", "mgda"]
    made = {"vanilla": _update(encoder, "vanilla")}
    for level in ("parameters", "representation"):
        for name in [*gramian, "graddrop"]:
            made[f"{name}, {level}"] = _update(encoder, name, level=level)
        for name in ("nash_mtl", "cagrad"):
            made[f"{name}+dgr, {level}"] = _update(encoder, name, dgr=True, level=level)
    made["uncertainty"] = _update(encoder, "uncertainty")
    made["gradnorm"] = _update(encoder, "gradnorm")
    made["vanilla+sam"] = _update(encoder, "vanilla", rho=0.05)
    made["vanilla+pta (3 extra decoders)"] = _update(encoder, "vanilla", decoders=3)
    made["auto_lambda"] = _update(encoder, "auto_lambda")
    made["auto_lambda, lagged"] = _update(encoder, "auto_lambda", lagged=True)
    if importlib.util.find_spec("torchjd"):
        made["torchjd mtl_backward, PCGrad"] = _torchjd(encoder, None)
        made["torchjd mtl_backward, PCGrad, one at a time"] = _torchjd(encoder, 1)
    return {name: step for name, step in made.items() if name == "vanilla" or any(text in name for text in only)}


def _update(
    encoder: str, name: str, dgr: bool = False, rho: float = 0.0, decoders: int = 0, **options: Any
) -> Callable[[], None]:
    torch.manual_seed(0)
    model = build_model(ModelConfig(encoder), TASKS, 3).train()
    penalty = DummyGradientNorm(model.heads, TASKS) if dgr else None
    extra = ExtraDecoders(model.heads, decoders=decoders) if decoders else None
    objective = Objective(model, TASKS, penalty, WEIGHT, extra)
    method = build_method(name, BalancingConfig(**options), len(TASKS), seed=0)
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-4)
    if method.learnt_parameters():
        optimizer.add_param_group({"params": method.learnt_parameters()})
    method.attach(optimizer)
    method.end_epoch(torch.ones(len(TASKS)))  # GradNorm only works from the second epoch on
    update = Update(objective, method, optimizer, rho)
    batch, meta = _batch(encoder), _batch(encoder)
    return lambda: update(batch, meta if method.needs_meta else None)


def _batch(encoder: str) -> Batch:
    size = BATCH[encoder]
    targets = {task.name: torch.randint(0, task.num_outputs, (size,)) for task in TASKS}
    return Batch(np.arange(size), torch.randn(size, 3, 64, 64), targets)


def _torchjd(encoder: str, chunk: int | None) -> Callable[[], None]:
    from torchjd.aggregation import PCGrad
    from torchjd.autojac import jac_to_grad, mtl_backward

    torch.manual_seed(0)
    model = build_model(ModelConfig(encoder), TASKS, 3).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    batch, aggregator, shared = _batch(encoder), PCGrad(), model.shared_parameters()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        z = model.encode(batch.images)
        losses = [task.loss(model.heads[task.name](z), batch.targets[task.name]) for task in TASKS]
        mtl_backward(losses, features=z, parallel_chunk_size=chunk)
        jac_to_grad(shared, aggregator)
        optimizer.step()

    return step


def _published_backward(
    model: torch.nn.Module, penalty: DummyGradientNorm, images: Tensor, targets: dict, z: Tensor, loss: Tensor
) -> None:
    """The pass count of the released procedure: per dummy set, one encoder forward and two encoder backwards."""
    shared = model.shared_parameters()
    epsilon = 1e-4

    def dummy_loss(heads: torch.nn.ModuleList, z: Tensor) -> Tensor:
        return torch.stack([t.loss(h(z), targets[t.name]) for h, t in zip(heads, TASKS, strict=True)]).sum()

    extra = [torch.zeros_like(p) for p in shared]
    for heads in penalty.sets:
        heads.requires_grad_(True)
        parameters = list(heads.parameters())
        before = dummy_loss(heads, z)
        direction = torch.autograd.grad(before, parameters, retain_graph=True)
        g0 = torch.autograd.grad(before, shared, retain_graph=True)
        scale = epsilon / torch.sqrt(sum((d**2).sum() for d in direction))
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.add_(d, alpha=float(scale))
        z2 = model.encode(images)
        for task in TASKS:
            model.heads[task.name](z2)
        after = dummy_loss(heads, z2)
        g1 = torch.autograd.grad(after, shared)
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.sub_(d, alpha=float(scale))
            gap = 2 * (after - before) / epsilon**2
            for e, a, b in zip(extra, g1, g0, strict=True):
                e.add_(gap * (a - b) / len(penalty.sets))
    loss.backward()
    with torch.no_grad():
        for p, e in zip(shared, extra, strict=True):
            p.grad.add_(e, alpha=WEIGHT)


def peak_memory(step: Callable[[], None]) -> float:
    """Highest sum of live tensor bytes during one step above that before it, in MB, as PyTorch's allocator saw it."""
    step()  # from here on Adam's moments are there
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    changes = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = itertools.accumulate(e.nbytes() for e in sorted(changes, key=lambda e: e.start_ns()))
    return max(live) / 1e6


def extraction(encoder: str) -> dict[str, Callable[[], None]]:
    """One batch through the frozen encoder, float32 and bf16 with channels_last."""
    made = {}
    for name, bf16 in {"extract float32": False, "extract bf16 channels_last": True}.items():
        torch.manual_seed(0)
        model = build_model(ModelConfig(encoder), TASKS, 3).eval()
        images = torch.randn(256, 3, 64, 64)
        if bf16:
            model.to(memory_format=torch.channels_last)
            images = images.contiguous(memory_format=torch.channels_last)

        def run(model=model, images=images, bf16=bf16) -> None:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                model.encode(images)

        made[name] = run
    return made


def dgr_blocks(encoder: str, rounds: int, *, memory: bool) -> list[str]:
    """The tables of DGR, of mixed precision and of extraction."""
    steps = variants(encoder)
    half = {name: step for name, step in steps.items() if name == "vanilla" or "bf16" in name}
    return [
        f"One training step: {_what(encoder)}",
        _table({name: step for name, step in steps.items() if "bf16" not in name}, rounds, memory=memory),
        "The same in mixed precision",
        timing_table(interleave(half, rounds)),
        f"{encoder}, frozen, one batch of 256 at 64 px",
        timing_table(interleave(extraction(encoder), rounds)),
    ]


def _table(steps: dict[str, Callable[[], None]], rounds: int, *, memory: bool) -> str:
    timings = interleave(steps, rounds)
    peaks = {t.name: peak_memory(steps[t.name]) if memory else 0.0 for t in timings}
    base = max(peaks[timings[0].name], 1e-9)
    rows = [[*t.cells(), f"{peaks[t.name]:.0f}", f"{peaks[t.name] / base:.2f}"] for t in timings]
    return markdown_table([*TIMING_HEADERS, "peak MB", "memory ratio"], rows)


def _what(encoder: str) -> str:
    return f"{encoder}, 64 px, batch {BATCH[encoder]}, 3 tasks, MLP heads (hidden 64), Adam"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", nargs="+", default=["resnet18", "resnet50"], choices=list(BATCH))
    parser.add_argument("--tables", nargs="+", default=["dgr", "methods"], choices=["dgr", "methods"])
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="TEXT", help="methods whose row contains one of these"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--no_memory", action="store_true", help="skip the memory column")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    blocks = []
    for encoder in args.encoders:
        if "dgr" in args.tables:
            blocks += dgr_blocks(encoder, args.rounds, memory=not args.no_memory)
        if "methods" in args.tables:
            blocks += [
                f"One update of every method: {_what(encoder)}",
                _table(methods(encoder, args.only), args.rounds, memory=not args.no_memory),
            ]
    report("Cost of a training step", *blocks)


if __name__ == "__main__":
    main()
