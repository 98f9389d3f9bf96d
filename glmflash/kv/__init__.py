"""Keys of tokens and their KV → blocks that sequences share and reuse: pool, store, one forward's view."""

from glmflash.kv.cache import KVCache
from glmflash.kv.memory import auto_memory, available_memory, count_blocks, parse_memory
from glmflash.kv.pool import BlockPool
from glmflash.kv.store import BlockStore, block_bytes
from glmflash.kv.table import BlockTable, Copy, PoolStats

__all__ = [
    "BlockPool",
    "BlockStore",
    "BlockTable",
    "Copy",
    "KVCache",
    "PoolStats",
    "auto_memory",
    "available_memory",
    "block_bytes",
    "count_blocks",
    "parse_memory",
]


def __dir__() -> list[str]:
    return __all__
