"""Messages out of a request body → the same, built anew: whatever names a picture is a data URL, or refused.

The one way in. Who sends a body is not whose machine this is, so nothing in one may name a file here, nor an
address unless the pipeline's policy allows URLs: a message is copied key by key, and the only sources of a
picture ever made are a `DataUrl`, and a `Url` then.
"""

from collections.abc import Mapping, Sequence
from typing import NoReturn

from glmflash.bounds import check_chat
from glmflash.errors import FetchError, MessageError
from glmflash.media.sources import DataUrl, Url
from glmflash.prompt.messages import kind_of

__all__ = ["chat", "picture", "question"]

_KEPT = ("role", "tool_calls", "reasoning_content")
# What clients send back with an answer, or beside a message, and the prompt has no place for.
_IGNORED = ("name", "tool_call_id", "refusal", "annotations", "boxes")
_DETAILS = (None, "auto", "low", "high", "original")


def __dir__() -> list[str]:
    return __all__


def chat(messages: object, *, urls: bool = False) -> list[dict[str, object]]:
    """Copy the messages of a body.

    Args:
        messages: A list of objects with `role` and `content`. Content is a string, or a list of parts
            "text", "image_url" and "video_url"; the last two wherever the template has a place for them.
        urls: Whether a picture may be an address on the network; the pipeline's policy says which.

    Raises:
        MessageError: If something in it is unknown, malformed, or names a file.
        FetchError: If a picture is somewhere on the network, and URLs are off.
        ContextLengthError: If there is more of it than any prompt holds.

    Example:
        >>> chat([{"role": "user", "content": [
        ...     {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]}])
        [{'role': 'user', 'content': [{'type': 'image', 'image': DataUrl()}]}]
    """
    if not isinstance(messages, list):
        raise MessageError(f"messages is {kind_of(messages)}; allowed: a list of objects")
    check_chat(messages)
    return [_message(message, f"messages[{i}]", urls) for i, message in enumerate(messages)]


def question(prompt: object, image: object, *, urls: bool = False) -> list[dict[str, object]]:
    """The messages that a plain body stands for: a prompt, and a picture before it.

    Args:
        prompt: The question.
        image: A data URL, the bare base64 of a picture's bytes, or None.
        urls: Whether it may be an address on the network.

    Raises:
        MessageError: If the prompt is no string, or the picture neither.
        FetchError: If the picture is somewhere on the network, and URLs are off.
    """
    if not isinstance(prompt, str):
        raise MessageError(f"prompt is {kind_of(prompt)}; allowed: a string")
    content: list[object] = [{"type": "text", "text": prompt}]
    if image is not None:
        # A colon is in every URL and in no base64. What a picture is, its bytes say, not its media type.
        bare = isinstance(image, str) and ":" not in image
        source = picture(f"data:image/*;base64,{image}" if bare else image, "image", urls=urls)
        content.insert(0, {"type": "image", "image": source})
    return [{"role": "user", "content": content}]


def picture(url: object, where: str, *, urls: bool = False) -> DataUrl | Url:
    """The only sources that a body can give.

    Raises:
        FetchError: If it is an address on the network, and URLs are off.
        MessageError: If it is anything else than a data URL: a path, a file, an object.

    Example:
        >>> picture("file:///etc/passwd", "image")
        Traceback (most recent call last):
        glmflash.errors.MessageError: image is no data URL; allowed: 'data:image/...;base64,...'
    """
    if not isinstance(url, str):
        _refuse(where, kind_of(url), "a string 'data:image/...;base64,...'")
    if url[:5].lower() == "data:":
        return DataUrl(url)
    if url[:8].lower().startswith(("http:", "https:")):
        if urls:
            return Url(url)
        raise FetchError(
            f"{where} is an address on the network, and URLs are off here (InputPolicy.urls);"
            " send the picture itself: 'data:image/...;base64,...'"
        )
    return _refuse(where, "no data URL", "'data:image/...;base64,...'")


def _message(message: object, where: str, urls: bool) -> dict[str, object]:
    if not isinstance(message, Mapping):
        raise MessageError(f"{where} is {kind_of(message)}; allowed: an object with role and content")
    _check_keys(message, (*_KEPT, *_IGNORED, "content"), where)
    copy = {key: message[key] for key in _KEPT if message.get(key) is not None}
    content = message.get("content")
    if isinstance(content, list):
        content = [_part(part, f"{where}.content[{i}]", urls) for i, part in enumerate(content)]
    elif not isinstance(content, str | None):
        _refuse(f"{where}.content", kind_of(content), "a string or a list of parts")
    return copy | {"content": content}


def _part(part: object, where: str, urls: bool) -> dict[str, object]:
    if not isinstance(part, Mapping):
        raise MessageError(f"{where} is {kind_of(part)}; allowed: an object such as {{'type': 'text', ...}}")
    match part.get("type"):
        case "text":
            _check_keys(part, ("type", "text"), where)
            text = part.get("text")
            if not isinstance(text, str):
                _refuse(f"{where}.text", kind_of(text), "a string")
            return {"type": "text", "text": text}
        case "image_url":
            _check_keys(part, ("type", "image_url"), where)
            return {"type": "image", "image": _image_url(part.get("image_url"), f"{where}.image_url", urls)}
        case "video_url":
            _check_keys(part, ("type", "video_url"), where)
            return {"type": "video", "video": _image_url(part.get("video_url"), f"{where}.video_url", urls)}
    return _refuse(f"{where}.type", kind_of(part.get("type")), "text, image_url, video_url")


def _image_url(value: object, where: str, urls: bool) -> DataUrl | Url:
    if not isinstance(value, Mapping):
        return picture(value, where, urls=urls)
    _check_keys(value, ("url", "detail"), where)
    detail = value.get("detail")
    if detail not in _DETAILS:
        _refuse(f"{where}.detail", kind_of(detail), "auto, low, high, or nothing; it makes no difference")
    return picture(value.get("url"), f"{where}.url", urls=urls)


def _check_keys(value: Mapping[object, object], allowed: Sequence[str], where: str) -> None:
    for key in value:
        if key not in allowed and value[key] is not None:
            raise MessageError(f"{where} has a field {kind_of(key)} too many; allowed: {', '.join(allowed)}")


def _refuse(where: str, found: str, allowed: str) -> NoReturn:
    raise MessageError(f"{where} is {found}; allowed: {allowed}")
