"""Functions → what they give, as it comes, from threads that end with the work and hold nobody up."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

import torch

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
            PyTorch computes on one processor in each of them: more would wait for each other.

    Example:
        >>> sorted(results([lambda: 1, lambda: 2, lambda: 3], workers=2))
        [1, 2, 3]
    """
    if workers == 1:
        for function in functions:
            yield function()
        return
    todo, ready = deque(functions), SimpleQueue[Future[T]]()
    names = [f"glmflash-loader-{number}" for number in range(min(workers, len(functions)))]
    try:
        threads = [_start(name, todo, ready) for name in names]
        for _ in functions:
            yield _get(ready).result()
        for thread in threads:  # there is nothing left to do; PyTorch's own threads end with them
            thread.join()
    finally:
        todo.clear()  # whoever leaves early waits for nobody


def _start(name: str, todo: deque[Callable[[], T]], ready: "SimpleQueue[Future[T]]") -> threading.Thread:
    set_up, processors = threading.Event(), torch.get_num_threads()
    thread = threading.Thread(target=_work, args=(set_up, todo, ready), name=name, daemon=True)
    try:
        thread.start()
        while not set_up.wait(_AT_ONCE):
            pass
    finally:
        torch.set_num_threads(processors)  # for threads to come; the one begun keeps what it has set
    return thread


def _work(set_up: threading.Event, todo: deque[Callable[[], T]], ready: "SimpleQueue[Future[T]]") -> None:
    torch.get_num_threads()  # the first such call of a thread sets it to the default
    torch.set_num_threads(1)
    set_up.set()
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
