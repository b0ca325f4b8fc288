"""What DGR costs on dense heads, beside Vanilla and the published procedure, and whether rooms keep up with training.

    python benchmarks/dense_cost.py [--batch 2] [--size 96 128] [--rounds 3] [--threads 2] [--clock cpu]

One training step (forward, backward, SGD) of a dilated ResNet-50 (stride 8) with three ASPP heads of 256 channels
(segmentation, depth, normals) and three dummies each, on random tensors. Every round runs one step of each variant in
turn; ratios are taken within a round and reported as median [min..max]. Peak memory as in `step_cost`.

    vanilla+dgr                    as it is chosen by `gram_pays`
    vanilla+dgr, no Gram           every gradient is formed, head by head
    vanilla+dgr, whole graph       one double backward through all dummies at once, which keeps every graph
    published, what it needs       a dummy set's losses, and a second forward of the encoder and of that set alone
    published                      as released: the second forward runs all real heads and all dummy sets too

Rendered images a second are those of `load_rooms` (both cores, arrays written to a fresh cache), beside the images that
a step of ResNet-18, dilated, with the same heads takes in the same round.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from common import TIMING_HEADERS, Clock, interleave, markdown_table, report, spread
from step_cost import peak_memory
from torch import Tensor, nn

from reprkit.data.rooms import TASKS, load_rooms
from reprkit.models import build_model
from reprkit.recipe import ModelConfig
from reprkit.training import conv_norms
from reprkit.training.dgr import DummyGradientNorm

WEIGHT = 0.1
EPSILON = 1e-3
Targets = dict[str, Tensor]
Addition = Callable[[nn.Module, DummyGradientNorm, Tensor, Targets, Tensor, Tensor], None]


def variants(batch: int, size: tuple[int, int], only: list[str]) -> dict[str, Callable[[], None]]:
    """One training step a variant, each with its own model; the first is Vanilla."""
    additions: dict[str, Addition] = {
        "vanilla+dgr": _dgr,
        "vanilla+dgr, no Gram": _no_gram,
        "vanilla+dgr, whole graph": _whole_graph,
        "published, what it needs": lambda *args: _published(*args, everything=False),
        "published": lambda *args: _published(*args, everything=True),
    }
    chosen = {name: a for name, a in additions.items() if not only or any(text in name for text in only)}
    return {
        "vanilla": _step("resnet50", batch, size),
        **{n: _step("resnet50", batch, size, a) for n, a in chosen.items()},
    }


def _step(encoder: str, batch: int, size: tuple[int, int], addition: Addition | None = None) -> Callable[[], None]:
    torch.manual_seed(0)
    model = build_model(ModelConfig(encoder), TASKS, 3).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    images = torch.randn(batch, 3, *size)
    targets = {
        "segmentation": torch.randint(-1, TASKS[0].num_outputs, (batch, *size)),
        "depth": 5 * torch.rand(batch, *size),
        "normals": nn.functional.normalize(torch.randn(batch, 3, *size), dim=1),
    }
    penalty = DummyGradientNorm(model.heads, TASKS) if addition is not None else None

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        z = model.encode(images)
        loss = torch.stack([task.loss(model.heads[task.name](z), targets[task.name]) for task in TASKS]).sum()
        if addition is None or penalty is None:
            loss.backward()
        else:
            addition(model, penalty, images, targets, z, loss)
        optimizer.step()

    return step


def _dgr(
    model: nn.Module, penalty: DummyGradientNorm, images: Tensor, targets: Targets, z: Tensor, loss: Tensor
) -> None:
    (loss + WEIGHT * penalty(z, targets)).backward()


def _no_gram(*args: object) -> None:
    kept, conv_norms.gram_pays = conv_norms.gram_pays, lambda *_, **__: False
    try:
        _dgr(*args)  # type: ignore[arg-type]
    finally:
        conv_norms.gram_pays = kept


def _whole_graph(
    model: nn.Module, penalty: DummyGradientNorm, images: Tensor, targets: Targets, z: Tensor, loss: Tensor
) -> None:
    total = torch.zeros(())
    for heads in penalty.sets:
        for head, task in zip(heads, TASKS, strict=True):
            parameters = [p.requires_grad_() for p in head.parameters()]
            gradients = torch.autograd.grad(task.loss(head(z), targets[task.name]), parameters, create_graph=True)
            total = total + torch.stack([(g**2).sum() for g in gradients]).sum().sqrt() / len(penalty.sets)
    torch.autograd.backward(loss + WEIGHT * total, inputs=list(model.parameters()))


def _published(
    model: nn.Module, penalty: DummyGradientNorm, images: Tensor, targets: Targets, z: Tensor, loss: Tensor,
    everything: bool,
) -> None:  # fmt: skip
    """The released procedure: a finite difference of the squared norm through the whole network, a dummy set at a time.

    Its dummies are in training mode; its first forward runs all of them.
    """
    shared, sets = model.shared_parameters(), penalty.sets.train()

    def losses(outputs: list[Tensor]) -> Tensor:
        return torch.stack([t.loss(y, targets[t.name]) for t, y in zip(TASKS, outputs, strict=True)]).sum()

    extra = [torch.zeros_like(p) for p in shared]
    sets.requires_grad_(True)
    first = [[head(z) for head in heads] for heads in sets] if everything else []
    for number, heads in enumerate(sets):
        parameters = list(heads.parameters())
        before = losses(first[number] if everything else [head(z) for head in heads])
        direction = torch.autograd.grad(before, parameters, retain_graph=True)
        g0 = torch.autograd.grad(before, shared, retain_graph=True)
        scale = EPSILON / torch.sqrt(sum((d**2).sum() for d in direction))
        with torch.no_grad():
            torch._foreach_add_(parameters, torch._foreach_mul(direction, scale))
        z2 = model.encode(images)
        others = [model.heads[t.name](z2) for t in TASKS] if everything else []
        second = [[head(z2) for head in some] if everything or some is heads else [] for some in sets]
        after = losses(second[number])
        g1 = torch.autograd.grad(after, shared)
        del others, second
        with torch.no_grad():
            torch._foreach_sub_(parameters, torch._foreach_mul(direction, scale))
            gap = 2 * (after - before) / EPSILON**2
            for e, a, b in zip(extra, g1, g0, strict=True):
                e.add_(gap * (a - b) / len(sets))
    loss.backward()
    with torch.no_grad():
        for p, e in zip(shared, extra, strict=True):
            p.grad.add_(e, alpha=WEIGHT)


def steps_table(steps: dict[str, Callable[[], None]], rounds: int, clock: Clock) -> str:
    """Time and peak memory of each variant, with what the published procedure takes of the same."""
    timings = interleave(steps, rounds, clock=clock)
    peaks = {name: peak_memory(step) for name, step in steps.items()}
    by_name = {t.name: t for t in timings}
    rows = []
    for t in timings:
        times = ""
        if "published" in by_name:
            times = spread([p / s for p, s in zip(by_name["published"].seconds, t.seconds, strict=True)])
        rows.append([*t.cells(), times, f"{peaks[t.name]:.0f}", f"{peaks[t.name] / peaks['vanilla']:.2f}"])
    return markdown_table([*TIMING_HEADERS, "published / this", "peak MB", "memory ratio"], rows)


def rooms_table(batch: int, size: tuple[int, int], rounds: int, clock: Clock, count: int = 24) -> str:
    """Images a second: rendered, and taken by training."""
    made = _render(count, size)

    def render() -> None:
        _render(count, size)

    train, rendered = interleave({"train": _step("resnet18", batch, size), "render": render}, rounds, clock=clock)
    ratios = [made / r / (batch / t) for r, t in zip(rendered.seconds, train.seconds, strict=True)]
    rows = [
        [f"training, ResNet-18, batch {batch}", f"{batch / train.median_seconds:.1f}", "1"],
        [f"rooms, {made} images rendered", f"{made / rendered.median_seconds:.1f}", spread(ratios)],
    ]
    return markdown_table(["", "images a second", "ratio"], rows)


def _render(count: int, size: tuple[int, int]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        return len(load_rooms(size, count, Path(folder)).images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--size", type=int, nargs=2, default=[96, 128], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", nargs="+", default=[], metavar="TEXT", help="variants that contain one of these")
    parser.add_argument("--tables", nargs="+", default=["dgr", "rooms"], choices=["dgr", "rooms"])
    parser.add_argument("--clock", default="wall", choices=["wall", "cpu"], help="cpu: steadier on a busy machine")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    height, width = args.size
    what = f"batch {args.batch}, {height} x {width}, 3 tasks, ASPP heads of 256 channels"
    blocks = []
    if "dgr" in args.tables:
        steps = variants(args.batch, (height, width), args.only)
        blocks += [f"One training step of ResNet-50, stride 8: {what}", steps_table(steps, args.rounds, args.clock)]
    if "rooms" in args.tables:
        blocks += ["Rooms beside training", rooms_table(8, (height, width), args.rounds, args.clock)]
    report("Cost of DGR on dense heads", *blocks)


if __name__ == "__main__":
    main()
