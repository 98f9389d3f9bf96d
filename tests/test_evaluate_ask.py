"""Functions that raise, hang, or are asked together."""

import threading
import time

import pytest
from evaluating import questions, right

from glmflash import QueueFullError
from glmflash.evaluate import ask as module
from glmflash.evaluate.ask import ask_all
from glmflash.evaluate.systems import open_system


def asked(function, count, *, concurrency=1, timeout=5.0):
    with open_system(function) as system:
        return list(ask_all(system, questions(count), concurrency=concurrency, timeout=timeout))


def test_one_at_a_time_is_in_order_and_alone():
    alone, order = threading.Lock(), []

    def function(question):
        assert alone.acquire(blocking=False)
        order.append(question.id)
        alone.release()
        return right(question)

    given = asked(function, 8)
    assert [one.error for one in given] == [None] * 8
    assert order == [one.question.id for one in given] == [f"q{at}" for at in range(8)]


def test_as_many_as_allowed_are_asked_together():
    together = threading.Barrier(4)

    def function(question):
        together.wait(5)  # passes only if four are here
        return right(question)

    assert [one.error for one in asked(function, 8, concurrency=4)] == [None] * 8


def test_what_is_raised_is_an_answer_with_a_code_and_without_its_message():
    def function(question):
        if question.id == "q1":
            raise ConnectionError("key sk-123")
        if question.id == "q2":
            raise QueueFullError("no place")
        return 42 if question.id == "q3" else right(question)

    given = asked(function, 4)
    assert [one.error for one in given] == [None, "ConnectionError", "queue_full_error", "parameter_error"]
    assert "sk-123" not in repr(given)


def test_one_that_hangs_is_left_alone():
    end = threading.Event()

    def function(question):
        if question.id == "q1":
            end.wait(30)
        return right(question)

    began = time.perf_counter()
    given = asked(function, 4, timeout=0.15)
    end.set()
    assert time.perf_counter() - began < 10
    assert [(one.question.id, one.error) for one in given] == [
        ("q0", None), ("q1", "deadline_error"), ("q2", None), ("q3", None)
    ]  # fmt: skip
    assert given[1].seconds >= 0.15


def test_once_many_hang_nothing_more_is_asked(monkeypatch):
    monkeypatch.setattr(module, "_MOST_HANGING", 3)
    end, begun = threading.Event(), []

    def function(question):
        begun.append(question.id)
        end.wait(30)
        return ""

    given = asked(function, 50, timeout=0.1)
    end.set()
    assert [one.error for one in given] == ["deadline_error"] * 50
    assert len(begun) == 3


def test_a_late_answer_is_dropped_and_frees_its_place(monkeypatch):
    monkeypatch.setattr(module, "_MOST_HANGING", 1)

    def function(question):
        if question.id == "q0":
            time.sleep(0.25)
        elif question.id == "q1":
            time.sleep(0.05)
        return right(question)

    given = asked(function, 3, concurrency=2, timeout=0.15)
    assert next((one.question.id, one.error) for one in given if one.error) == ("q0", "deadline_error")
    assert len(given) == 3


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_is_no_exception_ends_it(kind):
    def function(question):
        raise kind

    with pytest.raises(kind):
        asked(function, 2)
