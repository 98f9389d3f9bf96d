"""OpenTelemetry: a span for each request in the trace of whoever asks, phases inside, the known names."""

import asyncio
import itertools
import json
import logging
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as known
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics as known_metrics
from opentelemetry.trace import SpanKind, StatusCode

from glmflash import DeadlineError, InputError, ParameterError, Pipeline
from glmflash.observability import OpenTelemetry

pytestmark = pytest.mark.extras

PICTURE = np.full((56, 84, 3), 200, np.uint8)
HOW = {"ignore_eos": True, "repetition_stop": None}
NAMES = {value for name, value in vars(known).items() if name.startswith("GEN_AI_")}
METRICS = {value for value in vars(known_metrics).values() if isinstance(value, str)}


class Telemetry:
    """A pipeline that is traced, and what came of it."""

    def __init__(self, **settings) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.provider = TracerProvider(**settings.pop("tracing", {}))
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        meter = MeterProvider([self.reader])
        self.observer = OpenTelemetry("tiny", tracer_provider=self.provider, meter_provider=meter, **settings)
        self.pipe = Pipeline.from_pretrained("tiny", progress=False, observers=[self.observer])

    @property
    def spans(self) -> dict[str, list]:
        found: dict[str, list] = {}
        for span in self.exporter.get_finished_spans():
            found.setdefault(span.name, []).append(span)
        return found

    def points(self) -> dict[str, list]:
        data = self.reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def telemetry():
    made = Telemetry()
    with made.pipe:
        yield made


def test_a_request_is_a_span_with_its_phases_inside(telemetry) -> None:
    result = telemetry.pipe("What is the total?", images=PICTURE, max_new_tokens=5, seed=3, top_k=7, **HOW)
    spans = telemetry.spans
    assert set(spans) == {"chat tiny", "queue", "media", "vision", "prefill", "decode"} or set(spans) == {
        "chat tiny", "media", "vision", "prefill", "decode"
    }  # fmt: skip
    (root,) = spans.pop("chat tiny")
    assert root.parent is None
    assert root.kind is SpanKind.INTERNAL
    assert root.status.status_code is StatusCode.UNSET
    assert {name: value for name, value in root.attributes.items() if name != "glmflash.request"} == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "glmflash", "gen_ai.request.model": "tiny",
        "gen_ai.request.stream": False, "gen_ai.request.max_tokens": 5, "gen_ai.request.temperature": 0.0,
        "gen_ai.request.top_p": 1.0, "gen_ai.request.top_k": 7.0, "gen_ai.request.seed": 3,
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.usage.input_tokens": result.usage.prompt, "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 0, "glmflash.pictures": 1,
        "glmflash.usage.image_tokens": result.usage.image, "glmflash.usage.saved_prefill_tokens": 0,
    }  # fmt: skip
    (first,) = root.events
    assert first.name == "first_token"
    waited = (first.timestamp - root.start_time) / 1e9
    assert waited == pytest.approx(result.timings.first_token, abs=0.01)
    for phases in spans.values():
        for span in phases:
            assert span.parent.span_id == root.context.span_id
            assert root.start_time <= span.start_time <= span.end_time <= root.end_time
    for name in ("vision", "prefill", "decode"):
        took = sum(span.end_time - span.start_time for span in spans[name]) / 1e9
        assert took == pytest.approx(getattr(result.timings, name), abs=0.01)
    assert spans["prefill"][0].attributes["glmflash.tokens"] == result.usage.prompt
    assert not telemetry.observer._open


def test_phases_do_not_overlap(telemetry) -> None:
    telemetry.pipe("What?", images=[PICTURE, PICTURE // 2], max_new_tokens=3, **HOW)
    phases = [span for span in telemetry.exporter.get_finished_spans() if span.parent is not None]
    assert [span.name for span in phases if span.name != "queue"] == [
        "media", "vision", "vision", "prefill", "decode"
    ]  # fmt: skip
    phases.sort(key=lambda span: span.start_time)
    for before, after in itertools.pairwise(phases):
        assert before.end_time <= after.start_time + 1_000_000  # nanoseconds: clocks are read one by one


def test_names_are_those_of_the_conventions(telemetry) -> None:
    with telemetry.pipe.stream(
        "What?", images=PICTURE, max_new_tokens=3, response_format={"type": "json_object"}, seed=1, top_k=2
    ) as stream:
        list(stream)
    (root,) = telemetry.spans["chat tiny"]
    names = {name for name in root.attributes if name.startswith("gen_ai.")}
    assert names <= NAMES
    assert root.attributes["gen_ai.output.type"] == "json"
    assert root.attributes["gen_ai.request.stream"] is True
    assert 0 < root.attributes["gen_ai.response.time_to_first_chunk"] < 60
    assert set(telemetry.points()) <= METRICS


def test_the_parent_is_the_span_of_whoever_asks(telemetry) -> None:
    """Threads, a batch, submissions and coroutines: each in its own trace."""
    tracer, pipe = telemetry.provider.get_tracer("test"), telemetry.pipe

    def ask(number: int) -> None:
        with tracer.start_as_current_span(f"caller {number}"):
            pipe(f"{number}", max_new_tokens=2, **HOW)

    async def stream(number: int) -> None:
        with tracer.start_as_current_span(f"caller {number}"):
            async with pipe.astream(f"{number}", max_new_tokens=2, **HOW) as answer:
                async for _ in answer:
                    pass

    async def several() -> None:
        await asyncio.gather(*(stream(number) for number in range(4, 8)))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ask, range(4)))
    asyncio.run(several())
    with tracer.start_as_current_span("caller 8"):
        futures = [pipe.submit("8", max_new_tokens=2, **HOW)]
        pipe.batch(["8", "8"], max_new_tokens=2, progress=False, **HOW)
    futures[0].result(60)
    spans = telemetry.spans
    callers = {
        span.context.span_id: name for name, each in spans.items() for span in each if "caller" in name
    }
    parents = sorted(callers[span.parent.span_id] for span in spans["chat tiny"])
    assert parents == sorted([f"caller {number}" for number in range(8)] + ["caller 8"] * 3)
    for span in spans["chat tiny"]:
        assert span.context.trace_id == span.parent.trace_id


