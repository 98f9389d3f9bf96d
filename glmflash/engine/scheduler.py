"""Waiting and running requests, and the blocks they hold → what the next forward computes.

Whoever came first goes first, counted from submission, with priority as a head start. A request is admitted
when its whole prompt fits beside what runs. Running ones may outgrow the pool all the same: then the last in
line gives its blocks back and waits again; what it had is computed anew, or found in the pool if nobody
needed the room. The first in line is never sent back, so something always finishes: nobody starves.
"""

from bisect import insort
from dataclasses import dataclass
from typing import TYPE_CHECKING

from glmflash.errors import CacheFullError
from glmflash.kv.pool import BlockPool, Copy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from glmflash.engine.sequence import Sequence

    Failures = list[tuple[Sequence, BaseException]]

__all__ = ["Chunk", "Scheduler"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens of one sequence that the next forward computes.

    Args:
        sequence: Whose.
        start: Index of the first.
        tokens: How many; 1 for a decode.
        copies: What the store has to copy before.
    """

    sequence: "Sequence"
    start: int
    tokens: int
    copies: tuple[Copy, ...]

    @property
    def last(self) -> bool:
        """Whether a token is to be chosen after it."""
        return self.start + self.tokens == len(self.sequence.keys)


class Scheduler:
    """Decides what runs. It knows sequences and blocks by number only.

    Args:
        pool: The KV blocks.
        max_batch: Most requests that run at once.
        max_step_tokens: Most tokens in one forward; longer prompts are computed in chunks.
    """

    def __init__(self, pool: BlockPool, *, max_batch: int, max_step_tokens: int) -> None:
        self.pool = pool
        self._num_blocks = pool.num_blocks
        self.max_batch = max_batch
        self.max_step_tokens = max(max_step_tokens, max_batch)
        self.waiting: list[Sequence] = []  # by rank
        self.running: list[Sequence] = []  # by rank
        self.preemptions = 0
        self._blocked: tuple[Sequence, int] | None = None  # who did not fit, and what room there was then

    def __iter__(self) -> "Iterator[Sequence]":
        return iter([*self.running, *self.waiting])

    def add(self, sequence: "Sequence") -> None:
        """Put a prepared sequence in line."""
        insort(self.waiting, sequence, key=lambda one: one.rank)

    def remove(self, sequence: "Sequence", *, poisoned: bool = False) -> None:
        """Forget a sequence that has ended; its blocks stay findable, unless they are poisoned."""
        table, sequence.table = sequence.table, None
        if table is not None:  # first: should it fail, whoever ends everything still finds the sequence
            release = self.pool.discard if poisoned else self.pool.close
            release(table)
        for line in (self.waiting, self.running):
            if sequence in line:
                line.remove(sequence)
        if self._blocked is not None and self._blocked[0] is sequence:
            self._blocked = None

    def admit(self) -> "tuple[list[Sequence], Failures]":
        """Let waiting sequences run, as far as there is room; returns those, and the impossible ones."""
        admitted: list[Sequence] = []
        failed: Failures = []
        if not self.running:
            self._restore()
        for sequence in list(self.waiting):
            if len(self.running) >= self.max_batch:
                break
            try:
                fits = self._open(sequence)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is this sequence's alone
                failed.append((sequence, error))
                continue
            if fits is None:
                continue
            if not fits:
                break  # nobody overtakes for being smaller
            sequence.follows = None
            self.waiting.remove(sequence)
            insort(self.running, sequence, key=lambda one: one.rank)
            admitted.append(sequence)
        return admitted, failed

    def schedule(self) -> "tuple[list[Chunk], Failures]":
        """Give running sequences their next tokens: decodes first, then prompts in order of rank."""
        chunks: dict[Sequence, Chunk] = {}
        failed: Failures = []
        budget = self.max_step_tokens
        ready = [one for one in self.running if one.missing > 0 and one.unseen() is None]
        for sequence in sorted(ready, key=lambda one: one.missing > 1):
            if budget <= 0 or sequence.table is None:  # sent back by one before it
                continue
            tokens = min(sequence.missing, budget)
            start = sequence.table.length
            try:
                copies = self._reserve(sequence, tokens, chunks)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is this sequence's alone
                failed.append((sequence, error))
                continue
            if copies is not None:
                chunks[sequence] = Chunk(sequence, start, tokens, tuple(copies))
                budget -= tokens
        return list(chunks.values()), failed

    def _open(self, sequence: "Sequence") -> bool | None:
        """Reserve nothing yet, but take hold of the shared prefix. None: better to wait for a neighbour."""
        pool, promised = self.pool, self._promised()
        room = pool.available * pool.block_size - promised
        if self._blocked is not None and self.running and self._blocked == (sequence, room):
            return False
        if self._shares_with_a_prefill(sequence):
            return None
        sequence.table = table = pool.open(sequence.reusable)
        needed = len(sequence.keys) - table.length
        if pool.can_reserve(table, needed + promised):
            self._blocked = None
            return True
        pool.close(table)
        sequence.table = None
        if not self.running:
            raise CacheFullError(
                f"the request needs {needed} tokens of KV cache, and {pool.available * pool.block_size} can"
                " be had now: the rest is pinned; unpin pictures, or give the pipeline more kv_memory"
            )
        self._blocked = (sequence, room)
        return False

    def _promised(self) -> int:
        """Tokens to keep free for those that run: for the rest of their prompts, and for a block more."""
        size = self.pool.block_size
        lacking = [len(one.keys) - one.table.capacity for one in self.running if one.table is not None]
        return sum(-(-tokens // size) * size for tokens in lacking if tokens > 0) + size * bool(self.running)

    def _shares_with_a_prefill(self, sequence: "Sequence") -> bool:
        """Whether a running prefill is about to compute more of this prompt than the pool holds."""
        rivals = [one for one in self.running if one.missing > 1]
        if not rivals:
            return False
        if sequence.follows is not None:
            rival, least = sequence.follows
            if rival in rivals and rival.table is not None and rival.table.length <= least:
                return True  # it has not come further since it was asked
        keys, size = sequence.reusable, self.pool.block_size
        least = max(self.pool.match(keys), size)  # a first block or less is not worth the wait
        for rival in rivals:
            if _share(keys, rival.keys, least, size):
                sequence.follows = rival, least
                return True
        return False

    def _reserve(
        self, sequence: "Sequence", tokens: int, chunks: "dict[Sequence, Chunk]"
    ) -> list[Copy] | None:
        """Blocks for the next tokens; sends others back if need be. None: it was itself sent back."""
        assert sequence.table is not None
        while not self.pool.can_reserve(sequence.table, tokens):
            last = self.running[-1]
            if last is sequence and len(self.running) == 1:
                if self._restore():
                    continue
                break
            self.preemptions += 1
            self._send_back(last)
            chunks.pop(last, None)
            if last is sequence:
                return None
        return self.pool.reserve(sequence.table, tokens)

    def _restore(self) -> bool:
        """Memory that was short once may be there again: count on all of it. Was the pool smaller?"""
        smaller = self.pool.num_blocks < self._num_blocks
        if smaller:
            self.pool.resize(self._num_blocks)
        return smaller

    def _send_back(self, sequence: "Sequence") -> None:
        assert sequence.table is not None
        self.pool.close(sequence.table)
        sequence.table = None
        self.running.remove(sequence)
        self.add(sequence)


def _share(left: list, right: list, tokens: int, step: int) -> bool:  # type: ignore[type-arg]  # of any keys
    """Whether two lists of keys begin with the same `tokens` keys and one step more; compared exactly."""
    wanted = tokens + 1
    if min(len(left), len(right)) < wanted:
        return False
    return all(
        left[at : min(at + step, wanted)] == right[at : min(at + step, wanted)]
        for at in range(0, wanted, step)
    )
