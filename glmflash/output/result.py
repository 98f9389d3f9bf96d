"""What one request produced → a frozen, typed `Result`, and from there an OpenAI dict, HTML or a picture."""

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from glmflash.output.boxes import Box
from glmflash.output.drawing import draw
from glmflash.output.result_html import to_html
from glmflash.output.table import Table, parse_tables
from glmflash.output.view import View, view

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

__all__ = ["Channel", "Delta", "FinishReason", "Result", "Timings", "TokenLogprob", "ToolCall", "Usage"]

Channel = Literal["thinking", "answer", "tool_call"]
FinishReason = Literal["stop", "length", "cancelled", "repetition"]

# OpenAI knows no reason for the last two; "length" is its word for an answer that was cut short.
_OPENAI_REASON = {"stop": "stop", "length": "length", "cancelled": "length", "repetition": "length"}


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model asks the caller to run.

    Args:
        name: The function's name, as the model wrote it; it need not be one that was offered.
        arguments: Argument name to JSON value.
    """

    name: str
    arguments: dict[str, object]


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of streamed text.

    Args:
        text: The new characters; never empty, never half a character.
        channel: "answer", "thinking", or "tool_call" (the call as the model spells it).
        tool_call: The call that ends with this piece, if one does; all of them are `Result.tool_calls`.
    """

    text: str
    channel: Channel = "answer"
    tool_call: ToolCall | None = None


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """How likely one generated token was.

    Args:
        token_id: The token.
        logprob: Natural logarithm of its probability, before any sampling parameter was applied.
        top: The most likely tokens there, best first, as (token id, logprob).
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request.

    Args:
        prompt: Tokens of the prompt, picture tokens included.
        image: Those of them that stand for pictures.
        cached: Those of them whose KV was already there; all of them if the answer was.
        completion: Tokens generated.
        saved_prefill: Tokens that were not computed again thanks to any cache.
    """

    prompt: int = 0
    image: int = 0
    cached: int = 0
    completion: int = 0
    saved_prefill: int = 0

    @property
    def total(self) -> int:
        """Prompt and completion together."""
        return self.prompt + self.completion


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of one request went, in seconds.

    Args:
        queue: Waiting before work began.
        media: Reading and resizing pictures.
        vision: The vision tower.
        prefill: Reading the prompt.
        decode: Generating, after the first token.
        total: From submission to the last token.
        first_token: From submission to the first token.
        tokens_per_second: Generated tokens per second of decoding.
    """

    queue: float = 0.0
    media: float = 0.0
    vision: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0
    total: float = 0.0
    first_token: float = 0.0
    tokens_per_second: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Result:
    """What the model answered. `str(result)` is the answer.

    Args:
        text: The answer, without thinking and box markers.
        raw: Everything that was generated, markers spelled out; for scoring and debugging.
        thinking: The reasoning before the answer; None if the model did none.
        token_ids: Generated tokens, in order.
        logprobs: One entry per token, if asked for.
        boxes: Rectangles and points found in the answer, in pixels of the picture given.
        tool_calls: Functions the model wants called.
        finish_reason: "stop" (the model ended, or a stop string came), "length", "cancelled", "repetition".
        usage: Token counts.
        timings: Seconds by phase.
        from_cache: Whether it was given before: it came from the answer cache, or was shared with the same
            request under way.

    Example:
        >>> result = Result(text="42.00", finish_reason="stop", usage=Usage(prompt=20, completion=3))
        >>> str(result), result
        ('42.00', <Result '42.00': stop, 20 + 3 tokens, 0.00 s>)
    """

    text: str
    raw: str = ""
    thinking: str | None = None
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] | None = None
    boxes: tuple[Box, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason = "stop"
    usage: Usage = field(default_factory=Usage)
    timings: Timings = field(default_factory=Timings)
    from_cache: bool = False

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= 60 else self.text[:57] + "..."
        return f"<Result {text!r}: {self.summary}>"

    def _repr_html_(self) -> str:
        return to_html(self, summary=self.summary)

    @property
    def summary(self) -> str:
        """How it ended, and what it took, in one line."""
        parts: list[str] = [self.finish_reason]
        parts += [f"boxes: {len(self.boxes)}"] if self.boxes else []
        parts += [f"tool calls: {len(self.tool_calls)}"] if self.tool_calls else []
        parts += [f"{self.usage.prompt} + {self.usage.completion} tokens", f"{self.timings.total:.2f} s"]
        return ", ".join(parts)

    @property
    def tables(self) -> tuple[Table, ...]:
        """Tables in the answer, in HTML or Markdown; see `glmflash.output.parse_tables`."""
        return parse_tables(self.text)

    def draw(self, image: "Image.Image | np.ndarray", *, font: str | None = None) -> "Image.Image":
        """Draw the boxes on the picture they were found in; see `glmflash.output.draw`."""
        return draw(image, self.boxes, font=font)

    def view(self, image: "Image.Image | np.ndarray", *, font: str | None = None) -> View:
        """The result beside its picture, for a notebook: a result does not keep the picture itself."""
        return view(self, image, font=font)

    def to_openai(
        self,
        *,
        model: str = "glmflash",
        created: int | None = None,
        completion_id: str | None = None,
        token_bytes: Callable[[int], bytes] | None = None,
    ) -> dict[str, object]:
        """The same as OpenAI's `chat.completion` object.

        Args:
            model: Name to report.
            created: Unix time in seconds; now if not given.
            completion_id: Identifier to report; a random one if not given.
            token_bytes: The tokenizer's; with it, logprobs are included (they need each token's text).
        """
        name = completion_id or f"chatcmpl-{uuid.uuid4().hex}"
        message: dict[str, object] = {"role": "assistant", "content": self.text}
        if self.thinking is not None:
            message["reasoning_content"] = self.thinking
        if self.tool_calls:
            message["content"] = self.text or None
            message["tool_calls"] = [
                _openai_call(call, f"call_{name}_{i}") for i, call in enumerate(self.tool_calls)
            ]
        called = bool(self.tool_calls) and self.finish_reason == "stop"
        choice = {
            "index": 0,
            "message": message,
            "logprobs": _openai_logprobs(self.logprobs, token_bytes),
            "finish_reason": "tool_calls" if called else _OPENAI_REASON[self.finish_reason],
        }
        return {
            "id": name,
            "object": "chat.completion",
            "created": int(time.time()) if created is None else created,
            "model": model,
            "choices": [choice],
            "usage": {
                "prompt_tokens": self.usage.prompt,
                "completion_tokens": self.usage.completion,
                "total_tokens": self.usage.total,
                "prompt_tokens_details": {"cached_tokens": self.usage.cached},
            },
        }


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _openai_call(call: ToolCall, name: str) -> dict[str, object]:
    return {
        "id": name,
        "type": "function",
        "function": {"name": call.name, "arguments": _json(call.arguments)},
    }


def _openai_logprobs(
    logprobs: tuple[TokenLogprob, ...] | None, token_bytes: Callable[[int], bytes] | None
) -> dict[str, object] | None:
    if logprobs is None or token_bytes is None:
        return None

    def entry(token_id: int, logprob: float) -> dict[str, object]:
        data = token_bytes(token_id)
        return {"token": data.decode(errors="replace"), "logprob": logprob, "bytes": list(data)}

    return {
        "content": [
            entry(one.token_id, one.logprob) | {"top_logprobs": [entry(*other) for other in one.top]}
            for one in logprobs
        ]
    }
