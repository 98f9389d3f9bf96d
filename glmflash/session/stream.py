"""The stream of an answer → the same stream, at whose end the turn enters the history."""

from collections.abc import Iterator
from types import TracebackType
from typing import Self

from glmflash.engine.stream import Stream
from glmflash.output.result import Delta, Result
from glmflash.session.history import Asked

__all__ = ["SessionStream"]


def __dir__() -> list[str]:
    return __all__


class SessionStream:
    """An answer of a session on its way; used like `Stream`.

    The turn enters the session's history once the answer has ended, also if it was cancelled; not if an
    exception came out of the stream, or out of its `with` block.

    Args:
        stream: The answer.
        asked: The question, which becomes a turn in the end.
    """

    def __init__(self, stream: Stream, asked: Asked) -> None:
        self._stream = stream
        self._asked = asked

    def __iter__(self) -> Iterator[Delta]:
        return self

    def __next__(self) -> Delta:
        try:
            return next(self._stream)
        except StopIteration:
            self._asked.keep(self._stream.result)
            raise
        except BaseException:
            self._give_up()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.cancel()
        if error is not None:
            self._asked.drop()
        elif self._asked.open:
            self._finish()

    def __repr__(self) -> str:
        return repr(self._stream)

    def _repr_html_(self) -> str:
        return self._stream._repr_html_()

    def _ipython_display_(self) -> None:
        self._stream._ipython_display_()

    def cancel(self) -> None:
        """Stop before the next token; what there is stays. Any thread may call this."""
        self._stream.cancel()

    @property
    def result(self) -> Result:
        """The whole answer, once it is there; deltas not yet iterated are passed over.

        Raises:
            ClosedError: If the stream has ended with an error, which was raised where it was iterated.
        """
        return self._finish()

    def _finish(self) -> Result:
        try:
            result = self._stream.result
        except BaseException:
            self._give_up()
            raise
        self._asked.keep(result)
        return result

    def _give_up(self) -> None:
        self._asked.drop()
        self._stream.cancel()
