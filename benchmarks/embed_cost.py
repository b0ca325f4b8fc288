"""What it costs to put embeddings on disk: time beside the bare encoder, memory, and the naive way as a peer.

    python benchmarks/embed_cost.py                 # all parts, some minutes on two cores
    python benchmarks/embed_cost.py --smoke         # seconds, to see that it runs

Targets: overhead at most 2 % of the encoder, and memory growth at most 32 MB at any number of rows. The naive way
(a list of batches, concatenated, written at once) stands beside it: it has no checksums, cannot be continued and
is not read back, so it takes less time, and memory in proportion to the rows.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import common
import h5py
import numpy as np

from reprkit.embeddings import EmbeddingsWriter, SplitRows
from reprkit.tasks import Task

TASKS = [Task("kind", "classification", 10)]
Encode = Callable[[int], np.ndarray]


def rows_of(count: int) -> SplitRows:
    return SplitRows([f"{i:08d}.png" for i in range(count)], {"kind": np.arange(count) % 10})


def batches(count: int, batch: int) -> Iterator[tuple[int, int]]:
    return ((start, min(batch, count - start)) for start in range(0, count, batch))


def encode_only(encode: Encode, count: int, batch: int) -> None:
    for _, size in batches(count, batch):
        encode(size)


def encode_and_write(encode: Encode, count: int, batch: int, dim: int, path: Path, dtype: str = "float32") -> None:
    path.unlink(missing_ok=True)
    with EmbeddingsWriter(path, splits={"train": rows_of(count)}, tasks=TASKS, dim=dim, dtype=dtype) as writer:  # type: ignore[arg-type]
        for start, size in batches(count, batch):
            writer.append("train", encode(size), start=start)
        writer.finish()


def encode_and_concatenate(encode: Encode, count: int, batch: int, path: Path) -> None:
    """The peer: keep everything in a list, then write it in one go. No checksum, no resume, no verification."""
    path.unlink(missing_ok=True)
    z = np.concatenate([encode(size).copy() for _, size in batches(count, batch)])
    with h5py.File(path, "w") as file:
        file.create_dataset("z", data=z)


def resnet18(pixels: int, batch: int) -> Encode:
    """torchvision's ResNet-18 without its last layer, on random images: uint8 in, float32 [n, 512] out."""
    import torch
    import torchvision

    torch.manual_seed(0)
    model = torchvision.models.resnet18()
    model.fc = torch.nn.Identity()
    model.eval()
    images = torch.randint(0, 256, (batch, 3, pixels, pixels), dtype=torch.uint8)

    @torch.no_grad()
    def encode(size: int) -> np.ndarray:
        return model(images[:size].float().div_(255)).numpy()

    return encode


def stub(dim: int, batch: int) -> Encode:
    """An encoder that costs nothing: rows made beforehand."""
    rows = np.random.default_rng(0).normal(size=(batch, dim)).astype(np.float32)
    return lambda size: rows[:size]


def overhead(folder: Path, *, count: int, batch: int, pixels: int, rounds: int) -> str:
    encode = resnet18(pixels, batch)
    timings = common.interleave(
        {
            "encoder alone": lambda: encode_only(encode, count, batch),
            "encoder + file, float32": lambda: encode_and_write(encode, count, batch, 512, folder / "a.h5"),
            "encoder + file, float16": lambda: encode_and_write(encode, count, batch, 512, folder / "b.h5", "float16"),
        },
        rounds,
    )
    rate = count / timings[0].median_seconds
    head = f"### Overhead: ResNet-18, {pixels} px, {count} images in batches of {batch} ({rate:.0f} images/s alone)"
    return f"{head}\n\n{common.timing_table(timings)}"


def against_peer(folder: Path, *, count: int, dim: int, rounds: int) -> str:
    encode = stub(dim, 256)
    timings = common.interleave(
        {
            "list, concatenate, one write": lambda: encode_and_concatenate(encode, count, 256, folder / "peer.h5"),
            "reprkit": lambda: encode_and_write(encode, count, 256, dim, folder / "a.h5"),
        },
        rounds,
        clock="cpu",
    )
    return f"### Writing alone: {count} x {dim} float32, CPU seconds, stub encoder\n\n{common.timing_table(timings)}"


MEMORY = """
import sys, threading, time
from pathlib import Path
import common, embed_cost
way, count, dim, path = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
encode = embed_cost.stub(dim, 256)
warm = path.with_name("warm.h5")
embed_cost.encode_and_write(encode, 300, 256, dim, warm) if way == "reprkit" else None
before = peak = common.rss_bytes()
done = threading.Event()
def watch():
    global peak
    while not done.wait(0.005):
        peak = max(peak, common.rss_bytes())
watcher = threading.Thread(target=watch)
watcher.start()
if way == "reprkit":
    embed_cost.encode_and_write(encode, count, 256, dim, path)
else:
    embed_cost.encode_and_concatenate(encode, count, 256, path)
done.set()
watcher.join()
print(peak - before)
"""


def memory(folder: Path, *, count: int, peer_count: int, dim: int) -> str:
    """Peak growth of resident memory, each way in a process of its own."""
    rows = []
    for way, number in (("reprkit", count), ("list, concatenate, one write", peer_count)):
        command = [sys.executable, "-c", MEMORY, way, str(number), str(dim), str(folder / "m.h5")]
        result = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent)
        grown = int(result.stdout)
        rows.append([way, number, f"{number * dim * 4 / 1e6:.0f}", f"{grown / 1e6:.1f}"])
        (folder / "m.h5").unlink()
    return f"### Memory growth, dim {dim}\n\n" + common.markdown_table(
        ["way", "rows", "data MB", "peak growth MB"], rows
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: see that it runs, believe no number")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    options = parser.parse_args()
    smoke, rounds = options.smoke, 1 if options.smoke else options.rounds
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        common.report(
            "What embeddings on disk cost",
            overhead(folder, count=64 if smoke else 4096, batch=32 if smoke else 256, pixels=64, rounds=rounds),
            against_peer(folder, count=1000 if smoke else 20_000, dim=2048, rounds=rounds),
            memory(folder, count=2000 if smoke else 200_000, peer_count=1000 if smoke else 20_000, dim=2048),
        )


if __name__ == "__main__":
    main()
