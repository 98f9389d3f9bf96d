"""Every request → one line of the log and a few numbers for Prometheus; never what was asked or answered."""

import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from glmflash import Pipeline
from glmflash.observability import PrometheusMetrics

__all__ = ["Metrics", "Watched"]

Scope = MutableMapping[str, Any]  # as ASGI has it
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]

_ROUTES = ("/", "/healthz", "/metrics", "/v1/models", "/v1/chat/completions")
_log = logging.getLogger("glmflash.serve")


def __dir__() -> list[str]:
    return __all__


class Metrics:
    """Counters of this server, and the pipeline's own metrics.

    Args:
        pipe: Whose metrics are shown.
        name: What the model is called.
    """

    def __init__(self, pipe: Pipeline, name: str) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "http_requests", "HTTP requests", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "http_request_duration_seconds", "Until the last byte", ["route"], registry=self._registry,
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
        )  # fmt: skip
        PrometheusMetrics(self._registry).add(pipe, model_name=name)

    def count(self, route: str, status: int, seconds: float) -> None:
        """Add a request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)


class Watched:
    """An ASGI application whose requests are numbered, timed, counted and logged.

    What a handler puts into `scope["state"]["noted"]` is logged too.

    Args:
        app: The application.
        metrics: What counts.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        name, began, status = uuid.uuid4().hex, time.perf_counter(), 499  # 499: they left before an answer
        noted: dict[str, object] = {}
        scope.setdefault("state", {})["noted"] = noted

        async def numbered(message: Scope) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", name.encode())]
            await send(message)

        try:
            await self._app(scope, receive, numbered)
        finally:
            seconds = time.perf_counter() - began
            route = scope["path"] if scope["path"] in _ROUTES else "other"
            self._metrics.count(route, status, seconds)
            line = {
                "request": name, "method": scope["method"], "route": route, "status": status,
                "seconds": round(seconds, 4), **noted,
            }  # fmt: skip
            _log.info("%s", json.dumps(line))
