"""A cache finds what it kept, for as long as it is good; a store that fails or hangs costs hits only."""

import gc
import logging
import os
import sys
import threading
import time
import weakref
from contextlib import ExitStack
from random import Random

import pytest
from answers_world import Faulty, plain, until

from glmflash import AnswerCache, ClosedError, GlmflashError, ParameterError, Pipeline
from glmflash.answers import MemoryAnswers
from glmflash.answers import guard as guarding
from glmflash.answers.guard import Breaker, Guard
from glmflash.answers.record import read, write
from glmflash.engine.recorded import Recorded
from glmflash.engine.sampler import Sampled

KEY = "ab" * 32
ANSWER = Recorded((Sampled(7), Sampled(8)), "stop")
FAULTS = [OSError, ValueError, KeyboardInterrupt, SystemExit, MemoryError, GeneratorExit, RecursionError]


def ours() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("glmflash-answers")]


def caches():
    """In memory, and behind a guard that is patient: this machine may be busy."""
    return AnswerCache("1 MB"), AnswerCache(Faulty(), patience=20)


@pytest.mark.parametrize("which", [0, 1])
def test_what_is_kept_is_found_at_once_and_later(which):
    with caches()[which] as cache:
        assert cache.find(KEY) is None
        cache.keep(KEY, ANSWER)
        for _ in range(3):
            assert cache.find(KEY) == ANSWER
            assert cache.find("cd" * 32) is None
        until(lambda: cache.nbytes)
        cache.clear()
        assert cache.find(KEY) is None
        assert (cache.nbytes, cache.errors) == (0, 0)


def test_an_answer_is_good_for_a_time(monkeypatch):
    cache, now = AnswerCache(Faulty(), ttl=60, patience=20), time.time()
    cache.keep(KEY, ANSWER)
    for later, good in ((0, True), (59, True), (61, False), (-200, True), (-400, False)):
        monkeypatch.setattr(time, "time", lambda later=later: now + later)
        assert (cache.find(KEY) == ANSWER) is good
    assert cache.errors == 0


def test_the_answer_to_another_question_is_none():
    store = MemoryAnswers()
    cache = AnswerCache(store)
    store.put("cd" * 32, write(ANSWER, key=KEY, made=time.time()), 60)
    assert cache.find("cd" * 32) is None
    assert cache.errors == 1


@pytest.mark.parametrize("garbage", [b"", b"{}", "text", 7, object(), bytearray(b"x"), b"\x80\x04." * 9])
def test_what_is_no_answer_is_none(garbage):
    store = Faulty()
    store.kept[KEY] = garbage
    with AnswerCache(store, patience=20) as cache:
        assert cache.find(KEY) is None
        assert cache.errors == 1


# Memory


def test_memory_is_bounded_by_what_it_takes():
    store, rng = MemoryAnswers("100 kB"), Random(1)
    for number in range(2000):
        store.put(f"{number}", rng.randbytes(rng.randint(0, 3000)), 60)
        assert store.nbytes <= 100_000
    kept = sum(sys.getsizeof(key) + sys.getsizeof(value) for key, (value, _) in store._kept.items())
    assert kept <= store.nbytes <= kept + 300 * len(store)
    assert store.get("1999") is not None
    store.put("large", bytes(100_000), 60)
    assert store.get("large") is None
    for key in list(store._kept):
        store.put(key, b"", 60)
    store.clear()
    assert (len(store), store.nbytes) == (0, 0)


def test_memory_forgets_what_was_used_longest_ago():
    store = MemoryAnswers(3 * 700)
    for key in "abc":
        store.put(key, bytes(300), 60)
    assert store.get("a")
    store.put("d", bytes(300), 60)
    assert [key for key in "abcd" if store.get(key)] == ["a", "c", "d"]


def test_memory_forgets_what_is_too_old():
    store = MemoryAnswers()
    store.put("a", b"value", 0.02)
    assert store.get("a") == b"value"
    time.sleep(0.03)
    assert store.get("a") is None
    assert store.nbytes == 0


# Stores that fail


@pytest.mark.parametrize("kind", FAULTS)
def test_a_store_may_raise_anything(kind, caplog):
    def fault():
        raise kind("redis://:password@host")

    store = Faulty(fault)
    cache = AnswerCache(store, patience=20)
    for number in range(6):
        cache.keep(f"{number}", ANSWER)
    until(lambda: not cache._guard._waiting)
    for number in range(6):
        assert cache.find(f"{number}") is None
    assert cache.errors == 3  # after which it is left alone
    with pytest.raises(GlmflashError, match=kind.__name__) as caught:
        cache.clear()
    cache.close()
    assert "password" not in caplog.text + str(caught.value)
    assert caplog.text.count(kind.__name__) == 3


