"""One of several same requests is computed, the others wait; whatever becomes of it, they are not harmed."""

import asyncio
import dataclasses
import logging
import threading
import time
from concurrent.futures import CancelledError
from random import Random

import numpy as np
import pytest
from answers_world import Told, plain, until, waiting
from engine_world import World, forget, noise, open_world, paused, question, to_request

from glmflash import ClosedError, DeadlineError, MessageError, ParameterError, Settings
from glmflash.engine.events import AnswerReused, Prefill, RequestFinished, TokenGenerated, VisionDone
from glmflash.engine.recorded import AnswerStats, Recorded
from glmflash.engine.sampler import Sampled

PICTURE = noise(Random(5))
SHORT = question("what is the total", PICTURE, max_new_tokens=6, ignore_eos=True)
ENDLESS = question("which box", max_new_tokens=3000, ignore_eos=True, repetition_stop=None)
FAULTS = [OSError, ValueError, KeyboardInterrupt, SystemExit, MemoryError, GeneratorExit, RecursionError]


@pytest.fixture(scope="module")
def nano(nano_checkpoint) -> World:
    return open_world(nano_checkpoint, "random")


@pytest.fixture(scope="module")
def wanted(nano):
    """The answer without a cache, and its deltas."""
    with nano.engine() as engine:
        stream = engine.start(to_request(SHORT, engine.generation))
        return list(stream), plain(stream.result)


@pytest.fixture
def engine(nano):
    with nano.engine(answers=Told()) as engine:
        yield engine


def order(engine, asked=SHORT, **options):
    return to_request(asked, engine.generation, **options)


def followed(engine, count, leader=None, **options):
    """Futures of same requests, the first under way or as given, while the worker is held."""
    until(lambda: not engine._recall._flights)  # else it would be told what an earlier one got
    first = leader() if leader is not None else engine.submit(order(engine))
    until(lambda: len(engine._inbox._letters) == 1)
    rest = [engine.submit(order(engine, **options)) for _ in range(count)]
    until(lambda: waiting(engine) == count)
    return first, rest


def nothing_left(engine) -> None:
    until(lambda: not engine._recall._flights)
    until(lambda: engine._inbox.held == 0)
    stats = engine.call(lambda pool, _: pool.stats()).result(10)
    assert (stats.used, engine.stats().running, engine.stats().waiting) == (0, 0, 0)


def test_a_hit_touches_neither_model_nor_kv_nor_vision_tower(nano, wanted):
    events = []
    with nano.engine(answers=Told(), observers=[events.append]) as engine:
        assert plain(engine.answer(order(engine))) == wanted[1]
        until(lambda: engine._recall._answers.kept)
        forget(engine)
        events.clear()
        before = engine.stats()
        result = engine.answer(order(engine))
        after = engine.stats()
    assert plain(result) == wanted[1]
    assert result.from_cache
    assert result.usage.cached == result.usage.saved_prefill == result.usage.prompt > 0
    assert result.timings.tokens_per_second == result.timings.prefill == result.timings.vision == 0
    assert not [one for one in events if isinstance(one, (VisionDone, Prefill, TokenGenerated))]
    (reused,) = [one for one in events if isinstance(one, AnswerReused)]
    assert (reused.shared, reused.tokens) == (False, 6)
    assert isinstance(events[-1], RequestFinished)
    assert events[-1].finish_reason == "length"
    assert after.pool == before.pool
    assert after.vision == before.vision
    assert after.phases["total"].count == before.phases["total"].count + 1
    assert after.phases["prefill"] == before.phases["prefill"]
    assert after.answers == AnswerStats(hits=1, misses=1, bytes=None)


def test_a_stream_of_a_hit_gives_the_same_deltas(engine, wanted):
    for _ in range(3):
        stream = engine.start(order(engine))
        assert list(stream) == wanted[0]
        assert plain(stream.result) == wanted[1]
    assert stream.result.from_cache


def test_coroutines_get_them_too(engine, wanted):
    async def ask():
        stream = engine.start_async(order(engine))
        return [delta async for delta in stream], plain(await stream.result())

    engine.answer(order(engine))
    assert asyncio.run(ask()) == wanted


def test_the_same_at_once_is_computed_once(engine, wanted):
    with paused(engine):
        first, rest = followed(engine, 7)
        streams = [engine.start(order(engine)) for _ in range(2)]
        until(lambda: waiting(engine) == 9)
        assert len(engine._inbox._letters) == 1
    assert plain(first.result(20)) == wanted[1]
    assert not first.result().from_cache
    for future in rest:
        assert plain(future.result(20)) == wanted[1]
        assert future.result().from_cache
    for stream in streams:
        assert list(stream) == wanted[0]
    assert engine.stats().answers == AnswerStats(shared=9, misses=1)
    nothing_left(engine)


