"""Whatever a system gives back, text, `Result`, OpenAI's object → one frozen `Answer` that can be scored.

A system need not be ours: most clients of other models return a string or a `chat.completion`.
"""

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from glmflash.engine.checked import number, whole
from glmflash.errors import ParameterError
from glmflash.output.boxes import Box, parse_boxes
from glmflash.output.result import Result

__all__ = ["Answer", "read_answer"]

_MOST = 2**63 - 1  # tokens
_KINDS = "text, an Answer, a Result, or a chat.completion as OpenAI's client returns it"


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Answer:
    """What a system said to one question.

    Args:
        text: The answer, without thinking and markers.
        boxes: Rectangles in it. Compare `normalized`, thousandths of the picture: an answer that comes as
            text says nothing of pixels, and its `xyxy` are thousandths too.
        prompt_tokens: Tokens read; None if the system does not say.
        cached_tokens: Those of them that were not computed again.
        completion_tokens: Tokens generated.
        first_token: Seconds to the first of these.

    Raises:
        ParameterError: If a field is none of these.

    Example:
        >>> Answer("At [[10, 20, 30, 40]]").boxes
        ()
        >>> read_answer("At [[10, 20, 30, 40]]").boxes[0].normalized
        (10, 20, 30, 40)
    """

    text: str
    boxes: tuple[Box, ...] = ()
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    first_token: float | None = None

    def __post_init__(self) -> None:
        given: Mapping[str, object] = {one.name: getattr(self, one.name) for one in fields(self)}
        if not isinstance(given["text"], str):
            raise ParameterError("text", f"is a {type(self.text).__name__}; allowed: a text")
        boxes = given["boxes"]
        if not isinstance(boxes, tuple) or not all(isinstance(one, Box) for one in boxes):
            raise ParameterError("boxes", f"are {reprlib.repr(boxes)}; allowed: a tuple of Box")
        for name in ("prompt_tokens", "cached_tokens", "completion_tokens"):
            if given[name] is not None:
                object.__setattr__(self, name, whole(name, given[name], 0, _MOST))
        if given["first_token"] is not None:
            seconds = number("first_token", given["first_token"], 0, 1e300, "seconds, or None")
            object.__setattr__(self, "first_token", seconds)


def read_answer(given: object) -> Answer:
    """Make an answer of what a system returned.

    Args:
        given: Text, an `Answer`, a `Result`, or OpenAI's `chat.completion`, as a dictionary or as the object
            of its client. A message without text is an empty answer.

    Raises:
        ParameterError: If it is none of these.

    Example:
        >>> completion = {"choices": [{"message": {"content": "42"}}], "usage": {"completion_tokens": 3}}
        >>> read_answer(completion).text, read_answer(completion).completion_tokens
        ('42', 3)
    """
    if isinstance(given, Answer):
        return given
    if isinstance(given, Result):
        usage, first = given.usage, given.timings.first_token
        return Answer(
            given.text, given.boxes, usage.prompt, usage.cached, usage.completion, first or None
        )  # fmt: skip
    if isinstance(given, str):
        return Answer(given, parse_boxes(given, size=(1000, 1000)))
    return _completion(given)


def _completion(given: object) -> Answer:
    choices = _part(given, "choices")
    if not isinstance(choices, list | tuple) or not choices:
        raise ParameterError("answer", f"is a {type(given).__name__}; allowed: {_KINDS}")
    content = _part(_part(choices[0], "message"), "content")
    usage = _part(given, "usage")
    cached = _part(_part(usage, "prompt_tokens_details"), "cached_tokens")
    return replace(
        read_answer(_text(content)),
        prompt_tokens=_count(_part(usage, "prompt_tokens")),
        cached_tokens=_count(cached),
        completion_tokens=_count(_part(usage, "completion_tokens")),
    )


def _text(content: object) -> str:
    """Text as it is, or that of its parts, as some servers give it."""
    if isinstance(content, list | tuple):
        return "".join(_text(_part(part, "text")) for part in content if not isinstance(part, list | tuple))
    return content if isinstance(content, str) else ""


def _part(given: object, name: str) -> object:
    """A key of a dictionary, or what a client's object calls so."""
    return given.get(name) if isinstance(given, Mapping) else getattr(given, name, None)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
