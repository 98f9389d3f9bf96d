"""A request under way → its deltas as they come, for threads and for event loops, and then its result."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from queue import SimpleQueue
from types import TracebackType
from typing import Self, cast

from glmflash.engine.live import Live
from glmflash.engine.sequence import Sequence
from glmflash.engine.waiting import get
from glmflash.errors import ClosedError
from glmflash.output.result import Delta, Result

__all__ = ["AsyncStream", "Stream"]


def __dir__() -> list[str]:
    return __all__


class Stream:
    """An answer on its way: iterate for deltas, then ask for the result.

    The engine goes on whether or not anybody iterates, so a slow reader slows nobody. Leaving a `with` block
    early, or letting go of the stream, cancels the rest. Joined, the texts of channel "answer" are
    `result.text`. A notebook shows the answer as it comes, whether or not anybody iterates.

    Args:
        sequence: The request.
        pieces: Where the engine puts what can be shown, and None behind the last.
        check: Raises if the thread that calls must not wait.
        live: Is told of the same pieces.
    """

    def __init__(
        self,
        sequence: Sequence,
        pieces: "SimpleQueue[list[Delta] | None]",
        *,
        check: Callable[[], None] = lambda: None,
        live: Live | None = None,
    ) -> None:
        self._sequence = sequence
        self._pieces = pieces
        self._check = check
        self._live = Live() if live is None else live
        self._waiting: deque[Delta] = deque()
        self._ended = False
        self._lock = threading.RLock()

    @classmethod
    def open(cls, hand_in: Callable[..., Sequence], *, check: Callable[[], None]) -> Self:
        """Hand a request in, and have its deltas put where the stream finds them.

        Args:
            hand_in: Takes `on_deltas`, returns the request's sequence.
            check: As above.
        """
        pieces, live = SimpleQueue[list[Delta] | None](), Live()

        def hand_on(deltas: list[Delta]) -> None:
            live.add(deltas)
            pieces.put(deltas)

        sequence = hand_in(on_deltas=hand_on)
        sequence.future.add_done_callback(lambda _: pieces.put(None))
        return cls(sequence, pieces, check=check, live=live)

    def __iter__(self) -> Iterator[Delta]:
        return self

    def __next__(self) -> Delta:
        with self._lock:
            while not self._waiting:
                if self._ended:
                    raise StopIteration
                if self._pieces.empty():
                    self._check()
                deltas = get(self._pieces)
                if deltas is None:
                    self._ended = True
                    self._live.settle()
                    _raise(self._sequence)
                else:
                    self._waiting.extend(deltas)
            return self._waiting.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()
        if error is None:
            for _ in self:  # what is left is only what waited to be shown
                pass

    def __del__(self) -> None:
        self._sequence.stop()

    def __repr__(self) -> str:
        return _describe(self._sequence)

    def _repr_html_(self) -> str:
        return self._live.html(self._sequence.future)

    def _ipython_display_(self) -> None:
        self._live.display(self._sequence.future, repr(self))

    def cancel(self) -> None:
        """Stop before the next token; the result has finish_reason "cancelled". Any thread may call this."""
        self._sequence.stop()

    @property
    def result(self) -> Result:
        """The whole answer, once it is there; deltas not yet iterated are passed over.

        Raises:
            ClosedError: If the stream has ended with an error, which was raised where it was iterated.
        """
        for _ in self:
            pass
        return _result(self._sequence)


class AsyncStream:
    """The same for coroutines: `async for delta in stream`, then `await stream.result()`.

    It belongs to the event loop that it was made in. Cancelling the task that iterates cancels the request.

    Args:
        sequence: The request.
        pieces: Where the engine puts what can be shown, and None behind the last.
        live: Is told of the same pieces.
    """

    def __init__(
        self, sequence: Sequence, pieces: "asyncio.Queue[list[Delta] | None]", *, live: Live | None = None
    ) -> None:
        self._sequence = sequence
        self._pieces = pieces
        self._live = Live() if live is None else live
        self._waiting: deque[Delta] = deque()
        self._ended = False

    @classmethod
    def open(cls, hand_in: Callable[..., Sequence]) -> Self:
        """Hand a request in, and have its deltas put where the running event loop finds them.

        Args:
            hand_in: Takes `on_deltas`, returns the request's sequence.
        """
        loop, pieces, live = asyncio.get_running_loop(), asyncio.Queue[list[Delta] | None](), Live()
        sequence: Sequence | None = None

        def hand_on(deltas: list[Delta] | None) -> None:
            live.add(deltas or [])
            try:
                loop.call_soon_threadsafe(pieces.put_nowait, deltas)
            except RuntimeError:  # the loop is closed: nobody listens any more
                if sequence is not None:
                    sequence.future.cancel()

        sequence = hand_in(on_deltas=hand_on)
        sequence.future.add_done_callback(lambda _: hand_on(None))
        return cls(sequence, pieces, live=live)

    def __aiter__(self) -> AsyncIterator[Delta]:
        return self

    async def __anext__(self) -> Delta:
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            deltas = await self._next()
            if deltas is None:
                self._ended = True
                self._pieces.put_nowait(None)  # for another task that waits
                if self._live.shown:
                    await asyncio.to_thread(self._live.settle)
                _raise(self._sequence)
            else:
                self._waiting.extend(deltas)
        return self._waiting.popleft()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()
        if error is None:
            async for _ in self:
                pass

    def __del__(self) -> None:
        self._sequence.stop()

    def __repr__(self) -> str:
        return _describe(self._sequence)

    def _repr_html_(self) -> str:
        return self._live.html(self._sequence.future)

    def _ipython_display_(self) -> None:
        self._live.display(self._sequence.future, repr(self))

    def cancel(self) -> None:
        """Stop before the next token; the result has finish_reason "cancelled"."""
        self._sequence.stop()

    async def result(self) -> Result:
        """The whole answer, once it is there; deltas not yet iterated are passed over.

        Raises:
            ClosedError: If the stream has ended with an error, which was raised where it was iterated.
        """
        async for _ in self:
            pass
        return _result(self._sequence)

    async def _next(self) -> list[Delta] | None:
        try:
            return await self._pieces.get()
        except BaseException:  # the task that waits here is cancelled
            self.cancel()
            raise


def _raise(sequence: Sequence) -> None:
    """Let whoever iterates have the error that ended the request."""
    error = sequence.future.exception()
    if isinstance(error, (StopIteration, StopAsyncIteration)):  # a loop would take it for the end
        raise RuntimeError(f"the request raised {type(error).__name__}") from error
    if error is not None:
        raise error


def _result(sequence: Sequence) -> Result:
    if sequence.future.exception() is not None:
        raise ClosedError("the stream ended with an error, so it has no result; ask again")
    return cast(Result, sequence.future.result())


def _describe(sequence: Sequence) -> str:
    future = sequence.future
    done = future.done() and not future.cancelled() and future.exception() is None
    return f"<Stream: {future.result()!r}>" if done else "<Stream: not at its end>"
