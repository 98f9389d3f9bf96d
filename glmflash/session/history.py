"""Turns that have ended, and the one question that is under way → what has been said so far."""

import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from glmflash.errors import ClosedError, MessageError
from glmflash.output.result import Result
from glmflash.session.words import answer, copied

__all__ = ["Asked", "History", "Turn"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer.

    Args:
        question: The messages that were added: what a user said, or the results of tools.
        result: What the model answered.
    """

    question: tuple[Mapping[str, object], ...]
    result: Result


class History:
    """What one session has heard and said. At most one question is under way.

    Args:
        opening: Messages before the first turn.
        turns: Turns to begin with.
    """

    def __init__(self, opening: Sequence[Mapping[str, object]], turns: Sequence[Turn] = ()) -> None:
        self.opening = list(opening)
        self.turns = list(turns)
        self.closed = False
        self._lock = threading.Lock()
        self._asked: weakref.ref[Asked] | None = None  # weak: what nobody holds any more is not waited for

    def messages(self) -> list[dict[str, object]]:
        """All of it as chat messages; a copy."""
        said = [*self.opening]
        for number, turn in enumerate(self.turns):
            said += [*turn.question, answer(turn.result, number)]
        return [copied(message) for message in said]

    def ask(self) -> "Asked":
        """Begin a turn.

        Raises:
            ClosedError: If the history has been closed.
            MessageError: If another question is under way.
        """
        asked = Asked(self)
        with self._lock:
            self._check_idle()
            self._asked = weakref.ref(asked)
        return asked

    def undo(self) -> Turn:
        """Take the last turn back.

        Raises:
            ClosedError: If the history has been closed.
            MessageError: If there is no turn, or a question is under way.
        """
        with self._lock:
            self._check_idle()
            if not self.turns:
                raise MessageError("there is no turn to take back: nothing was asked, or all is taken back")
            return self.turns.pop()

    def fork(self) -> "History":
        """The same so far; from here on they know nothing of each other.

        Raises:
            ClosedError: If the history has been closed.
        """
        with self._lock:
            self._check_open()
            return History(self.opening, self.turns)

    def close(self) -> None:
        """Forget all of it."""
        with self._lock:
            self.closed = True
            self.turns, self.opening, self._asked = [], [], None

    def holds(self, asked: "Asked") -> bool:
        """Whether this is the question under way."""
        return self._asked is not None and self._asked() is asked

    def end(self, asked: "Asked", turn: Turn | None) -> None:
        """The question is no longer under way. If it was until now, its turn is kept, if there is one."""
        with self._lock:
            if self.holds(asked):
                self._asked = None
                self.turns += [turn] if turn is not None else []

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedError("the session has been closed; make a new one with Pipeline.session")

    def _check_idle(self) -> None:
        self._check_open()
        if self._asked is not None and self._asked() is not None:
            raise MessageError(
                "the answer before has not ended, and a session gives one at a time: wait for it, read its"
                " stream to the end or leave its with block; or ask a fork of the session"
            )


class Asked:
    """A question under way. Its turn is kept, or dropped: one of both, once.

    In a `with` block, an exception drops it.

    Args:
        history: To which the turn belongs.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self.question: list[dict[str, object]] = []

    @property
    def open(self) -> bool:
        """Whether it is still under way."""
        return self._history.holds(self)

    def keep(self, result: Result) -> None:
        """The answer has ended. One that was cancelled before its first word is dropped."""
        said = result.finish_reason != "cancelled" or result.text or result.tool_calls
        self._history.end(self, Turn(tuple(self.question), result) if said else None)

    def drop(self) -> None:
        """Nothing comes of it, or nothing more."""
        self._history.end(self, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.drop()
