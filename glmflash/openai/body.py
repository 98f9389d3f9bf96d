"""The body of a chat completion, as JSON gave it → messages and options, or an error that names the field."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from glmflash.engine.request import Options
from glmflash.errors import ParameterError
from glmflash.openai.content import chat, question

__all__ = ["IGNORED", "Body", "read"]

#: Fields that make no difference here: who asks, and how OpenAI's own servers are to run.
IGNORED = (
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
    "prompt_cache_retention", "prediction",
)  # fmt: skip
# Fields that are options of the same name and meaning.
_SAME = (
    "temperature", "top_p", "seed", "stop", "response_format", "tools", "tool_choice", "top_k", "min_p",
    "repetition_penalty", "regex", "choice", "thinking_budget", "max_image_tokens",
)  # fmt: skip
# Fields of which only what changes nothing is understood, and what to do instead.
_ONLY: dict[str, tuple[tuple[object, ...], str]] = {
    "n": ((1,), "1; ask several times, with a seed each"),
    "presence_penalty": ((0,), "0; use repetition_penalty"),
    "frequency_penalty": ((0,), "0; use repetition_penalty"),
    "logit_bias": (({},), "an empty object; use choice, regex or response_format"),
    "modalities": ((["text"],), "['text']"),
    "parallel_tool_calls": ((True,), "true"),
    "verbosity": (("medium",), "'medium'; say in the prompt how long the answer should be"),
}
_LENGTH = ("max_completion_tokens", "max_tokens")
_THINKING = ("thinking", "enable_thinking", "chat_template_kwargs", "reasoning_effort")
_PLAIN = ("prompt", "image")
_OTHERS = ("model", "messages", "stream", "stream_options", "logprobs", "top_logprobs")
_KNOWN = frozenset((*IGNORED, *_SAME, *_ONLY, *_LENGTH, *_THINKING, *_PLAIN, *_OTHERS))
_EFFORTS = {"none": False, "minimal": False, "low": True, "medium": True, "high": True, "xhigh": True}
_GLM_THINKING = {"disabled": False, "enabled": True}

_Fields = Mapping[str, object]  # of a body; what is null counts as left out


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What a body asks for.

    Args:
        messages: The chat, built anew; see `content`.
        options: Of the pipeline's methods.
        names: The field that gave each option, where it is called otherwise.
        model: The name to answer under.
        stream: Whether chunks are wanted.
        include_usage: Whether the last of them is to have the numbers of tokens.
    """

    messages: list[dict[str, object]]
    options: Options
    names: Mapping[str, str]
    model: str
    stream: bool
    include_usage: bool

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Let errors of options name the body's field, as whoever sent it knows no other."""
        try:
            yield
        except ParameterError as error:
            name = self.names.get(error.parameter)
            if name is None:
                raise
            raise ParameterError(name, str(error.args[1])) from None


def read(body: object, *, model: str = "glmflash", urls: bool = False) -> Body:
    """Check a body and take it apart.

    Args:
        body: The JSON object: OpenAI's fields, ours, or the plain `{"image", "prompt", ...}`.
        model: The name to answer under if the body gives none.
        urls: Whether pictures may be addresses on the network; the pipeline's policy says which.

    Raises:
        ParameterError: If a field is unknown, out of range, or cannot be honoured.
        MessageError, FetchError: See `content.chat`.

    Example:
        >>> body = read({"prompt": "What is this?", "max_tokens": 5, "user": "u1"})
        >>> body.options, body.messages[0]["role"], body.stream
        ({'max_new_tokens': 5}, 'user', False)
    """
    if not isinstance(body, Mapping):
        raise ParameterError("body", f"is a {type(body).__name__}; allowed: a JSON object")
    for name in body:
        if name not in _KNOWN:
            raise ParameterError(_shown(name), f"unknown; allowed: {', '.join(sorted(_KNOWN))}")
    fields = {name: value for name, value in body.items() if value is not None}
    for name, (allowed, text) in _ONLY.items():
        if name in fields and not any(_same(fields[name], one) for one in allowed):
            raise ParameterError(name, f"allowed: {text}")
    options = {name: fields[name] for name in _SAME if name in fields}
    names: dict[str, str] = {}
    for option, (name, value) in _renamed(fields).items():
        options[option], names[option] = value, name
    stream = _flag(fields, "stream")
    return Body(
        messages=_messages(fields, urls),
        options=cast(Options, options),  # the pipeline checks them
        names=names,
        model=_text(fields, "model", model),
        stream=stream,
        include_usage=_include_usage(fields, stream),
    )


