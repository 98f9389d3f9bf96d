"""Threats E1 to E5, one by one: whoever fails, is cancelled or is in want, fails alone."""

import asyncio
import gc
import logging
import threading
import weakref
from random import Random

import pytest
import torch
from engine_world import Question, ask, forget, noise, open_world, paused, question, start, to_request
from engine_world import together as at_once
from test_engine_faults import FAULTS, PanicException, settled
from torch.utils._python_dispatch import TorchDispatchMode

from glmflash import CapacityError, EngineDeadError
from glmflash.engine import runner
from glmflash.engine.delivery import Delivery

LONG = {"max_new_tokens": 12, "ignore_eos": True}
ENDLESS = {"max_new_tokens": 3000, "ignore_eos": True, "repetition_stop": None}
PATIENCE = 30  # seconds until a test is sure that nobody will come; no promise is so long


@pytest.fixture(scope="module")
def nano(nano_checkpoint):
    return open_world(nano_checkpoint, "random")


@pytest.fixture(scope="module")
def neighbours(nano):
    """Greedy, seeded, and about a picture, with their answers alone."""
    questions = [
        question("what is the total", **LONG),
        question("which box", temperature=1.1, seed=3, **LONG),
        question("read it", noise(Random(1)), **LONG),
    ]
    return list(zip(questions, nano.cold(questions), strict=True))


@pytest.fixture
def engine(nano):
    with nano.engine(blocks=256, max_batch=4, max_step_tokens=64) as engine:
        yield engine


def outlive(nano, others) -> None:
    for asked, wanted in others:
        nano.check(asked.answer(), wanted)


# E1: abort


def beside(nano, monkeypatch, victim: Question, others, *, at: int | None):
    """Answers beside one that is cancelled after so many tokens, or that ends by itself."""
    handles = []

    def processor(ids, logits):
        if len(ids) + 1 == at:
            handles[0].cancel()
        return logits

    with nano.engine(max_batch=4) as engine:
        with paused(engine, 4):
            asked = [start(engine, one) for one, _ in others]
            handles.append(
                engine.submit(to_request(victim, engine.generation, logits_processors=[processor]))
            )
        answers = [one.answer() for one in asked]
        settled(engine)
    assert handles[0].cancelled() == (at is not None)
    return answers


@pytest.mark.parametrize("at", [1, 7])
def test_e1_abort_neighbours_are_bit_equal_to_those_of_one_that_ended(nano, neighbours, monkeypatch, at):
    victim = question("the price of milk", ignore_eos=True, max_new_tokens=40)
    cancelled = beside(nano, monkeypatch, victim, neighbours, at=at)
    ended = beside(nano, monkeypatch, victim.but(max_new_tokens=at), neighbours, at=None)
    for got, wanted in zip(cancelled, ended, strict=True):
        assert got.ids == wanted.ids
        assert torch.equal(got.logits, wanted.logits)


def test_e1_abort_a_stream_nobody_reads_holds_nothing_and_costs_no_step(nano, neighbours, monkeypatch):
    """Read slowly it takes its turns beside the others; let go of, it takes none."""
    packs = []
    forward = runner.forward

    def watched(model, store, chunks, **named):
        packs.append({chunk.sequence.number for chunk in chunks})
        return forward(model, store, chunks, **named)

    monkeypatch.setattr(runner, "forward", watched)
    with nano.engine(max_batch=5) as engine:
        with paused(engine, 5):
            slow = engine.start(to_request(question("slow", **LONG), engine.generation))
            lost = engine.start(to_request(question("lost", **ENDLESS), engine.generation))
            number = lost._sequence.number
            others = [(start(engine, asked), wanted) for asked, wanted in neighbours]
        next(lost)
        del lost
        gc.collect()
        dropped = len(packs)
        outlive(nano, others)
        assert len(list(slow)) > 0
        ask(engine, neighbours[0][0])
        assert not any(number in pack for pack in packs[dropped + 2 :])
        settled(engine)


# E2, E4: whatever is raised, wherever


class OddError(BaseException):
    """What cannot even be shown."""

    def __str__(self) -> str:
        raise PanicException

    __repr__ = __str__


ALL_FAULTS = (*FAULTS, GeneratorExit, StopIteration, asyncio.CancelledError, OddError)


class Picture:
    """One whose bytes cannot be had."""

    def __init__(self, fault: BaseException) -> None:
        self.fault = fault

    def read(self, size=-1):
        raise self.fault


def in_forward(engine, fault, patch):
    forward, hit = runner.forward, []

    def failing(model, store, chunks, **named):
        if any(chunk.sequence.future is hit[0] for chunk in chunks):
            raise fault
        return forward(model, store, chunks, **named)

    patch.setattr(runner, "forward", failing)
    hit.append(engine.submit(to_request(question("Hi", **LONG), engine.generation)))
    return hit[0]


