"""One forward's view of the store: paged = NoCache, however it is cut, packed, scattered and shared."""

from collections.abc import Sequence

import pytest
import torch
from networks import network
from torch import Tensor

from glmflash.errors import ParameterError
from glmflash.kv import BlockPool, BlockStore, BlockTable, KVCache
from glmflash.kv.past import pasts
from glmflash.model import Glm4v, NoCache
from glmflash.ops.attention import causal_attention

BLOCK = 4
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
LAYERS, QUERIES, HEADS, SIZE = 3, 4, 2, 16  # of the network in tests/networks.py

int8_and_not = pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])


@pytest.fixture(scope="module")
def model() -> Glm4v:
    return network()


def make_store(num_blocks: int = 128, *, int8: bool = False, spoilt: bool = True) -> BlockStore:
    """All memory taken, and full of NaN: whoever reads what was not written will be seen."""
    store = BlockStore(
        num_layers=LAYERS,
        num_kv_heads=HEADS,
        head_dim=SIZE,
        num_blocks=num_blocks,
        block_size=BLOCK,
        int8=int8,
    )
    if spoilt:
        store.ensure(num_blocks)
        for layer in range(LAYERS):
            for plane in store.layers[layer].planes:
                plane.fill_(77 if plane.dtype == torch.int8 else float("nan"))
    return store


class World:
    """A network, a pool and a store; a sequence's keys are its token ids."""

    def __init__(self, model: Glm4v, **options) -> None:
        self.model, self.pool, self.store = model, BlockPool(128, block_size=BLOCK), make_store(**options)

    def forward(self, tables: Sequence[BlockTable], ids: Sequence[Sequence[int]]) -> list[Tensor]:
        """One packed forward; the logits of each sequence's new tokens."""
        starts = [table.length for table in tables]
        for table, new in zip(tables, ids, strict=True):
            self.store.copy(self.pool.reserve(table, len(new)))
        counts = [len(new) for new in ids]
        positions = torch.cat(
            [torch.arange(start, start + n) for start, n in zip(starts, counts, strict=True)]
        )
        embeds = self.model.embed(torch.tensor([token for new in ids for token in new]))
        logits = self.model(embeds, positions.expand(3, -1), KVCache(self.store, tables, counts))
        for table, new in zip(tables, ids, strict=True):
            self.pool.commit(table, new)
        return list(logits.split(counts))

    def whole(self, ids: Sequence[int]) -> Tensor:
        """The reference."""
        positions = torch.arange(len(ids)).expand(3, -1)
        return self.model(self.model.embed(torch.tensor(ids)), positions, NoCache([len(ids)]))

    def scatter(self) -> None:
        """Leave every other block free, so that no sequence gets neighbours."""
        held = [self.pool.open([]) for _ in range(60)]
        for table in held:
            self.pool.reserve(table, 1)
        for table in held[::2]:
            self.pool.close(table)


