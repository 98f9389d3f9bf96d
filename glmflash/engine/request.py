"""One question, wholly specified: what the engine is asked to answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Literal, TypedDict

from glmflash.bounds import MAX_CHARACTERS, check_tree
from glmflash.engine.checked import number, optional, text, whole
from glmflash.engine.sampling import LogitsProcessor, Sampling
from glmflash.errors import ParameterError
from glmflash.grammar.format import ResponseFormat
from glmflash.prompt.messages import Message, to_json
from glmflash.shown import show

__all__ = ["Options", "Request", "ToolChoice"]

#: "auto", "none", "required", or `{"type": "function", "function": {"name": ...}}`.
ToolChoice = str | Mapping[str, object]
_MOST = 10_000_000  # of anything that is counted in tokens
_MOST_TOOLS = 1024
_LEAST_TIMEOUT = 1e-9  # what is less is nothing
_TOOL_CHOICE = '"auto", "none", "required", or {"type": "function", "function": {"name": ...}}'


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
        tool_choice: "auto" leaves calls to the model, "none" shows it no tools; "required" makes the answer
            a call, and `{"type": "function", "function": {"name": ...}}` one of that tool.
        thinking: Whether the model reasons before it answers; "auto" leaves that to it. GLM-4.1V always does.
        thinking_budget: Most tokens of reasoning; then it is ended, and the answer begins. None: no limit.
        response_format: What the text of the answer has to be; it holds for what follows the reasoning. An
            answer cut short, by `max_new_tokens` for one, is the beginning of such a text.
        answer_prefix: Text that the answer begins with; the model continues it.
        max_image_tokens: Most vision tokens for each picture; fewer is faster and coarser. None keeps
            the checkpoint's own limit.
        cache_salt: Keeps this request's cached work apart from that of other salts.
        priority: From -100 to 100; higher goes first. One unit is worth ten seconds of waiting, so nobody
            waits for ever.
        timeout: Seconds from submission; a request that takes longer ends with a `DeadlineError`.

    Raises:
        ParameterError: If a value is of the wrong type or out of range.
        MessageError, ContextLengthError: If a tool is no JSON, or all are larger than any prompt.
    """

    messages: tuple[Message, ...]
    pictures: tuple[object, ...] = ()
    sampling: Sampling
    tools: tuple[Mapping[str, object], ...] = ()
    tool_choice: ToolChoice = "auto"
    thinking: bool | Literal["auto"] = False
    thinking_budget: int | None = None
    response_format: ResponseFormat | None = None
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
        normal: dict[str, object] = {
            "answer_prefix": text("answer_prefix", self.answer_prefix, 0, MAX_CHARACTERS),
            "max_image_tokens": optional("max_image_tokens", self.max_image_tokens, 1, _MOST),
            "thinking_budget": optional("thinking_budget", self.thinking_budget, 0, _MOST),
            "priority": whole("priority", self.priority, -100, 100),
        }
        if self.cache_salt is not None:
            normal["cache_salt"] = text("cache_salt", self.cache_salt, 1, 256, ", or None")
        if self.timeout is not None:
            allowed = "seconds above 0, at most a billion, or None"
            normal["timeout"] = number("timeout", self.timeout, _LEAST_TIMEOUT, 1e9, allowed)
        for name, value in normal.items():
            object.__setattr__(self, name, value)
        self._check_contents()
        self._check_thinking()
        self._check_calls()

    @property
    def shown_tools(self) -> tuple[Mapping[str, object], ...]:
        """Tools that the model is shown."""
        return () if self.tool_choice == "none" else self.tools

    @property
    def must_call(self) -> tuple[str, ...]:
        """Names of the tools of which one has to be called; none if it need not."""
        match self.tool_choice:
            case "required":
                return tuple(dict.fromkeys(_name(tool) for tool in self.tools))
            case {"function": {"name": str(name)}}:
                return (name,)
        return ()

    def _check_contents(self) -> None:
        """Messages and tools: that they are such, and no more than a prompt can hold."""
        if not all(isinstance(message, Message) for message in self.messages):
            raise ParameterError("messages", "holds what is no prompt.Message; see prepare.request")
        if len(self.tools) > _MOST_TOOLS:
            raise ParameterError("tools", f"has {len(self.tools):,}; allowed: at most {_MOST_TOOLS:,}")
        check_tree(self.tools, "tools")
        for i, tool in enumerate(self.tools):
            if not isinstance(tool, Mapping):
                raise ParameterError("tools", f"holds {show(tool)}; allowed: OpenAI-style objects")
            to_json(tool, f"tools[{i}]")

    def _check_thinking(self) -> None:
        """Reasoning, and what cannot go with it."""
        if not isinstance(self.thinking, str) or self.thinking != "auto":
            _check("thinking", self.thinking, bool, 'True, False or "auto"')
        budget = self.thinking_budget
        if budget is not None and not self.thinking:
            raise ParameterError("thinking_budget", 'needs thinking=True or "auto"; there is none to limit')
        if self.answer_prefix and self.thinking:
            raise ParameterError(
                "answer_prefix",
                f"cannot be combined with thinking={self.thinking!r}: thinking comes before the answer",
            )

    def _check_calls(self) -> None:
        """`tool_choice` and `response_format`, and what cannot go with them."""
        form = self.response_format
        _check(
            "response_format", form, ResponseFormat | None, "a ResponseFormat, or None; see prepare.request"
        )
        _check("tool_choice", self.tool_choice, str | Mapping, _TOOL_CHOICE)
        match self.tool_choice:
            case "auto" | "none":
                pass
            case "required" | {"type": "function", "function": {"name": str()}}:
                names = [_name(tool) for tool in self.tools]
                named = all(name and "\n" not in name for name in names)
                if not names or not named or not all(name in names for name in self.must_call):
                    raise ParameterError("tool_choice", "asks for a call, but there is no such tool in tools")
                if self.answer_prefix:
                    raise ParameterError(
                        "answer_prefix", "cannot be combined with a tool_choice that is a call"
                    )
            case _:
                raise ParameterError("tool_choice", f"is not understood; allowed: {_TOOL_CHOICE}")
        if form is not None and self.shown_tools:
            raise ParameterError(
                "response_format",
                'cannot be combined with tools, for a call is no such text; give tool_choice="none"',
            )


def _check(name: str, value: object, kind: type | UnionType, allowed: str) -> None:
    if not isinstance(value, kind):
        raise ParameterError(name, f"is a {type(value).__name__}; allowed: {allowed}")


def _name(tool: object) -> str:
    """The name of a tool, with or without OpenAI's wrapping; nothing if it has none."""
    function = tool.get("function", tool) if isinstance(tool, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) else ""


class Options(TypedDict, total=False):
    """Keywords that every way of asking accepts; what is left out, or None, comes from the checkpoint.

    `Sampling` explains those up to `repetition_stop` (whose None turns it off), `Request` the others. Of
    `response_format` (OpenAI's, a `ResponseFormat`, or `{"type": "regex" | "choice", ...}`), `regex` and
    `choice` one may be given.
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
    tool_choice: ToolChoice | None
    thinking: bool | Literal["auto"]
    thinking_budget: int | None
    response_format: ResponseFormat | Mapping[str, object] | None
    regex: str | None
    choice: Sequence[str] | None
    answer_prefix: str | None
    max_image_tokens: int | None
    cache_salt: str | None
    priority: int
    timeout: float | None
