"""A question and Python functions → the model's answer, with the calls that were made on the way."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack

from glmflash.asks import Asks, Talk
from glmflash.batching import OnError
from glmflash.engine.request import Options
from glmflash.errors import MessageError, ParameterError
from glmflash.output.result import Result, ToolCall
from glmflash.prepare import conversation
from glmflash.session.words import answer, read
from glmflash.shown import show
from glmflash.tools.describe import Tool, understand_all
from glmflash.tools.returned import content, explain

__all__ = ["Called", "ToolRun", "run_tools"]

_TOO_MANY = "was not made: at most {} calls of one answer are; ask for it again"


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, eq=False)
class Called:
    """A call that the model asked for, and what came of it.

    Args:
        call: The name and the arguments, as the model gave them.
        value: What the function returned; None if it returned nothing.
        seconds: How long it took.
        error: Why the model was told of an error: `MessageError` if there is no such function, or the answer
            asked for too many calls, `ParameterError` if the arguments do not fit, else what the function
            raised.
    """

    call: ToolCall
    value: object = None
    seconds: float = 0.0
    error: Exception | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ToolRun:
    """What came of a question that functions helped to answer. `str(run)` is the answer.

    Args:
        result: The last answer.
        messages: The whole conversation, calls and what they returned among it; `chat` can go on from it.
        calls: Every call that was made or refused, in order.
    """

    result: Result
    messages: tuple[dict[str, object], ...]
    calls: tuple[Called, ...]

    @property
    def finished(self) -> bool:
        """Whether the model came to an end: it asks for no more calls, and was not cut short."""
        return self.result.finish_reason == "stop" and not self.result.tool_calls

    def __str__(self) -> str:
        return self.result.text

    def __repr__(self) -> str:
        names = ", ".join(f"{one.call.name}{' failed' if one.error else ''}" for one in self.calls)
        return f"<ToolRun: {names or 'no calls'}; {'' if self.finished else 'not finished, '}{self.result!r}>"


def run_tools(
    self: Asks,
    text: Talk,
    functions: Sequence[Callable[..., object]],
    *,
    images: object = None,
    system: str | None = None,
    max_rounds: int = 8,
    max_calls: int = 32,
    on_error: OnError = "return",
    **options: Unpack[Options],
) -> ToolRun:
    """Ask a question, make the calls that the model asks for, tell it what they returned, until it answers.

    Only these functions can be called, by their names, in the caller's thread, one after the other in the
    order asked for, with arguments checked; what does not fit is told to the model, which may try again. Text
    in a picture can make a model ask for anything: offer nothing that a stranger may not ask for.

    Args:
        self: The pipeline that is asked.
        text: The question, or a whole conversation as messages; then without `images` and `system`.
        functions: See `glmflash.tools.tool`. They return text, pictures, lists of both, or what JSON holds.
        images: As for a call.
        system: As for a call.
        max_rounds: Most answers whose calls are made; with more to make, the run is not `finished`.
        max_calls: Most calls that are made of one answer; the model is told that those beyond were not.
        on_error: "return" tells the model what a function raised; "raise" raises it. Interrupts pass.
        options: As for a call, for each answer; not `tools`. A `tool_choice` is for the first answer only.

    Raises:
        ParameterError: If a function cannot be described, or an argument is not as above.
    """
    tools = _checked(functions, {"max_rounds": max_rounds, "max_calls": max_calls}, on_error, options)
    encode = _reader(self, options)
    make = partial(_make, tools, encode, most=max_calls, raising=on_error == "raise")
    messages, calls = read(conversation(text, images, system), encode), list[Called]()
    options["tools"] = [one.as_openai() for one in tools.values()]
    for rounds_left in reversed(range(max_rounds + 1)):
        result = self.chat(messages, **options)
        said: dict[str, Any] = answer(result, len(messages))
        messages.append(said)
        # Of an answer that was cut short, nobody knows what else it would have asked for.
        if not result.tool_calls or result.finish_reason != "stop" or not rounds_left:
            break
        for named, (called, told) in zip(said["tool_calls"], make(result.tool_calls), strict=True):
            calls.append(called)
            messages.append({"role": "tool", "tool_call_id": named["id"], "content": told})
        if options.get("tool_choice") != "none":
            options["tool_choice"] = "auto"
    return ToolRun(result, tuple(messages), tuple(calls))


def _checked(
    functions: Sequence[Callable[..., object]],
    bounds: Mapping[str, object],
    on_error: object,
    options: Options,
) -> Mapping[str, Tool]:
    for name, bound in bounds.items():
        if not isinstance(bound, int) or bound is True or bound < 1:
            raise ParameterError(name, f"is {show(bound)}; allowed: a whole number from 1")
    if not isinstance(on_error, str) or on_error not in ("raise", "return"):
        raise ParameterError("on_error", f"is {show(on_error)}; allowed: 'raise' or 'return'")
    if options.get("tools") is not None:
        raise ParameterError("tools", "is given beside functions, which are the tools; leave it out")
    return understand_all(functions)


def _reader(pipe: Asks, options: Options) -> Callable[[object], object]:
    """What reads a picture, once; so the limit on its size is none of the answers' options any more."""
    most = options.pop("max_image_tokens", None)
    return partial(pipe.engine.read, max_image_tokens=most, cache_salt=options.get("cache_salt"))


def _make(
    tools: Mapping[str, Tool],
    encode: Callable[[object], object],
    calls: Sequence[ToolCall],
    *,
    most: int,
    raising: bool,
) -> Iterator[tuple[Called, object]]:
    """Make the calls of one answer, one after the other, and no more than `most`."""
    for index, call in enumerate(calls):
        if index < most:
            yield _call(tools, call, encode, raising=raising)
        else:
            yield _failed(call, MessageError(_TOO_MANY.format(most)), 0.0)


def _call(
    tools: Mapping[str, Tool], call: ToolCall, encode: Callable[[object], object], *, raising: bool
) -> tuple[Called, object]:
    """Make one call; returns what came of it, and what the model is told."""
    tool = tools.get(call.name)
    if tool is None:
        problem = f"there is no function {call.name:.64}; allowed: {', '.join(tools)}"
        return _failed(call, MessageError(problem), 0.0)
    try:
        keywords = tool.read(call.arguments)
    except ParameterError as error:
        return _failed(call, error, 0.0)
    began = time.perf_counter()
    value: object = None
    try:
        value = tool.function(**keywords)
        seconds = time.perf_counter() - began
        (message,) = read([{"role": "tool", "content": content(value)}], encode)
    except Exception as error:
        if raising:
            raise
        return _failed(call, error, time.perf_counter() - began)
    return Called(call, value, seconds), message["content"]


def _failed(call: ToolCall, error: Exception, seconds: float) -> tuple[Called, object]:
    return Called(call, None, seconds, error), explain(error)
