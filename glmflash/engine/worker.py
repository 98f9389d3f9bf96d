"""Requests and calls of other threads → run to their end, on the thread that owns model, pool and store."""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from collections.abc import Sequence as Several

import torch

from glmflash.engine.inbox import Inbox
from glmflash.engine.log import report
from glmflash.engine.readers import Readers
from glmflash.engine.recall import Recall
from glmflash.engine.runner import Runner
from glmflash.engine.sequence import Letter, Sequence
from glmflash.errors import ClosedError, EngineDeadError, GlmflashError

__all__ = ["Worker", "check_caller", "check_process", "closed", "stop"]

logger = logging.getLogger(__name__)

_LOOK = 0.05  # seconds


def __dir__() -> list[str]:
    return __all__


class Worker:
    """Turn after turn: take what came, drop what nobody wants, admit, encode a picture, one packed forward.

    Should the thread itself fail, everybody who waits hears of it at once.

    Args:
        runner: Computes.
        inbox: From where requests come.
        recall: Has requests that wait for the answers of others.
    """

    def __init__(self, runner: Runner, inbox: Inbox[Letter], recall: Recall | None = None) -> None:
        self._runner = runner
        self._inbox = inbox
        self._recall = recall
        self._scheduler = runner.scheduler
        self._taken = deque[Letter]()
        self._looked = 0.0  # when those who wait were last asked whether they still want to
        self.thread = threading.Thread(target=self._run, name="glmflash-worker", daemon=True)

    def _run(self) -> None:
        refusal: Callable[[], GlmflashError] = closed
        try:
            with torch.inference_mode():
                while self._turn():
                    pass
        except BaseException:  # noqa: BLE001 - whatever it is, everybody is told
            refusal = _dead
            report(logger, logging.CRITICAL, "the engine's worker died")
        self._shut(refusal)

    def _turn(self) -> bool:
        """One round; False once the inbox is closed."""
        idle = not self._scheduler.running and not self._scheduler.waiting
        letters = self._inbox.take(wait=idle)
        if letters is None:
            return False
        self._taken.extend(letters)
        while self._taken:
            letter = self._taken[0]  # one that arrives stays here until somebody else knows it
            if isinstance(letter, Sequence):
                self._arrive(letter)
            self._taken.popleft()
            if not isinstance(letter, Sequence):
                letter()
        self._drop()
        if self._scheduler.waiting:
            self._admit()
        self._runner.see()
        self._runner.complete()
        self._runner.compute()
        self._runner.complete()
        return True

    def _arrive(self, sequence: Sequence) -> None:
        """Show what the answer begins with; that may be all of it."""
        runner, answer = self._runner, sequence.answer
        try:
            if answer is not None:
                runner.delivery.show(sequence, answer.opening)
        except BaseException as error:  # noqa: BLE001 - the receiver's own
            runner.end(sequence, error)
            return
        if answer is None or answer.finish_reason is None:
            self._scheduler.add(sequence)
        else:
            runner.end(sequence)

    def _drop(self) -> None:
        """Let go of what is cancelled or late."""
        now = time.perf_counter()
        scheduler = self._scheduler
        line = list(scheduler.running)
        if not line or now - self._looked > _LOOK:  # there may be thousands in line
            line, self._looked = list(scheduler), now
            if self._recall is not None:
                self._recall.sweep(now)
        for sequence in line:
            self._look(sequence, now)

    def _look(self, sequence: Sequence, now: float) -> None:
        if sequence.cancelled:
            self._cancel(sequence)
        elif (error := sequence.overdue(now)) is not None:
            self._runner.end(sequence, error)

    def _cancel(self, sequence: Sequence) -> None:
        """A future that was cancelled gets nothing; a stream that was stopped gets what there is."""
        if sequence.future.cancelled() or sequence.answer is None:
            self._runner.end(sequence, ClosedError("the request was cancelled"))
        else:
            self._runner.cut(sequence, "cancelled")

    def _admit(self) -> None:
        admitted, failed = self._scheduler.admit()
        for sequence, error in failed:
            self._runner.end(sequence, error)
        now = time.perf_counter()
        for sequence in admitted:
            assert sequence.table is not None
            if sequence.clock.admitted is None:  # else it was sent back, and counts already
                sequence.clock.admitted = now
                sequence.cached = sequence.table.length
                sequence.leave()
            self._look(sequence, now)

    def _shut(self, refusal: Callable[[], GlmflashError]) -> None:
        """Nothing more comes in; whoever waits gets the refusal; then nothing here is held any more."""
        self._inbox.close(refusal)
        left = [*self._taken, *self._inbox.rest()]
        for sequence in [*self._scheduler, *(one for one in left if isinstance(one, Sequence))]:
            if sequence.future.done() and not sequence.future.cancelled():  # its end was the last straw
                continue
            try:
                self._runner.end(sequence, refusal())
            except BaseException:  # noqa: BLE001 - the books may be broken, but nobody must wait for ever
                self._runner.delivery.fail(sequence, refusal())
        for letter in left:
            if not isinstance(letter, Sequence):
                letter()  # what it asks for is still there
        del self._runner, self._scheduler, self._recall


def stop(inbox: Inbox[Letter], readers: Several[Readers], worker: threading.Thread, pid: int) -> None:
    """Close the doors, then wait for the threads: the worker for the step it is at."""
    if os.getpid() != pid:  # a fork of the process has none of them
        return
    inbox.close(closed)
    for one in readers:
        one.close()
    if worker.is_alive() and worker is not threading.current_thread():
        worker.join()


def check_process(pid: int) -> None:
    """Pass in the process that the engine was made in.

    Raises:
        EngineDeadError: In a fork of it.
    """
    if os.getpid() != pid:
        raise EngineDeadError(
            "the pipeline was made before this process was forked, and its thread stayed behind; make the"
            " pipeline in each process, or start processes with multiprocessing's spawn method"
        )


def check_caller(worker: threading.Thread, readers: Several[Readers], pid: int) -> None:
    """Pass if the thread that calls may wait for the engine.

    Raises:
        EngineDeadError: In a fork of its process.
        GlmflashError: If it is one of the engine's own, which would wait for itself.
    """
    check_process(pid)
    caller = threading.current_thread()
    if caller is worker or any(caller in one for one in readers):
        raise GlmflashError(
            "the engine's own threads (an observer, a callback, a logits processor) cannot wait for an"
            " answer; submit the request without waiting, and take its result elsewhere"
        )


def closed() -> GlmflashError:
    """What everybody is told after `close`."""
    return ClosedError("the pipeline has been closed; make a new one with Pipeline.from_pretrained")


def _dead() -> GlmflashError:
    return EngineDeadError(
        "the engine's worker thread has died; its last words are in the log of glmflash.engine.worker;"
        " make the pipeline anew"
    )
