"""A pipeline, a function that makes one, or any function of a question → something that can be asked.

What a system needs, weights for one, it has only while it is asked: systems are opened one after the other.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol, Unpack, cast

from glmflash.asks import Asks
from glmflash.engine.request import Options
from glmflash.engine.waiting import result
from glmflash.errors import ParameterError
from glmflash.evaluate.answer import Answer, read_answer
from glmflash.evaluate.memory import Memory, device_bytes, reset_device_bytes, weight_bytes
from glmflash.evaluate.question import Question
from glmflash.output.result import Result

__all__ = ["Asking", "Opened", "System", "about_of", "asking", "open_system"]

_KINDS = "a pipeline, evaluate.asking(...), or a function that takes a question"
_PLAIN = (bool, int, float, str)


def __dir__() -> list[str]:
    return __all__


class Opened(Protocol):
    """A system that is ready to be asked.

    Attributes:
        keeps_time: Whether it ends what takes too long itself. Who does not is left alone then.
        about: What tells it from another of the same name: a journal of that one is refused.
    """

    keeps_time: bool
    about: Mapping[str, str]

    def ask(self, question: Question, timeout: float | None) -> Answer:
        """Answer, or raise. Called by several threads at once."""

    def warm_up(self, question: Question, timeout: float | None) -> None:
        """Do what a first question would have to wait for."""

    def cancel(self) -> None:
        """End what is under way, if possible."""

    def memory(self) -> Memory:
        """Bytes that it holds."""


@dataclass(frozen=True, slots=True)
class Asking:
    """A pipeline and how to ask it. Made by `asking`.

    Args:
        pipeline: The pipeline, or what makes one.
        prompt: Makes of a question's text what the model is asked.
        options: As for a call of the pipeline.
        source: What is loaded, in words: a journal in which others stand is refused without loading it.
    """

    pipeline: Asks | Callable[[], AbstractContextManager[Asks]]
    prompt: Callable[[str], str] | None = None
    options: Options = field(default_factory=Options)
    source: str = ""

    def open(self) -> AbstractContextManager[Opened]:
        """Load it, if that is still to be done; then it is closed at the end."""
        if _is_pipeline(self.pipeline):
            return nullcontext(_Pipeline(cast(Asks, self.pipeline), self))
        return self._made(cast(Callable[[], AbstractContextManager[Asks]], self.pipeline))

    @contextmanager
    def _made(self, make: Callable[[], AbstractContextManager[Asks]]) -> Iterator["_Pipeline"]:
        with make() as pipeline:
            yield _Pipeline(pipeline, self)


#: A pipeline, one with options (see `asking`), or a function from a question to text, an `Answer`, a `Result`
#: or a chat.completion. Whatever it raises is an answer without worth.
System = Asks | Asking | Callable[[Question], object]


def asking(
    pipeline: Asks | Callable[[], AbstractContextManager[Asks]],
    *,
    prompt: Callable[[str], str] | None = None,
    **options: Unpack[Options],
) -> Asking:
    """Say how a pipeline is to be asked, and when it is to be there.

    Args:
        pipeline: A pipeline, which stays open; or a function that makes one, called when its turn comes: it
            is closed before the next system is opened, so that memory need only hold one.
        prompt: Makes of a question's text what the model is asked; by default the text itself.
        options: As for a call of the pipeline; but `temperature` is 0 unless given, so that chance decides
            nothing.

    Raises:
        ParameterError: If it is neither.

    Example:
        >>> from glmflash import Pipeline
        >>> asking(lambda: Pipeline.from_pretrained("tiny", quantize="int8"), max_new_tokens=64).options
        {'temperature': 0.0, 'max_new_tokens': 64}
    """
    if not callable(pipeline):
        kind = type(pipeline).__name__
        raise ParameterError("pipeline", f"is a {kind}; allowed: a pipeline, or a function that makes one")
    ways: Options = {"temperature": 0.0, **options}
    return Asking(pipeline, prompt, ways)


def open_system(system: object) -> AbstractContextManager[Opened]:
    """Make a system ready.

    Raises:
        ParameterError: If it is none.
    """
    if isinstance(system, Asking):
        return system.open()
    if _is_pipeline(system):
        return asking(cast(Asks, system)).open()
    about_of(system)  # raises if it is none
    return nullcontext(_Function(cast(Callable[[Question], object], system)))


def about_of(system: object) -> Mapping[str, str]:
    """What is known of a system before it is opened: `Opened.about`, of what is still to be loaded a part.

    Raises:
        ParameterError: If it is none.
        ClosedError: If it is a pipeline that has been closed.
    """
    if isinstance(system, Asking):
        pipe = cast(Asks, system.pipeline) if _is_pipeline(system.pipeline) else None
        return _about(system, pipe)
    if _is_pipeline(system):
        return about_of(asking(cast(Asks, system)))
    if callable(system):
        return {}
    raise ParameterError("systems", f"holds a {type(system).__name__}; allowed: {_KINDS}")


def _is_pipeline(system: object) -> bool:
    return callable(getattr(system, "submit", None)) and callable(getattr(system, "chat", None))


class _Pipeline:
    """One of ours: it keeps time, can be cancelled, and says what it takes."""

    keeps_time: bool = True

    def __init__(self, pipe: Asks, asked: Asking) -> None:
        self._pipe, self._prompt, self._options = pipe, asked.prompt, asked.options
        self._under_way: set[Future[Result]] = set()
        # What one system has computed must not make another one faster.
        self._salt = asked.options.get("cache_salt") or f"evaluate {uuid.uuid4().hex}"
        self.about: Mapping[str, str] = _about(asked, pipe)
        self._device = pipe.engine.model.device
        reset_device_bytes(self._device)

    def ask(self, question: Question, timeout: float | None) -> Answer:
        return read_answer(self._asked(question, timeout, self._salt))

    def warm_up(self, question: Question, timeout: float | None) -> None:
        self._asked(question, timeout, f"{self._salt[:240]} warm-up")

    def cancel(self) -> None:
        for future in list(self._under_way):
            future.cancel()

    def memory(self) -> Memory:
        engine = self._pipe.engine
        size, card = weight_bytes(engine.model), device_bytes(self._device)
        return Memory(weights=size, kv=engine.stats().kv_bytes, device=card)

    def _asked(self, question: Question, timeout: float | None, salt: str) -> Result:
        text = question.text if self._prompt is None else self._prompt(question.text)
        item = {"text": text, "images": list(question.images) or None}
        ways: Options = {**self._options, "cache_salt": salt}
        if ways.get("timeout") is None:
            ways["timeout"] = timeout
        future = self._pipe.submit(item, **ways)
        self._under_way.add(future)
        try:
            return result(future)
        finally:
            self._under_way.discard(future)


class _Function:
    """Anybody's."""

    keeps_time: bool = False

    def __init__(self, function: Callable[[Question], object]) -> None:
        self._function = function
        self.about: Mapping[str, str] = {}

    def ask(self, question: Question, timeout: float | None) -> Answer:
        return read_answer(self._function(question))

    def warm_up(self, question: Question, timeout: float | None) -> None:
        """Nothing: each question may cost money."""

    def cancel(self) -> None:
        """Nothing: a thread cannot be ended."""

    def memory(self) -> Memory:
        return Memory()


def _about(asked: Asking, pipe: Asks | None) -> dict[str, str]:
    """Weights, keys and values, and options; of what has no plain value, that it is there."""
    about = {} if pipe is None else {"weights": pipe.engine.fingerprint, "kv": pipe.engine.settings.kv_dtype}
    about |= {"source": asked.source} if asked.source else {}
    about |= {"prompt": "changed"} if asked.prompt is not None else {}
    for name, value in asked.options.items():
        if value is not None and name != "cache_salt":
            about[name] = repr(value) if isinstance(value, _PLAIN) else type(value).__name__
    return about
