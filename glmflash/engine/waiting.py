"""What another thread will give → it, by a thread that hears Ctrl-C while it waits.

A lock that is waited for without a timeout can miss a signal: one that comes in the moment before, or that
the system hands to another thread, is heard only when the wait is over. So nobody waits for long at once.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import ParamSpec, TypeVar

__all__ = ["AT_ONCE", "elsewhere", "get", "result", "settle"]

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds to wait at once.
AT_ONCE = 0.2


def __dir__() -> list[str]:
    return __all__


def result(future: Future[T]) -> T:
    """What a future gives, or raises.

    Example:
        >>> future = Future()
        >>> future.set_result(42)
        >>> result(future)
        42
    """
    while not future.done():
        with suppress(TimeoutError):  # which may be the future's own: it is raised below
            return future.result(timeout=AT_ONCE)
    return future.result()


def get(queue: "SimpleQueue[T]") -> T:
    """What comes next out of a queue.

    Example:
        >>> queue = SimpleQueue()
        >>> queue.put(42)
        >>> get(queue)
        42
    """
    while True:
        with suppress(Empty):
            return queue.get(timeout=AT_ONCE)


def elsewhere(function: Callable[[], T]) -> T:
    """What a function gives, or raises, on a thread that ends with it.

    An interrupt while waiting leaves the thread behind; what it gives then is dropped.

    Example:
        >>> elsewhere(lambda: 42)
        42
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            future.set_exception(error)

    thread = threading.Thread(target=run, name="glmflash-loader", daemon=True)
    thread.start()
    try:
        return result(future)
    finally:
        if future.done():
            thread.join()


def settle(future: Future[T], function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> None:
    """Have a future hold what a function gives, or raises, unless it was cancelled before.

    Example:
        >>> future = Future()
        >>> settle(future, divmod, 7, 2)
        >>> future.result()
        (3, 1)
    """
    if not future.set_running_or_notify_cancel():
        return
    try:
        settled = partial(future.set_result, function(*args, **kwargs))
    except BaseException as error:  # noqa: BLE001 - it is the caller's
        settled = partial(future.set_exception, error)
    with suppress(BaseException):  # of a callback
        settled()
