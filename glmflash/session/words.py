"""Messages as given → as a session keeps them: copied, pictures read, answers in the shape of a chat."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from glmflash.engine.clips import as_clip
from glmflash.output.result import Result
from glmflash.prompt.messages import Image, Text, Video, parse

__all__ = ["answer", "copied", "read"]


def __dir__() -> list[str]:
    return __all__


def read(
    messages: Sequence[Mapping[str, object]], encode: Callable[[object], object]
) -> list[dict[str, object]]:
    """A copy of messages in which every picture and clip has been read.

    Args:
        messages: What a caller gave.
        encode: Takes the source of a picture, or a clip, and returns what is to stand for it.

    Raises:
        MessageError: If the messages are malformed.

    Example:
        >>> read([{"role": "user", "content": [{"image": "a.png"}]}], str.upper)
        [{'role': 'user', 'content': [{'type': 'image', 'image': 'A.PNG'}]}]
    """
    chat, pictures = parse(messages)
    copies = [copied(message) for message in messages]
    for copy, message in zip(copies, chat, strict=True):
        content = copy.get("content")
        if isinstance(content, list):
            copy["content"] = [
                given if isinstance(part, Text) else _seen(part, pictures[part.index], encode)
                for given, part in zip(content, message.parts, strict=True)
            ]
    return copies


def _seen(part: Image | Video, source: object, encode: Callable[[object], object]) -> dict[str, object]:
    if isinstance(part, Video):
        return {"type": "video", "video": encode(as_clip(source))}
    return {"type": "image", "image": encode(source)}


def answer(result: Result, number: int) -> dict[str, object]:
    """What the assistant said, as a message.

    Args:
        result: The answer.
        number: Which turn it is of; names its tool calls.

    Example:
        >>> answer(Result(text="42"), 0)
        {'role': 'assistant', 'content': '42'}
    """
    completion: Any = result.to_openai(completion_id=f"turn{number}")
    message: dict[str, object] = completion["choices"][0]["message"]
    if "</think>" in result.text:
        # Spelled out in the answer: without this, the template takes it for the end of the reasoning.
        message.setdefault("reasoning_content", "")
    return message


def copied(message: Mapping[str, object]) -> dict[str, object]:
    """Objects and lists are copied; pictures are not."""

    def copy(value: object) -> object:
        if isinstance(value, Mapping):
            return {key: copy(inner) for key, inner in value.items()}
        return [copy(inner) for inner in value] if isinstance(value, (list, tuple)) else value

    return {key: copy(value) for key, value in message.items()}
