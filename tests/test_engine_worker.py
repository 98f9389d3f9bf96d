"""The worker's turns: who is answered when, who is too late, who is turned away, and who hears of the end."""

import asyncio
import threading
import time
from concurrent.futures import Future
from random import Random

import pytest
from engine_world import BUSY, World, ask, noise, open_world, paused, question, start, to_request, watch

from glmflash import ClosedError, DeadlineError, GlmflashError, QueueFullError
from glmflash.config import GenerationConfig
from glmflash.engine import sequence as sequences
from glmflash.engine.encoded import encode
from glmflash.engine.events import PictureDecoded, TokenGenerated


@pytest.fixture(scope="module")
def nano(nano_checkpoint) -> World:
    return open_world(nano_checkpoint, "random")


@pytest.fixture(scope="module")
def hello(nano):
    asked = question("what is the total", max_new_tokens=6, ignore_eos=True)
    (wanted,) = nano.cold([asked])
    return asked, wanted


def order(asked, **options):
    return to_request(asked, GenerationConfig(), **options)


def endless(text: str = "Hi", **options):
    return order(question(text, max_new_tokens=3000, ignore_eos=True, repetition_stop=None), **options)


def until(condition) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def settled(engine) -> None:
    until(lambda: engine._inbox.held == engine.stats().running == 0)
    assert engine.call(lambda pool, _: pool.stats().used).result(10) == 0


# Deadlines


def test_a_deadline_while_it_runs(nano, hello):
    with nano.engine() as engine:
        neighbour = start(engine, hello[0])
        began = time.perf_counter()
        with pytest.raises(DeadlineError, match=r"timeout of 0\.2 s; \d+ tokens"):
            engine.wait(engine.submit(endless(timeout=0.2)))
        assert 0.2 <= time.perf_counter() - began < BUSY
        nano.check(neighbour.answer(), hello[1])
        settled(engine)
        assert engine.stats().failed == {DeadlineError.code: 1}


def test_a_deadline_passes_within_one_step(nano, monkeypatch):
    """The step in which it passes is the last that computes for it."""
    with nano.engine() as engine:
        steps = []

        def processor(ids, logits):
            steps.append(len(ids))
            if len(ids) == 3:
                time.sleep(0.8)
            return logits

        future = engine.submit(endless(timeout=0.8, logits_processors=[processor]))
        assert isinstance(future.exception(timeout=5 * BUSY), DeadlineError)
        assert steps[-1] == 3
        settled(engine)


def test_a_deadline_in_the_queue(nano, hello):
    with nano.engine(max_batch=1) as engine:
        first = engine.submit(endless())
        began = []
        late = engine.submit(
            order(hello[0], timeout=0.05, logits_processors=[lambda _, x: began.append(1) or x])
        )
        assert isinstance(late.exception(timeout=BUSY), DeadlineError)
        assert not first.done()
        first.cancel()
        settled(engine)
        assert began == []


def test_a_deadline_before_its_picture_was_read(nano, hello, monkeypatch):
    with nano.engine() as engine:
        gate = threading.Event()
        for _ in range(engine._readers[0]._count):
            engine._readers[0].call(lambda: gate.wait(5))
        nano.check(ask(engine, hello[0]), hello[1])  # text does not stand behind pictures
        late = engine.submit(order(question("read", noise(Random(1))), timeout=0.02))
        time.sleep(0.03)
        gate.set()
        assert isinstance(late.exception(timeout=BUSY), DeadlineError)
        settled(engine)


# The queue


def test_a_full_queue_refuses(nano, hello):
    with nano.engine(max_batch=1, max_waiting=2) as engine:
        running = engine.submit(endless())
        until(lambda: engine.stats().running == 1)
        waiting = [engine.submit(order(hello[0])) for _ in range(2)]
        with pytest.raises(QueueFullError, match="2 requests are in line"):
            engine.submit(order(hello[0]))
        with pytest.raises(QueueFullError):
            engine.start(order(hello[0]))
        assert (engine.stats().rejected, engine.stats().waiting) == (2, 2)
        running.cancel()
        for one in waiting:
            assert one.result(timeout=5 * BUSY).token_ids == hello[1].ids
        nano.check(ask(engine, hello[0]), hello[1])
        settled(engine)


