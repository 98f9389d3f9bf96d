"""What the pool hands out → the blocks of one sequence, a copy to be made, a count of everything."""

from dataclasses import dataclass, field

from glmflash.errors import ClosedError, ParameterError
from glmflash.kv.tree import Block

__all__ = ["BlockTable", "Copy", "PoolStats"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy to be made in the store, in all layers, before anything else is written there.

    Args:
        source: The block to copy from.
        target: The block to copy to.
        tokens: How many of its first slots.
    """

    source: int
    target: int
    tokens: int


@dataclass(frozen=True, slots=True)
class PoolStats:
    """Where the blocks of a pool are, and what has happened to them; `free + cached + used == num_blocks`.

    Args:
        num_blocks: All of them.
        block_size: Tokens in one.
        free: Blocks that hold nothing.
        cached: Blocks that no table holds, whose content can be found and evicted.
        used: Blocks that tables hold.
        pinned: Those of them that pinned tables hold.
        high_water: One more than the highest number that was ever used.
        hits: Tokens that `open` found.
        misses: Tokens that it did not find.
        evictions: Cached blocks whose content was given up.
        copies: Copies handed out.
    """

    num_blocks: int
    block_size: int
    free: int
    cached: int
    used: int
    pinned: int
    high_water: int
    hits: int
    misses: int
    evictions: int
    copies: int


@dataclass(slots=True, eq=False)
class BlockTable:
    """The blocks of one sequence, in order. A pool makes and changes it; others read it.

    Token `i` lies in block `blocks[i // block_size]`, at slot `i % block_size`.

    Args:
        block_size: Tokens in a block.
        blocks: Their numbers.
        length: Tokens whose keys and values are in the store.
        closed: True once the blocks are given back.
        read_only: True if it was made by `BlockPool.pin`.
    """

    block_size: int
    blocks: list[int] = field(default_factory=list)
    length: int = 0
    closed: bool = False
    read_only: bool = False
    _held: list[Block] = field(default_factory=list, init=False, repr=False)  # in step with `blocks`
    _limit: int = field(
        default=0, init=False, repr=False
    )  # may write up to here: past `length` if it reserved

    @property
    def capacity(self) -> int:
        """Tokens that the blocks have room for."""
        return len(self.blocks) * self.block_size

    def check(self, *, writing: bool = False) -> None:
        """Refuse a table that cannot be used.

        Raises:
            ClosedError: If it is closed.
            ParameterError: If it is to be written to, and read-only.
        """
        if self.closed:
            raise ClosedError("the block table is closed; open the keys again")
        if writing and self.read_only:
            raise ParameterError(
                "table", "is pinned and read-only; fork it, or open its keys, to go on from it"
            )
