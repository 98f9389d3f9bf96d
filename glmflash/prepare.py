"""Anything a person would write → a strict `Request`, or an error that names what is wrong with it."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, cast

from glmflash.config import GenerationConfig
from glmflash.engine.request import Options, Request
from glmflash.engine.sampling import Sampling
from glmflash.errors import MessageError, ParameterError
from glmflash.grammar.format import ResponseFormat
from glmflash.prompt.messages import parse, question
from glmflash.shown import show

__all__ = ["Options", "conversation", "one", "question", "request"]


def __dir__() -> list[str]:
    return __all__


def request(
    messages: Sequence[Mapping[str, object]], options: Options, *, defaults: GenerationConfig
) -> Request:
    """Check a chat and its options, and fill in the checkpoint's sampling defaults.

    Raises:
        MessageError: If the chat is malformed.
        ParameterError: If an option is unknown or out of range.
    """
    for name in options:
        if name not in Options.__annotations__:
            known = ", ".join(sorted(Options.__annotations__))
            raise ParameterError(
                str(name) if len(str(name)) <= 40 else show(name), f"unknown; allowed: {known}"
            )
    chat, pictures = parse(messages)
    chosen = {field.name for field in fields(Sampling)}
    given = {name: x for name, x in options.items() if x is not None or name == "repetition_stop"}
    sampling: dict[str, Any] = {name: value for name, value in given.items() if name in chosen}
    others: dict[str, Any] = {name: value for name, value in given.items() if name not in chosen}
    others["tools"] = _tools(options.get("tools"))
    others["response_format"] = _format(others)
    return Request(
        messages=chat, pictures=pictures, sampling=Sampling.from_generation(defaults, **sampling), **others
    )


def one(item: object, options: Options | None = None, *, defaults: GenerationConfig) -> Request:
    """Read one item of a batch, whatever its form.

    Args:
        item: A question; a list of messages; keywords of a call, such as `{"text": ..., "images": ...}` or
            `{"messages": [...]}`, with options of its own beside them; or a `Request`, which is complete
            and goes as it is.
        options: Options for items that do not give them themselves.
        defaults: The checkpoint's sampling defaults.

    Raises:
        MessageError: If the item is none of these, or its chat is malformed.
        ParameterError: If an option is unknown or out of range.

    Example:
        >>> item = {"text": "The total?", "images": "receipt.png", "seed": 7}
        >>> one(item, {"max_new_tokens": 64}, defaults=GenerationConfig()).pictures
        ('receipt.png',)
    """
    match item:
        case Request():
            return item
        case str():
            return request(question(item), options or {}, defaults=defaults)
        case Mapping():
            messages, own = _keywords(dict(item))
            return request(messages, cast(Options, {**(options or {}), **own}), defaults=defaults)
        case Sequence() if not isinstance(item, (bytes, bytearray, memoryview)):
            return request(item, options or {}, defaults=defaults)
    raise MessageError(f"an item is a {type(item).__name__}; allowed: {_ITEMS}")


def conversation(
    text: str | Sequence[Mapping[str, object]], images: object, system: str | None, videos: object = None
) -> Sequence[Mapping[str, object]]:
    """Read what may be a question, with its pictures and clips, or a whole chat already.

    Raises:
        MessageError: If there is a chat, and pictures, clips or a system message beside it.
    """
    if isinstance(text, str) or any(given is not None for given in (images, videos, system)):
        return question(text, images=images, videos=videos, system=system)  # type: ignore[arg-type]  # it checks
    return text


_ITEMS = "a question, a list of messages, an object with text or messages, or a Request"


def _keywords(item: dict[str, Any]) -> tuple[Sequence[Mapping[str, object]], dict[str, object]]:
    """The messages that keywords stand for, and the keywords that are options."""
    if "messages" in item:
        for name in ("text", "images", "videos", "system"):
            if item.pop(name, None) is not None:
                raise MessageError(f"an item has both messages and {name}; put everything into messages")
        return item.pop("messages"), item
    if "text" not in item:
        hint = "; a message alone goes into a list" if "role" in item else ""
        raise MessageError(f"an item has neither text nor messages; allowed: {_ITEMS}{hint}")
    text, images, videos, system = (item.pop(name, None) for name in ("text", "images", "videos", "system"))
    return question(text, images=images, videos=videos, system=system), item


def _format(options: dict[str, Any]) -> ResponseFormat | None:
    """What the answer has to be, whichever keyword says so; the shorthands are taken out."""
    names = ("response_format", "regex", "choice")
    given = {name: value for name in names if (value := options.pop(name, None)) is not None}
    if len(given) > 1:
        raise ParameterError(
            " and ".join(given), "given together; allowed: one of response_format, regex, choice"
        )
    for name, value in given.items():
        if name == "response_format":
            return ResponseFormat.read(value)
        try:
            return ResponseFormat.read({"type": name, name: value})
        except ParameterError as error:  # name the keyword that was used
            raise ParameterError(name, str(error.args[1])) from None
    return None


def _tools(tools: Sequence[Mapping[str, object]] | None) -> tuple[Mapping[str, object], ...]:
    if tools is None:
        return ()
    if isinstance(tools, (str, bytes, Mapping)) or not isinstance(tools, Sequence):
        raise MessageError(f"tools is a {type(tools).__name__}; allowed: a list of OpenAI-style objects")
    return tuple(tools)
