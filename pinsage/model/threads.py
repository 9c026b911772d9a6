"""How many threads share in an operation, Torch's own or a kernel's."""

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager

import numba
import torch

_SMALL = 2**18
"""Numbers below which threads cost more than they bring."""

_MOST_THREADS: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]


@contextmanager
def threads_of_torch(size: int) -> Iterator[None]:
    """Have kernels use as many threads as Torch's own operations do, or one for little work.

    Args:
        size: how many numbers the kernels work on.
    """
    before = numba.get_num_threads()
    wanted = torch.get_num_threads() if size >= _SMALL else 1
    numba.set_num_threads(min(wanted, _MOST_THREADS))
    try:
        yield
    finally:
        numba.set_num_threads(before)


@contextmanager
def one_thread_each() -> Iterator[Executor]:
    """Give as many threads as Torch's operations have, each of which does its operations alone.

    Whole pieces of work then run side by side. Threads that share in every operation wait for each
    other at its end, and one core that is busy with something else holds up all of them. Nor does
    their number change how an operation rounds.
    """
    before = torch.get_num_threads()
    count = before if kernels_run_side_by_side() else 1
    # Threads take it over when they begin.
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(
            count, thread_name_prefix="piece", initializer=numba.set_num_threads, initargs=(1,)
        ) as threads:
            yield threads
    finally:
        torch.set_num_threads(before)


def kernels_run_side_by_side() -> bool:
    """Tell whether Numba uses OpenMP or TBB: what it has besides ends a process with two kernels.

    What it can import does not tell: a variable or a file may name another one.
    """
    # It chooses when it is first asked for anything.
    numba.get_num_threads()
    layer: str = numba.threading_layer()  # type: ignore[attr-defined]
    return layer in {"tbb", "omp"}
