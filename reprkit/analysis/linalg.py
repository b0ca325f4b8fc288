"""Heavy products behind two back ends: NumPy (OpenBLAS) on the CPU, PyTorch on a CUDA device.

On the CPU work runs in row blocks, one worker thread a core with single-thread BLAS. Threads of our own beat BLAS
threads here: the element-wise work between two products runs in parallel as well, and a block stays in the cache of the
core that made it. Results come back in order, so sums do not depend on timing. PyTorch is not used there: its float32
product reaches less than half of OpenBLAS's speed on some CPUs.

Where a CUDA device is at hand, PyTorch takes over the products that are worth a transfer: `top_products`, `rbf_kernel`
and `scatter`. That code is tested on the CPU (REPRKIT_DEVICE=torch-cpu); on CUDA itself it has not been run.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

from reprkit.environment import usable_cores
from reprkit.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

DEVICES = ("cpu", "cuda", "torch-cpu")
KERNEL_BLOCK = 512
"""Rows of a kernel matrix computed at a time."""


def num_workers() -> int:
    """Cores this process may use; OMP_NUM_THREADS lowers it."""
    cores = usable_cores()
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(wanted)) if wanted.isdigit() and int(wanted) > 0 else cores


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    return ThreadpoolController()  # the search for loaded libraries takes milliseconds: once


@contextmanager
def single_thread_blas() -> Iterator[None]:
    """Hold every BLAS to one thread, so that worker threads do not fight over the cores."""
    with _controller().limit(limits=1, user_api="blas"):
        yield


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int | None = None
) -> Iterator[Result]:
    """Yield `function(item)` in the order of `items`, computed by worker threads.

    At most `2 * workers` results wait, so `items` may stream from disk. BLAS is held to one thread meanwhile.

    Args:
        function: must release the GIL for its heavy part (NumPy does) and touch no shared state.
        items: taken one at a time from the calling thread.
        workers: number of threads; the cores available by default.
    """
    count = workers or num_workers()
    with single_thread_blas():
        if count == 1:
            yield from map(function, items)
            return
        waiting: deque[Future[Result]] = deque()
        with ThreadPoolExecutor(count) as pool:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= 2 * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


def row_slices(total: int, rows: int) -> Iterator[slice]:
    """Slices of at most `rows` rows that cover `range(total)` in order."""
    for start in range(0, total, rows):
        yield slice(start, min(start + rows, total))


def rows_for_cache(columns: int, *, itemsize: int, budget: int = 1 << 20, least: int = 64) -> int:
    """Rows of a block with `columns` columns that fits `budget` bytes (1 MiB: a core's level-2 cache)."""
    return max(least, budget // max(1, columns * itemsize))


def one_hot(targets: np.ndarray, classes: int, dtype: np.dtype | type = np.float64) -> np.ndarray:
    """[classes, N] indicator rows of class indices [N]; missing targets (negative) are zero columns."""
    hot = np.zeros((classes, len(targets)), dtype=dtype)
    valid = np.flatnonzero(targets >= 0)
    hot[targets[valid], valid] = 1
    return hot


def device() -> str:
    """Where heavy products run: `cpu` (NumPy), `cuda` or `torch-cpu` (PyTorch).

    `cuda` if the machine shows an NVIDIA device that PyTorch can use, else `cpu`; REPRKIT_DEVICE overrides it.
    PyTorch is imported only where a device file of NVIDIA's driver exists, or by that variable.

    Raises:
        InputError: REPRKIT_DEVICE has another value, or asks for a CUDA device that PyTorch does not see.
    """
    wanted = os.environ.get("REPRKIT_DEVICE", "")
    if not wanted:
        return "cuda" if _sees_cuda() else "cpu"
    if wanted not in DEVICES:
        raise InputError(f"REPRKIT_DEVICE={wanted} is unknown; choose from {', '.join(DEVICES)}, or unset it")
    if wanted == "cuda" and not _sees_cuda():
        raise InputError("REPRKIT_DEVICE=cuda, but PyTorch sees no CUDA device; unset it, or set it to cpu")
    return wanted


@lru_cache(maxsize=1)
def _sees_cuda() -> bool:
    if not any(Path("/dev").glob("nvidia*")):
        return False
    import torch

    return torch.cuda.is_available()


def on_device(array: np.ndarray) -> Any:
    """The array where heavy products run: itself on the CPU, else a PyTorch tensor."""
    where = device()
    if where == "cpu":
        return array
    import torch

    return torch.from_numpy(np.ascontiguousarray(array)).to(where.removeprefix("torch-"))


@contextmanager
def _full_float32() -> Iterator[None]:
    """Keep PyTorch from rounding float32 products to TF32 or bfloat16."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def scatter(rows: np.ndarray) -> np.ndarray:
    """X'X [D, D] of rows X [n, D], in their precision."""
    if device() == "cpu":
        return rows.T @ rows
    with _full_float32():
        moved = on_device(rows)
        return (moved.T @ moved).cpu().numpy()


def rbf_kernel(a: np.ndarray, b: np.ndarray, gamma: float, *, workers: int | None = None) -> np.ndarray:
    """exp(-gamma |a_i - b_j|^2) [n, m] of rows of `a` [n, D] and `b` [m, D], as one matrix product by blocks.

    Computed in float64. If `b` is `a` itself, each pair is computed once and the result is symmetric to the last bit.
    """
    same, a, b = b is a, np.asarray(a, np.float64), np.asarray(b, np.float64)
    left = np.einsum("nd,nd->n", a, a)
    right = np.einsum("nd,nd->n", b, b)
    kernel = np.empty((len(a), len(b)))
    twin = on_device(b)

    def fill(rows: slice) -> None:
        stop = rows.stop if same else len(b)
        block = kernel[rows, :stop]
        if isinstance(twin, np.ndarray):
            np.matmul(a[rows], b[:stop].T, out=block)
            for part in row_slices(len(block), rows_for_cache(stop, itemsize=8, budget=1 << 19, least=1)):
                some = block[part]  # stays in cache for all that follows
                some *= 2 * gamma
                some -= gamma * left[rows][part, None]
                some -= gamma * right[:stop]
                np.minimum(some, 0, out=some)  # rounding may leave a squared distance below zero
                np.exp(some, out=some)
        else:
            part = on_device(a[rows]) @ twin[:stop].T
            part = part * (2 * gamma) - on_device(gamma * left[rows, None]) - on_device(gamma * right[:stop])
            block[:] = part.clamp_(max=0).exp_().cpu().numpy()
        if same:
            kernel[: rows.start, rows] = block[:, : rows.start].T
            corner = kernel[rows, rows]
            corner[:] = np.tril(corner) + np.tril(corner, -1).T

    parts = list(row_slices(len(a), KERNEL_BLOCK))[::-1]  # the widest first: workers end together
    for _ in ordered_map(fill, parts, workers=workers):
        pass
    return kernel


def top_products(
    left: np.ndarray,
    right: Any,
    k: int,
    *,
    offset: Any = None,
    floor: np.ndarray | None = None,
    diagonal: int | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Entries of left @ right' + offset that may be among the `k` largest of their row.

    Args:
        left: [m, D].
        right: [n, D], from `on_device`.
        k: entries wanted of a row.
        offset: [n] added to each row, from `on_device`.
        floor: [m] only larger entries are wanted.
        diagonal: leave out the entries (i, i + diagonal).

    Returns:
        row, column and value of the entries, in row-major order: all that are above the floor and not below the k-th
        largest of their row, and perhaps a few more.
    """
    with nullcontext() if isinstance(right, np.ndarray) else _full_float32():
        scores = on_device(left) @ right.T
        if offset is not None:
            scores += offset
        if diagonal is not None:
            rows = np.arange(max(0, -diagonal), min(len(left), len(right) - diagonal))
            scores[rows, rows + diagonal] = -np.inf
        if isinstance(scores, np.ndarray):
            return top_entries(scores, k, floor)
        least = scores.topk(min(k, scores.shape[1]), dim=1).values[:, -1:]
        kept = scores >= least
        if floor is not None:
            kept &= scores > on_device(floor[:, None])
        row, column = kept.nonzero(as_tuple=True)
        return tuple(part.cpu().numpy() for part in (row, column, scores[row, column]))


def top_entries(
    scores: np.ndarray, k: int, floor: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `top_products` returns, of scores [m, n] themselves.

    The k-th largest of the maxima of disjoint groups of columns bounds the k-th largest entry from below; only groups
    whose maximum reaches the bound are looked into. All ties at the k-th place reach it, so none is lost.
    """
    rows, columns = scores.shape
    groups = next(size for size in (8, 4, 2, 1) if size == 1 or columns // size >= 4 * k)
    width = -(-columns // groups)  # group j holds the columns j, j + width, j + 2 width ...
    maxima = scores[:, :width].copy()
    for start in range(width, columns, width):
        part = scores[:, start : start + width]
        np.maximum(maxima[:, : part.shape[1]], part, out=maxima[:, : part.shape[1]])
    least = np.full(rows, -np.inf, scores.dtype)
    if k <= width:
        least = np.partition(maxima, width - k, axis=1)[:, width - k]
    if floor is not None:
        least = np.maximum(least, np.nextafter(floor, np.inf, dtype=scores.dtype))
    row, group = np.divmod(np.flatnonzero(maxima >= least[:, None]), width)
    column = group[:, None] + width * np.arange(groups)
    place = row[:, None] * columns + column
    kept = place[(scores.take(place, mode="clip") >= least[row, None]) & (column < columns)]
    kept.sort()
    return *np.divmod(kept, columns), scores.take(kept)
