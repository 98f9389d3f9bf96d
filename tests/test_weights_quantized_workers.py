"""Work on several threads: every result once, errors where they are waited for, nobody held up."""

import threading
import time
from functools import partial

import pytest
import torch

from glmflash.weights.workers import results


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("count", [0, 1, 20])
def test_every_function_once(workers: int, count: int) -> None:
    calls = []

    def work(number: int) -> int:
        calls.append(number)
        return number * number

    found = list(results([partial(work, number) for number in range(count)], workers=workers))
    assert sorted(found) == [number * number for number in range(count)]
    assert sorted(calls) == list(range(count))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_is_raised_here_and_little_is_begun_after_it(
    workers: int, error: type[BaseException]
) -> None:
    calls = []

    def work(number: int) -> None:
        calls.append(number)
        if number == 2:
            raise error("no")
        time.sleep(0.01)

    with pytest.raises(error, match="no"):
        for _ in results([partial(work, number) for number in range(100)], workers=workers):
            pass
    assert len(calls) < 50


def test_whoever_leaves_waits_for_nobody() -> None:
    go, begun = threading.Event(), []

    def work(number: int) -> int:
        begun.append(number)
        if number:
            go.wait(10)
        return number

    given = results([partial(work, number) for number in range(8)], workers=2)
    assert next(given) == 0
    start = time.monotonic()
    given.close()
    assert time.monotonic() - start < 5
    go.set()
    until = time.monotonic() + 10
    while [thread for thread in threading.enumerate() if thread.name.startswith("glmflash-loader")]:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert len(begun) <= 3


def test_at_most_so_many_at_once() -> None:
    lock, now, most = threading.Lock(), 0, 0

    def work() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.005)
        with lock:
            now -= 1

    list(results([work] * 12, workers=3))
    assert 1 < most <= 3


def test_each_computes_on_one_processor_and_nobody_else_does() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        numbers = list(results([lambda: (torch.ones(9).sum(), torch.get_num_threads())[1]] * 8, workers=2))
        assert set(numbers) == {1}
        assert torch.get_num_threads() == 3
        seen = []
        thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert seen == [3]
    finally:
        torch.set_num_threads(before)
