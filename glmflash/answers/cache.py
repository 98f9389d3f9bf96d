"""What a pipeline is given to keep answers with: finds and keeps them, whatever becomes of the store."""

import os
import threading
import time
from types import TracebackType
from typing import Self

from glmflash.answers.guard import Guard
from glmflash.answers.memory import MemoryAnswers
from glmflash.answers.record import read, write
from glmflash.answers.store import AnswerStore
from glmflash.engine.recorded import Recorded
from glmflash.errors import ClosedError, ParameterError

__all__ = ["AnswerCache"]

_ASKED = ("get", "put", "clear", "close")  # of a store
_LONGEST = 10 * 365 * 86_400.0  # seconds
_APART = 300.0  # seconds that clocks of machines which share a store may differ


def __dir__() -> list[str]:
    return __all__


class AnswerCache:
    """Answers of a pipeline, so that no question is answered twice: `from_pretrained(answer_cache=...)`.

    Kept are the tokens of answers, by a hash of all that they depend on: pixels, prompt, sampling, weights,
    dtypes, salt. Neither pictures nor questions are. Several pipelines may share one cache, and several
    processes one store. A store that is slow, broken or gone costs hits, never an answer.

    Args:
        store: Bytes of memory to use, or a text such as "64 MiB"; or a `SQLiteAnswers`, a `RedisAnswers`, or
            whatever else is an `AnswerStore`.
        ttl: Seconds for which an answer is good.
        patience: Seconds that a request waits for a store that is not in memory; later it is a miss.

    Raises:
        ParameterError: If an argument is not as above.

    Example:
        >>> from glmflash import Pipeline
        >>> pipe = Pipeline.from_pretrained("tiny", answer_cache=AnswerCache("64 MiB", ttl=3600))
        >>> [pipe("What is the total?", max_new_tokens=8).from_cache for _ in range(2)]
        [False, True]
    """

    def __init__(
        self, store: str | int | AnswerStore = "64 MiB", *, ttl: float = 86_400.0, patience: float = 0.05
    ) -> None:
        self._ttl = _seconds("ttl", ttl, _LONGEST)
        patience = _seconds("patience", patience, 60.0)
        if isinstance(store, (str, int)):
            store = MemoryAnswers(store)
        elif not all(callable(getattr(store, name, None)) for name in _ASKED):
            kind = type(store).__name__
            raise ParameterError("store", f'is a {kind}; allowed: bytes, a text like "64 MiB", or a store')
        self._guard = None if isinstance(store, MemoryAnswers) else Guard(store, patience=patience)
        self._store: AnswerStore = self._guard or store  # memory is quick enough for whoever asks
        self._kind = type(store).__name__
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._errors = 0
        self._closed = False

    @property
    def errors(self) -> int:
        """How often the store failed, or held what is no answer."""
        return self._errors + (0 if self._guard is None else self._guard.errors)

    @property
    def nbytes(self) -> int | None:
        """Size of what is kept; None if that is not known."""
        return self._store.nbytes

    def find(self, key: str) -> Recorded | None:
        """The answer kept by this key, if it is whole and not too old. Raises nothing."""
        if self._closed or os.getpid() != self._pid:  # a fork: threads, and perhaps a lock, stayed behind
            return None
        data = self._store.get(key)
        if data is None:
            return None
        try:
            answer, made = read(data, key=key)
        except Exception:  # noqa: BLE001 - whatever was put there instead
            with self._lock:
                self._errors += 1
            return None
        return answer if -_APART <= time.time() - made < self._ttl else None

    def keep(self, key: str, answer: Recorded) -> None:
        """Keep an answer. What is too large for the store, or for any, is not kept."""
        if self._closed or os.getpid() != self._pid:
            return
        try:
            data = write(answer, key=key, made=time.time())
        except ValueError:  # too large, or of numbers that are not finite
            return
        self._store.put(key, data, self._ttl)

    def clear(self) -> None:
        """Forget all answers.

        Raises:
            GlmflashError: If the store cannot do so now.
            ClosedError: If the cache has been closed.
        """
        if self._closed:
            raise ClosedError("the answer cache has been closed; make a new one")
        self._store.clear()

    def close(self) -> None:
        """Write what is still to be written, and give threads and connections back. Twice is fine.

        A pipeline does not close its cache, for others may share it. When nothing holds it any more it is
        closed, at the latest with the program. Pipelines that still have it go on without.
        """
        self._closed = True
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        size = "" if self.nbytes is None else f", {self.nbytes / 1e6:,.1f} MB"
        return f"<AnswerCache: {self._kind}, {self._ttl:g} s{size}>"


def _seconds(name: str, value: object, most: float) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= most:
        raise ParameterError(name, f"is {value!r:.40}; allowed: seconds above 0, at most {most:,.0f}")
    return float(value)
