"""Events of an engine → spans and metrics of OpenTelemetry: the one place that imports it."""

import importlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from glmflash.engine.events import (
    Event,
    PictureDecoded,
    Prefill,
    RequestFinished,
    RequestQueued,
    RequestRefused,
    TokenGenerated,
    VisionDone,
)
from glmflash.engine.sampling import Sampling
from glmflash.errors import ParameterError
from glmflash.observability.content import answered, asked
from glmflash.output.result import Usage

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["OpenTelemetry"]

_Attributes = dict[str, Any]  # strings, numbers, lists of strings
_PROVIDER = "glmflash"
_SHORT = 0.001  # seconds: between two steps of work it did not wait
# Bounds that the conventions ask for.
_DURATION = [0.01 * 2**power for power in range(14)]
_FIRST = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]
_TOKEN = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5]
_TOKENS = [float(4**power) for power in range(14)]


def __dir__() -> list[str]:
    return __all__


@dataclass(slots=True)
class _Open:
    """A request under way.

    Args:
        asked: What was asked.
        span: Its span.
        inside: The context in which spans of its phases are made; None if nobody records them.
        offset: What makes nanoseconds since 1970 of those of `time.perf_counter`.
        idle: Since when nothing was done for it, in seconds of `time.perf_counter`; None while it is decoded.
        first: When its first token came.
        read: Whether its pictures were read.
    """

    asked: RequestQueued
    span: Any
    inside: Any
    offset: int
    idle: float | None
    first: float | None = None
    read: bool = False


class OpenTelemetry:
    """An observer that makes a span of each request, and metrics, by the conventions for generative AI.

    The span is a child of the span that is active where the request is submitted. Its own children are the
    phases: `queue`, `media`, `vision`, `prefill` and `decode`. What it holds is listed in
    docs/reference/metrics.md. Where spans go is for the program to configure, with OpenTelemetry's SDK.

    Args:
        model: The name of the model to report.
        content: Whether spans also hold the messages and the answer.
        tracer_provider: Makes the tracer; by default the program's own.
        meter_provider: Makes the meter; by default the program's own.

    Raises:
        ParameterError: If opentelemetry-api is not installed.
    """

    def __init__(
        self,
        model: str = "glmflash",
        *,
        content: bool = False,
        tracer_provider: "TracerProvider | None" = None,
        meter_provider: "MeterProvider | None" = None,
    ) -> None:
        self._trace = _library("trace")
        self._model = model
        self._content = content
        self._tracer = self._trace.get_tracer("glmflash", tracer_provider=tracer_provider)
        meter = _library("metrics").get_meter("glmflash", meter_provider=meter_provider)
        self._usage = _histogram(meter, "client.token.usage", "{token}", _TOKENS)
        self._duration = _histogram(meter, "client.operation.duration", "s", _DURATION)
        self._server = _histogram(meter, "server.request.duration", "s", _DURATION)
        self._first_token = _histogram(meter, "server.time_to_first_token", "s", _FIRST)
        self._per_token = _histogram(meter, "server.time_per_output_token", "s", _TOKEN)
        self._open: dict[int, _Open] = {}

    def __call__(self, event: Event) -> None:
        """Hear of an event."""
        match event:
            case TokenGenerated():
                if event.index == 0 and (one := self._open.get(event.request)) is not None:
                    one.idle, one.first = None, event.time
                    one.span.add_event("first_token", timestamp=_ns(event.time, one))
            case PictureDecoded() | VisionDone() | Prefill():
                if (one := self._open.get(event.request)) is not None:
                    self._worked(one, event)
            case RequestQueued():
                self._open[event.request] = self._begin(event)
            case RequestFinished():
                if (one := self._open.pop(event.request, None)) is not None:
                    self._finish(one, event)
            case RequestRefused():
                span = self._tracer.start_span(f"chat {self._model}", attributes=self._common("chat"))
                self._fail(span, event.code)
                span.end()

    def _common(self, operation: str) -> _Attributes:
        return {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": _PROVIDER,
            "gen_ai.request.model": self._model,
        }

    def _begin(self, event: RequestQueued) -> _Open:
        """Open the span, in the thread and the context of whoever asks."""
        offset = time.time_ns() - time.perf_counter_ns()
        attributes = self._common(event.operation) | dict(_request(event))
        if self._content:
            attributes["gen_ai.input.messages"] = asked(event.messages)
        span = self._tracer.start_span(
            f"{event.operation} {self._model}",
            attributes=attributes,
            start_time=int(event.time * 1e9) + offset,
        )
        inside = self._trace.set_span_in_context(span) if span.is_recording() else None
        return _Open(event, span, inside, offset, event.time)

    def _worked(self, one: _Open, event: PictureDecoded | VisionDone | Prefill) -> None:
        """Something was done for it."""
        began = event.time - event.seconds
        match event:
            case PictureDecoded():  # all were read by now, in as many times these seconds
                if not one.read:
                    self._read(one, event.time, event.seconds * one.asked.pictures)
                return
            case VisionDone():
                about = {"glmflash.picture": event.digest[:12], "glmflash.tokens": event.tokens}
                self._worked_on(one, "vision", began, event.time, about | {"glmflash.cached": event.cached})
            case Prefill():
                about = {"glmflash.tokens": event.tokens, "glmflash.cached_tokens": event.cached}
                self._worked_on(one, "prefill", began, event.time, about)

    def _read(self, one: _Open, end: float, seconds: float) -> None:
        one.read = True
        self._worked_on(one, "media", end - seconds, end, {"glmflash.pictures": one.asked.pictures})

    def _worked_on(self, one: _Open, name: str, begin: float, end: float, attributes: _Attributes) -> None:
        """A phase of work; before it, the request waited."""
        if one.idle is not None and begin - one.idle > _SHORT:
            self._phase(one, "queue", one.idle, begin)
        one.idle = end
        self._phase(one, name, begin, end, attributes)

    def _phase(
        self, one: _Open, name: str, begin: float, end: float, attributes: _Attributes | None = None
    ) -> None:
        if one.inside is None:
            return
        span = self._tracer.start_span(
            name, context=one.inside, attributes=attributes, start_time=_ns(begin, one)
        )
        span.end(_ns(end, one))

    def _finish(self, one: _Open, event: RequestFinished) -> None:
        if one.first is not None:
            self._phase(one, "decode", one.first, event.time)
        elif event.code is not None:
            self._waited(one, event)
        common = self._common(one.asked.operation)
        if event.code is not None:
            self._fail(one.span, event.code)
            common["error.type"] = event.code
        if event.result is not None:
            one.span.set_attribute("gen_ai.response.finish_reasons", [event.result.finish_reason])
            one.span.set_attributes(_used(event.result.usage))
            if one.asked.stream and one.first is not None:
                waited = one.first - one.asked.time
                one.span.set_attribute("gen_ai.response.time_to_first_chunk", waited)
            if self._content:
                one.span.set_attribute("gen_ai.output.messages", answered(event.result))
        one.span.end(_ns(event.time, one))
        self._measure(one, event, common)

    def _waited(self, one: _Open, event: RequestFinished) -> None:
        """It failed while it waited, or while its pictures were read."""
        if one.asked.pictures and not one.read and event.timings is not None and event.timings.media:
            self._read(one, event.time, event.timings.media)
        elif one.idle is not None and event.time - one.idle > _SHORT:
            self._phase(one, "queue", one.idle, event.time)

    def _measure(self, one: _Open, event: RequestFinished, common: _Attributes) -> None:
        context, seconds = one.inside, event.time - one.asked.time
        self._duration.record(seconds, common, context=context)
        self._server.record(seconds, common, context=context)
        if event.result is None:
            return
        usage, timings = event.result.usage, event.result.timings
        for kind, tokens in (("input", usage.prompt), ("output", usage.completion)):
            self._usage.record(tokens, common | {"gen_ai.token.type": kind}, context=context)
        if usage.completion:
            self._first_token.record(timings.first_token, common, context=context)
        if usage.completion > 1:
            self._per_token.record(timings.decode / (usage.completion - 1), common, context=context)

    def _fail(self, span: Any, code: str) -> None:  # noqa: ANN401 - a span of the library
        span.set_attribute("error.type", code)
        span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, code))


