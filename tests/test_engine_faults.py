"""The k-th call of everything fails, for every k: only that request does, and the next is right."""

import gc
import io
import itertools
import logging
import threading
import time
import weakref
from concurrent.futures import Future
from random import Random

import pytest
import torch
from engine_world import (
    BUSY,
    Asked,
    World,
    ask,
    forget,
    noise,
    open_world,
    paused,
    question,
    start,
    to_request,
)
from PIL import Image

from glmflash import CacheFullError, CapacityError, EngineDeadError
from glmflash.config import GenerationConfig
from glmflash.engine import preparation, runner, sampler
from glmflash.engine.answer import Answer
from glmflash.errors import GlmflashError
from glmflash.prompt import Tokenizer


class PanicException(BaseException):
    """As libraries written in Rust raise it: no `Exception`."""


FAULTS = (RuntimeError, MemoryError, KeyboardInterrupt, SystemExit, PanicException)


class Fuse:
    """A function whose k-th call raises."""

    def __init__(self, function, k: int) -> None:
        self.function, self.left = function, k
        self.fault = FAULTS[k % len(FAULTS)](f"call {k}")

    def __call__(self, *args, **kwargs):
        self.left -= 1
        if self.left == 0:
            raise self.fault
        return self.function(*args, **kwargs)

    def __get__(self, instance, owner=None):  # it may stand in for a method
        return self if instance is None else lambda *args, **kwargs: self(instance, *args, **kwargs)

    @property
    def blown(self) -> bool:
        return self.left <= 0


class Watcher:
    """An observer."""

    def __call__(self, event) -> None:
        self.see(event)

    def see(self, event) -> None:
        pass


class Slow:
    """A picture that takes as long to read as the test wants."""

    def __init__(self) -> None:
        self.here, self.go = threading.Event(), threading.Event()
        self.file = io.BytesIO()
        Image.fromarray(noise(Random(4))).save(self.file, "PNG")
        self.file.seek(0)

    def read(self, size=-1):
        self.here.set()
        assert self.go.wait(10)
        return self.file.read(size)


@pytest.fixture(scope="module")
def nano(nano_checkpoint) -> World:
    return open_world(nano_checkpoint, "random")


@pytest.fixture(scope="module")
def three(nano):
    """A text in several chunks, one that is sampled, and one with two pictures, with their answers alone."""
    options = {"max_new_tokens": 5, "ignore_eos": True}
    questions = [
        question("what is the total of the milk and the bread " * 3, **options),
        question("which box", temperature=1.1, seed=3, logprobs=2, **options),
        question("read it", [noise(Random(1)), noise(Random(2))], **options),
    ]
    return list(zip(questions, nano.cold(questions), strict=True))


@pytest.fixture
def engine(nano):
    with nano.engine(blocks=256, max_batch=4, max_step_tokens=64, observers=[Watcher()]) as engine:
        yield engine


def settled(engine) -> None:
    stats = engine.call(lambda pool, _: pool.stats()).result(10)
    assert (stats.used, stats.free + stats.cached) == (0, stats.num_blocks)
    assert (engine._inbox.held, engine.stats().running, engine.stats().waiting) == (0, 0, 0)


def in_pool(name):
    return lambda engine: (engine._runner.scheduler.pool, name)


def in_store(name):
    return lambda engine: (engine._runner.store, name)


#: What fails: where it is, and how many requests may fail with it.
PLACES = {
    "forward": (lambda _: (runner, "forward"), 1),
    "sample": (lambda _: (runner, "sample"), 1),
    "log-probabilities": (lambda _: (sampler, "_logprob"), 1),
    "vision": (lambda _: (runner, "encode_picture"), 1),
    "pictures": (lambda _: (preparation, "read_pictures"), 1),
    "prompt": (lambda _: (preparation, "build_prompt"), 1),
    "tokenizer": (lambda _: (Tokenizer, "encode"), 1),
    "push": (lambda _: (Answer, "push"), 1),
    "result": (lambda _: (Answer, "result"), 1),
    "match": (in_pool("match"), 1),
    "open": (in_pool("open"), 1),
    "can_reserve": (in_pool("can_reserve"), 1),
    "reserve": (in_pool("reserve"), 1),
    "commit": (in_pool("commit"), 1),
    "ensure": (in_store("ensure"), 1),
    "copy": (in_store("copy"), 1),
    "observer": (lambda engine: (engine.settings.observers[0], "see"), 0),
}


UNREAD = ("pictures", "prompt", "tokenizer")  # what fails there never arrives


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_the_kth_call_fails(engine, nano, three, monkeypatch, place, caplog):
    caplog.set_level(logging.CRITICAL + 1)
    where, most = PLACES[place]
    for k in itertools.count(1):
        forget(engine)
        with monkeypatch.context() as patch:
            fuse = blow(patch, *where(engine), k)
            with paused(engine, len(three) if place not in UNREAD else 0):
                asked = [start(engine, one) for one, _ in three]
            failed = [check(nano, one, wanted, fuse) for one, (_, wanted) in zip(asked, three, strict=True)]
        assert sum(failed) <= most
        settled(engine)
        nano.check(ask(engine, three[0][0]), three[0][1])
        if not fuse.blown:
            break
        assert k < 200
    assert k > 1, "it was never called"
    assert engine.stats().pool.num_blocks == 256


def blow(patch, owner, name: str, k: int) -> Fuse:
    """Have the k-th call of something fail."""
    fuse = Fuse(getattr(owner, name), k)
    patch.setattr(owner, name, fuse)
    return fuse