def test_waiting_for_a_place_in_line(nano, hello):
    with nano.engine(max_batch=1, max_waiting=1) as engine:
        first = engine.submit(endless())
        until(lambda: engine.stats().running == 1)
        engine.submit(order(hello[0]))
        threading.Timer(0.1, first.cancel).start()
        began = time.monotonic()
        last = engine.submit(order(hello[0]), wait=True)
        assert time.monotonic() - began > 0.05
        assert last.result(timeout=5 * BUSY).token_ids == hello[1].ids
        settled(engine)


def test_closing_while_somebody_waits_for_a_place(nano, hello):
    with nano.engine(max_batch=1, max_waiting=1) as engine:
        engine.submit(endless())
        until(lambda: engine.stats().running == 1)
        engine.submit(order(hello[0]))
        threading.Timer(0.05, engine.close).start()
        with pytest.raises(ClosedError):
            engine.submit(order(hello[0]), wait=True)


# Turns


def started(nano, monkeypatch, requests, *, max_batch: int = 1) -> list[int]:
    """In which order requests begin, all handed in at once."""
    seen = []
    with nano.engine(max_batch=max_batch) as engine:
        watch(monkeypatch, lambda chunks: seen.extend(chunk.sequence.request for chunk in chunks))
        with paused(engine, len(requests)):
            futures = [engine.submit(request) for request in requests]
        for future in futures:
            future.result(timeout=10)
    return [requests.index(request) for index, request in enumerate(seen) if request not in seen[:index]]


def test_equals_start_in_the_order_of_submission(nano, hello, monkeypatch):
    requests = [order(hello[0], seed=number) for number in range(5)]
    assert started(nano, monkeypatch, requests) == [0, 1, 2, 3, 4]


def test_higher_priority_starts_first(nano, hello, monkeypatch):
    requests = [order(hello[0], priority=priority, seed=n) for n, priority in enumerate((0, -5, 9, 0, 9))]
    assert started(nano, monkeypatch, requests) == [2, 4, 0, 3, 1]


def test_low_priority_is_not_starved(nano, hello, monkeypatch):
    """A stream of urgent requests that never ends: with age the other one has its turn."""
    monkeypatch.setattr(sequences, "PRIORITY_SECONDS", 0.05)
    with nano.engine(max_batch=1) as engine:
        blocker = engine.submit(endless())
        until(lambda: engine.stats().running == 1)
        low = engine.submit(order(hello[0], priority=-2))
        urgent: list[Future] = [engine.submit(order(hello[0], priority=1)) for _ in range(3)]
        blocker.cancel()
        end = time.monotonic() + 10
        while not low.done():
            assert time.monotonic() < end
            urgent = [one for one in urgent if not one.done()]
            if len(urgent) < 3:
                urgent.append(engine.submit(order(hello[0], priority=1)))
            time.sleep(0.001)
        assert urgent, "it went last"
        assert low.result().token_ids == hello[1].ids


# The end


def test_closing_loses_nobody(nano, hello):
    """Whoever runs, waits, is being prepared, or lies unread in the inbox hears of it; calls are made."""
    for _ in range(5):
        with nano.engine(max_batch=1) as engine:
            here, go = threading.Event(), threading.Event()

            def hold(ids, logits, here=here, go=go):
                here.set()
                go.wait(5)
                return logits

            futures = [engine.submit(order(hello[0], logits_processors=[hold]))]
            assert here.wait(5)
            futures += [engine.submit(order(hello[0])) for _ in range(3)]
            stream, called = engine.start(order(hello[0])), engine.call(lambda *_: 1)
            until(lambda engine=engine: len(engine._inbox._letters) == 5)
            futures += [engine.submit(order(question("read", noise(Random(1))))) for _ in range(30)]
            closing = threading.Thread(target=engine.close)
            closing.start()
            until(lambda engine=engine: engine._inbox.closed)
            go.set()
            closing.join(5)
            for future in futures:
                assert isinstance(future.exception(timeout=BUSY), ClosedError)
            with pytest.raises(ClosedError):
                list(stream)
            assert called.result(timeout=BUSY) == 1
            assert engine._inbox.held == 0


