"""Linear algebra with results that do not depend on the number of threads.

BLAS and LAPACK split a product among their threads, and the split decides the order of the sums. In `single_threaded`
they use one thread; `thread_pool` is for work that is parallel over blocks of fixed size instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from threading import RLock
from typing import Any

import numpy  # noqa: F401 (loads the libraries that the controller finds)

from harness.system.environment import cores

_lock = RLock()
"""Held inside the blocks: the limit applies to the process, and threadpoolctl ignores a second thread that sets it."""


@cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")  # cached: finding the loaded libraries takes 3 ms


@contextmanager
def single_threaded() -> Iterator[None]:
    """Limits NumPy's BLAS and LAPACK to one thread in this block, or in the function that it decorates."""
    with _lock, _controller().limit(limits=1):
        yield


@contextmanager
def thread_pool() -> Iterator[ThreadPoolExecutor]:
    """A pool with a thread for each core; BLAS uses one thread in each of them."""
    limit = partial(_controller().limit, limits=1)  # BLAS built on OpenMP has a limit for each thread
    with single_threaded(), ThreadPoolExecutor(cores(), "blas", initializer=limit) as pool:
        yield pool


def limited_pool(threads: int, name: str) -> ThreadPoolExecutor:
    """A pool of threads in which libraries, BLAS and OpenMP's among them, use one thread each."""
    from threadpoolctl import ThreadpoolController

    limit = partial(ThreadpoolController().limit, limits=1)
    return ThreadPoolExecutor(threads, name, initializer=limit)
