"""Many threads and event loops on one pipeline: as if each were alone."""

import asyncio
import gc
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from engine_world import World, open_world, question, to_request

from glmflash import ImageError
from glmflash.engine.engine import Engine

THREADS = 16


@pytest.fixture(scope="module")
def nano(nano_checkpoint) -> World:
    return open_world(nano_checkpoint, "random")


@pytest.fixture(scope="module")
def several(nano):
    """Greedy and seeded ones, with and without pictures, and what each is answered alone."""
    questions = [one.but(max_new_tokens=1 + n % 3) for n, one in enumerate(nano.questions("threads", 24))]
    return list(zip(questions, nano.cold(questions), strict=True))


@pytest.fixture
def engine(nano):
    with nano.engine(blocks=600) as engine:
        yield engine


def order(engine, asked):
    return to_request(asked, engine.generation)


def settled(engine) -> None:
    end = time.monotonic() + 10
    while engine._inbox.held or engine.stats().running:
        assert time.monotonic() < end
        time.sleep(0.001)
    assert engine.call(lambda pool, _: pool.stats().used).result(10) == 0


def ask_somehow(engine: Engine, several, rng: Random) -> str:
    """Ask one of the questions in one of the ways; returns which."""
    asked, wanted = rng.choice(several)
    way = rng.choices(["wait", "future", "stream", "early", "cancel", "hostile"], [4, 2, 2, 1, 1, 1])[0]
    request = order(engine, asked)
    if way == "wait":
        assert engine.answer(request).token_ids == wanted.ids
    elif way == "future":
        assert engine.submit(request).result(timeout=60).token_ids == wanted.ids
    elif way == "stream":
        stream = engine.start(request)
        text = "".join(delta.text for delta in stream if delta.channel == "answer")
        assert (text, stream.result.token_ids) == (wanted.result.text, wanted.ids)
    elif way == "early":
        with engine.start(request) as stream:
            for _ in stream:
                break
        assert stream.result.token_ids == wanted.ids[: len(stream.result.token_ids)]
    elif way == "cancel":
        future = engine.submit(request)
        time.sleep(rng.random() * 0.02)
        if not future.cancel():
            assert future.result().token_ids == wanted.ids
    else:
        with pytest.raises(ImageError):
            engine.answer(order(engine, question("read", b"\x89PNG\r\n\x1a\n" + rng.randbytes(40))))
    return way


@pytest.mark.slow
@pytest.mark.parametrize("each", [50, pytest.param(200, marks=pytest.mark.soak)])
def test_many_threads_are_answered_as_if_alone(engine, several, each):
    def run(number: int) -> Counter:
        rng = Random(number)
        return Counter(ask_somehow(engine, several, rng) for _ in range(each))

    with ThreadPoolExecutor(THREADS) as pool:
        ways = sum(pool.map(run, range(THREADS)), Counter())
    assert sum(ways.values()) == THREADS * each
    assert len(ways) == 6
    settled(engine)
    assert engine.stats().failed[ImageError.code] == ways["hostile"]


# Event loops


async def read(engine: Engine, asked) -> tuple:
    stream = engine.start_async(order(engine, asked))
    text = "".join([delta.text async for delta in stream if delta.channel == "answer"])
    result = await stream.result()
    return text, result.token_ids


def test_many_streams_in_one_loop(engine, several):
    async def main():
        return await asyncio.gather(*(read(engine, asked) for asked, _ in several))

    for (text, ids), (_, wanted) in zip(asyncio.run(main()), several, strict=True):
        assert (text, ids) == (wanted.result.text, wanted.ids)
    settled(engine)


def test_the_loop_stays_free_while_answers_come(engine, several):
    async def main():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.001)
                ticks += 1

        ticking = asyncio.create_task(tick())
        asked = several[0][0].but(max_new_tokens=100, repetition_stop=None)
        await read(engine, asked)
        ticking.cancel()
        return ticks

    assert asyncio.run(main()) > 10


def test_some_tasks_are_cancelled(engine, several):
    async def main():
        tasks = [asyncio.create_task(read(engine, asked)) for asked, _ in several]
        await asyncio.sleep(0.02)
        for task in tasks[::3]:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    for number, (outcome, (_, wanted)) in enumerate(zip(asyncio.run(main()), several, strict=True)):
        if isinstance(outcome, asyncio.CancelledError):
            assert number % 3 == 0
        else:
            assert outcome == (wanted.result.text, wanted.ids)
    gc.collect()
    settled(engine)


def test_futures_in_a_loop(engine, several):
    async def main():
        futures = [asyncio.wrap_future(engine.submit(order(engine, asked))) for asked, _ in several]
        futures[0].cancel()
        return await asyncio.gather(*futures, return_exceptions=True)

    first, *others = asyncio.run(main())
    assert isinstance(first, asyncio.CancelledError)
    for result, (_, wanted) in zip(others, several[1:], strict=True):
        assert result.token_ids == wanted.ids
    settled(engine)


def test_loops_in_several_threads(engine, several):
    def run(part):
        async def main():
            return await asyncio.gather(*(read(engine, asked) for asked, _ in part))

        return asyncio.run(main())

    parts = [several[start::4] for start in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for part, outcomes in zip(parts, pool.map(run, parts), strict=True):
            assert [ids for _, ids in outcomes] == [wanted.ids for _, wanted in part]
    settled(engine)
