"""A pipeline → a web application: chat completions as OpenAI has them, a page, health and metrics."""

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import guard
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from watch import Metrics, Watched

from glmflash import GlmflashError, Pipeline
from glmflash.openai import acreate, error_body

__all__ = ["make"]

PAGE = Path(__file__).with_name("page.html")
Chunk = dict[str, Any]  # a JSON object
T = TypeVar("T")

# What goes with some statuses. The rest of a body that is not read must not be taken for a request.
_HEADERS = {
    401: {"www-authenticate": "Bearer"},
    408: {"connection": "close"},
    413: {"connection": "close"},
    429: {"retry-after": "1"},
}


def __dir__() -> list[str]:
    return __all__


def make(
    pipe: Pipeline,
    *,
    secret: str,
    name: str = "glmflash",
    max_body: int = 32 * 2**20,
    timeout: float = 300.0,
    body_seconds: float = 30.0,
) -> FastAPI:
    """Make the application.

    Args:
        pipe: What answers.
        secret: Tokens are signed with it; see `guard.token`.
        name: What the model is called.
        max_body: Most bytes of a request's body.
        timeout: Seconds for an answer.
        body_seconds: Seconds for a body to arrive.
    """
    metrics = Metrics(pipe, name)
    server = _Server(pipe, guard.check_secret(secret), name, max_body, timeout, body_seconds)
    app = FastAPI(title=name, docs_url=None, redoc_url=None, openapi_url=None)  # their pages load scripts
    app.add_middleware(Watched, metrics=metrics)
    app.add_api_route("/v1/chat/completions", server.completions, methods=["POST"])
    app.add_api_route("/v1/models", server.models)
    app.add_api_route("/healthz", server.health)
    app.add_api_route("/metrics", lambda: Response(metrics.text(), media_type="text/plain; version=0.0.4"))
    app.add_api_route("/", _page())
    return app


class _Server:
    """The handlers, and what they share."""

    def __init__(
        self, pipe: Pipeline, secret: str, name: str, max_body: int, timeout: float, body_seconds: float
    ) -> None:
        self._pipe = pipe
        self._secret = secret
        self._name = name
        self._max_body = max_body
        self._timeout = timeout
        self._body_seconds = body_seconds

    async def completions(self, request: Request) -> Response:
        """Answer, whole or as server-sent events; whoever leaves takes the request along."""
        noted = request.state.noted
        try:
            who = noted["subject"] = guard.subject(request.headers, self._secret)
            data = await guard.read(
                request.stream(), request.headers, limit=self._max_body, seconds=self._body_seconds
            )
            noted["bytes"] = len(data)
            body = self._checked(guard.parse(data))
            # Cached work tells by its speed what was asked before: each subject has its own.
            asked = acreate(
                self._pipe, body, model=self._name, cache_salt=f"serve:{who}", timeout=self._timeout
            )
            answer = await _unless_gone(request, asked)
            if isinstance(answer, dict):
                _note(noted, answer)
                return JSONResponse(answer)
            first = await _unless_gone(request, _next(answer))  # an error until here has its own status
            return StreamingResponse(_events(first, answer, noted), media_type="text/event-stream")
        except Exception as error:  # noqa: BLE001 - each becomes an answer
            return _failed(error, noted)

    async def models(self, request: Request) -> Response:
        """The one model there is."""
        try:
            request.state.noted["subject"] = guard.subject(request.headers, self._secret)
        except guard.Refused as error:
            return _failed(error, request.state.noted)
        model = {"id": self._name, "object": "model", "created": 0, "owned_by": "glmflash"}
        return JSONResponse({"object": "list", "data": [model]})

    async def health(self) -> Response:
        """200 if a question would be answered, 503 if the engine is dead or closed."""
        try:
            stats = self._pipe.stats()
        except GlmflashError as error:
            return JSONResponse({"status": "dead", "code": error.code}, 503)
        return JSONResponse({"status": "ok", "waiting": stats.waiting, "running": stats.running})

    def _checked(self, body: object) -> Mapping[str, object]:
        if not isinstance(body, dict):
            raise guard.Refused(400, "invalid_json", "the body is no JSON object")
        if body.get("model") not in (None, self._name):
            raise guard.Refused(404, "model_not_found", f"there is no such model; there is {self._name}")
        return body


async def _events(first: Chunk, chunks: AsyncIterator[Chunk], noted: dict[str, object]) -> AsyncIterator[str]:
    async def all_of_them() -> AsyncIterator[Chunk]:
        yield first
        async for chunk in chunks:
            yield chunk

    failed = False
    async for chunk in all_of_them():
        failed = "error" in chunk
        _note(noted, chunk)
        yield f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"
    if not failed:
        yield "data: [DONE]\n\n"


async def _unless_gone(request: Request, work: Awaitable[T]) -> T:
    """Wait for what is under way, but not longer than the client does."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise guard.Refused(499, "gone", "the client has left")
        return tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _next(chunks: AsyncIterator[Chunk]) -> Chunk:
    return await anext(chunks)


def _note(noted: dict[str, object], answer: Chunk) -> None:
    """What the log may know of an answer: how much, and how it ended."""
    if usage := answer.get("usage"):
        noted |= {"prompt_tokens": usage["prompt_tokens"], "completion_tokens": usage["completion_tokens"]}
    if "error" in answer:
        noted["error"] = answer["error"]["code"]
    for choice in answer.get("choices", ()):
        if choice["finish_reason"]:
            noted["finish_reason"] = choice["finish_reason"]


def _failed(error: Exception, noted: dict[str, object]) -> Response:
    headers = {}
    body: Mapping[str, Any]
    if isinstance(error, guard.Refused):
        status, kind = (
            error.status,
            "authentication_error" if error.status == 401 else "invalid_request_error",
        )
        body = {"error": {"message": str(error), "type": kind, "param": None, "code": error.code}}
        headers = {"www-authenticate": "Bearer"} if status == 401 else {"connection": "close"}
    else:
        status, body = error_body(error)
        headers = {"retry-after": "1"} if status == 429 else {}
    noted["error"] = body["error"]["code"]
    return JSONResponse(body, status, headers=headers)


def _page() -> Any:  # noqa: ANN401 - a handler; FastAPI reads its signature
    """The page, with a policy that lets it run its own script and talk to this server, and nothing else."""
    html = PAGE.read_text("utf-8")
    hashes = {
        tag: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for tag, text in re.findall(r"<(style|script)>(.*?)</\1>", html, re.DOTALL)
    }
    policy = (
        f"default-src 'none'; style-src 'sha256-{hashes['style']}'; script-src 'sha256-{hashes['script']}';"
        " img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )

    async def page() -> HTMLResponse:
        return HTMLResponse(
            html, headers={"content-security-policy": policy, "referrer-policy": "no-referrer"}
        )

    return page