@pytest.mark.parametrize("end", ["cancel", "stop", "timeout", "receiver", "interrupt"])
def test_when_the_first_comes_to_nothing_the_next_goes_ahead(engine, wanted, end):
    def leader():
        match end:
            case "timeout":
                return engine.submit(order(engine, timeout=0.15))
            case "receiver" | "interrupt":
                kind = ZeroDivisionError if end == "receiver" else KeyboardInterrupt

                def receive(deltas):
                    raise kind

                return engine.submit(order(engine), on_deltas=receive)
            case "stop":
                return engine.start(order(engine))
        return engine.submit(order(engine))

    with paused(engine):
        first, rest = followed(engine, 4, leader)
        if end in ("cancel", "stop"):
            first.cancel()
        time.sleep(0.2 if end == "timeout" else 0)
    for future in rest:
        assert plain(future.result(20)) == wanted[1]
    assert sorted(future.result().from_cache for future in rest) == [False, True, True, True]
    match end:
        case "stop":
            assert first.result.finish_reason == "cancelled"
        case "cancel":
            assert first.cancelled()
        case _:
            errors = {"timeout": DeadlineError, "receiver": ZeroDivisionError, "interrupt": KeyboardInterrupt}
            assert isinstance(first.exception(20), errors[end])
    assert engine.stats().answers == AnswerStats(shared=3, misses=2)
    nothing_left(engine)


def test_who_waits_can_be_cancelled_or_late_while_the_first_goes_on(engine):
    first = engine.start(order(engine, ENDLESS))
    until(lambda: engine.stats().running == 1)
    late = engine.submit(order(engine, ENDLESS, timeout=0.2))
    gone = engine.submit(order(engine, ENDLESS))
    stream = engine.start(order(engine, ENDLESS))
    last = engine.start(order(engine, ENDLESS))
    until(lambda: waiting(engine) == 4)
    assert gone.cancel()
    with pytest.raises(CancelledError):
        gone.result()
    stream.cancel()
    assert (stream.result.finish_reason, stream.result.token_ids) == ("cancelled", ())
    with pytest.raises(DeadlineError):
        late.result(20)
    until(lambda: waiting(engine) == 1)
    assert not first._sequence.future.done()
    first.cancel()
    assert first.result.finish_reason == "cancelled"
    assert next(last).text  # it goes on from here, alone
    last.cancel()
    assert last.result.token_ids
    nothing_left(engine)


def test_leaving_every_stream_leaves_nothing_behind(engine):
    streams = [engine.start(order(engine, ENDLESS)) for _ in range(5)]
    until(lambda: waiting(engine) == 4)
    del streams
    nothing_left(engine)


def test_closing_tells_everybody(nano):
    with nano.engine(answers=Told()) as engine:
        futures = [engine.submit(order(engine, ENDLESS)) for _ in range(6)]
        until(lambda: waiting(engine) == 5)
    for future in futures:
        assert isinstance(future.exception(10), ClosedError)


def test_a_dying_worker_tells_everybody(nano):
    with nano.engine(answers=Told()) as engine:
        futures = [engine.submit(order(engine, ENDLESS)) for _ in range(4)]
        until(lambda: waiting(engine) == 3)

        def die():
            raise SystemExit

        engine._inbox.put(die)
        for future in futures:
            assert future.exception(10) is not None


def test_only_what_can_be_repeated_is_kept(engine, monkeypatch):
    """A draw without a seed is a draw each time, and a function may do anything."""
    for options in ({"temperature": 1.0}, {"logits_processors": [lambda ids, logits: logits]}):
        results = [engine.answer(order(engine, **options)) for _ in range(2)]
        assert not any(result.from_cache for result in results)
    stats = engine.stats().answers
    assert (stats.skipped, stats.misses, stats.hits) == (4, 0, 0)
    results = [engine.answer(order(engine, temperature=1.0, seed=4)) for _ in range(2)]
    assert [result.from_cache for result in results] == [False, True]


def test_a_tool_that_holds_who_knows_what_is_no_request(engine):
    tool = {"type": "function", "function": {"name": "pay", "parameters": {}}, "mine": {"a", "b"}}
    with pytest.raises(MessageError, match="tools"):
        dataclasses.replace(order(engine), tools=(tool,), tool_choice="none")


def test_an_answer_cut_for_want_of_memory_is_not_kept(engine, wanted):
    with paused(engine):
        first, rest = followed(engine, 1)
        ((sequence),) = engine._inbox._letters
        sequence.answer.finish("length")
    assert first.result(20).finish_reason == "length"
    assert plain(rest[0].result(20)) == wanted[1]
    until(lambda: engine._recall._answers.kept)
    (kept,) = engine._recall._answers.kept.values()
    assert len(kept.tokens) == 6