def test_a_log_that_raises_as_well_leaves_nothing_behind(monkeypatch):
    def broken(record):
        raise OSError("no room for the log")

    monkeypatch.setattr(logging.getLogger("glmflash.answers.guard"), "handle", broken)
    cache = AnswerCache(Faulty(lambda: [].pop()))
    assert cache.find("a") is None
    cache.keep("a", ANSWER)
    until(lambda: cache.errors == 2 and not cache._guard._waiting_bytes)
    cache.close()


def test_a_store_that_hangs_is_waited_for_once_in_a_while():
    gate = threading.Event()
    store = Faulty(lambda: gate.wait(30))
    cache = AnswerCache(store, patience=0.2)
    began = time.monotonic()
    assert cache.find("first") is None
    time.sleep(0.2)  # the store was reached a moment after it was asked for: now it has hung for all of that
    for number in range(500):
        assert cache.find(f"{number}") is None
        cache.keep(f"{number}", ANSWER)
    assert time.monotonic() - began < 5  # one patience, and much room for a busy machine
    assert cache.errors == 1
    assert store.calls.count("get") == 1
    gate.set()
    cache.close()


def test_a_store_that_hangs_does_not_hold_closing_up_for_long(monkeypatch):
    monkeypatch.setattr(guarding, "_ENDING", 0.05)
    monkeypatch.setattr(guarding, "_CLEARING", 0.05)
    gate = threading.Event()
    cache = AnswerCache(Faulty(lambda: gate.wait(30)), patience=0.01)
    cache.keep(KEY, ANSWER)
    cache.find("cd" * 32)
    with pytest.raises(GlmflashError, match="TimeoutError"):
        cache.clear()
    began = time.monotonic()
    cache.close()
    assert time.monotonic() - began < 5
    gate.set()


def test_a_store_that_comes_back_is_used_again(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(guarding.time, "monotonic", lambda: now[0])
    breaker = Breaker(clock=lambda: now[0])
    for pause in (1, 2, 4, 8, 16, 32, 60, 60):
        while breaker._failures < 3:
            assert breaker.lets_through()
            breaker.failed()
        assert not breaker.lets_through()
        now[0] += pause - 0.01
        assert not breaker.lets_through()
        now[0] += 0.02
        assert breaker.lets_through()  # one
        assert not breaker.lets_through()
        breaker.failed()
    now[0] += 61
    assert breaker.lets_through()
    breaker.worked()
    assert all(breaker.lets_through() for _ in range(9))


def test_a_failure_now_and_then_is_none_in_a_row():
    breaker = Breaker()
    for _ in range(9):
        breaker.failed()
        breaker.failed()
        assert breaker.lets_through()
        breaker.worked()


def test_more_than_can_be_written_is_not_kept(monkeypatch):
    monkeypatch.setattr(guarding, "_MOST_WAITING", 2000)
    gate = threading.Event()
    store = Faulty(lambda: gate.wait(30))
    cache = AnswerCache(store, patience=20)
    for number in range(100):
        cache.keep(f"{number}", ANSWER)
    assert cache._guard._waiting_bytes <= 2000
    assert 0 < len(cache._guard._waiting) < 20
    gate.set()
    cache.close()
    assert 0 < len(store.kept) < 20
    assert cache._guard._waiting_bytes == 0


def test_a_store_is_called_on_threads_of_its_own():
    store = Faulty()
    with AnswerCache(store, patience=20) as cache:
        cache.keep(KEY, ANSWER)
        until(lambda: "put" in store.calls)
        cache.find(KEY)
        cache.find("cd" * 32)
        cache.clear()
    assert store.threads == {"glmflash-answers-reader-0", "glmflash-answers-writer-0"}
    assert store.calls[-1] == "close"


# Ends


def test_closing_writes_what_waits_and_ends_the_threads():
    store = Faulty(lambda: time.sleep(0.001))
    cache = AnswerCache(store, patience=20)
    for number in range(50):
        cache.keep(f"{number}", ANSWER)
    cache.find("x")
    cache.close()
    cache.close()
    assert len(store.kept) == 50
    assert not ours()
    assert cache.find("0") is None
    cache.keep("new", ANSWER)
    assert len(store.kept) == 50
    with pytest.raises(ClosedError):
        cache.clear()


@pytest.mark.parametrize("which", [0, 1])
def test_a_closed_cache_keeps_and_finds_nothing(which):
    cache = caches()[which]
    cache.keep(KEY, ANSWER)
    cache.close()
    cache.close()
    cache.keep(KEY, ANSWER)
    assert cache.find(KEY) is None
    with pytest.raises(ClosedError):
        cache.clear()


def test_a_cache_let_go_is_closed():
    store = Faulty()
    cache = AnswerCache(store, patience=20)
    cache.keep(KEY, ANSWER)
    cache.find("x")
    gone = weakref.ref(cache._guard)
    del cache
    until(lambda: (gc.collect(), gone() is None)[1])
    until(lambda: not ours())
    assert store.kept
    assert store.calls[-1] == "close"


def test_a_fork_of_the_process_finds_nothing(monkeypatch):
    cache = AnswerCache()
    cache.keep(KEY, ANSWER)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert cache.find(KEY) is None
    cache.keep("x", ANSWER)
    monkeypatch.undo()
    assert cache.find(KEY) == ANSWER
    assert cache.find("x") is None


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"store": None}, "store"), ({"store": []}, "store"), ({"store": "much"}, "max_bytes"),
        ({"store": "auto"}, "max_bytes"), ({"store": 0}, "max_bytes"), ({"store": -1}, "max_bytes"),
        ({"ttl": 0}, "ttl"), ({"ttl": float("nan")}, "ttl"), ({"ttl": float("inf")}, "ttl"),
        ({"ttl": "1"}, "ttl"), ({"ttl": True}, "ttl"), ({"patience": -1}, "patience"),
        ({"patience": 1e9}, "patience"),
    ],
)  # fmt: skip
def test_arguments_are_checked(arguments, named):
    with pytest.raises(ParameterError, match=f"^{named}: is .*; allowed: "):
        AnswerCache(**arguments)


