"""What other threads hand to the worker → the worker, in order; and how many may stand in line."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from glmflash.engine.waiting import AT_ONCE
from glmflash.errors import GlmflashError, QueueFullError

__all__ = ["Inbox"]

T = TypeVar("T")


def __dir__() -> list[str]:
    return __all__


class Inbox(Generic[T]):
    """A bounded line of requests, and the letter box of one worker.

    A place in line is held from submission until the request runs, or ends without running.

    Args:
        places: Most requests in line.

    Example:
        >>> inbox = Inbox[str](1)
        >>> inbox.enter()
        >>> inbox.put("a request")
        >>> inbox.take(wait=False)
        ['a request']
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._held = 0
        self._letters: deque[T] = deque()
        self._refusal: Callable[[], GlmflashError] | None = None
        lock = threading.RLock()  # collecting garbage may close it while this very thread is inside
        self._room = threading.Condition(lock)
        self._mail = threading.Condition(lock)

    @property
    def held(self) -> int:
        """Places held now."""
        return self._held

    def enter(self, *, wait: bool = False) -> None:
        """Take a place in line.

        Args:
            wait: Whether to wait for one if all are held.

        Raises:
            QueueFullError: If all are held.
            ClosedError: If the engine has been closed, or is closed meanwhile.
            EngineDeadError: If its worker has died.
        """
        with self._room:
            while self._refusal is None and self._held >= self._places:
                if not wait:
                    raise QueueFullError(
                        f"{self._held} requests are in line, and no more are allowed (max_waiting): wait for"
                        " some to end, use batch() or map(), which keep fewer under way, or raise the limit"
                    )
                self._room.wait(AT_ONCE)
            self.check()
            self._held += 1

    def leave(self) -> None:
        """Give a place back."""
        with self._room:
            self._held -= 1
            self._room.notify_all()  # one that waits may be interrupted just now, and take nothing

    def put(self, letter: T) -> None:
        """Hand something to the worker.

        Raises:
            ClosedError: If the engine has been closed.
            EngineDeadError: If its worker has died.
        """
        with self._mail:
            self.check()
            self._letters.append(letter)
            self._mail.notify()

    def take(self, *, wait: bool) -> list[T] | None:
        """What has come; None once the inbox is closed.

        Args:
            wait: Whether to wait until something comes.
        """
        if not wait and not self._letters and self._refusal is None:  # the usual case: no lock
            return []
        with self._mail:
            while wait and not self._letters and self._refusal is None:
                self._mail.wait()
            if self._refusal is not None:
                return None
            return self.rest()

    def close(self, refusal: Callable[[], GlmflashError]) -> None:
        """Let nobody in any more. What had come and was not taken stays, see `rest`.

        Args:
            refusal: Makes the error that everybody gets from now on. The first one stays.
        """
        with self._mail:
            self._refusal = self._refusal or refusal
            self._mail.notify_all()
            self._room.notify_all()

    def rest(self) -> list[T]:
        """What came before the inbox was closed, and was not taken."""
        with self._mail:
            letters = list(self._letters)
            self._letters.clear()
            return letters

    @property
    def closed(self) -> bool:
        """Whether nobody is let in any more."""
        return self._refusal is not None

    def check(self) -> None:
        """Pass if the engine is at work.

        Raises:
            ClosedError: If it has been closed.
            EngineDeadError: If its worker has died.
        """
        if self._refusal is not None:
            raise self._refusal()
