"""OpenAI-style message dictionaries → frozen messages, and the picture sources they refer to.

Everything a caller can get wrong about a chat is found here, before any text is rendered.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from glmflash.bounds import check_chat
from glmflash.errors import MessageError

__all__ = [
    "Image",
    "ImageUrl",
    "Message",
    "Part",
    "Text",
    "ToolCall",
    "Video",
    "kind_of",
    "parse",
    "question",
    "to_json",
]

_ROLES = ("system", "user", "assistant", "tool")
_KINDS = ("text", "image", "image_url", "video", "video_url")


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Text:
    """Text, whoever wrote it: it is encoded without any control token."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """The picture with this number; pictures and clips are counted together, over the whole chat."""

    index: int


@dataclass(frozen=True, slots=True)
class Video:
    """The clip with this number; pictures and clips are counted together, over the whole chat."""

    index: int


Part = Text | Image | Video


@dataclass(frozen=True, slots=True)
class ImageUrl:
    """A picture or clip that a message names by URL; whoever reads them decides whether it may be fetched."""

    url: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the assistant made; each argument is its key and its value as the template writes it."""

    name: str
    arguments: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat.

    Args:
        role: "system", "user", "assistant" or "tool".
        parts: What it holds, in order; pictures and clips only for "user" and "tool".
        reasoning: The assistant's thinking, if it came as a field of its own.
        tool_calls: Calls that the assistant made.
        plain: Whether the content was a string, not a list; the template closes tool results differently.
    """

    role: str
    parts: tuple[Part, ...]
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    plain: bool = True


def parse(messages: Sequence[Mapping[str, object]]) -> tuple[tuple[Message, ...], tuple[object, ...]]:
    """Check a chat and take it apart.

    A part is `{"type": "text", "text": ...}`, `{"type": "image", "image": source}`, or the OpenAI form
    `{"type": "image_url", "image_url": {"url": ...}}`, whose URL comes out as an `ImageUrl`; clips likewise,
    with "video" for "image".

    Args:
        messages: The chat. `content` is a string or a list of parts; an assistant's may be absent.

    Returns:
        The messages, and the sources of their pictures and clips in order of appearance: `Image(i)`, or
        `Video(i)`, is source i.

    Raises:
        MessageError: If a role, part, tool call or type is not one of those allowed.
        ContextLengthError: If it is larger than any prompt; see `bounds`.

    Example:
        >>> chat, pictures = parse([{"role": "user", "content": [
        ...     {"type": "image", "image": "receipt.png"}, {"type": "text", "text": "The total?"}]}])
        >>> chat[0].parts, pictures
        ((Image(index=0), Text(text='The total?')), ('receipt.png',))
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise MessageError(f"messages is {kind_of(messages)}; give a list of messages")
    if not messages:
        raise MessageError("messages is empty; give at least one, such as {'role': 'user', 'content': '...'}")
    check_chat(messages)
    sources = list[object]()
    chat = tuple(_message(message, f"messages[{i}]", sources) for i, message in enumerate(messages))
    return chat, tuple(sources)


def question(
    text: str, *, images: object = None, videos: object = None, system: str | None = None
) -> list[dict[str, object]]:
    """Write one question about any number of pictures and clips as chat messages: pictures, clips, question.

    Args:
        text: The question.
        images: None, one picture, or a list, tuple or other sequence of pictures, each of any kind that
            `media.read` takes. The bytes of one, and its path, are one.
        videos: None, one clip, or a list or tuple of clips, each a `Clip` or what makes one; so the frames of
            one clip are a `Clip`, and not a list.
        system: A system message to begin with.

    Raises:
        MessageError: If the question or the system message is not a string.

    Example:
        >>> question("What is this?", images="receipt.png")[0]["content"]
        [{'type': 'image', 'image': 'receipt.png'}, {'type': 'text', 'text': 'What is this?'}]
    """
    for name, value in (("the question", text), ("system", "" if system is None else system)):
        if not isinstance(value, str):
            raise MessageError(f"{name} is a {type(value).__name__}; allowed: a string")
    content: list[dict[str, object]] = [{"type": "image", "image": one} for one in _several("images", images)]
    content += [{"type": "video", "video": one} for one in _several("videos", videos)]
    content.append({"type": "text", "text": text})
    opening: list[dict[str, object]] = [] if system is None else [{"role": "system", "content": system}]
    return [*opening, {"role": "user", "content": content}]


def _several(name: str, given: object) -> list[object]:
    encoded = isinstance(given, (str, bytes, bytearray, memoryview))  # sequences too, but one picture each
    several = list(given) if isinstance(given, Sequence) and not encoded else [given]
    if given is None:
        return []
    if any(one is None for one in several):
        what = "pictures" if name == "images" else "clips"
        raise MessageError(f"{name} holds a None; allowed: {what} only, or {name}=None for none")
    return several


def to_json(value: object, where: str) -> str:
    """Write a value as the template does: one line, non-ASCII kept.

    Raises:
        MessageError: If the value is not JSON; `where` says which one it is.
    """
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise MessageError(f"{where} cannot be written as JSON ({type(error).__name__})") from None