def test_it_says_what_it_is():
    assert repr(AnswerCache("1 MB", ttl=60)) == "<AnswerCache: MemoryAnswers, 60 s, 0.0 MB>"
    assert repr(AnswerCache(Faulty())) == "<AnswerCache: Faulty, 86400 s>"


# With a pipeline


@pytest.mark.parametrize("kind", [*FAULTS, None])
def test_a_pipeline_answers_whatever_its_store_does(nano_checkpoint, kind):
    """`None` hangs."""
    gate = threading.Event()

    def fault():
        if kind is None:
            gate.wait(30)
        else:
            raise kind

    cache = AnswerCache(Faulty(fault))
    options = {"temperature": 0, "max_new_tokens": 4, "ignore_eos": True}
    with Pipeline.from_pretrained(nano_checkpoint, device="cpu", progress=False, answer_cache=cache) as pipe:
        results = [pipe("Hi", **options) for _ in range(8)]
        assert len({plain(result) for result in results}) == 1
        assert pipe.stats().answers.errors > 0
        assert pipe.stats().failed == {}
    gate.set()


def test_two_pipelines_share_a_cache(nano_checkpoint, tmp_path):
    from glmflash.testing import random_checkpoint

    other = random_checkpoint(tmp_path / "other", "nano", seed=1)
    options = {"temperature": 0, "max_new_tokens": 4, "ignore_eos": True}
    ways = [{}, {"dtype": "bfloat16"}, {"kv_dtype": "int8"}, {"quantize": "int8"}, {"quantize": "w8a8"}]
    with AnswerCache() as cache, ExitStack() as stack:

        def load(folder=nano_checkpoint, **how):
            loading = {"device": "cpu", "progress": False, "answer_cache": cache} | how
            return stack.enter_context(Pipeline.from_pretrained(folder, **loading))

        pipes = [load(**way) for way in ways] + [load(other)]
        asked = [(pipe, None) for pipe in pipes] + [(pipes[0], "a"), (pipes[0], "b")]
        for found in (False, True):
            results = [pipe("Hi", cache_salt=salt, **options) for pipe, salt in asked]
            assert [result.from_cache for result in results] == [found] * len(asked)
        again = load()  # as when the program is started anew
        assert again("Hi", **options).from_cache
        assert not again("Hi", cache_salt="c", **options).from_cache


def test_quiet_when_all_is_well(caplog):
    with caplog.at_level(logging.DEBUG), AnswerCache(Faulty(), patience=20) as cache:
        cache.keep(KEY, ANSWER)
        cache.find(KEY)
        cache.find("x")
    assert not caplog.records


def test_a_guard_is_a_store(nano_checkpoint):
    guard = Guard(Faulty(), patience=20)
    guard.put(KEY, b"value", 60)
    until(lambda: guard.nbytes)
    assert guard.get(KEY) == b"value"
    assert guard.errors == 0
    guard.close()
    data = write(ANSWER, key=KEY, made=1.0)
    assert read(data, key=KEY)[0] == ANSWER
