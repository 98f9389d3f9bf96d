"""One question, wholly specified: what the engine is asked to answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from numbers import Integral, Real
from types import UnionType
from typing import TypedDict

from glmflash.engine.sampling import LogitsProcessor, Sampling
from glmflash.errors import ParameterError
from glmflash.prompt.messages import Message

__all__ = ["Options", "Request"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A conversation to continue. `prepare.request` makes one from anything a person would write.

    Args:
        messages: The conversation, parsed; pictures stand in it by index.
        pictures: The pictures, in order of appearance, not yet decoded.
        sampling: How tokens are chosen and when to stop.
        tools: OpenAI-style tool objects that the model may call.
        thinking: Whether the model reasons before it answers. GLM-4.1V always does.
        answer_prefix: Text that the answer begins with; the model continues it.
        max_image_tokens: Most vision tokens for each picture; fewer is faster and coarser. None keeps
            the checkpoint's own limit.
        cache_salt: Keeps this request's cached work apart from that of other salts.
        priority: From -100 to 100; higher goes first. One unit is worth ten seconds of waiting, so nobody
            waits for ever.
        timeout: Seconds from submission; a request that takes longer ends with a `DeadlineError`.

    Raises:
        ParameterError: If a value is of the wrong type or out of range.
    """

    messages: tuple[Message, ...]
    pictures: tuple[object, ...] = ()
    sampling: Sampling
    tools: tuple[Mapping[str, object], ...] = ()
    thinking: bool = False
    answer_prefix: str = ""
    max_image_tokens: int | None = None
    cache_salt: str | None = None
    priority: int = 0
    timeout: float | None = None

    def __post_init__(self) -> None:
        _check("messages", self.messages, tuple, "a tuple of prompt.Message; see prepare.request")
        _check("pictures", self.pictures, tuple, "a tuple of pictures")
        _check("sampling", self.sampling, Sampling, "a Sampling")
        _check("tools", self.tools, tuple, "a tuple of objects")
        _check("thinking", self.thinking, bool, "True or False")
        _check("answer_prefix", self.answer_prefix, str, "a string")
        _check("max_image_tokens", self.max_image_tokens, Integral | None, "a whole number from 1, or None")
        _check("cache_salt", self.cache_salt, str | None, "a string of 1 to 256 characters, or None")
        if self.answer_prefix and self.thinking:
            raise ParameterError(
                "answer_prefix", "cannot be combined with thinking=True: thinking comes before the answer"
            )
        most, salt = self.max_image_tokens, self.cache_salt
        if most is not None and (most is True or most < 1):
            raise ParameterError("max_image_tokens", f"is {most}; allowed: a whole number from 1, or None")
        if salt is not None and not 0 < len(salt) <= 256:
            raise ParameterError("cache_salt", f"has {len(salt)} characters; allowed: 1 to 256, or None")
        self._check_turn()

    def _check_turn(self) -> None:
        """When it is answered: `priority` and `timeout`."""
        _check("priority", self.priority, Integral, "a whole number from -100 to 100")
        _check("timeout", self.timeout, Real | None, "seconds above 0, or None")
        priority, timeout = self.priority, self.timeout
        if isinstance(priority, bool) or not -100 <= priority <= 100:
            raise ParameterError("priority", f"is {priority}; allowed: a whole number from -100 to 100")
        if timeout is not None and (isinstance(timeout, bool) or not (isfinite(timeout) and timeout > 0)):
            raise ParameterError("timeout", f"is {timeout}; allowed: seconds above 0, or None")


def _check(name: str, value: object, kind: type | UnionType, allowed: str) -> None:
    if not isinstance(value, kind):
        raise ParameterError(name, f"is a {type(value).__name__}; allowed: {allowed}")


class Options(TypedDict, total=False):
    """Keywords that every way of asking accepts; what is left out, or None, comes from the checkpoint.

    `Sampling` explains those up to `repetition_stop` (whose None turns it off), `Request` the others.
    """

    max_new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    seed: int | None
    stop: str | Sequence[str] | None
    ignore_eos: bool
    logprobs: int | None
    logits_processors: Sequence[LogitsProcessor] | None
    repetition_stop: int | None
    tools: Sequence[Mapping[str, object]] | None
    thinking: bool
    answer_prefix: str | None
    max_image_tokens: int | None
    cache_salt: str | None
    priority: int
    timeout: float | None
