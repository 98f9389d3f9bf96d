"""Many requests → their results, in order, with a bounded number of them under way."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sized
from concurrent.futures import Future
from contextlib import closing
from typing import Literal, TypeVar

from glmflash.engine.waiting import result
from glmflash.errors import ParameterError
from glmflash.progress import ANSWERED, Progress, reporter, wants_bar
from glmflash.shown import show

__all__ = ["OnError", "batch", "ordered"]

T = TypeVar("T")
R = TypeVar("R")

#: Whether the first error ends it all, or takes the place of the result that it stands for.
OnError = Literal["raise", "return"]


def __dir__() -> list[str]:
    return __all__


def ordered(
    submit: Callable[[T], Future[R]],
    requests: Iterable[T],
    *,
    prefetch: int,
    on_error: OnError = "raise",
    progress: Progress = False,
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
        progress: As for `batch`, but nothing is shown unasked, for whoever takes results one by one may show
            them. How many requests there are is not known unless they have a length.

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
        raise ParameterError("prefetch", f"is {show(prefetch)}; allowed: a whole number from 1")
    wanted: object = on_error
    if not isinstance(wanted, str) or wanted not in ("raise", "return"):
        raise ParameterError("on_error", f"is {show(on_error)}; allowed: 'raise' or 'return'")
    wants_bar(progress)  # or an error, at once
    total = len(requests) if isinstance(requests, Sized) else None
    answers = _ordered(submit, _several(requests), prefetch, on_error == "return")
    return answers if progress is False else _counted(answers, total, progress)


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
        progress: None shows a bar where a person watches (a terminal, a notebook), True always, False never;
            or a function of requests answered and requests in all.

    Raises:
        ParameterError: If an argument is not one of those above.
    """
    several = list(_several(requests))
    answers = ordered(submit, several, prefetch=prefetch, on_error=on_error, progress=progress)
    with closing(answers):
        return list(answers)


def _counted(
    answers: Generator[R | Exception, None, None], total: int | None, progress: Progress
) -> Generator[R | Exception, None, None]:
    """The same, and how many there were so far is reported."""
    with closing(answers), reporter(progress, ANSWERED) as report:
        done = 0
        report(done, total)
        for answer in answers:
            done += 1
            report(done, total)
            yield answer
            del answer


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
