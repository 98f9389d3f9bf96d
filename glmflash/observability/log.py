"""Events of an engine → one record of `logging` for each request."""

import contextvars
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields

from glmflash.engine.events import Event, PictureDecoded, RequestFinished, RequestQueued, RequestRefused
from glmflash.errors import ParameterError
from glmflash.output.result import Timings, Usage
from glmflash.prompt.messages import Message, Text

__all__ = ["RequestLog"]

_DIGITS = 12  # of a picture's digest: enough to tell pictures apart, and to find them again


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class _Begun:
    """A request under way: what was asked, in which context, and which pictures were read."""

    asked: RequestQueued
    context: contextvars.Context
    pictures: list[str] = field(default_factory=list)


class RequestLog:
    """An observer that writes one log record for each request, when it has ended or is refused.

    The record's message is one readable line; its numbers are attributes, as `extra` makes them, for a
    formatter such as `JsonFormatter`:

    `request` (the engine's number), `operation`, `pictures` (the first digits of their digests),
    `prompt_tokens`, `image_tokens`, `cached_tokens`, `completion_tokens`, `saved_prefill_tokens`,
    `queue_seconds`, `media_seconds`, `vision_seconds`, `prefill_seconds`, `decode_seconds`, `total_seconds`,
    `first_token_seconds`, `tokens_per_second`, `finish_reason`, `error_code`. What is not known is None.

    The record is made in the context of whoever asked (`contextvars`), so a filter that adds the number of a
    web request, or the trace it belongs to, finds them. Text is escaped: nothing that was asked or answered
    can begin a line of the log.

    Args:
        logger: Where to log; it gets a `NullHandler` if it has no handler, and nothing else is configured.
        content: Whether records also have `question`, the last thing the user said, and `answer`.
        level: Of answers. Errors are warnings at least.

    Raises:
        ParameterError: If `logger` is neither a name nor a logger.

    Example:
        >>> log = RequestLog()
        >>> log(RequestRefused(code="parameter_error"))  # a pipeline does that: observers=[RequestLog()]
    """

    def __init__(
        self,
        logger: str | logging.Logger = "glmflash.requests",
        *,
        content: bool = False,
        level: int = logging.INFO,
    ) -> None:
        found: object = logging.getLogger(logger) if isinstance(logger, str) else logger
        if not isinstance(found, logging.Logger):
            raise ParameterError("logger", f"is a {type(logger).__name__}; allowed: a logger, or its name")
        if not found.handlers:
            found.addHandler(logging.NullHandler())
        self._logger = found
        self._content = content
        self._level = level
        self._begun: dict[int, _Begun] = {}

    def __call__(self, event: Event) -> None:
        """Hear of an event."""
        match event:
            case RequestQueued():
                self._begun[event.request] = _Begun(event, contextvars.copy_context())
            case PictureDecoded():
                if (begun := self._begun.get(event.request)) is not None:
                    begun.pictures.append(event.digest[:_DIGITS])
            case RequestFinished():
                self._finished(event, self._begun.pop(event.request, None))
            case RequestRefused():
                code = _escaped(event.code)
                extra = {**dict.fromkeys(_NAMES), "error_code": code, "pictures": ()}
                self._log(self._failure, f"request refused: {code}", extra)

    @property
    def _failure(self) -> int:
        return max(self._level, logging.WARNING)

    def _finished(self, event: RequestFinished, begun: _Begun | None) -> None:
        failed = event.code is not None and event.code != "cancelled"
        level = self._failure if failed else self._level
        if not self._logger.isEnabledFor(level):
            return
        extra = {**dict.fromkeys(_NAMES), **dict(_numbers(event))}
        extra["operation"] = None if begun is None else begun.asked.operation
        extra["pictures"] = () if begun is None else tuple(begun.pictures)
        message = _message(event, extra)
        if self._content and begun is not None:
            extra["question"] = _escaped(_question(begun.asked.messages))
            extra["answer"] = None if event.result is None else _escaped(event.result.text)
            message += "".join(f"; {name}: {extra[name]}" for name in ("question", "answer") if extra[name])
        context = contextvars.Context() if begun is None else begun.context
        context.run(self._log, level, message, extra)

    def _log(self, level: int, message: str, extra: dict[str, object]) -> None:
        self._logger.log(level, "%s", message, extra=extra)


_USAGE = {
    "prompt_tokens": "prompt", "image_tokens": "image", "cached_tokens": "cached",
    "completion_tokens": "completion", "saved_prefill_tokens": "saved_prefill",
}  # fmt: skip
_SECONDS = [one.name for one in fields(Timings) if one.name != "tokens_per_second"]
_NAMES = (
    "request", "operation", "pictures", *_USAGE, *(f"{name}_seconds" for name in _SECONDS),
    "tokens_per_second", "finish_reason", "error_code",
)  # fmt: skip


def _numbers(event: RequestFinished) -> Iterator[tuple[str, object]]:
    """What an end says of a request, by the names that a record has for it."""
    yield "request", event.request
    yield "finish_reason", event.finish_reason
    yield "error_code", None if event.code is None else _escaped(event.code)
    if event.usage is not None:
        yield from ((name, getattr(event.usage, known)) for name, known in _USAGE.items())
    if event.timings is not None:
        for name in _SECONDS:
            if name != "first_token" or (event.usage is not None and event.usage.completion):
                yield f"{name}_seconds", round(getattr(event.timings, name), 6)
    if event.usage is not None and event.usage.completion > 1 and event.timings is not None:
        yield "tokens_per_second", round(event.timings.tokens_per_second, 3)


def _message(event: RequestFinished, extra: dict[str, object]) -> str:
    """One line for people."""
    operation = extra["operation"]
    name = f"request {event.request}" if operation in ("chat", None) else f"{operation} {event.request}"
    seconds = "" if event.timings is None else f" in {event.timings.total:.3f} s"
    if event.code is not None:
        return f"{name}: {extra['error_code']}{seconds}"
    if event.usage is None:
        return f"{name}: done{seconds}"
    return f"{name}: {event.finish_reason}{seconds}, {_tokens(event.usage)}{_first(extra)}"


def _tokens(usage: Usage) -> str:
    parts = f"{usage.image} image, {usage.cached} cached"
    return f"{usage.prompt} + {usage.completion} tokens ({parts})"


def _first(extra: dict[str, object]) -> str:
    first = extra["first_token_seconds"]
    return "" if first is None else f", first token after {first:.3f} s"


def _question(messages: Sequence[Message]) -> str:
    """The last thing that the user said."""
    for message in reversed(messages):
        if message.role == "user":
            return "".join(part.text for part in message.parts if isinstance(part, Text))
    return ""


def _escaped(text: str) -> str:
    """Text as Python writes it: what is not printable, such as the end of a line, by its escape."""
    return repr(str(text))[1:-1]