def raising(fault):
    def fail(*_, **__):
        raise fault

    return fail


def in_processor(engine, fault, _):
    return engine.submit(
        to_request(question("Hi", **LONG), engine.generation, logits_processors=[raising(fault)])
    )


def in_reader(engine, fault, _):
    return engine.submit(to_request(question("Hi", Picture(fault), **LONG), engine.generation))


def in_on_deltas(engine, fault, _):
    return engine.submit(to_request(question("Hi", **LONG), engine.generation), on_deltas=raising(fault))


def in_prefix(engine, fault, _):
    return engine.prefill(to_request(question("Hi"), engine.generation), then=raising(fault), part="prompt")


def in_call(engine, fault, _):
    return engine.call(raising(fault))


def in_observer(engine, fault, _):
    engine.observe(raising(fault))
    return engine.submit(to_request(question("Hi", **LONG), engine.generation))


def in_callback(engine, fault, _):
    future = engine.submit(to_request(question("Hi", **LONG), engine.generation))
    future.add_done_callback(raising(fault))
    return future


WATCHERS = (in_observer, in_callback)  # they can do no harm at all
SOURCES = (in_forward, in_processor, in_reader, in_on_deltas, in_prefix, in_call, *WATCHERS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALL_FAULTS)
def test_e2_interrupt_whatever_is_raised_wherever_neighbours_finish(nano, neighbours, engine, kind, caplog):
    caplog.set_level(logging.CRITICAL + 1)
    for source in SOURCES:
        fault = kind()
        with pytest.MonkeyPatch.context() as patch:
            with paused(engine):
                others = [(start(engine, asked), wanted) for asked, wanted in neighbours[1:]]
                victim = source(engine, fault, patch)
            error = victim.exception(timeout=PATIENCE)
            outlive(nano, others)
        if source in WATCHERS:
            assert error is None
        elif source is in_reader:  # its words are our own
            assert error is not None
        else:
            assert error is fault or (kind is MemoryError and isinstance(error, CapacityError))
        settled(engine)
    nano.check(ask(engine, neighbours[0][0]), neighbours[0][1])


@pytest.mark.parametrize("kind", ALL_FAULTS)
def test_e2_interrupt_of_a_consumer_cancels_what_it_read(nano, neighbours, engine, kind):
    with paused(engine):
        others = [(start(engine, asked), wanted) for asked, wanted in neighbours]

    def consume(stream):
        with stream:
            next(stream)
            raise kind

    stream = engine.start(to_request(question("Hi", **ENDLESS), engine.generation))
    with pytest.raises(kind):
        consume(stream)
    assert stream.result.finish_reason == "cancelled"

    async def read():
        async with engine.start_async(to_request(question("Hi", **ENDLESS), engine.generation)) as pieces:
            async for _ in pieces:
                raise kind

    if kind not in (
        SystemExit,
        KeyboardInterrupt,
        StopIteration,
        OddError,
    ):  # which asyncio has rules of its own for
        with pytest.raises(kind):
            asyncio.run(read())
    outlive(nano, others)
    settled(engine)


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration])
def test_e2_interrupt_a_stream_that_failed_never_looks_finished(engine, kind):
    """What a processor raises may be what ends a loop: `next` of its own iterator, most likely."""
    request = to_request(question("Hi", **LONG), engine.generation, logits_processors=[raising(kind())])
    with pytest.raises(RuntimeError, match=kind.__name__):
        list(engine.start(request))

    async def read():
        return [delta async for delta in engine.start_async(request)]

    with pytest.raises(RuntimeError, match=kind.__name__):
        asyncio.run(read())
    settled(engine)


class KthOperation(TorchDispatchMode):
    """Fails the k-th operation on tensors, wherever in a forward that is."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.left, self.fault = k, FAULTS[k % len(FAULTS)](f"operation {k}")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.left -= 1
        if self.left == 0:
            raise self.fault
        return function(*args, **(kwargs or {}))


def under(patch, mode: TorchDispatchMode) -> None:
    """Have all that is computed on the engine's thread run in a mode."""
    for name in ("forward", "sample", "encode_picture"):
        function = getattr(runner, name)

        def within(*args, function=function, **kwargs):
            with mode:
                return function(*args, **kwargs)

        patch.setattr(runner, name, within)


@pytest.fixture(scope="module")
def two(nano):
    """A text and a picture, with short answers: one forward after another, each in several operations."""
    options = {"max_new_tokens": 2, "ignore_eos": True}
    questions = [question("what is the total", **options), question("read it", noise(Random(1)), **options)]
    return list(zip(questions, nano.cold(questions), strict=True))