def tokens(count: int, *, seed: int = 0) -> list[int]:
    return torch.randint(0, 90, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


# --- paged = NoCache


@pytest.mark.parametrize("cuts", [[23], [4, 8, 11], [1] * 23, [3, 1, 1, 17, 1], [22, 1], [5, 5, 5, 8]])
@pytest.mark.parametrize("scattered", [False, True])
def test_paged_equals_no_cache_however_the_prompt_is_cut(model, cuts, scattered):
    world, ids = World(model), tokens(23)
    if scattered:
        world.scatter()
    table = world.pool.open([])
    parts, start = [], 0
    for cut in cuts:
        parts += world.forward([table], [ids[start : start + cut]])
        start += cut
    neighbours = table.blocks == list(range(table.blocks[0], table.blocks[0] + 6))
    assert neighbours is not scattered
    torch.testing.assert_close(torch.cat(parts), world.whole(ids), **CLOSE)


@pytest.mark.parametrize("scattered", [False, True])
def test_packs_of_prompts_and_decodes_equal_each_alone(model, scattered):
    world = World(model)
    if scattered:
        world.scatter()
    ids = [tokens(n, seed=n) for n in (30, 9, 17, 12, 5)]
    tables = [world.pool.open([]) for _ in ids]
    results: list[list[Tensor]] = [[] for _ in ids]
    steps = [[7, 9, 0, 3, 0], [8, 0, 1, 1, 5], [1, 0, 1, 1, 0], [1, 0, 9, 1, 0], [13, 0, 6, 6, 0]]
    for step in steps:
        active = [i for i, n in enumerate(step) if n]
        new = [ids[i][tables[i].length : tables[i].length + step[i]] for i in active]
        for i, out in zip(active, world.forward([tables[i] for i in active], new), strict=True):
            results[i].append(out)
    for out, sequence in zip(results, ids, strict=True):
        torch.testing.assert_close(torch.cat(out), world.whole(sequence), **CLOSE)


def test_a_shared_prefix_gives_what_a_cold_start_gives(model):
    world, prefix = World(model), tokens(18)
    first = [*prefix, *tokens(6, seed=1)]
    table = world.pool.open(first)
    world.forward([table], [first])
    second = [*prefix, *tokens(7, seed=2)]
    twin = world.pool.open(second)
    assert twin.length == 18
    (out,) = world.forward([twin], [second[18:]])
    assert twin.blocks[:4] == table.blocks[:4]
    assert twin.blocks[4] != table.blocks[4]
    torch.testing.assert_close(out, world.whole(second)[18:], **CLOSE)
    # The first goes on as if nothing had happened.
    (more,) = world.forward([table], [[3]])
    torch.testing.assert_close(more, world.whole([*first, 3])[-1:], **CLOSE)


@int8_and_not
def test_a_fork_with_the_same_input_gives_the_same_bits(model, int8):
    world, ids = World(model, int8=int8), tokens(10)
    table = world.pool.open(ids)
    world.forward([table], [ids])
    fork = world.pool.fork(table)
    (one,), (two,) = world.forward([table], [[5]]), world.forward([fork], [[5]])
    assert table.blocks[-1] != fork.blocks[-1]
    assert torch.equal(one, two)
    (one,), (two,) = world.forward([table], [[6]]), world.forward([fork], [[7]])
    assert not torch.equal(one, two)
    if not int8:
        torch.testing.assert_close(two, world.whole([*ids, 5, 7])[-1:], **CLOSE)


def test_tokens_that_were_trimmed_are_forgotten(model):
    world, ids = World(model), tokens(11)
    table = world.pool.open(ids)
    world.forward([table], [ids])
    world.pool.trim(table, 6)
    (out,) = world.forward([table], [[1, 2]])
    torch.testing.assert_close(out, world.whole([*ids[:6], 1, 2])[-2:], **CLOSE)


def test_the_store_grows_while_sequences_run(model):
    world, ids = World(model, spoilt=False), tokens(40)
    table = world.pool.open([])
    parts, sizes = [], set()
    for start in range(0, 40, 5):
        parts += world.forward([table], [ids[start : start + 5]])
        sizes.add(world.store.num_blocks)
    assert len(sizes) > 2
    torch.testing.assert_close(torch.cat(parts), world.whole(ids), **CLOSE)


# --- the same, of attention alone, bit for bit


def draw(count: int, heads: int, *, seed: int) -> Tensor:
    return torch.randn(count, heads, SIZE, generator=torch.Generator().manual_seed(seed))


class Stored:
    """Keys, values and queries of one sequence, the first `past` of which are stored already."""

    def __init__(self, store: BlockStore, blocks: list[int], past: int, new: int, *, seed: int) -> None:
        self.new = new
        self.q = draw(past + new, QUERIES, seed=seed)
        self.k, self.v = draw(past + new, HEADS, seed=seed + 1000), draw(past + new, HEADS, seed=seed + 2000)
        self.table = BlockTable(BLOCK, blocks, past)
        slots = torch.tensor([blocks[i // BLOCK] * BLOCK + i % BLOCK for i in range(past)], dtype=torch.int64)
        for layer in range(LAYERS):
            store.write(layer, slots, self.k[:past], self.v[:past])


def attend(store: BlockStore, sequences: Sequence[Stored], layer: int = 1) -> list[Tensor]:
    cache = KVCache(store, [one.table for one in sequences], [one.new for one in sequences])
    q, k, v = (torch.cat([getattr(one, name)[-one.new :] for one in sequences]) for name in "qkv")
    return list(cache.attend(layer, q, k, v).split([one.new for one in sequences]))


def crowd(store: BlockStore, count: int, news: Sequence[int]) -> list[Stored]:
    """Some side by side, some scattered, lengths and new tokens mixed."""
    ids = torch.randperm(64, generator=torch.Generator().manual_seed(count)).tolist()
    found = []
    for i in range(count):
        past, new = (7 * i) % 13, news[i % len(news)]
        need = -(-(past + new) // BLOCK)
        blocks = list(range(64 + 4 * i, 64 + 4 * i + need)) if i % 2 else [ids.pop() for _ in range(need)]
        found.append(Stored(store, blocks, past, new, seed=i))
    return found


@pytest.mark.parametrize("news", [[1], [1, 1, 3], [2, 1, 1, 1]], ids=["decodes", "mixed", "mostly decodes"])
@pytest.mark.parametrize("count", [1, 2, 5, 16])
@int8_and_not
def test_alone_equals_in_a_batch_bit_for_bit(count, news, int8):
    store = make_store(int8=int8)
    sequences = crowd(store, count, news)
    together = attend(store, sequences)
    for one, out in zip(sequences, together, strict=True):
        assert torch.equal(attend(store, [one])[0], out)
    backwards = attend(store, sequences[::-1])
    assert all(torch.equal(a, b) for a, b in zip(backwards[::-1], together, strict=True))


@pytest.mark.parametrize("news", [[1], [1, 3]])
def test_a_batch_equals_plain_attention(news):
    store = make_store()
    sequences = crowd(store, 16, news)
    for one, out in zip(sequences, attend(store, sequences), strict=True):
        torch.testing.assert_close(out, causal_attention(one.q[-one.new :], one.k, one.v), **CLOSE)


@pytest.mark.parametrize("new", [1, 5, 14])
@pytest.mark.parametrize("elsewhere", [[30, 2, 17, 5], [20, 22, 21, 23], [27, 26, 25, 24]])
@int8_and_not
def test_where_the_blocks_lie_changes_no_bit(new, elsewhere, int8):
    store = make_store(int8=int8)
    (here,) = attend(store, [Stored(store, [8, 9, 10, 11], 14 - new, new, seed=3)])
    (there,) = attend(store, [Stored(store, elsewhere, 14 - new, new, seed=3)])
    assert torch.equal(here, there)


@pytest.mark.parametrize("news", [[1], [1, 3]])
@int8_and_not
def test_nan_in_free_blocks_and_unused_slots_changes_no_bit(news, int8):
    clean, spoilt = make_store(int8=int8, spoilt=False), make_store(int8=int8)
    clean.ensure(128)
    for layer in range(LAYERS):
        for plane in clean.layers[layer].planes:
            plane.zero_()
    outs = [attend(store, crowd(store, 9, news)) for store in (clean, spoilt)]
    for a, b in zip(*outs, strict=True):
        assert a.isfinite().all()
        assert torch.equal(a, b)


def test_a_broken_neighbour_spoils_itself_only():
    store = make_store()
    sequences = crowd(store, 4, [1, 2])
    expected = attend(store, sequences)
    sequences[2].k[-1] = float("nan")
    for i, (a, b) in enumerate(zip(attend(store, sequences), expected, strict=True)):
        assert torch.equal(a, b) is (i != 2)


def test_side_by_side_nothing_is_copied():
    store = make_store()
    one = Stored(store, [3, 4, 5, 6], 13, 1, seed=0)
    (past,) = pasts(store, [one.table.blocks], [13])
    memory = store.layers[2].planes[0].untyped_storage().data_ptr()
    assert all(x.untyped_storage().data_ptr() == memory for x in past.read(2))


# --- INT8


def test_int8_attends_to_what_is_stored_so_chunks_equal_the_whole():
    stores = [make_store(int8=True) for _ in range(3)]
    q, k, v = draw(14, QUERIES, seed=1), draw(14, HEADS, seed=2), draw(14, HEADS, seed=3)
    outs = []
    for store, cuts in zip(stores, ([14], [5, 1, 8], [1] * 14), strict=True):
        table = BlockTable(BLOCK, [9, 2, 30, 4])
        parts = []
        for part in zip(*(x.split(cuts) for x in (q, k, v)), strict=True):
            parts.append(KVCache(store, [table], [len(part[0])]).attend(0, *part))
            table.length += len(part[0])
        outs.append(torch.cat(parts))
    stored = stores[0].export([9, 2, 30, 4], 14)
    rounded = causal_attention(q, *stores[0].read(0, torch.tensor([9, 2, 30, 4]), 14))
    for store, out in zip(stores, outs, strict=True):
        assert all(torch.equal(x[0], stored[name][0]) for name, x in store.export([9, 2, 30, 4], 14).items())
        torch.testing.assert_close(out, rounded, **CLOSE)


def test_int8_is_close_to_float(model):
    ids = tokens(40)
    exact, world = World(model).whole(ids), World(model, int8=True)
    (out,) = world.forward([world.pool.open([])], [ids])
    assert (out - exact).norm() / exact.norm() < 0.02


def test_int8_cached_equals_cold_and_loaded_equals_both(model):
    ids, world, other = tokens(21), World(model, int8=True), World(model, int8=True)
    table = world.pool.open([])
    (cold,) = world.forward([table], [ids])
    world.pool.close(table)
    warm = world.pool.open(ids[:20])
    (cached,) = world.forward([warm], [ids[20:]])
    # The same 20 tokens, saved and put into the blocks of another store.
    loaded = other.pool.open([])
    other.pool.reserve(loaded, 20)
    other.store.load(loaded.blocks, 0, world.store.export(warm.blocks[:5], 20))
    other.pool.commit(loaded, ids[:20])
    (again,) = other.forward([loaded], [ids[20:]])
    assert torch.equal(again, cached)
    torch.testing.assert_close(cached, cold[20:], **CLOSE)


# --- wrong use


@pytest.mark.parametrize(("length", "new"), [(0, 0), (0, 9), (6, 3), (8, 1), (3, -1)])
def test_tokens_without_room_are_refused(length, new):
    with pytest.raises(ParameterError, match=rf"new: is {new}; .*room for {8 - length}"):
        KVCache(make_store(), [BlockTable(BLOCK, [1, 2], length)], [new])
