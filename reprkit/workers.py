"""Pieces of a run in other processes: of this machine, or of a cluster that joblib can reach.

A worker does one piece at a time and loads the data set itself, once, so that only the piece travels. Results do not
depend on which worker does what: each piece draws from its own seed.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import queue
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from logging.handlers import QueueHandler
from typing import TYPE_CHECKING, Any

from reprkit.errors import Failed, InputError, Interrupted
from reprkit.interrupts import StopFlag, stop_flag
from reprkit.pieces import Piece
from reprkit.recipe import DataConfig

if TYPE_CHECKING:
    from reprkit.data.base import ImageDataset

Work = Callable[[Piece, "ImageDataset", bool], None]
"""What is done with a piece: (piece, data set, show bars), such as `reprkit.pieces.train_piece`."""

_GRACE = 2.0  # seconds in which workers that got a signal of their own can stop, before it is passed on to them
_one_at_a_time = threading.Lock()  # torch's random numbers belong to the process: threads would mix them
_loaded: dict[str, Any] = {}


def num_workers(jobs: int | None) -> int:
    """Processes that `jobs` stands for: None means those of the open `joblib.parallel_config(...)`, else 1.

    Raises:
        InputError: less than 1.
    """
    import joblib

    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs: {jobs} should be at least 1")
    return int(joblib.effective_n_jobs(jobs))


def spread(
    work: Work,
    pieces: Sequence[Piece],
    dataset: ImageDataset,
    data: DataConfig,
    *,
    jobs: int | None,
    advance: Callable[[], object],
) -> None:
    """Do `work` on every piece in other processes.

    Workers on this machine get an equal share of its cores each (OMP_NUM_THREADS overrides it); those of a cluster
    keep the threads they were given. SIGINT or SIGTERM lets the workers of this machine save their state and stop;
    they also stop when this process is gone.

    Args:
        work: done in the worker, without bars.
        pieces: in the order in which they are begun.
        dataset: the data set as it is here; a worker that finds other data raises InputError.
        data: what each worker loads.
        jobs: processes; None means those of the open `joblib.parallel_config(...)`.
        advance: called whenever a piece is done.

    Raises:
        Interrupted: stopped by a signal.
        Failed: a worker was killed.
        Exception: whatever the work raised.
    """
    import joblib
    from joblib.parallel import LokyBackend, get_active_backend

    from reprkit.training.job import fingerprints

    backend, _ = get_active_backend()
    local = isinstance(backend, LokyBackend)
    options: dict[str, Any] = {"initializer": _settle, "initargs": (os.getpid(),)} if local else {}
    if getattr(backend, "supports_return_generator", False):
        options["return_as"] = "generator_unordered"
    parallel = joblib.Parallel(n_jobs=jobs, batch_size=1, pre_dispatch="n_jobs", **options)
    task, here, folder = joblib.delayed(_do), fingerprints(dataset), os.getcwd()
    stopping = _passing_on_signals() if local else contextlib.nullcontext(StopFlag())
    with stopping as stop, warnings.catch_warnings():
        # joblib replaces a worker that has grown, which loses nothing.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
        waiting = (task(work, piece, data, here, folder) for piece in pieces if not stop.requested)
        try:
            for finished, records in parallel(waiting):
                for record in records:
                    logging.getLogger(record.name).handle(record)
                if finished:
                    advance()
                else:
                    stop.requested = True
        except BrokenProcessPool:
            if not stop.requested:
                raise Failed(
                    "a worker process was killed, most likely for want of memory: use fewer --jobs; "
                    "the same command continues"
                ) from None
        if stop.requested:
            raise Interrupted("stopped; the same command continues")


def _do(
    work: Work, piece: Piece, data: DataConfig, expected: dict[str, str], folder: str
) -> tuple[bool, list[logging.LogRecord]]:
    """In a worker: one piece; returns whether it was finished, and the warnings it gave."""
    import joblib

    finished = False
    with (
        _one_at_a_time,
        _kept_warnings() as records,
        contextlib.chdir(folder),
        joblib.parallel_config(backend="sequential"),  # what the piece calls should not spread itself again
        contextlib.suppress(KeyboardInterrupt),
        _interruptible(),
    ):
        work(piece, _dataset(data, expected), False)
        finished = True
    return finished, records


def _dataset(data: DataConfig, expected: dict[str, str]) -> ImageDataset:
    """The data set, kept for the next piece of this worker."""
    from reprkit.data import load_dataset
    from reprkit.training.job import fingerprints

    key = (data, expected)
    if _loaded.get("key") != key:
        _loaded.clear()
        dataset = load_dataset(data)
        if fingerprints(dataset) != expected:
            where = data.root or data.name
            raise InputError(f"{where}: a worker found other data there than this process; give them the same files")
        _loaded.update(key=key, dataset=dataset)
    return _loaded["dataset"]


@contextlib.contextmanager
def _kept_warnings() -> Iterator[list[logging.LogRecord]]:
    """Collect the package's log records (in a worker, those from WARNING on) instead of printing them."""
    logger = logging.getLogger("reprkit")
    waiting: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = QueueHandler(waiting)
    records: list[logging.LogRecord] = []
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield records
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
        while not waiting.empty():
            records.append(waiting.get())


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt in the body; what trains has its own, gentler way inside."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _settle(parent: int) -> None:
    """Prepare a worker of this machine: deaf to signals between pieces, and gone when its parent is."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5 * _GRACE)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _passing_on_signals() -> Iterator[StopFlag]:
    """`stop_flag`, and the workers of this machine are told as well."""
    from joblib.externals.loky.backend.process import LokyProcess

    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            if stop.requested and not over.wait(_GRACE):
                for process in multiprocessing.active_children():
                    if isinstance(process, LokyProcess):
                        process.terminate()
                return

    with stop_flag() as stop:
        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield stop
        finally:
            over.set()
            thread.join()