def test_failures_are_errors_with_a_type(telemetry) -> None:
    pipe = telemetry.pipe
    with pytest.raises(InputError):
        pipe("a", images="absent.png")
    with pytest.raises(ParameterError):
        pipe("a", temperature=-3)
    with pytest.raises(DeadlineError):
        pipe("a", timeout=1e-9)
    failed = telemetry.spans["chat tiny"]
    assert [span.attributes["error.type"] for span in failed] == [
        "image_error", "parameter_error", "deadline_error"
    ]  # fmt: skip
    assert {span.status.status_code for span in failed} == {StatusCode.ERROR}
    assert failed[0].status.description == "image_error"  # and nothing of what was asked
    assert "gen_ai.usage.input_tokens" not in failed[0].attributes
    durations = telemetry.points()["gen_ai.client.operation.duration"]
    assert sorted(point.attributes["error.type"] for point in durations) == ["deadline_error", "image_error"]


def test_other_operations_have_their_names(telemetry) -> None:
    page = telemetry.pipe.encode(PICTURE)
    telemetry.pipe.choose("Which?", ["a", "b"], images=page)
    assert {"encode tiny", "score tiny"} <= set(telemetry.spans)
    assert "gen_ai.client.token.usage" not in telemetry.points()


def test_metrics_have_the_numbers_and_the_bounds(telemetry) -> None:
    results = [telemetry.pipe(text, max_new_tokens=4, **HOW) for text in ("a", "b b")]
    points = telemetry.points()
    common = {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "glmflash", "gen_ai.request.model": "tiny"
    }  # fmt: skip
    usage = {point.attributes["gen_ai.token.type"]: point for point in points["gen_ai.client.token.usage"]}
    assert (usage["output"].sum, usage["output"].count) == (8, 2)
    assert usage["input"].sum == sum(result.usage.prompt for result in results)
    assert usage["input"].explicit_bounds[:4] == (1, 4, 16, 64)
    assert usage["input"].explicit_bounds[-1] == 67108864
    (first,) = points["gen_ai.server.time_to_first_token"]
    assert dict(first.attributes) == common
    assert first.sum == pytest.approx(sum(result.timings.first_token for result in results))
    assert first.explicit_bounds[-1] == 10.0
    (each,) = points["gen_ai.server.time_per_output_token"]
    assert each.sum == pytest.approx(sum(result.timings.decode / 3 for result in results))
    assert each.explicit_bounds[-1] == 2.5
    for name in ("gen_ai.client.operation.duration", "gen_ai.server.request.duration"):
        (duration,) = points[name]
        assert duration.sum == pytest.approx(sum(result.timings.total for result in results), abs=0.01)
        assert duration.explicit_bounds == pytest.approx([0.01 * 2**n for n in range(14)])


def test_content_only_if_asked_for() -> None:
    made = Telemetry(content=True)
    with made.pipe as pipe:
        said = pipe("the question\n", images=PICTURE, system="Be brief.", max_new_tokens=4)
        with pytest.raises(InputError):
            pipe("\ud800")
    root, failed = made.spans["chat tiny"]
    assert json.loads(failed.attributes["gen_ai.input.messages"])[0]["parts"][0]["content"] == "\ud800"
    asked = json.loads(root.attributes["gen_ai.input.messages"])
    assert [message["role"] for message in asked] == ["system", "user"]
    assert asked[1]["parts"] == [{"type": "image"}, {"type": "text", "content": "the question\n"}]
    (answer,) = json.loads(root.attributes["gen_ai.output.messages"])
    assert answer["finish_reason"] == said.finish_reason
    assert "".join(part["content"] for part in answer["parts"]) == said.text


def test_nothing_of_the_content_otherwise(telemetry) -> None:
    said = telemetry.pipe(
        "a rare question", system="Be brief.", max_new_tokens=6, cache_salt="a rare salt", **HOW
    )
    shown = "".join(span.to_json() for span in telemetry.exporter.get_finished_spans())
    assert "chat tiny" in shown
    assert "rare" not in shown
    assert "brief" not in shown
    assert not said.text.strip() or json.dumps(said.text)[1:-1] not in shown


def test_what_is_not_sampled_is_measured_all_the_same() -> None:
    made = Telemetry(tracing={"sampler": ALWAYS_OFF})
    with made.pipe as pipe:
        pipe("a", images=PICTURE, max_new_tokens=2, **HOW)
    assert not made.spans
    assert made.points()["gen_ai.client.operation.duration"][0].count == 1


def test_without_the_sdk_nothing_happens() -> None:
    with Pipeline.from_pretrained("tiny", progress=False, observers=[OpenTelemetry()]) as pipe:
        assert pipe("a", max_new_tokens=2, **HOW).usage.completion == 2


def test_a_broken_exporter_costs_nobody_an_answer(telemetry, monkeypatch, caplog) -> None:
    def fail(*_, **__):
        raise RuntimeError("broken")

    monkeypatch.setattr(telemetry.observer._tracer, "start_span", fail)
    with caplog.at_level(logging.ERROR):
        assert telemetry.pipe("a", max_new_tokens=2, **HOW).usage.completion == 2
    assert "observer OpenTelemetry failed at RequestQueued" in caplog.text


def test_without_the_library_it_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(ParameterError, match=r"glmflash\[otel\]"):
        OpenTelemetry()
