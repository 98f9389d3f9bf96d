"""Random walks over pool, store and cache together: what a sequence attends to is its own tokens, whole."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from glmflash.errors import CacheFullError
from glmflash.kv import BlockPool, BlockStore, BlockTable, KVCache
from glmflash.kv.quantize import dequantize_rows, quantize_rows
from glmflash.ops.attention import causal_attention

pytestmark = pytest.mark.property

BLOCK, QUERIES, HEADS, SIZE = 4, 2, 1, 8


def draw(past: tuple[int, ...], heads: int) -> Tensor:
    """A key, value or query as the network makes them: from all tokens so far, and from nothing else."""
    seed = hash((heads, *past)) % 2**31
    return torch.randn(heads, SIZE, generator=torch.Generator().manual_seed(seed))


def rows(keys: list[int], start: int, heads: int) -> Tensor:
    return torch.stack([draw(tuple(keys[: i + 1]), heads) for i in range(start, len(keys))])


class Walk:
    """Every sequence that runs, with its keys; what each attends to is compared at once."""

    def __init__(self, num_blocks: int, *, int8: bool) -> None:
        self.pool = BlockPool(num_blocks, block_size=BLOCK)
        self.store = BlockStore(
            num_layers=1,
            num_kv_heads=HEADS,
            head_dim=SIZE,
            num_blocks=num_blocks,
            block_size=BLOCK,
            int8=int8,
        )
        self.store.ensure(num_blocks)
        for plane in self.store.layers[0].planes:
            plane.fill_(77 if plane.dtype == torch.int8 else float("nan"))
        self.running: list[tuple[BlockTable, list[int]]] = []

    def step(self, news: list[list[int]]) -> None:
        """One packed forward: the i-th running sequence gets the i-th tokens, if it gets any and has room."""
        active = []
        for (table, keys), new in zip(self.running, news, strict=False):
            if not new:
                continue
            try:
                self.store.copy(self.pool.reserve(table, len(new)))
            except CacheFullError:
                continue
            active.append((table, [*keys, *new], len(new)))
            keys += new
        if not active:
            return
        tables, counts = [table for table, _, _ in active], [count for _, _, count in active]
        q, k, v = (
            torch.cat([rows(keys, table.length, heads) for table, keys, _ in active])
            for heads in (QUERIES, HEADS, HEADS)
        )
        outs = KVCache(self.store, tables, counts).attend(0, q, k, v).split(counts)
        for (table, keys, count), out in zip(active, outs, strict=True):
            past = rows(keys, 0, HEADS)
            if self.store.int8:
                past = dequantize_rows(*quantize_rows(past), out=torch.empty_like(past))
            expected = causal_attention(rows(keys, len(keys) - count, QUERIES), past, past)
            torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
            self.pool.commit(table, keys[-count:])


few = st.lists(st.integers(0, 1), max_size=6)
actions = st.one_of(
    st.tuples(st.just("open"), few),
    st.tuples(st.just("step"), st.lists(few, min_size=1, max_size=4)),
    st.tuples(st.sampled_from(["fork", "close"]), st.integers(0, 3)),
    st.tuples(st.just("trim"), st.integers(0, 3), st.integers(0, 12)),
)


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("num_blocks", [5, 40], ids=["tight", "roomy"])
@given(walk=st.lists(actions, max_size=25))
def test_every_sequence_attends_to_its_own_tokens(num_blocks, int8, walk):
    world = Walk(num_blocks, int8=int8)
    for action, which, *rest in walk:
        if action == "step":
            world.step(which)
        elif action == "open":
            table = world.pool.open(which)
            world.running.append((table, which[: table.length]))
            world.step([[]] * (len(world.running) - 1) + [which[table.length :]])
        elif which < len(world.running):
            table, keys = world.running[which]
            if action == "fork":
                world.running.append((world.pool.fork(table), list(keys)))
            elif action == "trim":
                length = min(rest[0], len(keys))
                world.pool.trim(table, length)
                del keys[length:]
            else:
                world.pool.close(table)
                del world.running[which]
