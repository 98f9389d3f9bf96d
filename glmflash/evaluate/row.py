"""One question asked of one system → one frozen row, and the JSON that a journal and a report keep of it."""

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite

from glmflash.errors import ConfigError, ParameterError
from glmflash.evaluate.answer import Answer
from glmflash.fields import Fields
from glmflash.output.boxes import Box

__all__ = ["Row", "read_row", "write_row"]

_COUNTS = ("prompt_tokens", "cached_tokens", "completion_tokens")


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a system said to a question, what that is worth, and how long it took.

    Args:
        system: The system's name.
        question: The question's id.
        score: From 0 to 1.
        seconds: From asking to the whole answer, or to the error.
        began: When it was asked: Unix time in seconds.
        answer: What it said; empty after an error.
        error: The error's code, or its class if it has none; None if there was none.
    """

    system: str
    question: str
    score: float
    seconds: float
    began: float
    answer: Answer = field(default_factory=lambda: Answer(""))
    error: str | None = None

    @property
    def right(self) -> bool:
        """Whether the answer is worth at least half: what a report does not count among the wrong ones."""
        return self.score >= 0.5


def write_row(row: Row) -> dict[str, object]:
    """As JSON values; what is empty is left out.

    Example:
        >>> row = Row(system="a", question="7", score=1.0, seconds=0.5, began=0.0, answer=Answer("42"))
        >>> write_row(row)
        {'system': 'a', 'question': '7', 'score': 1.0, 'seconds': 0.5, 'began': 0.0, 'text': '42'}
        >>> read_row(write_row(row), "row") == row
        True
    """
    answer = row.answer
    kept: dict[str, object] = {
        "system": row.system, "question": row.question, "score": row.score, "seconds": row.seconds,
        "began": row.began, "text": answer.text,
    }  # fmt: skip
    if answer.boxes:
        kept["boxes"] = [[box.label, *box.xyxy, *box.normalized, box.image] for box in answer.boxes]
    for name in (*_COUNTS, "first_token"):
        if (value := getattr(answer, name)) is not None:
            kept[name] = value
    return kept if row.error is None else kept | {"error": row.error}


def read_row(data: object, where: str) -> Row:
    """The row that JSON values stand for.

    Raises:
        ConfigError: If they stand for none.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: is {reprlib.repr(data)}; allowed: an object")
    read = Fields(data, where)
    counts = {name: _count(read, name) for name in _COUNTS}
    first = read.number("first_token") if read.has("first_token") else None
    boxes = data.get("boxes", [])
    if not isinstance(boxes, list):
        read.refuse("boxes", boxes, "a list")
    if not 0 <= (score := read.number("score")) <= 1:
        read.refuse("score", score, "a number from 0 to 1")
    if (seconds := read.number("seconds")) < 0:
        read.refuse("seconds", seconds, "a number from 0")
    try:
        answer = Answer(
            read.string("text"), tuple(_box(read, box) for box in boxes), first_token=first, **counts
        )
    except ParameterError as error:
        raise ConfigError(f"{where}: {error}") from None
    return Row(
        system=read.string("system"), question=read.string("question"), score=score, seconds=seconds,
        began=read.number("began"), error=read.string("error") if read.has("error") else None,
        answer=answer,
    )  # fmt: skip


def _count(read: Fields, name: str) -> int | None:
    if not read.has(name):
        return None
    if (value := read.integer(name)) < 0:
        read.refuse(name, value, "a whole number from 0")
    return value


def _box(read: Fields, value: object) -> Box:
    allowed = "[label, 4 numbers, 4 whole numbers, which picture]"
    if not isinstance(value, list) or len(value) != 10 or not isinstance(value[0], str):
        read.refuse("boxes", value, allowed)
    if not all(map(_finite, value[1:])):
        read.refuse("boxes", value, allowed)
    left, top, right, bottom = map(float, value[1:5])
    x1, y1, x2, y2, image = map(int, value[5:])
    return Box(value[0], (left, top, right, bottom), (x1, y1, x2, y2), image)


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
