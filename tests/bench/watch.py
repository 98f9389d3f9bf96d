"""A size of random checkpoint → what it costs a request that it is logged, counted and traced, all at once.

    nox -s bench                                  # after the others: 12 GB of memory, a few minutes
    nox -s bench -- --quick --out quick           # shows that it runs; the figures mean nothing

Requests with all observers and with none take turns. Whole requests scatter by more than observers cost, so
the cost is clocked inside: the time in observers, the making of the events, and one scrape for each request,
which is far more often than Prometheus asks.
"""

import argparse
import logging
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import torch
from asking import Asker, fixed, ratio, seconds
from common import checkpoint, machine, parser, write
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest

from glmflash import Pipeline
from glmflash.engine import Event, Observer
from glmflash.engine.events import Observers
from glmflash.observability import JsonFormatter, OpenTelemetry, PrometheusMetrics, RequestLog


def options() -> argparse.Namespace:
    described = parser(
        __doc__.splitlines()[0],
        dtypes=["int8"], rounds=5, steps=16, steps_help="tokens of an answer",
    )  # fmt: skip
    described.add_argument("--side", type=int, help="pixels of a picture's side", default=448)
    chosen = described.parse_args()
    if chosen.quick:
        chosen.size, chosen.rounds, chosen.side = "nano", 2, 112
    return chosen


class Clocked:
    """Observers, with a clock around each, and the events they were told."""

    def __init__(self, observers: dict[str, Observer]) -> None:
        self.observers = observers
        self.forget()

    def forget(self) -> None:
        self.spent = Counter[str]()
        self.events = list[Event]()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        for name, observer in self.observers.items():
            began = time.perf_counter()
            observer(event)
            self.spent[name] += time.perf_counter() - began

    def making(self) -> float:
        """Seconds that it takes to make those events, told to nobody."""
        given = [(type(one), {f.name: getattr(one, f.name) for f in fields(one)}) for one in self.events]
        told = Observers([lambda _: None])
        began = time.perf_counter()
        for kind, values in given:
            told.emit(kind(**values))
        return time.perf_counter() - began


@contextmanager
def all_on(pipe: Pipeline, folder: Path) -> Iterator[tuple[Clocked, Callable[[], bytes]]]:
    """A log of JSON lines, Prometheus, and OpenTelemetry's own SDK; and what a scrape calls."""
    log = logging.getLogger("glmflash.requests")
    handler = logging.FileHandler(folder / "requests.jsonl")
    handler.setFormatter(JsonFormatter())
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    tracer, meter = TracerProvider(), MeterProvider([InMemoryMetricReader()])
    tracer.add_span_processor(BatchSpanProcessor(InMemorySpanExporter()))
    registry = CollectorRegistry()
    PrometheusMetrics(registry).add(pipe)
    (metrics,) = pipe.engine._delivery.observers.functions
    observers = {
        "log": RequestLog(content=True),
        "prometheus": metrics,
        "opentelemetry": OpenTelemetry(content=True, tracer_provider=tracer, meter_provider=meter),
    }
    try:
        yield Clocked(observers), lambda: generate_latest(registry)
    finally:
        log.removeHandler(handler)
        handler.close()
        tracer.shutdown()
        meter.shutdown()


def cost(pipe: Pipeline, folder: Path, chosen: argparse.Namespace) -> dict[str, object]:
    """Seconds of a request with and without observers, and what they themselves took of it."""
    asker = Asker(pipe, side=chosen.side, tokens=24)
    whole: dict[str, list[float]] = {"with": [], "without": []}
    spent: dict[str, list[float]] = {}
    events: Counter[str] = Counter()
    with all_on(pipe, folder) as (clocked, scrape):
        for turn in range(chosen.rounds + 1):
            for name in list(whole) if turn % 2 == 0 else list(whole)[::-1]:
                pipe.engine._delivery.observers = Observers([clocked] if name == "with" else [])
                clocked.forget()
                picture, question = asker.picture(), asker.question()
                began = time.perf_counter()
                pipe(question, images=picture, **fixed(chosen.steps))
                took = time.perf_counter() - began
                if not turn:
                    continue
                whole[name].append(took)
                if name == "with":
                    events.update(type(one).__name__ for one in clocked.events)
                    began = time.perf_counter()
                    scrape()
                    parts = {"scrape": time.perf_counter() - began, "events": clocked.making()}
                    for part, value in (clocked.spent | parts).items():
                        spent.setdefault(part, []).append(value)
    shares = [sum(parts) / took for *parts, took in zip(*spent.values(), whole["with"], strict=True)]
    return {
        "request": seconds(whole),
        "events": {name: count // chosen.rounds for name, count in sorted(events.items())},
        "spent_ms": {name: round(1e3 * statistics.median(each), 4) for name, each in spent.items()},
        "share": round(statistics.median(shares), 6),
        "share_most": round(max(shares), 6),
        "with_over_without": ratio(whole["with"], whole["without"]),
    }


def run(folder: Path, dtype: str, chosen: argparse.Namespace) -> dict[str, object]:
    """All figures of one dtype."""
    how = {"quantize": dtype} if dtype in ("int8", "w8a8") else {"dtype": dtype}
    with (
        tempfile.TemporaryDirectory() as scratch,
        Pipeline.from_pretrained(folder, device="cpu", progress=False, **how) as pipe,
    ):
        return cost(pipe, Path(scratch), chosen)


def table(report: dict) -> str:
    """A line for each dtype."""
    return "\n".join(
        f"{dtype:9}{cell['request']['with']['seconds']:>8.3f} s a request, {cell['share']:.4%} in observers,"
        f" events and a scrape; {cell['with_over_without']['ratio']:.4f} of a request without"
        for dtype, cell in report["results"].items()
    )


def main() -> None:
    chosen = options()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    with checkpoint(chosen) as folder:
        results = {dtype: run(folder, dtype, chosen) for dtype in chosen.dtypes}
    work = {
        "size": chosen.size,
        "picture": [chosen.side, chosen.side],
        "answer_tokens": chosen.steps,
        "rounds": chosen.rounds,
    }
    report = {"machine": machine(), "work": work, "results": results}
    write(report, chosen.out / "watch-cpu.json")
    print(table(report))


if __name__ == "__main__":
    main()
