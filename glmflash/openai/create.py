"""A chat completion's body and a pipeline → the answer as a dict, or its chunks as they come."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping

from glmflash.asks import Asks
from glmflash.engine.request import Options
from glmflash.engine.stream import AsyncStream, Stream
from glmflash.openai.body import Body, read
from glmflash.openai.errors import error_body
from glmflash.openai.write import Json, Writer

__all__ = ["acreate", "create"]


def __dir__() -> list[str]:
    return __all__


def create(
    pipe: Asks,
    body: Mapping[str, object],
    *,
    model: str = "glmflash",
    cache_salt: str | None = None,
    timeout: float | None = None,
) -> Json | Iterator[Json]:
    """Answer the body of a `chat/completions` request.

    An iterator cancels its request when it is closed or let go. An error before the first chunk is raised;
    a later one becomes the last chunk, `{"error": ...}`, for the status has been sent by then.

    Args:
        pipe: A pipeline.
        body: The JSON object: OpenAI's fields, ours, or the plain `{"image", "prompt", ...}`. It may come
            from a stranger: it cannot name a file that would be read here, nor an address unless the
            pipeline's `InputPolicy.urls` allows it.
        model: The name to answer under if the body gives none.
        cache_salt: Keeps cached work apart from that of other salts. It tells whom to trust, so no body
            can set it.
        timeout: Seconds, after which the request ends with a `DeadlineError`.

    Returns:
        A `chat.completion`; its chunks, if the body has `stream`.

    Raises:
        InputError: If the body cannot be used; `error_body` makes an OpenAI error of this and all others.
        GlmflashError: As `Pipeline.chat`.

    Example:
        >>> from glmflash import Pipeline
        >>> with Pipeline.from_pretrained("tiny") as pipe:
        ...     answer = create(pipe, {"prompt": "What is the total?", "max_tokens": 4})
        >>> answer["object"], answer["choices"][0]["finish_reason"]
        ('chat.completion', 'length')
    """
    asked = _read(pipe, body, model)
    options = _options(asked, cache_salt, timeout)
    writer = _writer(pipe, asked)
    with asked.naming():
        if not asked.stream:
            return writer.whole(pipe.chat(asked.messages, **options))
        stream = pipe.stream(asked.messages, **options)
    return _chunks(stream, asked, writer)


async def acreate(
    pipe: Asks,
    body: Mapping[str, object],
    *,
    model: str = "glmflash",
    cache_salt: str | None = None,
    timeout: float | None = None,  # noqa: ASYNC109 - the engine keeps it, as of every request
) -> Json | AsyncIterator[Json]:
    """The same in a running event loop. Cancelling the task that waits cancels the request.

    Args:
        pipe: As for `create`, whose results and errors it has.
        body: The same.
        model: The same.
        cache_salt: The same.
        timeout: The same.
    """
    asked = _read(pipe, body, model)
    options = _options(asked, cache_salt, timeout)
    writer = _writer(pipe, asked)
    with asked.naming():
        if not asked.stream:
            return writer.whole(await asyncio.wrap_future(pipe.submit(asked.messages, **options)))
        stream = pipe.astream(asked.messages, **options)
    return _achunks(stream, asked, writer)


def _read(pipe: Asks, body: Mapping[str, object], model: str) -> Body:
    return read(body, model=model, urls=pipe.engine.settings.policy.urls is not None)


def _options(asked: Body, cache_salt: str | None, timeout: float | None) -> Options:
    options = asked.options.copy()
    if cache_salt is not None:
        options["cache_salt"] = cache_salt
    if timeout is not None:
        options["timeout"] = timeout
    return options


def _writer(pipe: Asks, asked: Body) -> Writer:
    token_bytes = pipe.engine.tokenizer.token_bytes
    return Writer(model=asked.model, include_usage=asked.include_usage, token_bytes=token_bytes)


def _chunks(stream: Stream, asked: Body, writer: Writer) -> Iterator[Json]:
    try:
        with asked.naming():
            for delta in stream:
                yield from writer.pieces(delta)
            yield from writer.ending(stream.result)
    except Exception as error:
        if not writer.begun:
            raise
        yield error_body(error)[1]
    finally:
        stream.cancel()


async def _achunks(stream: AsyncStream, asked: Body, writer: Writer) -> AsyncIterator[Json]:
    try:
        with asked.naming():
            async for delta in stream:
                for piece in writer.pieces(delta):
                    yield piece
            for piece in writer.ending(await stream.result()):
                yield piece
    except Exception as error:
        if not writer.begun:
            raise
        yield error_body(error)[1]
    finally:
        stream.cancel()
