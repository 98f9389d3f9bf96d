"""A scheduler and a real pool, but no network: sequences that count, and a store of what should be where."""

from collections.abc import Sequence

from glmflash.engine.scheduler import Chunk, Scheduler
from glmflash.kv.pool import BlockPool


class Fake:
    """Stands for a `Sequence`: a prompt, how many tokens are to follow, how many pictures to look at."""

    def __init__(self, prompt: Sequence, answer: int, *, rank: float = 0.0, looks: int = 0) -> None:
        self.keys = list(prompt)
        self.left, self.rank, self.looks = answer, rank, looks
        self.answer = answer or None  # without one, only the prompt is wanted
        self.table = None
        self.ended = False
        self.follows = None
        self.cached: int | None = None

    @property
    def missing(self) -> int:
        return len(self.keys) - self.table.length

    @property
    def reusable(self) -> list:
        return self.keys[:-1] if self.answer else self.keys

    def unseen(self) -> int | None:
        return 0 if self.looks else None


class Desk:
    """The worker's turns, and what a store would hold: for each slot, all tokens up to the one in it."""

    def __init__(
        self, blocks: int, *, block_size: int = 4, max_batch: int = 4, max_step_tokens: int = 8
    ) -> None:
        self.pool = BlockPool(blocks, block_size=block_size)
        self.scheduler = Scheduler(self.pool, max_batch=max_batch, max_step_tokens=max_step_tokens)
        self.slots: dict[tuple[int, int], int] = {}
        self.failed: list[tuple[Fake, BaseException]] = []
        self.computed = 0

    def add(self, fake: Fake) -> Fake:
        self.scheduler.add(fake)
        return fake

    def end(self, fake: Fake) -> None:
        fake.ended = True
        self.scheduler.remove(fake)

    def turn(self) -> list[Chunk]:
        """As `Worker._turn`, with every promise of the scheduler checked on the way."""
        scheduler = self.scheduler
        admitted, failed = scheduler.admit()
        self._fail(failed)
        for fake in admitted:
            fake.cached = fake.table.length if fake.cached is None else fake.cached
        looking = next((one for one in scheduler.running if one.looks), None)
        if looking is not None:  # one picture a turn
            looking.looks -= 1
        self._complete()
        first = scheduler.running[:1]
        chunks, failed = scheduler.schedule()
        assert scheduler.running[:1] == first, "the first in line was sent back"
        self._fail(failed)
        self._compute([chunk for chunk in chunks if not chunk.sequence.ended])
        self._complete()
        self.check()
        return chunks

    def drain(self) -> int:
        """Turns until nothing is left; no more than there is to compute for each, one after the other."""
        work = sum(len(one.keys) + one.left + one.looks + 2 for one in self.scheduler)
        for turns in range(work + 1):
            if not list(self.scheduler):
                return turns
            self.turn()
        raise AssertionError(f"not at its end after {work} turns")

    def check(self) -> None:
        pool, scheduler = self.pool, self.scheduler
        stats = pool.stats()
        assert stats.free + stats.cached + stats.used == stats.num_blocks
        held = {block for one in scheduler.running for block in one.table.blocks}
        assert stats.used == len(held)
        assert len(scheduler.running) <= scheduler.max_batch
        assert all(one.table is None for one in scheduler.waiting)
        for line in (scheduler.waiting, scheduler.running):
            assert [one.rank for one in line] == sorted(one.rank for one in line)
        assert len({id(one) for one in scheduler}) == len(list(scheduler))
        for one in scheduler.running:
            self._read(one)

    def _compute(self, chunks: list[Chunk]) -> None:
        size = self.pool.block_size
        assert sum(chunk.tokens for chunk in chunks) <= self.scheduler.max_step_tokens
        for chunk in chunks:
            for copy in chunk.copies:
                for offset in range(copy.tokens):
                    self.slots[copy.target, offset] = self.slots[copy.source, offset]
        written = set()
        for chunk in chunks:
            fake, table = chunk.sequence, chunk.sequence.table
            assert chunk.start == table.length
            assert 0 < chunk.tokens <= table.capacity - table.length
            past = self._read(fake)
            for at in range(chunk.start, chunk.start + chunk.tokens):
                past = hash((past, fake.keys[at]))
                slot = table.blocks[at // size], at % size
                assert slot not in written, "two sequences write to one slot"
                written.add(slot)
                self.slots[slot] = past
        for chunk in chunks:
            fake = chunk.sequence
            self.pool.commit(fake.table, fake.keys[chunk.start : chunk.start + chunk.tokens])
            self.computed += chunk.tokens
            if chunk.last and fake.answer:
                fake.keys.append(self._read(fake) % 3)  # the same past gives the same token
                fake.left -= 1
                if not fake.left:
                    self.end(fake)

    def _read(self, fake: Fake) -> int:
        """Everything a sequence has in the store is its own past; returns that of its last token."""
        size, past = self.pool.block_size, 0
        for at in range(fake.table.length):
            past = hash((past, fake.keys[at]))
            assert self.slots[fake.table.blocks[at // size], at % size] == past, "the KV of another sequence"
        return past

    def _complete(self) -> None:
        for one in list(self.scheduler.running):
            if not one.answer and not one.missing and not one.looks:
                self.end(one)

    def _fail(self, failed: list) -> None:
        for fake, error in failed:
            self.failed.append((fake, error))
            self.end(fake)
