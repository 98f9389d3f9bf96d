"""A store that may be slow, broken or gone → one that answers soon and raises nothing."""

import logging
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial

from glmflash.answers.store import AnswerStore
from glmflash.engine.log import note
from glmflash.engine.readers import Readers
from glmflash.engine.waiting import AT_ONCE, settle
from glmflash.errors import ClosedError, GlmflashError

__all__ = ["Breaker", "Guard"]

logger = logging.getLogger(__name__)

_MOST_WAITING = 32 * 2**20  # bytes of answers that wait to be written; more are not kept
_CLEARING = 10.0  # seconds that `clear` waits
_ENDING = 2.0  # seconds that each thread has to come to its end


def __dir__() -> list[str]:
    return __all__


class Breaker:
    """Whether to try something that has failed lately: after three failures in a row not for a while.

    Then one try is let through; the pause doubles, up to a minute, each time that fails too.

    Args:
        clock: Seconds.

    Example:
        >>> breaker = Breaker(clock=lambda: 5.0)
        >>> for _ in range(3):
        ...     breaker.failed()
        >>> breaker.lets_through()
        False
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._until = 0.0

    def lets_through(self) -> bool:
        """Whether to try; during a pause one caller at its end."""
        with self._lock:
            if self._failures < 3:
                return True
            if self._clock() < self._until:
                return False
            self._until = self._clock() + self._pause
            return True

    def worked(self) -> None:
        """It went well."""
        with self._lock:
            self._failures = 0

    def failed(self) -> None:
        """It did not."""
        with self._lock:
            self._failures += 1
            self._until = self._clock() + self._pause

    @property
    def _pause(self) -> float:
        return float(min(2 ** (self._failures - 3), 60))


class Guard:
    """Satisfies `AnswerStore` on top of another one, whatever that does: raise, hang, or take its time.

    One thread reads and one writes; both start when they are needed. Nobody waits longer than `patience`
    for what is read, and nobody at all for what is written.

    Args:
        store: What does the work.
        patience: Seconds.
    """

    def __init__(self, store: AnswerStore, *, patience: float) -> None:
        self.errors = 0
        self._store = store
        self._patience = patience
        self._breaker = Breaker()
        self._lock = threading.Lock()
        self._waiting: dict[str, tuple[bytes, float]] = {}
        self._waiting_bytes = 0
        self._reading: float | None = None  # since when
        self._nbytes: int | None = None
        readers = Readers(1, name="glmflash-answers-reader")
        writers = Readers(1, name="glmflash-answers-writer")
        self._readers, self._writers = readers, writers
        # No idle thread knows the guard, so it can be collected; then, or with the interpreter, they end.
        self._end = weakref.finalize(self, _end, readers, writers, store)

    @property
    def nbytes(self) -> int | None:
        """As the store said last."""
        return self._nbytes

    def get(self, key: str) -> bytes | None:
        """What is still to be written, or what the store gives in time; else None."""
        with self._lock:
            waiting, began = self._waiting.get(key), self._reading
        if waiting is not None:
            return waiting[0]
        if began is not None and time.monotonic() - began > self._patience:  # it hangs, as has been noted
            return None
        future = Future[bytes | None]()
        if not self._breaker.lets_through() or not self._readers.call(partial(self._read, future, key)):
            return None
        error: BaseException | None
        try:
            error = future.exception(self._patience)
        except TimeoutError as late:
            future.cancel()
            error = late
        if error is not None:
            self._failed("reading an answer", error)
            return None
        self._breaker.worked()
        return future.result()

    def put(self, key: str, value: bytes, ttl: float) -> None:
        """Have it written. It can be read at once."""
        with self._lock:
            if key in self._waiting or self._waiting_bytes + len(value) > _MOST_WAITING:
                return
            self._waiting[key] = value, ttl
            self._waiting_bytes += len(value)
        if not self._writers.call(partial(self._write, key)):
            self._written(key)

    def clear(self) -> None:
        """Forget everything, and return once that is done.

        Raises:
            GlmflashError: If the store cannot, or not in ten seconds.
            ClosedError: If it has been closed.
        """
        with self._lock:
            self._waiting.clear()
            self._waiting_bytes = 0
        future = Future[None]()
        if not self._writers.call(partial(settle, future, self._store.clear)):
            raise ClosedError("the answer cache has been closed; make a new one")
        until = time.monotonic() + _CLEARING
        error: BaseException | None = TimeoutError()
        while not future.done() and time.monotonic() < until:
            with suppress(TimeoutError):
                future.exception(AT_ONCE)
        if future.done():
            error = future.exception()
        if error is not None:  # its own words may name what is nobody's business
            raise GlmflashError(f"the answers could not be cleared ({type(error).__name__}); try it again")
        self._nbytes = self._store.nbytes

    def close(self) -> None:
        """Write what waits, and end the threads; a store that hangs is left to itself."""
        self._end()

    def _read(self, future: "Future[bytes | None]", key: str) -> None:
        self._reading = time.monotonic()
        settle(future, self._store.get, key)
        self._reading = None

    def _write(self, key: str) -> None:
        with self._lock:
            waiting = self._waiting.get(key)
        if waiting is None:  # cleared meanwhile
            return
        if self._breaker.lets_through():
            try:
                self._store.put(key, *waiting)
                self._nbytes = self._store.nbytes
                self._breaker.worked()
            except BaseException as error:  # noqa: BLE001 - the store's own
                self._failed("keeping an answer", error)
        self._written(key)

    def _written(self, key: str) -> None:
        with self._lock:
            value, _ = self._waiting.pop(key, (b"", 0.0))
            self._waiting_bytes -= len(value)

    def _failed(self, what: str, error: BaseException) -> None:
        """Note it; never in the store's words, which may hold an address or a password."""
        with self._lock:
            self.errors += 1
        self._breaker.failed()
        text = "%s failed (%s); requests go on without"
        note(logger, logging.WARNING, text, what, type(error).__name__)


def _end(readers: Readers, writers: Readers, store: AnswerStore) -> None:
    """What waits is written, then the store is closed, on the thread that writes."""
    readers.close(_ENDING)
    writers.call(partial(settle, Future[None](), store.close))
    writers.close(_ENDING)
