"""A block pool with a store that is a dictionary, and what must hold of both after every step.

The value stored for a token is the whole past that it was computed from, so what a sequence reads must be
the prefixes of its own keys. Beside the past a value holds the faults that it was computed from.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from glmflash.errors import CacheFullError
from glmflash.kv.pool import BlockPool, BlockTable
from glmflash.kv.tree import Level, Node

Past = tuple[int, ...]


@dataclass(frozen=True)
class Value:
    """What the store holds for one token."""

    past: Past
    faults: frozenset[int] = frozenset()


@dataclass(eq=False)
class Running:
    """A sequence: its table, the keys that it has committed, how much more it may write."""

    table: BlockTable
    keys: list[int]
    room: int = 0
    lost: bool = False  # perhaps; what it commits need not be found
    copied: bool = False  # perhaps; the copy of its last block is found once something is committed to it

    def past(self, length: int) -> Past:
        return tuple(self.keys[:length])


@dataclass
class World:
    """A pool, its store, and the sequences that use it."""

    num_blocks: int
    block_size: int
    roomy: bool = False  # so large that nothing is ever evicted to make room
    running: list[Running] = field(default_factory=list)
    store: dict[tuple[int, int], Value] = field(default_factory=dict)
    known: set[Past] = field(default_factory=set)  # what must be found, if nothing is evicted
    faults: set[int] = field(default_factory=set)  # those that nobody has discarded
    evicted: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pool = BlockPool(self.num_blocks, block_size=self.block_size, on_evict=self._evict)

    def _evict(self, block: int) -> None:
        self.evicted.append(block)
        stats = self.pool.stats()
        assert stats.free + stats.cached + stats.used == stats.num_blocks

    # ------------------------------------------------------------------ what sequences do

    def expected(self, keys: Sequence[int]) -> int:
        """How much of `keys` is known: a lower bound for what the pool finds."""
        return max((n for n in range(1, len(keys) + 1) if tuple(keys[:n]) in self.known), default=0)

    def open(self, keys: Sequence[int], *, pin: bool = False) -> Running | None:
        pool = self.pool
        before, order = pool.stats(), list(pool._blocks.cached)
        length = pool.match(keys)
        assert (before, order) == (pool.stats(), list(pool._blocks.cached)), "match changes nothing"
        if self.roomy:
            assert length >= self.expected(keys), "what was committed is found"
        try:
            table = pool.pin(keys) if pin else pool.open(keys)
        except CacheFullError:
            assert pin
            assert pool.stats() == before
            return None
        assert table.length == length
        after = pool.stats()
        counted = (0, 0) if pin else (length, len(keys) - length)
        assert (after.hits - before.hits, after.misses - before.misses) == counted
        one = Running(table, list(keys[:length]))
        assert self.faults_of(one) <= self.faults, "discarded values are never found"
        self.running.append(one)
        return one

    def faults_of(self, one: Running, length: int | None = None) -> set[int]:
        values = self.read(one)[:length]
        return {fault for value in values for fault in value.faults}

    def read(self, one: Running) -> list[Value]:
        places = [divmod(i, self.block_size) for i in range(one.table.length)]
        return [self.store[one.table.blocks[index], slot] for index, slot in places]

    def reserve(self, one: Running, tokens: int) -> bool:
        pool, table = self.pool, one.table
        before = pool.stats(), list(table.blocks), table.length, list(pool._blocks.cached)
        blocks = -(-(table.length + tokens) // self.block_size)
        enough = blocks - len(table.blocks) + 1 <= pool.available
        alone = len(self.running) == 1 and blocks <= self.num_blocks
        can = pool.can_reserve(table, tokens)
        free = before[0].free
        seen = len(self.evicted)
        try:
            copies = pool.reserve(table, tokens)
        except CacheFullError:
            assert not can
            assert not enough, "there is room"
            assert not alone, "one sequence can use the whole pool"
            assert before == (pool.stats(), list(table.blocks), table.length, list(pool._blocks.cached))
            return False
        assert can
        kept = sum(old == new for old, new in zip(before[1], table.blocks, strict=False))
        wanted = len(table.blocks) - kept
        assert len(self.evicted) - seen == max(0, wanted - free), "no more is evicted than must be"
        for copy in copies:
            assert copy.tokens == table.length % self.block_size
            for slot in range(self.block_size):
                self.store.pop((copy.target, slot), None)
            for slot in range(copy.tokens):
                self.store[copy.target, slot] = self.store[copy.source, slot]
        one.copied |= one.room == 0 < tokens
        one.room = max(one.room, tokens)
        assert table.capacity >= table.length + one.room
        return True

    def write(self, one: Running, keys: Sequence[int], *, fault: int | None = None) -> None:
        """What a forward does: compute values from what is there, and store them."""
        table = one.table
        faults = self.faults_of(one) | ({fault} if fault is not None else set())
        past = one.past(table.length)
        for i, key in enumerate(keys, table.length):
            past += (key,)
            index, slot = divmod(i, self.block_size)
            self.store[table.blocks[index], slot] = Value(past, frozenset(faults))

    def commit(self, one: Running, keys: Sequence[int], *, fault: int | None = None) -> None:
        self.write(one, keys, fault=fault)
        self.pool.commit(one.table, keys)
        for key in keys:
            one.keys.append(key)
            if not one.lost:
                self.known.add(tuple(one.keys))
        one.room -= len(keys)
        one.copied &= not keys
        if not one.lost:
            assert self.pool.match(one.keys) == len(one.keys), "found by others at once"

    def sure(self, one: Running) -> int:
        """How many of a sequence's tokens must be found when it has just closed."""
        return 0 if one.lost else len(one.keys) - one.copied * (len(one.keys) % self.block_size)

    def fork(self, one: Running) -> None:
        self.running.append(
            Running(self.pool.fork(one.table), list(one.keys), lost=one.lost, copied=one.copied)
        )

    def trim(self, one: Running, length: int) -> None:
        self.pool.trim(one.table, length)
        del one.keys[length:]
        one.room = 0
        assert one.table.length == length
        assert len(one.table.blocks) == -(-length // self.block_size)

    def close(self, one: Running) -> None:
        self.pool.close(one.table)
        self.running.remove(one)
        assert self.pool.match(one.keys) >= self.sure(one), "closing loses nothing"

    def discard(self, one: Running, from_token: int) -> None:
        """End a sequence, and hold all that shares the first token of that block for lost (a lower bound)."""
        self.faults -= self.faults_of(one) - self.faults_of(one, from_token)
        self.pool.discard(one.table, from_token)
        self.running.remove(one)
        if from_token < len(one.keys):
            wrong = one.past(from_token // self.block_size * self.block_size + 1)
            self.known = {past for past in self.known if past[: len(wrong)] != wrong}
            for other in self.running:
                other.lost |= other.past(len(wrong)) == wrong
            # Others may have computed anew what one that was lost already holds.
            assert one.lost or self.pool.match(one.keys) <= from_token

    def resize(self, num_blocks: int) -> None:
        held = max((block for one in self.running for block in one.table.blocks), default=-1)
        try:
            self.pool.resize(num_blocks)
        except CacheFullError:
            assert held >= num_blocks
        else:
            assert held < num_blocks
            self.num_blocks = num_blocks

    # ------------------------------------------------------------------ what must hold

    def check(self) -> None:
        """Everything that must hold after every step; then what lies in free blocks is wiped."""
        self._check_counts()
        self._check_tables()
        self._check_tree()
        for block, slot in list(self.store):
            if block not in self.pool._blocks.taken:
                del self.store[block, slot]

    def _check_counts(self) -> None:
        stats, blocks = self.pool.stats(), self.pool._blocks
        assert stats.free + stats.cached + stats.used == stats.num_blocks == self.num_blocks
        assert sorted([*blocks.free, *blocks.taken]) == list(range(self.num_blocks)), "each block once"
        users = Counter(block for one in self.running for block in one.table.blocks)
        pins = Counter(block for one in self.running if one.table.read_only for block in one.table.blocks)
        assert {number: block.refs for number, block in blocks.taken.items() if block.refs} == users
        assert {number: block.pins for number, block in blocks.taken.items() if block.pins} == pins
        assert (stats.used, stats.pinned, stats.evictions) == (len(users), len(pins), len(self.evicted))
        assert self.pool.available == stats.free + stats.cached
        resting = [block for block in blocks.taken.values() if not block.refs]
        assert {block.node for block in resting} == set(blocks.cached)
        assert len(resting) == len(blocks.cached) == stats.cached

    def _check_tables(self) -> None:
        for one in self.running:
            table = one.table
            assert table.length == len(one.keys)
            assert table.capacity == len(table.blocks) * self.block_size >= table.length + one.room
            assert table.blocks == [block.id for block in table._held]
            assert [value.past for value in self.read(one)] == [
                one.past(n + 1) for n in range(table.length)
            ], "a sequence reads its own past"

    def _check_tree(self) -> None:
        blocks = self.pool._blocks
        listed, waiting = list[Node](), [blocks.root]
        while waiting:
            node = waiting.pop()
            children = list(node.children)
            check_level(node.children)
            full = [tuple(child.keys) for child in children if len(child.keys) == self.block_size]
            assert len(full) == len(set(full)), "no two full siblings are equal"
            assert not children or node is blocks.root or len(node.keys) == self.block_size
            for child in children:
                assert child.parent is node
                assert child.listed
                assert not child.lost
                assert 0 < len(child.keys) <= self.block_size
                assert node.children.best(child.keys, 0)[1] == len(child.keys), "each can be found"
            listed += children
            waiting += children
        places = [block for node in listed for block in node.blocks]
        assert len(places) == len(set(places)), "each block holds one content"
        for node in listed:
            assert node.blocks
            assert all(block.node is node and blocks.taken[block.id] is block for block in node.blocks)
        assert set(blocks.cached) <= set(listed)
        order = {node: number for number, node in enumerate(blocks.cached)}
        assert all(order[node] < order.get(node.parent, len(order)) for node in order), "children first"


def check_level(level: Level, *, top: bool = True) -> None:
    """Levels are never empty, and a node's first keys lead to it."""
    assert top or level.next or level.ends
    for below in level.next.values():
        if isinstance(below, Level):
            check_level(below, top=False)
