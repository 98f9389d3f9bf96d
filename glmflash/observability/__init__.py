"""Events and accounts of an engine → log records, Prometheus metrics, OpenTelemetry spans.

log         events → one record of `logging` for each request
formatter   a record → a line of JSON
metrics     the accounts of an engine → the metrics that are exported, with names, types and meanings
prometheus  pipelines → a collector of `prometheus_client`; the one place that imports it
otel        events → spans and metrics of OpenTelemetry; the one place that imports it
content     messages and answers → JSON in the shape of the GenAI conventions

Nothing here leaves the process by itself: where records, metrics and spans go is the program's own choice.
"""

from glmflash.observability.formatter import JsonFormatter
from glmflash.observability.log import RequestLog
from glmflash.observability.otel import OpenTelemetry
from glmflash.observability.prometheus import PrometheusMetrics

__all__ = ["JsonFormatter", "OpenTelemetry", "PrometheusMetrics", "RequestLog"]


def __dir__() -> list[str]:
    return __all__
