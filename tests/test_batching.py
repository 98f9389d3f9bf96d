"""Many requests: in order, lazily, never too many under way, and none left behind."""

import io
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from itertools import count, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmflash.batching import batch, ordered
from glmflash.errors import ImageError, ParameterError


class Server:
    """Answers by hand: `submit` gives futures that the test settles; some requests are refused at once."""

    def __init__(self, *, refused: dict[object, BaseException] | None = None) -> None:
        self.futures: list[Future[object]] = []
        self.refused = refused or {}

    def submit(self, request: object) -> Future[object]:
        if request in self.refused:
            raise self.refused[request]
        self.futures.append(Future())
        return self.futures[-1]


def at_once(request: object) -> Future[object]:
    """An answer, or the error that was sent, immediately."""
    future: Future[object] = Future()
    if isinstance(request, BaseException):
        future.set_exception(request)
    else:
        future.set_result(request)
    return future


@given(st.lists(st.integers()), st.integers(1, 20))
def test_results_are_in_order(numbers: list[int], prefetch: int) -> None:
    assert list(ordered(at_once, numbers, prefetch=prefetch)) == numbers
    assert batch(at_once, iter(numbers), prefetch=prefetch) == numbers


def test_order_does_not_depend_on_who_is_done_first() -> None:
    def slowly(number: int) -> int:
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number

    with ThreadPoolExecutor(4) as pool:
        results = list(ordered(lambda number: pool.submit(slowly, number), range(20), prefetch=8))
    assert results == list(range(20))


@pytest.mark.parametrize("prefetch", [1, 2, 7])
def test_it_fetches_as_results_are_taken(prefetch: int) -> None:
    fetched: list[int] = []

    def endless() -> Iterator[int]:
        for number in count():
            fetched.append(number)
            yield number

    results = ordered(at_once, endless(), prefetch=prefetch)
    assert not fetched  # nothing happens before the first result is asked for
    for taken, result in enumerate(islice(results, 20)):
        assert result == taken
        assert taken + 1 <= len(fetched) <= taken + prefetch
    results.close()


def test_closing_early_cancels_and_waits_for_nothing() -> None:
    server = Server()
    results = ordered(server.submit, count(), prefetch=3)
    threading.Timer(0.05, lambda: server.futures[0].set_result("a")).start()
    assert next(results) == "a"
    results.close()
    assert [future.cancelled() for future in server.futures] == [False, True, True]
    assert next(results, None) is None


def test_a_loop_that_is_left_cancels() -> None:
    server = Server()

    def settle_all(request: object) -> Future[object]:
        future = server.submit(request)
        if len(server.futures) == 4:
            server.futures[0].set_result(request)
        return future

    for _ in ordered(settle_all, range(9), prefetch=4):
        break
    assert [future.cancelled() for future in server.futures] == [False, True, True, True]


def test_an_error_is_raised_in_its_turn_and_cancels_the_rest() -> None:
    server = Server()
    results = ordered(server.submit, range(9), prefetch=4)
    threading.Timer(0.05, lambda: server.futures[0].set_result("a")).start()
    assert next(results) == "a"
    server.futures[2].set_exception(ImageError("broken"))
    server.futures[1].set_result("b")
    assert next(results) == "b"
    with pytest.raises(ImageError, match="broken"):
        next(results)
    assert [future.cancelled() for future in server.futures] == [False, False, False, True, True, True]
    assert next(results, None) is None


def test_an_error_can_take_the_place_of_a_result() -> None:
    error = ImageError("broken")
    assert list(ordered(at_once, [1, error, 3], prefetch=2, on_error="return")) == [1, error, 3]
    assert batch(at_once, [error, 2], prefetch=5, on_error="return") == [error, 2]


def test_what_submit_raises_is_the_error_of_that_request() -> None:
    server = Server(refused={"b": ParameterError("seed", "no")})
    results = ordered(server.submit, "a b c".split(), prefetch=3, on_error="return")
    threading.Timer(0.05, lambda: [future.set_result("ok") for future in server.futures]).start()
    assert [str(result) for result in results] == ["ok", "seed: no", "ok"]

    server = Server(refused={"b": ParameterError("seed", "no")})
    results = ordered(server.submit, "a b c".split(), prefetch=3)
    threading.Timer(0.05, lambda: server.futures[0].set_result("ok")).start()
    assert next(results) == "ok"
    with pytest.raises(ParameterError):
        next(results)
    assert server.futures[1].cancelled()


def test_a_cancelled_request_is_an_error_like_others() -> None:
    server = Server()
    results = ordered(server.submit, ["a", "b"], prefetch=2, on_error="return")
    threading.Timer(0.05, lambda: (server.futures[0].cancel(), server.futures[1].set_result(2))).start()
    first, second = results
    assert isinstance(first, CancelledError)
    assert second == 2


