"""Cancelling, at every point and in every way: neighbours answer as alone, and nothing stays held."""

import asyncio
import gc
import threading
import time
from random import Random

import pytest
from engine_world import World, ask, noise, open_world, paused, question, start, to_request, watch

from glmflash import Pipeline
from glmflash.config import GenerationConfig
from glmflash.engine import runner

TOKENS = 32


@pytest.fixture(scope="module")
def nano(nano_checkpoint) -> World:
    return open_world(nano_checkpoint, "random")


@pytest.fixture(scope="module")
def four(nano):
    """Three neighbours and a victim, with their answers alone: greedy, seeded, about a picture."""
    questions = [
        question("what is the total", max_new_tokens=TOKENS, ignore_eos=True, logprobs=1),
        question("which box", max_new_tokens=TOKENS, ignore_eos=True, temperature=1.1, seed=3),
        question("read it", noise(Random(1)), max_new_tokens=TOKENS, ignore_eos=True),
        question("the price of milk", noise(Random(2)), max_new_tokens=TOKENS, ignore_eos=True),
    ]
    return list(zip(questions, nano.cold(questions), strict=True))


def order(asked, **options):
    return to_request(asked, GenerationConfig(), **options)


def settled(engine) -> None:
    """One step after the last request ended nothing is held, and nothing stands in line."""
    for _ in range(2):  # a call runs between two steps; what was cancelled is dropped in the second at latest
        stats = engine.call(lambda pool, _: pool.stats()).result(10)
    assert (stats.used, stats.free + stats.cached) == (0, stats.num_blocks)
    assert (engine._inbox.held, engine.stats().running, engine.stats().waiting) == (0, 0, 0)


def cancelling(asked, act, *, at: int):
    """The request of a question, whose own processor acts once it has so many tokens."""

    def processor(ids, logits):
        if len(ids) == at:
            act()
        return logits

    return order(asked, logits_processors=[processor])


def outlive(nano, others) -> None:
    for asked, wanted in others:
        nano.check(asked.answer(), wanted)
        assert asked.future.result().logprobs is None or len(wanted.result.logprobs) == TOKENS


@pytest.mark.slow
@pytest.mark.parametrize(("way", "step"), [("submit", 1), ("start", 5)])
def test_at_every_token_of_a_batch_of_four(nano, four, monkeypatch, way, step):
    *neighbours, (victim, alone) = four
    handles, packs = [], []
    watch(monkeypatch, lambda chunks: packs.append([chunk.sequence.request for chunk in chunks]))
    with nano.engine(max_batch=4) as engine:
        for at in range(0, TOKENS - 1, step):
            handles.clear()
            packs.clear()
            with paused(engine, 4):
                others = [(start(engine, asked), wanted) for asked, wanted in neighbours]
                request = cancelling(victim, lambda: handles[0].cancel(), at=at)
                handles.append(getattr(engine, way)(request))
            outlive(nano, others)
            settled(engine)
            assert sum(request in pack for pack in packs) <= at + 1, "computed for nobody"
            if way == "submit":
                assert handles[0].cancelled()
            else:  # the token after which it was cancelled is the last one
                assert handles[0].result.finish_reason == "cancelled"
                assert handles[0].result.token_ids == alone.ids[: at + 1]


@pytest.mark.slow
def test_in_every_chunk_of_a_prefill(nano, four, monkeypatch):
    (first, wanted), *_ = four
    long = question("which of the boxes " * 30, noise(Random(3), largest=4), max_new_tokens=2)
    with nano.engine(max_batch=2, max_step_tokens=16) as engine:
        for at in range(100):
            chunks, futures = [], []

            def look(pack, at=at, chunks=chunks, futures=futures):
                mine = [chunk for chunk in pack if futures and chunk.sequence.future is futures[0]]
                if mine and len(chunks) == at:
                    futures[0].cancel()
                chunks.extend(mine)

            with monkeypatch.context() as patch:
                watch(patch, look)
                with paused(engine, 2):
                    neighbour = start(engine, first)
                    request = order(long.but(cache_salt=f"round {at}"))
                    futures.append(engine.submit(request))
                nano.check(neighbour.answer(), wanted)
            settled(engine)
            if not futures[0].cancelled():
                break
            assert len(chunks) == at + 1, "a forward computed what nobody wanted any more"
        assert at > 8
        assert futures[0].result().usage.completion == 2


def test_in_the_queue(nano, four):
    (first, wanted), (second, _), *_ = four
    with nano.engine(max_batch=1) as engine:
        with paused(engine, 3):
            running, waiting, last = start(engine, first), start(engine, second), start(engine, first)
        assert waiting.future.cancel()
        nano.check(running.answer(), wanted)
        nano.check(last.answer(), wanted)
        assert waiting.rows == []
        settled(engine)