def test_closing_twice_and_using_it_afterwards(nano, hello):
    with nano.engine() as engine:
        ask(engine, hello[0])
        engine.close()
        engine.close()
        assert repr(engine) == "<Engine: closed>"
        for use in (
            lambda: engine.submit(order(hello[0])),
            lambda: engine.start(order(hello[0])),
            lambda: engine.call(lambda *_: 1),
            engine.stats,
        ):
            with pytest.raises(ClosedError):
                use()


# Who may wait


@pytest.mark.parametrize("event", [TokenGenerated, PictureDecoded])
def test_the_engines_own_threads_cannot_wait_for_it(nano, hello, event):
    """An observer that asks gets an error, on the worker's thread and on a reader's; nothing hangs."""
    errors, futures = [], []

    def observe(one):
        if not isinstance(one, event) or errors:
            return
        stream = engine.start(order(hello[0]))
        for wait in (
            lambda: engine.answer(order(hello[0])),
            lambda: engine.submit(order(hello[0]), wait=True),
            lambda: next(stream),
            lambda: stream.result,
            lambda: encode(engine, noise(Random(3))),
            lambda: engine.wait(engine.call(lambda *_: 1)),
        ):
            try:
                wait()
            except GlmflashError as error:
                errors.append(error)
        futures.append(engine.submit(order(hello[0])))
        stream.cancel()

    with nano.engine(observers=[observe]) as engine:
        asked = question("read", noise(Random(2)), max_new_tokens=2)
        assert ask(engine, asked).result.usage.completion == 2
        assert len(errors) == 6
        assert all("own threads" in str(error) for error in errors)
        assert futures[0].result(timeout=5 * BUSY).token_ids == hello[1].ids
        settled(engine)


def test_a_finished_stream_may_be_read_anywhere(nano, hello):
    shown = []

    def processor(ids, logits):
        shown.append("".join(delta.text for delta in stream))
        return logits

    with nano.engine() as engine:
        stream = engine.start(order(hello[0]))
        stream._sequence.future.result(timeout=5 * BUSY)
        until(lambda: not stream._pieces.empty())
        engine.answer(order(hello[0], max_new_tokens=1, logits_processors=[processor]))
        assert shown == [hello[1].result.text]


# Event loops


def test_a_loop_that_is_closed_early_ends_its_requests(nano):
    held = []

    async def begin(engine):
        held.append(engine.start_async(endless()))
        async for _ in held[0]:
            break

    with nano.engine() as engine:
        asyncio.run(begin(engine))
        until(lambda: engine.stats().running == 0)
        assert held[0]._sequence.future.cancelled()
        settled(engine)
        assert engine.stats().failed == {"cancelled": 1}


def test_two_tasks_may_read_one_stream(nano, hello):
    async def main(engine):
        stream = engine.start_async(order(hello[0]))
        results = await asyncio.wait_for(asyncio.gather(stream.result(), stream.result()), 10)
        return [result.token_ids for result in results]

    with nano.engine() as engine:
        assert asyncio.run(main(engine)) == [hello[1].ids] * 2


def test_an_interrupt_between_a_place_and_a_reader_gives_the_place_back(nano, hello, monkeypatch):
    def interrupt(function, **_):
        raise KeyboardInterrupt

    with nano.engine(max_waiting=1) as engine:
        with monkeypatch.context() as patch:
            for readers in engine._readers:
                patch.setattr(readers, "call", interrupt)
            with pytest.raises(KeyboardInterrupt):
                engine.submit(order(hello[0]))
        assert engine._inbox.held == 0
        nano.check(ask(engine, hello[0]), hello[1])
