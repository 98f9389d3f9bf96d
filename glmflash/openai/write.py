"""Deltas of a stream and the result in the end → OpenAI's chunks; a result alone → its chat.completion."""

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

from glmflash.output.result import Delta, Result, ToolCall

__all__ = ["Json", "Writer"]

Json = dict[str, Any]  # an object, to be indexed as it is after `json.loads`


def __dir__() -> list[str]:
    return __all__


class Writer:
    """Writes one answer, whole or in chunks. Joined, the chunks say what the whole does.

    The first chunk has the role; those after it content, `reasoning_content`, or a tool call, once it is
    complete; the last has the finish reason, with the log-probabilities and boxes of all. With usage asked
    for, one without choices follows.

    Args:
        model: The name to answer under.
        include_usage: Whether a chunk with the numbers of tokens is to end the stream.
        token_bytes: The tokenizer's.
    """

    def __init__(
        self, *, model: str, include_usage: bool = False, token_bytes: Callable[[int], bytes]
    ) -> None:
        self._model = model
        self._include_usage = include_usage
        self._token_bytes = token_bytes
        self._id = f"chatcmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._calls = 0
        self._thought = False
        self.begun = False

    def whole(self, result: Result) -> Json:
        """The `chat.completion`. Boxes are in the message, as `boxes`: pixels, and thousandths."""
        body: Json = result.to_openai(
            model=self._model,
            created=self._created,
            completion_id=self._id,
            token_bytes=self._token_bytes,
        )
        if result.boxes:
            body["choices"][0]["message"]["boxes"] = [
                {"label": box.label, "xyxy": list(box.xyxy), "normalized": list(box.normalized),
                 "image": box.image}
                for box in result.boxes
            ]  # fmt: skip
        return body

    def pieces(self, delta: Delta) -> list[Json]:
        """The chunks that a delta makes: before the first, one with the role; for half a tool call, none."""
        if delta.tool_call is not None:
            return [*self._opening(), self._chunk({"tool_calls": [self._call(delta.tool_call)]})]
        if delta.channel == "tool_call":
            return self._opening()
        self._thought |= delta.channel == "thinking"
        key = "content" if delta.channel == "answer" else "reasoning_content"
        return [*self._opening(), self._chunk({key: delta.text})]

    def ending(self, result: Result) -> list[Json]:
        """The chunks that end the stream."""
        body = self.whole(result)
        (choice,) = body["choices"]
        message = choice["message"]
        rest: Json = {"boxes": message["boxes"]} if "boxes" in message else {}
        if result.thinking is not None and not self._thought:
            rest["reasoning_content"] = result.thinking  # it is empty: no delta told of it
        last = self._chunk(rest, finish_reason=choice["finish_reason"], logprobs=choice["logprobs"])
        chunks = [*self._opening(), last]
        return [*chunks, self._frame([], body["usage"])] if self._include_usage else chunks

    def _opening(self) -> list[Json]:
        if self.begun:
            return []
        self.begun = True
        return [self._chunk({"role": "assistant", "content": ""})]

    def _call(self, call: ToolCall) -> Json:
        index, self._calls = self._calls, self._calls + 1
        return {
            "index": index,
            "id": f"call_{self._id}_{index}",  # as `Result.to_openai` names it
            "type": "function",
            "function": {
                "name": call.name,
                "arguments": json.dumps(call.arguments, ensure_ascii=False),
            },
        }

    def _chunk(self, delta: Json, *, finish_reason: str | None = None, logprobs: object = None) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        return self._frame([choice], None)

    def _frame(self, choices: list[Json], usage: object) -> Json:
        frame: Json = {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }
        return frame | {"usage": usage} if self._include_usage else frame