def operations_fail(nano, engine, two, ks) -> None:
    for k in ks:
        forget(engine)
        mode = KthOperation(k)
        with pytest.MonkeyPatch.context() as patch:
            under(patch, mode)
            with paused(engine, 2):
                asked = [start(engine, one) for one, _ in two]
            failed = 0
            for one, (_, wanted) in zip(asked, two, strict=True):
                error = one.future.exception(timeout=PATIENCE)
                failed += error is not None
                assert error is None or error is mode.fault or isinstance(error, CapacityError)
                if error is None:  # what was computed anew was recorded twice, so only tokens are compared
                    assert one.future.result().token_ids == wanted.ids
        assert mode.left <= 0
        assert failed <= 1
        settled(engine)
        nano.check(ask(engine, two[0][0]), two[0][1])


def count_operations(engine, two) -> int:
    mode = KthOperation(10**9)
    with pytest.MonkeyPatch.context() as patch:
        under(patch, mode)
        at_once(engine, [one for one, _ in two])
    return 10**9 - mode.left


@pytest.mark.slow
def test_e4_memory_the_kth_operation_fails(nano, two, engine, caplog):
    """Some of the many: those of the tower and the first forwards, and others along the way."""
    total = count_operations(engine, two)
    ks = {1, total, *Random(1).sample(range(1, total), 10)}
    operations_fail(nano, engine, two, sorted(ks))


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_e4_memory_every_operation_fails_once(nano, two, engine):
    total = count_operations(engine, two)
    assert total > 500
    operations_fail(nano, engine, two, range(1, total + 1))


# E1, E2: what tells and what is told may be broken too


class Broken(logging.Handler):
    def emit(self, record):
        raise PanicException


def test_e2_interrupt_a_log_that_is_broken_ends_no_thread(nano, neighbours, engine):
    log, handler = logging.getLogger("glmflash"), Broken()
    log.addHandler(handler)
    try:
        engine.observe(raising(KeyboardInterrupt()))
        for asked, wanted in neighbours:
            nano.check(ask(engine, asked), wanted)
    finally:
        log.removeHandler(handler)
    settled(engine)


def test_e2_interrupt_the_worker_dies_under_a_broken_log_and_everybody_hears(nano, neighbours, monkeypatch):
    log, handler = logging.getLogger("glmflash"), Broken()
    with nano.engine() as engine:
        with paused(engine, 3):
            waiters = [start(engine, one).future for one, _ in neighbours]
            monkeypatch.setattr(engine._runner.scheduler, "schedule", raising(PanicException()))
            log.addHandler(handler)
        try:
            for future in waiters:
                assert isinstance(future.exception(timeout=PATIENCE), EngineDeadError)
        finally:
            log.removeHandler(handler)
        with pytest.raises(EngineDeadError):
            ask(engine, neighbours[0][0])


@pytest.mark.parametrize("name", ["fail", "_report", "_settle"])
def test_e2_interrupt_a_reader_outlives_whatever_is_raised(nano, neighbours, monkeypatch, caplog, name):
    """Text has one thread: were it to end, every later request would wait for ever."""
    caplog.set_level(logging.CRITICAL + 1)
    with nano.engine() as engine:
        with monkeypatch.context() as patch:
            patch.setattr(Delivery, name, raising(SystemExit()))
            for _ in range(3):
                engine.submit(to_request(question("Hi", Picture(MemoryError())), engine.generation))
                engine.submit(to_request(question("Hi").but(cache_salt="x"), engine.generation)).cancel()
            done = threading.Event()
            for readers in engine._readers:
                for _ in range(readers._count):
                    readers.call(done.set)
            assert done.wait(PATIENCE)
        for asked, wanted in neighbours:
            nano.check(ask(engine, asked), wanted)


def test_e4_memory_that_is_short_is_a_typed_error_and_nothing_is_kept(nano, neighbours, engine):
    """An allocation that no machine can make, in the middle of a forward."""
    kept = []

    def greedy(*_, **__):
        tensor = torch.zeros(3)
        kept.append(weakref.ref(tensor))
        torch.empty(2**60, dtype=torch.uint8)

    for _ in range(5):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runner, "forward", greedy)
            future = engine.submit(to_request(question("Hi", **LONG), engine.generation))
            error = future.exception(timeout=PATIENCE)
        assert type(error) is CapacityError
        assert "max_image_tokens" in str(error)
        settled(engine)
        nano.check(ask(engine, neighbours[0][0]), neighbours[0][1])
    assert [one() for one in kept] == [None] * 5  # though the last error is still there


# E5: batch invariance


@pytest.mark.soak
@pytest.mark.parametrize("size", range(1, 17))
def test_e5_batch_invariance_in_any_order(world, known, size):
    """Every size of batch, four times; greedy and seeded ones, with pictures and without."""
    for turn in range(4):
        drawn = Random(f"{size} {turn}").sample(known, size)
        questions, wanted = zip(*drawn, strict=True)
        with world.engine(max_batch=16) as engine:
            for got, alone in zip(at_once(engine, list(questions)), wanted, strict=True):
                world.check(got, alone)
