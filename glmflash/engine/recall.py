"""A prepared request → an answer given before, or a place behind the same request, or the worker."""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, partial

from glmflash.engine.answer import Answer
from glmflash.engine.delivery import Delivery
from glmflash.engine.events import AnswerReused
from glmflash.engine.inbox import Inbox
from glmflash.engine.log import note
from glmflash.engine.question import answerer, question_key, repeatable
from glmflash.engine.readers import Readers
from glmflash.engine.recorded import Answers, AnswerStats, Recorded
from glmflash.engine.sequence import Letter, Sequence
from glmflash.engine.settings import Settings
from glmflash.engine.waiting import elsewhere
from glmflash.model.glm import Glm4v
from glmflash.prompt.tokenizer import Tokenizer

__all__ = ["Recall", "make_recall"]

logger = logging.getLogger(__name__)


def __dir__() -> list[str]:
    return __all__


@dataclass(slots=True, eq=False)
class _Flight:
    """The same request several times: one goes ahead, the others wait for what it gets."""

    key: str
    followers: deque[Sequence] = field(default_factory=deque)


class Recall:
    """Stands between the readers and the worker, and sees to it that nothing is computed twice.

    Of requests with one key the first is looked for, and computed if it is not found; the others wait here,
    where they take neither blocks nor turns. If the first ends without a whole answer, whatever the reason,
    the next goes ahead. Whatever the cache does, a request is slower at worst.

    Args:
        answers: Keeps answers.
        answerer: Gives what names model and settings; see `question.answerer`. It is called once.
        delivery: Ends requests.
        inbox: The way to the worker.
        readers: Hand answers on to those that wait.
    """

    def __init__(
        self,
        answers: Answers,
        *,
        answerer: Callable[[], bytes],
        delivery: Delivery,
        inbox: Inbox[Letter],
        readers: Readers,
    ) -> None:
        self._answers = answers
        self._answerer = cache(answerer)
        self._delivery = delivery
        self._inbox = inbox
        self._readers = readers
        self._flights: dict[str, _Flight] = {}
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, sequence: Sequence) -> None:
        """Answer it, let it wait, or hand it to the worker. A reader calls this.

        Raises:
            ClosedError, EngineDeadError: As `Inbox.put`; then it is not under way.
        """
        key = self._key(sequence)
        flight = None if key is None else self._board(key, sequence)
        if key is None:
            self._inbox.put(sequence)
        elif flight is not None:
            sequence.ended = partial(self._ended, flight)
            recorded = self._find(key)
            if recorded is not None and self._answer(sequence, recorded, shared=False):
                self._land(flight, recorded)
            else:
                self._count("misses")
                self._inbox.put(sequence)

    def sweep(self, now: float) -> None:
        """Hand those to the worker that wait here and are cancelled or late: it ends them. It calls this."""
        gone: list[Sequence] = []
        with self._lock:
            for flight in self._flights.values():
                left = [one for one in flight.followers if one.cancelled or one.overdue(now) is not None]
                for sequence in left:
                    flight.followers.remove(sequence)
                gone += left
        for sequence in gone:
            self._hand_in(sequence)

    def stats(self) -> AnswerStats:
        """What came of it so far."""
        with self._lock:
            counts = dict(self._counts)
        errors = counts.pop("errors", 0)
        try:
            return AnswerStats(**counts, errors=errors + self._answers.errors, bytes=self._answers.nbytes)
        except Exception:  # noqa: BLE001 - of a cache; an interrupt is the caller's
            return AnswerStats(**counts, errors=errors + 1)

    def _key(self, sequence: Sequence) -> str | None:
        """None for what is not looked for: it cannot be repeated, or there is nothing to spare."""
        request, answer = sequence.request, sequence.answer
        if answer is None or answer.finish_reason is not None or sequence.cancelled:
            return None
        if repeatable(request.sampling):
            with self._noted("naming a request"), suppress(TypeError):  # a tool that holds who knows what
                return question_key(request, sequence.inputs, room=answer.room, answerer=self._answerer())
        self._count("skipped")
        return None

    def _board(self, key: str, sequence: Sequence) -> _Flight | None:
        """The flight that begins with it; None if it waits in one that is under way."""
        with self._lock:
            flight = self._flights.get(key)
            if flight is None:
                flight = self._flights[key] = _Flight(key)
                return flight
            flight.followers.append(sequence)
            return None

    def _find(self, key: str) -> Recorded | None:
        with self._noted("finding an answer"):
            found: object = self._answers.find(key)
            if found is None or isinstance(found, Recorded):
                return found
            self._count("errors")
        return None

    def _answer(self, sequence: Sequence, recorded: Recorded, *, shared: bool) -> bool:
        """End a request with an answer given before; False, and nothing has happened, if that is none."""
        assert sequence.answer is not None
        answer, deltas = sequence.answer, None
        with suppress(BaseException):  # of tokens that are none
            answer = answer.anew(sequence.request, sequence.inputs)
            deltas = answer.replay(recorded)
        if deltas is None:
            self._count("errors")
            return False
        self._count("shared" if shared else "hits")
        sequence.answer, sequence.ended, sequence.recalled = answer, None, True
        sequence.cached = len(sequence.inputs.prompt)
        sequence.clock.admitted = sequence.clock.first = time.perf_counter()
        if observers := self._delivery.observers:
            tokens = len(recorded.tokens)
            observers.emit(AnswerReused(request=sequence.number, shared=shared, tokens=tokens))
        try:
            self._delivery.show(sequence, deltas)
        except BaseException as error:  # noqa: BLE001 - the receiver's own
            self._delivery.fail(sequence, error)
        else:
            self._delivery.finish(sequence)
        return True

    def _ended(self, flight: _Flight, answer: Answer | None) -> None:
        """The one that went ahead has ended. The worker calls this, and others must not wait for it."""
        recorded = None if answer is None else answer.record
        if recorded is None:
            self._promote(flight)
            return
        land = partial(self._land, flight, recorded, keep=True)
        handed = False
        with self._noted("handing answers on"):
            handed = self._readers.call(land)
        if not handed:  # the engine is being closed
            land()

    def _land(self, flight: _Flight, recorded: Recorded, *, keep: bool = False) -> None:
        """The answer is there: keep it, and give it to all who wait. Raises nothing."""
        if keep:  # first, so that whoever comes too late to wait finds it
            with self._noted("keeping an answer"):
                self._answers.keep(flight.key, recorded)
        with self._lock:
            self._flights.pop(flight.key, None)
            followers, flight.followers = flight.followers, deque()
        now = time.perf_counter()
        for sequence in followers:
            left = sequence.cancelled or sequence.overdue(now) is not None
            if left or not self._answer(sequence, recorded, shared=True):
                self._hand_in(sequence)

    def _promote(self, flight: _Flight) -> None:
        """Let the next one go ahead, if any waits."""
        while True:
            with self._lock:
                if not flight.followers:
                    self._flights.pop(flight.key, None)
                    return
                sequence = flight.followers.popleft()
            sequence.ended = partial(self._ended, flight)
            self._count("misses")
            if self._hand_in(sequence):
                return

    def _hand_in(self, sequence: Sequence) -> bool:
        """Hand it to the worker; False if that is closed, and the request has ended with it."""
        try:
            self._inbox.put(sequence)
        except BaseException as error:  # noqa: BLE001 - closed or dead
            sequence.ended = None
            self._delivery.fail(sequence, error)
            return False
        return True

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1

    @contextmanager
    def _noted(self, what: str) -> Iterator[None]:
        """Whatever is raised inside is counted, and forgotten."""
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - of a cache, which must not harm a request
            self._count("errors")
            text = "%s failed (%s); the request goes on without"
            note(logger, logging.WARNING, text, what, type(error).__name__)


def make_recall(
    settings: Settings,
    model: Glm4v,
    tokenizer: Tokenizer,
    *,
    fingerprint: Callable[[], str],
    eos: frozenset[int],
    delivery: Delivery,
    inbox: Inbox[Letter],
    readers: Readers,
) -> Recall | None:
    """What an engine of these parts recalls answers with; None if it keeps none. Arguments: see `Recall`."""
    if settings.answers is None:
        return None
    kv_dtype = settings.kv_dtype
    name = partial(answerer, model, tokenizer, fingerprint=fingerprint, eos=eos, kv_dtype=kv_dtype)
    # In a thread that ends, as loading is: the engine's should be the only one that computes for long.
    return Recall(
        settings.answers, answerer=partial(elsewhere, name), delivery=delivery, inbox=inbox, readers=readers
    )
