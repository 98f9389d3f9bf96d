"""Many requests → their results, in order, with a bounded number of them under way."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing
from typing import Literal, TypeVar

from glmflash.engine.waiting import result
from glmflash.errors import ParameterError
from glmflash.progress import Progress, answered, reporter

__all__ = ["OnError", "batch", "ordered"]

T = TypeVar("T")
R = TypeVar("R")

#: Whether the first error ends it all, or takes the place of the result that it stands for.
OnError = Literal["raise", "return"]


def __dir__() -> list[str]:
    return __all__


def ordered(
    submit: Callable[[T], Future[R]], requests: Iterable[T], *, prefetch: int, on_error: OnError = "raise"
) -> Generator[R | Exception, None, None]:
    """Answer requests in order, lazily: the next ones are fetched as results are taken.

    Whatever ends it early cancels what is under way and waits for none of it: an error of a request with
    `on_error="raise"`, once its turn comes; an error of `requests` itself, at once; Ctrl-C; `close()`.

    Args:
        submit: Hands one request in. What it raises, or its future, is the error of that request.
        requests: May be endless, and slow.
        prefetch: Most requests fetched whose results have not been taken yet.
        on_error: "raise", or "return" to get the exception in place of the result. What is no `Exception`,
            such as `KeyboardInterrupt`, is always raised.

    Raises:
        ParameterError: If an argument is not as above; at once, not when the first result is asked for.

    Example:
        >>> def submit(text):
        ...     future = Future()
        ...     future.set_result(text.upper())
        ...     return future
        >>> list(ordered(submit, ["a", "b"], prefetch=1))
        ['A', 'B']
    """
    count: object = prefetch
    if not isinstance(count, int) or count is True or count < 1:
        raise ParameterError("prefetch", f"is {prefetch!r:.80}; allowed: a whole number from 1")
    if on_error not in ("raise", "return"):
        raise ParameterError("on_error", f"is {on_error!r:.80}; allowed: 'raise' or 'return'")
    return _ordered(submit, _several(requests), prefetch, on_error == "return")


def batch(
    submit: Callable[[T], Future[R]],
    requests: Iterable[T],
    *,
    prefetch: int,
    on_error: OnError = "raise",
    progress: Progress = None,
) -> list[R | Exception]:
    """Answer all requests, and return the results in their order.

    Args:
        submit: As for `ordered`.
        requests: Read to the end before the first is handed in.
        prefetch: As for `ordered`.
        on_error: As for `ordered`.
        progress: None shows a bar on a terminal, True always, False never; or a function of requests
            answered and requests in all.

    Raises:
        ParameterError: If an argument is not one of those above.
    """
    report = reporter(progress, line=answered)
    several = list(_several(requests))
    results: list[R | Exception] = []
    answers = ordered(submit, several, prefetch=prefetch, on_error=on_error)
    with closing(answers):
        report(0, len(several))
        for answer in answers:
            results.append(answer)
            report(len(results), len(several))
    return results


def _several(requests: Iterable[T]) -> Iterator[T]:
    """A string is an iterable too, and nobody means its letters."""
    if isinstance(requests, (str, bytes, Mapping)) or not isinstance(requests, Iterable):
        kind = type(requests).__name__
        raise ParameterError("requests", f"is a {kind}; allowed: a list, or another iterable, of requests")
    return iter(requests)


def _ordered(
    submit: Callable[[T], Future[R]], requests: Iterator[T], prefetch: int, returning: bool
) -> Generator[R | Exception, None, None]:
    under_way: deque[Future[R]] = deque()
    try:
        while True:
            _fetch(submit, requests, under_way, prefetch)
            if not under_way:
                return
            answer: R | Exception
            try:
                answer = result(under_way[0])
            except Exception as error:
                if not returning:
                    raise
                answer = error
            under_way.popleft()
            yield answer
            del answer
    finally:
        for future in under_way:
            future.cancel()


def _fetch(
    submit: Callable[[T], Future[R]], requests: Iterator[T], under_way: deque[Future[R]], prefetch: int
) -> None:
    """Hand one request in, and more until there are enough, or no more, or an answer is there to be taken."""
    for fetched in range(prefetch - len(under_way)):
        if fetched and under_way[0].done():  # a slow source must not hold it back
            return
        try:
            request = next(requests)
        except StopIteration:
            return
        under_way.append(_submitted(submit, request))


def _submitted(submit: Callable[[T], Future[R]], request: T) -> Future[R]:
    """A future in any case: one that is refused has failed."""
    try:
        return submit(request)
    except Exception as error:  # noqa: BLE001 - raised, or returned, in the request's turn
        future: Future[R] = Future()
        future.set_exception(error)
        return future
