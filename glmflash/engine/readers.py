"""Functions → run on a few threads beside the model: decoding pictures and laying out prompts."""

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

from glmflash.engine.log import report

__all__ = ["Readers"]

logger = logging.getLogger(__name__)

#: Seconds to wait for threads to end: one may be stuck in somebody's `read`.
_PATIENCE = 5.0


def __dir__() -> list[str]:
    return __all__


class Readers:
    """A few threads that call functions, the lowest rank first. What one raises is logged, no more.

    Not an executor of the standard library: that one finishes all that waits before the interpreter exits.

    Args:
        count: Threads; each starts when it is first needed.
        name: What they are called.
    """

    def __init__(self, count: int, *, name: str = "glmflash-reader") -> None:
        self._count = count
        self._name = name
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()  # equal ranks in the order given
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._changed = threading.Condition(threading.RLock())  # as the inbox's

    def call(self, function: Callable[[], None], *, rank: float = 0.0) -> bool:
        """Have a thread call it; returns False, and does not, once the readers are closed."""
        with self._changed:
            if self._closed:
                return False
            if len(self._threads) < self._count:
                self._start()
            heapq.heappush(self._heap, (rank, next(self._numbers), function))
            self._changed.notify()
            return True

    def close(self, patience: float = _PATIENCE) -> None:
        """Let the threads end after what has been handed in, and wait for them so many seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        until = time.monotonic() + patience
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(until - time.monotonic(), 0.0))

    def __contains__(self, thread: object) -> bool:
        """Whether it is one of these threads."""
        return thread in self._threads

    def _start(self) -> None:
        name = f"{self._name}-{len(self._threads)}"
        thread = threading.Thread(target=self._run, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no thread left
            if not self._threads:
                raise
        else:
            self._threads.append(thread)

    def _run(self) -> None:
        while (function := self._next()) is not None:
            try:
                function()
            except BaseException:  # noqa: BLE001 - others wait behind it
                report(logger, logging.ERROR, "what %s was given raised", self._name)
            del function  # an idle thread keeps no request alive

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._heap and not self._closed:
                self._changed.wait()
            return heapq.heappop(self._heap)[2] if self._heap else None
