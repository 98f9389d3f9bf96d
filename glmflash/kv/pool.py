"""Keys of tokens → blocks to keep their KV in: shared where prompts are, copied on write, evicted when old.

Integers and keys only; the tensors are the store's. Nothing is found by a hash: a block is found by the
block before it and its own keys, compared exactly. One thread uses a pool.
"""

from collections.abc import Callable, Iterable, Sequence

from glmflash.errors import CacheFullError, ParameterError
from glmflash.kv.blocks import Blocks
from glmflash.kv.table import BlockTable, Copy, PoolStats
from glmflash.kv.tree import Block, Key

__all__ = ["BlockPool", "BlockTable", "Copy", "Key", "PoolStats"]


def __dir__() -> list[str]:
    return __all__


class BlockPool:
    """Which sequence holds which blocks, and what can be reused.

    Args:
        num_blocks: How many there are; their numbers are `range(num_blocks)`, the lowest free one is
            handed out first.
        block_size: Tokens in a block.
        on_evict: Called with the number of each cached block whose content is given up.

    Raises:
        ParameterError: If either number is less than one.

    Example:
        >>> pool = BlockPool(8, block_size=4)
        >>> table = pool.open("abcdef")  # nothing is there yet
        >>> pool.reserve(table, 6)
        []
        >>> pool.commit(table, "abcdef")  # the store has their keys and values now
        >>> table.blocks, table.length
        ([0, 1], 6)
        >>> pool.match("abcdex")  # found at once, token by token
        5
    """

    def __init__(
        self, num_blocks: int, *, block_size: int = 16, on_evict: Callable[[int], None] | None = None
    ) -> None:
        _at_least_one(num_blocks=num_blocks, block_size=block_size)
        self.block_size = block_size
        self._blocks = Blocks(num_blocks, block_size, on_evict)
        self._pinned = self._hits = self._misses = self._copies = 0

    @property
    def num_blocks(self) -> int:
        """How many blocks there are."""
        return self._blocks.number

    @property
    def available(self) -> int:
        """Blocks that can be had: free ones, and cached ones that would be evicted."""
        return len(self._blocks.free) + len(self._blocks.cached)

    def match(self, keys: Iterable[Key]) -> int:
        """How many tokens at the beginning of `keys` could be reused. Changes nothing."""
        return self._blocks.find(list(keys))[1]

    def open(self, keys: Iterable[Key]) -> BlockTable:
        """Start a sequence with the longest prefix of `keys` that is there.

        All its blocks are shared, the last one too if it matches only in part; `reserve` copies that one.
        """
        wanted = list(keys)
        blocks, length = self._blocks.find(wanted)
        self._hits += length
        self._misses += len(wanted) - length
        return self._hold(blocks, length)

    def fork(self, table: BlockTable) -> BlockTable:
        """A second sequence with the same tokens. Blocks are shared until either writes to one."""
        table.check()
        return self._hold(table._held[: self._blocks_for(table.length)], table.length)

    def pin(self, keys: Iterable[Key]) -> BlockTable:
        """Keep what is there of `keys` until the table is closed. It can be forked, not written to.

        Raises:
            CacheFullError: If pins would hold more than half of the pool.
        """
        blocks, length = self._blocks.find(list(keys))
        pinned = self._pinned + sum(not block.pins for block in blocks)
        if pinned > self.num_blocks // 2:
            raise CacheFullError(
                f"pins would hold {pinned} of {self.num_blocks} blocks of the KV cache, at most half may be"
                " pinned; close another pin, or give the cache more memory"
            )
        self._pinned = pinned
        for block in blocks:
            block.pins += 1
        table = self._hold(blocks, length)
        table.read_only = True
        return table

    def can_reserve(self, table: BlockTable, tokens: int) -> bool:
        """Whether `reserve` would succeed."""
        return self._lacking(table, tokens)[0] <= 0

    def reserve(self, table: BlockTable, tokens: int) -> list[Copy]:
        """Make room for `tokens` more: all of it, or nothing changes.

        If others share the last block, or it holds more than this sequence has, the sequence gets a copy of
        its part. Which sequence reserves in a block first keeps writing there; those that share it later
        copy. What is cached is evicted only when no block is free, longest unused first.

        Returns:
            Copies to be made in the store: in this order, before anything is written there.

        Raises:
            CacheFullError: If too few blocks can be had.
            ParameterError: If the table is read-only or `tokens` is negative.
            ClosedError: If the table is closed.
        """
        if 0 <= tokens <= table._limit - table.length and not table.closed and not table.read_only:
            return []
        lacking, fresh, copy = self._lacking(table, tokens)
        if lacking > 0:
            raise CacheFullError(
                f"{tokens} more tokens need {lacking + self.available} blocks of the KV cache, but only"
                f" {self.available} of {self.num_blocks} can be had; wait for other sequences to end, or give"
                " the cache more memory"
            )
        offset = table.length % self.block_size
        if copy and self.available < fresh + 1:
            self._blocks.take_over(table._held[-1], offset)
            copy = False
        self._blocks.make_free(fresh + copy)
        copies = [self._copy_last(table, offset)] if copy else []
        for _ in range(fresh):
            block = self._blocks.take()
            table._held.append(block)
            table.blocks.append(block.id)
        table._limit = table.capacity
        return copies

    def commit(self, table: BlockTable, keys: Sequence[Key]) -> None:
        """Say that the next tokens of the sequence are in the store; from now on others find them.

        Raises:
            ParameterError: If there are more than were reserved.
            ClosedError: If the table is closed.
        """
        table.check(writing=True)
        start, end = table.length, table.length + len(keys)
        if end > table._limit:
            raise ParameterError(
                "keys", f"{len(keys)} tokens, but {table._limit - start} are reserved; reserve them first"
            )
        at = start
        while at < end:
            index, offset = divmod(at, self.block_size)
            size = min(self.block_size - offset, end - at)
            before = table._held[index - 1] if index else None
            self._blocks.append(table._held[index], list(keys[at - start : at - start + size]), after=before)
            at += size
            table.length = at

    def trim(self, table: BlockTable, length: int) -> None:
        """Cut a sequence to its first tokens, and give back reserved room. What it had stays cached.

        Raises:
            ParameterError: If the sequence is shorter, or the table read-only.
            ClosedError: If the table is closed.
        """
        table.check(writing=True)
        if not 0 <= length <= table.length:
            raise ParameterError("length", f"{length}; allowed: 0 to {table.length}, the sequence's length")
        keep = self._blocks_for(length)
        for block in reversed(table._held[keep:]):
            self._blocks.release(block)
        del table._held[keep:], table.blocks[keep:]
        table.length = table._limit = length

    def close(self, table: BlockTable) -> None:
        """End a sequence. What it committed stays cached until it is evicted. Closing again does nothing."""
        for block in reversed(table._held):
            if table.read_only:
                block.pins -= 1
                self._pinned -= not block.pins
            self._blocks.release(block)
        table._held.clear()
        table.blocks.clear()
        table.length = table._limit = 0
        table.closed = True

    def discard(self, table: BlockTable, from_token: int = 0) -> None:
        """End a sequence whose KV went wrong: from that token on, what it holds is never found again.

        The whole block of that token goes, all that follows, and every block that holds the same token
        after the same past, for it may be a copy.

        Raises:
            ClosedError: If the table is closed.
        """
        table.check()
        first, offset = divmod(max(from_token, 0), self.block_size)
        wrong = [block.node for block in table._held[first:] if block.node is not None]
        wrong = wrong if from_token < table.length else []
        if wrong:
            wrong += self._blocks.sharing(wrong[0], offset + 1)
        evicted = [number for node in wrong for number in self._blocks.forget(node)]
        self.close(table)
        self._blocks.report(evicted)

    def clear(self) -> None:
        """Forget everything that no sequence holds."""
        self._blocks.make_free(self.available)

    def resize(self, num_blocks: int) -> None:
        """Change the number of blocks.

        Raises:
            CacheFullError: If a block that would go is held by a sequence.
            ParameterError: If the number is less than one.
        """
        _at_least_one(num_blocks=num_blocks)
        held = [block.id for block in self._blocks.taken.values() if block.refs and block.id >= num_blocks]
        if held:
            raise CacheFullError(
                f"the KV cache cannot shrink to {num_blocks} blocks: {len(held)} beyond are in use, up to"
                f" number {max(held)}; wait for sequences to end, or shrink to no fewer than {max(held) + 1}"
            )
        self._blocks.resize(num_blocks)

    def stats(self) -> PoolStats:
        """Where the blocks are now, and what happened so far."""
        blocks = self._blocks
        return PoolStats(
            num_blocks=blocks.number,
            block_size=blocks.size,
            free=len(blocks.free),
            cached=len(blocks.cached),
            used=len(blocks.taken) - len(blocks.cached),
            pinned=self._pinned,
            high_water=blocks.high_water,
            hits=self._hits,
            misses=self._misses,
            evictions=blocks.evictions,
            copies=self._copies,
        )

    def _hold(self, blocks: list[Block], length: int) -> BlockTable:
        for block in blocks:
            self._blocks.hold(block)
        table = BlockTable(self.block_size, [block.id for block in blocks], length)
        table._held, table._limit = blocks, length
        return table

    def _blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.block_size)

    def _lacking(self, table: BlockTable, tokens: int) -> tuple[int, int, bool]:
        """Blocks that `reserve` lacks (none if <= 0), new ones that it needs, and whether to copy the last.

        A last block that only this sequence holds need not be copied if no block can be had for the copy.
        """
        table.check(writing=True)
        if tokens < 0:
            raise ParameterError("tokens", f"{tokens}; allowed: 0 or more")
        fresh = max(self._blocks_for(table.length + tokens) - len(table._held), 0)
        offset = table.length % self.block_size
        copy = alone = False
        if tokens and offset and table._limit == table.length:  # has no right yet to write to its last block
            last = table._held[-1]
            alone = last.refs == 1
            copy = not alone or last.node is None or len(last.node.keys) != offset
        return fresh + (copy and not alone) - self.available, fresh, copy

    def _copy_last(self, table: BlockTable, tokens: int) -> Copy:
        """Put a new block in the place of the table's last one."""
        source, target = table._held[-1], self._blocks.take()
        assert source.node is not None  # `tokens` of them are committed
        source.node.begin(tokens, target)
        table._held[-1] = target
        table.blocks[-1] = target.id
        self._blocks.release(source)
        self._copies += 1
        return Copy(source.id, target.id, tokens)


def _at_least_one(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ParameterError(name, f"{number}; allowed: 1 or more")
