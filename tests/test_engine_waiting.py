"""Waiting that hears Ctrl-C: never for long at once, and what is waited for comes out as it is."""

import threading
from concurrent.futures import CancelledError, Future
from queue import SimpleQueue

import pytest

from glmflash import DeadlineError
from glmflash.engine import waiting


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(waiting, "AT_ONCE", 0.01)


def test_what_comes_later():
    future, queue = Future(), SimpleQueue()
    threading.Timer(0.05, lambda: (future.set_result(1), queue.put(None))).start()
    assert waiting.result(future) == 1
    assert waiting.get(queue) is None


def test_a_timeout_that_is_the_answer():
    future = Future()
    threading.Timer(0.05, lambda: future.set_exception(DeadlineError("late"))).start()
    with pytest.raises(DeadlineError, match="late"):
        waiting.result(future)
    with pytest.raises(DeadlineError, match="late"):
        waiting.result(future)


def test_cancelled_meanwhile():
    future = Future()
    threading.Timer(0.05, future.cancel).start()
    with pytest.raises(CancelledError):
        waiting.result(future)


def test_a_signal_that_comes_just_before_the_wait_is_heard():
    """No wait is longer than `AT_ONCE`, after which the interpreter looks for signals."""
    asked = []

    class Watched(Future):
        def result(self, timeout=None):
            asked.append(timeout)
            if len(asked) == 3:
                raise KeyboardInterrupt
            return super().result(timeout)

    with pytest.raises(KeyboardInterrupt):
        waiting.result(Watched())
    assert asked == [0.01] * 3