def test_while_its_picture_is_read(nano, four, tmp_path):
    (first, wanted), *_ = four
    here, go = threading.Event(), threading.Event()

    class Slow:
        def read(self, size=-1):
            here.set()
            assert go.wait(10)
            return b""

    with nano.engine() as engine:
        future = engine.submit(order(question("read it", Slow())))
        assert here.wait(10)
        assert future.cancel()
        assert engine._inbox.held == 1  # its reader has it
        nano.check(ask(engine, first), wanted)
        go.set()
        while engine._inbox.held:
            time.sleep(0.001)
        settled(engine)
        assert engine.stats().failed == {"cancelled": 1}


@pytest.mark.parametrize("picture", [0, 1])
def test_in_vision(nano, four, monkeypatch, picture):
    (first, wanted), *_ = four
    asked = question("read it", [noise(Random(8)), noise(Random(9))], max_new_tokens=3)
    encode, encoded = runner.encode_picture, []

    def encode_and_cancel(*args, **kwargs):
        encoded.append(1)
        if len(encoded) == picture + 1:
            future.cancel()
        return encode(*args, **kwargs)

    monkeypatch.setattr(runner, "encode_picture", encode_and_cancel)
    with nano.engine() as engine:
        with paused(engine, 2):
            future, neighbour = engine.submit(order(asked)), start(engine, first)
        nano.check(neighbour.answer(), wanted)
        settled(engine)
        assert len(encoded) == picture + 1
        assert ask(engine, asked).result.usage.completion == 3


def test_leaving_a_with_block_and_dropping_a_stream(nano, four):
    *neighbours, (victim, alone) = four
    endless = order(victim.but(max_new_tokens=3000, repetition_stop=None))
    with nano.engine(max_batch=5) as engine:
        with paused(engine, 5):
            others = [(start(engine, asked), wanted) for asked, wanted in neighbours]
            left, dropped = engine.start(endless), engine.start(endless)
        with left as stream:
            next(stream)
        next(dropped)
        future = dropped._sequence.future
        del dropped
        gc.collect()
        result = future.result(timeout=5)
        outlive(nano, others)
        for one in (left.result, result):
            assert one.finish_reason == "cancelled"
            common = min(len(one.token_ids), len(alone.ids))
            assert one.token_ids[:common] == alone.ids[:common]
        settled(engine)


def test_a_task_over_an_astream(nano, four):
    *neighbours, (victim, _) = four

    async def read(engine, begun, seen):
        request = order(victim.but(max_new_tokens=3000, repetition_stop=None))
        async for delta in engine.start_async(request):
            seen.append(delta)
            begun.set()

    async def main(engine):
        begun, seen = asyncio.Event(), []
        with paused(engine, 4):
            others = [(start(engine, asked), wanted) for asked, wanted in neighbours]
            task = asyncio.create_task(read(engine, begun, seen))
            await asyncio.sleep(0)
        await asyncio.wait_for(begun.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return others

    with nano.engine(max_batch=4) as engine:
        outlive(nano, asyncio.run(main(engine)))
        while engine.stats().running:
            gc.collect()
        settled(engine)
        assert engine.stats().finished["cancelled"] == 1


def test_cancelling_what_has_ended_changes_nothing(nano, four):
    (first, wanted), *_ = four
    with nano.engine() as engine:
        asked = start(engine, first)
        nano.check(asked.answer(), wanted)
        assert not asked.future.cancel()
        stream = engine.start(order(first.but(max_new_tokens=2)))
        assert stream.result.finish_reason == "length"
        stream.cancel()
        assert stream.result.finish_reason == "length"
        settled(engine)


def test_cancelled_futures_wake_those_who_wait_for_several(nano, four):
    """`concurrent.futures.wait` hears of a cancelled future only once the engine has let go of it."""
    from concurrent.futures import wait

    (first, _), *_ = four
    with nano.engine(max_batch=1) as engine:
        with paused(engine, 2):
            futures = [engine.submit(order(first)) for _ in range(2)]
        futures[1].cancel()
        done, rest = wait(futures, timeout=10)
        assert (len(done), len(rest)) == (2, 0)


def test_cancelling_a_prefill_of_a_picture(nano, nano_checkpoint):
    with Pipeline.from_pretrained(nano_checkpoint, device="cpu", progress=False) as pipe:
        engine, picture = pipe.engine, noise(Random(5))
        with paused(engine, 1):
            future = engine.prefill(order(question("", picture)), then=lambda prefix: 1)
        future.cancel()
        settled(engine)
        assert pipe.encode(picture).num_tokens > 0
        settled(engine)
