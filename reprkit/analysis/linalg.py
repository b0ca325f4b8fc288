"""Heavy products on the CPU: NumPy (OpenBLAS) in row blocks, one worker thread a core with single-thread BLAS.

Threads of our own beat BLAS threads here: the element-wise work between two products runs in parallel as well, and
a block stays in the cache of the core that made it. Results come back in order, so sums do not depend on timing.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")


def num_workers() -> int:
    """Cores this process may use; OMP_NUM_THREADS lowers it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
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


KERNEL_BLOCK = 512
"""Rows of a kernel matrix that are filled at a time."""


def rbf_kernel(a: np.ndarray, b: np.ndarray, gamma: float, *, workers: int | None = None) -> np.ndarray:
    """exp(-gamma |a_i - b_j|^2), float64 [n, m], of rows of `a` [n, D] and `b` [m, D]: one matrix product by blocks."""
    left = np.einsum("nd,nd->n", a, a)
    right = np.einsum("nd,nd->n", b, b)
    kernel = np.empty((len(a), len(b)))

    def fill(rows: slice) -> None:
        block = kernel[rows]
        np.matmul(a[rows], b.T, out=block)
        block *= 2 * gamma
        block -= gamma * left[rows, None]
        block -= gamma * right
        np.minimum(block, 0, out=block)  # rounding may leave a squared distance below zero
        np.exp(block, out=block)

    for _ in ordered_map(fill, row_slices(len(a), KERNEL_BLOCK), workers=workers):
        pass
    return kernel
