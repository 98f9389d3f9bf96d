"""One request on its way through the engine: what was asked, how far it is, and who waits for it."""

import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any, Literal

from torch import Tensor

from glmflash.engine.answer import Answer
from glmflash.engine.inputs import Inputs
from glmflash.engine.prefix import Prefix
from glmflash.engine.request import Request
from glmflash.engine.sampler import RowState
from glmflash.errors import DeadlineError
from glmflash.kv.pool import BlockTable
from glmflash.output.result import Delta, Timings
from glmflash.prompt.build import Key

__all__ = ["PRIORITY_SECONDS", "Letter", "OnDeltas", "Part", "Sequence", "Then"]

OnDeltas = Callable[[list[Delta]], None]
Then = Callable[[Prefix], object]
Part = Literal["leading", "prompt"]

#: What one unit of priority is worth in seconds of waiting. Being an age and no rule, it starves nobody.
PRIORITY_SECONDS = 10.0


def __dir__() -> list[str]:
    return __all__


class Sequence:
    """One request being answered. A reader prepares it, then the worker alone changes it.

    Args:
        number: The engine's number for it.
        request: What was asked.
        on_deltas: Called on the worker's thread with what can be shown.
        then: Given if only a part of the prompt is to be computed: makes the future's value of it.
        part: Which: "leading" goes up to the last picture, and has the tokens of all pictures; "prompt" is
            all but the last token of the prompt.
        leave: Gives its place in line back.
        keep: Is kept alive until it ends.
    """

    def __init__(
        self,
        number: int,
        request: Request,
        *,
        on_deltas: OnDeltas | None = None,
        then: Then | None = None,
        part: Part = "prompt",
        leave: Callable[[], None] | None = None,
        keep: object = None,
    ) -> None:
        self.number = number
        self.request = request
        self.on_deltas = on_deltas
        self.then = then
        self.part = part
        self._leave = leave
        self.keep = keep
        self.future: Future[Any] = Future()
        self.clock = Clock()
        self.rank = self.clock.submitted - PRIORITY_SECONDS * request.priority  # the lowest goes first
        self.stopped = False
        self.inputs: Inputs
        self.answer: Answer | None = None
        self.row: RowState
        self.ids: list[int] = []
        self.keys: list[Key] = []
        self.vision: list[Tensor | None] = []
        self.table: BlockTable | None = None
        self.cached: int | None = None
        self.follows: tuple[Sequence, int] | None = None  # whose prefill it waits for, and up to where
        self.reused_vision = 0
        self.recalled = False  # answered with what was given before
        self.ended: Callable[[Answer | None], None] | None = None  # told of an answer that others wait for

    def prepare(self, inputs: Inputs, answer: Answer | None, row: RowState, length: int) -> None:
        """The prompt is built: `length` tokens of it are to be computed."""
        self.inputs, self.answer, self.row = inputs, answer, row
        self.ids, self.keys = list(inputs.prompt.ids[:length]), list(inputs.prompt.keys[:length])
        self.vision = [None] * len(inputs.pictures)

    def leave(self) -> None:
        """Give the place in line back: it runs now, or has ended. Doing so twice is fine."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()

    def release(self) -> None:
        """It has ended: hold nothing large any more, however long a stream of it is kept."""
        self.leave()
        self.vision, self.ids, self.keys = [], [], []
        self.on_deltas = self.then = self.keep = self.ended = None
        for name in ("inputs", "request"):
            vars(self).pop(name, None)

    def stop(self) -> None:
        """Ask for an early end; the result then has finish_reason "cancelled". Any thread may call this."""
        self.stopped = True

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants the rest."""
        return self.stopped or self.future.cancelled()

    def overdue(self, now: float) -> DeadlineError | None:
        """The error for a request that takes too long, if it does."""
        timeout = self.request.timeout
        if timeout is None or now - self.clock.submitted < timeout:
            return None
        return DeadlineError(
            f"the request did not finish within its timeout of {timeout:g} s; {self.generated} tokens of the"
            " answer were there; allow more time, or ask for fewer tokens with max_new_tokens"
        )

    def check(self) -> None:
        """Pass if the future was not cancelled, and there is time left.

        Raises:
            CancelledError: If it was.
            DeadlineError: If there is none.
        """
        if self.future.cancelled():
            raise CancelledError
        if (late := self.overdue(time.perf_counter())) is not None:
            raise late

    @property
    def generated(self) -> int:
        """Tokens generated so far."""
        return len(self.row.generated) if self.answer is not None else 0

    @property
    def missing(self) -> int:
        """Tokens whose KV is still to be computed before the next one can be chosen."""
        assert self.table is not None
        return len(self.keys) - self.table.length

    @property
    def reusable(self) -> list[Key]:
        """Keys whose KV may come from the pool: the last token must be computed, for its logits."""
        return self.keys[:-1] if self.answer is not None else self.keys

    def unseen(self) -> int | None:
        """Index of the first picture that still needs its vision tokens."""
        computed = 0 if self.part == "leading" or self.table is None else self.table.length
        for index, span in enumerate(self.inputs.prompt.spans):
            if self.vision[index] is None and computed < span.start + span.length <= len(self.keys):
                return index
        return None

    def see(self, index: int, tokens: Tensor, *, seconds: float, cached: bool) -> None:
        """Vision tokens of one picture are there. Shapes: tokens (num_tokens, hidden_size)."""
        self.vision[index] = tokens
        self.clock.vision += seconds
        if cached and self.table is not None:
            span = self.inputs.prompt.spans[index]
            self.reused_vision += span.start + span.length - max(self.table.length, span.start)

    def accept(self, token_id: int) -> None:
        """The sequence goes on with this token."""
        self.row.accept(token_id)
        self.ids.append(token_id)
        self.keys.append(token_id)


class Clock:
    """When one request reached each point, in seconds of `time.perf_counter`."""

    def __init__(self) -> None:
        self.submitted = time.perf_counter()
        self.reading: float | None = None
        self.prepared: float | None = None
        self.admitted: float | None = None
        self.first: float | None = None
        self.vision = 0.0

    def timings(self, now: float) -> Timings:
        """Where the time went. Phases that were never reached took none; the one under way ends now."""
        reading = now if self.reading is None else self.reading
        prepared = now if self.prepared is None else self.prepared
        admitted = now if self.admitted is None else self.admitted
        first = now if self.first is None else self.first
        media = max(prepared - reading, 0.0)
        return Timings(
            queue=(reading - self.submitted) + (admitted - prepared),
            media=media,
            vision=self.vision,
            prefill=max(first - admitted - self.vision, 0.0),
            decode=now - first,
            total=now - self.submitted,
            first_token=first - self.submitted,
        )


#: What the worker is handed: a sequence to run, or a function to call between two turns; it must not raise.
Letter = Sequence | Callable[[], None]
