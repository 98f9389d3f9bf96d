"""Messages and answers → JSON text in the shape of the GenAI conventions of OpenTelemetry."""

import json
from collections.abc import Iterator, Sequence

from glmflash.output.result import Result
from glmflash.prompt.messages import Image, Message, Text

__all__ = ["answered", "asked"]

_Part = dict[str, object]


def __dir__() -> list[str]:
    return __all__


def asked(messages: Sequence[Message]) -> str:
    """What was said so far, as `gen_ai.input.messages` has it; of pictures and clips only where they stand.

    Example:
        >>> asked([Message("user", (Text("The total?"),))])
        '[{"role": "user", "parts": [{"type": "text", "content": "The total?"}]}]'
    """
    return _json([{"role": message.role, "parts": list(_parts(message))} for message in messages])


def answered(result: Result) -> str:
    """An answer, as `gen_ai.output.messages` has it."""
    parts: list[_Part] = []
    if result.thinking is not None:
        parts.append({"type": "reasoning", "content": result.thinking})
    if result.text:
        parts.append({"type": "text", "content": result.text})
    parts += [
        {"type": "tool_call", "name": call.name, "arguments": call.arguments} for call in result.tool_calls
    ]
    return _json([{"role": "assistant", "parts": parts, "finish_reason": result.finish_reason}])


def _parts(message: Message) -> Iterator[_Part]:
    if message.reasoning is not None:
        yield {"type": "reasoning", "content": message.reasoning}
    for part in message.parts:
        if isinstance(part, Text):
            kind = "tool_call_response" if message.role == "tool" else "text"
            yield {"type": kind, ("response" if message.role == "tool" else "content"): part.text}
        else:
            yield {"type": "image" if isinstance(part, Image) else "video"}
    for call in message.tool_calls:
        yield {"type": "tool_call", "name": call.name, "arguments": dict(call.arguments)}


def _json(value: object) -> str:
    return json.dumps(value)  # in ASCII: exporters refuse half a surrogate pair
