"""Helper processes: Paddle's predictor holds Python's lock while it computes, and threads would wait.

loky's, since a script needs no `__main__` guard for them. The functions they are given should lie in a module that
does not import Paddle: each process imports it anew.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import chain, islice
from typing import TypeVar

from .cpu import cores
from .files import MedcapError

Result = TypeVar("Result")
FEW = 8  # jobs that are done before a process has started
IDLE = 30  # seconds after which a process without work ends


def map_ordered(
    function: Callable[..., Result], jobs: Iterable[tuple], ahead: int, workers: int = 0
) -> Iterator[Result]:
    """function(*job) of each job, in their order; `ahead` of them are begun at once, and one more for each result.

    By `workers` processes (0: one a core, `ahead` at most), or threads where the jobs are few. MedcapError when a
    process is ended from outside or runs out of memory.
    """
    from loky import get_reusable_executor

    workers, jobs = min(workers or cores(), ahead), iter(jobs)
    first = list(islice(jobs, FEW))
    if workers > 1 and len(first) == FEW:
        pool = get_reusable_executor(workers, timeout=IDLE, initializer=end_with_parent, initargs=(os.getpid(),))
    else:
        pool = ThreadPoolExecutor(workers)
    begun = (pool.submit(function, *job) for job in chain(first, jobs))
    with _named_losses():
        waiting = deque(islice(begun, ahead))
    return _results(waiting, begun)


def side_by_side(function: Callable[..., Result], jobs: Iterable[tuple], workers: int = 1) -> Iterator[Result]:
    """function(*job) of each of a few long jobs, in their order: `workers` at once, each in a process on one core.

    With one worker: here, on all cores. The processes may compute with Paddle; one bar counts the jobs that are done.
    """
    from loky import get_reusable_executor
    from tqdm.auto import tqdm

    if workers < 2:
        yield from (function(*job) for job in jobs)
        return
    alone = {"initializer": _silent, "initargs": (os.getpid(),), "env": {"OMP_NUM_THREADS": "1"}}
    # A process that has grown is begun anew after its job, as it should be: no reason to warn of it.
    warnings.filterwarnings("ignore", "A worker stopped|A worker was restarted", UserWarning)
    with _named_losses():
        pool = get_reusable_executor(workers, timeout=IDLE, **alone)
        waiting = deque(pool.submit(function, *job) for job in jobs)
    yield from tqdm(_results(waiting, iter(())), total=len(waiting), desc="side by side", unit="job")


def _results(waiting: deque[Future[Result]], begun: Iterator[Future[Result]]) -> Iterator[Result]:
    try:
        with _named_losses():
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(islice(begun, 1))
    finally:
        for future in waiting:
            future.cancel()


@contextmanager
def _named_losses() -> Iterator[None]:
    """A process may die, or run out of memory, while jobs are handed out as well as while their results are awaited."""
    try:
        yield
    except (BrokenProcessPool, MemoryError) as error:
        raise MedcapError(f"a helper process was ended ({error!r}): free some memory and run this again") from error


def _silent(parent: int) -> None:
    """Bars of several processes would overwrite each other; their errors are raised where the results are awaited."""
    end_with_parent(parent)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def end_with_parent(parent: int) -> None:
    """End this process when the one that started it is gone: killed, that one cannot say so."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
