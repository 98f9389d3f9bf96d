"""Functions → what they give, as it comes, from threads that end with the work and hold nobody up."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

__all__ = ["results"]

T = TypeVar("T")
_AT_ONCE = 0.2  # seconds to wait: one who waits without end can miss Ctrl-C


def __dir__() -> list[str]:
    return __all__


def results(functions: Sequence[Callable[[], T]], *, workers: int) -> Generator[T, None, None]:
    """Call each function once, in order; yield what they give in the order in which they are ready.

    Args:
        functions: What one raises, is raised here, and no other is begun.
        workers: Threads; 1 is none: each function is called when its value is asked for. They are daemons,
            unlike those of `concurrent.futures`, whose whole queue an interpreter works off before it exits.

    Example:
        >>> sorted(results([lambda: 1, lambda: 2, lambda: 3], workers=2))
        [1, 2, 3]
    """
    if workers == 1:
        for function in functions:
            yield function()
        return
    todo, ready = deque(functions), SimpleQueue[Future[T]]()
    threads = [
        threading.Thread(target=_work, args=(todo, ready), name=f"glmflash-loader-{number}", daemon=True)
        for number in range(workers)
    ]
    try:
        for thread in threads:
            thread.start()
        for _ in functions:
            yield _get(ready).result()
        for thread in threads:  # there is nothing left to do; PyTorch's own threads end with them
            thread.join()
    finally:
        todo.clear()  # whoever leaves early waits for nobody


def _work(todo: deque[Callable[[], T]], ready: "SimpleQueue[Future[T]]") -> None:
    while True:
        try:
            function = todo.popleft()
        except IndexError:
            return
        future = Future[T]()
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            future.set_exception(error)
        ready.put(future)
        del function, future  # what it gave is the caller's


def _get(ready: "SimpleQueue[Future[T]]") -> Future[T]:
    while True:
        with suppress(Empty):
            return ready.get(timeout=_AT_ONCE)