def _request(event: RequestQueued) -> Iterator[tuple[str, object]]:
    """What the conventions want to know of a request; what is off is left out."""
    yield "gen_ai.request.stream", event.stream
    yield "glmflash.request", event.request
    yield "glmflash.pictures", event.pictures
    if event.output is not None:
        yield "gen_ai.output.type", "json" if event.output.startswith("json") else "text"
    if event.sampling is not None and event.operation == "chat":
        yield from _sampling(event.sampling)


def _sampling(sampling: Sampling) -> Iterator[tuple[str, object]]:
    yield "gen_ai.request.max_tokens", sampling.max_new_tokens
    yield "gen_ai.request.temperature", float(sampling.temperature)
    yield "gen_ai.request.top_p", float(sampling.top_p)
    if sampling.top_k:
        yield "gen_ai.request.top_k", float(sampling.top_k)
    if sampling.seed is not None:
        yield "gen_ai.request.seed", sampling.seed


def _used(usage: Usage) -> _Attributes:
    return {
        "gen_ai.usage.input_tokens": usage.prompt,
        "gen_ai.usage.output_tokens": usage.completion,
        "gen_ai.usage.cache_read.input_tokens": usage.cached,
        "glmflash.usage.image_tokens": usage.image,
        "glmflash.usage.saved_prefill_tokens": usage.saved_prefill,
    }


def _ns(seconds: float, one: _Open) -> int:
    """Nanoseconds since 1970."""
    return int(seconds * 1e9) + one.offset


def _histogram(meter: Any, name: str, unit: str, buckets: list[float]) -> Any:  # noqa: ANN401 - see `_library`
    return meter.create_histogram(
        f"gen_ai.{name}", unit=unit, description=_MEANINGS[name], explicit_bucket_boundaries_advisory=buckets
    )


_MEANINGS = {
    "client.token.usage": "Number of input and output tokens used.",
    "client.operation.duration": "GenAI operation duration.",
    "server.request.duration": "Request duration, to the last output token.",
    "server.time_to_first_token": "Time to generate the first token of an answer.",
    "server.time_per_output_token": "Time per output token after the first one of an answer.",
}


def _library(part: str) -> Any:  # noqa: ANN401 - a module that need not be there
    try:
        return importlib.import_module(f"opentelemetry.{part}")
    except ImportError:
        raise ParameterError(
            "observers", "spans need opentelemetry-api: pip install 'glmflash[otel]'"
        ) from None