def _messages(fields: _Fields, urls: bool) -> list[dict[str, object]]:
    plain = [name for name in _PLAIN if name in fields]
    if "messages" in fields or not plain:
        if plain:
            raise ParameterError(plain[0], "stands beside messages; put everything into messages")
        return chat(fields.get("messages"), urls=urls)
    return question(fields.get("prompt"), fields.get("image"), urls=urls)


def _renamed(fields: _Fields) -> dict[str, tuple[str, object]]:
    """Options that have other names in a body: option → (field, value)."""
    found = {
        "max_new_tokens": _agreed(fields, _LENGTH, lambda name: fields[name]),
        "thinking": _agreed(fields, _THINKING, lambda name: _thinking(name, fields[name])),
        "logprobs": _logprobs(fields),
    }
    return {option: pair for option, pair in found.items() if pair is not None}


def _agreed(
    fields: _Fields, names: tuple[str, ...], value: Callable[[str], object]
) -> tuple[str, object] | None:
    """The first of several names for one thing, and its value; others must not say otherwise."""
    given = [(name, value(name)) for name in names if name in fields]
    for name, other in given[1:]:
        if not _same(other, given[0][1]):
            raise ParameterError(name, f"says otherwise than {given[0][0]}; leave one of them out")
    return given[0] if given else None


def _thinking(name: str, value: object) -> object:
    if name == "reasoning_effort":
        if not isinstance(value, str) or value not in _EFFORTS:
            raise ParameterError(name, f"is {_shown(value)}; allowed: {', '.join(_EFFORTS)}")
        return _EFFORTS[value]
    if name == "chat_template_kwargs":
        if not isinstance(value, Mapping) or list(value) != ["enable_thinking"]:
            raise ParameterError(name, 'allowed: {"enable_thinking": true or false}')
        value = value["enable_thinking"]
    if isinstance(value, Mapping):  # GLM's own service spells it so
        kind = value.get("type")
        if len(value) != 1 or not isinstance(kind, str) or kind not in _GLM_THINKING:
            raise ParameterError(name, 'allowed: true, false, "auto", or {"type": "enabled" or "disabled"}')
        return _GLM_THINKING[kind]
    auto = name == "thinking" and isinstance(value, str) and value == "auto"
    if not isinstance(value, bool) and not auto:
        allowed = 'true, false or "auto"' if name == "thinking" else "true or false"
        raise ParameterError(name, f"is {_shown(value)}; allowed: {allowed}")
    return value


def _logprobs(fields: _Fields) -> tuple[str, object] | None:
    if not _flag(fields, "logprobs"):
        if "top_logprobs" in fields:
            raise ParameterError("top_logprobs", "needs logprobs: true beside it")
        return None
    return "top_logprobs", fields.get("top_logprobs", 0)


def _include_usage(fields: _Fields, stream: bool) -> bool:
    options = fields.get("stream_options")
    if options is None:
        return False
    if not stream:
        raise ParameterError("stream_options", "needs stream: true beside it")
    if not isinstance(options, Mapping) or not set(options) <= {"include_usage", "include_obfuscation"}:
        raise ParameterError("stream_options", 'allowed: {"include_usage": true or false}')
    return _flag({name: value for name, value in options.items() if value is not None}, "include_usage")


def _flag(fields: _Fields, name: str) -> bool:
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise ParameterError(name, f"is {_shown(value)}; allowed: true or false")
    return value


def _text(fields: _Fields, name: str, default: str) -> str:
    value = fields.get(name, default)
    if not isinstance(value, str) or not 0 < len(value) <= 256:
        raise ParameterError(name, f"is {_shown(value)}; allowed: a string of 1 to 256 characters")
    return value


def _same(one: object, other: object) -> bool:
    """Equal, and true is not 1; what cannot say whether it is, as an array, is not."""
    try:
        return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)
    except Exception:  # noqa: BLE001  # whatever an object of the caller's raises
        return False


def _shown(value: object) -> str:
    """A value for a message, if it is short and harmless; else its type."""
    short = isinstance(value, str) and len(value) <= 40 and value.isprintable()
    return str(value) if short or isinstance(value, bool) else f"a {type(value).__name__}"
