"""A system and questions → what it says to each, one at a time or several together, none waited for too long.

A question that takes too long, or whose function raises, has an error's code for an answer. A function that
hangs cannot be ended: its thread is left alone, and once many hang, nothing more is asked.
"""

import logging
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from glmflash.engine.waiting import AT_ONCE
from glmflash.errors import DeadlineError, GlmflashError
from glmflash.evaluate.answer import Answer
from glmflash.evaluate.question import Question
from glmflash.evaluate.systems import Opened

__all__ = ["Given", "ask_all", "code_of"]

_MOST_HANGING = 16

_log = logging.getLogger(__name__)


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a question was given: an answer, or an error's code.

    Args:
        question: The question.
        answer: Empty after an error.
        error: None if there was none.
        seconds: How long it took.
        began: Unix time.
    """

    question: Question
    answer: Answer
    error: str | None
    seconds: float
    began: float


def code_of(error: BaseException) -> str:
    """An error's stable name. Its message is no part of a report: it may hold what nobody should read.

    Example:
        >>> code_of(DeadlineError("too late")), code_of(KeyError("secret"))
        ('deadline_error', 'KeyError')
    """
    return error.code if isinstance(error, GlmflashError) else type(error).__name__


def ask_all(
    system: Opened, questions: Sequence[Question], *, concurrency: int, timeout: float | None
) -> Generator[Given, None, None]:
    """Ask, and yield answers as they come.

    Args:
        system: Whom to ask.
        questions: What to ask, in this order.
        concurrency: Most questions under way at once.
        timeout: Most seconds for each; None is for ever.

    Raises:
        BaseException: What a function raises that is no `Exception`, `SystemExit` for one.
    """
    todo, hanging = iter(questions), 0
    came: SimpleQueue[tuple[int, Given | BaseException]] = SimpleQueue()
    under_way: dict[int, tuple[Question, float]] = {}
    number = 0
    while True:
        while len(under_way) < concurrency and (question := next(todo, None)) is not None:
            if hanging >= _MOST_HANGING:
                yield _late(question, 0.0)
                continue
            number += 1
            under_way[number] = question, time.perf_counter()
            _start(system, question, timeout, number, came)
        if not under_way:
            return
        for key, given in _arrived(came):
            if isinstance(given, BaseException):
                raise given
            if under_way.pop(key, None) is None:
                hanging -= 1  # it did end, long after anybody waited for it
            else:
                yield given
        if timeout is not None and not system.keeps_time:
            now = time.perf_counter()
            late = [key for key, (_, began) in under_way.items() if now - began > timeout]
            hanging += len(late)
            yield from (_late(*_passed(under_way.pop(key), now)) for key in late)


def _start(
    system: Opened,
    question: Question,
    timeout: float | None,
    number: int,
    came: "SimpleQueue[tuple[int, Given | BaseException]]",
) -> None:
    def work() -> None:
        answer, code, began, clock = Answer(""), None, time.time(), time.perf_counter()
        try:
            answer = system.ask(question, timeout)
        except Exception as error:  # noqa: BLE001  # whatever a function raises is its answer
            code = code_of(error)
            _log.debug("question %s: %s", question.id, code, exc_info=error)
        except BaseException as error:  # noqa: BLE001  # and this is for who asked
            came.put((number, error))
            return
        seconds = time.perf_counter() - clock
        given = Given(question=question, answer=answer, error=code, seconds=seconds, began=began)
        came.put((number, given))

    threading.Thread(target=work, name="glmflash-evaluate", daemon=True).start()


def _arrived(
    came: "SimpleQueue[tuple[int, Given | BaseException]]",
) -> Iterator[tuple[int, Given | BaseException]]:
    """What has come, after a short wait if that is nothing, so that interrupts and the clock are heard."""
    try:
        yield came.get(timeout=AT_ONCE / 4)
        while True:
            yield came.get_nowait()
    except Empty:
        return


def _passed(asked: tuple[Question, float], now: float) -> tuple[Question, float]:
    return asked[0], now - asked[1]


def _late(question: Question, seconds: float) -> Given:
    return Given(
        question=question, answer=Answer(""), error=DeadlineError.code, seconds=seconds,
        began=time.time() - seconds,
    )  # fmt: skip
