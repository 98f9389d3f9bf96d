"""The letter box: order, places in line, waiting for both, and closing while others wait."""

import threading
import time

import pytest

from glmflash import ClosedError, EngineDeadError, QueueFullError
from glmflash.engine.inbox import Inbox


def closed():
    return ClosedError("closed")


def dead():
    return EngineDeadError("dead")


def in_thread(function) -> tuple[threading.Thread, list]:
    """Run it in a thread; what it returns, or the error it raises, lands in the list."""
    outcome = []

    def run():
        try:
            outcome.append(function())
        except Exception as error:  # noqa: BLE001 - to be looked at
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def test_letters_come_in_order_and_once():
    inbox = Inbox[int](1)
    for letter in range(3):
        inbox.put(letter)
    assert inbox.take(wait=False) == [0, 1, 2]
    assert inbox.take(wait=False) == []


def test_taking_waits_for_a_letter():
    inbox = Inbox[int](1)
    thread, outcome = in_thread(lambda: inbox.take(wait=True))
    time.sleep(0.02)
    assert thread.is_alive()
    inbox.put(1)
    thread.join(5)
    assert outcome == [[1]]


def test_places_are_bounded():
    inbox = Inbox[int](2)
    inbox.enter()
    inbox.enter()
    with pytest.raises(QueueFullError, match=r"2 requests.*max_waiting"):
        inbox.enter()
    assert inbox.held == 2
    inbox.leave()
    inbox.enter()
    assert inbox.held == 2


def test_waiting_for_a_place():
    inbox = Inbox[int](1)
    inbox.enter()
    threads = [in_thread(lambda: inbox.enter(wait=True)) for _ in range(3)]
    for left in (2, 1, 0):
        time.sleep(0.02)
        inbox.leave()
        until = time.monotonic() + 5
        while sum(thread.is_alive() for thread, _ in threads) > left and time.monotonic() < until:
            time.sleep(0.001)
        assert inbox.held == 1
    assert [outcome for _, outcome in threads] == [[None]] * 3


def test_a_place_is_not_lost_on_one_who_stops_waiting(monkeypatch):
    """Of two who wait, one is told of the place, and interrupted at that moment."""
    inbox = Inbox[int](1)
    inbox.enter()
    wait, told = inbox._room.wait, []

    def interrupted(timeout=None):
        told.append(1)
        first = len(told) == 1
        wait(timeout)
        if first:
            raise InterruptedError

    monkeypatch.setattr(inbox._room, "wait", interrupted)
    one, first = in_thread(lambda: inbox.enter(wait=True))
    while not told:
        time.sleep(0.001)
    other, second = in_thread(lambda: inbox.enter(wait=True))
    while len(told) < 2:
        time.sleep(0.001)
    inbox.leave()
    one.join(5)
    other.join(5)
    assert type(first[0]) is InterruptedError
    assert (second, inbox.held) == ([None], 1)


@pytest.mark.parametrize("refusal", [closed, dead])
def test_closing_wakes_everybody(refusal):
    inbox = Inbox[int](1)
    inbox.enter()
    taker, taken = in_thread(lambda: inbox.take(wait=True))
    waiters = [in_thread(lambda: inbox.enter(wait=True)) for _ in range(2)]
    time.sleep(0.02)
    inbox.close(refusal)
    for thread, _ in [(taker, None), *waiters]:
        thread.join(5)
    assert taken == [None]
    for _, outcome in waiters:
        assert type(outcome[0]) is type(refusal())
    for call in (inbox.enter, inbox.check, lambda: inbox.put(1)):
        with pytest.raises(type(refusal())):
            call()
    assert inbox.closed
    assert inbox.held == 1


def test_what_came_before_it_was_closed_is_not_lost():
    inbox = Inbox[int](1)
    inbox.put(1)
    inbox.close(closed)
    inbox.close(dead)
    assert inbox.take(wait=False) is None
    assert inbox.take(wait=True) is None
    assert inbox.rest() == [1]
    assert inbox.rest() == []
    with pytest.raises(ClosedError):  # the first refusal stays
        inbox.check()


def test_it_may_be_closed_by_the_thread_that_is_inside():
    """Garbage is collected anywhere, also under the lock, and an engine may be among it."""
    inbox = Inbox[int](1)
    with inbox._mail:
        inbox.close(closed)
    with pytest.raises(ClosedError):
        inbox.enter(wait=True)


def test_many_threads_lose_no_letter_and_no_place():
    inbox, got = Inbox[int](4), []

    def hand_in(start):
        for letter in range(start, start + 200):
            inbox.enter(wait=True)
            inbox.put(letter)

    threads = [in_thread(lambda start=start: hand_in(start))[0] for start in range(0, 1600, 200)]
    while len(got) < 1600:
        letters = inbox.take(wait=True)
        assert len(letters) <= 4
        got += letters
        for _ in letters:
            inbox.leave()
    for thread in threads:
        thread.join(5)
    assert sorted(got) == list(range(1600))
    assert inbox.held == 0