def check(nano: World, asked: Asked, wanted, fuse: Fuse) -> bool:
    """Whether a request failed, with the fault; else it has its answer."""
    error = asked.future.exception(timeout=5 * BUSY)
    if error is None:
        nano.check(asked.answer(), wanted)
        assert asked.future.result().logprobs == wanted.result.logprobs or wanted.result.logprobs
        return False
    assert error is fuse.fault or (isinstance(error, CapacityError) and isinstance(fuse.fault, MemoryError))
    return True


@pytest.mark.slow
@pytest.mark.parametrize("what", ["on_deltas", "callback"])
def test_the_kth_call_back_fails(engine, nano, three, what, caplog):
    caplog.set_level(logging.CRITICAL + 1)
    asked, wanted = three[0]
    for k in itertools.count(1):
        fuse = Fuse(lambda _: None, k)
        with paused(engine, 4):
            others = [start(engine, one) for one, _ in three]
            request = to_request(asked, GenerationConfig())
            future: Future = engine.submit(request, on_deltas=fuse if what == "on_deltas" else None)
            if what == "callback":
                future.add_done_callback(fuse)
        error = future.exception(timeout=5 * BUSY)
        assert error is (fuse.fault if what == "on_deltas" and fuse.blown else None)
        assert error or future.result().token_ids == wanted.ids
        for one, (_, right) in zip(others, three, strict=True):
            nano.check(one.answer(), right)
        settled(engine)
        if not fuse.blown:
            break
    assert k > 1


def test_a_failed_call_on_the_engines_thread(engine):
    """What `Engine.call` runs may raise anything, and so may callbacks of its future."""
    for fault in FAULTS:

        def fail(*_, fault=fault):
            raise fault

        with paused(engine):
            raising, calling_back = engine.call(fail), engine.call(lambda *_: 1)
            calling_back.add_done_callback(fail)
        assert type(raising.exception(timeout=5 * BUSY)) is fault
        assert calling_back.result(timeout=5 * BUSY) == 1
    settled(engine)


def test_memory_that_was_short_once_may_be_there_again(engine, nano, three, monkeypatch):
    """The pool hands out no blocks that the device lacks, while others run; then it tries anew."""
    store, (asked, wanted) = engine._runner.store, three[0]

    def short(blocks):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(store, "ensure", short)
        with paused(engine, 2):
            several = [start(engine, asked), start(engine, three[1][0])]
        for one in several:
            with pytest.raises(CacheFullError, match="no memory left"):
                one.answer()
    settled(engine)
    nano.check(ask(engine, asked), wanted)
    assert engine.stats().pool.num_blocks == 256


def test_an_error_that_is_kept_keeps_no_tensors(engine):
    kept = []

    def fail(first):
        tensor = torch.zeros(2)
        kept.append(weakref.ref(tensor))
        if first:
            raise ValueError("first")
        try:
            fail(True)
        except ValueError:
            raise RuntimeError("then") from None

    request = to_request(question("Hi"), GenerationConfig(), logits_processors=[lambda *_: fail(False)])
    future = engine.submit(request)
    assert isinstance(future.exception(timeout=5 * BUSY), RuntimeError)
    settled(engine)
    gc.collect()
    assert [one() for one in kept] == [None, None]


def test_an_error_that_cannot_be_compared_fails_only_its_request(engine, nano, three):
    """One that holds arrays, as a dataclass may, raises at `==`."""

    class OddError(Exception):
        __eq__ = __bool__ = None

    def fail(*_):
        raise OddError from OddError()

    request = to_request(question("Hi"), GenerationConfig(), logits_processors=[fail])
    assert type(engine.submit(request).exception(timeout=5 * BUSY)) is OddError
    nano.check(ask(engine, three[0][0]), three[0][1])


@pytest.mark.parametrize("part", ["admit", "schedule", "remove", "pool.close"])
def test_if_the_worker_dies_everybody_hears_of_it(nano, three, monkeypatch, part, caplog):
    slow = Slow()

    def fail(*_, **__):
        raise KeyboardInterrupt("broken books")

    with nano.engine(max_batch=1) as engine:
        scheduler = engine._runner.scheduler
        with paused(engine, 4):
            waiters = [start(engine, one).future for one, _ in three]
            stream = engine.start(to_request(question("Hi"), GenerationConfig()))
            reading = engine.submit(to_request(question("Hi", slow), GenerationConfig()))
            waiters.append(reading)
            assert slow.here.wait(5 * BUSY)
            owner = scheduler.pool if part.startswith("pool") else scheduler
            monkeypatch.setattr(owner, part.removeprefix("pool."), fail)
        began = time.monotonic()
        for future in waiters[:3]:
            assert isinstance(future.exception(timeout=BUSY), EngineDeadError)
        with pytest.raises(EngineDeadError, match="worker thread has died"):
            list(stream)
        slow.go.set()
        assert isinstance(reading.exception(timeout=BUSY), EngineDeadError)
        with pytest.raises(EngineDeadError):
            ask(engine, three[0][0])
        with pytest.raises(EngineDeadError):
            engine.call(lambda *_: 1)
        assert time.monotonic() - began < BUSY
        assert "broken books" in caplog.text
        assert engine._inbox.held == 0
        engine.close()
        assert not engine._thread.is_alive()


def test_books_that_cannot_be_kept_leave_nobody_waiting(engine, nano, three, caplog):
    """The error of a caller's own class may break whatever counts it."""

    class UncountableError(GlmflashError):
        code = []  # noqa: RUF012 - the mistake that is meant

    def fail(*_):
        raise UncountableError("mine")

    request = to_request(question("Hi"), GenerationConfig(), logits_processors=[fail])
    assert isinstance(engine.submit(request).exception(timeout=5 * BUSY), UncountableError)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine._delivery.accounts, "finished", fail)
        nano.check(ask(engine, three[0][0]), three[0][1])
    assert "keeping account" in caplog.text
    nano.check(ask(engine, three[0][0]), three[0][1])
    settled(engine)
