"""Requests from any thread → answers: one model, one KV cache, and one worker that serves them all."""

import itertools
import os
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from functools import cache, partial
from typing import TypeVar

from glmflash.config import GenerationConfig, PreprocessorConfig
from glmflash.engine.checks import check_eos, check_vocabulary, describe
from glmflash.engine.delivery import Delivery
from glmflash.engine.events import Observer, Observers
from glmflash.engine.guide import Guides
from glmflash.engine.inbox import Inbox
from glmflash.engine.inputs import Seen, read_picture
from glmflash.engine.prefix import Prefix
from glmflash.engine.preparation import Preparation
from glmflash.engine.reading import desk, desks
from glmflash.engine.request import Request
from glmflash.engine.runner import Runner
from glmflash.engine.sampling import Sampling
from glmflash.engine.score import score
from glmflash.engine.sequence import Letter, OnDeltas, Part, Sequence, Then
from glmflash.engine.settings import Settings
from glmflash.engine.stats import Accounts, Stats, VisionStats
from glmflash.engine.storage import make_runner
from glmflash.engine.stream import AsyncStream, Stream
from glmflash.engine.waiting import result, settle
from glmflash.engine.worker import Worker, check_caller, check_process, closed, stop
from glmflash.kv.pool import BlockPool, BlockTable
from glmflash.kv.store import BlockStore
from glmflash.model.glm import Glm4v
from glmflash.output.result import Result
from glmflash.prompt.tokenizer import Tokenizer
from glmflash.quant import card
from glmflash.weights.fingerprint import fingerprint

__all__ = ["Engine"]

T = TypeVar("T")


def __dir__() -> list[str]:
    return __all__


