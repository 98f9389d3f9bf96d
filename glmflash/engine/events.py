"""What happens inside the engine → frozen events, and the functions that watch them."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Literal

from glmflash.engine.log import report
from glmflash.engine.sampling import Sampling
from glmflash.errors import ParameterError
from glmflash.output.result import FinishReason, Result, Timings, Usage
from glmflash.prompt.messages import Message

__all__ = [
    "AnswerReused",
    "BlockEvicted",
    "Event",
    "Observer",
    "Observers",
    "Operation",
    "PictureDecoded",
    "Prefill",
    "RequestFinished",
    "RequestQueued",
    "RequestRefused",
    "TokenGenerated",
    "VisionDone",
]

logger = logging.getLogger(__name__)

#: What is asked for: an answer, a picture's value (`Engine.prefill`), or how likely answers are.
Operation = Literal["chat", "encode", "score"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestQueued:
    """A request was handed in.

    Args:
        request: The engine's number of the request.
        priority: As asked for.
        operation: What is to be made of it: "chat" is an answer.
        stream: Whether somebody gets the answer as it comes.
        pictures: How many it has.
        output: The kind of `ResponseFormat` that the answer has to be of, if any.
        sampling: How its tokens are chosen.
        messages: What was asked. Events do not show it when they are printed.
        time: When, in seconds of `time.perf_counter`.
    """

    request: int
    priority: int
    operation: Operation = "chat"
    stream: bool = False
    pictures: int = 0
    output: str | None = None
    sampling: Sampling | None = field(default=None, repr=False)
    messages: tuple[Message, ...] = field(default=(), repr=False)
    time: float = field(default_factory=perf_counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRefused:
    """Something was asked that never became a request: malformed, or no place in line. It is told alone.

    Args:
        code: The error's `code`, or the name of its class if it has none.
        time: When, in seconds of `time.perf_counter`.
    """

    code: str
    time: float = field(default_factory=perf_counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureDecoded:
    """A picture was read, resized and cut into patches.

    Args:
        request: The engine's number of the request.
        index: Which of its pictures, from 0.
        digest: What the picture is known by; equal for equal pixels and preprocessing.
        seconds: How long it took.
        time: When, in seconds of `time.perf_counter`.
    """

    request: int
    index: int
    digest: str
    seconds: float
    time: float = field(default_factory=perf_counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerReused:
    """A request is answered with an answer given before; the model has nothing to do with it.

    Args:
        request: The engine's number of the request.
        shared: Whether it waited for the same request under way; else the answer cache had it.
        tokens: Tokens of the answer.
        time: When, in seconds of `time.perf_counter`.
    """

    request: int
    shared: bool
    tokens: int
    time: float = field(default_factory=perf_counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionDone:
    """A picture's vision tokens are there. Nothing is said of a picture whose KV was all reused.

    Args:
        request: The engine's number of the request.
        digest: As in `PictureDecoded`.
        tokens: How many vision tokens.
        seconds: How long it took.
        cached: Whether they came from memory, not from the vision tower.
        time: When, in seconds of `time.perf_counter`.
    """

    request: int
    digest: str
    tokens: int
    seconds: float
    cached: bool
    time: float = field(default_factory=perf_counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefill:
    """A chunk of a prompt was computed.

    Args:
        request: The engine's number of the request.
        tokens: Tokens computed in this chunk.
        cached: Tokens of the prompt whose KV was already there.
        seconds: How long the step took; it may have worked for other requests too.
        time: When, in seconds of `time.perf_counter`.
    """

    request: int
    tokens: int
    cached: int
    seconds: float
    time: float = field(default_factory=perf_counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenGenerated:
    """A token was chosen.

    Args:
        request: The engine's number of the request.
        index: Which token of its answer, from 0.
        token_id: The token.
        time: When, in seconds of `time.perf_counter`.
    """

    request: int
    index: int
    token_id: int
    time: float = field(default_factory=perf_counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFinished:
    """A request has left the engine, with an answer or an error; its last event.

    Args:
        request: The engine's number of the request.
        finish_reason: Why the answer ended; None after an error, or for `encode`, which answers nothing.
        code: The error's `code`, or the name of its class if it has none; "cancelled" if its future was
            cancelled; None after an answer.
        usage: Token counts, as far as they are known.
        timings: Seconds by phase, as far as it came.
        result: The answer, if there is one. Events do not show it when they are printed.
        time: When, in seconds of `time.perf_counter`.
    """

    request: int
    finish_reason: FinishReason | None = None
    code: str | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    result: Result | None = field(default=None, repr=False)
    time: float = field(default_factory=perf_counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockEvicted:
    """A block of KV that nobody referenced gave way to new tokens.

    Args:
        block: Its number in the pool.
        time: When, in seconds of `time.perf_counter`.
    """

    block: int
    time: float = field(default_factory=perf_counter)


Event = (
    RequestQueued
    | RequestRefused
    | PictureDecoded
    | AnswerReused
    | VisionDone
    | Prefill
    | TokenGenerated
    | RequestFinished
    | BlockEvicted
)
Observer = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Observers:
    """The functions that hear of every event. They only watch: whatever one raises is logged and forgotten.

    Args:
        functions: Called in order, on the engine's threads, for `RequestQueued` and `RequestRefused` on the
            one that asks: what takes long belongs on one of your own.

    Raises:
        ParameterError: If these are not functions in a list or tuple.

    Example:
        >>> seen = []
        >>> observers = Observers([seen.append])
        >>> if observers:  # without any, an event need not even be made
        ...     observers.emit(BlockEvicted(block=3, time=1.5))
        >>> seen
        [BlockEvicted(block=3, time=1.5)]
    """

    functions: Sequence[Observer] = ()

    def __post_init__(self) -> None:
        functions: object = self.functions
        if not isinstance(functions, (tuple, list)):
            kind = type(functions).__name__
            raise ParameterError("observers", f"is a {kind}; allowed: a list of functions, such as [print]")
        for index, function in enumerate(functions):
            if not callable(function):
                kind = type(function).__name__
                raise ParameterError(
                    "observers", f"item {index} is a {kind}; allowed: functions of one event"
                )
        object.__setattr__(self, "functions", tuple(functions))

    def __bool__(self) -> bool:
        return bool(self.functions)

    def emit(self, event: Event) -> None:
        """Tell every function."""
        for function in self.functions:
            try:
                function(event)
            except BaseException:  # noqa: BLE001 - they only watch
                report(
                    logger, logging.ERROR, "observer %s failed at %s", _name(function), type(event).__name__
                )


def _name(function: Observer) -> str:
    """What to call it; nothing of it is run that it defines itself."""
    plain = isinstance(function, (FunctionType, MethodType, BuiltinFunctionType))
    return str(function.__qualname__) if plain else type(function).__name__