def _message(message: object, where: str, sources: list[object]) -> Message:
    if not isinstance(message, Mapping):
        raise MessageError(f"{where} is {kind_of(message)}; allowed: an object with role and content")
    role = message.get("role")
    if not isinstance(role, str):  # an array is equal to everything and nothing
        _refuse(where, "role", role, ", ".join(_ROLES))
    role = "system" if role == "developer" else role  # OpenAI's newer word for it
    if role not in _ROLES:
        _refuse(where, "role", role, ", ".join(_ROLES))
    where = f"{where} ({role})"
    assistant = role == "assistant"
    content = message.get("content")
    if content is None and assistant:
        content = ""
    return Message(
        role=role,
        parts=_parts(content, role, where, sources),
        reasoning=_reasoning(message.get("reasoning_content"), where) if assistant else None,
        tool_calls=_tool_calls(message.get("tool_calls"), where) if assistant else (),
        plain=isinstance(content, str),
    )


def _parts(content: object, role: str, where: str, sources: list[object]) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Text(content),)
    if not isinstance(content, Sequence) or isinstance(content, (bytes, bytearray, memoryview)):
        _refuse(where, "content", content, "a string or a list of parts")
    parts = tuple(_part(part, f"{where} part {i}", sources) for i, part in enumerate(content))
    if role in ("system", "assistant") and not all(isinstance(part, Text) for part in parts):
        raise MessageError(f"{where} holds a picture or a clip; allowed in user and tool messages only")
    return parts


def _part(part: object, where: str, sources: list[object]) -> Part:
    if not isinstance(part, Mapping):
        raise MessageError(f"{where} is {kind_of(part)}; allowed: an object such as {{'type': 'text', ...}}")
    kind = part.get("type")
    if kind is None:
        kind = next((key for key in _KINDS if key in part), None)
    match kind if isinstance(kind, str) else None:
        case "text":
            text = part.get("text")
            return Text(text) if isinstance(text, str) else _refuse(where, "text", text, "a string")
        case "image" | "image_url" | "video" | "video_url":
            medium = str(kind).removesuffix("_url")
            sources.append(_source(part, medium, where))
            index = len(sources) - 1
            return Image(index) if medium == "image" else Video(index)
    return _refuse(where, "type", kind, ", ".join(_KINDS))


def _source(part: Mapping[str, object], medium: str, where: str) -> object:
    """What a picture or clip is: any object under `image` or `video`, or a URL under `image_url` or `url`."""
    source = part.get(medium)
    if source is not None:
        return source
    key = f"{medium}_url" if f"{medium}_url" in part else "url"
    url = part.get(key)
    if isinstance(url, Mapping):
        url = url.get("url")
    if not isinstance(url, str):
        what = "picture" if medium == "image" else "clip"
        _refuse(where, key, url, f"a string, or an object with a url; or give the {what} under {medium!r}")
    return ImageUrl(url)


def _reasoning(reasoning: object, where: str) -> str | None:
    if reasoning is None or isinstance(reasoning, str):
        return reasoning
    return _refuse(where, "reasoning_content", reasoning, "a string")


def _tool_calls(calls: object, where: str) -> tuple[ToolCall, ...]:
    if calls is None:
        return ()
    if not isinstance(calls, Sequence) or isinstance(calls, (str, bytes)):
        _refuse(where, "tool_calls", calls, "a list of calls")
    return tuple(_tool_call(call, f"{where} tool call {i}") for i, call in enumerate(calls))


def _tool_call(call: object, where: str) -> ToolCall:
    """Read `{"function": {"name", "arguments"}}`, or the inner object alone."""
    if isinstance(call, Mapping):
        call = call.get("function") or call
    if not isinstance(call, Mapping):
        raise MessageError(f"{where} is {kind_of(call)}; allowed: an object with a function")
    name, arguments = call.get("name"), call.get("arguments")
    if not isinstance(name, str):
        _refuse(where, "name", name, "a string")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            raise MessageError(f"{where}: arguments is not JSON; allowed: an object, or its JSON") from None
    arguments = {} if arguments is None else arguments
    if not isinstance(arguments, Mapping):
        _refuse(where, "arguments", arguments, "an object, or its JSON")
    return ToolCall(name, tuple(_argument(key, value, where) for key, value in arguments.items()))


def _argument(key: object, value: object, where: str) -> tuple[str, str]:
    if not isinstance(key, str):
        _refuse(where, "a key of arguments", key, "a string")
    return key, value if isinstance(value, str) else to_json(value, f"{where}: an argument")


def _refuse(where: str, key: str, value: object, allowed: str) -> NoReturn:
    raise MessageError(f"{where}: {key} is {kind_of(value)}; allowed: {allowed}")


def kind_of(value: object) -> str:
    """Name a wrong value without repeating what may be a secret or a megabyte: short words, else the type."""
    if value is None:
        return "missing"
    return repr(value) if isinstance(value, str) and len(value) <= 20 else f"a {type(value).__name__}"