class Engine:
    """One loaded checkpoint that answers any number of requests at once. Any thread may call it.

    Args:
        model: The network. From now on it belongs to the engine's thread.
        tokenizer: Of the same checkpoint.
        preprocessor: How its pictures become patches.
        video_preprocessor: How its clips do; as pictures, if not given.
        generation: Its sampling defaults and end tokens.
        settings: Limits and memory; by default those of `Settings()`.

    Raises:
        CheckpointError: If network and tokenizer are not of one checkpoint.
        ConfigError: If the sampling defaults are out of range, or nothing ends an answer.
        ParameterError: If not even one KV block fits into `kv_memory`.
    """

    def __init__(
        self,
        model: Glm4v,
        tokenizer: Tokenizer,
        *,
        preprocessor: PreprocessorConfig,
        video_preprocessor: PreprocessorConfig | None = None,
        generation: GenerationConfig,
        settings: Settings | None = None,
    ) -> None:
        settings = Settings() if settings is None else settings
        self.eos = frozenset(generation.eos_token_id or model.config.eos_token_id)
        check_vocabulary(model.config, tokenizer)
        check_eos(self.eos, model.config.text.vocab_size)
        Sampling.from_generation(generation)
        self.tokenizer, self.generation, self.settings = tokenizer, generation, settings
        self.preprocessor, self.video_preprocessor = preprocessor, video_preprocessor or preprocessor
        self.pins: dict[tuple[str | None, str], BlockTable] = {}
        self._delivery = Delivery(Accounts(), Observers(tuple(settings.observers)))
        runner = make_runner(model, settings, self._delivery, vocab_size=tokenizer.vocab_size)
        self._runner: Runner | None = runner
        self._inbox = Inbox[Letter](settings.max_waiting)
        self._readers = desks()
        self._fingerprint: Callable[[], str] = cache(partial(fingerprint, model, model.config, preprocessor))
        self._prepare: Preparation | None = Preparation(
            model=model, tokenizer=tokenizer, preprocessor=preprocessor,
            video_preprocessor=self.video_preprocessor, settings=settings, eos=self.eos,
            capacity=runner.capacity, fingerprint=self._fingerprint, delivery=self._delivery,
            inbox=self._inbox, guides=Guides(tokenizer, self.eos), readers=self._readers[1],
        )  # fmt: skip
        self._recall = self._prepare.recall
        self._numbers = itertools.count(1)
        self._model_bytes = card(model).bytes_after
        self._pid = os.getpid()
        self._thread = Worker(runner, self._inbox, self._recall).thread
        self._check_thread: Callable[[], None] = partial(check_caller, self._thread, self._readers, self._pid)
        # No thread knows the engine, so it can be collected; then, or as the interpreter exits, they end.
        self._stop = weakref.finalize(self, stop, self._inbox, self._readers, self._thread, self._pid)
        self._thread.start()

    @property
    def prefetch(self) -> int:
        """How many requests to have under way, to keep batches full while results are taken."""
        return min(2 * self.settings.max_batch, self.settings.max_waiting)

    @property
    def model(self) -> Glm4v:
        """The network. Do not compute with it while requests are under way.

        Raises:
            ClosedError: If the engine has been closed.
        """
        return self._open().model

    @property
    def fingerprint(self) -> str:
        """Names weights, dtype and preprocessing: vision tokens and KV of another one do not fit."""
        self._open()
        return self._fingerprint()

    def read(
        self, picture: object, *, max_image_tokens: int | None = None, cache_salt: str | None = None
    ) -> Seen:
        """Decode a picture and cut it into patches, in the caller's thread; these can stand for it then.

        Args:
            picture: Anything that `media.read` takes, or a `Clip`; one read or encoded before stays as it is.
            max_image_tokens: Most vision tokens.
            cache_salt: Makes no difference yet; it counts when the picture is asked about.

        Raises:
            InputError: If the picture cannot be used.
        """
        self._open()
        return read_picture(
            picture, self.preprocessor, self.settings.policy, video_preprocessor=self.video_preprocessor,
            max_image_tokens=max_image_tokens,
        )  # fmt: skip

    def submit(
        self, request: Request, *, on_deltas: OnDeltas | None = None, wait: bool = False
    ) -> "Future[Result]":
        """Hand in a request; its future has the result, or whatever error ended it.

        `future.cancel()` works until the end, and frees what the request holds within a step.

        Args:
            request: What to answer.
            on_deltas: Called on a thread of the engine's with what can be shown, as it comes.
            wait: Whether to wait for a place in line if all are held.

        Raises:
            QueueFullError: If `max_waiting` requests are in line.
            ClosedError: If the engine has been closed.
            EngineDeadError: If its worker has died, or belongs to a process that this one was forked from.
        """
        return self._hand_in(request, on_deltas=on_deltas, wait=wait).future

    def answer(self, request: Request) -> Result:
        """Hand in a request, and wait for its result. Raises as `submit` and `wait` do."""
        self._check_thread()
        return self.wait(self.submit(request))

    def wait(self, future: Future[T]) -> T:
        """Wait for what `submit`, `prefill` or `call` returned. An interrupt while waiting cancels it.

        Raises:
            GlmflashError: If the engine's own thread asks: it would wait for itself. And whatever the
                future raises.
        """
        self._check_thread()
        try:
            return result(future)
        except BaseException:
            future.cancel()
            raise

    def start(self, request: Request, *, wait: bool = False) -> Stream:
        """Hand in a request, and get its answer piece by piece. Raises as `submit` does."""
        return Stream.open(partial(self._hand_in, request, wait=wait), check=self._check_thread)

    def start_async(self, request: Request) -> AsyncStream:
        """The same for a running event loop. Raises as `submit` does."""
        return AsyncStream.open(partial(self._hand_in, request))

    score = score

    def prefill(
        self, request: Request, *, then: Callable[[Prefix], T], part: Part = "leading"
    ) -> "Future[T]":
        """Compute the leading part of a request's prompt, up to its last picture; nothing is generated.

        Args:
            request: Its sampling is not used.
            part: "prompt" is all of the prompt but its last token.
            then: Called on the engine's thread while the computed blocks are held; makes the future's value.

        Raises:
            Exceptions as `submit`.
        """
        return self._hand_in(request, then=then, part=part, wait=True).future

    def call(self, function: Callable[[BlockPool, BlockStore], T]) -> "Future[T]":
        """Run a function on the engine's thread between two steps: only there may pool and store be touched.

        Raises:
            ClosedError: If the engine has been closed.
            EngineDeadError: As `submit`.
        """
        runner, future = self._open(), Future[T]()
        self._inbox.put(partial(settle, future, function, runner.scheduler.pool, runner.store))
        return future

    def stats(self) -> Stats:
        """What the engine did so far, and what it is at.

        Raises:
            ClosedError: If the engine has been closed.
        """
        runner = self._open()
        scheduler, vision = runner.scheduler, runner.vision
        sent_back = sum(one.clock.admitted is not None for one in list(scheduler.waiting))
        return self._delivery.accounts.snapshot(
            waiting=self._inbox.held + sent_back,
            running=len(scheduler.running),
            preemptions=scheduler.preemptions,
            vision=VisionStats(len(vision), vision.nbytes, vision.hits, vision.misses),
            pool=scheduler.pool.stats(),
            kv_bytes=runner.store.nbytes,
            model_bytes=self._model_bytes,
            answers=None if self._recall is None else self._recall.stats(),
        )

    def observe(self, observer: Observer) -> None:
        """Tell one more function every event from now on; see `Observers`, whose errors this raises."""
        self._delivery.observe(observer)

    def refusing(self) -> AbstractContextManager[None]:
        """A block in which requests are made: observers hear of one that cannot be, as `RequestRefused`."""
        return self._delivery.refusing()

    def close(self) -> None:
        """End what is under way with `ClosedError`, and give memory and threads back. Twice is fine."""
        self._runner = self._prepare = self._recall = None
        self._fingerprint = str  # the other one holds the model
        self.pins = {}
        self._stop()

    def __repr__(self) -> str:
        runner = self._runner
        return f"<Engine: {'closed' if runner is None else describe(runner.model)}>"

    def _open(self) -> Runner:
        check_process(self._pid)
        runner = self._runner
        self._inbox.check()
        if runner is None:
            raise closed()
        return runner

    def _hand_in(
        self,
        request: Request,
        *,
        on_deltas: OnDeltas | None = None,
        then: Then | None = None,
        part: Part = "prompt",
        wait: bool = False,
    ) -> Sequence:
        self._open()
        if wait:
            self._check_thread()
        prepare = self._prepare
        with self.refusing():
            self._inbox.enter(wait=wait)
        sequence = Sequence(
            next(self._numbers), request, on_deltas=on_deltas, then=then, part=part,
            leave=self._inbox.leave, keep=self,
        )  # fmt: skip
        try:
            self._delivery.queued(sequence)
            readers = desk(request, self._readers)
            if prepare is None or not readers.call(partial(prepare, sequence), rank=sequence.rank):
                self._delivery.fail(sequence, closed())
        except BaseException:  # an interrupt, or no thread to be had: nobody will ever see the future
            sequence.future.cancel()
            sequence.leave()
            raise
        return sequence
