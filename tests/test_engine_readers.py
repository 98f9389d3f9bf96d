"""The readers' threads: order, closing with work in line, and threads that cannot be had or do not end."""

import threading
import time
import weakref

import pytest

from glmflash.engine.readers import Readers


@pytest.fixture
def readers():
    made = []

    def make(count: int) -> Readers:
        made.append(Readers(count))
        return made[-1]

    yield make
    for one in made:
        one.close()


def until(condition) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_functions_run_in_order_on_one_thread(readers):
    one, seen = readers(1), []
    for number in range(20):
        assert one.call(lambda number=number: seen.append((number, threading.current_thread().name)))
    one.close()
    assert seen == [(number, "glmflash-reader-0") for number in range(20)]


def test_the_lowest_rank_goes_first(readers):
    one, seen, gate = readers(1), [], threading.Event()
    one.call(lambda: gate.wait(5))
    for rank in (2.0, 1.0, float("-inf"), 1.0):
        one.call(lambda rank=rank: seen.append((rank, len(seen))), rank=rank)
    gate.set()
    one.close()
    assert seen == [(float("-inf"), 0), (1.0, 1), (1.0, 2), (2.0, 3)]


def test_no_thread_before_the_first_call(readers):
    several = readers(3)
    assert several._threads == []
    several.call(lambda: None)
    assert len(several._threads) == 1


def test_several_run_at_once_and_no_more(readers):
    several, gate, inside = readers(2), threading.Event(), []
    for _ in range(4):
        several.call(lambda: (inside.append(1), gate.wait(5)))
    until(lambda: len(inside) == 2)
    time.sleep(0.02)
    assert len(inside) == 2
    gate.set()
    several.close()
    assert len(inside) == 4


def test_closing_ends_the_threads_and_refuses_more(readers):
    several = readers(2)
    for _ in range(2):
        several.call(lambda: None)
    threads = list(several._threads)
    several.close()
    several.close()
    assert not any(thread.is_alive() for thread in threads)
    assert not several.call(lambda: pytest.fail("called"))


def test_one_of_its_threads_may_close_it(readers):
    several, ended = readers(2), threading.Event()
    several.call(lambda: (several.close(), ended.set()))
    assert ended.wait(5)


def test_it_does_not_wait_for_ever(readers):
    """Somebody's `read` may never return."""
    several, gate = readers(2), threading.Event()
    several.call(lambda: gate.wait(5))
    began = time.monotonic()
    several.close(0.05)
    assert time.monotonic() - began < 2
    gate.set()


def test_an_idle_thread_keeps_nothing_alive(readers):
    class Thing:
        def __call__(self):
            pass

    several, thing = readers(1), Thing()
    gone = weakref.ref(thing)
    several.call(thing)
    del thing
    until(lambda: gone() is None)


def test_it_knows_its_threads(readers):
    several, inside = readers(1), []
    several.call(lambda: inside.append(threading.current_thread() in several))
    several.close()
    assert inside == [True]
    assert threading.current_thread() not in several


def test_a_system_without_threads(readers, monkeypatch):
    """The first one is needed; those beside it are not."""
    several, seen = readers(2), []
    start = threading.Thread.start

    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError):
        several.call(lambda: seen.append(0))
    monkeypatch.setattr(threading.Thread, "start", start)
    assert several.call(lambda: seen.append(1))
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert several.call(lambda: seen.append(2))
    several.close()
    assert seen == [1, 2]
