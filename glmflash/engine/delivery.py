"""What becomes of a request → whoever waits for it, the accounts, and the observers."""

import contextlib
import logging
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

from glmflash.engine.events import (
    Observer,
    Observers,
    Operation,
    RequestFinished,
    RequestQueued,
    RequestRefused,
)
from glmflash.engine.log import report
from glmflash.engine.sequence import Sequence
from glmflash.engine.stats import Accounts
from glmflash.errors import GlmflashError, QueueFullError
from glmflash.output.result import Delta, Result

__all__ = ["Delivery"]

logger = logging.getLogger(__name__)


def __dir__() -> list[str]:
    return __all__


class Delivery:
    """Ends requests, each exactly once. Whoever owns a sequence at the time calls this, from its thread.

    Args:
        accounts: Counts what ended how.
        observers: Hear of it.
    """

    def __init__(self, accounts: Accounts, observers: Observers) -> None:
        self.accounts = accounts
        self.observers = observers

    def observe(self, observer: Observer) -> None:
        """Tell one more function. Events of other threads meanwhile go to those before, or to all."""
        self.observers = Observers((*self.observers.functions, observer))

    def queued(self, sequence: Sequence) -> None:
        """A request was accepted."""
        if sequence.then is None:
            self.accounts.submitted()
        if not self.observers:
            return
        request = sequence.request
        form = request.response_format
        event = RequestQueued(
            request=sequence.number,
            priority=request.priority,
            operation=_operation(sequence),
            stream=sequence.on_deltas is not None,
            pictures=len(request.pictures),
            output=None if form is None else form.kind,
            sampling=request.sampling,
            messages=request.messages,
        )
        self.observers.emit(event)

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Whatever error is raised inside is the end of what was asked: observers hear of it."""
        try:
            yield
        except Exception as error:
            if isinstance(error, QueueFullError):
                self.accounts.rejected()
            if self.observers:
                self.observers.emit(RequestRefused(code=_code(error)))
            raise

    def show(self, sequence: Sequence, deltas: list[Delta]) -> None:
        """Hand on what can be shown now. Raises whatever the receiver raises."""
        if deltas and sequence.on_deltas is not None:
            sequence.on_deltas(deltas)

    def finish(self, sequence: Sequence) -> None:
        """The answer has ended: complete the result."""
        assert sequence.answer is not None
        timings = sequence.clock.timings(time.perf_counter())
        cached = sequence.cached or 0
        try:
            saved, recalled = cached + sequence.reused_vision, sequence.recalled
            result = sequence.answer.result(timings, cached=cached, saved=saved, from_cache=recalled)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is this request's alone
            self.fail(sequence, error)
            return
        self._give(sequence, result)

    def drop(self, sequence: Sequence) -> None:
        """It was stopped before there was a prompt: an answer with nothing in it."""
        timings = sequence.clock.timings(time.perf_counter())
        self._give(sequence, Result(text="", finish_reason="cancelled", timings=timings))

    def complete(self, sequence: Sequence, value: object) -> None:
        """The leading part is computed, and this was made of it."""
        with _logged("reporting a computed prefix"):
            self._report(sequence, None)
        self._settle(sequence, lambda future: future.set_result(value))

    def fail(self, sequence: Sequence, error: BaseException) -> None:
        """Nothing comes of it."""
        with _logged("keeping account of a failed request"):
            _clear(error)
            code = _code(error)
            if sequence.then is None:
                self.accounts.failed(code)
            self._report(sequence, None, code)
        self._settle(sequence, lambda future: future.set_exception(error))

    def cancel(self, sequence: Sequence) -> None:
        """Nobody wants it any more."""
        with _logged("keeping account of a cancelled request"):
            if sequence.then is None:
                self.accounts.failed("cancelled")
            self._report(sequence, None, "cancelled")
        self._settle(sequence, None)

    def _give(self, sequence: Sequence, result: Result) -> None:
        with _logged("keeping account of a finished request"):
            self.accounts.finished(result)
            self._report(sequence, result)
        self._settle(sequence, lambda future: future.set_result(result), answered=True)

    def _report(self, sequence: Sequence, result: Result | None, code: str | None = None) -> None:
        if not self.observers:
            return
        now = time.perf_counter()
        event = RequestFinished(
            request=sequence.number,
            time=now,
            finish_reason=None if result is None else result.finish_reason,
            code=code,
            usage=None if result is None else result.usage,
            timings=sequence.clock.timings(now) if result is None else result.timings,
            result=result,
        )
        self.observers.emit(event)

    def _settle(
        self, sequence: Sequence, settle: Callable[[Future[Any]], None] | None, *, answered: bool = False
    ) -> None:
        """Tell whoever waits. That runs callbacks of theirs; whatever these raise is not our worry."""
        keep, ended = sequence.keep, sequence.ended
        with _logged("letting go of a request"):
            sequence.release()
        with _logged("a callback of a finished request"):
            if sequence.future.set_running_or_notify_cancel() and settle is not None:
                settle(sequence.future)
        if ended is not None:
            with _logged("handing an answer on"):
                ended(sequence.answer if answered else None)
        del keep  # perhaps the last to hold the engine


def _operation(sequence: Sequence) -> Operation:
    if sequence.then is None:
        return "chat"
    return "encode" if sequence.part == "leading" else "score"


def _code(error: BaseException) -> str:
    return str(error.code) if isinstance(error, GlmflashError) else type(error).__name__


@contextlib.contextmanager
def _logged(what: str) -> Iterator[None]:
    """Whatever is raised inside is logged: the books may be wrong then, but whoever waits is told."""
    try:
        yield
    except BaseException:  # noqa: BLE001 - see above
        report(logger, logging.ERROR, "%s raised", what)


def _clear(error: BaseException) -> None:
    """An exception that is kept, and those that it came of, must not keep tensors."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and all(link is not one for one in chain):  # they are a user's: `==` may raise
        chain.append(link)
        traceback.clear_frames(link.__traceback__)
        link = link.__context__ if link.__cause__ is None else link.__cause__