@pytest.mark.parametrize("kind", FAULTS)
def test_a_cache_that_raises_costs_hits_only(nano, wanted, kind):
    def fault():
        raise kind("secret")

    answers = Told(fault)
    with nano.engine(answers=answers) as engine:
        for _ in range(2):
            assert plain(engine.answer(order(engine))) == wanted[1]
        with paused(engine):
            _, rest = followed(engine, 3)
        assert all(plain(future.result(20)) == wanted[1] for future in rest)
        nothing_left(engine)
        assert engine.stats().answers.errors >= 4
        answers.fault = lambda: None
        assert [engine.answer(order(engine)).from_cache for _ in range(2)] == [False, True]


def test_a_log_that_raises_as_well_costs_hits_only(nano, wanted, monkeypatch):
    def broken(record):
        raise OSError("no room for the log")

    monkeypatch.setattr(logging.getLogger("glmflash.engine.recall"), "handle", broken)
    with nano.engine(answers=Told(lambda: [].pop())) as engine:
        with paused(engine):
            first, rest = followed(engine, 2)
        assert all(plain(future.result(20)) == wanted[1] for future in [first, *rest])
        nothing_left(engine)


def test_who_waits_is_answered_even_if_no_answer_can_be_begun(nano, wanted, monkeypatch):
    def fail(*_):
        raise MemoryError

    with nano.engine(answers=Told()) as engine:
        with paused(engine):
            first, rest = followed(engine, 2)
            monkeypatch.setattr("glmflash.engine.answer.Answer.anew", fail)
        assert all(plain(future.result(20)) == wanted[1] for future in [first, *rest])
        nothing_left(engine)


@pytest.mark.parametrize(
    "garbage",
    [
        b"bytes", 7, "stop", (), object(),
        Recorded((), "stop"),
        Recorded((Sampled(3),), "stop"),
        Recorded((Sampled(3),) * 7, "length"),
        Recorded((Sampled(3),) * 5, "length"),
        Recorded((Sampled(-5),) * 6, "stop"),
        Recorded((Sampled(10**12),) * 6, "repetition"),
        Recorded(("no token",) * 6, "length"),
    ],
)  # fmt: skip
def test_a_cache_that_tells_nonsense_costs_hits_only(nano, wanted, garbage):
    answers = Told()
    with nano.engine(answers=answers) as engine:
        engine.answer(order(engine))
        until(lambda: answers.kept)
        (key,) = answers.kept
        answers.kept[key] = garbage
        result = engine.answer(order(engine))
        assert plain(result) == wanted[1]
        assert not result.from_cache
        assert engine.stats().answers.errors == 1


def test_a_picture_that_fails_fails_alone(engine):
    bad = question("what", np.zeros((0, 0, 3), np.uint8))
    futures = [engine.submit(order(engine, bad)) for _ in range(3)]
    assert len({str(future.exception(10)) for future in futures}) == 1
    nothing_left(engine)


def test_no_worker_thread_asks_the_cache(nano):
    threads = set()
    with nano.engine(answers=Told(lambda: threads.add(threading.current_thread().name))) as engine:
        for _ in range(2):
            engine.answer(order(engine))
        until(lambda: engine._recall._answers.kept)
    assert threads
    assert not [name for name in threads if "worker" in name]


def test_an_encoded_picture_finds_what_its_pixels_left(engine, wanted):
    engine.answer(order(engine))
    from glmflash.engine.encoded import encode

    asked = question("what is the total", encode(engine, PICTURE), max_new_tokens=6, ignore_eos=True)
    result = engine.answer(order(engine, asked))
    assert plain(result) == wanted[1]
    assert result.from_cache


def test_many_threads_with_few_questions(engine, nano):
    questions = nano.questions("recall", 4)
    with nano.engine() as bare:
        known = [plain(bare.answer(order(bare, asked))) for asked in questions]
    rng, failures = Random(8), []

    def ask(picks):
        for pick in picks:
            result = plain(engine.answer(order(engine, questions[pick])))
            failures.extend([] if result == known[pick] else [pick])

    threads = [threading.Thread(target=ask, args=(rng.choices(range(4), k=10),)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    stats = engine.stats().answers
    assert not failures
    assert (stats.misses, stats.hits + stats.shared, stats.errors) == (4, 56, 0)
    nothing_left(engine)


def test_settings_take_only_what_keeps_answers():
    with pytest.raises(ParameterError, match="answer_cache: is a str"):
        Settings(answers="64 MiB")


def test_stats_show_it(engine):
    for _ in range(3):
        engine.answer(order(engine))
    stats = engine.stats()
    assert "answers     2 hits, 0 shared, 1 misses (67%)" in str(stats)
    assert "2 hits, 0 shared, 1 misses (67%)" in stats._repr_html_()
    assert stats.answers.hit_ratio == pytest.approx(2 / 3)
