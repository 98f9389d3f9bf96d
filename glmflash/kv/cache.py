"""Block tables and the numbers of new tokens → the cache of one forward, for any mixture of sequences."""

from collections.abc import Sequence

import torch
from torch import Tensor

from glmflash.errors import ParameterError
from glmflash.kv.past import pasts
from glmflash.kv.store import BlockStore
from glmflash.kv.table import BlockTable
from glmflash.ops.attention import causal_mask, decode_attention, head_attention

__all__ = ["KVCache"]


def __dir__() -> list[str]:
    return __all__


class KVCache:
    """What one forward sees of the store: a `glmflash.model.Cache`.

    Sequence i brings its next `new[i]` tokens, packed behind those of the sequences before it. Room for them
    has been reserved; they are committed after the forward. All that does not differ between layers is worked
    out here, once.

    Args:
        store: Where keys and values are.
        tables: Block table of each sequence.
        new: New tokens of each sequence, at least one.

    Raises:
        ParameterError: If a sequence has no new token, or more than there is room for.
    """

    def __init__(self, store: BlockStore, tables: Sequence[BlockTable], new: Sequence[int]) -> None:
        self._store, self._new = store, list(new)
        size = store.block_size
        slots: list[int] = []
        blocks: list[list[int]] = []
        for table, count in zip(tables, new, strict=True):
            start, end = table.length, table.length + count
            if count < 1 or end > table.capacity:
                room = table.capacity - start
                raise ParameterError("new", f"is {count}; at least 1 is needed, and there is room for {room}")
            blocks.append(table.blocks[: -(-end // size)])
            slots += [table.blocks[at // size] * size + at % size for at in range(start, end)]
        store.ensure(1 + max(map(max, blocks)))
        ends = [table.length + count for table, count in zip(tables, new, strict=True)]
        self._slots = torch.tensor(slots, device=store.device)  # (N,)
        self._pasts = pasts(store, blocks, ends)
        self._masks = [
            causal_mask(count, end, dtype=store.dtype, device=store.device)
            for count, end in zip(new, ends, strict=True)
        ]
        self._decode = max(new) == 1

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store `k` and `v`; attend each sequence's queries to its whole past and to themselves.

        With INT8 that is what has been stored, for these very tokens too: else it would matter how a prompt
        is cut into forwards.

        Shapes:
            q (N, H, D), k and v (N, K, D) -> (N, H, D).
        """
        self._store.write(layer, self._slots, k, v)
        if self._decode:
            return decode_attention(q, (past.read(layer) for past in self._pasts))
        parts = [
            head_attention(part, *past.read(layer), mask)
            for part, past, mask in zip(q.split(self._new), self._pasts, self._masks, strict=True)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)