def test_an_error_of_the_iterable_is_its_own_and_cancels() -> None:
    server = Server()

    def failing() -> Iterator[int]:
        yield 1
        yield 2
        raise ZeroDivisionError

    results = ordered(server.submit, failing(), prefetch=4, on_error="return")
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert [future.cancelled() for future in server.futures] == [True, True]
    with pytest.raises(ZeroDivisionError):
        batch(server.submit, failing(), prefetch=4)
    assert len(server.futures) == 2  # a batch is read before it begins


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("where", ["future", "submit", "iterable"])
def test_what_is_no_exception_is_always_raised(error: type[BaseException], where: str) -> None:
    server = Server(refused={"stop": error()} if where == "submit" else None)

    def requests() -> Iterator[object]:
        yield "a"
        if where == "iterable":
            raise error
        yield "stop"
        yield "c"

    def submit(request: object) -> Future[object]:
        future = server.submit(request)
        if where == "future" and len(server.futures) == 2:
            server.futures[0].set_exception(error())
        return future

    with pytest.raises(error):
        next(ordered(submit, requests(), prefetch=2, on_error="return"))
    assert all(future.cancelled() for future in server.futures if not future.done())
    assert all(future.done() for future in server.futures)


def test_ctrl_c_while_waiting_cancels() -> None:
    class Interrupted(Future):
        def result(self, timeout: float | None = None) -> object:
            raise KeyboardInterrupt

    futures = [Interrupted(), Future(), Future()]
    given = iter(futures)
    with pytest.raises(KeyboardInterrupt):
        batch(lambda _: next(given), range(3), prefetch=3, on_error="return", progress=False)
    assert all(future.cancelled() for future in futures)


@pytest.mark.parametrize("wrong", [0, -1, True, 2.0, "3", None])
def test_prefetch_is_a_number(wrong: object) -> None:
    with pytest.raises(ParameterError) as caught:
        ordered(at_once, [], prefetch=wrong)  # at once, before anything is asked for
    assert caught.value.parameter == "prefetch"


@pytest.mark.parametrize("wrong", ["ignore", None, True])
def test_on_error_is_one_of_two(wrong: object) -> None:
    with pytest.raises(ParameterError) as caught:
        ordered(at_once, [], prefetch=1, on_error=wrong)
    assert caught.value.parameter == "on_error"


@pytest.mark.parametrize("wrong", ["What is this?", b"x", {"text": "a"}, 3, None])
@pytest.mark.parametrize("several", [ordered, batch])
def test_one_question_is_no_list_of_them(several, wrong: object) -> None:
    with pytest.raises(ParameterError) as caught:
        several(at_once, wrong, prefetch=1)
    assert caught.value.parameter == "requests"


def test_a_function_hears_of_progress() -> None:
    heard: list[tuple[int, int]] = []
    batch(at_once, iter("abc"), prefetch=2, progress=lambda *report: heard.append(report))
    assert heard == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_what_a_progress_function_raises_cancels() -> None:
    server = Server()

    def submit(request: object) -> Future[object]:
        future = server.submit(request)
        if len(server.futures) == 3:
            server.futures[0].set_result(request)
        return future

    def progress(done: int, total: int) -> None:
        if done:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        batch(submit, range(9), prefetch=3, progress=progress)
    assert [future.cancelled() for future in server.futures] == [False, True, True]


def test_a_bar_is_drawn_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    assert batch(at_once, range(3), prefetch=1, progress=None) == [0, 1, 2]
    assert not stream.getvalue()  # no terminal
    batch(at_once, range(3), prefetch=1, progress=True)
    assert "answered" in stream.getvalue()
    assert "0/3" in stream.getvalue()
    with pytest.raises(ParameterError):
        batch(at_once, [], prefetch=1, progress="yes")


@pytest.mark.parametrize(("requests", "total"), [("abc", 3), ("", 0)])
def test_a_lazy_map_reports_too_and_knows_how_many_only_of_what_has_a_length(requests, total) -> None:
    heard: list[tuple[int, int | None]] = []
    for items, known in ((list(requests), total), (iter(requests), None)):
        taken = list(ordered(at_once, items, prefetch=2, progress=lambda *report: heard.append(report)))
        assert taken == list(requests)
        assert heard == [(done, known) for done in range(total + 1)]
        heard.clear()


def test_a_map_is_silent_unasked_and_wipes_its_bar_when_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    assert list(ordered(at_once, range(3), prefetch=1)) == [0, 1, 2]
    assert not stream.getvalue()
    answers = ordered(at_once, range(9), prefetch=1, progress=True)
    next(answers)
    answers.close()
    assert not stream.getvalue().rpartition("\r")[2]
    with pytest.raises(ParameterError):  # at once
        ordered(at_once, [], prefetch=1, progress="yes")


def test_results_that_were_taken_are_not_kept() -> None:
    class Heavy:
        alive = 0

        def __init__(self) -> None:
            Heavy.alive += 1

        def __del__(self) -> None:
            Heavy.alive -= 1

    most = 0
    for _ in ordered(lambda _: at_once(Heavy()), range(50), prefetch=3):
        most = max(most, Heavy.alive)
    assert most <= 4


def test_an_answer_is_given_as_soon_as_it_is_there() -> None:
    """A slow source, a camera say, holds no answers back."""
    fetched: list[int] = []

    def frames() -> Iterator[int]:
        for number in range(100):
            fetched.append(number)
            yield number

    answers = ordered(at_once, frames(), prefetch=32)
    assert [next(answers), next(answers)] == [0, 1]
    assert len(fetched) <= 3
    answers.close()
