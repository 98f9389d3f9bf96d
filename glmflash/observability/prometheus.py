"""Pipelines → a collector of `prometheus_client`: the one place that imports it."""

import importlib
import threading
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from glmflash.asks import Asks
from glmflash.engine.engine import Engine
from glmflash.engine.events import Event, RequestFinished, RequestRefused, TokenGenerated
from glmflash.engine.stats import Stats, phases_of
from glmflash.errors import ClosedError, EngineDeadError, ParameterError
from glmflash.observability.metrics import HISTOGRAMS, INTER_TOKEN, READ, REFUSED, TOKENS, UP, Metric

if TYPE_CHECKING:
    import prometheus_client
    from prometheus_client.metrics_core import Metric as Family

__all__ = ["PrometheusMetrics"]


def __dir__() -> list[str]:
    return __all__


class PrometheusMetrics:
    """The numbers of any number of pipelines, for `prometheus_client` to show.

    Counters and gauges are read from `Pipeline.stats` when Prometheus asks; histograms are filled as requests
    end. What there is, and queries for it, is listed in docs/reference/metrics.md.

    Args:
        registry: Where to register; by default `prometheus_client.REGISTRY`, which its
            `start_http_server` and `make_asgi_app` show.

    Raises:
        ParameterError: If prometheus-client is not installed.
        ValueError: If the registry has such metrics already: one collector is for all pipelines.
    """

    def __init__(self, registry: "prometheus_client.CollectorRegistry | None" = None) -> None:
        self._library = _library()
        self._pipelines: dict[str, weakref.ref[Engine]] = {}
        self._lock = threading.Lock()
        self._histograms = {
            metric: self._library.Histogram(
                metric.name, metric.text, ["model_name"], buckets=metric.buckets, registry=None
            )
            for metric in (*HISTOGRAMS.values(), *TOKENS.values(), INTER_TOKEN)
        }
        self._refused = self._library.Counter(
            REFUSED.name, REFUSED.text, ["model_name", REFUSED.label], registry=None
        )
        (self._library.REGISTRY if registry is None else registry).register(self)

    def add(self, pipe: Asks, *, model_name: str = "glmflash") -> "PrometheusMetrics":
        """Show a pipeline's numbers too; returns the same object.

        It is not kept alive by this. Once it is closed, its `glmflash_up` is 0.

        Args:
            pipe: The pipeline.
            model_name: The value of the label `model_name`, by which its numbers are told from others'.

        Raises:
            ParameterError: If a pipeline that is still open has this name.
            ClosedError: If the pipeline has been closed.
        """
        engine = pipe.engine
        with self._lock:
            held = self._pipelines.get(model_name)
            if held is not None and _stats(held) is not None:
                raise ParameterError("model_name", "is that of another open pipeline; give each its own")
            self._pipelines[model_name] = weakref.ref(engine)
        engine.observe(_Observed(self._histograms, self._refused, model_name))
        return self

    def describe(self) -> "list[Family]":
        """What there will be, for the registry, while nothing is there yet."""
        return [self._family(metric) for metric in (UP, *READ)] + self._observed()

    def collect(self) -> "Iterator[Family]":
        """All of it as it is now; the registry calls this."""
        with self._lock:
            pipelines = list(self._pipelines.items())
        found = {name: _stats(engine) for name, engine in pipelines}
        up = self._family(UP)
        for name, stats in found.items():
            up.add_metric([name], float(stats is not None))
        yield up
        for metric, read in READ.items():
            family = self._family(metric)
            for name, stats in found.items():
                for value, number in {} if stats is None else read(stats).items():
                    family.add_metric([name, value] if metric.label else [name], number)
            yield family
        yield from self._observed()

    def _family(self, metric: Metric) -> Any:  # noqa: ANN401 - a counter's or a gauge's, of the library
        core = self._library.core
        make = core.CounterMetricFamily if metric.kind == "counter" else core.GaugeMetricFamily
        return make(metric.name, metric.text, labels=["model_name", metric.label][: 1 + bool(metric.label)])

    def _observed(self) -> "list[Family]":
        found = [one for each in (*self._histograms.values(), self._refused) for one in each.collect()]
        for family in found:  # when a series began is of no use, and doubles their number
            family.samples = [one for one in family.samples if not one.name.endswith("_created")]
        return found


class _Observed:
    """Events of one pipeline → its histograms, and a counter.

    Args:
        histograms: By metric; theirs is the label `model_name`.
        refused: The counter.
        model_name: The label's value.
    """

    def __init__(self, histograms: dict[Metric, Any], refused: Any, model_name: str) -> None:  # noqa: ANN401
        mine = {metric: one.labels(model_name) for metric, one in histograms.items()}
        self._phases = {phase: mine[metric].observe for phase, metric in HISTOGRAMS.items()}
        self._tokens = {name: mine[metric].observe for name, metric in TOKENS.items()}
        self._between = mine[INTER_TOKEN].observe
        self._refused, self._model_name = refused, model_name
        self._last: dict[int, float] = {}  # when a request had its latest token

    def __call__(self, event: Event) -> None:
        """Count what it tells."""
        match event:
            case TokenGenerated():
                before = self._last.get(event.request)
                self._last[event.request] = event.time
                if before is not None:
                    self._between(event.time - before)
            case RequestFinished():
                self._last.pop(event.request, None)
                if event.result is None:
                    return
                usage = event.result.usage
                for phase, seconds in phases_of(event.result):
                    self._phases[phase](seconds)
                for name, observe in self._tokens.items():
                    observe(getattr(usage, name))
            case RequestRefused():
                self._refused.labels(self._model_name, event.code).inc()


def _stats(engine: weakref.ref[Engine]) -> Stats | None:
    """The accounts, if the engine is there and answers."""
    found = engine()
    try:
        return None if found is None else found.stats()
    except (ClosedError, EngineDeadError):
        return None


def _library() -> Any:  # noqa: ANN401 - a module that need not be there
    try:
        importlib.import_module("prometheus_client.core")
        return importlib.import_module("prometheus_client")
    except ImportError:
        raise ParameterError(
            "observers", "metrics for Prometheus need prometheus-client: pip install 'glmflash[prometheus]'"
        ) from None
